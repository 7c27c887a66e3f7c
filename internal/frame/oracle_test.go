package frame_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/uvtep/uvtep/internal/frame"
)

// oracle is what gopacket reads in a frame, by the rules of Parse. What it
// cannot tell, as it stops where Parse goes on, is left out of the comparison.
type oracle struct {
	frame.Info
	l4Unknown bool // L4 and Proto
}

// ask decodes a frame of at least an Ethernet header.
func ask(b []byte) (o oracle) {
	ls := gopacket.NewPacket(b, layers.LayerTypeEthernet, gopacket.DecodeOptions{NoCopy: true}).Layers()
	o.EtherType = binary.BigEndian.Uint16(b[12:])
	at, tags := frame.EthernetLen, 0
	for ls = ls[1:]; len(ls) > 0; ls = ls[1:] {
		tag, ok := ls[0].(*layers.Dot1Q)
		if !ok {
			break
		}
		if tags++; tags > 8 {
			return o
		}
		o.Tagged = true
		o.EtherType = uint16(tag.Type)
		at += 4
	}
	if len(ls) == 0 {
		return o
	}
	left := len(b) - at
	switch l := ls[0].(type) {
	case *layers.IPv4:
		n := int(l.IHL) * 4
		total := 0
		if left >= 20 {
			total = int(binary.BigEndian.Uint16(b[at+2:])) // gopacket replaces 0
		}
		if o.EtherType != frame.TypeIPv4 || left < 20 || l.Version != 4 || n < 20 || total < n || total > left {
			return o
		}
		o.L3, o.TOS, o.TTL, o.Proto = uint16(at), l.TOS, l.TTL, uint8(l.Protocol)
		o.Fragment = l.FragOffset != 0 || l.Flags&layers.IPv4MoreFragments != 0
		if l.FragOffset == 0 {
			o.transport(at+n, total-n)
		}
	case *layers.IPv6:
		if o.EtherType == frame.TypeIPv6 && left >= 40 && l.Version == 6 && 40+int(l.Length) <= left {
			o.L3, o.TOS, o.TTL = uint16(at), l.TrafficClass, l.HopLimit
			o.chain(l.NextHeader, ls[1:], at+40, at+40+int(l.Length))
		}
	case *layers.ARP:
		if left >= frame.ARPLen {
			o.L3 = uint16(at)
		}
	case *gopacket.DecodeFailure:
		// An ARP packet of other address lengths is shorter or longer for
		// gopacket, but is there.
		if o.EtherType == frame.TypeARP && left >= frame.ARPLen {
			o.L3 = uint16(at)
		}
	}
	return o
}

// chain follows IPv6's extension headers, of which next is the first, to the
// transport header. The packet's bytes are those from at to end.
func (o *oracle) chain(next layers.IPProtocol, ls []gopacket.Layer, at, end int) {
	for n := 0; ; n++ {
		var l gopacket.Layer
		if len(ls) > 0 {
			l, ls = ls[0], ls[1:]
		}
		if n == 8 { // Parse gives up
			o.l4Unknown = true
			return
		}
		was := next
		switch x := l.(type) {
		case *layers.IPv6HopByHop:
			next, at = x.NextHeader, at+x.ActualLength
		case *layers.IPv6Routing:
			next, at = x.NextHeader, at+x.ActualLength
		case *layers.IPv6Destination:
			next, at = x.NextHeader, at+x.ActualLength
		case *layers.IPv6Fragment:
			if at+8 > end {
				o.Proto = uint8(was)
				return
			}
			o.Fragment = true
			next, at = x.NextHeader, at+8
			if x.FragmentOffset != 0 {
				o.Proto = uint8(next)
				return
			}
			l = nil // gopacket stops here
		}
		if at > end {
			o.Proto = uint8(was) // the header lies about its length: no transport
			return
		}
		switch was {
		case 0, 43, 60:
			if l == nil || l.LayerType() == gopacket.LayerTypeDecodeFailure {
				o.l4Unknown = true // gopacket refused what is in the header
				return
			}
			continue
		case 44:
			switch next {
			case 0, 43, 44, 60:
				o.l4Unknown = true
				return
			}
		}
		o.Proto = uint8(next)
		o.transport(at, end-at)
		return
	}
}

// transport is the transport header at at, if the n bytes there are enough.
func (o *oracle) transport(at, n int) {
	need := map[uint8]int{frame.ProtoTCP: 20, frame.ProtoUDP: 8, frame.ProtoICMP: 8, frame.ProtoICMPv6: 8}[o.Proto]
	if need > 0 && n >= need {
		o.L4 = uint16(at)
	}
}

// compare says in what Parse and gopacket differ.
func compare(f *frame.Frame) error {
	got, want := f.Info, ask(f.Bytes())
	if want.l4Unknown {
		got.L4, got.Proto = 0, 0
		want.L4, want.Proto = 0, 0
		got.Fragment = want.Fragment
	}
	if got != want.Info {
		return fmt.Errorf("parsed as %+v, by gopacket as %+v", got, want.Info)
	}
	return nil
}

// extended is a frame with a chain of IPv6 extension headers, or a fragment.
func extended() []byte {
	b := make([]byte, 14+40, 200)
	b[0], b[6], b[12], b[13] = 2, 2, 0x86, 0xdd
	b[14] = 0x60
	next := &b[20]
	for range rand.N(4) {
		switch kind := []byte{0, 60, 44}[rand.N(3)]; kind {
		case 44:
			*next = kind
			b = append(b, 0, 0, byte(rand.N(2)), byte(rand.N(2)), 1, 2, 3, 4)
			next = &b[len(b)-8]
		default:
			*next = kind
			n := rand.N(2)
			b = append(b, 0, byte(n), 1, byte(4+8*n)) // one PadN option
			b = append(b, make([]byte, 4+8*n)...)
			next = &b[len(b)-8-8*n]
		}
	}
	*next = []byte{frame.ProtoTCP, frame.ProtoUDP, frame.ProtoICMPv6, 59}[rand.N(4)]
	b = append(b, make([]byte, rand.N(30))...)
	binary.BigEndian.PutUint16(b[18:], uint16(len(b)-54))
	return b
}

// damaged is a frame of a kind that guests send, or one that has been cut,
// lengthened, or changed in a few bytes of its headers.
func damaged(t testing.TB) []byte {
	b := random(t)
	if rand.N(2) == 0 {
		b = extended()
	}
	switch rand.N(4) {
	case 0:
		b = b[:rand.N(len(b)+1)]
	case 1:
		b = append(b, make([]byte, rand.N(20))...)
	}
	if rand.N(2) == 0 {
		for range 1 + rand.N(3) {
			if n := min(len(b), 80); n > 12 {
				b[12+rand.N(n-12)] = byte(rand.Uint32())
			}
		}
	}
	return b
}

func TestParseAgreesWithGopacketOnDamagedFrames(t *testing.T) {
	var l4, fragments, unknown int
	for range 30_000 {
		b := damaged(t)
		f := load(t, b)
		if ok := f.Parse(); ok != (len(b) >= frame.EthernetLen) {
			t.Fatalf("% x: %v", b, ok)
		} else if !ok {
			continue
		}
		if err := compare(f); err != nil {
			t.Fatalf("% x: %v", b, err)
		}
		if f.Info.L4 != 0 {
			l4++
		}
		if f.Info.Fragment {
			fragments++
		}
		if ask(b).l4Unknown {
			unknown++
		}
	}
	if l4 < 3000 || fragments < 1000 || unknown > 10_000 {
		t.Errorf("of 30,000: %d with a transport header, %d fragments, %d that gopacket gave up", l4, fragments, unknown)
	}
}

func TestTagsWithoutEndLeadNowhere(t *testing.T) {
	b := bytes.Repeat([]byte{0x81, 0, 0, 1}, frame.MaxLen/4)
	copy(b[2:], make([]byte, 10))
	inner := random(t)[12:]
	copy(b[len(b)-len(inner):], inner)
	f := load(t, b)
	if !f.Parse() || !f.Info.Tagged || f.Info.L3 != 0 || f.Info.L4 != 0 {
		t.Errorf("64 KiB of tags: %+v", f.Info)
	}
	for tags := range 11 {
		b := random(t)
		for b[12] != 0x08 { // without a tag, IPv4
			b = random(t)
		}
		at := 14 + 4*tags
		b = append(append(bytes.Clone(b[:12]), bytes.Repeat([]byte{0x88, 0xa8, 0, 1}, tags)...), b[12:]...)
		f := load(t, b)
		f.Parse()
		if want := tags <= 8; (int(f.Info.L3) == at) != want || f.Info.Tagged != (tags > 0) {
			t.Errorf("%d tags: %+v", tags, f.Info)
		}
	}
}
