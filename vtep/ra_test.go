package vtep

import (
	"context"
	"encoding/hex"
	"errors"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/gopacket/layers"

	"github.com/uvtep/uvtep/fdb"
)

func TestARouterAdvertisementSaysWhatIsConfigured(t *testing.T) {
	prefix := netip.MustParsePrefix
	for _, c := range []struct {
		name string
		cfg  RAConfig
		mtu  int
		last bool
		want string // flags and router lifetime, and the options
	}{
		{"nothing", RAConfig{}, 1450, false,
			"40 00 0000 0101020000000007 0501 0000 000005aa"},
		{"flags, and no MTU", RAConfig{Managed: true, Other: true, MTU: -1}, 1450, false,
			"40 c0 0000 0101020000000007"},
		{"a segment too small for IPv6", RAConfig{}, 1279, false,
			"40 00 0000 0101020000000007"},
		{"an MTU of its own, and a router", RAConfig{Managed: true, MTU: 1300, Lifetime: 30 * time.Minute}, 1450, false,
			"40 80 0708 0101020000000007 0501 0000 00000514"},
		{"prefixes", RAConfig{MTU: -1, Prefixes: []RAPrefix{
			{Prefix: prefix("2001:db8:1::/64"), OnLink: true, Autonomous: true},
			{Prefix: prefix("2001:db8:2::/48"), Valid: time.Hour, Preferred: time.Minute},
			{Prefix: prefix("2001:db8:3::/64"), OnLink: true, Valid: 200 * 365 * 24 * time.Hour, Preferred: 200 * 365 * 24 * time.Hour},
			{Prefix: prefix("2001:db8:4::/64"), Autonomous: true, Valid: time.Hour},
		}}, 1450, false,
			"40 00 0000 0101020000000007" +
				"0304 40c0 00278d00 00093a80 00000000 20010db8000100000000000000000000" +
				"0304 3000 00000e10 0000003c 00000000 20010db8000200000000000000000000" +
				"0304 4080 ffffffff ffffffff 00000000 20010db8000300000000000000000000" +
				"0304 4040 00000e10 00000e10 00000000 20010db8000400000000000000000000"},
		{"DNS", RAConfig{MTU: -1, DNS: []netip.Addr{ip("2001:db8::1"), ip("2001:db8::2")}, Search: []string{"blue.example", "a."}, Interval: 100 * time.Second}, 1450, false,
			"40 00 0000 0101020000000007" +
				"1905 0000 0000012c 20010db8000000000000000000000001 20010db8000000000000000000000002" +
				"1f04 0000 0000012c 04626c7565 076578616d706c65 00 0161 00" + "00000000000000"},
		{"the last one", RAConfig{MTU: -1, Lifetime: time.Hour, Prefixes: []RAPrefix{{Prefix: prefix("2001:db8:1::/64"), OnLink: true}}, DNS: []netip.Addr{ip("2001:db8::1")}}, 1450, true,
			"40 00 0000 0101020000000007" +
				"0304 4080 00278d00 00093a80 00000000 20010db8000100000000000000000000" +
				"1903 0000 00000000 20010db8000000000000000000000001"},
	} {
		if err := c.cfg.check(c.mtu); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		m := c.cfg.withDefaults().message(c.mtu, mac(7), c.last)
		want := strings.ReplaceAll(c.want, " ", "")
		want = "86000000" + want[:8] + strings.Repeat("0", 16) + want[8:]
		if got := hex.EncodeToString(m); got != want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, want)
		}
	}
}

func TestRouterAdvertisementsThatCannotBeAreRefused(t *testing.T) {
	r := newRig(t, Config{})
	many := make([]netip.Addr, 128)
	for i := range many {
		many[i] = ip("2001:db8::1")
	}
	pfx := func(s string) RAConfig { return RAConfig{Prefixes: []RAPrefix{{Prefix: netip.MustParsePrefix(s)}}} }
	for _, c := range []struct {
		cfg  RAConfig
		want string
	}{
		{RAConfig{Interval: 3 * time.Second}, "the interval 3s of router advertisements is outside 4s..30m0s"},
		{RAConfig{Interval: time.Hour}, "the interval 1h0m0s of"},
		{RAConfig{Lifetime: 9 * time.Minute}, "the lifetime 9m0s of a router is neither 0 nor between the interval, 10m0s, and 18h12m15s"},
		{RAConfig{Lifetime: 19 * time.Hour}, "the lifetime 19h0m0s"},
		{RAConfig{Lifetime: -time.Hour}, "the lifetime -1h0m0s"},
		{RAConfig{MTU: 1279}, "the MTU 1279 of router advertisements is outside 1280..1450"},
		{RAConfig{MTU: 1451}, "the MTU 1451"},
		{pfx("10.0.0.0/8"), "10.0.0.0/8 is no IPv6 prefix that can be announced"},
		{pfx("fe80::/64"), "fe80::/64 is no IPv6 prefix"},
		{pfx("ff00::/8"), "ff00::/8 is no IPv6 prefix"},
		{pfx("2001:db8::1/64"), "2001:db8::1/64 is no IPv6 prefix"},
		{RAConfig{Prefixes: []RAPrefix{{}}}, "invalid Prefix is no IPv6 prefix"},
		{RAConfig{Prefixes: []RAPrefix{{Prefix: netip.MustParsePrefix("2001:db8::/64"), Valid: time.Hour, Preferred: 2 * time.Hour}}}, "preferred for longer than valid"},
		{RAConfig{DNS: []netip.Addr{server}}, "the DNS server 192.168.100.2 of router advertisements is not a unicast IPv6 address"},
		{RAConfig{DNS: []netip.Addr{allNodes}}, "the DNS server ff02::1"},
		{RAConfig{DNS: many}, "128 DNS servers and search domains of 0 bytes are more than router advertisements can carry"},
		{RAConfig{DNS: many[:100]}, "router advertisements of 1680 bytes do not fit the MTU 1450"},
		{RAConfig{Search: []string{"blue..example"}}, `"blue..example" is no domain name`},
		{RAConfig{Search: []string{strings.Repeat("a", 64)}}, "is no domain name"},
		{RAConfig{Search: []string{strings.Repeat("a.", 127) + "a"}}, "is no domain name"},
		{RAConfig{Search: []string{""}}, `"" is no domain name`},
	} {
		_, err := r.v.AddSegment(SegmentConfig{VNI: 7, MTU: 1450, RA: &c.cfg})
		if !errors.Is(err, ErrInvalid) || !strings.HasPrefix(err.Error(), "segment 7: invalid configuration: ") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, want %q", err, c.want)
		}
	}
}

// advertising is a segment 100 with ports a and b, and peer2, whose VTEP
// advertises by a clock that the test turns.
type advertising struct {
	*rig
	s   *Segment
	now atomic.Int64 // seconds and nanoseconds since the epoch
}

func newAdvertising(t *testing.T, cfg RAConfig) *advertising {
	t.Helper()
	a := &advertising{}
	a.now.Store(int64(time.Hour))
	a.rig = newRig(t, Config{Clock: func() time.Time { return time.Unix(0, a.now.Load()) }})
	a.v.serving.Store(true)
	// after has things happen; nothing does by itself.
	a.v.after = func(d time.Duration, _ func()) *time.Timer { return time.AfterFunc(d, func() {}) }
	a.s = a.segment(SegmentConfig{VNI: 100, MTU: 1450, Peers: []netip.Addr{peer2}, RA: &cfg}, "a", "b")
	return a
}

func (a *advertising) ra() *advertiser { return a.s.view.Load().service.ra }

// after turns the clock and returns where advertisements went, as
// everybody, or a place and the address there.
func (a *advertising) after(d time.Duration) string {
	a.t.Helper()
	a.now.Add(int64(d))
	if sv := a.s.view.Load().service; sv != nil && sv.ra != nil {
		sv.ra.tick()
	}
	a.turn()
	return a.adverts()
}

func (a *advertising) adverts() string {
	a.t.Helper()
	own := serviceMAC(self, 100)
	var all []string
	for _, o := range a.outs() {
		p := honest(a.t, o.bytes)
		e, h := p.Layer(layers.LayerTypeEthernet).(*layers.Ethernet), p.Layer(layers.LayerTypeIPv6).(*layers.IPv6)
		m, ok := p.Layer(layers.LayerTypeICMPv6RouterAdvertisement).(*layers.ICMPv6RouterAdvertisement)
		if !ok || fdb.MACOf(e.SrcMAC) != own || !h.SrcIP.Equal(linkLocal(own).AsSlice()) || h.HopLimit != 255 {
			a.t.Fatalf("this is no advertisement: %v", p)
		}
		dst, _ := netip.AddrFromSlice(h.DstIP)
		if dst.IsMulticast() != (fdb.MACOf(e.DstMAC) == allNodesMAC) {
			a.t.Errorf("to %v at %v", dst, e.DstMAC)
		}
		what := o.where
		if !dst.IsMulticast() {
			what += "=" + dst.String()
		}
		if m.RouterLifetime == 0 {
			what += "!"
		}
		all = append(all, what)
	}
	return strings.Join(all, " ")
}

const toAll = "a b @10.9.0.2"

func routerSolicitation(t testing.TB, src fdb.MAC, from, to netip.Addr, source bool) []byte {
	rs := &layers.ICMPv6RouterSolicitation{}
	if source {
		rs.Options = layers.ICMPv6Options{{Type: layers.ICMPv6OptSourceAddress, Data: hw(src)}}
	}
	return icmp6(t, multicastMAC(to), src, ipv6(from, to, 255, layers.IPProtocolICMPv6), layers.ICMPv6TypeRouterSolicitation, rs)
}

func TestTheFirstAdvertisementsFollowEachOtherSoonAndTheOthersAtRandomTimes(t *testing.T) {
	a := newAdvertising(t, RAConfig{Lifetime: time.Hour, Interval: 10 * time.Minute})
	// The first one was due before there was anybody.
	a.after(0)
	a.adverts()
	seen := map[time.Duration]bool{}
	for i := range 40 {
		wait := a.ra().next.Sub(a.v.cfg.Clock())
		if i < 2 && wait > 16*time.Second || i >= 2 && (wait < 200*time.Second || wait > 600*time.Second) {
			t.Errorf("number %d comes after %v", i+2, wait)
		}
		seen[wait] = true
		if got := a.after(wait - time.Millisecond); got != "" {
			t.Fatalf("sent too soon: %s", got)
		}
		if got := a.after(time.Millisecond); got != toAll {
			t.Fatalf("number %d went to %q", i+2, got)
		}
	}
	if len(seen) < 20 {
		t.Errorf("only %d different intervals", len(seen))
	}
	for range 100 {
		a.ra().cfg.Interval = 4 * time.Second
		if d := a.ra().interval(); d < 3*time.Second || d > 4*time.Second {
			t.Errorf("an interval of %v", d)
		}
	}
	if d := a.dropped(); d != "" {
		t.Errorf("drops: %s", d)
	}
}

func TestWhoAsksForAnAdvertisementIsAnsweredThereAndSoon(t *testing.T) {
	a := newAdvertising(t, RAConfig{Lifetime: time.Hour})
	a.after(0)
	for range 3 {
		a.after(time.Hour)
	}
	a.adverts()
	each(t, a.rig, func(t *testing.T, back string, ask func([]byte) []out) {
		b := routerSolicitation(t, mac(1), guest6, allRouters, true)
		everybody := map[string]string{"a": "@10.9.0.2 b"}[back] // other routers, too
		if back != "a" {
			everybody = "a b"
		}
		expect(t, "the solicitation", whereTo(ask(b), b), everybody)
		expect(t, "the same again", whereTo(ask(b), b), everybody)
		if got := a.after(500 * time.Millisecond); got != back+"="+guest6.String() {
			t.Errorf("answered to %q", got)
		}
		if got := a.after(time.Second); got != "" {
			t.Errorf("and then %q", got)
		}
	})
	// Who has no address yet can only be told with everybody else, and that no
	// sooner than three seconds after the last time.
	a.ra().last = a.v.cfg.Clock().Add(-time.Second)
	b := routerSolicitation(t, mac(1), netip.IPv6Unspecified(), allRouters, false)
	expect(t, "a solicitation from nobody", a.fromPort("b", b), "@10.9.0.2 a")
	if got := a.after(time.Second); got != "" {
		t.Errorf("one second later: %q", got)
	}
	if got := a.after(time.Second + 500*time.Millisecond); got != toAll {
		t.Errorf("three seconds later: %q", got)
	}
	// What is to come sooner still does.
	a.ra().last, a.ra().next = a.v.cfg.Clock(), a.v.cfg.Clock().Add(time.Second)
	a.fromPort("b", b)
	if got := a.after(time.Second); got != toAll {
		t.Errorf("one that was due: %q", got)
	}
	// To this router alone.
	alone := routerSolicitation(t, mac(1), guest6, linkLocal(serviceMAC(self, 100)), true)
	serviceMAC(self, 100).Put(alone)
	expect(t, "a solicitation to the router's address", a.fromPort("a", alone), "")
	if got := a.after(advertDelay); got != "a="+guest6.String() {
		t.Errorf("the router's address: answered to %q", got)
	}
	a.after(advertGap)
	a.outs()
	// Of very many, everybody is told.
	for i := range 2 * maxSolicitors {
		from := guest6.As16()
		from[14] = byte(i)
		a.fromPort("a", routerSolicitation(t, mac(1), netip.AddrFrom16(from), allRouters, true))
	}
	if n := len(a.ra().asked); n != maxSolicitors {
		t.Errorf("%d are to be answered", n)
	}
	if got := a.after(3 * time.Second); got != toAll {
		t.Errorf("very many: %q", got)
	}
	if got := a.after(3 * time.Second); got != "" {
		t.Errorf("and then: %q", got)
	}
	if d := a.dropped(); d != "" {
		t.Errorf("drops: %s", d)
	}
}

func TestSolicitationsThatCannotBeRightAreNotAnswered(t *testing.T) {
	a := newAdvertising(t, RAConfig{})
	a.after(0)
	for range 3 {
		a.after(time.Hour)
	}
	right := routerSolicitation(t, mac(1), guest6, allRouters, true)
	edit := func(at int, v byte) []byte {
		b := []byte(string(right))
		b[at] ^= v
		return b
	}
	far := icmp6(t, multicastMAC(allRouters), mac(1), ipv6(guest6, allRouters, 254, layers.IPProtocolICMPv6), layers.ICMPv6TypeRouterSolicitation, &layers.ICMPv6RouterSolicitation{})
	for name, b := range map[string][]byte{
		"from behind a router": far, "with a wrong checksum": edit(56, 1), "with a code": edit(55, 1), "with an option without a length": edit(63, 1),
		"to all nodes":             routerSolicitation(t, mac(1), guest6, allNodes, true),
		"from nobody, with a MAC":  routerSolicitation(t, mac(1), netip.IPv6Unspecified(), allRouters, true),
		"from a group":             routerSolicitation(t, mac(1), allNodes, allRouters, true),
		"in a VLAN":                vlan(right),
		"an advertisement instead": edit(54, 133^134),
	} {
		want := "@10.9.0.2 b"
		if name == "an advertisement instead" {
			want = "" // the port is not trusted
		}
		expect(t, name, a.fromPort("a", b), want)
		if n := len(a.ra().asked); n != 0 {
			t.Errorf("%s: is to be answered", name)
			a.ra().asked = nil
		}
	}
	a.fromPort("a", right)
	if n := len(a.ra().asked); n != 1 {
		t.Errorf("a right one: %d are to be answered", n)
	}
}

func TestTheLastAdvertisementSaysThatThereIsNoRouterAnyMore(t *testing.T) {
	last := "a! b! @10.9.0.2!"
	router := RAConfig{Lifetime: time.Hour}
	for _, c := range []struct {
		name string
		end  func(a *advertising) error
		want string
	}{
		{"taken away", func(a *advertising) error {
			cfg := a.s.Config()
			cfg.RA = nil
			return a.s.Reconfigure(cfg)
		}, last},
		{"taken away for DHCPv6", func(a *advertising) error {
			cfg := a.s.Config()
			cfg.RA, cfg.DHCP6 = nil, dhcp6Config()
			return a.s.Reconfigure(cfg)
		}, last},
		{"the segment removed", func(a *advertising) error {
			w := a.v.workers[0] // which is at work meanwhile
			done := make(chan struct{})
			go func() {
				defer close(done)
				for !w.mail.Load() {
					time.Sleep(time.Millisecond)
				}
				w.takeInbox()
			}()
			err := a.v.RemoveSegment(100)
			<-done
			return err
		}, "@10.9.0.2!"}, // the ports go with it
	} {
		a := newAdvertising(t, router)
		a.after(0)
		a.after(time.Hour)
		a.adverts()
		ra := a.ra()
		if err := c.end(a); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		a.turn()
		if got := a.adverts(); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
		a.now.Add(int64(time.Hour))
		ra.tick()
		ra.hear(heard{ip: guest6})
		a.turn()
		if got := a.adverts(); got != "" {
			t.Errorf("%s: and then %q", c.name, got)
		}
	}
}

func TestAChangeOfWhatIsAdvertisedIsToldAtOnceAndNothingElseIs(t *testing.T) {
	a := newAdvertising(t, RAConfig{Lifetime: time.Hour})
	a.after(0)
	for range 3 {
		a.after(time.Hour)
	}
	change := func(edit func(*SegmentConfig)) string {
		cfg := a.s.Config()
		edit(&cfg)
		a.ra().last = a.v.cfg.Clock() // it told something a moment ago
		if err := a.s.Reconfigure(cfg); err != nil {
			t.Fatal(err)
		}
		if got := a.after(advertGap - time.Second); got != "" {
			t.Errorf("too soon: %q", got)
		}
		return a.after(time.Second)
	}
	if got := change(func(c *SegmentConfig) { c.MaxMACs++; c.RA = &RAConfig{Lifetime: time.Hour} }); got != "" {
		t.Errorf("the same: %q", got)
	}
	if got := change(func(c *SegmentConfig) { c.RA = &RAConfig{Managed: true} }); got != strings.ReplaceAll(toAll, " ", "! ")+"!" {
		t.Errorf("another: %q", got)
	}
	if got := change(func(c *SegmentConfig) { c.MTU = 1400 }); got != strings.ReplaceAll(toAll, " ", "! ")+"!" {
		t.Errorf("another MTU: %q", got)
	}
	if a.ra().initial != initialAdverts-1 {
		t.Errorf("%d more are to follow soon", a.ra().initial)
	}
}

func TestARouterSaysSoToItsNeighbours(t *testing.T) {
	for _, lifetime := range []time.Duration{0, time.Hour} {
		r := newRig(t, Config{})
		r.segment(SegmentConfig{VNI: 100, MTU: 1450, RA: &RAConfig{Lifetime: lifetime}}, "a", "b")
		own := serviceMAC(self, 100)
		link := linkLocal(own)
		p := only(t, r.send("a", solicit(t, own, mac(1), guest6, link, link, true)), "a")
		n := p.Layer(layers.LayerTypeICMPv6NeighborAdvertisement).(*layers.ICMPv6NeighborAdvertisement)
		if n.Router() != (lifetime > 0) {
			t.Errorf("lifetime %v: says that it is a router: %t", lifetime, n.Router())
		}
		only(t, r.send("a", ping6(t, own, mac(1), guest6, link, "x")), "a")
		expect(t, "DHCPv6", r.fromPort("a", dhcp6(t, multicastMAC(allDHCPRelays), mac(1), guest6, allDHCPRelays, solicitOf(t, 1).ToBytes())), "b")
		expect(t, "ARP", r.fromPort("a", arpFor(t, fdb.Broadcast, mac(1), ip("192.168.100.77"), server)), "b")
	}
}

func TestWithNobodyThereNothingIsAdvertised(t *testing.T) {
	r := newRig(t, Config{})
	r.v.serving.Store(true)
	s := r.segment(SegmentConfig{VNI: 100, MTU: 1450, RA: &RAConfig{Lifetime: time.Hour}})
	s.view.Load().service.ra.tick()
	if err := s.Reconfigure(SegmentConfig{VNI: 100, MTU: 1450}); err != nil {
		t.Fatal(err)
	}
	r.turn()
	if got, d := r.outs(), r.dropped(); len(got) != 0 || d != "" {
		t.Errorf("left: %+v, drops: %s", got, d)
	}
}

// What Run begins its end takes back, however often.
func TestAdvertisementsRunWithTheVTEP(t *testing.T) {
	r := newRig(t, Config{})
	s := r.segment(SegmentConfig{VNI: 100, MTU: 1450, Peers: []netip.Addr{peer2}, RA: &RAConfig{Lifetime: time.Hour}}, "a")
	a := &advertising{rig: r, s: s}
	if a.ra().on {
		t.Fatal("advertises before the VTEP runs")
	}
	for i := range 2 {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		ended := make(chan error, 1)
		running, stop := context.WithCancel(ctx)
		go func() { ended <- r.v.Run(running) }()
		if b, err := r.taps.Device("a").Recv(ctx); err != nil || honest(t, b).Layer(layers.LayerTypeICMPv6RouterAdvertisement) == nil {
			t.Fatalf("run %d: %x, %v", i, b, err)
		}
		stop()
		if err := <-ended; err != nil {
			t.Errorf("run %d: %v", i, err)
		}
		cancel()
		if got, want := a.adverts(), "a! @10.9.0.2 @10.9.0.2!"; got != want {
			t.Errorf("run %d: %q, want %q", i, got, want)
		}
		if a.ra().on {
			t.Errorf("run %d: advertises still", i)
		}
	}
}
