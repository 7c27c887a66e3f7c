package dhcpd_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/uvtep/uvtep/dhcpd"
	"github.com/uvtep/uvtep/dhcpd/dhcpdtest"
)

// What the clients of a port may have at most, and how full a pool is.

// details are the details of the events of a kind so far.
func (w *world) details(kind dhcpd.EventKind) (out []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.events {
		if e.Kind == kind {
			out = append(out, e.Detail)
		}
	}
	return out
}

func TestAPortHasNoMoreLeasesThanItMay(t *testing.T) {
	w := newWorld(t)
	tap := from{port: "tap1", max: 2}
	c, d, e := client(1), client(2), client(3)
	w.bindFrom(c, tap)
	w.mustFrom(offer, d.Discover(), tap) // what is offered counts
	w.silent(dhcpd.PortFull, e.Discover(), tap)
	w.silent(dhcpd.PortFull, e.Discover(), tap)
	e.IP = addr(40)
	e.Offer = c.Offer
	w.silent(dhcpd.PortFull, with(e.Request(), 50, 192, 168, 100, 40), tap) // without an offer, either
	if got := w.details(dhcpd.EventPortFull); !slices.Equal(got, []string{"port tap1: 2 leases"}) {
		t.Errorf("told %q, want once", got)
	}
	// Those that have a lease keep it, and those of other ports get theirs.
	w.mustFrom(offer, c.Discover(), tap)
	w.mustFrom(ack, c.Renew(), from{src: c.IP, dst: serverIP, port: "tap1", max: 2})
	w.mustFrom(offer, e.Discover(), from{port: "tap2", max: 2})
	w.mustFrom(offer, client(4).Discover(), from{port: "tap3"})
	w.mustFrom(offer, client(5).Discover(), from{}) // of a remote VTEP

	// A lease that ends makes room, and the next time is told again.
	w.askFrom(c.Release(), from{src: c.IP, dst: serverIP, port: "tap1"})
	w.mustFrom(offer, client(6).Discover(), tap)
	w.silent(dhcpd.PortFull, client(7).Discover(), tap)
	if n := len(w.details(dhcpd.EventPortFull)); n != 2 {
		t.Errorf("told %d times, want 2", n)
	}
	// Offers lapse, leases run out.
	w.clock.Advance(dhcpd.DefaultOfferHold)
	w.mustFrom(offer, client(7).Discover(), tap)
	if s := w.srv.Stats(); s.Outcomes[dhcpd.PortFull] != 4 {
		t.Errorf("counted %d refusals, want 4", s.Outcomes[dhcpd.PortFull])
	}
}

func TestALeaseThatRanOutIsANewOneForThePort(t *testing.T) {
	w := newWorld(t)
	tap := from{port: "tap1", max: 1}
	c, d := client(1), client(2)
	w.bindFrom(c, tap)
	w.clock.Advance(13 * time.Hour)
	w.bindFrom(d, tap)
	// The server remembers c, and would let it have its address.
	w.silent(dhcpd.PortFull, c.Reboot(), tap)
	w.silent(dhcpd.PortFull, c.Renew(), from{src: c.IP, dst: serverIP, port: "tap1", max: 1})
	w.askFrom(d.Release(), from{src: d.IP, dst: serverIP, port: "tap1"})
	w.mustFrom(ack, c.Reboot(), tap)
}

func TestALeaseCountsWhereItsClientIs(t *testing.T) {
	w := newWorld(t)
	one, two := from{port: "tap1", max: 1}, from{port: "tap2", max: 1}
	c, d, e := client(1), client(2), client(3)
	w.bindFrom(c, one)
	w.bindFrom(d, two)
	// c moves over to d's port: who has a lease is not refused.
	w.mustFrom(ack, c.Reboot(), two)
	w.silent(dhcpd.PortFull, e.Discover(), two)
	w.bindFrom(e, one)
	// A remembered client that comes back elsewhere counts there.
	w.askFrom(e.Release(), from{src: e.IP, dst: serverIP, port: "tap1"})
	three := from{port: "tap3", max: 1}
	w.mustFrom(offer, e.Discover(), three)
	w.silent(dhcpd.PortFull, client(4).Discover(), three)
	w.mustFrom(offer, client(5).Discover(), one)
	// A restart knows the ports.
	w = newWorldOn(t, w.clock, w.store.Under)
	w.silent(dhcpd.PortFull, client(6).Discover(), two)
	w.mustFrom(offer, client(6).Discover(), one)
}

func TestAnAddressThatIsTakenBackNoLongerCountsForItsPort(t *testing.T) {
	tap := from{port: "tap1", max: 1}
	for name, end := range map[string]func(w *world, c *dhcpdtest.Client){
		"released by an operator": func(w *world, c *dhcpdtest.Client) {
			if err := w.srv.Release(c.IP); err != nil {
				w.Fatal(err)
			}
		},
		"declined":   func(w *world, c *dhcpdtest.Client) { w.askFrom(c.Decline(), tap) },
		"moved away": func(w *world, c *dhcpdtest.Client) { w.mustFrom(ack, c.Reboot(), from{port: "tap9"}) },
		"run out":    func(w *world, c *dhcpdtest.Client) { w.clock.Advance(13 * time.Hour) },
	} {
		w := newWorld(t, pool(3))
		c := client(1)
		w.bindFrom(c, tap)
		w.silent(dhcpd.PortFull, client(2).Discover(), tap)
		end(w, c)
		if r := w.askFrom(client(2).Discover(), tap); r == nil {
			t.Errorf("%s: the port is still full", name)
		}
	}
}

func TestAPoolThatIsNearlyUsedUpIsToldOnceUntilThereIsRoomAgain(t *testing.T) {
	w := newWorld(t, pool(20), relayed)
	var clients []*dhcpdtest.Client
	take := func(n int) {
		for range n {
			c := client(len(clients))
			w.bind(c)
			clients = append(clients, c)
		}
	}
	give := func(n int) {
		for range n {
			c := clients[len(clients)-1]
			clients = clients[:len(clients)-1]
			w.askFrom(c.Release(), from{src: c.IP, dst: serverIP})
		}
	}
	told := func(n int) {
		t.Helper()
		got := w.details(dhcpd.EventPoolHigh)
		if len(got) != n || n > 0 && got[n-1] != "192.168.100.0/24: 18 of 20" {
			t.Errorf("with %d in use told %q, want %d times", len(clients), got, n)
		}
	}
	take(17)
	told(0)
	take(1)
	told(1)
	take(2)
	give(4) // 16: eight tenths
	take(2)
	told(1)
	give(3) // 15
	take(2)
	told(1)
	take(1)
	told(2)
	// The pools of one segment are told apart, and reservations are not in it.
	w = newWorld(t, pool(10), relayed, reserved(dhcpd.Reservation{MAC: mac(50), IP: addr(10)}))
	clients = nil
	for i := range 9 {
		w.bind(client(i))
	}
	w.bind(client(50))
	c := client(60)
	c.GIAddr = relayIP
	w.bindFrom(c, from{src: relayIP})
	if got := w.details(dhcpd.EventPoolHigh); !slices.Equal(got, []string{"192.168.100.0/24: 9 of 9"}) {
		t.Errorf("told %q", got)
	}
	// Without any pool there is nothing to tell.
	w = newWorld(t, func(c *dhcpd.SegmentConfig) { c.Ranges = nil }, reserved(dhcpd.Reservation{MAC: mac(1), IP: addr(10)}))
	w.bind(client(1))
	if w.happened(dhcpd.EventPoolHigh) {
		t.Error("told of a pool that there is not")
	}
}

// tallied are the figures of Stats, counted one by one.
func tallied(all []dhcpd.Lease) string {
	var n [dhcpd.StateReserved + 1]int
	for _, l := range all {
		n[l.State]++
	}
	return fmt.Sprintf("%d bound, %d offered, %d declined", n[dhcpd.StateBound], n[dhcpd.StateOffered], n[dhcpd.StateDeclined])
}

func TestTheFiguresAgreeWithTheLeases(t *testing.T) {
	w := newWorld(t, pool(9), relayed, reserved(dhcpd.Reservation{MAC: mac(1), IP: addr(12)}, dhcpd.Reservation{MAC: mac(77), IP: addr(200)}))
	check := func(when string, pool, used, reserved int) {
		t.Helper()
		s := w.srv.Stats()
		if got, want := fmt.Sprintf("%d bound, %d offered, %d declined", s.Bound, s.Offered, s.Declined), tallied(w.srv.Leases()); got != want {
			t.Errorf("%s: %s, want %s", when, got, want)
		}
		if s.Pool != pool || s.Used != used || s.Reserved != reserved {
			t.Errorf("%s: pool %d, used %d, reserved %d, want %d, %d, %d", when, s.Pool, s.Used, s.Reserved, pool, used, reserved)
		}
	}
	check("empty", 8+90, 0, 2)
	for i := range 4 {
		w.bind(client(i)) // one of them the reservation's
	}
	w.must(offer, client(9).Discover())
	check("four leases and an offer", 98, 4, 2)
	w.ask(raw(3, 53, 1, 4, 50, 4, 192, 168, 100, 13, 54, 4, 192, 168, 100, 2, 255))
	check("one declined", 98, 4, 2)
	if err := w.srv.Reserve(dhcpd.Reservation{MAC: mac(78), IP: addr(18)}); err != nil {
		t.Fatal(err)
	}
	check("one reserved live", 97, 4, 3)
	cfg := blue()
	pool(4)(&cfg)
	if err := w.srv.Reconfigure(cfg); err != nil {
		t.Fatal(err)
	}
	check("a smaller pool", 4, 4, 1)
	w.clock.Advance(13 * time.Hour)
	check("all over", 4, 0, 1)
	w.svc.Commit()
	w = newWorldOn(t, w.clock, w.store.Under, pool(4))
	check("after a restart", 4, 0, 0)
}

func TestPortsThatNobodyIsAtAnyLongerAreNotCounted(t *testing.T) {
	w := newWorld(t)
	c := client(1)
	for i := range 50 {
		w.mustFrom(offer, client(10+i).Discover(), from{port: fmt.Sprintf("tap%d", i)})
		w.bindFrom(c, from{port: fmt.Sprintf("moved%d", i)})
	}
	if n := w.srv.Ports(); n != 51 {
		t.Errorf("%d ports, want 51", n)
	}
	w.clock.Advance(dhcpd.DefaultOfferHold)
	if err := w.srv.Release(c.IP); err != nil {
		t.Fatal(err)
	}
	if n := w.srv.Ports(); n != 0 {
		t.Errorf("%d ports are left over", n)
	}
}
