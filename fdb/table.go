package fdb

import (
	"sync"
	"sync/atomic"
)

// Config is what a table is bound to. The zero value learns without limit and
// forgets nothing.
type Config struct {
	MaxMACs int     // how many MACs are learned at most; 0: no limit
	Ageing  Seconds // a learned MAC not seen for so long is forgotten by Sweep; 0: never

	// Events, if not nil, is told of every change. Whoever caused the change
	// calls it, a worker that learns included, after all locks were released:
	// it may call the table, it must not block, and events of changes made at
	// the same time may come in any order. Event.Seq tells the true one.
	Events func(Event)
}

// Table is the forwarding database of one segment: which MAC lives where. New
// makes one; all methods may be called at any time from any goroutine. The
// package comment says how it works.
type Table struct {
	// Read by every lookup, written when the table grows or shrinks.
	dir  atomic.Pointer[directory]
	key  hashKey
	conf atomic.Pointer[Config]
	_    [64 - 40]byte

	// Written as entries come and go.
	total   atomic.Int64 // all entries
	dynamic atomic.Int64 // the learned ones
	seq     atomic.Uint64
	counts  counters

	mu      sync.Mutex // of the directory's contents, taken after a part's
	deepest int        // parts with all of the directory's depth

	sweep sweeper
}

// New makes an empty table.
func New(c Config) *Table {
	t := &Table{key: newHashKey()}
	t.conf.Store(&c)
	t.counts.init()
	d := newDirectory(0)
	d.put(newPart(0, 0, minBuckets))
	t.deepest = 1
	t.dir.Store(d)
	return t
}

// Reconfigure replaces the configuration. What was learned stays, even where
// it is more than a new limit allows.
func (t *Table) Reconfigure(c Config) { t.conf.Store(&c) }

// Lookup says where m lives: 0 if that is not known. It takes no lock.
func (t *Table) Lookup(m MAC) Dst {
	h := t.key.hash(m)
	if v := t.part(h).find(h, uint64(m)|occupied); v != nil {
		return dstOf(v.Load())
	}
	return 0
}

// LookupEntry is all that is known of m at the time now. It takes no lock.
func (t *Table) LookupEntry(m MAC, now Seconds) (Entry, bool) {
	h := t.key.hash(m)
	v := t.part(h).find(h, uint64(m)|occupied)
	if v == nil {
		return Entry{}, false
	}
	return entryOf(m, v.Load(), now)
}

func entryOf(m MAC, v uint64, now Seconds) (Entry, bool) {
	if dstOf(v) == 0 {
		return Entry{}, false
	}
	e := Entry{MAC: m, Dst: dstOf(v), Origin: originOf(v)}
	if e.Origin == OriginDynamic {
		e.Age = ageOf(now, v)
	}
	return e, true
}

// Learn takes notice of a frame from m that came by d, a local port or a remote
// VTEP. For a MAC known to be there it writes nothing, but for the time, once a
// second; it locks only when there is something to change, and never allocates
// but to grow.
func (t *Table) Learn(m MAC, d Dst, now Seconds) Result {
	h := t.key.hash(m)
	v := t.part(h).find(h, uint64(m)|occupied)
	if v == nil {
		return t.learn(h, m, d, now, false)
	}
	b := v.Load()
	if dstOf(b) != d || d == 0 {
		return t.learn(h, m, d, now, dstOf(b) != 0)
	}
	switch originOf(b) {
	case OriginStatic:
		return Known
	case OriginSelf:
		return Invalid // nothing comes by Self
	}
	if !newer(now, b) {
		return Known
	}
	if b&frozen == 0 && v.CompareAndSwap(b, b&^seenMask|uint64(now)&seenMask) {
		return Known
	}
	return t.learn(h, m, d, now, true)
}

// learn is Learn where there is more to do than to refresh the time.
func (t *Table) learn(h uint64, m MAC, d Dst, now Seconds, known bool) Result {
	if !m.station() || !d.IsLocal() && !d.IsRemote() {
		return Invalid
	}
	c := t.conf.Load()
	count := t.counts.of(d)
	if !known {
		// In a flood of made-up addresses most are refused: without a lock.
		if c.MaxMACs > 0 && t.dynamic.Load() >= int64(c.MaxMACs) {
			return Full
		}
		if count.full() {
			return PortFull
		}
	}
	p, v := t.lockFor(h, uint64(m)|occupied)
	r, e := t.learnIn(p, v, h, m, binding(d, OriginDynamic, now), count, int64(c.MaxMACs))
	p.mu.Unlock()
	if (r == Learned || r == Moved) && c.Events != nil {
		c.Events(e)
	}
	return r
}

// learnIn is learn once the part is locked; v is the slot of m, if it has one.
func (t *Table) learnIn(p *part, v *atomic.Uint64, h uint64, m MAC, b uint64, count *counter, limit int64) (Result, Event) {
	var old uint64
	if v != nil {
		old = v.Load()
	}
	d, was := dstOf(b), dstOf(old)
	switch {
	case was == 0:
		if !count.reserve() {
			return PortFull, Event{}
		}
		if !reserve(&t.dynamic, limit) {
			count.release()
			return Full, Event{}
		}
		t.total.Add(1)
		if v != nil {
			v.Store(b)
			p.live++
		} else {
			p.insert(h, uint64(m)|occupied, b)
		}
		return Learned, t.event(EventLearn, m, d, 0, OriginDynamic)
	case originOf(old) == OriginSelf:
		return Own, Event{}
	case originOf(old) == OriginStatic:
		if was == d {
			return Known, Event{}
		}
		return Static, Event{}
	case was == d:
		// Somebody else came first, or the part was just copied.
		for newer(Seconds(b&seenMask), old) && !v.CompareAndSwap(old, b) {
			old = v.Load()
		}
		return Known, Event{}
	}
	if !count.reserve() {
		return PortFull, Event{}
	}
	v.Store(b) // what a refresh of the old binding would have added is void
	t.counts.of(was).release()
	return Moved, t.event(EventMove, m, d, was, OriginDynamic)
}

// event numbers a change. It is called with the part locked, so that numbers
// have the order of changes.
func (t *Table) event(k EventKind, m MAC, d, old Dst, o Origin) Event {
	return Event{Kind: k, MAC: m, Dst: d, Old: old, Origin: o, Seq: t.seq.Add(1)}
}

// SetLimit bounds how many MACs are learned behind d; 0 is no bound. What was
// learned stays.
func (t *Table) SetLimit(d Dst, limit int) { t.counts.of(d).limit.Store(int64(limit)) }

// Len is the number of entries of every origin.
func (t *Table) Len() int { return int(t.total.Load()) }

// Dynamic is the number of learned entries.
func (t *Table) Dynamic() int { return int(t.dynamic.Load()) }

// Count is the number of learned entries behind d.
func (t *Table) Count(d Dst) int { return t.counts.count(d) }
