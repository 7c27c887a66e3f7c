package dhcpd_test

import (
	"errors"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/uvtep/uvtep/dhcpd"
	"github.com/uvtep/uvtep/dhcpd/dhcpdtest"
)

// Which client gets which address.

// reserved adds reservations.
func reserved(hosts ...dhcpd.Reservation) func(*dhcpd.SegmentConfig) {
	return func(c *dhcpd.SegmentConfig) { c.Hosts = append(c.Hosts, hosts...) }
}

func TestThePoolGivesEachClientItsOwnAddressUntilItIsEmpty(t *testing.T) {
	w := newWorld(t, pool(3))
	for i := range 3 {
		c := client(i)
		if w.bind(c); c.IP != addr(10+i) {
			t.Errorf("client %d got %s, want %s", i, c.IP, addr(10+i))
		}
	}
	late := client(9)
	w.silent(dhcpd.NoLease, late.Discover(), from{})
	w.silent(dhcpd.NoLease, late.Discover(), from{})
	if n := count(w.kinds(), dhcpd.EventExhausted); n != 1 {
		t.Errorf("the empty pool was told %d times, want once", n)
	}
	if s := w.srv.Stats(); s.Pool != 3 || s.Used != 3 || s.Bound != 3 {
		t.Errorf("stats %+v", s)
	}
	if err := w.srv.Release(addr(11)); err != nil {
		t.Fatal(err)
	}
	if w.bind(late); late.IP != addr(11) {
		t.Errorf("the late client got %s, want %s", late.IP, addr(11))
	}
}

func count[T comparable](all []T, v T) (n int) {
	for _, x := range all {
		if x == v {
			n++
		}
	}
	return n
}

func TestThePoolNeverGivesOutTheNetworksOwnAddresses(t *testing.T) {
	w := newWorld(t, func(c *dhcpd.SegmentConfig) {
		c.Subnet = netip.MustParsePrefix("192.168.100.0/29")
		c.Ranges = []dhcpd.Range{{First: addr(0), Last: addr(7)}}
	}, reserved(dhcpd.Reservation{MAC: mac(1), IP: addr(4)}))
	// Of .0 to .7: the network, the gateway, the server, the reservation and
	// the broadcast address are not for the asking.
	var got []netip.Addr
	for i := 2; ; i++ {
		c := client(i)
		r := w.ask(c.Discover())
		if r == nil {
			break
		}
		got = append(got, r.yiaddr())
	}
	if want := []netip.Addr{addr(3), addr(5), addr(6)}; !slices.Equal(got, want) {
		t.Errorf("offered %v, want %v", got, want)
	}
	for _, ip := range []netip.Addr{addr(0), gatewayIP, serverIP, addr(4), addr(7)} {
		c := client(50)
		c.Offer = &dhcpv4.DHCPv4{YourIPAddr: ip.AsSlice(), Options: dhcpv4.OptionsFromList(dhcpv4.OptServerIdentifier(serverIP.AsSlice()))}
		w.must(nak, c.Request())
	}
}

func TestAnAddressSticksToItsClientWhileThePoolAllows(t *testing.T) {
	w := newWorld(t, pool(3))
	c, d := client(1), client(2)
	w.bind(c)
	w.clock.Advance(13 * time.Hour) // the lease is over
	if l, ok := w.srv.Lookup(addr(10)); ok || !w.happened(dhcpd.EventExpired) {
		t.Fatalf("lease %+v, events %v", l, w.kinds())
	}
	d.IP = addr(10) // asks for it, but there are others
	if w.bind(d); d.IP != addr(11) {
		t.Errorf("another client got %s, want %s, which nobody had", d.IP, addr(11))
	}
	c.IP = netip.Addr{} // forgot all about it
	if w.bind(c); c.IP != addr(10) {
		t.Errorf("the client got %s, want its former %s", c.IP, addr(10))
	}
}

func TestTheLongestUnusedAddressIsTheNextToBeGivenAway(t *testing.T) {
	w := newWorld(t, pool(3))
	clients := []*dhcpdtest.Client{client(1), client(2), client(3)}
	for _, c := range clients {
		w.bind(c)
	}
	var order []netip.Addr
	for _, i := range []int{1, 2, 0} {
		w.clock.Advance(time.Minute)
		order = append(order, clients[i].IP)
		w.ask(clients[i].Release())
	}
	check := func(w *world) {
		t.Helper()
		for i := range 3 {
			if r := w.must(offer, client(10+i).Discover()); r.yiaddr() != order[i] {
				t.Errorf("offered %s, want %s", r.yiaddr(), order[i])
			}
		}
	}
	check(newWorldOn(t, w.clock, w.store.Under, pool(3))) // over a restart, too
	check(w)
}

func TestAClientGetsTheAddressItAsksForIfItIsFree(t *testing.T) {
	w := newWorld(t)
	c := client(1)
	c.IP = addr(77)
	if w.bind(c); c.IP != addr(77) {
		t.Errorf("got %s, want %s", c.IP, addr(77))
	}
	d := client(2)
	d.IP = addr(77)
	if w.bind(d); d.IP != addr(10) {
		t.Errorf("got %s, want %s", d.IP, addr(10))
	}
	for _, ip := range []netip.Addr{netip.MustParseAddr("8.8.8.8"), addr(251), addr(255), serverIP} {
		e := client(3)
		e.IP = ip
		if w.bind(e); e.IP != addr(11) {
			t.Errorf("asked for %s, got %s, want %s", ip, e.IP, addr(11))
		}
	}
}

func TestAReservationByMACHoldsWhateverClientIDComesWithIt(t *testing.T) {
	w := newWorld(t, reserved(dhcpd.Reservation{MAC: mac(1), IP: addr(200), Hostname: "web1"}))
	c := client(1)
	c.Hostname = "liar"
	w.bind(c)
	// The boot ROM, the installer and the system each have an identifier of
	// their own; the address follows the machine.
	for _, id := range [][]byte{{0xff, 1}, {0xff, 2}, nil} {
		c.ClientID, c.IP = id, netip.Addr{}
		if _, r := w.bind(c); c.IP != addr(200) || string(r.opt[12]) != "web1" {
			t.Errorf("client id %x got %s, host name %q", id, c.IP, r.opt[12])
		}
	}
	if l, _ := w.srv.Lookup(addr(200)); l.Hostname != "web1" {
		t.Errorf("the lease's host name is %q, want the reservation's", l.Hostname)
	}
	if n := len(w.srv.Leases()); n != 1 {
		t.Errorf("%d leases, want 1", n)
	}
	// Nobody else gets it.
	d := client(2)
	d.IP = addr(200)
	if w.bind(d); d.IP == addr(200) {
		t.Error("a reserved address was given to a client that asked for it")
	}
}

func TestAReservationMadeLiveMovesItsClientAtTheNextRenewal(t *testing.T) {
	w := newWorld(t)
	c := client(1)
	w.bind(c)
	if err := w.srv.Reserve(dhcpd.Reservation{MAC: mac(1), IP: addr(240)}); err != nil {
		t.Fatal(err)
	}
	w.mustFrom(nak, c.Renew(), from{src: c.IP, dst: serverIP})
	former := c.IP
	c.IP = netip.Addr{}
	if w.bind(c); c.IP != addr(240) {
		t.Errorf("got %s, want %s", c.IP, addr(240))
	}
	// Who follows the events hears that the former address is free, too.
	if i := slices.IndexFunc(w.events, func(e dhcpd.Event) bool {
		return e.Kind == dhcpd.EventReleased && e.Lease.IP == former && e.Lease.CHAddr == string(mac(1)) && !e.Lease.Expires.After(e.Time)
	}); i < 0 {
		t.Errorf("no event says that %s is free: %+v", former, w.events)
	}
	// One client, one lease: the former address is gone from memory and disk.
	for name, srv := range map[string]*dhcpd.Server{"memory": w.srv, "disk": newWorldOn(t, w.clock, w.store.Under).srv} {
		if l := srv.Leases(); len(l) != 1 || l[0].IP != addr(240) {
			t.Errorf("%s has %+v", name, l)
		}
	}
	if err := w.srv.Unreserve(addr(240)); err != nil {
		t.Fatal(err)
	}
	if err := w.srv.Unreserve(addr(240)); !errors.Is(err, dhcpd.ErrNoLease) {
		t.Errorf("a second Unreserve: %v", err)
	}
}

func TestAReservedAddressOfAnotherClientIsFreedWhenItsLeaseEnds(t *testing.T) {
	w := newWorld(t)
	c, d := client(1), client(2)
	w.bind(c)
	if err := w.srv.Reserve(dhcpd.Reservation{MAC: mac(2), IP: c.IP}); err != nil {
		t.Fatal(err)
	}
	if w.bind(d); d.IP == c.IP || !w.happened(dhcpd.EventBlocked) {
		t.Fatalf("while its holder has it the owner got %s; events %v", d.IP, w.kinds())
	}
	was := c.IP
	w.mustFrom(nak, c.Renew(), from{src: c.IP, dst: serverIP})
	// The holder may not have heard; once it takes another address, it has.
	d.IP = netip.Addr{}
	if w.bind(d); d.IP == was {
		t.Fatalf("the owner got %s while another client believes to have it", d.IP)
	}
	c.IP = netip.Addr{}
	w.bind(c)
	d.IP = netip.Addr{}
	if w.bind(d); d.IP != was {
		t.Errorf("the owner got %s, want %s", d.IP, was)
	}
}

// There is no end to the VTEPs that a client can be seen behind.
func TestPlacesThatNobodyIsAtAnyLongerTakeNoMemory(t *testing.T) {
	const places = 100_000
	w := newWorld(t)
	c := client(1)
	w.bind(c)
	used := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := used()
	for i := range places {
		w.srv.Serve(&dhcpd.Request{
			Payload: c.Renew(), Src: c.IP, Dst: serverIP, SrcMAC: [6]byte(mac(1)),
			VTEP: netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}),
		}, func(dhcpd.Reply) {})
		w.svc.Commit()
		w.events = nil
	}
	if l, _ := w.srv.Lookup(c.IP); l.VTEP != netip.AddrFrom4([4]byte{10, 1, 0x86, 0x9f}) {
		t.Fatalf("the client was last seen behind %v", l.VTEP)
	}
	var grown int64
	for range 20 { // what is no longer used goes in the background
		if grown = int64(used() - before); grown < places*20 {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Errorf("%d bytes more", grown)
}

func TestARelaysSubnetInheritsNoOptions(t *testing.T) {
	w := newWorld(t, relayed, func(c *dhcpd.SegmentConfig) {
		c.Options = []dhcpd.Option{{Code: 42, Data: []byte{1, 1, 1, 1}}}
		c.Routes = []dhcpd.Route{{To: netip.MustParsePrefix("10.0.0.0/8"), Via: gatewayIP}}
	})
	c := client(1)
	c.GIAddr, c.Params = relayIP, []uint8{1, 3, 6, 15, 26, 42, 121}
	_, r := w.bindFrom(c, from{src: relayIP, dst: serverIP})
	if want := []byte{53, 54, 51, 58, 59, 1, 3}; !slices.Equal(r.order, want) {
		t.Errorf("options %v, want %v", r.order, want)
	}
	if !slices.Equal(r.opt[3], relayIP.AsSlice()) {
		t.Errorf("router %x", r.opt[3])
	}
}

func TestARelayedClientRenewsWithoutItsRelay(t *testing.T) {
	w := newWorld(t, relayed, func(c *dhcpd.SegmentConfig) {
		c.Classes = []dhcpd.Class{{Match: dhcpd.MatchCircuitID, Value: "p1", Options: []dhcpd.Option{{Code: 42, Data: []byte{9, 9, 9, 9}}}}}
	})
	c := client(1)
	c.Params = []uint8{42}
	c.GIAddr, c.Relay = relayIP, []byte("\x01\x02p1")
	w.bindFrom(c, from{src: relayIP, dst: serverIP})
	c.GIAddr, c.Relay = netip.Addr{}, nil
	r := w.mustFrom(ack, c.Renew(), from{src: c.IP, dst: serverIP})
	if r.opt[82] != nil || r.opt[42] == nil {
		t.Errorf("options %v: want those of the circuit, and no option 82", r.order)
	}
	if l, _ := w.srv.Lookup(c.IP); l.Relay != "\x01\x02p1" {
		t.Errorf("the lease's relay is %q after a renewal without it", l.Relay)
	}
}

func TestALinkThatTheRelayNamesDecidesTheSubnet(t *testing.T) {
	w := newWorld(t, relayed)
	c := client(1)
	c.GIAddr, c.Relay = addr(9), []byte{5, 4, 192, 168, 200, 0} // RFC 3527
	r := w.mustFrom(offer, c.Discover(), from{src: addr(9), dst: serverIP})
	if r.yiaddr() != netip.MustParseAddr("192.168.200.10") || r.Dst != addr(9) {
		t.Errorf("offered %s, sent to %s", r.yiaddr(), r.Dst)
	}
}

func TestARelayThatStandsInForTheServerIsNamedInItsPlace(t *testing.T) {
	w := newWorld(t, relayed)
	c := client(1)
	c.GIAddr, c.Relay = relayIP, []byte{11, 4, 192, 168, 200, 1} // RFC 5107
	at := from{src: relayIP, dst: serverIP}
	discover := func(b []byte) *reply {
		var r *reply
		w.srv.Serve(&dhcpd.Request{Payload: b, Src: relayIP, Dst: serverIP}, func(p dhcpd.Reply) {
			p.Payload = slices.Clone(p.Payload)
			r = &reply{Reply: p}
		})
		w.svc.Commit()
		return r
	}
	next := c.Discover()
	for range 2 {
		r := discover(next)
		m, err := dhcpv4.FromBytes(r.Payload)
		if err != nil || !m.ServerIdentifier().Equal(relayIP.AsSlice()) || r.Src != serverIP || r.Dst != relayIP {
			t.Fatalf("%v from %s to %s", m, r.Src, r.Dst)
		}
		if next, err = c.Receive(r.Payload); err != nil {
			t.Fatal(err)
		}
	}
	if c.State != dhcpdtest.Bound {
		t.Fatalf("the client is %v", c.State)
	}
	// What names the relay is ours only when that relay says so.
	c.Relay = nil
	ip, last := c.IP, c.Ack
	w.silent(dhcpd.IgnoredOtherServer, c.Release(), at)
	c.Relay, c.IP, c.Ack = []byte{11, 4, 192, 168, 200, 1}, ip, last
	w.silent(dhcpd.Answered, c.Release(), at)
	if _, ok := w.srv.Lookup(ip); ok {
		t.Error("the lease that was given back is still there")
	}
	// And not when there is none: read has looked at option 54.
	d := client(2)
	d.Relay = c.Relay
	w.bind(d)
}

func TestTheOldestOfTooManyOffersLapses(t *testing.T) {
	w := newWorld(t, func(c *dhcpd.SegmentConfig) { c.MaxOffers = 2 })
	for i := range 3 {
		w.must(offer, client(i).Discover())
	}
	var held []netip.Addr
	for _, l := range w.srv.Leases() {
		held = append(held, l.IP)
	}
	if want := []netip.Addr{addr(11), addr(12)}; !slices.Equal(held, want) {
		t.Errorf("held %v, want %v", held, want)
	}
}

func TestReconfigureKeepsLeasesAndRefusesWhatNoLongerFits(t *testing.T) {
	w := newWorld(t, relayed)
	c, d, e := client(1), client(2), client(3)
	w.bind(c)
	d.IP = addr(100)
	w.bind(d)
	e.GIAddr = relayIP
	w.bindFrom(e, from{src: relayIP, dst: serverIP})
	cfg := blue()
	cfg.Ranges = []dhcpd.Range{{First: addr(10), Last: addr(50)}} // without d's, and without the relay's subnet
	if err := w.srv.Reconfigure(cfg); err != nil {
		t.Fatal(err)
	}
	if n := len(w.srv.Leases()); n != 3 {
		t.Errorf("%d leases, want all 3 until they end", n)
	}
	w.mustFrom(ack, c.Renew(), from{src: c.IP, dst: serverIP})
	e.GIAddr = netip.Addr{}
	for _, c := range []*dhcpdtest.Client{d, e} {
		// A client that renews may not hear the broadcast, and asks again.
		w.mustFrom(nak, c.Renew(), from{src: c.IP, dst: serverIP})
		w.mustFrom(nak, c.Rebind(), from{src: c.IP})
		was := c.IP
		w.bind(c)
		if _, ok := w.srv.Lookup(was); ok || c.IP == was {
			t.Errorf("the client has %s and still %s", c.IP, was)
		}
	}
	if n := len(newWorldOn(t, w.clock, w.store.Under).srv.Leases()); n != 3 {
		t.Errorf("%d leases are stored, want 3", n)
	}

	cfg.Server = netip.MustParseAddr("10.0.0.1")
	if err := w.srv.Reconfigure(cfg); err == nil {
		t.Error("a server outside its subnet was taken")
	}
	w.mustFrom(ack, c.Renew(), from{src: c.IP, dst: serverIP}) // all as it was
}

func TestAReconfigurationAmidAMoveKeepsTheNewAddressTheClients(t *testing.T) {
	w := newWorld(t)
	c := client(1)
	w.bind(c)
	w.clock.Advance(time.Hour)
	cfg := blue()
	cfg.Lease = 2 * time.Hour
	cfg.Ranges = []dhcpd.Range{{First: addr(100), Last: addr(200)}}
	must(t, w.srv.Reconfigure(cfg))
	c.IP = netip.Addr{}
	r := w.serve(w.selecting(c), from{}) // the new lease ends before the former one would
	cfg.Ranges[0].Last = addr(150)
	must(t, w.srv.Reconfigure(cfg))
	w.svc.Commit()
	c.IP = r.one(t, ack).yiaddr()
	w.mustFrom(ack, c.Renew(), from{src: c.IP, dst: serverIP})
}

func TestReleaseByAnOperatorTakesBackLeasesOffersAndDeclinedAddresses(t *testing.T) {
	w := newWorld(t)
	c, d := client(1), client(2)
	w.bind(c)
	w.must(offer, d.Discover())
	e := client(3)
	w.bind(e)
	declined := e.IP
	w.ask(e.Decline())
	for _, ip := range []netip.Addr{c.IP, addr(11), declined} {
		if err := w.srv.Release(ip); err != nil {
			t.Error(err)
		}
		if err := w.srv.Release(ip); !errors.Is(err, dhcpd.ErrNoLease) {
			t.Errorf("a second release of %s: %v, want ErrNoLease", ip, err)
		}
	}
	w.svc.Commit()
	if l := append(w.srv.Leases(), newWorldOn(t, w.clock, w.store.Under).srv.Leases()...); len(l) != 0 {
		t.Errorf("left over: %+v", l)
	}
}
