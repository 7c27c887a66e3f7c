package vtep

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/frame"
)

var (
	sender4, receiver4 = ip("192.168.100.1"), ip("192.168.100.9")
	sender6, receiver6 = ip("fd00:100::1"), ip("fd00:100::9")
)

// long4 is an IPv4 packet of n bytes from a guest, changed by whom is asked.
func long4(t testing.TB, dst fdb.MAC, n int, change func(*layers.IPv4)) []byte {
	h := ipv4(sender4, receiver4, layers.IPProtocolUDP)
	h.Flags = layers.IPv4DontFragment
	if change != nil {
		change(h)
	}
	return build(t, ethernet(dst, mac(1), layers.EthernetTypeIPv4), h, &layers.UDP{SrcPort: 1, DstPort: 2}, gopacket.Payload(bytes.Repeat([]byte{0xa5}, n-28)))
}

func long6(t testing.TB, dst fdb.MAC, to netip.Addr, n int) []byte {
	return build(t, ethernet(dst, mac(1), layers.EthernetTypeIPv6),
		&layers.IPv6{Version: 6, HopLimit: 9, NextHeader: layers.IPProtocolUDP, SrcIP: sender6.AsSlice(), DstIP: to.AsSlice()},
		&layers.UDP{SrcPort: 1, DstPort: 2}, gopacket.Payload(bytes.Repeat([]byte{0x5a}, n-48)))
}

// told is what a message about a packet says.
type told struct {
	from  netip.Addr
	mtu   int
	quote []byte
}

// readTold reads a message that went to a guest's MAC and address.
func readTold(t testing.TB, b []byte) told {
	t.Helper()
	p := honest(t, b)
	e := p.Layers()[0].(*layers.Ethernet)
	if fdb.MACOf(e.DstMAC) != mac(1) {
		t.Errorf("it went to %v", e.DstMAC)
	}
	if six, ok := p.NetworkLayer().(*layers.IPv6); ok {
		icmp := p.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6)
		if icmp.TypeCode != layers.CreateICMPv6TypeCode(layers.ICMPv6TypePacketTooBig, 0) || !bytes.Equal(six.DstIP, sender6.AsSlice()) || len(b) > 14+1280 {
			t.Errorf("%v to %v, %d bytes", icmp.TypeCode, six.DstIP, len(b))
		}
		from, _ := netip.AddrFromSlice(six.SrcIP)
		return told{from, int(binary.BigEndian.Uint32(icmp.Payload)), icmp.Payload[4:]}
	}
	four := p.NetworkLayer().(*layers.IPv4)
	icmp := p.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4)
	if icmp.TypeCode != layers.CreateICMPv4TypeCode(3, 4) || icmp.Id != 0 || !bytes.Equal(four.DstIP, sender4.AsSlice()) || len(b)-14 > 576 {
		t.Errorf("%v to %v, %d bytes", icmp.TypeCode, four.DstIP, len(b))
	}
	from, _ := netip.AddrFromSlice(four.SrcIP)
	return told{from, int(icmp.Seq), icmp.Payload}
}

func TestTheSenderOfAPacketThatIsTooBigForThePathIsToldSo(t *testing.T) {
	for _, local := range []netip.Addr{self, ip("fd00:9::1")} {
		peer := peer2
		if local.Is6() {
			peer = ip("fd00:9::2")
		}
		overhead := encap.Overhead(local)
		for _, path := range []int{1500, 1400, 600} {
			r := newRig(t, Config{Local: local})
			s := r.segment(SegmentConfig{VNI: 100, MTU: 1500, Peers: []netip.Addr{peer}}, "a")
			r.net.SetPathMTU(peer, path)
			r.fromPeer(peer, 100, eth(mac(1), mac(9)))
			room := path - overhead
			for _, n := range []int{room, room + 1, 1480} {
				if n > 1500 {
					continue
				}
				b := long4(t, mac(9), n, nil)
				got := r.send("a", b)
				if n <= room {
					expect(t, fmt.Sprint(n, " bytes"), whereTo(got, b), "@"+peer.String())
					continue
				}
				if len(got) != 1 || got[0].where != "a" {
					t.Fatalf("path %d, %d bytes: %v", path, n, got)
				}
				m := readTold(t, got[0].bytes)
				if m.from != receiver4 || m.mtu != room || len(m.quote) != min(n, 548) || !bytes.Equal(m.quote, b[14:14+len(m.quote)]) {
					t.Errorf("path %d, %d bytes: told by %v of %d, quoting %d bytes", path, n, m.from, m.mtu, len(m.quote))
				}
			}
			// IPv6 does not go below 1280, and is told no less.
			b := long6(t, mac(9), receiver6, 1480)
			if got := r.send("a", b); len(got) != 1 || got[0].where != "a" {
				t.Errorf("path %d: %v", path, got)
			} else if m := readTold(t, got[0].bytes); m.from != receiver6 || m.mtu != max(room, 1280) || len(m.quote) != 1232 || !bytes.Equal(m.quote, b[14:14+1232]) {
				t.Errorf("path %d: told by %v of %d, quoting %d bytes", path, m.from, m.mtu, len(m.quote))
			}
			st := s.Ports()[0]
			if drops := strings.Count(r.dropped(), "too_big"); int(st.TooBigTold) != drops || drops == 0 {
				t.Errorf("path %d: %d told, %d dropped", path, st.TooBigTold, drops)
			}
			narrow := s.PathMTUs()
			if want := map[bool]int{true: 0, false: path}[path == 1500]; narrow[peer] != want {
				t.Errorf("path %d: known as %v", path, narrow)
			}
		}
	}
}

func TestNobodyIsToldWhoMayNotBe(t *testing.T) {
	icmp := func(typ uint8) []byte {
		h := ipv4(sender4, receiver4, layers.IPProtocolICMPv4)
		h.Flags = layers.IPv4DontFragment
		return build(t, ethernet(mac(9), mac(1), layers.EthernetTypeIPv4), h, &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(typ, 0)}, gopacket.Payload(make([]byte, 1420)))
	}
	icmp6 := func(typ uint8) []byte {
		h := &layers.IPv6{Version: 6, HopLimit: 9, NextHeader: layers.IPProtocolICMPv6, SrcIP: sender6.AsSlice(), DstIP: receiver6.AsSlice()}
		return build(t, ethernet(mac(9), mac(1), layers.EthernetTypeIPv6), h, &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(typ, 0)}, gopacket.Payload(make([]byte, 1420)))
	}
	from6 := func(src netip.Addr) []byte {
		b := long6(t, mac(9), receiver6, 1440)
		copy(b[22:], src.AsSlice())
		return b
	}
	four := func(change func(*layers.IPv4)) []byte { return long4(t, mac(9), 1440, change) }
	for _, c := range []struct {
		name string
		b    []byte
		told bool
	}{
		{"a packet with DF", four(nil), true},
		{"one without", four(func(h *layers.IPv4) { h.Flags = 0 }), false},
		{"the first fragment", four(func(h *layers.IPv4) { h.Flags |= layers.IPv4MoreFragments }), true},
		{"another one", four(func(h *layers.IPv4) { h.FragOffset = 7 }), false},
		{"from nobody", four(func(h *layers.IPv4) { h.SrcIP = netip.IPv4Unspecified().AsSlice() }), false},
		{"from a group", four(func(h *layers.IPv4) { h.SrcIP = ip("224.0.0.9").AsSlice() }), false},
		{"from a loopback address", four(func(h *layers.IPv4) { h.SrcIP = ip("127.0.0.1").AsSlice() }), false},
		{"to a group", four(func(h *layers.IPv4) { h.DstIP = ip("239.0.0.9").AsSlice() }), false},
		{"to everybody", four(func(h *layers.IPv4) { h.DstIP = broadcast4.AsSlice() }), false},
		{"to everybody's MAC", long4(t, fdb.Broadcast, 1440, nil), false},
		{"a ping", icmp(8), true},
		{"an answer", icmp(0), true},
		{"an error", icmp(3), false},
		{"a redirect", icmp(5), false},
		{"time exceeded", icmp(11), false},
		{"over IPv6", from6(sender6), true},
		{"from nobody over IPv6", from6(netip.IPv6Unspecified()), false},
		{"from a group over IPv6", from6(ip("ff02::1")), false},
		{"a ping over IPv6", icmp6(128), true},
		{"an error over IPv6", icmp6(1), false},
		{"a redirect over IPv6", icmp6(137), false},
		{"no IP", append(eth(mac(9), mac(1)), make([]byte, 1440)...), false},
	} {
		r := newRig(t, Config{})
		s := r.segment(SegmentConfig{VNI: 100, MTU: 1500, Peers: []netip.Addr{peer2}}, "a")
		r.net.SetPathMTU(peer2, 1400)
		got := r.send("a", c.b)
		if (len(got) == 1) != c.told || len(got) > 1 || s.Ports()[0].TooBigTold != uint64(len(got)) {
			t.Errorf("%s: %d frames left, told %d", c.name, len(got), s.Ports()[0].TooBigTold)
		}
		if d := r.dropped(); d != "too_big@100" {
			t.Errorf("%s: drops %q", c.name, d)
		}
	}
}

// RFC 4443 section 2.4(e): of a multicast packet, too; by the segment's own
// station, as a group is no sender.
func TestAMulticastPacketOverIPv6ThatIsTooBigIsTold(t *testing.T) {
	r := newRig(t, Config{})
	r.segment(SegmentConfig{VNI: 100, MTU: 1500, Peers: []netip.Addr{peer2, peer3}}, "a")
	r.net.SetPathMTU(peer2, 1400)
	r.net.SetPathMTU(peer3, 1400)
	got := r.send("a", long6(t, 0x33330000002a, ip("ff0e::2a"), 1440))
	if len(got) != 1 { // once, however many peers it does not reach
		t.Fatalf("%d frames left", len(got))
	}
	own := serviceMAC(self, 100)
	if m := readTold(t, got[0].bytes); m.from != linkLocal(own) || fdb.MACOf(got[0].bytes[6:]) != own || m.mtu != 1350 {
		t.Errorf("told by %v of %d", m.from, m.mtu)
	}
}

func TestTagsAreCountedAndComeBack(t *testing.T) {
	r := newRig(t, Config{})
	r.segment(SegmentConfig{VNI: 100, MTU: 1500, Peers: []netip.Addr{peer2}}, "a")
	r.net.SetPathMTU(peer2, 1400)
	plain := long4(t, mac(9), 1440, nil)
	tags := []byte{0x88, 0xa8, 0, 7, 0x81, 0, 0x60, 5}
	b := append(append(append([]byte{}, plain[:12]...), tags...), plain[12:]...)
	got := r.send("a", b)
	if len(got) != 1 || !bytes.Equal(got[0].bytes[12:20], tags) {
		t.Fatalf("got %v", got)
	}
	m := readTold(t, append(append([]byte{}, got[0].bytes[:12]...), got[0].bytes[20:]...))
	if m.mtu != 1350-8 || !bytes.Equal(m.quote, plain[14:14+548]) {
		t.Errorf("told of %d", m.mtu)
	}
}

func TestOfASuperFrameOneSegmentIsTold(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		r := newOffloadRig(t, Config{})
		s := r.segment(SegmentConfig{VNI: 100, MTU: 1500, Peers: []netip.Addr{peer2}}, "a")
		r.net.SetPathMTU(peer2, 1400)
		fl := flow{dst: mac(9), src: mac(1), port: 9, v6: v6, seq: 77}
		b, o := fl.super(t, make([]byte, 20*1440-7), 1440)
		if !v6 {
			b[14+6] |= 0x40 // DF
			b[14+10], b[14+11] = 0, 0
			binary.BigEndian.PutUint16(b[14+10:], ^frame.Fold(frame.Sum(b[14:34], 0)))
		}
		if !r.taps.Device("a").SendSuper(0, b, o) {
			t.Fatal("the super-frame was not taken")
		}
		r.turn()
		got := r.outs()
		if n := s.Ports()[0].TooBigTold; n != 1 || len(got) != 1 {
			t.Fatalf("IPv6 %v: told %d times, %d frames left", v6, n, len(got))
		}
		// What is quoted is a segment, whose checksums are right.
		p := gopacket.NewPacket(got[0].bytes, layers.LayerTypeEthernet, gopacket.Default)
		quote := p.Layer(layers.LayerTypeICMPv4)
		tcp, total := 8+20, 1440+40
		if v6 {
			quote, tcp, total = p.Layer(layers.LayerTypeICMPv6), 8+40, 1440+60
		}
		q := append(append([]byte{}, quote.LayerContents()...), quote.LayerPayload()...)
		length := int(binary.BigEndian.Uint16(q[8+2:]))
		if v6 {
			length = 40 + int(binary.BigEndian.Uint16(q[8+4:]))
		}
		if seq := binary.BigEndian.Uint32(q[tcp+4:]); seq != 77 || length != total {
			t.Errorf("IPv6 %v: a segment of %d bytes with sequence number %d is quoted, want %d and 77", v6, length, seq, total)
		}
	}
}

func TestGuestsAreToldAtABoundedRate(t *testing.T) {
	now := time.Unix(0, 0)
	r := newRig(t, Config{Clock: func() time.Time { return now }})
	s := r.segment(SegmentConfig{VNI: 100, MTU: 1500, Peers: []netip.Addr{peer2}}, "a", "b")
	r.net.SetPathMTU(peer2, 1400)
	b, silent := long4(t, mac(9), 1440, nil), long4(t, mac(9), 1440, func(h *layers.IPv4) { h.Flags = 0 })
	send := func(port string) uint64 {
		for range 3 * tooBigRate {
			r.taps.Device(port).Send(silent) // costs nothing of it
			r.taps.Device(port).Send(b)
			r.turn()
		}
		r.outs()
		for _, p := range s.Ports() {
			if p.Name == port {
				return p.TooBigTold
			}
		}
		return 0
	}
	if n := send("a"); n != tooBigRate {
		t.Errorf("told %d times at once, want %d", n, tooBigRate)
	}
	if n := send("b"); n != tooBigRate { // each port has its own
		t.Errorf("the other port's guest was told %d times, want %d", n, tooBigRate)
	}
	now = now.Add(500 * time.Millisecond)
	if n := send("a"); n != tooBigRate*3/2 {
		t.Errorf("told %d times after half a second, want %d", n, tooBigRate*3/2)
	}
	if n := strings.Count(r.dropped(), "too_big"); n != 3*2*3*tooBigRate {
		t.Errorf("%d drops", n)
	}
}

func TestTheSenderOfAFloodThatIsTooBigForOneOfItsPeersIsToldSo(t *testing.T) {
	r := newRig(t, Config{})
	r.segment(SegmentConfig{VNI: 100, MTU: 1500, Peers: []netip.Addr{peer2, peer3}}, "a", "b")
	r.net.SetPathMTU(peer3, 1400)
	b := long4(t, mac(9), 1440, nil) // unknown: one peer gets it, the other does not
	got := r.send("a", b)
	var to []string
	for _, o := range got {
		to = append(to, o.where)
	}
	if g := strings.Join(to, " "); g != "a b @10.9.0.2" {
		t.Errorf("it went to %q", g)
	}
	if m := readTold(t, got[0].bytes); m.mtu != 1350 {
		t.Errorf("told of %d", m.mtu)
	}
}

func TestASegmentsMTUThatTheUnderlayDoesNotCarryIsWarnedOf(t *testing.T) {
	r := newRig(t, Config{})
	for _, c := range []struct {
		mtu  int
		want string
	}{
		{0, ""}, {1450, ""}, {1451, "the MTU 1451 is more than the underlay carries, 1450: longer packets are dropped; lower it, or raise that of the underlay's interface by 1"},
	} {
		s := r.segment(SegmentConfig{VNI: encap.VNI(1 + c.mtu), MTU: c.mtu})
		if got := strings.Join(s.Warnings(), "\n"); got != c.want {
			t.Errorf("MTU %d: %q, want %q", c.mtu, got, c.want)
		}
	}
	r.net.SetMTU(1400)
	if s, _ := r.v.Segment(1451); len(s.Warnings()) != 1 || r.v.CarriedMTU() != 1350 {
		t.Errorf("after the underlay's MTU has changed: %v, carried %d", s.Warnings(), r.v.CarriedMTU())
	}
	f := newRig(t, Config{Fragment: true})
	if got := f.segment(SegmentConfig{VNI: 1, MTU: 9000}).Warnings(); len(got) != 1 || !strings.Contains(got[0], "fragments") {
		t.Errorf("with fragments: %q", got)
	}
}

func FuzzTooBigMessage(f *testing.F) {
	f.Add(long4(f, mac(9), 1440, nil), 1350)
	f.Add(long6(f, mac(9), receiver6, 1440), 1350)
	f.Add(long6(f, 0x33330000002a, ip("ff0e::2a"), 1440), 1350)
	f.Add(long4(f, mac(9), 1440, func(h *layers.IPv4) { h.Flags = 0 }), 1350)
	f.Add(long4(f, mac(9), 60, nil), 40) // less than IPv4's least
	f.Fuzz(func(t *testing.T, b []byte, room int) {
		fr := &frame.NewBatch(1, frame.MaxLen).Frames[0]
		if !fr.Load(b) || !fr.Parse() || !mayTellTooBig(fr) {
			return
		}
		msg := tooBigMessage(fr, room, 1500, serviceMAC(self, 100))
		if msg == nil {
			return
		}
		m := &frame.NewBatch(1, frame.MaxLen).Frames[0]
		m.Load(msg)
		if !m.Parse() || m.Info.L4 == 0 || m.Info.EtherType != fr.Info.EtherType || len(msg) > 14+4*8+1280 {
			t.Fatalf("%x is told of as %x", b, msg)
		}
		src, dst := addresses(m)
		if sender, _ := addresses(fr); dst != sender || !isStation(src) || !bytes.Equal(msg[:6], b[6:12]) {
			t.Fatalf("%x is told of by %v to %v", b, src, dst)
		}
		if mayTellTooBig(m) {
			t.Fatalf("a message about a message: %x", msg)
		}
	})
}
