package vtep

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/insomniacslk/dhcp/dhcpv6"

	"github.com/uvtep/uvtep/dhcpd"
	"github.com/uvtep/uvtep/dhcpd/dhcpdtest"
	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/guard/guardtest"
)

// guarded is a rig whose clock stands still, with DHCP of both families and a
// store that commits as soon as it is asked to.
type guarded struct {
	*rig
	mu    sync.Mutex
	now   time.Time
	store dhcpd.Store
	svc   *dhcpd.Service
}

func newGuarded(t testing.TB, store dhcpd.Store) *guarded {
	t.Helper()
	g := &guarded{now: time.Unix(1_700_000_000, 0), store: store}
	if store == nil {
		g.store = dhcpd.MemoryStore()
	}
	var err error
	if g.svc, err = dhcpd.NewService(dhcpd.Config{Store: g.store, Clock: g.clock}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- g.svc.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	g.rig = newRig(t, Config{DHCP: g.svc, Clock: g.clock})
	return g
}

func (g *guarded) clock() time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.now
}

// pass lets time pass, and what happens with it.
func (g *guarded) pass(d time.Duration) {
	g.mu.Lock()
	g.now = g.now.Add(d)
	g.mu.Unlock()
	g.v.now.Store(uint32(g.v.since() / time.Second))
	for _, s := range g.v.Segments() {
		s.maintain(context.Background())
	}
}

// answer is the next frame that comes to a port, once there is one: a lease takes
// as long as the store does.
func (g *guarded) answer(port string) []byte {
	g.t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Microsecond) {
		g.turn()
		if all := g.outs(); len(all) > 0 {
			if all[0].where != port {
				g.t.Fatalf("the answer went to %s, not to %s", all[0].where, port)
			}
			return all[0].bytes
		}
	}
	g.t.Fatalf("no answer to %s", port)
	return nil
}

// lease4 has a guest get an address.
func (g *guarded) lease4(port string, c *dhcpdtest.Client) netip.Addr {
	g.t.Helper()
	msg := c.Discover()
	for msg != nil {
		g.send2(port, broadcastBOOTP(g.t, fdb.MACOf(c.MAC), msg))
		p := gopacket.NewPacket(g.answer(port), layers.LayerTypeEthernet, gopacket.Default)
		next, err := c.Receive(p.Layer(layers.LayerTypeUDP).LayerPayload())
		if err != nil {
			g.t.Fatal(err)
		}
		msg = next
	}
	return c.IP
}

// send2 has a guest send a frame whose answer may be there at once or later.
func (g *guarded) send2(port string, b []byte) {
	g.t.Helper()
	if !g.taps.Device(port).Send(b) {
		g.t.Fatalf("%s takes no frame", port)
	}
}

// lease6 has a guest get an address and a prefix, from its link-local address.
func (g *guarded) lease6(port string, c *dhcpdtest.Client6) {
	g.t.Helper()
	m := fdb.MACOf(c.MAC)
	msg := c.Solicit()
	for msg != nil {
		g.send2(port, dhcp6(g.t, multicastMAC(allDHCPRelays), m, linkLocal(m), allDHCPRelays, msg))
		p := gopacket.NewPacket(g.answer(port), layers.LayerTypeEthernet, gopacket.Default)
		u := p.Layer(layers.LayerTypeUDP)
		if u == nil {
			g.t.Fatalf("%v", p)
		}
		next, err := c.Receive(u.LayerPayload())
		if err != nil {
			g.t.Fatal(err)
		}
		msg = next
	}
}

// probe6 is duplicate address detection.
func probe6(t testing.TB, src fdb.MAC, a netip.Addr) []byte {
	return solicit(t, multicastMAC(solicitedNode(a)), src, netip.IPv6Unspecified(), solicitedNode(a), a, false)
}

// claim has a guest come to have a link-local address.
func (g *guarded) claim(port string, m fdb.MAC, a netip.Addr) {
	g.t.Helper()
	g.fromPort(port, probe6(g.t, m, a))
	g.pass(time.Second)
}

func tcp(t testing.TB, dst, src fdb.MAC, from, to netip.Addr) []byte {
	if from.Is4() {
		return build(t, ethernet(dst, src, layers.EthernetTypeIPv4), ipv4(from, to, layers.IPProtocolTCP), &layers.TCP{SrcPort: 1, DstPort: 2})
	}
	return build(t, ethernet(dst, src, layers.EthernetTypeIPv6), ipv6(from, to, 64, layers.IPProtocolTCP), &layers.TCP{SrcPort: 1, DstPort: 2})
}

// bothFamilies has DHCP of both families, and prefixes.
func bothFamilies() SegmentConfig {
	six := dhcp6Config()
	six.Server.Delegations = []dhcpd.Delegation{{Prefix: netip.MustParsePrefix("2001:db8:200::/48"), Length: 56}}
	return SegmentConfig{VNI: 100, Peers: []netip.Addr{peer2}, DHCP: dhcpConfig(9), DHCP6: six}
}

func TestABoundPortSendsWhatItsLeasesSayAndNothingElse(t *testing.T) {
	g := newGuarded(t, nil)
	s := g.segment(bothFamilies(), "b")
	g.attach(s, PortConfig{Name: "a", Bind: BindLease})
	me, other := mac(1), mac(2)
	c6 := &dhcpdtest.Client6{MAC: hw(me), NA: []uint32{1}, PD: []uint32{2}}
	guest := ip("192.168.100.10")
	expect(t, "TCP without a lease", g.fromPort("a", tcp(t, other, me, guest, server)), "")
	expect(t, "TCP from the link-local address that nobody claimed", g.fromPort("a", tcp(t, other, me, linkLocal(me), guest6)), "@10.9.0.2 (changed) b (changed)") // it is asked about

	if got := g.lease4("a", &dhcpdtest.Client{MAC: hw(me)}); got != guest {
		t.Fatalf("leased %s", got)
	}
	g.lease6("a", c6)
	var address, prefix netip.Prefix
	for _, l := range c6.Leases {
		if l.Prefix.Bits() == 128 {
			address = l.Prefix
		} else {
			prefix = l.Prefix
		}
	}
	inside := prefix.Addr().Next()
	learned := g.fromPort("a", tcp(t, other, me, guest, server))
	if s := g.v.Segments()[0].FDB(); !slices.ContainsFunc(s, func(e FDBEntry) bool { return e.MAC == me && e.Port == "a" }) {
		t.Errorf("the guest was not learned: %+v", s)
	}
	const everybody = "@10.9.0.2 b"
	expect(t, "TCP", learned, everybody)
	for _, c := range []struct {
		what string
		b    []byte
		want string
	}{
		{"from the prefix", tcp(t, other, me, inside, guest6), everybody},
		{"from beside the prefix", tcp(t, other, me, prefix.Addr().Prev(), guest6), ""},
		{"IPv6", tcp(t, other, me, address.Addr(), guest6), everybody},
		{"IPv6 from another", tcp(t, other, me, address.Addr().Next(), guest6), ""},
		{"from another's MAC", tcp(t, me, other, guest, server), ""},
		{"from another address", tcp(t, other, me, ip("192.168.100.11"), server), ""},
		{"with a tag", vlan(tcp(t, other, me, ip("192.168.100.11"), server)), ""},
		{"with a tag, from the leased address", vlan(tcp(t, other, me, guest, server)), everybody},
		{"an ARP announcement", arpFor(t, fdb.Broadcast, me, guest, guest), everybody},
		{"another's ARP announcement", arpFor(t, fdb.Broadcast, me, ip("192.168.100.1"), ip("192.168.100.1")), ""},
		{"another kind of frame", eth(other, me), ""},
		{"NS for a neighbour", solicit(t, multicastMAC(solicitedNode(guest6)), me, address.Addr(), solicitedNode(guest6), guest6, true), everybody},
		{"DAD for its own", probe6(t, me, address.Addr()), everybody},
		{"DAD for another's", probe6(t, me, address.Addr().Next()), ""},
	} {
		expect(t, c.what, g.fromPort("a", c.b), c.want)
	}
	st := g.v.Segments()[0].Ports()
	if a := st[1]; a.Bind != BindLease || a.Bindings != 4 || // and its link-local address
		a.Trusted || st[0].Bind != BindNone || st[0].Trusted {
		t.Errorf("ports: %+v", st)
	}
	if d := g.dropped(); strings.Count(d, "spoofed") != strings.Count(d, "@") {
		t.Errorf("drops: %s", d)
	}
}

func TestABindingEndsWithItsLease(t *testing.T) {
	g := newGuarded(t, nil)
	s := g.segment(bothFamilies(), "b")
	g.attach(s, PortConfig{Name: "a", Bind: BindLease})
	g.attach(s, PortConfig{Name: "c", Bind: BindLease})
	c := &dhcpdtest.Client{MAC: hw(mac(1))}
	guest := g.lease4("a", c)
	sent := tcp(t, mac(9), mac(1), guest, server)
	const from = "@10.9.0.2 b c"
	expect(t, "bound", g.fromPort("a", sent), from)
	expect(t, "at another port", g.fromPort("c", sent), "")
	// The client moves, asks anew, and has its address there and no longer here.
	g.lease4("c", c)
	expect(t, "moved", g.fromPort("c", sent), "@10.9.0.2 a b")
	expect(t, "at its former port", g.fromPort("a", sent), "")
	g.pass(13 * time.Hour)
	s.DHCP().Stats() // has what has run out end
	expect(t, "run out", g.fromPort("c", sent), "")
	g.lease4("c", c)
	expect(t, "leased again", g.fromPort("c", sent), "@10.9.0.2 a b")
	if err := s.DHCP().Release(guest); err != nil {
		t.Fatal(err)
	}
	expect(t, "taken back", g.fromPort("c", sent), "")
}

func TestBindingsComeBackFromTheLeaseStoreBeforeThePortCarriesFrames(t *testing.T) {
	first := newGuarded(t, nil)
	s := first.segment(bothFamilies(), "b")
	first.attach(s, PortConfig{Name: "a", Bind: BindLease})
	guest := first.lease4("a", &dhcpdtest.Client{MAC: hw(mac(1))})
	again := newGuarded(t, first.store)
	s = again.segment(bothFamilies(), "b")
	again.attach(s, PortConfig{Name: "a", Bind: BindLease})
	expect(t, "after the restart", again.fromPort("a", tcp(t, mac(9), mac(1), guest, server)), "@10.9.0.2 b")
	expect(t, "another, after the restart", again.fromPort("a", tcp(t, mac(9), mac(2), guest, server)), "")
}

func TestAStaticBindingNeedsNoLeaseAndLetsNobodyAsk(t *testing.T) {
	g := newGuarded(t, nil)
	s := g.segment(bothFamilies(), "b")
	mine := []Address{{mac(1), netip.MustParsePrefix("192.168.100.77/32")}, {mac(1), netip.MustParsePrefix("fe80::77/128")}}
	g.attach(s, PortConfig{Name: "a", Bind: BindStatic, Addresses: mine})
	expect(t, "its address", g.fromPort("a", tcp(t, mac(9), mac(1), ip("192.168.100.77"), server)), "@10.9.0.2 b")
	expect(t, "its link-local address", g.fromPort("a", tcp(t, mac(9), mac(1), guest6, server6)), "@10.9.0.2 b")
	expect(t, "the link-local address of its MAC", g.fromPort("a", tcp(t, mac(9), mac(1), linkLocal(mac(1)), server6)), "@10.9.0.2 b")
	expect(t, "another address", g.fromPort("a", tcp(t, mac(9), mac(1), ip("192.168.100.78"), server)), "")
	g.send2("a", broadcastBOOTP(t, mac(1), (&dhcpdtest.Client{MAC: hw(mac(1))}).Discover()))
	g.answer("a") // who is bound may have a lease as well, but does not send from it
	expect(t, "a stranger asks", g.fromPort("a", broadcastBOOTP(t, mac(2), (&dhcpdtest.Client{MAC: hw(mac(2))}).Discover())), "")
	expect(t, "a stranger claims", g.fromPort("a", probe6(t, mac(2), linkLocal(mac(2)))), "")
}

func TestABindingChangesWhileThePortCarriesFrames(t *testing.T) {
	g := newGuarded(t, nil)
	s := g.segment(bothFamilies(), "a", "b")
	guest := g.lease4("a", &dhcpdtest.Client{MAC: hw(mac(1))})
	leased, forged := tcp(t, mac(9), mac(1), guest, server), tcp(t, mac(9), mac(1), ip("192.168.100.99"), server)
	set := func(cfg PortConfig) {
		t.Helper()
		cfg.Name = "a"
		if err := s.SetLimits(cfg); err != nil {
			t.Fatal(err)
		}
	}
	check := func(what, first, second string) {
		t.Helper()
		expect(t, what+", leased", g.fromPort("a", leased), first)
		expect(t, what+", forged", g.fromPort("a", forged), second)
	}
	const all = "@10.9.0.2 b"
	check("not bound", all, all)
	set(PortConfig{Bind: BindLease})
	check("bound to leases", all, "")
	set(PortConfig{Bind: BindLease, Addresses: []Address{{mac(1), netip.MustParsePrefix("192.168.100.99/32")}}})
	check("and to addresses", all, all)
	set(PortConfig{Bind: BindStatic, Addresses: []Address{{mac(1), netip.MustParsePrefix("192.168.100.99/32")}}})
	check("bound to addresses", "", all)
	set(PortConfig{Bind: BindLease})
	check("bound to leases again", all, "")
	set(PortConfig{})
	check("not bound again", all, all)
	if s.keeper != nil || s.view.Load().keeper != nil {
		t.Error("what was bound is still kept")
	}
	if err := s.SetLimits(PortConfig{Name: "a", Bind: BindStatic, Addresses: []Address{{0, netip.Prefix{}}}}); err == nil {
		t.Error("a binding of nobody was taken")
	}
}

func TestWhatOtherServersLeaseIsOverheard(t *testing.T) {
	g := newGuarded(t, nil)
	s := g.segment(SegmentConfig{VNI: 100, Peers: []netip.Addr{peer2}}, "server")
	g.attach(s, PortConfig{Name: "a", Bind: BindLease})
	g.attach(s, PortConfig{Name: "c", Bind: BindLease})
	svc, err := dhcpd.NewService(dhcpd.Config{Store: dhcpd.MemoryStore(), Clock: g.clock})
	if err != nil {
		t.Fatal(err)
	}
	cfg := dhcpConfig(9).Server
	cfg.Lease = time.Hour
	cfg.RapidCommit = false
	srv, err := svc.Add(100, cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go svc.Run(ctx)
	ask := func(c *dhcpdtest.Client, msg []byte) []byte {
		t.Helper()
		replies := make(chan []byte, 1)
		srv.Serve(&dhcpd.Request{Payload: msg, Src: netip.IPv4Unspecified(), Dst: broadcast4, SrcMAC: [6]byte(c.MAC)}, func(r dhcpd.Reply) {
			replies <- append([]byte{}, r.Payload...)
		})
		return <-replies
	}
	reply := func(to fdb.MAC, msg []byte) []byte {
		return build(t, ethernet(to, mac(7), layers.EthernetTypeIPv4), ipv4(server, broadcast4, layers.IPProtocolUDP),
			&layers.UDP{SrcPort: 67, DstPort: 68}, gopacket.Payload(msg))
	}
	// dora has a guest get a lease of a server behind a peer or a port.
	dora := func(port string, c *dhcpdtest.Client, peer bool) {
		t.Helper()
		for msg := c.Discover(); msg != nil; {
			if got := g.fromPort(port, broadcastBOOTP(t, fdb.MACOf(c.MAC), msg)); !strings.Contains(got, "@10.9.0.2") {
				t.Fatalf("a request went to %q", got)
			}
			m := ask(c, msg)
			if peer {
				g.fromPeer(peer2, 100, reply(fdb.Broadcast, m))
			} else {
				g.fromPort("server", reply(fdb.Broadcast, m))
			}
			var err error
			if msg, err = c.Receive(m); err != nil {
				t.Fatal(err)
			}
		}
	}
	one, two := &dhcpdtest.Client{MAC: hw(mac(1))}, &dhcpdtest.Client{MAC: hw(mac(2))}
	dora("a", one, true)
	dora("c", two, false)
	sends := func(what, port string, c *dhcpdtest.Client, may bool) {
		t.Helper()
		if got := g.fromPort(port, tcp(t, mac(9), fdb.MACOf(c.MAC), c.IP, server)); (got != "") != may {
			t.Errorf("%s: went to %q", what, got)
		}
	}
	sends("leased behind a peer", "a", one, true)
	sends("leased behind a port", "c", two, true)
	sends("another port's", "c", one, false)
	if n := s.Ports()[1].Bindings; n != 1 {
		t.Errorf("%d bindings", n)
	}
	// A bound port is no server, whoever it says it is.
	forged := edit4(t, ask(one, one.Rebind()), "192.168.100.99")
	g.fromPort("a", broadcastBOOTP(t, mac(1), one.Rebind()))
	g.fromPort("c", reply(fdb.Broadcast, forged))
	expect(t, "what a bound port leased", g.fromPort("a", tcp(t, mac(9), mac(1), ip("192.168.100.99"), server)), "")
	// Nobody is bound by the answer to what another port asked, though he asks the same.
	three := &dhcpdtest.Client{MAC: hw(mac(3))}
	msg := three.Discover()
	g.fromPort("a", broadcastBOOTP(t, mac(3), msg))
	g.pass(10 * time.Millisecond)
	g.fromPort("c", broadcastBOOTP(t, mac(3), msg))
	msg, err = three.Receive(ask(three, msg))
	if err != nil {
		t.Fatal(err)
	}
	g.fromPort("c", broadcastBOOTP(t, mac(3), msg))
	m := ask(three, msg)
	three.Receive(m)
	g.fromPeer(peer2, 100, reply(fdb.Broadcast, m))
	sends("who asked first", "a", three, true)
	sends("who asked the same", "c", three, false)

	g.fromPort("a", bootp(t, mac(7), mac(1), one.IP, server, one.Release()))
	sends("released", "a", one, false)
	g.pass(59 * time.Minute)
	sends("before the lease ends", "c", two, true)
	g.pass(2 * time.Minute)
	sends("after it", "c", two, false)
}

// edit4 is a reply that gives another address.
func edit4(t testing.TB, msg []byte, to string) []byte {
	t.Helper()
	b := slices.Clone(msg)
	a := ip(to).As4()
	copy(b[16:], a[:])
	return b
}

func TestWhatOtherServersLeaseOfIPv6IsOverheard(t *testing.T) {
	g := newGuarded(t, nil)
	s := g.segment(SegmentConfig{VNI: 100, Peers: []netip.Addr{peer2}}, "b")
	g.attach(s, PortConfig{Name: "a", Bind: BindLease})
	me := mac(1)
	g.claim("a", me, linkLocal(me))
	svc, err := dhcpd.NewService(dhcpd.Config{Store: dhcpd.MemoryStore(), Clock: g.clock})
	if err != nil {
		t.Fatal(err)
	}
	srv, err := svc.Add6(100, bothFamilies().DHCP6.Server)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go svc.Run(ctx)
	c := &dhcpdtest.Client6{MAC: hw(me), NA: []uint32{1}, PD: []uint32{2}}
	ask := func(msg []byte) {
		t.Helper()
		for msg != nil {
			g.fromPort("a", dhcp6(t, multicastMAC(allDHCPRelays), me, linkLocal(me), allDHCPRelays, msg))
			replies := make(chan []byte, 1)
			srv.Serve(&dhcpd.Request{Payload: msg, Src: linkLocal(me), Dst: allDHCPRelays, SrcMAC: me.Bytes()}, func(r dhcpd.Reply) {
				replies <- append([]byte{}, r.Payload...)
			})
			m := <-replies
			g.fromPeer(peer2, 100, build(t, ethernet(me, mac(7), layers.EthernetTypeIPv6), ipv6(ip("fe80::7"), linkLocal(me), 64, layers.IPProtocolUDP),
				&layers.UDP{SrcPort: 547, DstPort: 546}, gopacket.Payload(m)))
			if msg, err = c.Receive(m); err != nil {
				t.Fatal(err)
			}
		}
	}
	ask(c.Solicit())
	leases := slices.Clone(c.Leases)
	if len(leases) != 2 {
		t.Fatalf("leased %v", leases)
	}
	for _, l := range leases {
		expect(t, l.Prefix.String(), g.fromPort("a", tcp(t, mac(9), me, l.Prefix.Addr(), server6)), "@10.9.0.2 b")
	}
	ask(c.Release())
	for _, l := range leases {
		expect(t, l.Prefix.String()+", released", g.fromPort("a", tcp(t, mac(9), me, l.Prefix.Addr(), server6)), "")
	}
}

func TestALinkLocalAddressIsHisWhoComesFirst(t *testing.T) {
	g := newGuarded(t, nil)
	s := g.segment(bothFamilies(), "b")
	g.attach(s, PortConfig{Name: "a", Bind: BindLease})
	g.attach(s, PortConfig{Name: "c", Bind: BindLease})
	private := ip("fe80::abcd:1")
	sends := func(what, port string, m fdb.MAC, a netip.Addr, may bool) {
		t.Helper()
		got := g.fromPort(port, tcp(t, mac(9), m, a, guest6))
		if ok := strings.Contains(got, "b") && !strings.Contains(got, "changed"); ok != may {
			t.Errorf("%s: went to %q", what, got)
		}
		g.outs()
	}
	expect(t, "DAD", g.fromPort("a", probe6(t, mac(1), private)), "@10.9.0.2 b c")
	if n := len(s.FDB()); n != 1 { // the service's
		t.Errorf("who only asks was learned: %+v", s.FDB())
	}
	sends("at once", "a", mac(1), private, false)
	g.pass(time.Second)
	sends("a second later", "a", mac(1), private, true)
	sends("another of its own, unasked", "a", mac(1), ip("fe80::abcd:2"), false)
	// Others may neither have it nor say that they do.
	expect(t, "another's DAD", g.fromPort("c", probe6(t, mac(2), private)), "")
	expect(t, "with its MAC", g.fromPort("c", probe6(t, mac(1), ip("fe80::abcd:3"))), "")
	g.pass(2 * time.Second)
	sends("another", "c", mac(2), private, false)
	sends("another with its MAC", "c", mac(1), ip("fe80::abcd:3"), false)

	// A router's address is never a guest's.
	router := ip("fe80::1")
	ra := icmp6(t, multicastMAC(allNodes), mac(7), ipv6(router, allNodes, 255, layers.IPProtocolICMPv6), 134,
		&layers.ICMPv6RouterAdvertisement{HopLimit: 64, RouterLifetime: 1800})
	g.fromPeer(peer2, 100, ra)
	expect(t, "DAD for a router's address", g.fromPort("a", probe6(t, mac(1), router)), "")

	// A defence ends a claim that does not count yet, wherever it comes from.
	for i, from := range []func(b []byte){
		func(b []byte) { g.fromPeer(peer2, 100, b) },
		func(b []byte) { g.fromPort("b", b) },
	} {
		taken := netip.AddrFrom16([16]byte{0xfe, 0x80, 15: byte(0x50 + i)})
		g.fromPort("c", probe6(t, mac(2), taken))
		from(icmp6(t, multicastMAC(allNodes), mac(5), ipv6(taken, allNodes, 255, layers.IPProtocolICMPv6), 136,
			&layers.ICMPv6NeighborAdvertisement{Flags: 0x20, TargetAddress: taken.AsSlice(), Options: layers.ICMPv6Options{{Type: layers.ICMPv6OptTargetAddress, Data: hw(mac(5))}}}))
		g.pass(2 * time.Second)
		sends("an address that was defended", "c", mac(2), taken, false)
	}
}

func TestAStationThatMovesTakesItsLinkLocalAddressWithItUnlessItIsStillThere(t *testing.T) {
	g := newGuarded(t, nil)
	s := g.segment(bothFamilies(), "b")
	g.attach(s, PortConfig{Name: "a", Bind: BindLease})
	g.attach(s, PortConfig{Name: "c", Bind: BindLease})
	a := linkLocal(mac(1))
	defence := icmp6(t, multicastMAC(allNodes), mac(1), ipv6(a, allNodes, 255, layers.IPProtocolICMPv6), 136,
		&layers.ICMPv6NeighborAdvertisement{Flags: 0x20, TargetAddress: a.AsSlice(), Options: layers.ICMPv6Options{{Type: layers.ICMPv6OptTargetAddress, Data: hw(mac(1))}}})
	g.claim("a", mac(1), a)
	sent := tcp(t, mac(9), mac(1), a, guest6)
	expect(t, "claimed", g.fromPort("a", sent), "@10.9.0.2 b c")
	expect(t, "somebody with its MAC asks", g.fromPort("c", probe6(t, mac(1), a)), "@10.9.0.2 a a b") // who had it is asked once more
	expect(t, "it is still there", g.fromPort("a", defence), "@10.9.0.2 b c")
	g.pass(2 * time.Second)
	expect(t, "an impostor has it asked for", g.fromPort("c", sent), "@10.9.0.2 (changed) a (changed) a (changed) b (changed)")
	g.pass(2 * time.Second)
	g.fromPort("a", defence)
	g.pass(2 * time.Second)
	expect(t, "and stays", g.fromPort("a", sent), "@10.9.0.2 b c")
	g.claim("c", mac(1), a)
	expect(t, "moved", g.fromPort("c", sent), "@10.9.0.2 a b")
	if got := g.fromPort("a", sent); strings.Contains(got, " b") && !strings.Contains(got, "changed") {
		t.Errorf("at its former place it went to %q", got)
	}
}

func TestClaimsOfAPortAreBounded(t *testing.T) {
	g := newGuarded(t, nil)
	s := g.segment(bothFamilies(), "b")
	g.attach(s, PortConfig{Name: "a", Bind: BindLease})
	for i := range 500 {
		g.fromPort("a", probe6(t, mac(100+i), linkLocal(mac(100+i))))
		g.fromPort("a", probe6(t, mac(1), linkLocal(mac(1000+i))))
		if i%40 == 0 {
			g.pass(time.Second)
		}
	}
	if n := s.Ports()[1].Bindings; n > claimsAPort+claimsAMAC {
		t.Errorf("%d bindings of one port", n)
	}
}

func TestServersAndRoutersSpeakAtTrustedPortsOnly(t *testing.T) {
	offer := func(src fdb.MAC) []byte {
		return build(t, ethernet(fdb.Broadcast, src, layers.EthernetTypeIPv4), ipv4(ip("192.168.100.66"), broadcast4, layers.IPProtocolUDP),
			&layers.UDP{SrcPort: 67, DstPort: 68}, gopacket.Payload("\x02\x01\x06\x00"))
	}
	advertise := build(t, ethernet(mac(9), mac(1), layers.EthernetTypeIPv6), ipv6(guest6, guest6, 1, layers.IPProtocolUDP),
		&layers.UDP{SrcPort: 547, DstPort: 546}, gopacket.Payload([]byte{byte(dhcpv6.MessageTypeAdvertise), 1, 2, 3}))
	ra := icmp6(t, multicastMAC(allNodes), mac(1), ipv6(guest6, allNodes, 255, layers.IPProtocolICMPv6), 134, &layers.ICMPv6RouterAdvertisement{RouterLifetime: 9})
	for _, c := range []struct {
		name    string
		seg     SegmentConfig
		port    PortConfig
		trusted bool
	}{
		{"no service", SegmentConfig{}, PortConfig{}, true},
		{"no service, not trusted", SegmentConfig{}, PortConfig{Trust: Untrusted}, false},
		{"DHCP", SegmentConfig{DHCP: dhcpConfig(9)}, PortConfig{}, false},
		{"DHCPv6", SegmentConfig{DHCP6: dhcp6Config()}, PortConfig{}, false},
		{"advertisements", SegmentConfig{RA: &RAConfig{}}, PortConfig{}, false},
		{"protected MACs", SegmentConfig{ProtectedMACs: []fdb.MAC{mac(66)}}, PortConfig{}, false},
		{"DHCP, trusted", SegmentConfig{DHCP: dhcpConfig(9)}, PortConfig{Trust: Trusted}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, Config{})
			c.seg.VNI, c.seg.Peers = 100, []netip.Addr{peer2}
			s := r.segment(c.seg, "b")
			c.port.Name = "a"
			r.attach(s, c.port)
			want := ""
			if c.trusted {
				want = "@10.9.0.2 b"
			}
			expect(t, "an OFFER", r.fromPort("a", offer(mac(1))), want)
			expect(t, "an OFFER with tags", r.fromPort("a", vlan(vlan(offer(mac(1))))), want)
			expect(t, "an ADVERTISE", r.fromPort("a", advertise), want)
			expect(t, "an advertisement", r.fromPort("a", ra), want)
			expect(t, "an OFFER through the tunnel", r.fromPeer(peer2, 100, offer(mac(7))), "a b")
			expect(t, "an advertisement through the tunnel", r.fromPeer(peer2, 100, ra), "a b")
			if st := s.Ports()[1]; st.Trusted != c.trusted {
				t.Errorf("trusted: %t", st.Trusted)
			}
		})
	}
}

func TestAChangeOfTheSegmentChangesWhichPortsAreTrusted(t *testing.T) {
	r := newRig(t, Config{})
	s := r.segment(SegmentConfig{VNI: 100}, "a", "b")
	ra := icmp6(t, multicastMAC(allNodes), mac(1), ipv6(guest6, allNodes, 255, layers.IPProtocolICMPv6), 134, &layers.ICMPv6RouterAdvertisement{RouterLifetime: 9})
	for _, c := range []struct {
		cfg  SegmentConfig
		want string
	}{
		{SegmentConfig{VNI: 100}, "b"}, {SegmentConfig{VNI: 100, RA: &RAConfig{}}, ""}, {SegmentConfig{VNI: 100}, "b"},
		{SegmentConfig{VNI: 100, ProtectedMACs: []fdb.MAC{mac(5)}}, ""}, {SegmentConfig{VNI: 100}, "b"},
	} {
		if err := s.Reconfigure(c.cfg); err != nil {
			t.Fatal(err)
		}
		expect(t, "an advertisement", r.fromPort("a", ra), c.want)
	}
}

func TestAProtectedMACSendsFromTrustedPortsAndTheTunnelOnly(t *testing.T) {
	r := newRig(t, Config{})
	s := r.segment(SegmentConfig{VNI: 100, Peers: []netip.Addr{peer2}, ProtectedMACs: []fdb.MAC{mac(66), mac(65)}}, "a")
	r.attach(s, PortConfig{Name: "gateway", Trust: Trusted})
	expect(t, "the gateway's", r.fromPort("gateway", eth(mac(1), mac(66))), "@10.9.0.2 a")
	expect(t, "a guest's", r.fromPort("a", eth(mac(66), mac(1))), "gateway")
	expect(t, "a guest in the gateway's name", r.fromPort("a", eth(mac(9), mac(66))), "")
	expect(t, "and in the other's", r.fromPort("a", eth(mac(9), mac(65))), "")
	expect(t, "to the gateway, still", r.fromPort("a", eth(mac(66), mac(1))), "gateway")
	expect(t, "through the tunnel", r.fromPeer(peer2, 100, eth(mac(1), mac(65))), "a")
	if d := r.dropped(); d != "protected_source@100 protected_source@100" {
		t.Errorf("drops: %s", d)
	}
	if err := s.Reconfigure(SegmentConfig{VNI: 100, ProtectedMACs: []fdb.MAC{fdb.Broadcast}}); err == nil {
		t.Error("a group is protected")
	}
}

// Whatever is sent from a bound port, what leaves the VTEP is from it, or the
// VTEP's own.
func TestOfForgedFramesNoneIsDelivered(t *testing.T) {
	g := newGuarded(t, nil)
	s := g.segment(bothFamilies(), "b")
	g.attach(s, PortConfig{Name: "isolated", Isolated: true})
	w := guardtest.NewForger(7, true)
	var bound []Address
	for _, p := range w.Bound {
		bound = append(bound, Address{fdb.MACOf(p.MAC), p.IP})
	}
	g.attach(s, PortConfig{Name: "a", Bind: BindLease, Addresses: bound, Isolated: true})
	own := hw(serviceMAC(self, 100))
	const n = 100_000
	sent, forged, delivered, passed := 0, 0, 0, 0
	for ; forged < n; sent++ {
		b := w.Frame()
		answer, rogue := w.Judge(b), guardtest.Rogue(b)
		legitimate := (answer == guardtest.Bound || answer == guardtest.Asks || answer == guardtest.Claims) && !rogue
		if !legitimate {
			forged++
		}
		for _, o := range g.send("a", b) {
			switch eth := gopacket.NewPacket(o.bytes, layers.LayerTypeEthernet, gopacket.Lazy).LinkLayer().LinkFlow().Src(); {
			case o.where == "isolated":
				t.Fatalf("%x came to a port that is isolated from it", b)
			case eth.String() == own.String() || isProbe6(o.bytes, b):
				// An answer, or the question whether somebody else has an address.
			case legitimate:
				passed++
			default:
				delivered++
				t.Errorf("%x was delivered to %s as %x", b, o.where, o.bytes)
			}
		}
		if delivered > 5 {
			t.FailNow()
		}
	}
	t.Logf("%d of %d frames were forged, %d of those delivered; %d deliveries of the others", forged, sent, delivered, passed)
	if passed < n/100 {
		t.Errorf("%d frames that were not forged came through: too few to say anything", passed)
	}
	if st := s.FDB(); slices.ContainsFunc(st, func(e FDBEntry) bool {
		return e.Port == "a" && e.MAC != mac(1) && e.MAC != mac(2) && e.MAC != mac(3) && e.MAC != mac(4)
	}) {
		t.Errorf("learned: %+v", st)
	}
}

// isProbe6 reports whether a frame is the VTEP's question about the address that
// another frame claims.
func isProbe6(b, claims []byte) bool {
	var f frame.Frame
	f.Attach(make([]byte, frame.Headroom+4096))
	return f.Load(claims) && f.Parse() && f.Info.EtherType == frame.TypeIPv6 && f.Info.L3 != 0 && slices.Equal(b, composeProbe6(&f))
}

// FuzzWhatABoundPortSends holds the way through the switch against the oracle.
func FuzzWhatABoundPortSends(f *testing.F) {
	w := guardtest.NewForger(8, true)
	for range 100 {
		f.Add(w.Frame())
	}
	g := newGuarded(f, nil)
	s := g.segment(SegmentConfig{VNI: 100}, "b")
	var bound []Address
	for _, p := range w.Bound {
		bound = append(bound, Address{fdb.MACOf(p.MAC), p.IP})
	}
	g.attach(s, PortConfig{Name: "a", Bind: BindStatic, Addresses: bound})
	w.Open = false
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == 0 || len(b) > 4096 {
			return
		}
		g.t = t
		for _, o := range g.send("a", b) {
			if slices.Equal(o.bytes, b) && (guardtest.Rogue(b) || w.Judge(b) != guardtest.Bound && w.Judge(b) != guardtest.Claims && w.Judge(b) != guardtest.Tries) {
				t.Errorf("%x went to %s", b, o.where)
			}
		}
	})
}
