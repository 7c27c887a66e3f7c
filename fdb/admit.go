package fdb

const (
	// evictBuckets is how much of a part is looked through at once for the entry
	// that is to give way: a small table as a whole, of a large one some 100
	// entries, in about a microsecond.
	evictBuckets = 64

	// evictTries is how often that is done where nothing is found.
	evictTries = 8
)

// changes are what one call of Learn changes: an entry that gives way to
// another, and that other one.
type changes struct {
	n      int
	events [2]Event
	of     [2]*Table // whose they are
}

func (c *changes) add(t *Table, e Event) {
	c.events[c.n], c.of[c.n] = e, t
	c.n++
}

// tell hands the events out; no lock is held.
func (c *changes) tell() {
	for i := range c.n {
		if f := c.of[i].conf.Load().Events; f != nil {
			f(c.events[i])
		}
	}
}

// hold counts one more learned entry behind the destination of c, unless it has
// as many as it may.
func (t *Table) hold(c *counter) bool {
	n, ok := c.reserve()
	if ok && n == 1 {
		t.learned.active.Add(1)
		if t.of != nil {
			t.of.learned.active.Add(1)
		}
	}
	return ok
}

// letGo is the end of hold.
func (t *Table) letGo(c *counter) {
	if c.n.Add(-1) > 0 {
		return
	}
	t.learned.active.Add(-1)
	if t.of != nil {
		t.of.learned.active.Add(-1)
	}
}

// denied reports, without a lock, that a new MAC of the destination that c counts
// is not learned. In a flood of made-up addresses this is what most meet.
func (t *Table) denied(c *counter) bool {
	own := c.n.Load()
	return t.learned.denies(own) || t.of != nil && t.of.learned.denies(own)
}

// admit takes a place for one more learned entry behind the destination that c
// counts, which p is going to hold; p is locked. Where there is no place, and the
// destination has less than its share, it takes that of an entry of another one
// that has more.
func (t *Table) admit(p *part, c *counter, out *changes) Result {
	own := c.n.Load()
	fair := t.learned.share(own)
	if !t.hold(c) {
		return PortFull
	}
	if !t.learned.take() {
		// The entry that gives way has a place in the total, too.
		if own < fair && t.evict(p, fair, out) {
			return Learned
		}
		t.letGo(c)
		return Full
	}
	if t.of == nil || t.of.learned.take() {
		return Learned
	}
	if fair = t.of.learned.share(max(own, 1)); own < fair {
		if t.evict(p, fair, out) {
			t.learned.n.Add(-1) // its place is one of this table's already
			return Learned
		}
		if t.of.evict(fair, out) {
			return Learned
		}
	}
	t.learned.n.Add(-1)
	t.letGo(c)
	return Full
}

// evict removes an entry of a destination that has more than fair of them, but
// keeps its place: from own, which is locked, or, where nothing is found there,
// from other parts, which are tried one after the other. own may be nil.
func (t *Table) evict(own *part, fair int64, out *changes) bool {
	if own != nil && t.evictFrom(own, fair, out) {
		return true
	}
	for range evictTries {
		p := t.part(t.hand.Add(0x9e3779b97f4a7c15)) // goes evenly all around
		if p != own && !p.mu.TryLock() {
			continue
		}
		ok := !p.gone && t.evictFrom(p, fair, out)
		if p != own {
			p.mu.Unlock()
		}
		if ok {
			return true
		}
	}
	return false
}

// evictFrom is evict for the part p, which is locked: among the entries it looks
// at, the longest unused one of the destination that has most goes. The next time
// it looks behind them, so that no place of the part is worn out.
func (t *Table) evictFrom(p *part, fair int64, out *changes) bool {
	var victim *slot
	var worst uint64 // its binding
	var last Dst     // which has n entries
	var n int64
	most, end := fair, evictBuckets
	for i := range min(len(p.buckets), evictBuckets) {
		b := &p.buckets[(p.hand+i)&int(p.mask)]
		for j := range b.slots {
			s := &b.slots[j]
			v := s.val.Load()
			if v == 0 || v&frozen != 0 || originOf(v) != OriginDynamic {
				continue
			}
			if d := dstOf(v); d != last {
				last, n = d, t.counts.of(d).n.Load()
			}
			if n > most || n == most && victim != nil && newer(Seconds(worst&seenMask), v) {
				victim, worst, most, end = s, v, n, i+1
			}
		}
	}
	p.hand = (p.hand + end) & int(p.mask)
	if victim == nil {
		return false
	}
	b := victim.val.Swap(0) // its station may be heard of just now, without a lock
	p.live--
	t.entries.Add(-1)
	t.letGo(t.counts.of(dstOf(b)))
	out.add(t, t.event(EventEvict, MAC(victim.key.Load()&^occupied), dstOf(b), 0, OriginDynamic))
	return true
}
