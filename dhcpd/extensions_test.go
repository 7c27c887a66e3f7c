package dhcpd_test

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"

	"github.com/uvtep/uvtep/dhcpd"
)

// What RFCs after 2131 added.

func TestRapidCommitIsAnACKForADiscover(t *testing.T) {
	c := client(1)
	c.Rapid = true
	// Off unless configured (RFC 4039: other servers may have a say).
	newWorld(t).must(offer, c.Discover())
	w := newWorld(t, func(c *dhcpd.SegmentConfig) { c.RapidCommit = true })
	r := w.must(ack, c.Discover())
	if r.opt[80] == nil || len(r.opt[80]) != 0 || r.yiaddr() != addr(10) {
		t.Errorf("option 80 is %x (nil %t), yiaddr %s", r.opt[80], r.opt[80] == nil, r.yiaddr())
	}
	if l, _ := w.srv.Lookup(addr(10)); l.State != dhcpd.StateBound {
		t.Errorf("the lease is %v", l.State)
	}
	w.must(offer, client(2).Discover())
}

func TestSubnetSelectionIsHonouredWhereItIsAllowed(t *testing.T) {
	msg := with(client(1).Discover(), 118, 192, 168, 200, 0)
	if r := newWorld(t, relayed).must(offer, msg); r.yiaddr() != addr(10) {
		t.Errorf("off: offered %s", r.yiaddr())
	}
	w := newWorld(t, relayed, func(c *dhcpd.SegmentConfig) { c.SubnetSelection = true })
	if r := w.must(offer, msg); r.yiaddr() != netip.MustParseAddr("192.168.200.10") {
		t.Errorf("on: offered %s", r.yiaddr())
	}
	w.silent(dhcpd.IgnoredSubnet, with(client(1).Discover(), 118, 10, 0, 0, 0), from{})
}

func TestAClientThatSendsAutoConfigurationIsToldWhetherItMay(t *testing.T) {
	configured := func(c *dhcpd.SegmentConfig) { c.Options = []dhcpd.Option{{Code: 116, Data: []byte{0}}} }
	asks := with(client(1).Discover(), 116, 1)
	if r := newWorld(t).must(offer, asks); r.opt[116] != nil {
		t.Errorf("told %x, of which nothing is configured", r.opt[116])
	}
	w := newWorld(t, configured, pool(1))
	if r := w.must(offer, asks); !bytes.Equal(r.opt[116], []byte{0}) || r.yiaddr() != addr(10) {
		t.Errorf("told %x, offered %s", r.opt[116], r.yiaddr())
	}
	// With no address left it is told so, and others hear nothing as always.
	r := w.must(offer, with(client(2).Discover(), 116, 1))
	if !bytes.Equal(r.opt[116], []byte{0}) || !r.yiaddr().IsUnspecified() || r.opt[51] != nil || r.Dst != broadcast {
		t.Errorf("told %x, offered %s for %x, to %s", r.opt[116], r.yiaddr(), r.opt[51], r.Dst)
	}
	w.silent(dhcpd.NoLease, client(3).Discover(), from{})
	// Who does not send it does not get it, also where it asks for nothing at all.
	c := client(4)
	c.Params = []uint8{}
	if r := newWorld(t, configured).must(offer, c.Discover()); r.opt[116] != nil {
		t.Errorf("told %x unasked", r.opt[116])
	}
}

func TestAnFQDNIsAnsweredByWhatWasDone(t *testing.T) {
	for name, tt := range map[string]struct {
		request []byte
		want    string
	}{
		// Flags N (8), and O (2) where the client wanted updates (S, 1).
		"a partial name is completed": {append([]byte{1, 0, 0}, "web"...), "\x0a\xff\xffweb.blue.example"},
		"a whole name stays":          {append([]byte{0, 0, 0}, "web.other.example"...), "\x08\xff\xffweb.other.example"},
		"a partial name on the wire":  {append([]byte{5, 0, 0}, "\x03web"...), "\x0e\xff\xff\x03web\x04blue\x07example\x00"},
		"a whole name on the wire":    {append([]byte{4, 0, 0}, "\x03web\x01x\x00"...), "\x0c\xff\xff\x03web\x01x\x00"},
		"a torn name on the wire":     {append([]byte{4, 0, 0}, "\x03web\x3fx"...), "\x0c\xff\xff\x03web\x04blue\x07example\x00"},
		"an empty name":               {[]byte{0, 0, 0}, "\x08\xff\xff"},
		"an empty name on the wire":   {[]byte{4, 0, 0}, "\x0c\xff\xff"},
	} {
		r := newWorld(t).must(offer, with(client(1).Discover(), 81, tt.request...))
		if string(r.opt[81]) != tt.want {
			t.Errorf("%s: %q, want %q", name, r.opt[81], tt.want)
		}
	}
	// A client without a name gets that of its reservation.
	named := reserved(dhcpd.Reservation{MAC: mac(1), Hostname: "web1"})
	for request, want := range map[string]string{
		"\x00\x00\x00": "\x08\xff\xffweb1.blue.example", "\x04\x00\x00": "\x0c\xff\xff\x04web1\x04blue\x07example\x00",
	} {
		if r := newWorld(t, named).must(offer, with(client(1).Discover(), 81, []byte(request)...)); string(r.opt[81]) != want {
			t.Errorf("%q: %q, want %q", request, r.opt[81], want)
		}
	}
	// Too short to be one.
	if r := newWorld(t).must(offer, with(client(1).Discover(), 81, 0, 0)); r.opt[81] != nil {
		t.Errorf("two bytes were answered by %x", r.opt[81])
	}
}

func TestNamesThatATerminalShouldNotSeeAreNotKept(t *testing.T) {
	for name, want := range map[string]string{
		"web1": "web1", "web1\x00": "web1", "wéb": "wéb", "a b": "", "\x1b[2J": "", "\u009b2J": "", "x\u202ey": "", "\xff\xfe": "",
		strings.Repeat("a", 254): "",
	} {
		w := newWorld(t)
		c := client(1)
		c.Hostname = name
		w.bind(c)
		if l, _ := w.srv.Lookup(c.IP); l.Hostname != want {
			t.Errorf("%q is kept as %q, want %q", name, l.Hostname, want)
		}
	}
}
