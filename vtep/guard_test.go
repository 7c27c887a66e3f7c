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

	"github.com/uvtep/uvtep/dhcpd"
	"github.com/uvtep/uvtep/dhcpd/dhcpdtest"
	"github.com/uvtep/uvtep/fdb"
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
