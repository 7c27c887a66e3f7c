package vtep

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/frame"
)

func TestAFloodGoesToEveryPortAndPeerButNeverBackThroughTheTunnel(t *testing.T) {
	r := newRig(t, Config{Accept: AcceptAny})
	s := r.segment(SegmentConfig{VNI: 100, Peers: []netip.Addr{peer2, peer3}, Group: ip("239.1.1.100")}, "a", "b", "c")
	r.segment(SegmentConfig{VNI: 200, Peers: []netip.Addr{peer2}}, "x")
	for _, dst := range []fdb.MAC{fdb.Broadcast, 0x01005e000001, 0x333300000001, mac(77)} {
		f := eth(dst, mac(1))
		expect(t, "from a port", r.fromPort("a", f), "@10.9.0.2 @10.9.0.3 @239.1.1.100 b c")
		expect(t, "from the other port", r.fromPort("b", eth(dst, mac(2))), "@10.9.0.2 @10.9.0.3 @239.1.1.100 a c")
		expect(t, "from a peer", r.fromPeer(peer2, 100, eth(dst, mac(3))), "a b c")
		expect(t, "from a stranger", r.fromPeer(ip("10.9.0.9"), 100, eth(dst, mac(4))), "a b c")
	}
	for _, o := range r.send("a", eth(fdb.Broadcast, mac(1))) {
		if strings.HasPrefix(o.where, "@") && o.vni != 100 {
			t.Errorf("a packet to %s says segment %v", o.where, o.vni)
		}
	}
	if err := s.RemovePeer(peer3); err != nil {
		t.Fatal(err)
	}
	expect(t, "after a peer went", r.fromPort("a", eth(fdb.Broadcast, mac(1))), "@10.9.0.2 @239.1.1.100 b c")
	if d := r.dropped(); d != "" {
		t.Errorf("drops: %s", d)
	}
}

// IEEE 802.1Q table 8-1; the spanning tree's frames pass.
func TestWhatIsForOneLinkOnlyIsNotRelayed(t *testing.T) {
	r := newRig(t, Config{})
	r.segment(SegmentConfig{VNI: 100, Peers: []netip.Addr{peer2}}, "a", "b")
	for last := range fdb.MAC(32) {
		port, tunnel := "@10.9.0.2 b", "a b"
		if last >= 1 && last <= 15 {
			port, tunnel = "", ""
		}
		expect(t, "from a port", r.fromPort("a", eth(0x0180c2000000+last, mac(1))), port)
		expect(t, "from a peer", r.fromPeer(peer2, 100, eth(0x0180c2000000+last, mac(2))), tunnel)
	}
}

func TestAKnownAddressIsSentToWhereItWasLastSeen(t *testing.T) {
	r := newRig(t, Config{})
	s := r.segment(SegmentConfig{VNI: 100, Peers: []netip.Addr{peer2, peer3}}, "a", "b", "c")
	to1 := eth(mac(1), mac(2))
	r.fromPort("a", eth(fdb.Broadcast, mac(1)))
	expect(t, "learned at a port", r.fromPort("b", to1), "a")
	r.fromPort("c", eth(fdb.Broadcast, mac(1)))
	expect(t, "moved to another port", r.fromPort("b", to1), "c")
	r.fromPeer(peer2, 100, eth(fdb.Broadcast, mac(1)))
	expect(t, "moved behind a peer", r.fromPort("b", to1), "@10.9.0.2")
	r.fromPeer(peer3, 100, eth(fdb.Broadcast, mac(1)))
	expect(t, "moved behind another peer", r.fromPort("b", to1), "@10.9.0.3")
	r.fromPort("a", eth(fdb.Broadcast, mac(1)))
	expect(t, "moved back", r.fromPort("b", to1), "a")
	expect(t, "from a peer", r.fromPeer(peer2, 100, eth(mac(1), mac(3))), "a")
	if n := s.FlushFDB(); n != 3 {
		t.Errorf("%d addresses were forgotten, want 3", n)
	}
	expect(t, "forgotten", r.fromPort("b", to1), "@10.9.0.2 @10.9.0.3 a c")
}

// age makes the VTEP's clock show a time, and does what is due.
func (r *rig) age(seconds int) {
	r.v.now.Store(uint32(seconds))
	for _, s := range r.v.Segments() {
		s.maintain(context.Background())
	}
}

func TestAnAddressIsForgottenWhenItsTimeHasCome(t *testing.T) {
	r := newRig(t, Config{})
	s := r.segment(SegmentConfig{VNI: 100, Ageing: 10 * time.Second, FDB: []StaticEntry{{MAC: mac(9), Dst: peer2}}}, "a", "b")
	r.segment(SegmentConfig{VNI: 200, Ageing: -1}, "x", "y")
	r.fromPort("a", eth(fdb.Broadcast, mac(1)))
	r.fromPort("x", eth(fdb.Broadcast, mac(1)))
	r.age(9)
	expect(t, "in time", r.fromPort("b", eth(mac(1), mac(2))), "a")
	r.fromPort("a", eth(fdb.Broadcast, mac(1))) // seen again
	r.age(18)
	expect(t, "refreshed", r.fromPort("b", eth(mac(1), mac(2))), "a")
	if e := s.FDB(); len(e) != 3 || e[0].Age != 9*time.Second {
		t.Errorf("%+v, want %v to be 9 s old", e, mac(1))
	}
	r.age(19)
	r.age(29)
	if e := s.FDB(); len(e) != 1 || e[0].State != "static" {
		t.Errorf("only the static entry outlives its time: %+v", e)
	}
	r.age(1 << 20)
	expect(t, "where nothing ages", r.fromPort("y", eth(mac(1), mac(2))), "x")
}

func TestAFullTableForwardsWhatItDoesNotLearn(t *testing.T) {
	r := newRig(t, Config{})
	// What asks is bound for good, and so takes no place.
	s := r.segment(SegmentConfig{VNI: 100, MaxMACs: 3, FDB: []StaticEntry{{MAC: mac(21), Port: "c"}}}, "b", "c")
	r.attach(s, PortConfig{Name: "a", MaxMACs: 2})
	for i := range 5 {
		expect(t, "a frame of a new address", r.fromPort("a", eth(fdb.Broadcast, mac(i+1))), "b c")
	}
	if n := s.MACs() - 1; n != 2 {
		t.Errorf("%d addresses behind a port that may have 2", n)
	}
	r.fromPort("b", eth(fdb.Broadcast, mac(11)))
	r.fromPort("b", eth(fdb.Broadcast, mac(12)))
	if n := s.MACs() - 1; n != 3 {
		t.Errorf("%d addresses in a segment that may have 3", n)
	}
	expect(t, "a known address", r.fromPort("c", eth(mac(1), mac(21))), "a")
	expect(t, "one that was not learned", r.fromPort("c", eth(mac(12), mac(21))), "a b")
	// A port that is full cannot take addresses away from others.
	r.fromPort("a", eth(fdb.Broadcast, mac(11)))
	expect(t, "an address that a full port claims", r.fromPort("c", eth(mac(11), mac(21))), "b")
	if d := r.dropped(); d != "" {
		t.Errorf("drops: %s", d)
	}
}

func TestAStaticAddressStaysWhereItIsBound(t *testing.T) {
	r := newRig(t, Config{})
	s := r.segment(SegmentConfig{VNI: 100, FDB: []StaticEntry{{MAC: mac(1), Dst: peer2}, {MAC: mac(2), Port: "later"}}}, "a", "b")
	if e := s.FDB(); len(e) != 1 {
		t.Errorf("an entry for a port that is not there: %+v", e)
	}
	r.attach(s, PortConfig{Name: "later"})
	expect(t, "behind a VTEP", r.fromPort("a", eth(mac(1), mac(3))), "@10.9.0.2")
	expect(t, "at a port", r.fromPort("a", eth(mac(2), mac(3))), "later")
	expect(t, "from where it is bound", r.fromPeer(peer2, 100, eth(mac(3), mac(1))), "a")
	expect(t, "from elsewhere", r.fromPort("b", eth(mac(3), mac(1))), "")
	if d := r.dropped(); d != "static_source@100" {
		t.Errorf("drops: %s", d)
	}
	if err := s.AddStatic(StaticEntry{MAC: mac(1), Port: "b"}); err != nil {
		t.Fatal(err)
	}
	expect(t, "bound anew", r.fromPort("a", eth(mac(1), mac(3))), "b")
	if err := s.DetachPort("b"); err != nil {
		t.Fatal(err)
	}
	// A VTEP that only a static entry named is no one to flood to.
	expect(t, "after its port went", r.fromPort("a", eth(mac(1), mac(3))), "later")
	if err := s.DeleteMAC(mac(2)); err != nil {
		t.Fatal(err)
	}
	if e := s.FDB(); len(e) != 1 || e[0].MAC != mac(3) {
		t.Errorf("left: %+v", e)
	}
}

func TestASegmentThatDoesNotLearnFloods(t *testing.T) {
	r := newRig(t, Config{})
	s := r.segment(SegmentConfig{VNI: 100, NoLearning: true, FDB: []StaticEntry{{MAC: mac(9), Port: "a"}}}, "a", "b", "c")
	r.fromPort("a", eth(fdb.Broadcast, mac(1)))
	expect(t, "to one that was seen", r.fromPort("b", eth(mac(1), mac(2))), "a c")
	expect(t, "to a static one", r.fromPort("b", eth(mac(9), mac(2))), "a")
	expect(t, "from a static one elsewhere", r.fromPort("b", eth(mac(1), mac(9))), "")
	expect(t, "from a static one at its port", r.fromPort("a", eth(mac(1), mac(9))), "b c")
	if n := s.MACs(); n != 1 {
		t.Errorf("%d entries, want the static one", n)
	}
}

func TestIsolatedPortsReachEveryoneButEachOther(t *testing.T) {
	r := newRig(t, Config{})
	s := r.segment(SegmentConfig{VNI: 100, Peers: []netip.Addr{peer2}}, "open")
	for i, name := range []string{"i1", "i2", "i3"} {
		r.attach(s, PortConfig{Name: name, Isolated: true})
		r.fromPort(name, eth(fdb.Broadcast, mac(i+1)))
	}
	r.fromPort("open", eth(fdb.Broadcast, mac(9)))
	expect(t, "flood of an isolated port", r.fromPort("i1", eth(fdb.Broadcast, mac(1))), "@10.9.0.2 open")
	expect(t, "flood of an open port", r.fromPort("open", eth(fdb.Broadcast, mac(9))), "@10.9.0.2 i1 i2 i3")
	expect(t, "flood of a peer", r.fromPeer(peer2, 100, eth(fdb.Broadcast, mac(20))), "i1 i2 i3 open")
	expect(t, "isolated to open", r.fromPort("i1", eth(mac(9), mac(1))), "open")
	expect(t, "open to isolated", r.fromPort("open", eth(mac(2), mac(9))), "i2")
	expect(t, "isolated to a peer", r.fromPort("i1", eth(mac(20), mac(1))), "@10.9.0.2")
	expect(t, "a peer to isolated", r.fromPeer(peer2, 100, eth(mac(1), mac(20))), "i1")
	expect(t, "isolated to isolated", r.fromPort("i1", eth(mac(2), mac(1))), "")
	if d := r.dropped(); d != "port_isolated@100" {
		t.Errorf("drops: %s", d)
	}
}

func TestOnlyPeersOfTheSegmentAreHeardUnlessEveryoneIs(t *testing.T) {
	f := eth(fdb.Broadcast, mac(1))
	r := newRig(t, Config{})
	r.segment(SegmentConfig{VNI: 100, Peers: []netip.Addr{peer2}}, "a")
	r.segment(SegmentConfig{VNI: 200, Peers: []netip.Addr{peer3}}, "x")
	expect(t, "a peer", r.fromPeer(peer2, 100, f), "a")
	expect(t, "another segment's peer", r.fromPeer(peer3, 100, f), "")
	expect(t, "a stranger", r.fromPeer(ip("10.9.0.9"), 200, f), "")
	if d := r.dropped(); d != "unknown_peer@100 unknown_peer@200" {
		t.Errorf("drops: %s", d)
	}

	r = newRig(t, Config{Accept: AcceptAny})
	s := r.segment(SegmentConfig{VNI: 100, Ageing: 10 * time.Second}, "a")
	r.age(5)
	expect(t, "a stranger", r.fromPeer(peer3, 100, f), "a")
	expect(t, "to one behind the stranger", r.fromPort("a", eth(mac(1), mac(2))), "@10.9.0.3")
	r.age(6)
	r.fromPeer(peer3, 100, f)
	expect(t, "a flood, which strangers do not get", r.fromPort("a", eth(fdb.Broadcast, mac(2))), "")
	if d := r.dropped(); d != "no_way_out@100" {
		t.Errorf("drops: %s", d)
	}
	r.age(16)
	if p := s.Peers(); len(p) != 1 || p[0].Origin != fdb.PeerLearned || p[0].RxPackets != 2 || p[0].TxPackets != 1 {
		t.Errorf("peers: %+v", p)
	}
	r.age(17)
	if p := s.Peers(); len(p) != 0 {
		t.Errorf("a silent stranger is remembered: %+v", p)
	}
}

func TestStrangersCannotFillTheMemory(t *testing.T) {
	r := newRig(t, Config{Accept: AcceptAny})
	s := r.segment(SegmentConfig{VNI: 100, MACMoves: -1}, "a")
	for i := range maxLearnedPeers + 10 {
		r.fromPeer(netip.AddrFrom4([4]byte{10, 8, byte(i >> 8), byte(i)}), 100, eth(fdb.Broadcast, mac(1)))
	}
	if n := len(s.Peers()); n != maxLearnedPeers {
		t.Errorf("%d peers were learned, want %d", n, maxLearnedPeers)
	}
	if d := r.v.Stats().Drops; len(d) != 1 || d[0].Reason != frame.UnknownPeer || d[0].Count != 10 {
		t.Errorf("drops: %+v", d)
	}
}

func TestReservedBitsAreIgnoredUnlessCheckingIsStrict(t *testing.T) {
	f := eth(fdb.Broadcast, mac(1))
	for _, strict := range []bool{false, true} {
		r := newRig(t, Config{Strict: strict})
		r.segment(SegmentConfig{VNI: 100, Peers: []netip.Addr{peer2}}, "a")
		for bit := range 64 {
			p := vxlan(100, f)
			p[bit/8] ^= 0x80 >> (bit % 8)
			reserved := bit != 4 && (bit < 32 || bit >= 56)
			got := r.datagram(peer2, 0, p)
			want := ""
			if reserved && !strict {
				want = "a"
			}
			expect(t, fmt.Sprintf("strict %t, bit %d", strict, bit), whereTo(got, f), want)
		}
	}
}

// The table of RFC 6040 section 4.2, inner ECN by outer ECN; -1 drops.
func TestECNIsCarriedThroughTheTunnelAsRFC6040Says(t *testing.T) {
	const notECT, ect1, ect0, ce = 0, 1, 2, 3
	table := map[[2]int]int{ // {inner, outer}
		{notECT, notECT}: notECT, {notECT, ect0}: notECT, {notECT, ect1}: notECT, {notECT, ce}: -1,
		{ect0, notECT}: ect0, {ect0, ect0}: ect0, {ect0, ect1}: ect1, {ect0, ce}: ce,
		{ect1, notECT}: ect1, {ect1, ect0}: ect1, {ect1, ect1}: ect1, {ect1, ce}: ce,
		{ce, notECT}: ce, {ce, ect0}: ce, {ce, ect1}: ce, {ce, ce}: ce,
	}
	const dscp = 46 << 2
	packet := func(v6 bool, tos uint8) []byte {
		udp := &layers.UDP{SrcPort: 1, DstPort: 2}
		if v6 {
			return build(t, ethernet(mac(2), mac(1), layers.EthernetTypeIPv6),
				&layers.IPv6{Version: 6, TrafficClass: tos, HopLimit: 64, NextHeader: layers.IPProtocolUDP, SrcIP: ip("fd00::1").AsSlice(), DstIP: ip("fd00::2").AsSlice()},
				udp, gopacket.Payload(make([]byte, 30)))
		}
		h := ipv4(ip("192.168.100.1"), ip("192.168.100.2"), layers.IPProtocolUDP)
		h.TOS = tos
		return build(t, ethernet(mac(2), mac(1), layers.EthernetTypeIPv4), h, udp, gopacket.Payload(make([]byte, 30)))
	}
	for _, v6 := range []bool{false, true} {
		for c, want := range table {
			what := fmt.Sprintf("IPv6 %t, inner %d, outer %d", v6, c[0], c[1])
			r := newRig(t, Config{})
			r.segment(SegmentConfig{VNI: 100, Peers: []netip.Addr{peer2}}, "a")
			got := r.datagram(peer2, uint8(c[1]), vxlan(100, packet(v6, dscp|uint8(c[0]))))
			if want < 0 {
				if len(got) != 0 || r.dropped() != "outer_ecn@100" {
					t.Errorf("%s: %+v got through, drops: %s", what, got, r.dropped())
				}
				continue
			}
			if len(got) != 1 || !bytes.Equal(got[0].bytes, packet(v6, dscp|uint8(want))) {
				t.Errorf("%s: got %+v, want ECN %d", what, got, want)
				continue
			}
			honest(t, got[0].bytes)
		}
		for ecn := range uint8(4) {
			r := newRig(t, Config{})
			r.segment(SegmentConfig{VNI: 100, Peers: []netip.Addr{peer2}}, "a")
			if got := r.send("a", packet(v6, dscp|ecn)); len(got) != 1 || got[0].tos != dscp|ecn {
				t.Errorf("IPv6 %t: inner TOS %#x went out as %+v", v6, dscp|ecn, got)
			}
		}
	}
}

func TestOuterHeadersSayWhatTheConfigurationWants(t *testing.T) {
	h := ipv4(ip("192.168.100.1"), ip("192.168.100.3"), layers.IPProtocolUDP)
	h.TOS = 0xb8 | 2
	f := build(t, ethernet(mac(2), mac(1), layers.EthernetTypeIPv4), h, &layers.UDP{SrcPort: 1, DstPort: 2}, gopacket.Payload("hello"))
	tos := uint8(0x28)
	for _, c := range []struct {
		name     string
		cfg      Config
		tos, ttl uint8
		port     uint16
	}{
		{"nothing set", Config{}, 0xba, 64, 4789},
		{"a TTL", Config{TTL: 9, Port: 8472}, 0xba, 9, 8472},
		{"an inherited TTL", Config{TTL: 9, InheritTTL: true}, 0xba, 17, 4789},
		{"a DSCP", Config{TOS: &tos}, 0x2a, 64, 4789},
	} {
		r := newRig(t, c.cfg)
		r.segment(SegmentConfig{VNI: 100, Peers: []netip.Addr{peer2}}, "a")
		p := r.send("a", f)[0]
		if p.tos != c.tos || p.ttl != c.ttl || p.port != c.port {
			t.Errorf("%s: TOS %#x, TTL %d, to port %d; want %#x, %d, %d", c.name, p.tos, p.ttl, p.port, c.tos, c.ttl, c.port)
		}
	}
}

func TestAFlowKeepsItsSourcePortAndFlowsHaveMany(t *testing.T) {
	r := newRig(t, Config{})
	r.segment(SegmentConfig{VNI: 100, Peers: []netip.Addr{peer2}}, "a")
	ports := map[uint16]bool{}
	for flow := range 200 {
		var used []uint16
		for range 3 {
			got := r.send("a", build(t, ethernet(mac(2), mac(1), layers.EthernetTypeIPv4),
				ipv4(ip("192.168.100.1"), ip("192.168.100.2"), layers.IPProtocolTCP), &layers.TCP{SrcPort: layers.TCPPort(1000 + flow), DstPort: 80}))
			used = append(used, got[0].flow)
		}
		if slices.Min(used) != slices.Max(used) {
			t.Errorf("one flow left by the ports %v", used)
		}
		ports[used[0]] = true
	}
	if len(ports) < 16 {
		t.Errorf("200 flows left by %d ports, want 16", len(ports))
	}
}

func TestAChecksumThatTheSenderLeftOutIsFinished(t *testing.T) {
	f := build(t, ethernet(mac(2), mac(1), layers.EthernetTypeIPv4), ipv4(ip("192.168.100.1"), ip("192.168.100.2"), layers.IPProtocolUDP),
		&layers.UDP{SrcPort: 1, DstPort: 2}, gopacket.Payload("from a card that never comes"))
	partial := bytes.Clone(f)
	udp := partial[14+20:]
	sum := frame.Fold(frame.Sum(partial[14+12:14+20], uint64(frame.ProtoUDP)+uint64(len(udp))))
	udp[6], udp[7] = byte(sum>>8), byte(sum)
	r := newRig(t, Config{})
	r.segment(SegmentConfig{VNI: 100, Peers: []netip.Addr{peer2}}, "a")
	if got := r.datagram(peer2, 0, vxlan(100, partial)); len(got) != 1 || !bytes.Equal(got[0].bytes, f) {
		t.Errorf("got %+v, want %x", got, f)
	}
}

func TestBothFamiliesCarryBoth(t *testing.T) {
	local, far := ip("fd00:9::1"), ip("fd00:9::2")
	r := newRig(t, Config{Local: local, Accept: AcceptAny})
	s := r.segment(SegmentConfig{VNI: encap.MaxVNI, Peers: []netip.Addr{far}, Group: ip("ff05::100")}, "a")
	if mtu := s.Config().MTU; mtu != 1430 {
		t.Errorf("the MTU over IPv6 is %d, want 1430", mtu)
	}
	expect(t, "out", r.fromPort("a", eth(fdb.Broadcast, mac(1))), "@fd00:9::2 @ff05::100")
	expect(t, "in", r.fromPeer(far, encap.MaxVNI, eth(fdb.Broadcast, mac(2))), "a")
}

// A worker may look up in a table that is newer than its view of the ports.
func TestAnAddressBehindAPortThatTheWorkerDoesNotKnowYetIsNoPanic(t *testing.T) {
	r := newRig(t, Config{})
	s := r.segment(SegmentConfig{VNI: 100}, "a")
	was := s.view.Load()
	p := r.attach(s, PortConfig{Name: "b"})
	s.table.Learn(mac(1), fdb.Local(p.id), 0)
	b := frame.NewBatch(1, 2048)
	b.Next()
	b.Commit(copy(b.Frames[0].Buffer(), eth(mac(1), mac(2))))
	b.Frames[0].Ingress = uint32(fdb.Local(0))
	lookUp(s, was, b.Frames)
	if v := b.Frames[0].Verdict; v.Action != frame.Dropped || v.Reason != frame.PortDown {
		t.Errorf("verdict %+v", v)
	}
}

func TestAPortThatVanishesGoesDownAndIsForgotten(t *testing.T) {
	r := newRig(t, Config{})
	s := r.segment(SegmentConfig{VNI: 100, FDB: []StaticEntry{{MAC: mac(9), Port: "b"}}}, "a", "b", "c")
	r.fromPort("b", eth(fdb.Broadcast, mac(1)))
	r.taps.Device("b").Vanish()
	r.turn()
	if st := s.Ports()[1]; st.Name != "b" || st.State != "down" {
		t.Errorf("%+v", st)
	}
	expect(t, "a flood", r.fromPort("a", eth(fdb.Broadcast, mac(2))), "c")
	expect(t, "to the vanished", r.fromPort("a", eth(mac(1), mac(2))), "")
	r.age(1)
	expect(t, "to what lived there", r.fromPort("a", eth(mac(1), mac(2))), "c")
	expect(t, "to what is bound there", r.fromPort("a", eth(mac(9), mac(2))), "")
	if d := r.dropped(); d != "port_down@100 port_down@100" {
		t.Errorf("drops: %s", d)
	}
	if err := s.DetachPort("b"); err != nil {
		t.Fatal(err)
	}
	r.attach(s, PortConfig{Name: "b"})
	expect(t, "bound again", r.fromPort("a", eth(mac(9), mac(2))), "b")
}

func TestCountersSayWhatWentByWhom(t *testing.T) {
	r := newRig(t, Config{})
	s := r.segment(SegmentConfig{VNI: 100, Peers: []netip.Addr{peer2, peer3}}, "a", "b")
	r.fromPort("a", eth(fdb.Broadcast, mac(1))) // to b and both peers
	r.fromPeer(peer2, 100, eth(mac(1), mac(2))) // to a
	r.fromPort("a", eth(mac(2), mac(1)))        // to peer2
	r.fromPort("a", eth(mac(1), mac(1)))        // dropped
	a, b := s.Ports()[0].Traffic, s.Ports()[1].Traffic
	if want := (Traffic{RxPackets: 3, RxBytes: 180, RxDropped: 1, TxPackets: 1, TxBytes: 60}); a != want {
		t.Errorf("port a: %+v, want %+v", a, want)
	}
	if want := (Traffic{TxPackets: 1, TxBytes: 60}); b != want {
		t.Errorf("port b: %+v, want %+v", b, want)
	}
	p := s.Peers()
	if want := (Traffic{RxPackets: 1, RxBytes: 60, TxPackets: 2, TxBytes: 120}); p[0].Traffic != want {
		t.Errorf("peer2: %+v, want %+v", p[0].Traffic, want)
	}
	if want := (Traffic{TxPackets: 1, TxBytes: 60}); p[1].Traffic != want {
		t.Errorf("peer3: %+v, want %+v", p[1].Traffic, want)
	}
	if w := r.v.Stats().Workers[0]; w.RxPackets != 4 || w.TxPackets != 5 || w.Batches != 4 {
		t.Errorf("worker: %+v", w)
	}
}
