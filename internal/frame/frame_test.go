package frame_test

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net"
	"testing"
	"unsafe"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/nettest"
)

func load(t testing.TB, b []byte) *frame.Frame {
	t.Helper()
	f := &frame.NewBatch(1, frame.MaxLen).Frames[0]
	if !f.Load(b) {
		t.Fatalf("%d bytes do not fit", len(b))
	}
	return f
}

// random is a frame of one of the kinds that guests send.
func random(t testing.TB) []byte {
	eth := &layers.Ethernet{
		DstMAC: net.HardwareAddr{2, 0, 0, 0, 0, byte(rand.Uint32())}, SrcMAC: net.HardwareAddr{2, 0, 0, 0, 1, byte(rand.Uint32())},
		EthernetType: layers.EthernetTypeIPv4,
	}
	var ls []gopacket.SerializableLayer
	ls = append(ls, eth)
	v6 := rand.N(2) == 0
	inner := layers.EthernetTypeIPv4
	if v6 {
		inner = layers.EthernetTypeIPv6
	}
	if rand.N(3) == 0 {
		eth.EthernetType = layers.EthernetTypeDot1Q
		ls = append(ls, &layers.Dot1Q{VLANIdentifier: uint16(rand.N(4095)), Type: inner})
	} else {
		eth.EthernetType = inner
	}
	proto := []layers.IPProtocol{layers.IPProtocolTCP, layers.IPProtocolUDP}[rand.N(2)]
	var network gopacket.NetworkLayer
	if v6 {
		ip := &layers.IPv6{Version: 6, TrafficClass: uint8(rand.Uint32()), HopLimit: uint8(1 + rand.N(255)), NextHeader: proto, SrcIP: make(net.IP, 16), DstIP: make(net.IP, 16)}
		binary.BigEndian.PutUint64(ip.SrcIP[8:], rand.Uint64())
		binary.BigEndian.PutUint64(ip.DstIP[8:], rand.Uint64())
		network = ip
		ls = append(ls, ip)
	} else {
		ip := &layers.IPv4{Version: 4, TOS: uint8(rand.Uint32()), TTL: uint8(1 + rand.N(255)), Protocol: proto, SrcIP: make(net.IP, 4), DstIP: make(net.IP, 4)}
		binary.BigEndian.PutUint32(ip.SrcIP, rand.Uint32())
		binary.BigEndian.PutUint32(ip.DstIP, rand.Uint32())
		if rand.N(4) == 0 {
			ip.Options = []layers.IPv4Option{{OptionType: 1}, {OptionType: 1}, {OptionType: 1}, {OptionType: 1}}
		}
		network = ip
		ls = append(ls, ip)
	}
	if proto == layers.IPProtocolTCP {
		tcp := &layers.TCP{SrcPort: layers.TCPPort(rand.Uint32()), DstPort: layers.TCPPort(rand.Uint32()), Seq: rand.Uint32()}
		if err := tcp.SetNetworkLayerForChecksum(network); err != nil {
			t.Fatal(err)
		}
		ls = append(ls, tcp)
	} else {
		udp := &layers.UDP{SrcPort: layers.UDPPort(rand.Uint32()), DstPort: layers.UDPPort(rand.Uint32())}
		if err := udp.SetNetworkLayerForChecksum(network); err != nil {
			t.Fatal(err)
		}
		ls = append(ls, udp)
	}
	payload := make([]byte, rand.N(200))
	for i := range payload {
		payload[i] = byte(rand.Uint32())
	}
	return nettest.Serialize(t, append(ls, gopacket.Payload(payload))...)
}

func TestParseAgreesWithGopacket(t *testing.T) {
	for range 2000 {
		b := random(t)
		f := load(t, b)
		if !f.Parse() {
			t.Fatalf("% x was refused", b)
		}
		p := gopacket.NewPacket(b, layers.LayerTypeEthernet, gopacket.Default)
		at, tagged := 0, false
		for _, l := range p.Layers() {
			switch l := l.(type) {
			case *layers.Dot1Q:
				tagged = true
			case *layers.IPv4:
				if int(f.Info.L3) != at || f.Info.EtherType != frame.TypeIPv4 || f.Info.TOS != l.TOS || f.Info.TTL != l.TTL || f.Info.Proto != uint8(l.Protocol) {
					t.Fatalf("IPv4 at %d: %+v", at, f.Info)
				}
			case *layers.IPv6:
				if int(f.Info.L3) != at || f.Info.EtherType != frame.TypeIPv6 || f.Info.TOS != l.TrafficClass || f.Info.TTL != l.HopLimit || f.Info.Proto != uint8(l.NextHeader) {
					t.Fatalf("IPv6 at %d: %+v", at, f.Info)
				}
			case *layers.TCP, *layers.UDP:
				if int(f.Info.L4) != at {
					t.Fatalf("%v at %d: %+v", l.LayerType(), at, f.Info)
				}
			}
			at += len(l.LayerContents())
		}
		if tagged != f.Info.Tagged {
			t.Fatalf("tagged %v: %+v", tagged, f.Info)
		}
	}
}

func TestAllFragmentsOfAPacketHaveOneHash(t *testing.T) {
	eth := &layers.Ethernet{DstMAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, SrcMAC: net.HardwareAddr{2, 0, 0, 0, 0, 2}, EthernetType: layers.EthernetTypeIPv4}
	first := load(t, nettest.Serialize(t, eth, &layers.IPv4{Version: 4, TTL: 64, Flags: layers.IPv4MoreFragments, Protocol: layers.IPProtocolUDP, SrcIP: net.IP{10, 0, 0, 1}, DstIP: net.IP{10, 0, 0, 2}}, gopacket.Payload(make([]byte, 64))))
	last := load(t, nettest.Serialize(t, eth, &layers.IPv4{Version: 4, TTL: 64, FragOffset: 8, Protocol: layers.IPProtocolUDP, SrcIP: net.IP{10, 0, 0, 1}, DstIP: net.IP{10, 0, 0, 2}}, gopacket.Payload(bytes.Repeat([]byte{7}, 40))))
	first.Parse()
	last.Parse()
	if !first.Info.Fragment || !last.Info.Fragment || last.Info.L4 != 0 {
		t.Errorf("fragments were not seen as such: %+v, %+v", first.Info, last.Info)
	}
	if first.Hash() != last.Hash() {
		t.Errorf("hashes %#x and %#x", first.Hash(), last.Hash())
	}
}

// farAway is a UDP datagram whose header begins at byte 65546.
func farAway() []byte {
	b := make([]byte, 0, frame.MaxLen)
	b = append(b, make([]byte, 12)...)
	for len(b) < 65524 {
		b = append(b, 0x81, 0, 0, 1)
	}
	b = append(b, 0x08, 0x00, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2)
	return append(b, 0, 1, 0, 2, 0, 8, 0, 0)
}

func FuzzParse(f *testing.F) {
	f.Add([]byte{})                                                                // nothing
	f.Add(bytes.Repeat([]byte{0x81, 0}, 40))                                       // tags without end
	f.Add(append(make([]byte, 12), 0x08, 0x00, 0x4f))                              // an IPv4 header that stops
	f.Add(append(append(make([]byte, 12), 0x86, 0xdd, 0x60), make([]byte, 39)...)) // hop-by-hop without a body
	f.Add(farAway())                                                               // a transport header behind 64 KiB of tags
	for range 8 {
		f.Add(random(f))
		f.Add(extended())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > frame.MaxLen {
			return
		}
		fr := load(t, b)
		if !fr.Parse() {
			if len(b) >= frame.EthernetLen {
				t.Fatalf("a frame of %d bytes was refused", len(b))
			}
			return
		}
		if err := compare(fr); err != nil {
			t.Fatal(err)
		}
		i := fr.Info
		if int(i.L3) > len(b) || int(i.L4) > len(b) || i.L4 != 0 && i.L4 <= i.L3 {
			t.Fatalf("offsets beyond %d bytes: %+v", len(b), i)
		}
		fr.NotePartialChecksum()
		fr.FinishChecksum()
		fr.ARP()
	})
}

func TestAnUnfinishedChecksumIsRecognisedAndFinished(t *testing.T) {
	for range 1000 {
		good := random(t)
		f := load(t, good)
		f.Parse()
		off := int(f.Info.L4) + 16
		if f.Info.Proto == frame.ProtoUDP {
			off = int(f.Info.L4) + 6
		}
		h := good[f.Info.L3:]
		pseudo := append([]byte{}, h[12:20]...)
		n := int(f.Info.L3) + int(binary.BigEndian.Uint16(h[2:])) - int(f.Info.L4)
		if f.Info.EtherType == frame.TypeIPv6 {
			n = int(binary.BigEndian.Uint16(h[4:]))
			pseudo = append([]byte{}, h[8:40]...)
		}
		pseudo = append(pseudo, 0, f.Info.Proto, byte(n>>8), byte(n))
		b := bytes.Clone(good)
		binary.BigEndian.PutUint16(b[off:], slowSum(pseudo))
		// Ethernet padding behind the packet is not covered.
		f = load(t, append(b, 0xde, 0xad))
		f.Parse()
		f.NotePartialChecksum()
		if f.Offload.Flags&frame.NeedsCsum == 0 {
			t.Fatal("a partial checksum was not recognised")
		}
		f.FinishChecksum()
		if !bytes.Equal(f.Bytes()[:len(good)], good) || f.Offload.Flags != 0 {
			t.Fatalf("finished to\n% x, want\n% x", f.Bytes()[:len(good)], good)
		}
	}
}

// RFC 768: a UDP checksum that comes out as zero is sent as all ones. In TCP zero
// is a checksum like any other.
func TestAUDPChecksumIsNeverZero(t *testing.T) {
	eth := &layers.Ethernet{DstMAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, SrcMAC: net.HardwareAddr{2, 0, 0, 0, 0, 2}, EthernetType: layers.EthernetTypeIPv4}
	for _, c := range []struct {
		proto layers.IPProtocol
		l4    gopacket.SerializableLayer
		field int // of the checksum, from the transport header
		data  int // of the payload
		want  uint16
	}{
		{layers.IPProtocolUDP, &layers.UDP{SrcPort: 1000, DstPort: 2000}, 6, 8, 0xffff},
		{layers.IPProtocolTCP, &layers.TCP{SrcPort: 1000, DstPort: 2000}, 16, 20, 0},
	} {
		ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: c.proto, SrcIP: net.IP{10, 0, 0, 1}, DstIP: net.IP{10, 0, 0, 2}}
		if err := c.l4.(interface {
			SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
		}).SetNetworkLayerForChecksum(ip); err != nil {
			t.Fatal(err)
		}
		b := nettest.Serialize(t, eth, ip, c.l4, gopacket.Payload{0, 0})
		l4 := b[34:][:c.data+2] // Ethernet padding is behind it
		pseudo := append(bytes.Clone(b[26:34]), 0, byte(c.proto), 0, byte(len(l4)))
		// With its own checksum as payload, the packet adds up to all ones.
		copy(l4[c.data:], l4[c.field:c.field+2])
		binary.BigEndian.PutUint16(l4[c.field:], slowSum(pseudo))
		f := load(t, b)
		f.Parse()
		f.NotePartialChecksum()
		f.FinishChecksum()
		if got := binary.BigEndian.Uint16(f.Bytes()[34+c.field:]); got != c.want {
			t.Errorf("%v: checksum %#04x, want %#04x", c.proto, got, c.want)
		}
	}
}

func TestACompleteChecksumStaysAsItIs(t *testing.T) {
	for range 2000 {
		good := random(t)
		f := load(t, good)
		f.Parse()
		f.NotePartialChecksum()
		f.FinishChecksum()
		if !bytes.Equal(f.Bytes(), good) {
			t.Fatalf("% x became % x", good, f.Bytes())
		}
	}
}

func TestSettingECNKeepsTheHeaderChecksumRight(t *testing.T) {
	for range 500 {
		f := load(t, random(t))
		f.Parse()
		for ecn := range uint8(4) {
			f.SetECN(ecn)
			was := f.Info
			f.Parse()
			if f.Info.TOS&3 != ecn || f.Info != was {
				t.Fatalf("ECN %d: %+v, before %+v", ecn, f.Info, was)
			}
			h := f.Bytes()[f.Info.L3:]
			if f.Info.EtherType == frame.TypeIPv4 && slowSum(h[:int(h[0]&15)*4]) != 0xffff {
				t.Fatalf("ECN %d: the header checksum is wrong", ecn)
			}
		}
	}
}

func TestABatchReusesItsFramesWithNothingLeftInThem(t *testing.T) {
	b := frame.NewBatch(2, 100)
	for range 2 {
		f := b.Next()
		copy(f.Buffer(), "abc")
		b.Commit(3)
		f.Outer.TOS, f.Ingress = 1, 7
		f.Drop(frame.Malformed)
	}
	if b.Next() != nil {
		t.Error("a full batch had one more")
	}
	b.Clear()
	f := b.Next()
	if f.Len() != 0 || f.Ingress != 0 || f.Outer.TOS != 0 || f.Verdict != (frame.Verdict{}) {
		t.Errorf("something was left: %+v", f)
	}
	if f.Load(make([]byte, 101)) {
		t.Error("101 bytes went into room for 100")
	}
}

func TestEveryReasonHasAWordOfItsOwn(t *testing.T) {
	seen := map[string]bool{}
	for r := range frame.Reason(frame.Reasons) {
		s := r.String()
		if s == "" || s == "unknown" || seen[s] {
			t.Errorf("reason %d is %q", r, s)
		}
		seen[s] = true
	}
}

func TestParsingAllocatesNothing(t *testing.T) {
	f := load(t, random(t))
	if n := testing.AllocsPerRun(100, func() { f.Parse(); f.NotePartialChecksum(); f.FinishChecksum() }); n != 0 {
		t.Errorf("%v allocations a frame", n)
	}
}

func BenchmarkParse(b *testing.B) {
	f := load(b, random(b))
	for b.Loop() {
		f.Parse()
	}
}

// A worker's frames lie one behind the other: what one grows by, all pay for.
func TestAFrameIsTwoCacheLines(t *testing.T) {
	if size := unsafe.Sizeof(frame.Frame{}); size != 128 && unsafe.Sizeof(uintptr(0)) == 8 {
		t.Errorf("a frame has %d bytes", size)
	}
}
