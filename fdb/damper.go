package fdb

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
)

const (
	maxMoving   = 1024 // MACs of one table that are watched as they move
	movingTries = 8    // records that are looked at for one to give up
)

// damper watches the MACs that move. A MAC that moves too often stands in two
// places or comes round by a loop, and only one of its places is right: where it
// was when it began, as a frame that went round a loop comes later than the one
// that its station sent. There it is held for a while.
//
// It is touched by moves and nothing else; its lock is taken after a part's.
type damper struct {
	n  atomic.Int32 // of records
	mu sync.Mutex
	of map[MAC]movement
}

// movement is what is known of a MAC that moved.
type movement struct {
	home   Dst     // where it was before
	since  Seconds // its first move, or when it was frozen
	moves  int
	frozen bool
	told   bool // Damp returned it as frozen
}

// over tells whether within has passed since m began.
func (m movement) over(now, within Seconds) bool {
	return int32(now-m.since) >= int32(within) // callers differ by a few seconds
}

// move notes that m leaves from, and says whether it is to be held from now on
// and where its home is. The part that holds m is locked.
func (d *damper) move(m MAC, from Dst, now Seconds, c *Config) (home Dst, hold bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r, ok := d.of[m]
	if !ok && !d.room(now, c.MovesWithin) {
		return 0, false
	}
	if !ok || r.over(now, c.MovesWithin) {
		r = movement{home: from, since: now}
	}
	if r.moves++; r.moves >= c.Moves {
		r.frozen, r.since = true, now
	}
	if d.of == nil {
		d.of = map[MAC]movement{}
	}
	d.of[m] = r
	d.n.Store(int32(len(d.of)))
	return r.home, r.frozen
}

// room makes sure that another MAC can be watched: of a few that are, the one
// that moved least gives way, unless all are held.
func (d *damper) room(now, within Seconds) bool {
	if len(d.of) < maxMoving {
		return true
	}
	var least MAC
	moves, looked := 0, 0
	for m, r := range d.of {
		if looked++; looked > movingTries {
			break
		}
		if r.frozen {
			continue
		}
		if r.over(now, within) {
			least = m
			break
		}
		if least == 0 || r.moves < moves {
			least, moves = m, r.moves
		}
	}
	if least == 0 {
		return false
	}
	delete(d.of, least)
	return true
}

// forget drops what is known of m.
func (d *damper) forget(m MAC) {
	if d.n.Load() == 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.drop(m)
}

// drop is forget with the lock held.
func (d *damper) drop(m MAC) {
	delete(d.of, m)
	if len(d.of) == 0 {
		d.of = nil // a map keeps the room that it once needed
	}
	d.n.Store(int32(len(d.of)))
}

// homed are the MACs whose home is one of which.
func (d *damper) homed(which func(Dst) bool) (all []MAC) {
	if d.n.Load() == 0 {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for m, r := range d.of {
		if which(r.home) {
			all = append(all, m)
		}
	}
	return all
}

// due sorts the records by what is to be done: those that came to be held since
// the last call, and those whose time has come. What only moved, and no longer
// does, is forgotten.
func (d *damper) due(now Seconds, c *Config) (frozen, over []MAC) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for m, r := range d.of {
		end := c.Moves == 0 || r.over(now, c.MovesWithin) // off, or long enough
		switch {
		case end && !r.frozen:
			d.drop(m)
			continue
		case end:
			over = append(over, m)
		}
		if r.frozen && !r.told {
			r.told = true
			d.of[m] = r
			frozen = append(frozen, m)
		}
	}
	return frozen, over
}

// Damp releases the MACs that have been held for Config.MovesWithin, and returns
// those that came to be held since the last call and those that were released,
// each in order. Call it every second or so, by one goroutine; where nothing
// moves it is a single load.
func (t *Table) Damp(now Seconds) (frozen, released []MAC) {
	if t.damper.n.Load() == 0 {
		return nil, nil
	}
	c := t.conf.Load()
	frozen, over := t.damper.due(now, c)
	for _, m := range over {
		if t.release(m, now, c) {
			released = append(released, m)
		}
	}
	slices.SortFunc(frozen, cmp.Compare)
	slices.SortFunc(released, cmp.Compare)
	return frozen, released
}

// release ends the hold on m, if it is still due.
func (t *Table) release(m MAC, now Seconds, c *Config) bool {
	h := t.key.hash(m)
	p := t.lock(h)
	if !t.damper.end(m, now, c) {
		p.mu.Unlock()
		return false
	}
	b := p.find(h, uint64(m)|occupied).And(^frozen)
	e := t.event(EventRelease, m, dstOf(b), 0, OriginDynamic)
	p.mu.Unlock()
	t.tell(e)
	return true
}

// end forgets that m is held, if that is due, and reports whether it was. An
// entry is frozen as long as its record says so: the part is locked.
func (d *damper) end(m MAC, now Seconds, c *Config) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	r, ok := d.of[m]
	if !ok || !r.frozen || c.Moves > 0 && !r.over(now, c.MovesWithin) {
		return false
	}
	d.drop(m)
	return true
}

// forgetHomes ends what is known of the moves of MACs whose home is one of which:
// none of them is to be held there. It returns how many were.
func (t *Table) forgetHomes(which func(Dst) bool) (removed int) {
	for _, m := range t.damper.homed(which) {
		h := t.key.hash(m)
		p := t.lock(h)
		t.damper.forget(m)
		v := p.find(h, uint64(m)|occupied)
		switch {
		case v == nil || v.Load()&frozen == 0:
		case !which(dstOf(v.Load())):
			v.And(^frozen)
		default:
			b := v.Swap(0)
			t.drop(p, m, b)
			removed++
			e := t.event(EventDelete, m, dstOf(b), 0, OriginDynamic)
			t.shrink(p)
			t.tell(e)
			continue
		}
		p.mu.Unlock()
	}
	return removed
}
