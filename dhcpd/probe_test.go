package dhcpd_test

import (
	"bytes"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/uvtep/uvtep/dhcpd"
)

// Asking the segment before an address is offered.

// wait is how long the tests wait for an answer to a probe. The clock of a world
// stands still, so nothing is due before a test lets it be.
const wait = dhcpd.MaxProbe

// stranger is a station without a lease.
var stranger = net.HardwareAddr{2, 0xbb, 0, 0, 0, 1}

func probing(c *dhcpd.SegmentConfig) { c.Probe = wait }

// probed is a world that probes; asked fills up with what it asks about.
func probed(t *testing.T, edits ...func(*dhcpd.SegmentConfig)) (w *world, asked *[]netip.Addr) {
	t.Helper()
	w, asked = newWorld(t, append(edits, probing)...), new([]netip.Addr)
	w.srv.ProbeWith(func(ip netip.Addr) { *asked = append(*asked, ip) })
	return w, asked
}

// pass lets the time for answers pass.
func (w *world) pass() {
	w.clock.Advance(wait)
	w.srv.Probed()
}

// one is the only reply so far, which has to be of a type.
func (r *result) one(t *testing.T, typ dhcpv4.MessageType) *reply {
	t.Helper()
	if len(r.replies) != 1 || r.replies[0].typ() != typ {
		t.Fatalf("%v and %d replies, want one %v", r.outcome, len(r.replies), typ)
	}
	return r.replies[0]
}

func TestAFreshAddressIsOfferedOnceNobodyClaimedIt(t *testing.T) {
	w, asked := probed(t)
	c := client(1)
	r := w.serve(c.Discover(), from{})
	if r.outcome != dhcpd.Probing || len(r.replies) != 0 || !slices.Equal(*asked, []netip.Addr{addr(10)}) {
		t.Fatalf("%v, %d replies, asked about %v", r.outcome, len(r.replies), *asked)
	}
	// Meanwhile it is nobody else's, and others are answered at once.
	known := client(2)
	known.Offer = &dhcpv4.DHCPv4{YourIPAddr: addr(77).AsSlice(), Options: dhcpv4.OptionsFromList(dhcpv4.OptServerIdentifier(serverIP.AsSlice()))}
	w.must(ack, known.Request()) // from before a restart: nothing is asked
	known.IP = addr(10)
	w.must(offer, known.Discover())
	if l, _ := w.srv.Lookup(addr(10)); l.State != dhcpd.StateOffered || l.CHAddr != string(mac(1)) {
		t.Errorf("the address is %+v", l)
	}
	w.clock.Advance(wait - time.Millisecond)
	w.srv.Probed()
	if len(r.replies) != 0 {
		t.Fatal("the offer went before its time")
	}
	w.clock.Advance(time.Millisecond)
	w.srv.Probed()
	msg, err := c.Receive(r.one(t, offer).Payload)
	if err != nil {
		t.Fatal(err)
	}
	// The offer is held from now on.
	w.clock.Advance(dhcpd.DefaultOfferHold - time.Second)
	w.must(ack, msg)
	if s := w.srv.Stats(); s.Probes != 1 || s.ProbeConflicts != 0 || s.ProbesSkipped != 0 || s.In[1] != 2 || s.Out[2] != 2 {
		t.Errorf("stats %+v", s)
	}
}

func TestAnAddressThatTheClientKnowsIsNotProbed(t *testing.T) {
	w, asked := probed(t, reserved(dhcpd.Reservation{MAC: mac(3), IP: addr(200)}))
	c := client(1)
	r := w.serve(c.Discover(), from{})
	w.pass()
	msg, err := c.Receive(r.one(t, offer).Payload)
	if err != nil {
		t.Fatal(err)
	}
	w.must(offer, c.Discover()) // was offered a moment ago
	w.must(ack, msg)
	w.must(offer, c.Discover()) // has it
	w.clock.Advance(13 * time.Hour)
	w.must(offer, c.Discover()) // had it
	// The reservation's client gets a probe, too, the first time.
	d := client(3)
	r = w.serve(d.Discover(), from{})
	w.pass()
	r.one(t, offer)
	d.ClientID = []byte{0xff, 1}
	w.must(offer, d.Discover()) // the same machine under another identity
	if want := []netip.Addr{addr(10), addr(200)}; !slices.Equal(*asked, want) {
		t.Errorf("asked about %v, want %v", *asked, want)
	}
}

func TestWhereNobodyCanBeAskedNothingIsProbed(t *testing.T) {
	w := newWorld(t, probing)
	w.must(offer, client(1).Discover()) // no way to ask
	w, asked := probed(t, func(c *dhcpd.SegmentConfig) { c.Relays = []dhcpd.RelaySubnet{} }, relayed)
	c := client(1)
	c.GIAddr = relayIP
	w.mustFrom(offer, c.Discover(), from{src: relayIP}) // not in the segment
	cfg := blue()
	if err := w.srv.Reconfigure(cfg); err != nil {
		t.Fatal(err)
	}
	w.must(offer, client(2).Discover()) // switched off
	if len(*asked) != 0 {
		t.Errorf("asked about %v", *asked)
	}
}

func TestAClaimedAddressIsLeftAloneAndTheClientIsOfferedAnother(t *testing.T) {
	w, asked := probed(t)
	c := client(1)
	r := w.serve(c.Discover(), from{})
	w.srv.InUse(addr(10), stranger)
	if len(r.replies) != 0 {
		t.Fatal("whoever heard the claim had to answer")
	}
	w.srv.Probed() // at once, not when the first would have been due
	if want := []netip.Addr{addr(10), addr(11)}; !slices.Equal(*asked, want) || len(r.replies) != 0 {
		t.Fatalf("asked about %v, %d replies, want %v and none", *asked, len(r.replies), want)
	}
	w.pass()
	if p := r.one(t, offer); p.yiaddr() != addr(11) {
		t.Errorf("offered %s, want %s", p.yiaddr(), addr(11))
	}
	w.svc.Commit()
	l, _ := w.srv.Lookup(addr(10))
	if l.State != dhcpd.StateDeclined || l.CHAddr != string(stranger) || !l.Expires.Equal(l.Start.Add(dhcpd.DefaultDeclineHold)) {
		t.Errorf("the claimed address is %+v", l)
	}
	if s := w.srv.Stats(); s.ProbeConflicts != 1 || s.Declined != 1 || !w.happened(dhcpd.EventConflict) || w.happened(dhcpd.EventAlarm) {
		t.Errorf("stats %+v, events %v", s, w.kinds())
	}
	// A restart knows, and when its time is over the address is as good as any.
	w = newWorldOn(t, w.clock, w.store.Under, pool(1))
	w.silent(dhcpd.NoLease, client(2).Discover(), from{})
	w.clock.Advance(dhcpd.DefaultDeclineHold)
	w.must(offer, client(2).Discover())
}

func TestAClientThatAnswersForItsOwnAddressClaimsNothing(t *testing.T) {
	w, _ := probed(t)
	c := client(1)
	r := w.serve(c.Discover(), from{})
	w.srv.InUse(addr(10), mac(1))
	w.pass()
	r.one(t, offer)
	w.srv.InUse(addr(10), mac(1)) // offered
	if _, r := w.bind(c); r.yiaddr() != addr(10) {
		t.Errorf("got %s", r.yiaddr())
	}
	w.srv.InUse(addr(10), stranger) // a lease is a lease
	w.mustFrom(ack, c.Renew(), from{src: c.IP, dst: serverIP})
	w.clock.Advance(13 * time.Hour)
	w.srv.InUse(addr(10), mac(1)) // it goes on with an address that it had
	w.must(offer, c.Discover())
	if w.happened(dhcpd.EventConflict) {
		t.Errorf("events %v", w.kinds())
	}
}

func TestARetransmittedDiscoverDoesNotBeginTheProbeAnew(t *testing.T) {
	w, asked := probed(t)
	c := client(1)
	first := w.serve(c.Discover(), from{port: "tap1"})
	w.clock.Advance(wait / 2)
	again := w.serve(c.Discover(), from{port: "tap1"}) // with another number
	if again.outcome != dhcpd.Duplicate {
		t.Errorf("the second DISCOVER is %v", again.outcome)
	}
	w.clock.Advance(wait / 2)
	w.srv.Probed()
	if len(first.replies) != 0 || len(*asked) != 1 {
		t.Errorf("%d replies to the first, asked about %v", len(first.replies), *asked)
	}
	if _, err := c.Receive(again.one(t, offer).Payload); err != nil {
		t.Errorf("the client does not take the offer: %v", err)
	}
}

func TestAnOfferIsHeldWhileItsProbeTakesLongerThanOffersAreHeld(t *testing.T) {
	w, _ := probed(t, func(c *dhcpd.SegmentConfig) { c.OfferHold = time.Second })
	c := client(1)
	r := w.serve(c.Discover(), from{})
	w.clock.Advance(wait - time.Millisecond)
	if l, _ := w.srv.Lookup(addr(10)); l.State != dhcpd.StateOffered {
		t.Errorf("the address is %v", l.State)
	}
	w.clock.Advance(time.Millisecond)
	w.srv.Probed()
	msg, err := c.Receive(r.one(t, offer).Payload)
	if err != nil {
		t.Fatal(err)
	}
	w.clock.Advance(999 * time.Millisecond)
	w.must(ack, msg)
}

func TestRapidCommitWaitsForTheProbe(t *testing.T) {
	w, _ := probed(t, func(c *dhcpd.SegmentConfig) { c.RapidCommit = true })
	c := client(1)
	c.Rapid = true
	r := w.serve(c.Discover(), from{})
	w.svc.Commit()
	if r.outcome != dhcpd.Probing || len(r.replies) != 0 {
		t.Fatalf("%v and %d replies", r.outcome, len(r.replies))
	}
	w.pass()
	if len(r.replies) != 0 {
		t.Fatal("the ACK left before it was stored")
	}
	w.svc.Commit()
	if p := r.one(t, ack); p.opt[80] == nil {
		t.Errorf("options %v", p.order)
	}
}

func TestAClaimedReservationRaisesAnAlarm(t *testing.T) {
	w, _ := probed(t, reserved(dhcpd.Reservation{MAC: mac(1), IP: addr(200)}))
	r := w.serve(client(1).Discover(), from{})
	w.srv.InUse(addr(200), stranger)
	w.srv.Probed()
	w.pass()
	if p := r.one(t, offer); p.yiaddr() != addr(10) {
		t.Errorf("offered %s, want one of the pool", p.yiaddr())
	}
	if !w.happened(dhcpd.EventAlarm) || w.happened(dhcpd.EventConflict) {
		t.Errorf("events %v, want an alarm", w.kinds())
	}
	// Unasked, a reservation that its client does not hold is not touched.
	w, _ = probed(t, reserved(dhcpd.Reservation{MAC: mac(1), IP: addr(200)}))
	w.srv.InUse(addr(200), stranger)
	if l, _ := w.srv.Lookup(addr(200)); l.State == dhcpd.StateDeclined {
		t.Errorf("%+v", l)
	}
}

func TestAClaimOfAnAddressThatIsNotForGivingAwayMeansNothing(t *testing.T) {
	w, _ := probed(t, relayed)
	for _, ip := range []netip.Addr{serverIP, gatewayIP, addr(5), addr(255), netip.MustParseAddr("8.8.8.8"), netip.MustParseAddr("192.168.200.10"), netip.MustParseAddr("::1"), {}} {
		w.srv.InUse(ip, stranger)
	}
	w.srv.InUse(addr(20), nil)
	if l := w.srv.Leases(); len(l) != 0 || len(w.kinds()) != 0 {
		t.Errorf("left over: %+v, events %v", l, w.kinds())
	}
}

func TestAnOfferWhoseAddressIsClaimedLateIsTakenBack(t *testing.T) {
	w, _ := probed(t)
	c := client(1)
	r := w.serve(c.Discover(), from{})
	w.pass()
	msg, err := c.Receive(r.one(t, offer).Payload)
	if err != nil {
		t.Fatal(err)
	}
	w.srv.InUse(addr(10), stranger)
	w.must(nak, msg)
}

func TestAnOfferThatIsGoneIsNotSentWhenItsProbeIsOver(t *testing.T) {
	for name, meanwhile := range map[string]func(w *world){
		"taken back by an operator": func(w *world) {
			if err := w.srv.Release(addr(10)); err != nil {
				w.Fatal(err)
			}
		},
		"the client chose another server": func(w *world) {
			w.silent(dhcpd.IgnoredOtherServer, raw(1, 53, 1, 3, 54, 4, 1, 1, 1, 1, 50, 4, 192, 168, 100, 10, 255), from{})
		},
		"the client has it by now": func(w *world) {
			w.must(ack, raw(1, 53, 1, 3, 54, 4, 192, 168, 100, 2, 50, 4, 192, 168, 100, 10, 255))
		},
		"removed": func(w *world) {
			if err := w.svc.Remove(100); err != nil {
				w.Fatal(err)
			}
		},
		"too many offers": func(w *world) {
			for i := range dhcpd.DefaultMaxOffers {
				w.srv.Serve(&dhcpd.Request{Payload: (client(i + 2)).Discover(), Dst: broadcast}, func(dhcpd.Reply) {})
			}
		},
	} {
		w, _ := probed(t, func(c *dhcpd.SegmentConfig) {
			c.Subnet = netip.MustParsePrefix("192.168.0.0/16")
			c.Ranges = append(c.Ranges, dhcpd.Range{First: netip.MustParseAddr("192.168.101.0"), Last: netip.MustParseAddr("192.168.200.255")})
		})
		r := w.serve(client(1).Discover(), from{})
		meanwhile(w)
		w.pass()
		w.svc.Commit()
		if len(r.replies) != 0 {
			t.Errorf("%s: %v", name, r.replies[0].typ())
		}
		if queued, held := w.srv.Probing(); queued != 0 || held != 0 {
			t.Errorf("%s: left over: %d, %d", name, queued, held)
		}
	}
}

func TestAProbeSurvivesAChangeOfTheConfiguration(t *testing.T) {
	w, asked := probed(t)
	c := client(1)
	r := w.serve(c.Discover(), from{})
	cfg := blue()
	cfg.Domain = "green.example"
	cfg.Ranges = []dhcpd.Range{{First: addr(5), Last: addr(100)}} // all is put into new places
	if err := w.srv.Reconfigure(cfg); err != nil {                // and nothing is probed any more
		t.Fatal(err)
	}
	w.pass()
	if p := r.one(t, offer); p.yiaddr() != addr(10) || string(p.opt[15]) != "green.example" {
		t.Errorf("offered %s of %q", p.yiaddr(), p.opt[15])
	}
	if len(*asked) != 1 {
		t.Errorf("asked about %v", *asked)
	}
	// Where the address is no longer the segment's, one that is gets probed.
	w, asked = probed(t)
	r = w.serve(client(1).Discover(), from{})
	cfg.Subnet, cfg.Probe = netip.MustParsePrefix("192.168.100.0/29"), wait
	cfg.Ranges = []dhcpd.Range{{First: addr(3), Last: addr(6)}}
	if err := w.srv.Reconfigure(cfg); err != nil {
		t.Fatal(err)
	}
	w.pass()
	w.pass()
	if p := r.one(t, offer); p.yiaddr() != addr(3) || len(*asked) != 2 {
		t.Errorf("offered %s, asked about %v", p.yiaddr(), *asked)
	}
}

func TestAReservationMadeDuringItsProbeIsFollowed(t *testing.T) {
	w, asked := probed(t)
	r := w.serve(client(1).Discover(), from{})
	if err := w.srv.Reserve(dhcpd.Reservation{MAC: mac(1), IP: addr(200)}); err != nil {
		t.Fatal(err)
	}
	w.pass()
	w.pass()
	if p := r.one(t, offer); p.yiaddr() != addr(200) || len(*asked) != 2 {
		t.Errorf("offered %s, asked about %v", p.yiaddr(), *asked)
	}
}

func TestAClaimIsLoggedWithWhoMadeIt(t *testing.T) {
	var log bytes.Buffer
	svc, err := dhcpd.NewService(dhcpd.Config{Store: dhcpd.MemoryStore(), Logger: slog.New(slog.NewJSONHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	cfg := blue()
	cfg.Probe, cfg.Hosts = wait, []dhcpd.Reservation{{MAC: mac(2), IP: addr(200)}}
	srv, err := svc.Add(100, cfg)
	if err != nil {
		t.Fatal(err)
	}
	srv.ProbeWith(func(netip.Addr) {})
	for i, ip := range []netip.Addr{addr(10), addr(200)} {
		srv.Serve(&dhcpd.Request{Payload: client(i + 1).Discover(), Dst: broadcast}, func(dhcpd.Reply) {})
		log.Reset()
		srv.InUse(ip, stranger)
		level := []string{`"WARN"`, `"ERROR"`}[i]
		for _, part := range []string{level, `"vni":100`, `"ip":"` + ip.String(), `"by":"02:bb:00:00:00:01"`, `"offered_to":"` + mac(i+1).String()} {
			if !strings.Contains(log.String(), part) {
				t.Errorf("%s: the log lacks %s: %s", ip, part, log.String())
			}
		}
	}
	if err := svc.Remove(100); err != nil {
		t.Fatal(err)
	}
}

// TestOffersGoByThemselves is with the clock of the machine and the timer.
func TestOffersGoByThemselves(t *testing.T) {
	svc, err := dhcpd.NewService(dhcpd.Config{Store: dhcpd.MemoryStore()})
	if err != nil {
		t.Fatal(err)
	}
	cfg := blue()
	cfg.Probe = 20 * time.Millisecond
	srv, err := svc.Add(100, cfg)
	if err != nil {
		t.Fatal(err)
	}
	// Every second one of the first addresses is in use.
	var answers sync.WaitGroup
	srv.ProbeWith(func(ip netip.Addr) {
		if n := ip.As4()[3]; n < 20 && n%2 == 0 {
			answers.Go(func() { srv.InUse(ip, stranger) })
		}
	})
	offered := make(chan netip.Addr, 100)
	for i := range 30 {
		out := srv.Serve(&dhcpd.Request{Payload: client(i).Discover(), Dst: broadcast}, func(r dhcpd.Reply) {
			offered <- read(t, r).yiaddr()
		})
		if out != dhcpd.Probing {
			t.Errorf("client %d: %v", i, out)
		}
	}
	seen := map[netip.Addr]bool{}
	for range 30 {
		select {
		case ip := <-offered:
			if n := ip.As4()[3]; seen[ip] || n < 20 && n%2 == 0 || n >= 45 {
				t.Errorf("%s was offered, twice %t", ip, seen[ip])
			}
			seen[ip] = true
		case <-time.After(20 * time.Second):
			t.Fatalf("%d offers, want 30", len(seen))
		}
	}
	// A segment that is removed in the midst of it answers nobody.
	for i := range 30 {
		srv.Serve(&dhcpd.Request{Payload: client(100 + i).Discover(), Dst: broadcast}, func(r dhcpd.Reply) {})
	}
	if err := svc.Remove(100); err != nil {
		t.Fatal(err)
	}
	answers.Wait()
	if queued, held := srv.Probing(); queued != 0 || held != 0 {
		t.Errorf("left over: %d, %d", queued, held)
	}
}

func TestAClientWhoseAddressWasClaimedIsAnsweredByItsLastDISCOVER(t *testing.T) {
	w, _ := probed(t)
	c := client(1)
	old := w.serve(c.Discover(), from{})
	w.srv.InUse(addr(10), stranger)
	last := w.serve(c.Discover(), from{}) // before the other address was looked for
	w.srv.Probed()
	w.pass()
	if len(old.replies) != 0 {
		t.Errorf("%d replies to the DISCOVER that the client has given up", len(old.replies))
	}
	if r := last.one(t, offer); r.yiaddr() != addr(11) {
		t.Errorf("offered %s", r.yiaddr())
	}
}
