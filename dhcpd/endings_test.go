package dhcpd_test

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/uvtep/uvtep/dhcpd"
)

// INFORM, DECLINE, RELEASE, and what holds over a whole lease.

func TestAnInformIsAnsweredWithoutALease(t *testing.T) {
	w := newWorld(t)
	c := client(1)
	r := w.mustFrom(ack, c.Inform(addr(200)), from{src: addr(200), srcMAC: [6]byte{2, 8}})
	if !r.dhcp.YourClientIP.IsUnspecified() || !r.dhcp.ClientIP.Equal(addr(200).AsSlice()) {
		t.Errorf("yiaddr %s, ciaddr %s, want none and %s", r.dhcp.YourClientIP, r.dhcp.ClientIP, addr(200))
	}
	for _, code := range []byte{51, 58, 59} {
		if r.opt[code] != nil {
			t.Errorf("option %d is in the answer to an INFORM", code)
		}
	}
	if r.opt[6] == nil || r.opt[1] == nil {
		t.Errorf("options %v lack what the client asked for", r.order)
	}
	if want := "192.168.100.200:68 02:08:00:00:00:00"; r.sent() != want {
		t.Errorf("sent to %s, want %s", r.sent(), want)
	}
	if len(w.srv.Leases()) != 0 {
		t.Error("an INFORM made a lease")
	}
	// Its sender decides where the answer goes: nowhere outside the subnet.
	for _, ip := range []netip.Addr{netip.MustParseAddr("8.8.8.8"), addr(255), addr(0)} {
		w.silent(dhcpd.IgnoredAddress, c.Inform(ip), from{src: ip})
	}
}

func TestADeclinedAddressIsQuarantined(t *testing.T) {
	w := newWorld(t, pool(2))
	c := client(1)
	w.bind(c)
	bad := c.IP
	w.silent(dhcpd.Answered, c.Decline(), from{})
	if l, ok := w.srv.Lookup(bad); !ok || l.State != dhcpd.StateDeclined || !w.happened(dhcpd.EventDeclined) {
		t.Fatalf("lease %+v, events %v", l, w.kinds())
	}
	w.bind(c)
	if c.IP == bad {
		t.Fatal("the client got the declined address again")
	}
	w.silent(dhcpd.NoLease, client(2).Discover(), from{})
	// It is left alone over a restart, and comes back when its time is over.
	w = newWorldOn(t, w.clock, w.store.Under, pool(2))
	w.silent(dhcpd.NoLease, client(2).Discover(), from{})
	w.clock.Advance(dhcpd.DefaultDeclineHold)
	if r := w.must(offer, client(2).Discover()); r.yiaddr() != bad {
		t.Errorf("offered %s, want %s", r.yiaddr(), bad)
	}
}

func TestADeclinedReservationRaisesAnAlarm(t *testing.T) {
	w := newWorld(t, func(c *dhcpd.SegmentConfig) {
		c.Hosts = []dhcpd.Reservation{{MAC: mac(1), IP: addr(5)}}
	})
	c := client(1)
	w.bind(c)
	w.ask(c.Decline())
	if !w.happened(dhcpd.EventAlarm) || w.happened(dhcpd.EventDeclined) {
		t.Errorf("events %v, want an alarm", w.kinds())
	}
	// The client is not left without an address meanwhile.
	if _, r := w.bind(c); r.yiaddr() == addr(5) {
		t.Error("the declined address was given out again")
	}
}

func TestADeclineOfAnAddressThatIsNotTheClientsIsIgnored(t *testing.T) {
	w := newWorld(t)
	c, d := client(1), client(2)
	w.bind(c)
	d.IP, d.Ack = c.IP, c.Ack
	w.silent(dhcpd.IgnoredAddress, d.Decline(), from{})
	w.silent(dhcpd.IgnoredOtherServer, with(c.Decline(), 54, 192, 168, 100, 77), from{})
	if l, _ := w.srv.Lookup(addr(10)); l.State != dhcpd.StateBound {
		t.Errorf("the lease is %v, want bound", l.State)
	}
}

func TestAReleaseFreesTheAddressAndIsNeverAnswered(t *testing.T) {
	w := newWorld(t)
	c := client(1)
	w.bind(c)
	ip := c.IP
	msg := c.Release()
	w.silent(dhcpd.IgnoredOtherServer, with(msg, 54, 192, 168, 100, 77), from{src: ip, dst: serverIP})
	wrong := edit(msg, func(m *dhcpv4.DHCPv4) { m.ClientIPAddr = addr(99).AsSlice() })
	w.silent(dhcpd.IgnoredAddress, wrong, from{src: ip, dst: serverIP})
	other := edit(msg, func(m *dhcpv4.DHCPv4) { m.ClientHWAddr = mac(9) })
	w.silent(dhcpd.IgnoredAddress, other, from{src: ip, dst: serverIP})
	if l, _ := w.srv.Lookup(ip); l.State != dhcpd.StateBound {
		t.Fatalf("after releases that are not its own the lease is %v", l.State)
	}
	w.silent(dhcpd.Answered, msg, from{src: ip, dst: serverIP})
	if l, ok := w.srv.Lookup(ip); ok {
		t.Errorf("after the release there is a lease: %+v", l)
	}
	if !w.happened(dhcpd.EventReleased) {
		t.Errorf("events %v, want released", w.kinds())
	}
}

func TestRetransmissionsAreIdempotentAndSecsNeverGates(t *testing.T) {
	w := newWorld(t)
	c := client(1)
	msg := edit(c.Discover(), func(m *dhcpv4.DHCPv4) { m.NumSeconds, m.HopCount = 0xffff, 3 })
	first := w.must(offer, msg)
	again := w.must(offer, msg)
	if !bytes.Equal(first.Payload, again.Payload) || w.srv.Stats().Offered != 1 {
		t.Errorf("the OFFERs differ, or %d are held", w.srv.Stats().Offered)
	}
	msg, err := c.Receive(first.Payload)
	if err != nil {
		t.Fatal(err)
	}
	acked := w.must(ack, msg)
	if twice := w.must(ack, msg); !bytes.Equal(acked.Payload, twice.Payload) {
		t.Error("the ACKs differ")
	}
	if n := len(w.srv.Leases()); n != 1 {
		t.Errorf("%d leases, want 1", n)
	}
}

func TestTheLeaseTimesAreInOrder(t *testing.T) {
	for _, lease := range []time.Duration{dhcpd.MinLease, 11 * time.Second, time.Hour, 50 * 365 * 24 * time.Hour, dhcpd.MaxLease} {
		w := newWorld(t, func(c *dhcpd.SegmentConfig) { c.Lease = lease })
		msg := edit(client(1).Discover(), func(m *dhcpv4.DHCPv4) { m.ClientIPAddr = addr(40).AsSlice() })
		r := w.must(offer, msg)
		t1, t2, l := binary.BigEndian.Uint32(r.opt[58]), binary.BigEndian.Uint32(r.opt[59]), binary.BigEndian.Uint32(r.opt[51])
		if t1 == 0 || t1 >= t2 || t2 >= l || l != uint32(lease/time.Second) {
			t.Errorf("lease %s: T1 %d, T2 %d, lease %d", lease, t1, t2, l)
		}
		if !r.dhcp.ClientIP.IsUnspecified() {
			t.Errorf("the OFFER has ciaddr %s", r.dhcp.ClientIP)
		}
	}
}

func TestAnUnselectedOfferIsHeldAWhile(t *testing.T) {
	w := newWorld(t, pool(1))
	c, d := client(1), client(2)
	held := w.must(offer, c.Discover())
	// Not even a client that asks for it gets it.
	d.IP = held.yiaddr()
	w.silent(dhcpd.NoLease, d.Discover(), from{})
	w.clock.Advance(dhcpd.DefaultOfferHold - time.Second)
	w.silent(dhcpd.NoLease, d.Discover(), from{})
	w.clock.Advance(time.Second)
	if r := w.must(offer, d.Discover()); r.yiaddr() != held.yiaddr() {
		t.Errorf("offered %s, want %s", r.yiaddr(), held.yiaddr())
	}
}

func TestTwoSegmentsShareNothing(t *testing.T) {
	w := newWorld(t)
	other := w.add(200)
	c, d := client(1), client(1)
	w.bind(c)
	w.bindFrom(d, from{srv: other})
	if c.IP != d.IP {
		t.Errorf("the same client got %s and %s of equal empty pools", c.IP, d.IP)
	}
	ip := c.IP
	w.askFrom(c.Release(), from{src: ip, dst: serverIP})
	if _, ok := w.srv.Lookup(ip); ok {
		t.Error("the released lease is still there")
	}
	if l, ok := other.Lookup(ip); !ok || l.State != dhcpd.StateBound {
		t.Errorf("a release in one segment made the lease of the other %v", l.State)
	}
	again := newWorldOn(t, w.clock, w.store.Under)
	if n := len(again.srv.Leases()); n != 0 {
		t.Errorf("segment 100 has %d leases after a restart, want 0", n)
	}
	if n := len(again.add(200).Leases()); n != 1 {
		t.Errorf("segment 200 has %d leases after a restart, want 1", n)
	}
}
