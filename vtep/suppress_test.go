package vtep

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket/layers"

	"github.com/uvtep/uvtep/fdb"
)

var guestIP = ip("192.168.100.77")

// suppressing is a segment with three ports and a peer.
func suppressing(t testing.TB, cfg SegmentConfig) (*rig, *Segment) {
	t.Helper()
	r := newRig(t, Config{})
	cfg.VNI, cfg.Peers, cfg.Suppress = 100, []netip.Addr{peer2, peer3}, SuppressARP|SuppressND
	return r, r.segment(cfg, "a", "b", "c")
}

// announce is what a station says that has a new address (RFC 5227 section 3).
func announce(t testing.TB, src fdb.MAC, who netip.Addr) []byte {
	return arpFor(t, fdb.Broadcast, src, who, who)
}

// advertised is an unsolicited neighbour advertisement.
func advertised(t testing.TB, src fdb.MAC, who netip.Addr, flags uint8) []byte {
	return icmp6(t, allNodesMAC, src, ipv6(who, allNodes, 255, layers.IPProtocolICMPv6), layers.ICMPv6TypeNeighborAdvertisement,
		&layers.ICMPv6NeighborAdvertisement{Flags: flags, TargetAddress: who.AsSlice(),
			Options: layers.ICMPv6Options{{Type: layers.ICMPv6OptTargetAddress, Data: hw(src)}}})
}

// resolve has a station that is known ask for an address, and says who is said to
// have it, or where the question went.
func resolve(t testing.TB, send func([]byte) []out, asker fdb.MAC, who netip.Addr) string {
	t.Helper()
	own4, own6 := ip(fmt.Sprintf("192.168.101.%d", asker&0xff)), ip(fmt.Sprintf("fe80::200:%x", uint64(asker&0xff)))
	var q []byte
	if who.Is4() {
		send(announce(t, asker, own4))
		q = arpFor(t, fdb.Broadcast, asker, own4, who)
	} else {
		send(advertised(t, asker, own6, 0x20))
		q = solicit(t, multicastMAC(solicitedNode(who)), asker, own6, solicitedNode(who), who, true)
	}
	all := send(q)
	if len(all) == 1 {
		p := honest(t, all[0].bytes)
		e := p.Layer(layers.LayerTypeEthernet).(*layers.Ethernet)
		if a, ok := p.Layer(layers.LayerTypeARP).(*layers.ARP); ok && a.Operation == layers.ARPReply {
			if !slices.Equal(e.DstMAC, hw(asker)) || !slices.Equal(a.DstHwAddress, []byte(hw(asker))) || !slices.Equal(a.SourceProtAddress, who.AsSlice()) ||
				!slices.Equal(a.DstProtAddress, own4.AsSlice()) || !slices.Equal(e.SrcMAC, net.HardwareAddr(a.SourceHwAddress)) {
				t.Errorf("the answer is %v", p)
			}
			return net.HardwareAddr(a.SourceHwAddress).String() + " to " + all[0].where
		}
		if a, ok := p.Layer(layers.LayerTypeICMPv6NeighborAdvertisement).(*layers.ICMPv6NeighborAdvertisement); ok {
			h := p.Layer(layers.LayerTypeIPv6).(*layers.IPv6)
			router := ""
			if a.Flags&0x80 != 0 {
				router = " router"
			}
			if !slices.Equal(e.DstMAC, hw(asker)) || !h.SrcIP.Equal(who.AsSlice()) || !h.DstIP.Equal(own6.AsSlice()) || h.HopLimit != 255 ||
				a.Flags&0x7f != 0x60 || !a.TargetAddress.Equal(who.AsSlice()) || len(a.Options) != 1 || !slices.Equal(e.SrcMAC, net.HardwareAddr(a.Options[0].Data)) {
				t.Errorf("the answer is %v", p)
			}
			return net.HardwareAddr(a.Options[0].Data).String() + router + " to " + all[0].where
		}
	}
	return whereTo(all, q)
}

func (r *rig) at(port string) func([]byte) []out {
	return func(b []byte) []out { return r.send(port, b) }
}

func (r *rig) behind(peer netip.Addr) func([]byte) []out {
	return func(b []byte) []out { return r.datagram(peer, 0, vxlan(100, b)) }
}

const floodOfA = "@10.9.0.2 @10.9.0.3 b c"

func TestWhoAsksForAKnownNeighbourIsAnsweredAndNobodyElseIsAsked(t *testing.T) {
	for _, who := range []netip.Addr{guestIP, ip("2001:db8:100::77"), ip("fe80::77")} {
		r, s := suppressing(t, SegmentConfig{})
		hello := func(m fdb.MAC) []byte { return announce(t, m, who) }
		if who.Is6() {
			hello = func(m fdb.MAC) []byte { return advertised(t, m, who, 0x20) }
		}
		expect(t, "nobody is known", resolve(t, r.at("a"), mac(1), who), floodOfA)
		expect(t, "an announcement", r.fromPort("b", hello(mac(7))), "@10.9.0.2 @10.9.0.3 a c")
		expect(t, "one behind a port", resolve(t, r.at("a"), mac(1), who), "02:00:00:00:00:07 to a")
		expect(t, "asked through the tunnel", resolve(t, r.behind(peer2), mac(2), who), "02:00:00:00:00:07 to @10.9.0.2")
		expect(t, "asked from where he is", resolve(t, r.at("b"), mac(3), who), "@10.9.0.2 @10.9.0.3 a c")
		// He moves with his MAC, then is another one.
		expect(t, "from elsewhere", r.fromPeer(peer3, 100, eth(mac(1), mac(7))), "a")
		expect(t, "one behind a VTEP", resolve(t, r.at("a"), mac(1), who), "02:00:00:00:00:07 to a")
		expect(t, "asked by a VTEP for what is behind another", resolve(t, r.behind(peer2), mac(2), who), "a b c")
		r.fromPort("c", hello(mac(8)))
		expect(t, "another one", resolve(t, r.at("a"), mac(1), who), "02:00:00:00:00:08 to a")
		s.FlushFDB()
		expect(t, "nobody knows where he is", resolve(t, r.at("a"), mac(1), who), floodOfA)
		r.fromPort("c", eth(fdb.Broadcast, mac(8)))
		expect(t, "he has spoken", resolve(t, r.at("a"), mac(1), who), "02:00:00:00:00:08 to a")
		if err := s.DetachPort("c"); err != nil {
			t.Fatal(err)
		}
		expect(t, "his port is gone", resolve(t, r.at("a"), mac(1), who), "@10.9.0.2 @10.9.0.3 b")
		r.fromPort("b", eth(fdb.Broadcast, mac(8)))
		expect(t, "what was heard there is forgotten", resolve(t, r.at("a"), mac(1), who), "@10.9.0.2 @10.9.0.3 b")
		if st := s.NeighbourStats(); st.Answered != 5 || st.Flooded != 6 {
			t.Errorf("%+v", st)
		}
	}
}

func TestWhatIsNoQuestionForAnybodysMACIsCarriedOn(t *testing.T) {
	who, six := guestIP, ip("fe80::77")
	r, _ := suppressing(t, SegmentConfig{})
	r.fromPort("b", announce(t, mac(7), who))
	r.fromPort("b", advertised(t, mac(7), six, 0x20))
	short := solicit(t, multicastMAC(solicitedNode(six)), mac(1), ip("fe80::200"), solicitedNode(six), six, true)
	short[14+7] = 254
	broken := solicit(t, multicastMAC(solicitedNode(six)), mac(1), ip("fe80::200"), solicitedNode(six), six, true)
	broken[len(broken)-1] ^= 1
	for name, b := range map[string][]byte{
		"an ARP probe":                           arpFor(t, fdb.Broadcast, mac(1), netip.IPv4Unspecified(), who),
		"an ARP announcement":                    announce(t, mac(1), ip("192.168.100.78")),
		"duplicate address detection":            solicit(t, multicastMAC(solicitedNode(six)), mac(1), netip.IPv6Unspecified(), solicitedNode(six), six, false),
		"a solicitation that crossed a router":   short,
		"a solicitation with a wrong checksum":   broken,
		"a question with a VLAN tag":             vlan(arpFor(t, fdb.Broadcast, mac(1), ip("192.168.100.200"), who)),
		"a question by who has a group's sender": arpFor(t, fdb.Broadcast, mac(1), ip("224.0.0.1"), who),
	} {
		expect(t, name, r.fromPort("a", b), floodOfA)
	}
	// Unreachability detection asks the neighbour himself.
	expect(t, "a question to the neighbour", r.fromPort("a", arpFor(t, mac(7), mac(1), ip("192.168.100.200"), who)), "b")
	expect(t, "a solicitation to the neighbour", r.fromPort("a", solicit(t, mac(7), mac(1), ip("fe80::200"), six, six, true)), "b")
}

// Others learn from a question who asks, and where he is.
func TestTheQuestionOfWhoHasComeOrMovedIsCarriedOn(t *testing.T) {
	who := guestIP
	r, s := suppressing(t, SegmentConfig{})
	r.fromPort("b", announce(t, mac(7), who))
	ask := func(port string, m fdb.MAC) string {
		return r.fromPort(port, arpFor(t, fdb.Broadcast, m, ip("192.168.100.200"), who))
	}
	expect(t, "a new station", ask("a", mac(1)), floodOfA)
	expect(t, "it asks again", ask("a", mac(1)), "a (changed)")
	expect(t, "another card", ask("a", mac(2)), floodOfA)
	expect(t, "it asks again", ask("a", mac(2)), "a (changed)")
	expect(t, "at another port", ask("c", mac(2)), "@10.9.0.2 @10.9.0.3 a b")
	expect(t, "it asks again", ask("c", mac(2)), "c (changed)")
	if st := s.NeighbourStats(); st.Answered != 3 || st.Flooded != 3 {
		t.Errorf("%+v", st)
	}
}

func TestOnlyWhatIsSaidOfOneselfIsLearned(t *testing.T) {
	r, s := suppressing(t, SegmentConfig{DHCP: dhcpConfig(9)})
	forged := announce(t, mac(5), guestIP)
	copy(forged[6:], hw(mac(6)))
	other := advertised(t, mac(5), ip("fe80::5"), 0x20)
	copy(other[6:], hw(mac(6)))
	none := icmp6(t, allNodesMAC, mac(5), ipv6(ip("fe80::5"), allNodes, 255, layers.IPProtocolICMPv6), layers.ICMPv6TypeNeighborAdvertisement,
		&layers.ICMPv6NeighborAdvertisement{Flags: 0x20, TargetAddress: ip("fe80::5").AsSlice()})
	for _, b := range [][]byte{
		forged, other, none, announce(t, mac(5), netip.IPv4Unspecified()), announce(t, mac(5), ip("255.255.255.255")), announce(t, mac(5), ip("239.1.1.1")),
		announce(t, mac(5), server), // whose the segment's own is
		advertised(t, mac(5), ip("ff02::5"), 0x20),
	} {
		r.fromPort("a", b)
	}
	if all := s.Neighbours(); len(all) != 0 {
		t.Errorf("learned: %+v", all)
	}
	// One that does not want to override what is known does not (RFC 4861 section 7.2.5).
	r.fromPort("a", advertised(t, mac(5), ip("fe80::5"), 0x20))
	r.fromPort("b", advertised(t, mac(6), ip("fe80::5"), 0))
	if all := s.Neighbours(); len(all) != 1 || all[0].MAC != mac(5) {
		t.Errorf("%+v", all)
	}
}

func TestARouterStaysOneInAnswers(t *testing.T) {
	r, _ := suppressing(t, SegmentConfig{})
	link := ip("fe80::1")
	ask := func() string { return resolve(t, r.at("a"), mac(1), link) }
	r.fromPort("b", icmp6(t, allNodesMAC, mac(9), ipv6(link, allNodes, 255, layers.IPProtocolICMPv6), layers.ICMPv6TypeRouterAdvertisement,
		&layers.ICMPv6RouterAdvertisement{HopLimit: 64, RouterLifetime: 1800, Options: layers.ICMPv6Options{{Type: layers.ICMPv6OptSourceAddress, Data: hw(mac(9))}}}))
	expect(t, "by its advertisement", ask(), "02:00:00:00:00:09 router to a")
	r.fromPort("b", solicit(t, multicastMAC(solicitedNode(guest6)), mac(9), link, solicitedNode(guest6), guest6, true))
	expect(t, "after it asked", ask(), "02:00:00:00:00:09 router to a")
	r.fromPort("b", advertised(t, mac(9), link, 0x20))
	expect(t, "after it said that it is none", ask(), "02:00:00:00:00:09 to a")
}

func TestAnIsolatedGuestIsNotAnsweredForOneItMayNotReach(t *testing.T) {
	r, s := suppressing(t, SegmentConfig{})
	for _, name := range []string{"i1", "i2"} {
		r.attach(s, PortConfig{Name: name, Isolated: true})
	}
	r.fromPort("i2", announce(t, mac(7), guestIP))
	expect(t, "from an isolated port", resolve(t, r.at("i1"), mac(1), guestIP), "@10.9.0.2 @10.9.0.3 a b c")
	expect(t, "from another", resolve(t, r.at("a"), mac(2), guestIP), "02:00:00:00:00:07 to a")
}

func TestASilentNeighbourIsForgotten(t *testing.T) {
	r, s := suppressing(t, SegmentConfig{Ageing: 10 * time.Second})
	r.fromPort("b", announce(t, mac(7), guestIP))
	stillThere := func() { r.fromPort("b", eth(fdb.Broadcast, mac(7))) } // in the table of MACs
	r.age(10)
	stillThere()
	expect(t, "in time", resolve(t, r.at("a"), mac(1), guestIP), "02:00:00:00:00:07 to a")
	r.age(11)
	stillThere()
	expect(t, "too old", resolve(t, r.at("a"), mac(1), guestIP), floodOfA)
	for _, n := range s.Neighbours() {
		if n.IP == guestIP {
			t.Errorf("%+v", n)
		}
	}
}

// Whatever is said, an answer is what is known.
func FuzzAnAnswerForANeighbourIsWhatIsKnown(f *testing.F) {
	f.Add(announce(f, mac(1), guestIP))                                                                                // learned
	f.Add(arpFor(f, fdb.Broadcast, mac(1), ip("192.168.100.200"), ip("192.168.100.78")))                               // answered
	f.Add(advertised(f, mac(1), guest6, 0xa0))                                                                         // learned, a router
	f.Add(solicit(f, multicastMAC(solicitedNode(guest6)), mac(1), ip("fe80::1"), solicitedNode(guest6), guest6, true)) // answered
	r, s := suppressing(f, SegmentConfig{})
	f.Fuzz(func(t *testing.T, b []byte) {
		r.t = t
		r.fromPort("b", announce(t, mac(7), ip("192.168.100.78")))
		r.fromPort("b", advertised(t, mac(7), guest6, 0x20))
		for _, o := range r.send("a", b) {
			if o.where != "a" {
				continue
			}
			p := honest(t, o.bytes)
			var who netip.Addr
			var said string
			if a, ok := p.Layer(layers.LayerTypeARP).(*layers.ARP); ok {
				who, said = netip.AddrFrom4([4]byte(a.SourceProtAddress)), net.HardwareAddr(a.SourceHwAddress).String()
			} else if a, ok := p.Layer(layers.LayerTypeICMPv6NeighborAdvertisement).(*layers.ICMPv6NeighborAdvertisement); ok {
				who, _ = netip.AddrFromSlice(a.TargetAddress)
				said = net.HardwareAddr(a.Options[0].Data).String()
			}
			if !slices.ContainsFunc(s.Neighbours(), func(n Neighbour) bool { return n.IP == who && strings.EqualFold(n.MAC.String(), said) }) {
				t.Errorf("%v is said to be %s: %x", who, said, o.bytes)
			}
		}
		s.FlushFDB()
	})
}
