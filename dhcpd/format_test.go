package dhcpd_test

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"

	"github.com/uvtep/uvtep/dhcpd"
)

// What replies look like, and what requests are understood.

func TestTheClientIDIsEchoedToTheByte(t *testing.T) {
	for _, id := range [][]byte{{0}, {1, 2, 0, 0, 0, 0, 1}, {0xff, 0, 0xff, 0, 0x80}, bytes.Repeat([]byte{7}, 255)} {
		w := newWorld(t)
		c := client(1)
		c.ClientID = id
		offered, acked := w.bind(c)
		c.IP = netip.MustParseAddr("10.0.0.1")
		for _, r := range []*reply{offered, acked, w.must(nak, c.Reboot())} {
			if !bytes.Equal(r.opt[61], id) {
				t.Errorf("%v: option 61 is %x, the client's is %x", r.typ(), r.opt[61], id)
			}
		}
	}
	offered, acked := newWorld(t).bind(client(1))
	if offered.opt[61] != nil || acked.opt[61] != nil {
		t.Error("option 61 was invented for a client that sent none")
	}
}

func TestOption82IsEchoedWholeLastAndNeverInvented(t *testing.T) {
	// So many options that they overload the BOOTP fields.
	w := newWorld(t, relayed, func(c *dhcpd.SegmentConfig) {
		c.Relays[0].Options = []dhcpd.Option{
			{Code: 224, Data: bytes.Repeat([]byte{1}, 200), Always: true}, {Code: 225, Data: bytes.Repeat([]byte{2}, 100), Always: true},
		}
	})
	c := client(1)
	c.GIAddr = relayIP
	c.Relay = append([]byte{1, 3, 'p', 0, 0xff, 9, 40}, bytes.Repeat([]byte{0}, 40)...)
	offered, acked := w.bindFrom(c, from{src: relayIP, dst: serverIP})
	renewed := w.mustFrom(ack, c.Renew(), from{src: relayIP, dst: serverIP})
	c.IP = netip.MustParseAddr("10.0.0.1")
	refused := w.mustFrom(nak, c.Reboot(), from{src: relayIP, dst: serverIP})
	for _, r := range []*reply{offered, acked, renewed, refused} {
		if !bytes.Equal(r.opt[82], c.Relay) || r.order[len(r.order)-1] != 82 {
			t.Errorf("%v: option 82 is %x in the order %v, want %x at the end", r.typ(), r.opt[82], r.order, c.Relay)
		}
	}
	if offered.opt[52] == nil {
		t.Error("the test does not reach overload")
	}
	if offered, _ := newWorld(t).bind(client(1)); offered.opt[82] != nil {
		t.Error("option 82 was invented")
	}
}

func TestARepliesLengthKeepsTheClientsLimit(t *testing.T) {
	big := func(c *dhcpd.SegmentConfig) {
		for code := uint8(224); code < 248; code++ {
			c.Options = append(c.Options, dhcpd.Option{Code: code, Data: bytes.Repeat([]byte{code}, 60), Always: true})
		}
	}
	for _, tt := range []struct{ max, mtu, longest, shortest uint16 }{
		{0, 1450, 576, 500},         // the default
		{68, 1450, 576, 500},        // less than every client must take (RFC 2132 section 9.10)
		{575, 1450, 576, 500},       // likewise
		{1000, 1450, 1000, 700},     // room for more
		{1500, 1450, 1450, 1200},    // the segment's MTU
		{65535, 0, 1500, 1200},      // an Ethernet frame
		{65535, 9000, 1500, 1200},   // never more
		{65535, 100, 576, 500},      // an MTU that says nothing of DHCP
		{1 << 15, 1450, 1450, 1200}, // no signed number
	} {
		w := newWorld(t, big, func(c *dhcpd.SegmentConfig) { c.MTU = tt.mtu })
		c := client(1)
		c.MaxSize = tt.max
		offered, _ := w.bind(c)
		// Option 57 counts the IP and UDP headers.
		if n := uint16(len(offered.Payload)) + 28; n > tt.longest || n < tt.shortest {
			t.Errorf("option 57 %d, MTU %d: a packet of %d bytes, want %d..%d", tt.max, tt.mtu, n, tt.shortest, tt.longest)
		}
		for _, code := range []byte{53, 54, 51, 1, 3} {
			if offered.opt[code] == nil {
				t.Errorf("option 57 %d: option %d had to give way", tt.max, code)
			}
		}
	}
}

func TestAReplyIsPaddedTo300Bytes(t *testing.T) {
	w := newWorld(t)
	c := client(1)
	c.Params = []uint8{1}
	offered, _ := w.bind(c)
	if len(offered.Payload) != 300 {
		t.Errorf("a short reply has %d bytes, want 300", len(offered.Payload))
	}
}

func TestTheMaskComesBeforeTheRouter(t *testing.T) {
	for _, params := range [][]uint8{{3, 1}, {6, 3, 15, 1}, {1, 3}, {}} {
		c := client(1)
		c.Params = params
		offered, _ := newWorld(t).bind(c)
		mask, router := slices.Index(offered.order, 1), slices.Index(offered.order, 3)
		if mask < 0 || router < 0 || mask > router {
			t.Errorf("asked for %v: options %v", params, offered.order)
		}
	}
}

func TestTheParameterRequestListIsHonoured(t *testing.T) {
	w := newWorld(t, func(c *dhcpd.SegmentConfig) {
		c.Options = []dhcpd.Option{{Code: 42, Data: []byte{192, 168, 100, 1}}, {Code: 224, Data: []byte{10, 11}}}
	})
	for _, tt := range []struct{ params, want []uint8 }{
		{[]uint8{6, 15, 1}, []uint8{6, 15, 1}},
		{[]uint8{42}, []uint8{42}},
		{[]uint8{224, 26, 224, 99}, []uint8{224, 26}},        // asked twice, and for what there is not
		{[]uint8{0, 255, 82, 52, 53, 54, 51, 6}, []uint8{6}}, // not the client's to ask for
		{[]uint8{28}, []uint8{28}},                           // only on request
		{[]uint8{}, []uint8{1, 3, 6, 15, 26, 42, 224}},       // no list at all
		{[]uint8{61, 57, 50, 55, 1}, []uint8{1}},             // a client's own options
	} {
		c := client(1)
		c.Params = tt.params
		offered, acked := w.bind(c)
		for _, r := range []*reply{offered, acked} {
			if want := append([]byte{53, 54, 51, 58, 59}, tt.want...); !bytes.Equal(r.order, want) {
				t.Errorf("%v: asked for %v, got %v, want %v", r.typ(), tt.params, r.order, want)
			}
		}
	}
	c := client(1)
	c.Params = []uint8{1, 3, 6, 15, 26}
	_, r := w.bind(c)
	for code, want := range map[byte][]byte{
		1: {255, 255, 255, 0}, 3: {192, 168, 100, 1}, 6: {192, 168, 100, 1}, 15: []byte("blue.example"), 26: {1450 >> 8, 1450 & 255},
		51: {0, 0, 43200 >> 8, 43200 & 255},
	} {
		if !bytes.Equal(r.opt[code], want) {
			t.Errorf("option %d is %x, want %x", code, r.opt[code], want)
		}
	}
}

func TestClasslessRoutesTakeTheRoutersPlace(t *testing.T) {
	w := newWorld(t, func(c *dhcpd.SegmentConfig) {
		c.Routes = []dhcpd.Route{{To: netip.MustParsePrefix("10.0.0.0/8"), Via: gatewayIP}}
		c.Options = []dhcpd.Option{{Code: 33, Data: []byte{1, 2, 3, 4, 192, 168, 100, 1}}}
	})
	// 10.0.0.0/8 by .1, and the router as the default route, which the client
	// would else not have (RFC 3442).
	routes := []byte{8, 10, 192, 168, 100, 1, 0, 192, 168, 100, 1}
	for _, tt := range []struct{ params, want []uint8 }{
		{[]uint8{1, 3, 33, 121}, []uint8{1, 121}},
		{[]uint8{121, 3, 1}, []uint8{121, 1}},
		{[]uint8{1, 3, 33}, []uint8{1, 3, 33}},
		{[]uint8{1, 3, 249}, []uint8{1, 3, 249}},
	} {
		c := client(1)
		c.Params = tt.params
		_, r := w.bind(c)
		if !bytes.Equal(r.order[5:], tt.want) {
			t.Errorf("asked for %v, got %v, want %v", tt.params, r.order[5:], tt.want)
		}
		if d := r.opt[121]; d != nil && !bytes.Equal(d, routes) {
			t.Errorf("option 121 is %x, want %x", d, routes)
		}
	}
	// Configured without routes, the router is sent as ever.
	c := client(1)
	if _, r := newWorld(t).bind(c); r.opt[3] == nil || r.opt[121] != nil {
		t.Errorf("options %v", r.order)
	}
}

func TestClasslessRoutesThatFitOnlyABOOTPFieldStillTakeTheRoutersPlace(t *testing.T) {
	w := newWorld(t, func(c *dhcpd.SegmentConfig) {
		for i := range 12 {
			c.Routes = append(c.Routes, dhcpd.Route{To: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i), 0, 0}), 16), Via: gatewayIP})
		}
		c.Options = []dhcpd.Option{{Code: 224, Data: bytes.Repeat([]byte{1}, 180)}}
	})
	c := client(1)
	c.ClientID = bytes.Repeat([]byte{9}, 200) // leaves too little of 576 bytes
	c.Params = []uint8{1, 3, 121, 224}
	_, r := w.bind(c)
	if r.opt[52] == nil || len(r.opt[121]) != 12*7+5 || r.opt[3] != nil {
		t.Errorf("options %v, overload %x, routes %x", r.order, r.opt[52], r.opt[121])
	}
}

func TestALongOptionIsSentInConsecutiveInstances(t *testing.T) {
	long := bytes.Repeat([]byte("0123456789"), 60)
	w := newWorld(t, func(c *dhcpd.SegmentConfig) { c.Options = []dhcpd.Option{{Code: 224, Data: long}} })
	c := client(1)
	c.Params, c.MaxSize = []uint8{1, 224, 6}, 1500
	_, r := w.bind(c)
	if want := []byte{53, 54, 51, 58, 59, 1, 224, 224, 224, 6}; !bytes.Equal(r.order, want) || !bytes.Equal(r.opt[224], long) {
		t.Errorf("order %v, want %v; %d bytes", r.order, want, len(r.opt[224]))
	}
	c.MaxSize = 0 // no room: left out whole, not cut
	if _, r := w.bind(c); r.opt[224] != nil {
		t.Errorf("%d bytes of an option of 600 were sent within 576", len(r.opt[224]))
	}
}

// raw is a DISCOVER made by hand: what no library writes.
func raw(n int, options ...byte) []byte {
	b := make([]byte, 240, 600)
	b[0], b[1], b[2] = 1, 1, 6
	copy(b[28:], mac(n))
	copy(b[236:], []byte{0x63, 0x82, 0x53, 0x63})
	return append(b, options...)
}

func TestSplitOptionsAndOverloadAreUnderstood(t *testing.T) {
	// Option 61 is spread over the options field, file and sname, in this order
	// (RFC 3396); the list of parameters is in two pieces; the type is in file.
	b := raw(1, 52, 1, 3, 61, 2, 0xff, 1, 55, 1, 1, 0, 0, 55, 1, 6, 255)
	copy(b[108:], []byte{53, 1, 1, 61, 2, 2, 3, 255})
	copy(b[44:], []byte{61, 1, 4, 0, 255})
	r := newWorld(t).must(offer, b)
	if !bytes.Equal(r.opt[61], []byte{0xff, 1, 2, 3, 4}) {
		t.Errorf("the client's id was read as %x", r.opt[61])
	}
	if want := []byte{53, 54, 51, 58, 59, 61, 1, 6}; !bytes.Equal(r.order, want) {
		t.Errorf("options %v, want %v", r.order, want)
	}
}

func TestOption108IsSentOnlyWhenRequestedAndConfigured(t *testing.T) {
	v6only := func(c *dhcpd.SegmentConfig) {
		c.Options = []dhcpd.Option{{Code: 108, Data: []byte{0, 0, 7, 8}}}
	}
	for _, tt := range []struct {
		params     []uint8
		configured bool
		want       []byte
	}{
		{[]uint8{1, 108}, true, []byte{0, 0, 7, 8}}, {[]uint8{1}, true, nil}, {[]uint8{}, true, nil}, {[]uint8{1, 108}, false, nil},
	} {
		w := newWorld(t)
		if tt.configured {
			w = newWorld(t, v6only)
		}
		c := client(1)
		c.Params = tt.params
		if offered, _ := w.bind(c); !bytes.Equal(offered.opt[108], tt.want) {
			t.Errorf("asked for %v, configured %t: option 108 is %x, want %x", tt.params, tt.configured, offered.opt[108], tt.want)
		}
	}
}

func TestWhatIsNoRequestIsDropped(t *testing.T) {
	w := newWorld(t)
	good := raw(1, 53, 1, 1, 255)
	change := func(at int, v byte) []byte {
		b := slices.Clone(good)
		b[at] = v
		return b
	}
	for name, tt := range map[string]struct {
		b    []byte
		want dhcpd.Outcome
	}{
		"nothing":                        {nil, dhcpd.Malformed},
		"a header cut short":             {good[:239], dhcpd.Malformed},
		"a reply":                        {change(0, 2), dhcpd.Malformed},
		"an op that is neither":          {change(0, 9), dhcpd.Malformed},
		"a hardware address of 17 bytes": {change(2, 17), dhcpd.Malformed},
		"an Ethernet address of 5 bytes": {change(2, 5), dhcpd.Malformed},
		"a group's hardware address":     {change(28, 3), dhcpd.Malformed},
		"another cookie":                 {change(239, 0), dhcpd.Malformed},
		"no End":                         {good[:243], dhcpd.Malformed},
		"an option cut short":            {raw(1, 53, 1, 1, 61, 9, 1), dhcpd.Malformed},
		"a code without a length":        {raw(1, 53, 1, 1, 61), dhcpd.Malformed},
		"a type of no bytes":             {raw(1, 53, 0, 255), dhcpd.Malformed},
		"an address of 3 bytes":          {raw(1, 53, 1, 1, 50, 3, 1, 2, 3, 255), dhcpd.Malformed},
		"a limit of 1 byte":              {raw(1, 53, 1, 1, 57, 1, 2, 255), dhcpd.Malformed},
		"overload of an unknown kind":    {raw(1, 53, 1, 1, 52, 1, 4, 255), dhcpd.Malformed},
		"no hardware and no id":          {append([]byte{1, 32, 0}, raw(1, 53, 1, 1, 255)[3:]...), dhcpd.Malformed},
		"plain BOOTP":                    {raw(1, 255), dhcpd.IgnoredBOOTP},
		"a server's message type":        {raw(1, 53, 1, 5, 255), dhcpd.IgnoredType},
		"an unknown message type":        {raw(1, 53, 1, 200, 255), dhcpd.IgnoredType},
		"a REQUEST of nothing":           {raw(1, 53, 1, 3, 255), dhcpd.IgnoredAddress},
		"a selection without an address": {raw(1, 53, 1, 3, 54, 4, 192, 168, 100, 2, 255), dhcpd.IgnoredAddress},
		"a RELEASE of nothing":           {raw(1, 53, 1, 7, 255), dhcpd.IgnoredAddress},
		"a DECLINE without its server":   {raw(1, 53, 1, 4, 50, 4, 192, 168, 100, 10, 255), dhcpd.IgnoredOtherServer},
		"a DECLINE of nothing":           {raw(1, 53, 1, 4, 54, 4, 192, 168, 100, 2, 255), dhcpd.IgnoredAddress},
	} {
		if r := w.serve(tt.b, from{}); r.outcome != tt.want || len(r.replies) != 0 {
			t.Errorf("%s: %v and %d replies, want %v", name, r.outcome, len(r.replies), tt.want)
		}
	}
	if got := w.srv.Stats().Outcomes[dhcpd.Malformed]; got == 0 {
		t.Error("malformed messages are not counted")
	}
	w.must(offer, good)
}
