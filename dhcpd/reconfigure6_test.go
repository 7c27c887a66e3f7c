package dhcpd_test

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/uvtep/uvtep/dhcpd"
)

func TestAReconfigurationKeepsTheLeasesAndMovesWhoMustMove(t *testing.T) {
	w := newWorld6(t)
	c := client6(1)
	c.NA, c.PD = []uint32{1}, []uint32{1}
	w.bind6(c)
	had := slices.Clone(c.Leases)
	// Another lifetime, another name: all stays.
	must(t, w.srv6.Reconfigure(config6(func(c *dhcpd.SegmentConfig6) { c.Lease, c.Search = 2*time.Hour, nil })))
	r := w.must6(reply6Type, c.Renew(), from6{})
	w.take(c, r)
	if c.Leases[0].Prefix != had[0].Prefix || c.Leases[1].Prefix != had[1].Prefix || c.Leases[0].Valid != 2*time.Hour || r.option(24) != "-" {
		t.Errorf("renewed %v, had %v; %s", c.Leases, had, r.Summary())
	}
	// A wrong one changes nothing.
	if err := w.srv6.Reconfigure(config6(func(c *dhcpd.SegmentConfig6) { c.Server = netip.Addr{} })); err == nil {
		t.Error("a configuration without a server was taken")
	}
	// Other ranges and lengths: the client has until it renews, and meanwhile
	// nobody gets what overlaps it.
	move := func(c *dhcpd.SegmentConfig6) {
		c.Ranges = []dhcpd.Range{{First: addr6(0x20000), Last: addr6(0x2ffff)}}
		c.Delegations = []dhcpd.Delegation{{Prefix: had[1].Prefix, Length: 60}}
	}
	must(t, w.srv6.Reconfigure(config6(move)))
	if l, ok := w.srv6.Lookup(had[1].Prefix.Addr()); !ok || int(l.PrefixLen) != 56 {
		t.Errorf("lease %+v, %t", l, ok)
	}
	d := client6(2)
	d.PD = []uint32{1}
	w.says(d.Solicit(), from6{}, "PD 1 NoPrefixAvail")
	r = w.must6(reply6Type, c.Renew(), from6{})
	w.take(c, r)
	if len(c.Leases) != 1 || c.Leases[0].Prefix.Addr().Less(addr6(0x20000)) {
		t.Errorf("moved to %v: %q", c.Leases, r.says())
	}
	if got := r.says()[1]; got != "PD 1 "+had[1].Prefix.String()+" gone NoPrefixAvail" {
		t.Errorf("says %q", got)
	}
	// Once it shows that it knows others get parts of the prefix.
	w.says(d.Solicit(), from6{}, "PD 1 NoPrefixAvail")
	w.take(c, w.must6(reply6Type, c.Renew(), from6{}))
	if _, r := w.bind6(d); !had[1].Prefix.Overlaps(w.gift(r)) || w.gift(r).Bits() != 60 {
		t.Errorf("gave %v", r.gives())
	}
	// And the other way round: a longer one within what is now given out whole.
	must(t, w.srv6.Reconfigure(config6(func(c *dhcpd.SegmentConfig6) {
		c.Delegations = []dhcpd.Delegation{{Prefix: prefix("2001:db8:200::/48"), Length: 49}}
	})))
	lower := prefix("2001:db8:200::/49").Contains(d.Leases[0].Prefix.Addr())
	e := client6(3)
	e.PD = []uint32{1}
	for range 3 {
		if got := w.gift(w.must6(advertise6, e.Solicit(), from6{})); got.Overlaps(d.Leases[0].Prefix) {
			t.Errorf("%s overlaps %s (lower half %t)", got, d.Leases[0].Prefix, lower)
		}
	}
	w.clock.Advance(dhcpd.DefaultOfferHold)
	w.clock.Advance(12 * time.Hour)
	f := client6(4)
	f.PD = []uint32{1, 2}
	if _, r := w.bind6(f); len(r.gives()) != 2 {
		t.Errorf("after all ran out %q", r.says())
	}
}

func TestAnotherLengthOfAsManyPrefixesIsAnotherDelegation(t *testing.T) {
	w := newWorld6(t, func(c *dhcpd.SegmentConfig6) {
		c.Delegations = []dhcpd.Delegation{{Prefix: prefix("2001:db8:200::/62"), Length: 64}}
	})
	c := client6(1)
	c.PD = []uint32{1}
	w.must6(advertise6, c.Solicit(), from6{})
	w.clock.Advance(dhcpd.DefaultOfferHold)
	must(t, w.srv6.Reconfigure(config6(func(c *dhcpd.SegmentConfig6) {
		c.Delegations = []dhcpd.Delegation{{Prefix: prefix("2001:db8:200::/60"), Length: 62}}
	})))
	if got := w.gift(w.must6(advertise6, c.Solicit(), from6{})); got.Bits() != 62 {
		t.Errorf("%s advertised, want a /62", got)
	}
}

func TestReservationsOfIPv6ComeAndGoLive(t *testing.T) {
	w := newWorld6(t, reserved6(dhcpd.Reservation6{MAC: mac(9), IP: addr6(0x99)}))
	r := dhcpd.Reservation6{MAC: mac(1), IP: addr6(0x50), Prefix: prefix("2001:db8:200:700::/56"), Hostname: "db1"}
	must(t, w.srv6.Reserve(r))
	reservedNow := func() (out []string) {
		for _, l := range w.srv6.Leases() {
			if l.State == dhcpd.StateReserved {
				out = append(out, l.IP.String())
			}
		}
		return out
	}
	if got := reservedNow(); !slices.Equal(got, []string{"2001:db8:100::50", "2001:db8:100::99", "2001:db8:200:700::"}) {
		t.Errorf("reserved %v", got)
	}
	for name, tt := range map[string]struct {
		r    dhcpd.Reservation6
		want error
	}{
		"the same address":       {dhcpd.Reservation6{MAC: mac(2), IP: addr6(0x50)}, dhcpd.ErrReserved},
		"the same client":        {dhcpd.Reservation6{MAC: mac(1), IP: addr6(0x51)}, dhcpd.ErrReserved},
		"the same prefix":        {dhcpd.Reservation6{MAC: mac(3), Prefix: r.Prefix}, dhcpd.ErrReserved},
		"outside the subnet":     {dhcpd.Reservation6{MAC: mac(4), IP: netip.MustParseAddr("2001:db8:999::1")}, dhcpd.ErrReservation},
		"a prefix of odd length": {dhcpd.Reservation6{MAC: mac(4), Prefix: prefix("2001:db8:200:800::/60")}, dhcpd.ErrReservation},
		"nobody's":               {dhcpd.Reservation6{IP: addr6(0x52)}, dhcpd.ErrReservation},
	} {
		if err := w.srv6.Reserve(tt.r); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
	c := client6(1)
	c.NA, c.PD = []uint32{1}, []uint32{1}
	if _, got := w.bind6(c); !slices.Equal(got.gives(), []netip.Prefix{one(r.IP), r.Prefix}) {
		t.Errorf("gave %v", got.gives())
	}
	// It outlives a reconfiguration, but not its removal by either of its addresses.
	must(t, w.srv6.Reconfigure(config6(reserved6(dhcpd.Reservation6{MAC: mac(9), IP: addr6(0x99)}))))
	if err := w.srv6.Unreserve(addr6(0x99)); !errors.Is(err, dhcpd.ErrConfigured) {
		t.Errorf("unreserve the configuration's: %v", err)
	}
	if err := w.srv6.Unreserve(addr6(0x98)); !errors.Is(err, dhcpd.ErrNoLease) {
		t.Errorf("unreserve what is not reserved: %v", err)
	}
	must(t, w.srv6.Unreserve(r.Prefix.Addr()))
	if got := reservedNow(); !slices.Equal(got, []string{"2001:db8:100::99"}) {
		t.Errorf("reserved %v", got)
	}
	w.take(c, w.must6(reply6Type, c.Renew(), from6{}))
	if len(c.Leases) != 2 || c.Leases[0].Prefix == one(r.IP) && c.Leases[1].Prefix == r.Prefix {
		t.Errorf("after the reservation went it has %v", c.Leases)
	}
}

func TestAnOperatorLooksUpAndTakesBackLeasesOfIPv6(t *testing.T) {
	w := newWorld6(t)
	c := client6(1)
	c.NA, c.PD = []uint32{1}, []uint32{1}
	w.bind6From(c, from6{port: "tap1"})
	for _, held := range c.Leases {
		ip := held.Prefix.Addr()
		l, ok := w.srv6.Lookup(ip)
		if !ok || l.IP != ip || l.Port != "tap1" || l.ClientID != string(c.ID()) || l.IAID != 1 ||
			(l.PrefixLen == 0) != (held.Prefix.Bits() == 128) || l.PrefixLen != 0 && int(l.PrefixLen) != held.Prefix.Bits() {
			t.Errorf("%s: %+v, %t", held.Prefix, l, ok)
		}
		must(t, w.srv6.Release(ip))
		if err := w.srv6.Release(ip); !errors.Is(err, dhcpd.ErrNoLease) {
			t.Errorf("a second release: %v", err)
		}
	}
	w.svc.Commit()
	for _, l := range leases6(t, w.store.Under, 100) {
		if l.State != dhcpd.StateFree {
			t.Errorf("stored %+v", l)
		}
	}
	// Offers lapse, declined ones come back.
	d := client6(2)
	w.must6(advertise6, d.Solicit(), from6{})
	must(t, w.srv6.Release(w.srv6.Leases()[0].IP))
	w.bind6(d)
	bad := d.Leases[0].Prefix
	w.ask6(d.Decline(), from6{})
	must(t, w.srv6.Release(bad.Addr()))
	w.svc.Commit()
	if n := len(w.srv6.Leases()); n != 0 {
		t.Errorf("%d leases are left", n)
	}
	if _, ok := w.srv6.Lookup(netip.MustParseAddr("192.0.2.1")); ok {
		t.Error("an IPv4 address has a lease of IPv6")
	}
}
