package dhcpd_test

import (
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/uvtep/uvtep/dhcpd"
	"github.com/uvtep/uvtep/dhcpd/dhcpdtest"
)

// Which address or prefix a client of DHCPv6 gets.

func TestAClientKeepsItsAddressWhateverTheServerForgot(t *testing.T) {
	w := newWorld6(t)
	c := client6(1)
	c.NA, c.PD = []uint32{1}, []uint32{1}
	_, first := w.bind6(c)
	// After the lease ran out, and by a server that never heard of it: it is the
	// hash that tells (RFC 7943).
	w.clock.Advance(24 * time.Hour)
	w.ask6(client6(2).Solicit(), from6{})
	c.Leases = nil
	if _, r := w.bind6(c); !slices.Equal(r.gives(), first.gives()) {
		t.Errorf("later %v, first %v", r.gives(), first.gives())
	}
	again := newWorld6(t)
	if _, r := again.bind6(c); !slices.Equal(r.gives(), first.gives()) {
		t.Errorf("a server without memory gives %v, first %v", r.gives(), first.gives())
	}
}

func TestNeighboursAddressesCannotBeGuessed(t *testing.T) {
	w := newWorld6(t, func(c *dhcpd.SegmentConfig6) {
		c.Ranges = []dhcpd.Range{{First: netip.MustParseAddr("2001:db8:100::"), Last: netip.MustParseAddr("2001:db8:100::ffff:ffff:ffff:ffff")}}
	})
	const n = 256
	upper, near := map[byte]bool{}, 0
	var last netip.Addr
	for i := range n {
		_, r := w.bind6(client6(i))
		ip := w.gift(r).Addr()
		upper[ip.As16()[8]] = true
		if last.IsValid() && last.As16()[8] == ip.As16()[8] && last.As16()[9] == ip.As16()[9] {
			near++
		}
		last = ip
	}
	// Of 256 draws 162 different values of a byte are to be expected, and no two
	// in a row that have 16 bits in common.
	if len(upper) < 130 || near > 2 {
		t.Errorf("%d clients got %d different upper bytes; %d next to each other", n, len(upper), near)
	}
}

func TestEveryAddressOfARangeIsGivenOutOnce(t *testing.T) {
	for name, tt := range map[string]struct {
		first, last int
		want        int
	}{
		"a power of two":                {0x1000, 0x103f, 64},
		"not one":                       {0x1000, 0x1046, 71},
		"a single address":              {0x1000, 0x1000, 1},
		"with the server's own in it":   {0, 9, 8}, // and the anycast address
		"with a reservation's in it":    {0x4f, 0x5f, 16},
		"across the ends of sixteenths": {0xfffe, 0x10001, 4},
	} {
		w := newWorld6(t, func(c *dhcpd.SegmentConfig6) {
			c.Ranges = []dhcpd.Range{{First: addr6(tt.first), Last: addr6(tt.last)}}
		}, reserved6(dhcpd.Reservation6{DUID: []byte{0, 9, 9}, IP: addr6(0x50)}))
		seen := map[netip.Prefix]bool{}
		for i := range tt.want {
			_, r := w.bind6(client6(i))
			p := w.gift(r)
			if seen[p] || p == one(server6) || p == one(addr6(0)) || p == one(addr6(0x50)) {
				t.Errorf("%s: %s was given", name, p)
			}
			seen[p] = true
		}
		r := w.serve6(client6(1000).Solicit(), from6{})
		if r.outcome != dhcpd.NoLease || len(r.replies) != 1 || r.replies[0].says()[0] != "NA 1 NoAddrsAvail" {
			t.Errorf("%s: outcome %v after %d clients", name, r.outcome, tt.want)
		}
		if got := w.details(dhcpd.EventExhausted); len(got) != 1 || !strings.Contains(got[0], addr6(tt.first).String()) {
			t.Errorf("%s: told %q", name, got)
		}
		if s := w.srv6.Stats(); s.Pool-s.Used != 256 || s.Bound != tt.want {
			t.Errorf("%s: pool %d, used %d, bound %d", name, s.Pool, s.Used, s.Bound)
		}
	}
}

func TestTheLongestUnusedAddressGoesToANewClient(t *testing.T) {
	w := newWorld6(t, pool6(3))
	var had []netip.Prefix
	for i := range 3 {
		c := client6(i)
		_, r := w.bind6(c)
		had = append(had, w.gift(r))
		w.clock.Advance(time.Minute)
	}
	w.clock.Advance(12 * time.Hour)
	// The first to be asked for again is the first's; the third is sticky.
	if _, r := w.bind6(client6(2)); w.gift(r) != had[2] {
		t.Errorf("the third client got %s, had %s", w.gift(r), had[2])
	}
	if _, r := w.bind6(client6(7)); w.gift(r) != had[0] {
		t.Errorf("a new client got %s, want %s", w.gift(r), had[0])
	}
	// What another is remembered for is given away for the asking only now, where
	// nothing else is left.
	c := client6(8)
	c.Hints = []netip.Prefix{had[1]}
	if _, r := w.bind6(c); w.gift(r) != had[1] {
		t.Errorf("gave %s, want %s", w.gift(r), had[1])
	}
}

func TestARememberedAddressIsNotGivenAwayForTheAsking(t *testing.T) {
	w := newWorld6(t)
	c := client6(1)
	w.bind6(c)
	had := c.Leases[0].Prefix
	w.clock.Advance(24 * time.Hour)
	d := client6(2)
	d.Hints = []netip.Prefix{had}
	if _, r := w.bind6(d); w.gift(r) == had {
		t.Error("the address of a client that is away was given to another")
	}
}

func TestEveryPrefixOfADelegationIsGivenOutOnce(t *testing.T) {
	w := newWorld6(t, func(c *dhcpd.SegmentConfig6) {
		c.Delegations = []dhcpd.Delegation{{Prefix: prefix("2001:db8:200::/60"), Length: 64}, {Prefix: prefix("fd00:1::/62"), Length: 64}}
	}, reserved6(dhcpd.Reservation6{DUID: []byte{0, 9, 9}, Prefix: prefix("2001:db8:200:3::/64")}))
	var all []netip.Prefix
	for i := range 19 {
		c := client6(i)
		c.PD = []uint32{1}
		_, r := w.bind6(c)
		p := w.gift(r)
		if p.Bits() != 64 || p == prefix("2001:db8:200:3::/64") || slices.ContainsFunc(all, p.Overlaps) {
			t.Errorf("%s was given", p)
		}
		all = append(all, p)
	}
	c := client6(100)
	c.PD = []uint32{1}
	w.says(c.Solicit(), from6{}, "PD 1 NoPrefixAvail")
	c.DUID = []byte{0, 9, 9}
	if _, r := w.bind6(c); w.gift(r) != prefix("2001:db8:200:3::/64") {
		t.Errorf("the reservation got %v", r.gives())
	}
}

func TestAReservationIsForItsClientAlone(t *testing.T) {
	en := []byte{0, 2, 0, 0, 0, 9, 1}
	for name, tt := range map[string]struct {
		host   dhcpd.Reservation6
		client *dhcpdtest.Client6
		from   from6
	}{
		"by DUID":           {dhcpd.Reservation6{DUID: en}, &dhcpdtest.Client6{MAC: mac(1), DUID: en}, from6{}},
		"by the frame":      {dhcpd.Reservation6{MAC: mac(0x203)}, &dhcpdtest.Client6{MAC: mac(1), DUID: en}, from6{srcMAC: [6]byte{2, 0, 0, 0, 2, 3}}},
		"by the DUID's MAC": {dhcpd.Reservation6{MAC: mac(1)}, client6(1), from6{srcMAC: [6]byte{2, 9}}},
		"by port":           {dhcpd.Reservation6{Port: "tap7"}, client6(1), from6{port: "tap7"}},
	} {
		host := tt.host
		host.IP, host.Prefix, host.Hostname = addr6(0x50), prefix("2001:db8:200:700::/56"), "db1"
		w := newWorld6(t, reserved6(host))
		stranger := client6(99)
		stranger.NA, stranger.PD = []uint32{1}, []uint32{1}
		stranger.Hints = []netip.Prefix{one(host.IP), host.Prefix}
		if _, r := w.bind6From(stranger, from6{port: "tap8"}); slices.Contains(r.gives(), one(host.IP)) || slices.Contains(r.gives(), host.Prefix) {
			t.Errorf("%s: a stranger got %v", name, r.gives())
		}
		c := tt.client
		c.NA, c.PD = []uint32{1, 2}, []uint32{1, 2}
		_, r := w.bind6From(c, tt.from)
		got := r.gives()
		if got[0] != one(host.IP) || got[2] != host.Prefix || got[1] == got[0] || got[3] == got[2] {
			t.Errorf("%s: got %v, want the reserved ones first", name, got)
		}
		if l, _ := w.srv6.Lookup(host.IP); l.Hostname != "db1" || !host.Names(l) {
			t.Errorf("%s: lease %+v", name, l)
		}
		if n := len(w.srv6.Leases()); n != 6 {
			t.Errorf("%s: %d leases, want 6", name, n)
		}
		// It keeps them, each association its own.
		w.clock.Advance(time.Hour)
		if _, err := c.Receive(w.must6(reply6Type, c.Renew(), tt.from).ToBytes()); err != nil {
			t.Fatal(err)
		}
		for i, l := range c.Leases {
			if l.Prefix != got[i] {
				t.Errorf("%s: renewed %v, had %v", name, c.Leases, got)
			}
		}
	}
}

// Firmware and system of one machine: two DUIDs, or one with two IAIDs.
func TestTwoIdentitiesOfAMachineShareItsReservation(t *testing.T) {
	for name, second := range map[string]*dhcpdtest.Client6{
		"another DUID": {MAC: mac(1), DUID: []byte{0, 2, 0, 0, 0, 9, 1}},
		"another IAID": {MAC: mac(1), NA: []uint32{2}},
	} {
		w := newWorld6(t, reserved6(dhcpd.Reservation6{MAC: mac(1), IP: addr6(0x50)}))
		f := from6{srcMAC: [6]byte(mac(1))}
		w.bind6From(client6(1), f)
		if _, r := w.bind6From(second, f); w.gift(r) != one(addr6(0x50)) {
			t.Errorf("%s: got %s", name, w.gift(r))
		}
		if n := len(w.srv6.Leases()); n != 1 {
			t.Errorf("%s: %d leases, want 1", name, n)
		}
		// And over a restart it is the second's.
		again := newWorld6On(t, w.clock, w.store.Under, reserved6(dhcpd.Reservation6{MAC: mac(1), IP: addr6(0x50)}))
		if l, _ := again.srv6.Lookup(addr6(0x50)); l.ClientID != string(second.ID()) {
			t.Errorf("%s: the lease is %x's", name, l.ClientID)
		}
	}
}

func TestAReservedAddressInUseBySomebodyElseIsToldAndWaitedFor(t *testing.T) {
	w := newWorld6(t)
	d := client6(2)
	d.Hints = []netip.Prefix{one(addr6(0x1234))}
	w.bind6(d)
	if err := w.srv6.Reserve(dhcpd.Reservation6{MAC: mac(1), IP: addr6(0x1234)}); err != nil {
		t.Fatal(err)
	}
	c := client6(1)
	if _, r := w.bind6(c); w.gift(r) == one(addr6(0x1234)) {
		t.Fatal("the address was given to two clients")
	}
	if !w.happened(dhcpd.EventBlocked) {
		t.Errorf("events %v", w.kinds())
	}
	// Its holder is moved when it renews, and the owner once the holder shows that it
	// has heard.
	w.take(d, w.must6(reply6Type, d.Renew(), from6{}))
	if len(d.Leases) != 1 || d.Leases[0].Prefix == one(addr6(0x1234)) {
		t.Errorf("the holder has %v", d.Leases)
	}
	w.take(c, w.must6(reply6Type, c.Renew(), from6{}))
	if c.Leases[0].Prefix == one(addr6(0x1234)) {
		t.Error("the owner has the address while the holder may not know yet")
	}
	w.take(d, w.must6(reply6Type, d.Renew(), from6{}))
	w.take(c, w.must6(reply6Type, c.Renew(), from6{}))
	if len(c.Leases) != 1 || c.Leases[0].Prefix != one(addr6(0x1234)) {
		t.Errorf("the owner has %v", c.Leases)
	}
}

func TestAPortHasNoMoreLeasesOfIPv6ThanItMay(t *testing.T) {
	w := newWorld6(t)
	tap := from6{port: "tap1", max: 2}
	c := client6(1)
	c.NA, c.PD = []uint32{1, 2}, []uint32{1}
	r := w.must6(advertise6, c.Solicit(), tap) // what is advertised counts
	if len(r.gives()) != 2 || r.says()[2] != "PD 1 NoPrefixAvail" {
		t.Fatalf("says %q", r.says())
	}
	for range 2 {
		if r := w.serve6(client6(2).Solicit(), tap); r.outcome != dhcpd.PortFull || len(r.replies) != 1 {
			t.Errorf("outcome %v", r.outcome)
		}
	}
	if got := w.details(dhcpd.EventPortFull); !slices.Equal(got, []string{"port tap1: 2 leases of DHCPv6"}) {
		t.Errorf("told %q, want once", got)
	}
	d := client6(3)
	d.Server, d.Leases = config6().ServerDUID(), []dhcpdtest.Lease6{{IAID: 1, Prefix: one(addr6(0x1111))}}
	w.says(d.Renew(), tap, "NA 1 NoBinding") // nor by the back door
	// Who has leases keeps them; other ports and remote clients have theirs.
	w.take(c, w.must6(reply6Type, w.take(c, r), tap))
	w.take(c, w.must6(reply6Type, c.Renew(), tap))
	w.bind6From(client6(4), from6{port: "tap2", max: 2})
	w.bind6From(client6(5), from6{max: 2, vtep: netip.MustParseAddr("10.9.0.3")})
	w.says(c.Release(), tap, "Success", "PD 1 NoBinding")
	w.bind6From(client6(6), tap)
	w.bind6From(client6(7), tap)
	if r := w.serve6(client6(8).Solicit(), tap); r.outcome != dhcpd.PortFull {
		t.Errorf("outcome %v", r.outcome)
	}
	if n := len(w.details(dhcpd.EventPortFull)); n != 2 {
		t.Errorf("told %d times, want 2", n)
	}
	// Offers lapse, leases run out, a client moves over.
	w.clock.Advance(dhcpd.DefaultOfferHold)
	w.clock.Advance(13 * time.Hour)
	w.must6(advertise6, client6(10).Solicit(), tap)
	w.must6(advertise6, client6(11).Solicit(), tap)
	if r := w.serve6(client6(12).Solicit(), tap); r.outcome != dhcpd.PortFull {
		t.Errorf("outcome %v", r.outcome)
	}
	w.clock.Advance(dhcpd.DefaultOfferHold)
	w.bind6From(client6(6), tap)
	w.bind6From(client6(7), tap)
	mover := client6(6)
	mover.Server = c.Server
	w.must6(reply6Type, mover.Renew(), from6{port: "tap9"})
	w.must6(advertise6, client6(12).Solicit(), tap)
	w.clock.Advance(dhcpd.DefaultOfferHold)
	w.must6(reply6Type, mover.Renew(), tap)
	// A restart knows the ports.
	again := newWorld6On(t, w.clock, w.store.Under)
	if r := again.serve6(client6(8).Solicit(), tap); r.outcome != dhcpd.PortFull {
		t.Errorf("after a restart: %v", r.outcome)
	}
}

func TestAPoolThatIsNearlyFullIsTold(t *testing.T) {
	w := newWorld6(t, pool6(10))
	var cs []*dhcpdtest.Client6
	for i := range 10 {
		c := client6(i)
		w.bind6(c)
		cs = append(cs, c)
		if n := len(w.details(dhcpd.EventPoolHigh)); (n > 0) != (i >= 8) || n > 1 {
			t.Errorf("told %d times with %d leases", n, i+1)
		}
	}
	if got := w.details(dhcpd.EventPoolHigh); !slices.Equal(got, []string{"2001:db8:100::1000-2001:db8:100::1009: 9 of 10"}) {
		t.Errorf("told %q", got)
	}
	for _, c := range cs[:3] {
		w.ask6(c.Release(), from6{})
	}
	w.bind6(client6(20))
	w.bind6(client6(21))
	if n := len(w.details(dhcpd.EventPoolHigh)); n != 2 {
		t.Errorf("told %d times, want again", n)
	}
}

func TestAPoolWithoutEndCostsNoMoreThanItsLeases(t *testing.T) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	w := newWorld6(t, func(c *dhcpd.SegmentConfig6) {
		c.Ranges = []dhcpd.Range{{First: netip.MustParseAddr("2001:db8:100::"), Last: netip.MustParseAddr("2001:db8:100::ffff:ffff:ffff:ffff")}}
		c.Delegations = []dhcpd.Delegation{{Prefix: prefix("2001:c00::/24"), Length: 64}, {Prefix: prefix("2002::/16"), Length: 127}}
	})
	c := client6(1)
	c.NA, c.PD = []uint32{1}, []uint32{1}
	w.bind6(c)
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 1<<20 {
		t.Errorf("%d bytes for two leases", grown)
	}
	if s := w.srv6.Stats(); s.Pool != int(^uint(0)>>1) || s.Used != 2 || s.Bound != 2 {
		t.Errorf("pool %d, used %d, bound %d", s.Pool, s.Used, s.Bound)
	}
	runtime.KeepAlive(w)
}

func TestOfTooManyOffersTheOldestGoFirst(t *testing.T) {
	w := newWorld6(t, func(c *dhcpd.SegmentConfig6) { c.MaxOffers = 3 })
	for i := range 10 {
		w.must6(advertise6, client6(i).Solicit(), from6{})
		w.must6(advertise6, client6(0).Solicit(), from6{}) // is renewed each time
	}
	all := w.srv6.Leases()
	if len(all) != 3 || w.srv6.Stats().Offered != 3 {
		t.Fatalf("%d offers are held, want 3", len(all))
	}
	if !slices.ContainsFunc(all, func(l dhcpd.Lease) bool { return l.ClientID == string(client6(0).ID()) }) {
		t.Error("the one that was renewed went")
	}
	w.clock.Advance(dhcpd.DefaultOfferHold)
	if n := len(w.srv6.Leases()); n != 0 {
		t.Errorf("%d offers last for ever", n)
	}
}

func TestNoMoreEndedLeasesAreRememberedThanMatter(t *testing.T) {
	w := newWorld6(t, func(c *dhcpd.SegmentConfig6) {
		c.RapidCommit = true
		c.Ranges[0].Last = addr6(0xffff_ffff)
	})
	const more = 50
	for i := range dhcpd.MaxUnused + more {
		c := client6(i % 65536)
		c.Rapid = true
		w.serve6With(c.Solicit(), from6{}, false)
		if i == more-1 {
			w.clock.Advance(time.Hour) // the first ones end first
		}
	}
	w.svc.Commit()
	if n := len(leases6(t, w.store.Under, 100)); n != dhcpd.MaxUnused+more {
		t.Fatalf("%d leases stored", n)
	}
	w.clock.Advance(13 * time.Hour)
	w.srv6.Stats()
	w.svc.Commit()
	left := leases6(t, w.store.Under, 100)
	for _, l := range left {
		if n := int(l.ClientID[8])<<8 | int(l.ClientID[9]); n < more {
			t.Errorf("client %d, whose lease ended first, is remembered", n)
		}
	}
	if len(left) != dhcpd.MaxUnused {
		t.Errorf("%d ended leases are remembered, want %d", len(left), dhcpd.MaxUnused)
	}
}

// A live reservation that the configuration no longer allows waits until it is
// allowed again.
func TestAReservationOfIPv6ThatTheConfigurationNoLongerAllowsIsNotServed(t *testing.T) {
	w := newWorld6(t)
	must(t, w.srv6.Reserve(dhcpd.Reservation6{MAC: mac(1), IP: addr6(0x50), Prefix: prefix("2001:db8:300::/56")}))
	for name, tt := range map[string]struct {
		edit   func(*dhcpd.SegmentConfig6)
		served bool
	}{
		"the server moved there": {func(c *dhcpd.SegmentConfig6) { c.Server = addr6(0x50) }, false},
		"cut otherwise": {func(c *dhcpd.SegmentConfig6) {
			c.Delegations = []dhcpd.Delegation{{Prefix: prefix("2001:db8:300::/55"), Length: 60}}
		}, false},
		"as it was": {func(*dhcpd.SegmentConfig6) {}, true},
	} {
		must(t, w.srv6.Reconfigure(config6(tt.edit)))
		var given []netip.Prefix
		for i := range 8 {
			c := client6(i)
			c.NA, c.PD = []uint32{1}, []uint32{1}
			got := w.must6(advertise6, c.Solicit(), from6{}).gives()
			if served := i == 1 && slices.Equal(got, []netip.Prefix{one(addr6(0x50)), prefix("2001:db8:300::/56")}); i == 1 && served != tt.served {
				t.Errorf("%s: its client is given %v", name, got)
			}
			for _, p := range got {
				if slices.ContainsFunc(given, p.Overlaps) || p == one(config6(tt.edit).Server) {
					t.Errorf("%s: client %d is given %s, which is somebody else's", name, i, p)
				}
			}
			given = append(given, got...)
		}
		w.clock.Advance(dhcpd.DefaultOfferHold)
	}
}

func TestDeclinedAddressesLeaveNothingInTheStore(t *testing.T) {
	w := newWorld6(t)
	for i := range 3 {
		c := client6(i)
		w.bind6(c)
		w.must6(reply6Type, c.Decline(), from6{})
	}
	if n := len(leases6(t, w.store.Under, 100)); n != 3 {
		t.Fatalf("%d records of declined addresses, want 3", n)
	}
	w.clock.Advance(dhcpd.DefaultDeclineHold)
	w.srv6.Stats()
	w.svc.Commit()
	if l := leases6(t, w.store.Under, 100); len(l) != 0 {
		t.Errorf("left over: %+v", l)
	}
	// Nor those that ended while nobody looked.
	c := client6(9)
	w.bind6(c)
	w.must6(reply6Type, c.Decline(), from6{})
	w.clock.Advance(dhcpd.DefaultDeclineHold)
	w = newWorld6On(t, w.clock, w.store.Under)
	w.svc.Commit()
	if l := leases6(t, w.store.Under, 100); len(l) != 0 {
		t.Errorf("left over after a restart: %+v", l)
	}
}

func TestAReservationOfIPv6ThatHasGivenWayCanStillBeRemoved(t *testing.T) {
	server := config6(func(c *dhcpd.SegmentConfig6) { c.Server = addr6(0x50) })
	for name, cfg := range map[string]dhcpd.SegmentConfig6{
		"its client has another":      config6(reserved6(dhcpd.Reservation6{MAC: mac(1), IP: addr6(0x99)})),
		"the address is the server's": server,
	} {
		w := newWorld6(t)
		must(t, w.srv6.Reserve(dhcpd.Reservation6{MAC: mac(1), IP: addr6(0x50)}))
		must(t, w.srv6.Reconfigure(cfg))
		if slices.ContainsFunc(w.srv6.Leases(), func(l dhcpd.Lease) bool { return l.IP == addr6(0x50) }) {
			t.Errorf("%s: it stays", name)
		}
		if err := w.srv6.Unreserve(addr6(0x50)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		must(t, w.srv6.Reconfigure(config6()))
		if l := w.srv6.Leases(); len(l) != 0 {
			t.Errorf("%s: it is back: %+v", name, l)
		}
	}
}
