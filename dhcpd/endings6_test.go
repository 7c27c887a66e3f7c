package dhcpd_test

import (
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"

	"github.com/uvtep/uvtep/dhcpd"
	"github.com/uvtep/uvtep/dhcpd/dhcpdtest"
)

// RELEASE, DECLINE, INFORMATION-REQUEST, and what is sent the wrong way.

// Section 18.3.7.
func TestAReleaseEndsTheLeaseAndIsConfirmed(t *testing.T) {
	w := newWorld6(t)
	c := client6(1)
	c.NA, c.PD = []uint32{1}, []uint32{1}
	w.bind6(c)
	d := client6(2)
	w.bind6(d)
	// Another client's lease is not its to give back.
	thief := client6(2)
	thief.Server, thief.NA, thief.Leases = c.Server, []uint32{1}, c.Leases
	w.says(thief.Release(), from6{}, "Success")
	stranger := client6(3)
	stranger.Server, stranger.NA, stranger.PD, stranger.Leases = c.Server, []uint32{1}, []uint32{1}, c.Leases
	w.says(stranger.Release(), from6{}, "Success", "NA 1 NoBinding", "PD 1 NoBinding")
	if n := len(w.srv6.Leases()); n != 3 {
		t.Fatalf("%d leases, want 3", n)
	}
	w.says(c.Release(), from6{}, "Success")
	if n := len(w.srv6.Leases()); n != 1 || !w.happened(dhcpd.EventReleased) {
		t.Errorf("%d leases, events %v", n, w.kinds())
	}
	w.says(c.Release(), from6{}, "Success", "NA 1 NoBinding", "PD 1 NoBinding")
	// It is remembered.
	if _, r := w.bind6(c); len(r.gives()) != 2 || r.gives()[0] != c.Leases[0].Prefix {
		t.Errorf("gave %v", r.gives())
	}
}

// Section 18.3.8.
func TestADeclinedAddressIsLeftAlone(t *testing.T) {
	w := newWorld6(t, pool6(2))
	c := client6(1)
	w.bind6(c)
	bad := c.Leases[0].Prefix
	w.says(c.Decline(), from6{}, "Success")
	if l, ok := w.srv6.Lookup(bad.Addr()); !ok || l.State != dhcpd.StateDeclined || !w.happened(dhcpd.EventDeclined) {
		t.Fatalf("lease %+v, events %v", l, w.kinds())
	}
	c.Leases = []dhcpdtest.Lease6{{IAID: 1, Prefix: bad}}
	w.says(c.Decline(), from6{}, "Success", "NA 1 NoBinding")
	c.Leases = nil
	if _, r := w.bind6(c); w.gift(r) == bad {
		t.Fatal("the client got the declined address again")
	}
	d := client6(2)
	w.says(d.Solicit(), from6{}, "NA 1 NoAddrsAvail")
	// It is left alone over a restart, and comes back when its time is over.
	w = newWorld6On(t, w.clock, w.store.Under, pool6(2))
	w.says(d.Solicit(), from6{}, "NA 1 NoAddrsAvail")
	w.clock.Advance(dhcpd.DefaultDeclineHold)
	if _, r := w.bind6(d); w.gift(r) != bad {
		t.Errorf("gave %s, want %s", w.gift(r), bad)
	}
}

func TestADeclinedReservationOfIPv6RaisesAnAlarm(t *testing.T) {
	w := newWorld6(t, reserved6(dhcpd.Reservation6{MAC: mac(1), IP: addr6(5)}))
	c := client6(1)
	w.bind6(c)
	w.says(c.Decline(), from6{}, "Success")
	if !w.happened(dhcpd.EventAlarm) || w.happened(dhcpd.EventDeclined) {
		t.Errorf("events %v, want an alarm", w.kinds())
	}
	c.Leases = nil
	if _, r := w.bind6(c); w.gift(r) == one(addr6(5)) {
		t.Error("the declined address was given out again")
	}
}

// Section 18.3.6.
func TestAnInformationRequestIsAnsweredWithoutALease(t *testing.T) {
	w := newWorld6(t, func(c *dhcpd.SegmentConfig6) {
		c.Options = []dhcpd.Option6{{Code: 32, Data: []byte{0, 0, 0x0e, 0x10}}, {Code: 83, Data: []byte{0, 0, 0x0e, 0x10}}}
		c.Ranges = nil
	})
	c := client6(1)
	c.Asked = []uint16{23, 32}
	r := w.must6(reply6Type, c.Inform(), from6{})
	if r.option(23) == "-" || r.option(32) != "00000e10" || r.option(24) != "-" || r.option(83) != "-" || r.option(1) == "-" {
		t.Errorf("%s", r.Summary())
	}
	// An anonymous one is answered, too.
	anonymous := edit6(c.Inform(), func(m *dhcpv6.Message) { m.Options.Del(dhcpv6.OptionClientID) })
	if r := w.must6(reply6Type, anonymous, from6{}); r.option(1) != "-" || r.option(23) == "-" {
		t.Errorf("%s", r.Summary())
	}
	// Who has leases comes back by itself: option 32 is for the others.
	if r := w.must6(advertise6, c.Solicit(), from6{}); r.option(32) != "-" {
		t.Errorf("%s", r.Summary())
	}
	if len(w.srv6.Leases()) != 0 {
		t.Error("it made a lease")
	}
}

// Section 18.3.2 and its neighbours: no client was told that it may.
func TestAUnicastRequestIsToldToUseMulticast(t *testing.T) {
	w := newWorld6(t)
	c := client6(1)
	w.bind6(c)
	n := len(leases6(t, w.store.Under, 100))
	for _, message := range []func() []byte{c.Request, c.Renew, c.Release, c.Decline} {
		r := w.says(message(), from6{dst: server6}, iana.StatusUseMulticast.String())
		if len(r.Options.Options) != 3 {
			t.Errorf("%s", r.Summary())
		}
	}
	if got := len(leases6(t, w.store.Under, 100)); got != n || len(w.srv6.Leases()) != 1 {
		t.Errorf("%d leases stored, %d before", got, n)
	}
}
