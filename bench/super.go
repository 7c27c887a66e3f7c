package bench

import (
	"encoding/binary"
	"errors"

	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/offload"
)

const (
	segments = 44   // of a super-frame: what one train takes at an MTU of 1450
	mss      = 1398 // payload of each, bytes: that MTU less IPv4 and TCP with timestamps
	tcpHead  = 14 + 20 + 32
)

// Super-frames of TCP, taken apart and put together where they lie. One
// operation is one segment.
func superScenarios() []Scenario {
	length := tcpHead + mss + fcs
	return []Scenario{
		{Name: "split, per segment", Frame: length, start: splitting},
		{Name: "merge, per segment", Frame: length, start: merging},
	}
}

var errSuper = errors.New("the super-frame is not what it should be")

// tcp4 is a super-frame of TCP with timestamps in IPv4, as a TAP hands it over.
func tcp4() *frame.Frame {
	f := &frame.NewBatch(1, frame.MaxLen).Frames[0]
	b := f.Buffer()[:tcpHead+segments*mss]
	f.SetLen(len(b))
	farMAC(0).Put(b)
	localMAC(0).Put(b[6:])
	binary.BigEndian.PutUint16(b[12:], frame.TypeIPv4)
	ip := b[14:]
	ip[0], ip[6], ip[8], ip[9] = 0x45, 0x40, 64, frame.ProtoTCP // with DF
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	binary.BigEndian.PutUint32(ip[12:], 0xc0a86401) // 192.168.100.1
	binary.BigEndian.PutUint32(ip[16:], 0xc0a86402)
	binary.BigEndian.PutUint16(ip[10:], ^frame.Fold(frame.Sum(ip[:20], 0)))
	tcp := ip[20:]
	binary.BigEndian.PutUint16(tcp, 49152)
	binary.BigEndian.PutUint16(tcp[2:], 5201)
	tcp[12], tcp[13] = 0x80, 0x10
	copy(tcp[20:], []byte{1, 1, 8, 10})
	for i := range tcp[32:] {
		tcp[32+i] = byte(i * 7)
	}
	f.Offload = frame.Offload{Flags: frame.NeedsCsum, GSO: frame.GSOTCPv4, GSOSize: mss, CsumStart: 34, CsumOffset: 16}
	f.Parse()
	// The partial checksum: the pseudo-header's.
	binary.BigEndian.PutUint16(tcp[16:], frame.Fold(frame.Sum(ip[12:20], uint64(frame.ProtoTCP)+uint64(len(tcp)))))
	return f
}

// splitting makes the headers of every segment, and sums its payload.
func splitting(Scenario) (*run, error) {
	f := tcp4()
	if !offload.Check(f) {
		return nil, errSuper
	}
	var s offload.Splitter
	var header [tcpHead]byte
	return &run{do: func(n int) error {
		payload := 0
		for done := 0; done < n; done += segments {
			s.Init(f)
			for k := range min(segments, n-done) {
				payload += len(s.Segment(k, header[:]))
			}
		}
		if payload != n*mss {
			return errSuper
		}
		return nil
	}}, nil
}

// merging holds every segment against the one before it, and sums its payload.
func merging(Scenario) (*run, error) {
	f := tcp4()
	if !offload.Check(f) {
		return nil, errSuper
	}
	var s offload.Splitter
	s.Init(f)
	b := frame.NewBatch(segments, tcpHead+mss)
	for k := range segments {
		buf := b.Next().Buffer()
		b.Commit(tcpHead + copy(buf[tcpHead:], s.Segment(k, buf[:tcpHead])))
	}
	first := append([]byte(nil), b.Frames[0].Bytes()[:tcpHead]...)
	m := new(offload.Merger)
	return &run{do: func(n int) error {
		merged := 0
		for done := 0; done < n; done += segments {
			head := &b.Frames[0]
			copy(head.Bytes(), first) // Finish has made a super-frame's of it
			head.Offload = frame.Offload{}
			head.Parse()
			m.Start(head, 1)
			for k := 1; k < min(segments, n-done); k++ {
				if !m.Extend(b.Frames[k].Bytes(), 1) {
					return errSuper
				}
			}
			merged += 1 + m.Finish()
			m.Reset()
		}
		if merged != n {
			return errSuper
		}
		return nil
	}}, nil
}
