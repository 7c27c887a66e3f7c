package dhcpd_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/uvtep/uvtep/dhcpd"
	"github.com/uvtep/uvtep/dhcpd/dhcpdtest"
)

// An ACK is a promise: what may leave before the disk has it, and what not.

// selecting takes a client to the point where it requests its offer.
func (w *world) selecting(c *dhcpdtest.Client) []byte {
	w.Helper()
	msg, err := c.Receive(w.must(offer, c.Discover()).Payload)
	if err != nil {
		w.Fatal(err)
	}
	return msg
}

func TestAnACKLeavesOnlyAfterTheStoreHasTheLease(t *testing.T) {
	w := newWorld(t)
	msg := w.selecting(client(1))
	w.store.Block()
	stop := w.run()
	var inStore []int
	answered := make(chan struct{})
	out := w.srv.Serve(&dhcpd.Request{Payload: msg, Src: addr(0), Dst: broadcast}, func(dhcpd.Reply) {
		inStore = append(inStore, stored(w.store.Under))
		close(answered)
	})
	if out != dhcpd.Pending {
		t.Fatalf("outcome %v, want pending", out)
	}
	w.store.AwaitCommit()
	select {
	case <-answered:
		t.Fatal("the ACK left while the store had not returned")
	default:
	}
	// Meanwhile others are served, and a retransmission is not a second lease.
	if r := w.serve(client(2).Discover(), from{}); r.outcome != dhcpd.Answered {
		t.Errorf("while the disk is busy a DISCOVER is %v", r.outcome)
	}
	if r := w.serve(msg, from{}); r.outcome != dhcpd.Duplicate || len(r.replies) != 0 {
		t.Errorf("the retransmission is %v with %d replies", r.outcome, len(r.replies))
	}
	w.store.Unblock()
	<-answered
	stop()
	if len(inStore) != 1 || inStore[0] != 1 {
		t.Errorf("stored leases at each ACK: %v, want one ACK with one lease stored", inStore)
	}
}

// stored is how many leases a store has of segment 100.
func stored(s dhcpd.Store) (n int) {
	if err := s.Load(100, func(dhcpd.Lease) error { n++; return nil }); err != nil {
		panic(err)
	}
	return n
}

func TestAFailingStoreGivesNoACKAndAnEventAndRecovers(t *testing.T) {
	w := newWorld(t)
	c := client(1)
	msg := w.selecting(c)
	w.store.Fail(errors.New("input/output error"))
	for range 2 {
		if r := w.ask(msg); r != nil {
			t.Fatalf("%v although the store fails", r.typ())
		}
	}
	if n := count(w.kinds(), dhcpd.EventFailed); n != 1 || w.svc.Stats().Failures != 2 {
		t.Errorf("told %d times, counted %d, want once and 2", n, w.svc.Stats().Failures)
	}
	// Nobody was told, so it is an offer still, and nobody else's.
	if l, _ := w.srv.Lookup(addr(10)); l.State != dhcpd.StateOffered {
		t.Errorf("the lease is %v, want offered", l.State)
	}
	if r := w.must(offer, client(2).Discover()); r.yiaddr() == addr(10) {
		t.Error("another client was offered the address")
	}
	w.store.Fail(nil)
	w.must(ack, msg)
	if !w.happened(dhcpd.EventRecovered) || !w.happened(dhcpd.EventBound) || stored(w.store.Under) != 1 {
		t.Errorf("events %v, %d stored", w.kinds(), stored(w.store.Under))
	}
}

func TestAFailedRenewalLeavesTheLeaseAsItWas(t *testing.T) {
	w := newWorld(t)
	c := client(1)
	w.bind(c)
	before, _ := w.srv.Lookup(c.IP)
	w.clock.Advance(6 * time.Hour)
	w.store.Fail(errors.New("no space left on device"))
	w.silent(dhcpd.Pending, c.Renew(), from{src: c.IP, dst: serverIP})
	if after, _ := w.srv.Lookup(c.IP); after != before {
		t.Errorf("the lease is %+v, was %+v", after, before)
	}
	w.clock.Advance(7 * time.Hour)
	if _, ok := w.srv.Lookup(c.IP); ok {
		t.Error("the lease outlived its last durable end")
	}
}

func TestAFailedMoveLeavesTheClientWhereItWas(t *testing.T) {
	w := newWorld(t)
	c := client(1)
	w.bind(c)
	old := c.IP
	if err := w.srv.Reserve(dhcpd.Reservation{MAC: mac(1), IP: addr(240)}); err != nil {
		t.Fatal(err)
	}
	msg := w.selecting(c)
	w.store.Fail(errors.New("input/output error"))
	w.silent(dhcpd.Pending, msg, from{})
	if l, _ := w.srv.Lookup(old); l.State != dhcpd.StateBound {
		t.Errorf("the former lease is %v", l.State)
	}
	if l, _ := w.srv.Lookup(addr(240)); l.State != dhcpd.StateOffered {
		t.Errorf("the new one is %v, want offered again", l.State)
	}
	w.store.Fail(nil)
	w.must(ack, msg)
	if l := w.srv.Leases(); len(l) != 1 || l[0].IP != addr(240) || stored(w.store.Under) != 1 {
		t.Errorf("leases %+v, %d stored, want one of %s", l, stored(w.store.Under), addr(240))
	}
}

func TestASecondTryGivesUpTheFormerAddressThatTheFirstCouldNot(t *testing.T) {
	w := newWorld(t)
	c := client(1)
	w.bind(c)
	if err := w.srv.Reserve(dhcpd.Reservation{MAC: mac(1), IP: addr(240)}); err != nil {
		t.Fatal(err)
	}
	msg := w.selecting(c)
	again := with(msg, 12, 'x')
	again[7]++ // another exchange: not a retransmission
	stop := w.run()
	w.store.Block()
	w.serve(msg, from{})
	w.store.AwaitCommit()
	w.serve(again, from{}) // queued while the first is on its way
	w.store.FailOnce(errors.New("input/output error"))
	w.store.Unblock()
	stop()
	if l := w.srv.Leases(); len(l) != 1 || l[0].IP != addr(240) || stored(w.store.Under) != 1 {
		t.Errorf("leases %+v, %d stored, want one of %s", l, stored(w.store.Under), addr(240))
	}
}

func TestAMoveTriedTwiceDoesNotUndoTheLeaseOfWhoeverGotTheFormerAddress(t *testing.T) {
	w := newWorld(t, pool(1))
	c, d := client(1), client(2)
	w.bind(c)
	if err := w.srv.Reserve(dhcpd.Reservation{MAC: mac(1), IP: addr(240)}); err != nil {
		t.Fatal(err)
	}
	msg := w.selecting(c)
	again := slices.Clone(msg)
	again[7]++ // another exchange: not a retransmission
	stop := w.run()
	w.store.Block()
	w.serve(msg, from{})
	w.store.AwaitCommit()
	// While the move is on its way to the disk the former address is taken back
	// and given to another client; then the first one asks once more.
	if err := w.srv.Release(addr(10)); err != nil {
		t.Fatal(err)
	}
	got := w.serve(w.selectingWhileBlocked(d), from{})
	w.serve(again, from{})
	w.store.Unblock()
	stop()
	if len(got.replies) != 1 || got.replies[0].typ() != ack || got.replies[0].yiaddr() != addr(10) {
		t.Fatalf("the other client got %d replies", len(got.replies))
	}
	if l, ok := newWorldOn(t, w.clock, w.store.Under, pool(1)).srv.Lookup(addr(10)); !ok || l.CHAddr != string(mac(2)) {
		t.Errorf("after a restart its lease is %+v", l)
	}
}

func TestManyLeasesShareOneCommit(t *testing.T) {
	w := newWorld(t)
	var msgs [][]byte
	for i := range 100 {
		msgs = append(msgs, w.selecting(client(i)))
	}
	before := w.store.Commits()
	var all []*result
	for _, m := range msgs {
		all = append(all, w.serve(m, from{}))
	}
	w.svc.Commit()
	if n := w.store.Commits() - before; n != 1 {
		t.Errorf("%d commits for 100 leases, want 1", n)
	}
	for i, r := range all {
		if len(r.replies) != 1 || r.replies[0].typ() != ack {
			t.Errorf("client %d: %d replies", i, len(r.replies))
		}
	}
	if s := w.svc.Stats(); s.Changes != 100 || s.Queued != 0 {
		t.Errorf("stats %+v", s)
	}
}

func TestRunCommitsAndAnswersWhatIsQueuedWhenItEnds(t *testing.T) {
	w := newWorld(t)
	msg := w.selecting(client(1))
	w.store.Block()
	stop := w.run()
	first := w.serve(msg, from{})
	w.store.AwaitCommit()
	late := w.serve(w.selectingWhileBlocked(client(2)), from{}) // queued behind it
	done := make(chan struct{})
	go func() { stop(); close(done) }()
	w.store.Unblock()
	<-done
	if len(first.replies) != 1 || len(late.replies) != 1 || stored(w.store.Under) != 2 {
		t.Errorf("%d and %d replies, %d stored, want 1, 1, 2", len(first.replies), len(late.replies), stored(w.store.Under))
	}
	if r := w.serve(client(3).Discover(), from{}); r.outcome != dhcpd.Stopped {
		t.Errorf("after the end a DISCOVER is %v, want stopped", r.outcome)
	}
}

// selectingWhileBlocked is selecting without a turn of the commit loop.
func (w *world) selectingWhileBlocked(c *dhcpdtest.Client) []byte {
	w.Helper()
	r := w.serve(c.Discover(), from{})
	if len(r.replies) != 1 {
		w.Fatalf("%d replies", len(r.replies))
	}
	msg, err := c.Receive(r.replies[0].Payload)
	if err != nil {
		w.Fatal(err)
	}
	return msg
}

func TestNobodyIsToldOfALeaseThatWasTakenBackMeanwhile(t *testing.T) {
	for name, meanwhile := range map[string]func(w *world, c *dhcpdtest.Client){
		"released by an operator": func(w *world, c *dhcpdtest.Client) {
			if err := w.srv.Release(addr(10)); err != nil {
				w.Fatal(err)
			}
		},
		"declined": func(w *world, c *dhcpdtest.Client) {
			c.IP, c.Ack = addr(10), c.Offer
			if r := w.serve(c.Decline(), from{}); r.outcome != dhcpd.Answered {
				w.Fatalf("the DECLINE is %v", r.outcome)
			}
		},
		"run out": func(w *world, c *dhcpdtest.Client) { w.clock.Advance(13 * time.Hour) },
		"the segment removed": func(w *world, c *dhcpdtest.Client) {
			if err := w.svc.Remove(100); err != nil {
				w.Fatal(err)
			}
			// Its next server has read the store and knows nothing of it.
			if l := w.add(100).Leases(); len(l) != 0 {
				w.Fatalf("leases %+v", l)
			}
		},
	} {
		w := newWorld(t)
		c := client(1)
		r := w.serve(w.selecting(c), from{})
		meanwhile(w, c)
		w.svc.Commit()
		if r.outcome != dhcpd.Pending || len(r.replies) != 0 || w.happened(dhcpd.EventBound) {
			t.Errorf("%s: %v, %d replies, events %v, want pending and silence", name, r.outcome, len(r.replies), w.kinds())
		}
	}
}
