package vtep

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/gopacket/layers"

	"github.com/uvtep/uvtep/dhcpd/dhcpdtest"
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

// committing has the DHCP service make leases durable until the test ends.
func (r *rig) committing(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.v.cfg.DHCP.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// lease has a client at a port get its lease.
func (r *rig) lease(t *testing.T, port string, c *dhcpdtest.Client) netip.Addr {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for msg := c.Discover(); msg != nil; {
		if !r.taps.Device(port).Send(broadcastBOOTP(t, fdb.MACOf(c.MAC), msg)) {
			t.Fatalf("%s does not take a frame", port)
		}
		for answered := false; !answered; {
			r.turn()
			for _, o := range r.outs() {
				if p := honest(t, o.bytes); o.where == port && p.Layer(layers.LayerTypeUDP) != nil {
					var err error
					if msg, err = c.Receive(p.Layer(layers.LayerTypeUDP).LayerPayload()); err != nil {
						t.Fatal(err)
					}
					answered = true
				}
			}
			if time.Now().After(deadline) {
				t.Fatal("the client gets no answer")
			}
		}
	}
	return c.IP
}

func TestALeaseSaysWhoHasAnAddressUntilItEnds(t *testing.T) {
	r, s := suppressing(t, SegmentConfig{DHCP: dhcpConfig(9)})
	var claims []Event
	r.v.cfg.Events = func(e Event) {
		if e.Kind == EventClaimed {
			claims = append(claims, e)
		}
	}
	r.committing(t)
	c := &dhcpdtest.Client{MAC: hw(mac(7))}
	leased := r.lease(t, "b", c)
	expect(t, "a lease", resolve(t, r.at("a"), mac(1), leased), "02:00:00:00:00:07 to a")
	for range 3 {
		r.fromPort("c", announce(t, mac(66), leased)) // a liar, or a conflict
	}
	expect(t, "somebody else claims it", resolve(t, r.at("a"), mac(1), leased), "02:00:00:00:00:07 to a")
	r.v.tellNews()
	if len(claims) != 1 || claims[0].IP != leased || claims[0].MAC != mac(66) || claims[0].Port != "c" || claims[0].VNI != 100 {
		t.Errorf("told %+v", claims)
	}
	if err := s.DHCP().Release(leased); err != nil {
		t.Fatal(err)
	}
	expect(t, "the lease has ended", resolve(t, r.at("a"), mac(1), leased), floodOfA)
	// Where it is switched on later the leases are there.
	leased = r.lease(t, "b", c)
	cfg := s.Config()
	cfg.Suppress = 0
	reconfigure := func() {
		t.Helper()
		if err := s.Reconfigure(cfg); err != nil {
			t.Fatal(err)
		}
	}
	reconfigure()
	expect(t, "switched off", resolve(t, r.at("a"), mac(1), leased), floodOfA)
	if all := s.Neighbours(); all != nil {
		t.Errorf("%+v", all)
	}
	cfg.Suppress = SuppressARP
	reconfigure()
	expect(t, "switched on", resolve(t, r.at("a"), mac(1), leased), "02:00:00:00:00:07 to a")
	r.fromPort("b", advertised(t, mac(7), guest6, 0x20))
	expect(t, "what is not switched on", resolve(t, r.at("a"), mac(1), guest6), floodOfA)
}

func TestTheConfigurationSaysWhoHasAnAddress(t *testing.T) {
	static := []StaticNeighbour{{guestIP, mac(7)}, {ip("2001:db8:100::77"), mac(7)}}
	r, s := suppressing(t, SegmentConfig{FDB: []StaticEntry{{MAC: mac(7), Dst: peer3}}, Neighbours: static})
	for _, n := range static {
		expect(t, "an entry", resolve(t, r.at("a"), mac(1), n.IP), "02:00:00:00:00:07 to a")
	}
	r.fromPort("b", announce(t, mac(8), guestIP))
	expect(t, "somebody else claims it", resolve(t, r.at("a"), mac(1), guestIP), "02:00:00:00:00:07 to a")
	cfg := s.Config()
	cfg.Neighbours = []StaticNeighbour{{guestIP, mac(8)}}
	if err := s.Reconfigure(cfg); err != nil {
		t.Fatal(err)
	}
	expect(t, "another entry", resolve(t, r.at("a"), mac(1), guestIP), "02:00:00:00:00:08 to a")
	expect(t, "no entry any more", resolve(t, r.at("a"), mac(1), static[1].IP), floodOfA)
	for _, bad := range []StaticNeighbour{{ip("0.0.0.0"), mac(1)}, {ip("ff02::1"), mac(1)}, {guestIP, 0}, {guestIP, fdb.Broadcast}, {netip.Addr{}, mac(1)}} {
		cfg.Neighbours = []StaticNeighbour{bad}
		if err := s.Reconfigure(cfg); err == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
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

func TestAFloodOfInventedNeighboursLeavesRoomForOthers(t *testing.T) {
	table := newNeighbours()
	now := fdb.Seconds(1)
	invent := func(in fdb.Dst, from, n int) {
		for i := range n {
			table.observe(netip.AddrFrom4([4]byte{10, byte((from + i) >> 16), byte((from + i) >> 8), byte(from + i)}), mac(i+1), in, nil, true, now)
		}
	}
	invent(fdb.Local(1), 0, 100_000)
	if table.total > maxNeighbours/2 {
		t.Errorf("one has %d of %d", table.total, maxNeighbours)
	}
	invent(fdb.Local(2), 1<<20, 1000)
	if n := table.snooped[fdb.Local(2)]; n != 1000 {
		t.Errorf("another one has %d of 1000", n)
	}
	table.forgetBehind(map[fdb.Dst]bool{fdb.Local(1): true})
	if table.total != 1000 || table.n != 1000 || len(table.snooped) != 1 {
		t.Errorf("left: %d, %d, %v", table.total, table.n, table.snooped)
	}
	table.age(now+100, 99)
	if table.n != 0 {
		t.Errorf("%d are still known", table.n)
	}
}

// The oracle is a map, and the rules as a list.
func TestTheTableOfNeighboursIsWhatItsRulesMakeOfIt(t *testing.T) {
	type known struct {
		mac    fdb.MAC
		source NeighbourSource
		router bool
		seen   fdb.Seconds
		in     fdb.Dst
	}
	for seed := range uint64(30) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		table, model := newNeighbours(), map[netip.Addr]known{}
		now := fdb.Seconds(1)
		for step := range 3000 {
			a, m := ip(fmt.Sprintf("10.0.%d.%d", rnd.IntN(2), rnd.IntN(40))), mac(1+rnd.IntN(3))
			was, there := model[a]
			switch rnd.IntN(8) {
			default:
				override, router := rnd.IntN(4) > 0, (*bool)(nil)
				if rnd.IntN(3) == 0 {
					router = new(rnd.IntN(2) == 0)
				}
				in := fdb.Local(uint32(rnd.IntN(3)))
				got, want := table.observe(a, m, in, router, override, now), isNews
				held := there && was.mac != m && was.source != NeighbourSnooped
				switch {
				case held:
					want = isHeld
				case there && was.mac == m && was.in == in && (router == nil || *router == was.router):
					want = asBefore
				}
				if got != want {
					t.Fatalf("seed %d, step %d: %v, want %v", seed, step, got, want)
				}
				switch {
				case !there:
					was = known{mac: m}
				case was.mac != m && (held || !override):
					continue
				case was.mac != m:
					was = known{mac: m}
				}
				if router != nil {
					was.router = *router
				}
				was.seen, was.in = now, in
				model[a] = was
			case 0:
				source := NeighbourSource(1 + rnd.IntN(2))
				table.bind(a, m, source)
				if !there || was.source <= source {
					now := known{mac: m, source: source}
					if was.mac == m {
						now.router, now.in = was.router, was.in
					}
					model[a] = now
				}
			case 1:
				source := NeighbourSource(1 + rnd.IntN(2))
				table.unbind(a, source)
				if was.source == source {
					delete(model, a)
				}
			case 3:
				got, want := table.doubt(a, m), asBefore
				switch {
				case !there || was.mac == m:
				case was.source != NeighbourSnooped:
					want = isHeld
				default:
					want = isNews
					delete(model, a)
				}
				if got != want {
					t.Fatalf("seed %d, step %d: doubt: %v, want %v", seed, step, got, want)
				}
			case 2:
				now++
				if rnd.IntN(20) == 0 {
					table.age(now, 50)
					for a, k := range model {
						if k.source == NeighbourSnooped && now-k.seen > 50 {
							delete(model, a)
						}
					}
				}
			}
		}
		got := map[netip.Addr]known{}
		for i := range table.buckets {
			for n := table.buckets[i].Load(); n != nil; n = n.next {
				k := known{n.mac, n.source, n.router, 0, n.in}
				if n.source == NeighbourSnooped {
					k.seen = fdb.Seconds(n.seen.Load())
				}
				got[n.ip] = k
			}
		}
		for a, k := range model {
			if k.source != NeighbourSnooped {
				k.seen = 0
				model[a] = k
			}
		}
		if diff := cmp.Diff(model, got, cmp.AllowUnexported(known{}), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
			t.Fatalf("seed %d: -want +got:\n%s", seed, diff)
		}
		if table.n != len(model) {
			t.Fatalf("seed %d: counted %d of %d", seed, table.n, len(model))
		}
	}
}

// Whoever looks while others write sees a neighbour as it was at some time.
func TestNeighboursAreLookedUpWhileTheyChange(t *testing.T) {
	table := newNeighbours()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ctx.Err() == nil; i++ {
			a := ip(fmt.Sprintf("10.0.0.%d", 1+i%250))
			table.observe(a, mac(1+i%250), fdb.Local(1), nil, true, fdb.Seconds(i))
			if i%7 == 0 {
				table.bind(a, mac(1+i%250), NeighbourLease)
				table.unbind(a, NeighbourLease)
			}
			if i%1000 == 0 {
				table.forgetBehind(map[fdb.Dst]bool{fdb.Local(1): true})
			}
		}
	}()
	for i := range 200_000 {
		if n := table.lookUp(ip(fmt.Sprintf("10.0.0.%d", 1+i%250))); n != nil && n.mac != mac(1+i%250) {
			t.Errorf("10.0.0.%d is said to be %v", 1+i%250, n.mac)
			break
		}
	}
	cancel()
	<-done
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
