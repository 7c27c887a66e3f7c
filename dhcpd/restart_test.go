package dhcpd_test

import (
	"errors"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/uvtep/uvtep/dhcpd"
)

// Restarts, clocks that are set, segments that come and go, many goroutines.

func TestLeasesSurviveARestart(t *testing.T) {
	w := newWorld(t)
	c := client(1)
	c.ClientID, c.Hostname = []byte{0xff, 7, 7}, "web1"
	w.bindFrom(c, from{port: "tap1"})
	want, _ := w.srv.Lookup(c.IP)
	again := newWorldOn(t, w.clock, w.store.Under)
	if got, _ := again.srv.Lookup(c.IP); got != want {
		t.Errorf("after the restart %+v, was %+v", got, want)
	}
	again.must(ack, c.Reboot())
	d := client(2)
	if again.bind(d); d.IP == c.IP {
		t.Error("the address was given to another client")
	}
}

func TestAWallClockThatIsSetMovesNoRunningLease(t *testing.T) {
	for _, step := range []time.Duration{-365 * 24 * time.Hour, 365 * 24 * time.Hour} {
		w := newWorld(t)
		c := client(1)
		w.bind(c)
		w.clock.Step(step)
		if _, ok := w.srv.Lookup(c.IP); !ok {
			t.Errorf("step %s: the lease ended", step)
		}
		// The next commit writes all leases by the new clock, so that a restart
		// does not see them expired, or running for a year.
		w.bind(client(2))
		if !w.happened(dhcpd.EventClock) {
			t.Errorf("step %s: events %v", step, w.kinds())
		}
		again := newWorldOn(t, w.clock, w.store.Under)
		l, ok := again.srv.Lookup(c.IP)
		if left := l.Expires.Sub(w.clock.Now()); !ok || left != 12*time.Hour {
			t.Errorf("step %s: after a restart the lease is there %t and has %s left", step, ok, left)
		}
		w.clock.Advance(12 * time.Hour)
		if _, ok := again.srv.Lookup(c.IP); ok {
			t.Errorf("step %s: the lease does not end", step)
		}
	}
}

func TestAClockThatIsSetDuringAMoveBringsNoFormerAddressBack(t *testing.T) {
	w := newWorld(t)
	c := client(1)
	w.bind(c)
	if err := w.srv.Reserve(dhcpd.Reservation{MAC: mac(1), IP: addr(240)}); err != nil {
		t.Fatal(err)
	}
	msg := w.selecting(c)
	w.clock.Step(24 * time.Hour)
	w.must(ack, msg) // all leases are written anew in this transaction
	if n := stored(w.store.Under); !w.happened(dhcpd.EventClock) || n != 1 {
		t.Errorf("events %v, %d leases stored, want the new one alone", w.kinds(), n)
	}
}

func TestOfTwoStoredLeasesOfAClientTheOneThatLastsCounts(t *testing.T) {
	w := newWorld(t)
	now := w.clock.Now()
	lease := func(ip int, state dhcpd.State, ends time.Duration) dhcpd.Change {
		return dhcpd.Change{Segment: 100, Lease: dhcpd.Lease{
			IP: addr(ip), State: state, HType: 1, CHAddr: string(mac(1)), Start: now.Add(-time.Hour), Expires: now.Add(ends),
		}}
	}
	for name, all := range map[string][]dhcpd.Change{
		"two bound":         {lease(20, dhcpd.StateBound, time.Minute), lease(21, dhcpd.StateBound, time.Hour)},
		"bound and free":    {lease(21, dhcpd.StateBound, time.Minute), lease(20, dhcpd.StateFree, -time.Second)},
		"two that are past": {lease(20, dhcpd.StateBound, -2*time.Minute), lease(21, dhcpd.StateFree, -time.Minute)},
	} {
		store := dhcpd.MemoryStore()
		if err := store.Commit(all); err != nil {
			t.Fatal(err)
		}
		again := newWorldOn(t, w.clock, store)
		if r := again.must(offer, client(1).Discover()); r.yiaddr() != addr(21) {
			t.Errorf("%s: offered %s, want %s", name, r.yiaddr(), addr(21))
		}
	}
}

func TestALeaseFromTheFutureLastsNoLongerThanItWasGivenFor(t *testing.T) {
	// The machine came up with its clock reset.
	w := newWorld(t)
	c := client(1)
	w.bind(c)
	w.clock.Step(-10 * 365 * 24 * time.Hour)
	again := newWorldOn(t, w.clock, w.store.Under)
	if _, ok := again.srv.Lookup(c.IP); !ok {
		t.Error("the lease is gone")
	}
	w.clock.Advance(12 * time.Hour)
	if _, ok := again.srv.Lookup(c.IP); ok {
		t.Error("the lease lives for years")
	}
}

func TestARestartWithTheClockSetNeitherEndsLeasesNorMakesThemLastForEver(t *testing.T) {
	for _, step := range []time.Duration{-10 * 365 * 24 * time.Hour, -time.Hour, time.Hour, 10 * 365 * 24 * time.Hour} {
		w := newWorld(t, pool(4))
		c, d := client(1), client(2)
		w.bind(c)
		w.bind(d)
		w.ask(d.Decline()) // an address that is left alone, too
		w.clock.Step(step)
		again := newWorldOn(t, w.clock, w.store.Under, pool(4))
		// Whatever the clock says, nobody else gets it while there are others.
		for i := range 2 {
			e := client(10 + i)
			e.IP = c.IP
			if again.bind(e); e.IP == c.IP {
				t.Errorf("step %s: another client got the address", step)
			}
		}
		if r := again.mustFrom(ack, c.Renew(), from{src: c.IP, dst: serverIP}); r.leaseTime() != 12*time.Hour {
			t.Errorf("step %s: renewed for %s", step, r.leaseTime())
		}
		// A client that is gone does not hold its address for ever.
		w.clock.Advance(12 * time.Hour)
		if l := again.srv.Leases(); len(l) != 0 {
			t.Errorf("step %s: after twice the time there are %+v", step, l)
		}
	}
}

func TestARemovedSegmentKeepsItsLeases(t *testing.T) {
	w := newWorld(t)
	w.bind(client(1))
	if _, err := w.svc.Add(100, blue()); !errors.Is(err, dhcpd.ErrSegmentExists) {
		t.Errorf("a second Add: %v", err)
	}
	if err := w.svc.Remove(100); err != nil {
		t.Fatal(err)
	}
	if err := w.svc.Remove(100); !errors.Is(err, dhcpd.ErrNoSegment) {
		t.Errorf("a second Remove: %v", err)
	}
	if n := len(w.add(100).Leases()); n != 1 {
		t.Errorf("%d leases after it came back, want 1", n)
	}
}

// TestClientsOfManyGoroutinesNeverShareAnAddress is for the race detector, too.
func TestClientsOfManyGoroutinesNeverShareAnAddress(t *testing.T) {
	const goroutines, rounds = 8, 40
	w := newWorld(t, pool(goroutines+2))
	w.run()
	var (
		mu    sync.Mutex
		owner = map[string]string{} // address to MAC, by what ACKs said
		wg    sync.WaitGroup
	)
	for g := range goroutines {
		wg.Go(func() {
			c := client(g)
			for range rounds {
				for msg := c.Discover(); msg != nil; {
					replies := make(chan []byte, 1)
					out := w.srv.Serve(&dhcpd.Request{Payload: msg, Src: addr(0), Dst: broadcast, Port: "tap0"}, func(r dhcpd.Reply) {
						replies <- append([]byte{}, r.Payload...)
					})
					if out != dhcpd.Answered && out != dhcpd.Pending {
						t.Errorf("client %d: %v", g, out)
						return
					}
					var err error
					if msg, err = c.Receive(<-replies); err != nil {
						t.Errorf("client %d: %v", g, err)
						return
					}
				}
				mu.Lock()
				if o := owner[c.IP.String()]; o != "" {
					t.Errorf("%s was given to %s while %s had it", c.IP, c.MAC, o)
				}
				owner[c.IP.String()] = c.MAC.String()
				mu.Unlock()
				runtime.Gosched()
				mu.Lock()
				delete(owner, c.IP.String())
				mu.Unlock()
				ip := c.IP
				w.srv.Serve(&dhcpd.Request{Payload: c.Release(), Src: ip, Dst: serverIP}, func(dhcpd.Reply) { t.Errorf("a RELEASE was answered") })
			}
		})
	}
	// The rest of the interface, meanwhile.
	l, _ := w.watch()
	heard := &ledger{leases: map[netip.Prefix]dhcpd.LeaseChange{}}
	stop := make(chan struct{})
	var beside sync.WaitGroup
	beside.Go(func() {
		cfg := blue()
		pool(goroutines + 2)(&cfg)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			w.srv.Leases()
			w.srv.Stats()
			w.svc.Stats()
			w.srv.Lookup(addr(10))
			w.svc.Watch(100, heard.note)()
			if err := w.srv.Reserve(dhcpd.Reservation{MAC: mac(1000), IP: addr(100)}); err != nil {
				t.Errorf("reserve: %v", err)
			}
			if err := w.srv.Unreserve(addr(100)); err != nil {
				t.Errorf("unreserve: %v", err)
			}
			if i%8 == 0 {
				if err := w.srv.Reconfigure(cfg); err != nil {
					t.Errorf("reconfigure: %v", err)
				}
			}
			w.clock.Advance(time.Millisecond)
		}
	})
	wg.Wait()
	close(stop)
	beside.Wait()
	if want, got := boundOf(w.srv.Leases()), l.prefixes(); !slices.Equal(got, want) {
		t.Errorf("a watcher knows of %v, leased are %v", got, want)
	}
}
