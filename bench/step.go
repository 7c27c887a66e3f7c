package bench

import (
	"errors"

	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/internal/frame"
)

// The steps of the way that need no table, each by itself.
func stepScenarios() []Scenario {
	return []Scenario{
		{Name: "parse UDP in IPv4", Frame: minFrame, start: func(s Scenario) (*run, error) { return parsing(udp4(s.Frame)) }},
		{Name: "parse TCP in IPv6 with a tag", Frame: 82, start: func(Scenario) (*run, error) { return parsing(taggedTCP6()) }},
		{Name: "encapsulate, without a lookup", Frame: minFrame, start: encapsulating},
		{Name: "decapsulate, without a lookup", Frame: minFrame, start: decapsulating},
	}
}

var errParse = errors.New("the frame was not read as it should be")

func parsing(image []byte) (*run, error) {
	b := loaded(image)
	return &run{do: func(n int) error {
		ok := true
		for i := range n {
			f := &b.Frames[i%frame.BatchLen]
			ok = f.Parse() && f.Info.L4 != 0 && ok
		}
		if !ok {
			return errParse
		}
		return nil
	}}, nil
}

// loaded is a full batch of the same frame.
func loaded(image []byte) *frame.Batch {
	b := frame.NewBatch(frame.BatchLen, frame.MaxLen)
	for range frame.BatchLen {
		b.Commit(copy(b.Next().Buffer(), image))
	}
	return b
}

// encapsulating is what a frame costs on its way into the tunnel when it is
// known where it goes: parse it, hash its flow, and write the header.
func encapsulating(s Scenario) (*run, error) {
	b := loaded(udp4(s.Frame))
	return &run{do: func(n int) error {
		var sum uint32
		for i := range n {
			f := &b.Frames[i%frame.BatchLen]
			f.Parse()
			encap.PutHeader(f.Room(encap.HeaderLen), 100)
			sum += f.Hash() + uint32(encap.OuterTOS(f.Info.TOS, -1))
		}
		if sum == 0 && n > 0 {
			return errParse // and the sum is needed
		}
		return nil
	}}, nil
}

// decapsulating is what a packet costs on its way out of the tunnel before it
// is looked up where it goes.
func decapsulating(s Scenario) (*run, error) {
	image := udp4(s.Frame)
	b := loaded(image)
	for i := range b.Frames {
		encap.PutHeader(b.Frames[i].Room(encap.HeaderLen), 100)
	}
	return &run{do: func(n int) error {
		ok := true
		for i := range n {
			f := &b.Frames[i%frame.BatchLen]
			f.Reset()
			f.SetLen(len(image))
			vni, fault := encap.ParseHeader(f.Room(encap.HeaderLen), false)
			f.Parse()
			f.NotePartialChecksum()
			_, drop := encap.InnerECN(f.Outer.TOS, f.Info.TOS)
			ok = ok && fault == encap.OK && vni == 100 && !drop && f.Info.L4 != 0
		}
		if !ok {
			return errParse
		}
		return nil
	}}, nil
}
