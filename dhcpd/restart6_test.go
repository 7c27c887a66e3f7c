package dhcpd_test

import (
	"errors"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/uvtep/uvtep/dhcpd"
	"github.com/uvtep/uvtep/dhcpd/dhcpdtest"
)

// What holds of DHCPv6 while the disk is slow or broken, over restarts, clocks
// that are set, configurations that change, and among segments.

// requesting6 takes a client to the point where it requests what it was offered.
func (w *world6) requesting6(c *dhcpdtest.Client6) []byte {
	w.Helper()
	return w.take(c, w.must6(advertise6, c.Solicit(), from6{}))
}

func TestAREPLYLeavesOnlyAfterTheStoreHasAllItsLeases(t *testing.T) {
	w := newWorld6(t)
	c := client6(1)
	c.NA, c.PD = []uint32{1, 2}, []uint32{1}
	msg := w.requesting6(c)
	w.store.Block()
	stop := w.run()
	var inStore []int
	answered := make(chan struct{})
	out := w.srv6.Serve(&dhcpd.Request{Payload: msg, Src: local6, Dst: servers6}, func(dhcpd.Reply) {
		inStore = append(inStore, len(leases6(t, w.store.Under, 100)))
		close(answered)
	})
	if out != dhcpd.Pending {
		t.Fatalf("outcome %v, want pending", out)
	}
	w.store.AwaitCommit()
	select {
	case <-answered:
		t.Fatal("the REPLY left while the store had not returned")
	default:
	}
	// Meanwhile others are served, and a retransmission is not a second lease.
	if r := w.serve6(client6(2).Solicit(), from6{}); r.outcome != dhcpd.Answered {
		t.Errorf("while the disk is busy a SOLICIT is %v", r.outcome)
	}
	if r := w.serve6(msg, from6{}); r.outcome != dhcpd.Duplicate || len(r.replies) != 0 {
		t.Errorf("the retransmission is %v with %d replies", r.outcome, len(r.replies))
	}
	w.store.Unblock()
	<-answered
	stop()
	if len(inStore) != 1 || inStore[0] != 3 {
		t.Errorf("stored leases at each REPLY: %v, want one REPLY with three leases stored", inStore)
	}
}

func TestBothFamiliesShareOneTransaction(t *testing.T) {
	w := newWorld6(t)
	four := w.serve(w.selecting(client(1)), from{})
	c := client6(1)
	c.NA, c.PD = []uint32{1}, []uint32{1}
	six := w.serve6(w.requesting6(c), from6{})
	before := w.store.Commits()
	w.svc.Commit()
	if n := w.store.Commits() - before; n != 1 || len(four.replies) != 1 || len(six.replies) != 1 {
		t.Errorf("%d commits, %d and %d replies, want one of each", n, len(four.replies), len(six.replies))
	}
	if s := w.svc.Stats(); s.Changes != 3 {
		t.Errorf("%d changes, want 3", s.Changes)
	}
}

func TestAFailingDiskGivesNobodyALeaseOfIPv6(t *testing.T) {
	w := newWorld6(t)
	c := client6(1)
	c.NA, c.PD = []uint32{1}, []uint32{1}
	msg := w.requesting6(c)
	w.store.Fail(errors.New("input/output error"))
	w.silent6(dhcpd.Pending, msg, from6{})
	if s := w.srv6.Stats(); s.Bound != 0 || s.Offered != 2 {
		t.Errorf("%d bound, %d offered", s.Bound, s.Offered)
	}
	if !w.happened(dhcpd.EventFailed) || w.happened(dhcpd.EventBound) {
		t.Errorf("events %v", w.kinds())
	}
	// A lease that is renewed in vain ends when it would have; a release in vain is
	// not confirmed.
	w.store.Fail(nil)
	w.take(c, w.must6(reply6Type, msg, from6{}))
	end := w.srv6.Leases()[0].Expires
	w.clock.Advance(time.Hour)
	w.store.Fail(errors.New("input/output error"))
	w.silent6(dhcpd.Pending, c.Renew(), from6{})
	for _, l := range w.srv6.Leases() {
		if l.State != dhcpd.StateBound || !l.Expires.Equal(end) {
			t.Errorf("lease %+v, want it to end at %s", l, end)
		}
	}
	w.silent6(dhcpd.Pending, c.Release(), from6{})
}

func TestAReplyIsNotSentWhoseLeaseWasTakenBackMeanwhile(t *testing.T) {
	for name, end := range map[string]func(w *world6, ip netip.Addr){
		"released by an operator": func(w *world6, ip netip.Addr) { must(w.T, w.srv6.Release(ip)) },
		"run out":                 func(w *world6, _ netip.Addr) { w.clock.Advance(13 * time.Hour) },
		"of a removed segment":    func(w *world6, _ netip.Addr) { must(w.T, w.svc.Remove6(100)) },
	} {
		w := newWorld6(t)
		c := client6(1)
		r := w.serve6(w.requesting6(c), from6{})
		end(w, c.Offer[0].Prefix.Addr())
		w.svc.Commit()
		if r.outcome != dhcpd.Pending || len(r.replies) != 0 {
			t.Errorf("%s: outcome %v and %d replies", name, r.outcome, len(r.replies))
		}
	}
}

// The disk stands still while a client moves, its former address ends and goes to
// another, and the client renews.
func TestAMoveDoesNotTakeTheFormerAddressFromItsNextClient(t *testing.T) {
	w := newWorld6(t, pool6(1))
	c, d := client6(1), client6(2)
	w.bind6(c)
	former := c.Leases[0].Prefix
	must(t, w.srv6.Reserve(dhcpd.Reservation6{MAC: mac(1), IP: addr6(0x50)}))
	w.clock.Advance(6 * time.Hour)
	moved := w.serve6(c.Renew(), from6{})
	w.clock.Advance(6 * time.Hour)
	bound := w.serve6(w.take(d, w.serve6(d.Solicit(), from6{}).replies[0]), from6{})
	again := w.serve6(c.Renew(), from6{})
	w.svc.Commit()
	if len(moved.replies) != 1 || len(bound.replies) != 1 || len(again.replies) != 1 || w.gift(bound.replies[0]) != former {
		t.Fatalf("%d, %d and %d replies, gave %v", len(moved.replies), len(bound.replies), len(again.replies), bound.replies[0].gives())
	}
	got := leases6(t, w.store.Under, 100)
	if len(got) != 2 || got[0].IP != addr6(0x50) || got[1].IP != former.Addr() || got[1].ClientID != string(d.ID()) {
		t.Errorf("stored %+v, want both", got)
	}
}

func TestLeasesOfIPv6SurviveARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "leases.db")
	store := openBolt(t, path)
	w := newWorld6On(t, dhcpdtest.NewClock(), store)
	c, gone := client6(1), client6(2)
	c.NA, c.PD = []uint32{0xdeadbeef}, []uint32{3}
	w.bind6From(c, from6{port: "tap1"})
	w.bind6(gone)
	had := gone.Leases[0].Prefix
	w.ask6(gone.Release(), from6{})
	want := w.srv6.Leases()
	must(t, store.Close())
	again := newWorld6On(t, w.clock, openBolt(t, path), func(c *dhcpd.SegmentConfig6) {
		// The hash would now choose others.
		c.Ranges[0].Last = addr6(0xfff0)
		c.Delegations[0].Prefix = prefix("2001:db8:200::/47")
	})
	if got := again.srv6.Leases(); !slices.Equal(got, want) {
		t.Errorf("after the restart %+v, was %+v", got, want)
	}
	again.take(c, again.must6(reply6Type, c.Renew(), from6{}))
	if len(c.Leases) != 2 || c.Leases[0].Prefix.Addr() != want[0].IP {
		t.Errorf("renewed %v, had %v", c.Leases, want)
	}
	// What ended is remembered.
	gone.Leases = nil
	if _, r := again.bind6(gone); again.gift(r) != had {
		t.Errorf("gave %s, it had %s", again.gift(r), had)
	}
}

func TestAWallClockThatIsSetMovesNoRunningLeaseOfIPv6(t *testing.T) {
	for _, step := range []time.Duration{-365 * 24 * time.Hour, 365 * 24 * time.Hour} {
		w := newWorld6(t)
		c := client6(1)
		c.NA, c.PD = []uint32{1}, []uint32{1}
		w.bind6(c)
		bad := client6(3)
		w.bind6(bad)
		w.ask6(bad.Decline(), from6{})
		w.clock.Step(step)
		if n := len(w.srv6.Leases()); n != 3 {
			t.Errorf("step %s: %d leases, want 3", step, n)
		}
		w.bind6(client6(2))
		again := newWorld6On(t, w.clock, w.store.Under)
		for _, l := range again.srv6.Leases() {
			want := 12 * time.Hour
			if l.State == dhcpd.StateDeclined {
				want = dhcpd.DefaultDeclineHold
			}
			if left := l.Expires.Sub(w.clock.Now()); left != want {
				t.Errorf("step %s: after a restart %s has %s left, want %s", step, l.IP, left, want)
			}
		}
		if n := len(again.srv6.Leases()); n != 4 {
			t.Errorf("step %s: %d leases after the restart, want 4", step, n)
		}
	}
}

func TestSegmentsOfIPv6ShareNothing(t *testing.T) {
	w := newWorld6(t, pool6(1))
	other := w.add6(200, pool6(1))
	c := client6(1)
	_, first := w.bind6(c)
	if _, r := w.bind6From(client6(2), from6{srv: other}); w.gift(r) != w.gift(first) {
		t.Errorf("%s and %s", w.gift(r), w.gift(first))
	}
	c.Leases = nil
	w.says(client6(1).Solicit(), from6{srv: other}, "NA 1 NoAddrsAvail")
	if a, b := len(leases6(t, w.store.Under, 100)), len(leases6(t, w.store.Under, 200)); a != 1 || b != 1 {
		t.Errorf("%d and %d stored", a, b)
	}
	if w.svc.Server6(100) != w.srv6 || w.svc.Server6(200) != other || w.svc.Server6(300) != nil || other.Segment() != 200 {
		t.Error("the service mixes its segments up")
	}
}

func TestARemovedSegmentKeepsItsLeasesOfIPv6(t *testing.T) {
	w := newWorld6(t)
	w.bind6(client6(1))
	if _, err := w.svc.Add6(100, green()); !errors.Is(err, dhcpd.ErrSegmentExists) {
		t.Errorf("a second Add6: %v", err)
	}
	must(t, w.svc.Remove6(100))
	if err := w.svc.Remove6(100); !errors.Is(err, dhcpd.ErrNoSegment) {
		t.Errorf("a second Remove6: %v", err)
	}
	w.silent6(dhcpd.Stopped, client6(2).Solicit(), from6{})
	if n := len(w.add6(100).Leases()); n != 1 {
		t.Errorf("%d leases after it came back, want 1", n)
	}
	if w.svc.Server(100) == nil {
		t.Error("the segment's DHCPv4 went with it")
	}
}

// TestClientsOfIPv6OfManyGoroutinesNeverShareAnAddress is for the race detector,
// too.
func TestClientsOfIPv6OfManyGoroutinesNeverShareAnAddress(t *testing.T) {
	const goroutines, rounds = 8, 30
	w := newWorld6(t, pool6(goroutines+2))
	w.run()
	var (
		mu    sync.Mutex
		owner = map[netip.Prefix]int{}
		wg    sync.WaitGroup
	)
	for g := range goroutines {
		wg.Go(func() {
			c := client6(g)
			ask := func(msg []byte) []byte {
				replies := make(chan []byte, 1)
				out := w.srv6.Serve(&dhcpd.Request{Payload: msg, Src: local6, Dst: servers6, Port: "tap0", MaxLeases: 100}, func(r dhcpd.Reply) {
					replies <- slices.Clone(r.Payload)
				})
				if out != dhcpd.Answered && out != dhcpd.Pending {
					t.Errorf("client %d: %v", g, out)
					return nil
				}
				next, err := c.Receive(<-replies)
				if err != nil {
					t.Errorf("client %d: %v", g, err)
				}
				return next
			}
			for range rounds {
				for msg := c.Solicit(); msg != nil; msg = ask(msg) {
				}
				if len(c.Leases) != 1 {
					t.Errorf("client %d has %v", g, c.Leases)
					return
				}
				p := c.Leases[0].Prefix
				mu.Lock()
				if o, taken := owner[p]; taken {
					t.Errorf("%s was given to client %d while %d had it", p, g, o)
				}
				owner[p] = g
				mu.Unlock()
				ask(c.Renew())
				mu.Lock()
				delete(owner, p)
				mu.Unlock()
				ask(c.Release())
			}
		})
	}
	// The rest of the interface, meanwhile.
	l, _ := w.watch()
	heard := &ledger{leases: map[netip.Prefix]dhcpd.LeaseChange{}}
	stop := make(chan struct{})
	var beside sync.WaitGroup
	beside.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			w.srv6.Leases()
			w.srv6.Stats()
			w.srv6.Lookup(addr6(0x1000))
			w.svc.Watch(100, heard.note)()
			if err := errors.Join(w.srv6.Reserve(dhcpd.Reservation6{MAC: mac(1000), IP: addr6(0x100)}), w.srv6.Unreserve(addr6(0x100))); err != nil {
				t.Error(err)
			}
			if i%8 == 0 {
				if err := w.srv6.Reconfigure(config6(pool6(goroutines + 2 + i%2))); err != nil {
					t.Error(err)
				}
			}
			w.clock.Advance(time.Millisecond)
		}
	})
	wg.Wait()
	close(stop)
	beside.Wait()
	if want, got := boundOf(w.srv6.Leases()), l.prefixes(); !slices.Equal(got, want) {
		t.Errorf("a watcher knows of %v, leased are %v", got, want)
	}
}
