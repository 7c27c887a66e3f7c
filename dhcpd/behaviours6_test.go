package dhcpd_test

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"

	"github.com/uvtep/uvtep/dhcpd"
	"github.com/uvtep/uvtep/dhcpd/dhcpdtest"
)

const (
	advertise6 = dhcpv6.MessageTypeAdvertise
	reply6Type = dhcpv6.MessageTypeReply
)

// The behaviours of DHCPv6, in the order of RFC 8415 section 18.3. What the
// message is about is told by reply6.says.

func (w *world6) says(payload []byte, f from6, want ...string) *reply6 {
	w.Helper()
	r := w.ask6(payload, f)
	if r == nil {
		w.Fatalf("silence, want %q", want)
	}
	if got := r.says(); !slices.Equal(got, want) {
		w.Errorf("%v says %q, want %q", r.MessageType, got, want)
	}
	return r
}

// Sections 18.3.1 and 18.3.2.
func TestARequestGetsWhatWasAdvertised(t *testing.T) {
	w := newWorld6(t)
	c := client6(1)
	c.NA, c.PD = []uint32{7}, []uint32{9}
	a, r := w.bind6(c)
	if got, want := r.gives(), a.gives(); !slices.Equal(got, want) || len(got) != 2 {
		t.Errorf("gave %v, advertised %v", got, want)
	}
	if !prefix("2001:db8:100::/64").Contains(a.gives()[0].Addr()) || !prefix("2001:db8:200::/48").Overlaps(a.gives()[1]) {
		t.Errorf("advertised %v", a.gives())
	}
	// The two differ in nothing but their type and the transaction.
	same := func(r *reply6) []byte { return r.Payload[4:] }
	if !bytes.Equal(same(a), same(r)) {
		t.Errorf("ADVERTISE and REPLY differ:\n%x\n%x", a.Payload, r.Payload)
	}
}

// Section 21.4: T1 and T2 follow from the preferred lifetime, section 14.2.
func TestALeaseHasItsTimes(t *testing.T) {
	for name, tt := range map[string]struct {
		edit                     func(*dhcpd.SegmentConfig6)
		valid, preferred, t1, t2 time.Duration
	}{
		"by default": {func(*dhcpd.SegmentConfig6) {}, 12 * time.Hour, 450 * time.Minute, 225 * time.Minute, 6 * time.Hour},
		"all given": {func(c *dhcpd.SegmentConfig6) {
			c.Lease, c.Preferred, c.T1, c.T2 = time.Hour, 50*time.Minute, 10*time.Minute, 40*time.Minute
		}, time.Hour, 50 * time.Minute, 10 * time.Minute, 40 * time.Minute},
		"T1 given": {func(c *dhcpd.SegmentConfig6) { c.Lease, c.Preferred, c.T1 = time.Hour, time.Hour, 10*time.Minute },
			time.Hour, time.Hour, 10 * time.Minute, 40 * time.Minute},
		"T2 given": {func(c *dhcpd.SegmentConfig6) { c.Lease, c.T2 = 2*time.Hour, 40*time.Minute },
			2 * time.Hour, 75 * time.Minute, 25 * time.Minute, 40 * time.Minute},
		"the shortest": {func(c *dhcpd.SegmentConfig6) { c.Lease = dhcpd.MinLease },
			10 * time.Second, 6 * time.Second, 3 * time.Second, 4 * time.Second},
	} {
		w := newWorld6(t, tt.edit)
		c := client6(1)
		c.NA, c.PD = []uint32{1}, []uint32{1}
		_, r := w.bind6(c)
		na, pd := r.Options.OneIANA(), r.Options.OneIAPD()
		if na.T1 != tt.t1 || na.T2 != tt.t2 || pd.T1 != tt.t1 || pd.T2 != tt.t2 {
			t.Errorf("%s: T1 %s %s, T2 %s %s, want %s, %s", name, na.T1, pd.T1, na.T2, pd.T2, tt.t1, tt.t2)
		}
		for _, l := range c.Leases {
			if l.Valid != tt.valid || l.Preferred != tt.preferred {
				t.Errorf("%s: %s valid for %s, preferred for %s", name, l.Prefix, l.Valid, l.Preferred)
			}
		}
		if l, _ := w.srv6.Lookup(c.Leases[0].Prefix.Addr()); !l.Expires.Equal(w.clock.Now().Add(tt.valid)) {
			t.Errorf("%s: the lease ends at %s", name, l.Expires)
		}
	}
}

// Section 18.3.10: the reply goes back to where a direct message came from.
func TestAReplyGoesToTheSenderAndEchoesItsIdentifiers(t *testing.T) {
	w := newWorld6(t)
	c := client6(1)
	c.DUID = []byte{0, 77, 1, 2, 3, 0, 0} // a DUID of no known type
	f := from6{src: netip.MustParseAddr("fe80::77"), srcMAC: [6]byte{2, 7, 7}}
	for _, r := range func() []*reply6 { a, r := w.bind6From(c, f); return []*reply6{a, r} }() {
		if r.Dst != f.src || r.DstPort != 546 || r.DstMAC != f.srcMAC {
			t.Errorf("%v sent to %s port %d, %x", r.MessageType, r.Dst, r.DstPort, r.DstMAC)
		}
		if got := r.option(1); got != "004d0102030000" {
			t.Errorf("%v has client identifier %s", r.MessageType, got)
		}
		if got := r.option(2); got != "0003001b0000000000000002" {
			t.Errorf("%v has server identifier %s", r.MessageType, got)
		}
	}
}

// Section 18.3.1: option 14 counts only where both sides want it.
func TestRapidCommitGivesTheLeaseAtOnce(t *testing.T) {
	for _, tt := range []struct {
		server, client bool
		want           dhcpv6.MessageType
	}{{true, true, reply6Type}, {true, false, advertise6}, {false, true, advertise6}} {
		w := newWorld6(t, func(c *dhcpd.SegmentConfig6) { c.RapidCommit = tt.server })
		c := client6(1)
		c.Rapid = tt.client
		r := w.must6(tt.want, c.Solicit(), from6{})
		if rapid := r.GetOneOption(dhcpv6.OptionRapidCommit) != nil; rapid != (tt.want == reply6Type) {
			t.Errorf("server %t, client %t: option 14 %t", tt.server, tt.client, rapid)
		}
		if n := len(leases6(t, w.store.Under, 100)); (n == 1) != (tt.want == reply6Type) {
			t.Errorf("server %t, client %t: %d leases stored", tt.server, tt.client, n)
		}
	}
	// Without anything to give it is an ADVERTISE that says so.
	w := newWorld6(t, pool6(0+1), func(c *dhcpd.SegmentConfig6) { c.RapidCommit = true })
	w.bind6(client6(1))
	c := client6(2)
	c.Rapid = true
	if r := w.must6(advertise6, c.Solicit(), from6{}); !slices.Equal(r.says(), []string{"NA 1 NoAddrsAvail"}) {
		t.Errorf("says %q", r.says())
	}
}

// Section 12: each identity association is a client of its own.
func TestEachIdentityAssociationHasItsOwnLease(t *testing.T) {
	w := newWorld6(t)
	c := client6(1)
	c.NA, c.PD = []uint32{1, 2, 3}, []uint32{1, 2}
	_, r := w.bind6(c)
	seen := map[netip.Prefix]bool{}
	for _, p := range r.gives() {
		seen[p] = true
	}
	if len(seen) != 5 {
		t.Fatalf("%v, want five different leases", r.gives())
	}
	// Each by itself later, too.
	d := client6(1)
	d.NA, d.Server, d.Leases = []uint32{2}, c.Server, c.Leases
	if got := w.gift(w.must6(reply6Type, d.Renew(), from6{})); got != c.Leases[1].Prefix {
		t.Errorf("renewed %s, want %s", got, c.Leases[1].Prefix)
	}
	if n := len(w.srv6.Leases()); n != 5 {
		t.Errorf("%d leases, want 5", n)
	}
}

// Section 18.3.2 and the list of status codes, section 21.13.
func TestTemporaryAddressesAreNotGiven(t *testing.T) {
	w := newWorld6(t)
	c := client6(1)
	ta := option6(dhcpv6.OptionIATA, 0, 0, 0, 5)
	with := func(payload []byte) []byte { return edit6(payload, func(m *dhcpv6.Message) { m.AddOption(ta) }) }
	a := w.must6(advertise6, with(c.Solicit()), from6{})
	if got := a.says(); got[1] != "TA 5 NoAddrsAvail" || len(a.gives()) != 1 {
		t.Errorf("says %q", got)
	}
	r := w.must6(reply6Type, with(w.take(c, a)), from6{})
	if got := r.says(); got[1] != "TA 5 NoAddrsAvail" || len(r.gives()) != 1 {
		t.Errorf("says %q", got)
	}
	w.take(c, w.must6(reply6Type, c.Renew(), from6{}))
	if got := w.must6(reply6Type, with(c.Renew()), from6{}).says(); got[1] != "TA 5 NoBinding" {
		t.Errorf("says %q", got)
	}
}

// Section 18.3.1: an address that the client asks for and may have it gets.
func TestAHintIsHonouredWhereItCanBe(t *testing.T) {
	w := newWorld6(t)
	taken := client6(9)
	taken.Hints = []netip.Prefix{one(addr6(0x2222))}
	w.bind6(taken)
	for name, tt := range map[string]struct {
		hint  netip.Prefix
		given bool
	}{
		"in the range":      {one(addr6(0x1234)), true},
		"outside the range": {one(addr6(0x99)), false},
		"of another client": {one(addr6(0x2222)), false},
		"the server's":      {one(server6), false},
		"of another link":   {one(netip.MustParseAddr("2001:db8:999::1")), false},
	} {
		c := client6(1)
		c.Hints = []netip.Prefix{tt.hint}
		if got := w.gift(w.must6(advertise6, c.Solicit(), from6{})); (got == tt.hint) != tt.given {
			t.Errorf("%s: %s advertised for %s", name, got, tt.hint)
		}
		w.clock.Advance(time.Hour) // the offer lapses
	}
	c := client6(2)
	c.PD, c.Hints = []uint32{3}, []netip.Prefix{prefix("2001:db8:200:ab00::/56")}
	if got := w.gift(w.must6(advertise6, c.Solicit(), from6{})); got != c.Hints[0] {
		t.Errorf("%s advertised for %s", got, c.Hints[0])
	}
}

// RFC 8168 section 3.2: of several lengths the client gets the one that suits it.
func TestAPrefixLengthHintChoosesTheDelegation(t *testing.T) {
	w := newWorld6(t, func(c *dhcpd.SegmentConfig6) {
		c.Delegations = []dhcpd.Delegation{
			{Prefix: prefix("2001:db8:200::/48"), Length: 56}, {Prefix: prefix("2001:db8:300::/48"), Length: 60},
			{Prefix: prefix("2001:db8:400::/48"), Length: 64}, {Prefix: prefix("2001:db8:500::/44"), Length: 48},
		}
	})
	for hint, want := range map[string]int{
		"::/60": 60, "::/64": 64, "::/48": 48, "::/62": 60, "::/57": 56, "::/72": 64, "::/40": 48, "2001:db8:200::/64": 64,
	} {
		c := client6(1)
		c.PD, c.Hints = []uint32{3}, []netip.Prefix{prefix(hint)}
		if got := w.gift(w.must6(advertise6, c.Solicit(), from6{})); got.Bits() != want {
			t.Errorf("%s asked for, %s advertised, want a /%d", hint, got, want)
		}
		w.clock.Advance(time.Hour)
	}
}

// Section 18.3.2.
func TestARequestForAnAddressOfAnotherLinkIsToldSo(t *testing.T) {
	w := newWorld6(t)
	c := client6(1)
	c.Server = config6().ServerDUID()
	c.NA = []uint32{1, 2}
	c.Offer = []dhcpdtest.Lease6{{IAID: 1, Prefix: one(netip.MustParseAddr("2001:db8:999::1"))}, {IAID: 2, Prefix: one(addr6(0x3000))}}
	w.says(c.Request(), from6{}, "NA 1 NotOnLink", "NA 2 2001:db8:100::3000")
}

// Section 18.3.2: a client that lost the server's memory, or the server its own.
func TestARequestWithoutAnOfferOnRecordGetsTheAddressIfItIsFree(t *testing.T) {
	w := newWorld6(t)
	c := client6(1)
	request := w.take(c, w.must6(advertise6, c.Solicit(), from6{}))
	again := newWorld6On(t, w.clock, w.store.Under)
	if got := again.gift(again.must6(reply6Type, request, from6{})); got != c.Offer[0].Prefix {
		t.Errorf("gave %s, want %s", got, c.Offer[0].Prefix)
	}
	// Another that asks for it gets another address, not silence.
	d := client6(2)
	d.Server, d.Offer = c.Server, c.Offer
	if got := again.gift(again.must6(reply6Type, d.Request(), from6{})); got == c.Offer[0].Prefix {
		t.Errorf("%s was given to two clients", got)
	}
}

// Section 18.3.3.
func TestConfirmTellsWhetherTheLinkIsTheSame(t *testing.T) {
	w := newWorld6(t)
	at := func(all ...string) *dhcpdtest.Client6 {
		c := client6(1)
		c.PD = []uint32{4} // is no matter of CONFIRM
		for i, a := range all {
			c.NA = append(c.NA, uint32(i))
			c.Leases = append(c.Leases, dhcpdtest.Lease6{IAID: uint32(i), Prefix: one(netip.MustParseAddr(a))})
		}
		return c
	}
	w.says(at("2001:db8:100::5").Confirm(), from6{}, "Success")
	w.says(at("2001:db8:100::5", "2001:db8:999::5").Confirm(), from6{}, "NotOnLink")
	w.silent6(dhcpd.IgnoredAddress, at().Confirm(), from6{})
	c := at()
	c.NA = []uint32{1}
	w.silent6(dhcpd.IgnoredAddress, c.Confirm(), from6{})
	if !w.happened(dhcpd.EventRefused) || len(w.srv6.Leases()) != 0 {
		t.Errorf("events %v, leases %v", w.kinds(), w.srv6.Leases())
	}
}

// Section 18.3.4.
func TestARenewalProlongsTheLease(t *testing.T) {
	w := newWorld6(t)
	c := client6(1)
	c.NA, c.PD = []uint32{1}, []uint32{1}
	w.bind6(c)
	had := slices.Clone(c.Leases)
	for _, message := range []func() []byte{c.Renew, c.Rebind} {
		w.clock.Advance(5 * time.Hour)
		w.take(c, w.must6(reply6Type, message(), from6{}))
		if !slices.Equal(c.Leases, had) {
			t.Errorf("renewed %v, had %v", c.Leases, had)
		}
		for _, l := range w.srv6.Leases() {
			if !l.Expires.Equal(w.clock.Now().Add(12 * time.Hour)) {
				t.Errorf("the lease of %s ends at %s", l.IP, l.Expires)
			}
		}
	}
	if n := len(slices.DeleteFunc(w.kinds(), func(k dhcpd.EventKind) bool { return k != dhcpd.EventRenewed })); n != 4 {
		t.Errorf("events %v", w.kinds())
	}
}

// Sections 18.3.4 and 18.3.5, where the server has no record of the client.
func TestWhatIsNotOnRecordIsRenewedOnlyIfItCanBeTheClients(t *testing.T) {
	const free, other, foreign = "2001:db8:100::1234", "2001:db8:100::2222", "2001:db8:999::1"
	has := func(a string) *dhcpdtest.Client6 {
		c := client6(1)
		c.Server = config6().ServerDUID()
		if a != "" {
			c.Leases = []dhcpdtest.Lease6{{IAID: 1, Prefix: one(netip.MustParseAddr(a))}}
		}
		return c
	}
	for name, tt := range map[string]struct {
		has           string
		rebind, rapid bool
		want          string // "new" is an address that it did not have
	}{
		"a free address":            {has: free, want: "NA 1 " + free},
		"another client's":          {has: other, want: "NA 1 NoBinding"},
		"of another link":           {has: foreign, want: "NA 1 new " + foreign + " gone"},
		"none yet":                  {has: "", want: "NA 1 new"},
		"outside the ranges":        {has: "2001:db8:100::77", want: "NA 1 NoBinding"},
		"a free one, rebound":       {has: free, rebind: true, want: "NA 1 NoBinding"},
		"another link's, rebound":   {has: foreign, rebind: true, want: "NA 1 " + foreign + " gone"},
		"a free one, alone":         {has: free, rebind: true, rapid: true, want: "NA 1 " + free},
		"another client's, rebound": {has: other, rebind: true, want: "NA 1 NoBinding"},
	} {
		w := newWorld6(t, func(c *dhcpd.SegmentConfig6) { c.RapidCommit = tt.rapid })
		d := client6(2)
		d.Hints = []netip.Prefix{one(netip.MustParseAddr(other))}
		w.bind6(d)
		c := has(tt.has)
		message := c.Renew
		if tt.rebind {
			message = c.Rebind
		}
		r := w.must6(reply6Type, message(), from6{})
		got := r.says()[0]
		if given := r.gives(); len(given) == 1 && given[0] != one(netip.MustParseAddr(free)) {
			got = string(bytes.Replace([]byte(got), []byte(given[0].Addr().String()), []byte("new"), 1))
		}
		if got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

// A prefix of 128 bits is no address.
func TestAPrefixOfOneAddressIsNobodysAddress(t *testing.T) {
	w := newWorld6(t)
	c := client6(1)
	c.Server = config6().ServerDUID()
	pd := append([]byte{0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 26, 0, 25, 0, 0, 0, 0, 0, 0, 0, 0, 128}, addr6(0x1234).AsSlice()...)
	payload := edit6(c.Renew(), func(m *dhcpv6.Message) {
		m.Options.Del(dhcpv6.OptionIANA)
		m.AddOption(option6(dhcpv6.OptionIAPD, pd...))
	})
	w.says(payload, from6{}, "PD 1 NoBinding")
	if n := len(w.srv6.Leases()); n != 0 {
		t.Errorf("%d leases", n)
	}
}

// Section 18.3.4: "lifetimes of 0" for what the client no longer has.
func TestARenewalTellsWhatIsNoLongerTheClients(t *testing.T) {
	w := newWorld6(t)
	c := client6(1)
	w.bind6(c)
	had := c.Leases[0].Prefix.Addr().String()
	c.Leases = append(c.Leases, dhcpdtest.Lease6{IAID: 1, Prefix: one(addr6(0x4444))})
	w.says(c.Renew(), from6{}, "NA 1 "+had+" 2001:db8:100::4444 gone")
	// A reservation moves the client: it is told in one reply.
	if err := w.srv6.Reserve(dhcpd.Reservation6{DUID: c.ID(), IP: addr6(0x50)}); err != nil {
		t.Fatal(err)
	}
	c.Leases = c.Leases[:1]
	r := w.says(c.Renew(), from6{}, "NA 1 2001:db8:100::50 "+had+" gone")
	// It may not hear that, and is told again; until it shows that it knows, nobody
	// else gets what it had.
	states := func() (out []dhcpd.State) {
		for _, l := range leases6(t, w.store.Under, 100) {
			out = append(out, l.State)
		}
		return out
	}
	again := newWorld6On(t, w.clock, w.store.Under, reserved6(dhcpd.Reservation6{DUID: c.ID(), IP: addr6(0x50)}))
	again.says(c.Renew(), from6{}, "NA 1 2001:db8:100::50 "+had+" gone")
	w.take(c, w.says(c.Renew(), from6{}, r.says()...))
	if got := states(); !slices.Equal(got, []dhcpd.State{dhcpd.StateBound, dhcpd.StateBound}) {
		t.Errorf("stored are leases that are %v", got)
	}
	w.says(c.Renew(), from6{}, "NA 1 2001:db8:100::50")
	if got := states(); !slices.Equal(got, []dhcpd.State{dhcpd.StateBound, dhcpd.StateFree}) {
		t.Errorf("stored are leases that are %v", got)
	}
}

// Section 18.2.10.1: what a REPLY is silent about the client keeps.
func TestARequestTellsWhatIsNoLongerTheClients(t *testing.T) {
	for name, rapid := range map[string]bool{"REQUEST": false, "SOLICIT": true} {
		w := newWorld6(t, func(c *dhcpd.SegmentConfig6) { c.RapidCommit = rapid })
		c := client6(1)
		w.bind6(c)
		had := c.Leases[0].Prefix.Addr().String()
		must(t, w.srv6.Reserve(dhcpd.Reservation6{DUID: c.ID(), IP: addr6(0x50)}))
		c.Rapid = rapid
		if rapid {
			w.says(c.Solicit(), from6{}, "NA 1 2001:db8:100::50 "+had+" gone")
			continue
		}
		a := w.says(c.Solicit(), from6{}, "NA 1 2001:db8:100::50")
		if r := w.says(w.take(c, a), from6{}, "NA 1 2001:db8:100::50 "+had+" gone"); r.MessageType != reply6Type {
			t.Errorf("%s: %v", name, r.MessageType)
		}
	}
}
