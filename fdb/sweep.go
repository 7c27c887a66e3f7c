package fdb

import "sync"

// sweepChunk is how many buckets are swept under one lock: about a microsecond.
const sweepChunk = 64

// sweeper is how far a sweep has come: the parts in front of at are done, and
// of the one that holds at, as long as it is the same, the buckets before next.
type sweeper struct {
	mu   sync.Mutex
	at   uint64
	part *part
	next int
}

// Sweep removes learned entries whose age has reached Config.Ageing, frozen ones
// aside. A call
// visits at most budget slots, rounded up to a multiple of four (0: all there
// are), and the next one goes on from there; done says that this call came to the table's end, so that the
// next begins a new round. A part of the table that was replaced since the last
// call is visited again, from its start: a round leaves nothing out that was
// there when it began.
//
// A table has up to about three slots an entry. Nobody waits for a sweep longer
// than it takes to visit 256 of them.
func (t *Table) Sweep(now Seconds, budget int) (removed int, done bool) {
	c := t.conf.Load()
	if c.Ageing == 0 {
		return 0, true
	}
	var events []Event
	w := &t.sweep
	w.mu.Lock()
	for left := (budget + bucketSlots - 1) / bucketSlots; !done && (left > 0 || budget <= 0); {
		p := t.lock(w.at)
		if p != w.part {
			w.part, w.next = p, 0
		}
		n := min(len(p.buckets)-w.next, sweepChunk)
		if budget > 0 {
			n = min(n, left)
		}
		left -= n
		for i := range p.buckets[w.next : w.next+n] {
			for j := range p.buckets[w.next+i].slots {
				s := &p.buckets[w.next+i].slots[j]
				b := s.val.Load()
				if b == 0 || originOf(b) != OriginDynamic || b&frozen != 0 || ageOf(now, b) < c.Ageing {
					continue
				}
				// The station may be heard of just now, without a lock.
				if !s.val.CompareAndSwap(b, 0) {
					continue
				}
				m := MAC(s.key.Load() &^ occupied)
				t.drop(p, m, b)
				removed++
				if c.Events != nil {
					events = append(events, t.event(EventAge, m, dstOf(b), 0, OriginDynamic))
				}
			}
		}
		w.next += n
		if w.next < len(p.buckets) {
			p.mu.Unlock()
			continue
		}
		w.at = p.prefix + p.span()
		w.part = nil
		done = w.at == 0
		t.shrink(p)
	}
	w.mu.Unlock()
	t.tell(events...)
	return removed, done
}
