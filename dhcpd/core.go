package dhcpd

import (
	"fmt"
	"log/slog"
	"sync"
	"time"
	"unique"
)

// core is what the servers of both families are made of: whatever concerns
// leases as such, and not what they are of. B is the family's binding.
type core[B tenancy] struct {
	family  family[B]
	svc     *Service
	segment uint32
	log     *slog.Logger
	which   string // the family, for people who read of it: "" or " of DHCPv6"

	mu     sync.Mutex
	expiry expiryHeap[B]
	tally  tally[B]
	seq    uint64
	audience[B]
	closed  bool
	removed bool // closed, and somebody else may serve the segment by now

	timer *time.Timer
	wakes time.Duration // when the timer fires

	in, out  [MessageTypes]uint64
	outcomes [Outcomes]uint64
	events   []Event // told when the lock is let go
}

// family is what a core has done by the server that it is part of; its lock is
// held, but for unlock, which lets go of it.
type family[B tenancy] interface {
	leaseOf(B) Lease
	aboutLease(B) LeaseChange
	current(B) bool // the binding is still the address's
	runOut(B)       // its time has come, and it is no longer in the heap
	leaves(B) bool  // its client is about to leave it for another, which is on its way to the disk
	resend(B)       // its lease, as it is, is to be written once more
	unlock()
}

// init is for a server of a segment of s, which is locked.
func (c *core[B]) init(s *Service, segment uint32, f family[B], which string) {
	c.family, c.svc, c.segment, c.which, c.log = f, s, segment, which, s.cfg.Logger.With("vni", segment)
	c.audience = audience[B]{s.watchers[segment], f.aboutLease}
	c.tally = tally[B]{ports: map[string]*portUse{}, ended: func(b B) { c.note(b, false) }}
}

// Segment is the number that the server was added under.
func (c *core[B]) Segment() uint32 { return c.segment }

// unlock lets go of the lock and tells what happened under it.
func (c *core[B]) unlock() {
	events := c.events
	c.events = nil
	c.mu.Unlock()
	for _, e := range events {
		c.svc.cfg.Events(e)
	}
}

func (c *core[B]) event(kind EventKind, b B, detail string) {
	if c.svc.cfg.Events == nil {
		return
	}
	e := Event{Time: c.svc.wall(), Segment: c.segment, Kind: kind, Detail: detail}
	if none := *new(B); b != none {
		e.Lease = c.family.leaseOf(b)
	}
	c.events = append(c.events, e)
}

// overdue says that a lease has run out at the time now and was not ended yet.
func (c *core[B]) overdue(now time.Duration) bool {
	return len(c.expiry) > 0 && c.expiry[0].held().expires <= now
}

// expire ends what has run out.
func (c *core[B]) expire(now time.Duration) {
	for c.overdue(now) {
		b := c.expiry[0]
		c.expiry.remove(b)
		c.family.runOut(b)
	}
	c.arm()
}

// minSweep keeps a burst of expiries from waking the process for each.
const minSweep = time.Second

// arm sets the timer to the next expiry. An idle segment has no other wake-up,
// and while leases are only prolonged the timer is left as it is.
func (c *core[B]) arm() {
	if len(c.expiry) == 0 || c.closed {
		return
	}
	next := c.expiry[0].held().expires
	if c.wakes != 0 && c.wakes <= next {
		return
	}
	wait := max(next-c.svc.elapsed(), minSweep)
	c.wakes = next
	if c.timer == nil {
		c.timer = time.AfterFunc(wait, c.sweep)
		return
	}
	c.timer.Reset(wait)
}

func (c *core[B]) sweep() {
	c.mu.Lock()
	c.wakes = 0
	if !c.closed {
		c.expire(c.svc.elapsed())
	}
	c.family.unlock()
}

// close stops serving. What is queued is still committed and, unless the server
// was removed, answered. The lock is held.
func (c *core[B]) close(removed bool) {
	c.closed, c.removed = true, removed
	if c.timer != nil {
		c.timer.Stop()
	}
	if removed {
		c.audience.close(c.expiry)
	}
}

// observe puts the segment's watchers in place, as audience.observe does.
func (c *core[B]) observe(all []*watcher, fresh *watcher) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.audience.observe(all, fresh, c.expiry)
}

// restore puts a stored lease into a binding that has its place and its key. What
// the wall clock did while nobody looked cannot be known, so no lease gets more
// than its whole length again, and one that seems to have ended stays its
// client's until somebody else needs the address. It returns false for an address
// that somebody else used, once it is no longer left alone for that.
func (c *core[B]) restore(b B, l Lease, now time.Duration, wall time.Time) bool {
	h := b.held()
	h.state, h.chaddr, h.hostname, h.relay, h.stored = l.State, l.CHAddr, l.Hostname, l.Relay, true
	left := min(l.Expires.Sub(wall), l.Expires.Sub(l.Start))
	h.expires = now + left
	h.start = h.expires - l.Expires.Sub(l.Start)
	if l.Port != "" {
		h.place = unique.Make(place{port: l.Port})
	}
	switch {
	case left > 0 && l.State != StateFree:
		c.expiry.set(b)
	case l.State == StateDeclined:
		return false
	default:
		h.state = StateFree
	}
	h.durable, h.durableStart, h.durableUntil = h.state, h.start, h.expires
	c.tally.add(b)
	return true
}

// restored is called once all bindings are in their places.
func (c *core[B]) restored() {
	for _, b := range c.expiry {
		if b.held().state == StateBound {
			c.note(b, true)
		}
	}
	c.arm()
}

// revert makes a lease again what the store has of it, if that still runs: the
// store did not take what came after, and nobody was told of it.
func (c *core[B]) revert(b B) bool {
	h := b.held()
	if !h.stored || h.durable != StateBound || h.durableUntil <= c.svc.elapsed() {
		return false
	}
	h.start, h.expires = h.durableStart, h.durableUntil
	c.expiry.set(b)
	c.arm()
	c.note(b, true)
	return true
}

// has says that a client has the lease now.
func (c *core[B]) has(b B, key string) bool {
	h := b.held()
	return h.state == StateBound && h.key == key && h.expires > c.svc.elapsed() && c.family.current(b)
}

// restamp queues every lease as it is. These are no changes of their own: they
// share the fate of the one before them, in whose transaction they are.
func (c *core[B]) restamp() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, b := range c.expiry {
		// An address that its client is about to leave is not written again
		// behind the change that deletes it.
		if st := b.held().state; st == StateDeclined || st == StateBound && !c.family.leaves(b) {
			c.family.resend(b)
		}
	}
}

// portFull says that the clients of a port have all the leases that they may, if
// most is a limit; once it is so it is told.
func (c *core[B]) portFull(port string, most int) bool {
	u := c.tally.ports[port]
	if most <= 0 || u == nil {
		return false
	}
	if u.held < most {
		u.full = false
		return false
	}
	if !u.full {
		u.full = true
		c.log.Warn("the clients of a port have all the leases"+c.which+" that they may", "port", port, "leases", u.held)
		c.event(EventPortFull, *new(B), fmt.Sprintf("port %s: %d leases%s", port, u.held, c.which))
	}
	return true
}

// level is how full a pool was when it was last looked at.
type level struct{ high bool }

// watch tells that nearly all of a pool is in use: at nine tenths, and again once
// it was below eight.
func (c *core[B]) watch(l *level, pool fmt.Stringer, used, of int) {
	switch {
	case used*10 < of*8:
		l.high = false
	case used*10 >= of*9 && of > 0 && !l.high:
		l.high = true
		c.log.Warn("nine tenths of a pool are in use", "pool", pool, "used", used, "of", of)
		c.event(EventPoolHigh, *new(B), fmt.Sprintf("%s: %d of %d", pool, used, of))
	}
}

// common are the parts of Stats that do not depend on what the leases are of.
func (c *core[B]) common() Stats {
	return Stats{
		In: c.in, Out: c.out, Outcomes: c.outcomes,
		Bound: c.tally.states[StateBound], Offered: c.tally.states[StateOffered], Declined: c.tally.states[StateDeclined],
	}
}
