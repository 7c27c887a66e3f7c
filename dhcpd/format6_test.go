package dhcpd_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv6"

	"github.com/uvtep/uvtep/dhcpd"
	"github.com/uvtep/uvtep/dhcpd/dhcpdtest"
)

// Which messages of DHCPv6 are taken, which options a reply has, and relays.

// Section 16, whose numbers the names bear.
func TestAMessageThatMustBeDiscardedIs(t *testing.T) {
	w := newWorld6(t)
	c := client6(1)
	w.bind6(c)
	without := func(payload []byte, code dhcpv6.OptionCode) []byte {
		return edit6(payload, func(m *dhcpv6.Message) { m.Options.Del(code) })
	}
	with := func(payload []byte, o dhcpv6.Option) []byte {
		return edit6(payload, func(m *dhcpv6.Message) { m.AddOption(o) })
	}
	typed := func(typ byte) []byte { b := c.Solicit(); b[0] = typ; return b }
	server := option6(2, config6().ServerDUID()...)
	foreign := func(payload []byte) []byte { return with(without(payload, 2), option6(2, 0, 3, 0, 1, 9, 9)) }
	iaWith := func(code dhcpv6.OptionCode, data ...byte) []byte { return with(c.Solicit(), option6(code, data...)) }
	unicast := from6{dst: server6}
	deep := c.Solicit()
	for range 33 {
		deep = relayed6(deep, netip.IPv6Unspecified(), local6)
	}
	zero := make([]byte, 34)
	zero[0] = 12
	for name, tt := range map[string]struct {
		payload []byte
		from    from6
		want    dhcpd.Outcome
	}{
		"16 SOLICIT by unicast":                      {c.Solicit(), unicast, dhcpd.Malformed},
		"16 CONFIRM by unicast":                      {c.Confirm(), unicast, dhcpd.Malformed},
		"16 REBIND by unicast":                       {c.Rebind(), unicast, dhcpd.Malformed},
		"16 INFORMATION-REQUEST by unicast":          {c.Inform(), unicast, dhcpd.Malformed},
		"16.2 SOLICIT without a client":              {without(c.Solicit(), 1), from6{}, dhcpd.Malformed},
		"16.2 SOLICIT with a server":                 {with(c.Solicit(), server), from6{}, dhcpd.Malformed},
		"16.3 ADVERTISE":                             {typed(2), from6{}, dhcpd.IgnoredType},
		"16.4 REQUEST without a client":              {without(c.Request(), 1), from6{}, dhcpd.Malformed},
		"16.4 REQUEST without a server":              {without(c.Request(), 2), from6{}, dhcpd.Malformed},
		"16.4 REQUEST to another server":             {foreign(c.Request()), from6{}, dhcpd.IgnoredOtherServer},
		"16.5 CONFIRM without a client":              {without(c.Confirm(), 1), from6{}, dhcpd.Malformed},
		"16.5 CONFIRM with a server":                 {with(c.Confirm(), server), from6{}, dhcpd.Malformed},
		"16.6 RENEW without a client":                {without(c.Renew(), 1), from6{}, dhcpd.Malformed},
		"16.6 RENEW without a server":                {without(c.Renew(), 2), from6{}, dhcpd.Malformed},
		"16.6 RENEW to another server":               {foreign(c.Renew()), from6{}, dhcpd.IgnoredOtherServer},
		"16.7 REBIND without a client":               {without(c.Rebind(), 1), from6{}, dhcpd.Malformed},
		"16.7 REBIND with a server":                  {with(c.Rebind(), server), from6{}, dhcpd.Malformed},
		"16.8 DECLINE without a client":              {without(c.Decline(), 1), from6{}, dhcpd.Malformed},
		"16.8 DECLINE without a server":              {without(c.Decline(), 2), from6{}, dhcpd.Malformed},
		"16.8 DECLINE to another server":             {foreign(c.Decline()), from6{}, dhcpd.IgnoredOtherServer},
		"16.9 RELEASE without a client":              {without(c.Release(), 1), from6{}, dhcpd.Malformed},
		"16.9 RELEASE without a server":              {without(c.Release(), 2), from6{}, dhcpd.Malformed},
		"16.9 RELEASE to another server":             {foreign(c.Release()), from6{}, dhcpd.IgnoredOtherServer},
		"16.10 REPLY":                                {typed(7), from6{}, dhcpd.IgnoredType},
		"16.11 RECONFIGURE":                          {typed(10), from6{}, dhcpd.IgnoredType},
		"16.12 INFORMATION-REQUEST to another":       {foreign(c.Inform()), from6{}, dhcpd.IgnoredOtherServer},
		"16.12 INFORMATION-REQUEST with an address":  {with(c.Inform(), option6(3, make([]byte, 12)...)), from6{}, dhcpd.Malformed},
		"16.12 INFORMATION-REQUEST with a prefix":    {with(c.Inform(), option6(25, make([]byte, 12)...)), from6{}, dhcpd.Malformed},
		"16.14 RELAY-REPL":                           {append([]byte{13}, make([]byte, 40)...), from6{}, dhcpd.Malformed},
		"an unknown type":                            {typed(200), from6{}, dhcpd.IgnoredType},
		"nothing":                                    {nil, from6{}, dhcpd.Malformed},
		"half a header":                              {[]byte{1, 2, 3}, from6{}, dhcpd.Malformed},
		"an option cut short":                        {append(c.Solicit(), 0, 23, 0, 9, 1), from6{}, dhcpd.Malformed},
		"half an option's header":                    {append(c.Solicit(), 0, 23, 0), from6{}, dhcpd.Malformed},
		"a DUID of two bytes":                        {with(without(c.Solicit(), 1), option6(1, 0, 3)), from6{}, dhcpd.Malformed},
		"a DUID of 131 bytes":                        {with(without(c.Solicit(), 1), option6(1, make([]byte, 131)...)), from6{}, dhcpd.Malformed},
		"two DUIDs":                                  {with(c.Solicit(), option6(1, 0, 3, 1)), from6{}, dhcpd.Malformed},
		"half an option code asked for":              {with(without(c.Solicit(), 6), option6(6, 0, 23, 0)), from6{}, dhcpd.Malformed},
		"an IA_NA cut short":                         {iaWith(3, make([]byte, 11)...), from6{}, dhcpd.Malformed},
		"an IA_TA cut short":                         {iaWith(4, 0, 0, 0), from6{}, dhcpd.Malformed},
		"an address cut short":                       {iaWith(3, append(make([]byte, 12), 0, 5, 0, 2, 1, 1)...), from6{}, dhcpd.Malformed},
		"a prefix of 129 bits":                       {iaWith(25, append(append(make([]byte, 12), 0, 26, 0, 25, 0, 0, 0, 0, 0, 0, 0, 0, 129), make([]byte, 16)...)...), from6{}, dhcpd.Malformed},
		"an option within it cut short":              {iaWith(3, append(make([]byte, 12), 0, 5, 0, 99)...), from6{}, dhcpd.Malformed},
		"two associations of one IAID":               {iaWith(3, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0), from6{}, dhcpd.Malformed},
		"a relay around nothing":                     {zero, from6{}, dhcpd.Malformed},
		"a relay with an option cut short":           {append(slices.Clone(zero), 0, 18, 0, 9), from6{}, dhcpd.Malformed},
		"half a relay":                               {zero[:20], from6{}, dhcpd.Malformed},
		"a relay around a reply":                     {append(slices.Clone(zero), 0, 9, 0, 4, 13, 0, 0, 0), from6{}, dhcpd.Malformed},
		"33 relays":                                  {deep, from6{}, dhcpd.Malformed},
		"from nowhere":                               {c.Solicit(), from6{src: netip.IPv6Unspecified()}, dhcpd.Malformed},
		"from a multicast address":                   {c.Solicit(), from6{src: servers6}, dhcpd.Malformed},
		"from a relay of a subnet that is not there": {relayed6(c.Solicit(), netip.MustParseAddr("2001:db8:999::1"), local6), from6{}, dhcpd.IgnoredSubnet},
		"10,000 bytes":                               {with(c.Solicit(), option6(99, make([]byte, 9300)...)), from6{}, dhcpd.Malformed},
	} {
		t.Run(name, func(t *testing.T) {
			before := w.srv6.Stats().Outcomes[tt.want]
			w.silent6(tt.want, tt.payload, tt.from)
			if n := w.srv6.Stats().Outcomes[tt.want]; n != before+1 {
				t.Errorf("counted %d times, want once", n-before)
			}
		})
	}
	if n := len(w.srv6.Leases()); n != 1 {
		t.Errorf("%d leases, want the one of before", n)
	}
}

func TestMoreAssociationsThanAnyClientHasAreRefused(t *testing.T) {
	c := client6(1)
	for i := range 17 {
		c.NA = append(c.NA, uint32(i))
	}
	newWorld6(t).silent6(dhcpd.Malformed, c.Solicit(), from6{})
	c.NA = c.NA[:16]
	if r := newWorld6(t).must6(advertise6, c.Solicit(), from6{}); len(r.gives()) != 16 {
		t.Errorf("%d addresses advertised, want 16", len(r.gives()))
	}
	for range 17 {
		c.Leases = append(c.Leases, dhcpdtest.Lease6{IAID: 3, Prefix: one(addr6(0x2000 + len(c.Leases)))})
	}
	newWorld6(t).silent6(dhcpd.Malformed, c.Rebind(), from6{})
}

// Section 21.7.
func TestTheClientGetsTheOptionsThatItAskedFor(t *testing.T) {
	w := newWorld6(t, func(c *dhcpd.SegmentConfig6) {
		c.Options = []dhcpd.Option6{{Code: 59, Data: []byte("tftp://a/b")}, {Code: 82, Data: []byte{0, 0, 1, 0}}, {Code: 31, Data: make([]byte, 16)}}
		c.Hosts = []dhcpd.Reservation6{{MAC: mac(2), Options: []dhcpd.Option6{{Code: 59, Data: []byte("own")}, {Code: 23, Data: make([]byte, 16)}}}}
	})
	dns := hex.EncodeToString(netip.MustParseAddr("2001:db8:100::1").AsSlice())
	search := hex.EncodeToString([]byte("\x05green\x07example\x00\x07example\x00"))
	for name, tt := range map[string]struct {
		client int
		asked  []uint16
		want   map[dhcpv6.OptionCode]string
	}{
		"some":             {1, []uint16{24, 59}, map[dhcpv6.OptionCode]string{23: "-", 24: search, 59: hex.EncodeToString([]byte("tftp://a/b")), 82: "-", 31: "-"}},
		"SOL_MAX_RT":       {1, []uint16{82, 83}, map[dhcpv6.OptionCode]string{23: "-", 82: "00000100", 83: "-"}},
		"what is not set":  {1, []uint16{56, 7, 1, 2}, map[dhcpv6.OptionCode]string{23: "-", 56: "-", 7: "-"}},
		"no option 6":      {1, []uint16{}, map[dhcpv6.OptionCode]string{23: dns, 24: search, 82: "-"}},
		"a reservation's":  {2, []uint16{23, 24, 59}, map[dhcpv6.OptionCode]string{23: strings.Repeat("0", 32), 24: search, 59: hex.EncodeToString([]byte("own"))}},
		"the same, of all": {2, []uint16{}, map[dhcpv6.OptionCode]string{23: strings.Repeat("0", 32), 59: hex.EncodeToString([]byte("own")), 82: "-"}},
	} {
		c := client6(tt.client)
		c.Asked = tt.asked
		for _, r := range []*reply6{w.must6(advertise6, c.Solicit(), from6{}), w.must6(reply6Type, c.Inform(), from6{})} {
			for code, want := range tt.want {
				if got := r.option(code); got != want {
					t.Errorf("%s: option %d of %v is %s, want %s", name, code, r.MessageType, got, want)
				}
			}
		}
	}
}

// RFC 8200 section 5: what fits into the least MTU.
func TestOptionsThatDoNotFitAreLeftOut(t *testing.T) {
	w := newWorld6(t, func(c *dhcpd.SegmentConfig6) {
		c.Options = []dhcpd.Option6{{Code: 200, Data: make([]byte, 1000)}, {Code: 201, Data: make([]byte, 1000)}, {Code: 202, Data: []byte{1}}}
	})
	c := client6(1)
	c.Asked = []uint16{200, 201, 202}
	r := w.must6(advertise6, c.Solicit(), from6{})
	if len(r.Payload) > 1232 || r.option(200) == "-" || r.option(201) != "-" || r.option(202) != "01" || len(r.gives()) != 1 {
		t.Errorf("%d bytes: %s", len(r.Payload), r.Summary())
	}
}

// RFC 4704 section 6: answered only if the client sent it and asks for it.
func TestANameIsAnsweredToWhoAsksForIt(t *testing.T) {
	w := newWorld6(t, reserved6(dhcpd.Reservation6{MAC: mac(2), Hostname: "db1"}))
	for name, tt := range map[string]struct {
		client int
		fqdn   string
		asked  uint16
		want   string // flags and name
		shown  string
	}{
		"a partial name":       {1, "\x00\x03web", 39, "\x04\x03web\x05green\x07example\x00", "web"},
		"a whole one":          {1, "\x01\x03web\x03org\x00", 39, "\x06\x03web\x03org\x00", "web"},
		"not asked for":        {1, "\x00\x03web", 23, "", "web"},
		"the reservation's":    {2, "\x00", 39, "\x04\x03db1\x05green\x07example\x00", "db1"},
		"one over the other":   {2, "\x00\x03web", 39, "\x04\x03web\x05green\x07example\x00", "db1"},
		"a torn label":         {1, "\x00\x3fweb", 39, "\x04", ""},
		"one that is no name":  {1, "\x00\x03a\x1bb", 23, "", ""},
		"nothing, not a flag":  {1, "", 39, "", ""},
		"a compressed pointer": {1, "\x00\xc0\x00", 39, "\x04", ""},
	} {
		c := client6(tt.client)
		c.Asked, c.Extra = []uint16{tt.asked}, []dhcpv6.Option{option6(39, []byte(tt.fqdn)...)}
		r := w.serve6(c.Solicit(), from6{})
		if len(r.replies) != 1 {
			t.Fatalf("%s: %v", name, r.outcome)
		}
		got := "-"
		if raw := options6(r.replies[0].Payload[4:])[39]; raw != nil {
			got = hex.EncodeToString(raw)
		}
		want := hex.EncodeToString([]byte(tt.want))
		if tt.want == "" {
			want = "-"
		}
		if got != want {
			t.Errorf("%s: answered %s, want %s", name, got, want)
		}
		if l := w.srv6.Leases(); len(l) != 1 || l[0].Hostname != tt.shown {
			t.Errorf("%s: leases %+v, want the name %q", name, l, tt.shown)
		}
		w.clock.Advance(dhcpd.DefaultOfferHold)
	}
}

// RFC 1035 section 2.3.4: a name has at most 255 bytes.
func TestANameThatIsTooLongIsNotAnswered(t *testing.T) {
	w := newWorld6(t)
	c := client6(1)
	for labels, answered := range map[int]bool{60: true, 2000: false} {
		c.Asked, c.Extra = []uint16{39}, []dhcpv6.Option{option6(39, append([]byte{0}, bytes.Repeat([]byte("\x03abc"), labels)...)...)}
		r := w.must6(advertise6, c.Solicit(), from6{})
		if (r.option(39) != "-") != answered || len(r.Payload) > 1232 || len(r.gives()) != 1 {
			t.Errorf("%d labels: %d bytes", labels, len(r.Payload))
		}
	}
}

// options6 are the options of a message as they are on the wire.
func options6(b []byte) map[dhcpv6.OptionCode][]byte {
	out := map[dhcpv6.OptionCode][]byte{}
	for len(b) >= 4 {
		n := int(b[2])<<8 | int(b[3])
		out[dhcpv6.OptionCode(b[0])<<8|dhcpv6.OptionCode(b[1])] = b[4 : 4+n]
		b = b[4+n:]
	}
	return out
}

// Section 19.3: every relay gets its own back.
func TestAReplyToRelaysGoesTheWholeWayBack(t *testing.T) {
	w := newWorld6(t)
	inner, outer := netip.MustParseAddr("fe80::aaaa"), netip.MustParseAddr("2001:db8:100::99")
	f := from6{src: netip.MustParseAddr("2001:db8:7::1"), dst: server6, srcMAC: [6]byte{2, 9}}
	c := client6(1)
	wrap := func(payload []byte) []byte {
		b := relayed6(payload, netip.IPv6Unspecified(), inner, dhcpv6.OptInterfaceID([]byte("port 7")))
		b = relayed6(b, outer, netip.MustParseAddr("fe80::bbbb"),
			dhcpv6.OptInterfaceID([]byte{}), option6(dhcpv6.OptionEchoRequest, 0, 37, 0, 18, 0, 9, 0, 99), option6(37, 0, 0, 0, 9, 'r'))
		return relayed6(b, netip.IPv6Unspecified(), netip.MustParseAddr("fe80::cccc"))
	}
	r := w.must6(advertise6, wrap(c.Solicit()), f)
	next := w.take(c, r)
	for _, r := range []*reply6{r, w.must6(reply6Type, wrap(next), f)} {
		if r.Dst != f.src || r.DstPort != 547 || r.DstMAC != f.srcMAC || len(r.relays) != 3 {
			t.Fatalf("to %s port %d, %x, %d relays", r.Dst, r.DstPort, r.DstMAC, len(r.relays))
		}
		for i, want := range []string{
			"2 :: fe80::cccc -", "1 2001:db8:100::99 fe80::bbbb ", "0 :: fe80::aaaa " + hex.EncodeToString([]byte("port 7")),
		} {
			l := r.relays[i]
			id := "-"
			if o := l.Options.GetOne(dhcpv6.OptionInterfaceID); o != nil {
				id = hex.EncodeToString(o.ToBytes())
			}
			if got := fmt.Sprintf("%d %s %s %s", l.HopCount, l.LinkAddr, l.PeerAddr, id); got != want {
				t.Errorf("relay %d: %q, want %q", i, got, want)
			}
		}
		// RFC 4994: what the relay wants echoed, and only that.
		if got := r.relays[1].Options.GetOne(37); got == nil || !bytes.Equal(got.ToBytes(), []byte{0, 0, 0, 9, 'r'}) {
			t.Errorf("option 37 echoed: %v", got)
		}
		if len(r.relays[1].Options.Options) != 3 || len(r.relays[0].Options.Options) != 1 {
			t.Errorf("options %v and %v", r.relays[1].Options.Options, r.relays[0].Options.Options)
		}
	}
	l := w.srv6.Leases()[0]
	if l.Relay != "port 7" || l.CHAddr != string(mac(1)) {
		t.Errorf("lease %+v, want the interface-id of the relay next to the client", l)
	}
	// Through relays any destination is as good as multicast (section 18.4).
	w.says(wrap(c.Release()), f, "Success")
}

// A relay that wants one option echoed many times gets it once.
func TestAnOptionIsEchoedOnce(t *testing.T) {
	w := newWorld6(t)
	list := bytes.Repeat([]byte{0, 37}, 8)
	b := relayed6(client6(1).Solicit(), netip.IPv6Unspecified(), local6,
		option6(dhcpv6.OptionEchoRequest, list...), option6(37, make([]byte, 8500)...))
	r := w.must6(advertise6, b, from6{})
	if n := len(r.relays[0].Options.Options); n != 2 || len(r.gives()) != 1 {
		t.Errorf("%d options, %d bytes, gives %v", n, len(r.Payload), r.gives())
	}
}

func TestARequestThroughThirtyTwoRelaysIsAnswered(t *testing.T) {
	w := newWorld6(t)
	b := client6(1).Solicit()
	for range 32 {
		b = relayed6(b, netip.IPv6Unspecified(), local6)
	}
	if r := w.must6(advertise6, b, from6{}); len(r.relays) != 32 || len(r.gives()) != 1 {
		t.Errorf("%d relays, %v", len(r.relays), r.gives())
	}
}

// Section 13.1, RFC 6221: the link is that of the nearest relay that tells one.
func TestTheRelayNextToTheClientTellsItsLink(t *testing.T) {
	w := newWorld6(t)
	here, there := netip.MustParseAddr("2001:db8:100::99"), netip.MustParseAddr("2001:db8:999::1")
	two := func(inner, outer netip.Addr) []byte {
		return relayed6(relayed6(client6(1).Solicit(), inner, local6), outer, local6)
	}
	w.must6(advertise6, two(here, there), from6{})
	w.silent6(dhcpd.IgnoredSubnet, two(there, here), from6{})
	w.must6(advertise6, two(netip.IPv6Unspecified(), here), from6{})
	w.must6(advertise6, two(netip.IPv6Unspecified(), netip.IPv6Unspecified()), from6{})
}

// RFC 6939, and the addresses within a DUID.
func TestTheClientsHardwareIsFoundOut(t *testing.T) {
	llt := append([]byte{0, 1, 0, 1, 9, 9, 9, 9}, mac(7)...)
	en := []byte{0, 2, 0, 0, 0, 9, 1}
	told := option6(79, append([]byte{0, 1}, mac(5)...)...)
	for name, tt := range map[string]struct {
		duid  []byte
		relay []dhcpv6.Option // nil: none
		want  net.HardwareAddr
	}{
		"of the frame":            {llt, nil, net.HardwareAddr{2, 3, 3, 3, 3, 3}},
		"told by the relay":       {llt, []dhcpv6.Option{told}, mac(5)},
		"within a DUID-LLT":       {llt, []dhcpv6.Option{}, mac(7)},
		"within a DUID-LL":        {nil, []dhcpv6.Option{}, mac(1)},
		"of another kind told":    {llt, []dhcpv6.Option{option6(79, 0, 6, 1, 2, 3, 4, 5, 6)}, mac(7)},
		"nowhere":                 {en, []dhcpv6.Option{}, nil},
		"a DUID-LLT too short":    {llt[:13], []dhcpv6.Option{}, nil},
		"a DUID-LL of Infiniband": {append([]byte{0, 3, 0, 32}, mac(7)...), []dhcpv6.Option{}, nil},
	} {
		w := newWorld6(t)
		c := client6(1)
		c.DUID = tt.duid
		b := c.Solicit()
		if tt.relay != nil {
			b = relayed6(b, netip.IPv6Unspecified(), local6, tt.relay...)
		}
		w.must6(advertise6, b, from6{srcMAC: [6]byte{2, 3, 3, 3, 3, 3}})
		l := w.srv6.Leases()[0]
		if l.CHAddr != string(tt.want) || (l.HType == 1) != (tt.want != nil) {
			t.Errorf("%s: %x, want %s", name, l.CHAddr, tt.want)
		}
	}
}

func TestMessagesOfIPv6AreCountedByType(t *testing.T) {
	w := newWorld6(t)
	c := client6(1)
	w.bind6(c)
	for _, message := range []func() []byte{c.Renew, c.Renew, c.Confirm, c.Inform, c.Release} {
		w.must6(reply6Type, message(), from6{})
	}
	w.must6(advertise6, relayed6(c.Solicit(), netip.IPv6Unspecified(), local6), from6{})
	s := w.srv6.Stats()
	if want := [dhcpd.MessageTypes]uint64{1: 2, 3: 1, 4: 1, 5: 2, 8: 1, 11: 1}; s.In != want {
		t.Errorf("in %v, want %v", s.In, want)
	}
	if want := [dhcpd.MessageTypes]uint64{2: 2, 7: 6}; s.Out != want {
		t.Errorf("out %v, want %v", s.Out, want)
	}
}
