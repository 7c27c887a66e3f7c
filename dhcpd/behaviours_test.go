package dhcpd_test

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/uvtep/uvtep/dhcpd"
)

const (
	discover = dhcpv4.MessageTypeDiscover
	offer    = dhcpv4.MessageTypeOffer
	request  = dhcpv4.MessageTypeRequest
	ack      = dhcpv4.MessageTypeAck
	nak      = dhcpv4.MessageTypeNak
)

// The behaviours that servers get wrong, in the order of RFC 2131's client
// states; those of the message format are in format_test.go.

func TestSelectingAnotherServerIsSilentAndDropsTheOffer(t *testing.T) {
	w := newWorld(t)
	c := client(1)
	if _, err := c.Receive(w.must(offer, c.Discover()).Payload); err != nil {
		t.Fatal(err)
	}
	if n := w.srv.Stats().Offered; n != 1 {
		t.Fatalf("%d offers are held, want 1", n)
	}
	other := with(c.Request(), 54, 192, 168, 100, 77)
	w.silent(dhcpd.IgnoredOtherServer, other, from{})
	if n := w.srv.Stats().Offered; n != 0 {
		t.Errorf("%d offers are held after the client chose another server", n)
	}
}

func TestSelectingTheOfferGivesAnACKEqualToIt(t *testing.T) {
	w := newWorld(t)
	offered, acked := w.bind(client(1))
	if acked.yiaddr() != offered.yiaddr() || acked.yiaddr() != addr(10) {
		t.Errorf("offered %s, acknowledged %s, want %s", offered.yiaddr(), acked.yiaddr(), addr(10))
	}
	same := slices.Clone(offered.Payload)
	same[bytes.Index(same, []byte{53, 1, byte(offer)})+2] = byte(ack)
	if !bytes.Equal(same, acked.Payload) {
		t.Errorf("the ACK differs from the OFFER in more than its type:\n%x\n%x", offered.Payload, acked.Payload)
	}
}

func TestSelectingAnotherAddressThanOfferedIsRefused(t *testing.T) {
	w := newWorld(t)
	c := client(1)
	if _, err := c.Receive(w.must(offer, c.Discover()).Payload); err != nil {
		t.Fatal(err)
	}
	w.must(nak, with(c.Request(), 50, 192, 168, 100, 99))
	w.must(ack, c.Request()) // the offer itself still stands
}

func TestSelectingAnotherAddressThanTheLeaseIsRefused(t *testing.T) {
	w := newWorld(t)
	c := client(1)
	w.bind(c)
	w.must(nak, with(c.Request(), 50, 192, 168, 100, 99))
}

func TestSelectingWithoutAnOfferOnRecordGetsTheAddressIfItIsFree(t *testing.T) {
	// The server was restarted between OFFER and REQUEST.
	w := newWorld(t)
	c := client(1)
	if _, err := c.Receive(w.must(offer, c.Discover()).Payload); err != nil {
		t.Fatal(err)
	}
	again := newWorldOn(t, w.clock, w.store.Under)
	again.must(ack, c.Request())
	d := client(2)
	d.Offer = c.Offer
	again.must(nak, d.Request())
}

func TestInitRebootWithTheRightAddressIsAcknowledged(t *testing.T) {
	w := newWorld(t)
	c := client(1)
	_, first := w.bind(c)
	if r := w.must(ack, c.Reboot()); r.yiaddr() != first.yiaddr() || !r.dhcp.ClientIP.IsUnspecified() {
		t.Errorf("yiaddr %s, ciaddr %s, want %s and none", r.yiaddr(), r.dhcp.ClientIP, first.yiaddr())
	}
}

func TestInitRebootWithAWrongAddressIsRefused(t *testing.T) {
	w := newWorld(t, pool(2))
	c, d := client(1), client(2)
	w.bind(c)
	w.bind(d)
	for name, ip := range map[string]netip.Addr{
		"another subnet":           netip.MustParseAddr("10.1.2.3"),
		"another address":          addr(99),
		"another client's address": d.IP,
	} {
		c.IP = ip
		if r := w.askFrom(c.Reboot(), from{}); r == nil || r.typ() != nak {
			t.Errorf("%s: %v, want a NAK", name, r)
		}
	}
	// A stranger is told, too, where the server knows better than it.
	e := client(3)
	e.IP = netip.MustParseAddr("10.1.2.3")
	w.must(nak, e.Reboot())
	e.IP = d.IP
	w.must(nak, e.Reboot())
}

func TestInitRebootOfAnUnknownClientIsSilentUnlessAuthoritative(t *testing.T) {
	c := client(1)
	c.IP = addr(33)
	newWorld(t).silent(dhcpd.IgnoredUnknown, c.Reboot(), from{})
	w := newWorld(t, func(c *dhcpd.SegmentConfig) { c.Authoritative = true })
	w.must(nak, c.Reboot())
}

func TestRenewingIsAcknowledgedByUnicast(t *testing.T) {
	w := newWorld(t)
	c := client(1)
	w.bind(c)
	w.clock.Advance(6 * time.Hour)
	router := [6]byte{2, 9, 9, 9, 9, 9}
	r := w.mustFrom(ack, c.Renew(), from{src: c.IP, dst: serverIP, srcMAC: router})
	if r.yiaddr() != c.IP || !r.dhcp.ClientIP.Equal(c.IP.AsSlice()) {
		t.Errorf("yiaddr %s, ciaddr %s, want both %s", r.yiaddr(), r.dhcp.ClientIP, c.IP)
	}
	if want := c.IP.String() + ":68 02:09:09:09:09:09"; r.sent() != want {
		t.Errorf("sent to %s, want %s", r.sent(), want)
	}
	l, _ := w.srv.Lookup(c.IP)
	if want := w.clock.Now().Add(12 * time.Hour); !l.Expires.Equal(want) {
		t.Errorf("the lease ends at %s, want %s", l.Expires, want)
	}
}

func TestRebindingIsAcknowledgedAndUnknownClientsAreNot(t *testing.T) {
	w := newWorld(t)
	c := client(1)
	w.bind(c)
	w.clock.Advance(11 * time.Hour)
	r := w.mustFrom(ack, c.Rebind(), from{src: c.IP})
	if r.yiaddr() != c.IP || r.Dst != c.IP {
		t.Errorf("%s sent to %s, want %s", r.yiaddr(), r.Dst, c.IP)
	}
	d := client(2)
	d.IP = addr(77)
	w.silent(dhcpd.IgnoredUnknown, d.Rebind(), from{src: d.IP})
	w.silent(dhcpd.IgnoredUnknown, d.Renew(), from{src: d.IP, dst: serverIP})
}

func TestRenewingTheAddressOfAnotherClientIsRefused(t *testing.T) {
	w := newWorld(t)
	c, d := client(1), client(2)
	w.bind(c)
	d.IP = c.IP
	w.mustFrom(nak, d.Renew(), from{src: d.IP, dst: serverIP})
}

func TestANAKCarriesNoLeaseAndNoAddress(t *testing.T) {
	w := newWorld(t, relayed)
	c := client(1)
	c.ClientID = []byte{0xff, 1, 2, 3}
	c.IP = netip.MustParseAddr("10.0.0.1")
	r := w.must(nak, c.Reboot())
	d := r.dhcp
	if !d.YourClientIP.IsUnspecified() || !d.NextServerIP.IsUnspecified() || !d.ClientIP.IsUnspecified() {
		t.Errorf("yiaddr %s, siaddr %s, ciaddr %s, want none", d.YourClientIP, d.NextServerIP, d.ClientIP)
	}
	if want := []byte{53, 54, 61, 56}; !slices.Equal(r.order, want) {
		t.Errorf("options %v, want %v", r.order, want)
	}
	// Without a relay it is always broadcast, whatever the client says of itself.
	if want := "255.255.255.255:68 ff:ff:ff:ff:ff:ff"; r.sent() != want {
		t.Errorf("sent to %s, want %s", r.sent(), want)
	}
	r = w.mustFrom(nak, c.Renew(), from{src: c.IP, dst: serverIP})
	if want := "255.255.255.255:68 ff:ff:ff:ff:ff:ff"; r.sent() != want {
		t.Errorf("in answer to a unicast sent to %s, want %s", r.sent(), want)
	}
	// Through a relay it asks for a broadcast at the other end.
	c.GIAddr = relayIP
	r = w.mustFrom(nak, c.Reboot(), from{src: relayIP, srcMAC: [6]byte{2, 7}})
	if want := "192.168.200.1:67 02:07:00:00:00:00"; r.sent() != want || r.dhcp.Flags != 0x8000 {
		t.Errorf("sent to %s with flags %#x, want %s and the B flag", r.sent(), r.dhcp.Flags, want)
	}
}

func TestTheBFlagDecidesBetweenBroadcastAndTheClientsHardware(t *testing.T) {
	w := newWorld(t)
	c := client(1)
	for _, b := range []bool{true, false} {
		c.Broadcast = b
		offered, acked := w.bind(c)
		want := "192.168.100.10:68 02:00:00:00:00:01"
		if b {
			want = "255.255.255.255:68 ff:ff:ff:ff:ff:ff"
		}
		if offered.sent() != want || acked.sent() != want || offered.dhcp.Flags>>15 == 1 != b {
			t.Errorf("B %t: OFFER to %s, ACK to %s, want %s; flags %#x", b, offered.sent(), acked.sent(), want, offered.dhcp.Flags)
		}
	}
}

func TestAReplyToARelayGoesToItsPort67(t *testing.T) {
	w := newWorld(t, relayed)
	c := client(1)
	c.GIAddr = relayIP
	offered, acked := w.bindFrom(c, from{src: relayIP, dst: serverIP, srcMAC: [6]byte{2, 7}})
	for _, r := range []*reply{offered, acked} {
		if want := "192.168.200.1:67 02:07:00:00:00:00"; r.sent() != want || !r.dhcp.RelayAgentIP.Equal(relayIP.AsSlice()) {
			t.Errorf("%v sent to %s, giaddr %s, want %s", r.typ(), r.sent(), r.dhcp.RelayAgentIP, want)
		}
		if r.yiaddr() != netip.MustParseAddr("192.168.200.10") {
			t.Errorf("%v gives %s, which is not of the relay's subnet", r.typ(), r.yiaddr())
		}
	}
	// A relay of a subnet that is not served.
	c = client(2)
	c.GIAddr = netip.MustParseAddr("172.16.0.1")
	w.silent(dhcpd.IgnoredSubnet, c.Discover(), from{src: c.GIAddr})
}

func TestTwoMACsWithOneClientIDAreOneClient(t *testing.T) {
	w := newWorld(t)
	c, d, e := client(1), client(2), client(3)
	c.ClientID = []byte{0xff, 0, 0, 0, 1}
	d.ClientID = c.ClientID
	w.bind(c)
	if _, r := w.bind(d); r.yiaddr() != c.IP {
		t.Errorf("the second MAC got %s, the first %s", r.yiaddr(), c.IP)
	}
	if _, r := w.bind(e); r.yiaddr() == c.IP {
		t.Error("a client without the identifier got the same address")
	}
	// And one MAC with two identifiers is two clients.
	c.ClientID = []byte{0xff, 0, 0, 0, 2}
	c.IP = netip.Addr{}
	if _, r := w.bind(c); r.yiaddr() == d.IP {
		t.Errorf("another identifier got the same address %s", r.yiaddr())
	}
}
