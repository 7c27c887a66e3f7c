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

	// A MAC that has moved Moves times, the first of them less than MovesWithin
	// ago, is frozen: held for MovesWithin where it was before the first. 0: never.
	// It needs Damp.
	Moves       int
	MovesWithin Seconds

	// Total, if not nil, bounds the learned MACs of this table and others
	// together. It is the table's for good: Reconfigure does not change it.
	Total *Total

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

	of *Total // nil if there is none

	// Written as entries come and go.
	entries atomic.Int64 // all of them
	learned quota        // the learned ones
	seq     atomic.Uint64
	counts  counters
	damper  damper
	hand    atomic.Uint64 // the part where the next search for an entry that gives way goes on

	mu      sync.Mutex // of the directory's contents, taken after a part's
	deepest int        // parts with all of the directory's depth

	sweep sweeper
}

// New makes an empty table.
func New(c Config) *Table {
	t := &Table{key: newHashKey(), of: c.Total}
	t.Reconfigure(c)
	t.counts.init()
	d := newDirectory(0)
	d.put(newPart(0, 0, minBuckets))
	t.deepest = 1
	t.dir.Store(d)
	if t.of != nil {
		t.of.join(t)
	}
	return t
}

// Reconfigure replaces the configuration. What was learned stays, even where
// it is more than a new limit allows.
func (t *Table) Reconfigure(c Config) {
	t.conf.Store(&c)
	t.learned.limit.Store(int64(c.MaxMACs))
}

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
		e.Age, e.Frozen = ageOf(now, v), v&frozen != 0
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
		if b&frozen != 0 && (d.IsLocal() || d.IsRemote()) {
			return Frozen
		}
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
	if b&sealed == 0 && v.CompareAndSwap(b, b&^seenMask|uint64(now)&seenMask) {
		return Known
	}
	return t.learn(h, m, d, now, true)
}

// learn is Learn where there is more to do than to refresh the time.
func (t *Table) learn(h uint64, m MAC, d Dst, now Seconds, known bool) Result {
	if !m.station() || !d.IsLocal() && !d.IsRemote() {
		return Invalid
	}
	count := t.counts.of(d)
	if !known {
		if count.full() {
			return PortFull
		}
		if t.denied(count) {
			return Full
		}
	}
	var out changes
	p, v := t.lockFor(h, uint64(m)|occupied)
	r := t.learnIn(p, v, h, m, d, now, count, &out)
	p.mu.Unlock()
	out.tell()
	return r
}

// learnIn is learn once the part is locked; v is the slot of m, if it has one.
func (t *Table) learnIn(p *part, v *atomic.Uint64, h uint64, m MAC, d Dst, now Seconds, count *counter, out *changes) Result {
	var old uint64
	if v != nil {
		old = v.Load()
	}
	b, was := binding(d, OriginDynamic, now), dstOf(old)
	switch {
	case was == 0:
		if r := t.admit(p, count, out); r != Learned {
			return r
		}
		t.entries.Add(1)
		if v != nil {
			v.Store(b)
			p.live++
		} else {
			p.insert(h, uint64(m)|occupied, b)
		}
		out.add(t, t.event(EventLearn, m, d, 0, OriginDynamic))
		return Learned
	case originOf(old) == OriginSelf:
		return Own
	case originOf(old) == OriginStatic:
		if was == d {
			return Known
		}
		return Static
	case was == d:
		// Somebody else came first, or the part was just copied.
		for newer(now, old) && !v.CompareAndSwap(old, old&^seenMask|b&seenMask) {
			old = v.Load()
		}
		return Known
	case old&frozen != 0:
		return Frozen
	}
	return t.move(v, m, d, was, now, count, out)
}

// move binds m, learned elsewhere before, to d, or for a while to where it was
// when it began to move.
func (t *Table) move(v *atomic.Uint64, m MAC, d, was Dst, now Seconds, count *counter, out *changes) Result {
	if !t.hold(count) {
		return PortFull
	}
	var held uint64
	to := d
	if c := t.conf.Load(); c.Moves > 0 {
		if home, hold := t.damper.move(m, was, now, c); hold {
			held = frozen
			if home != d {
				t.letGo(count)
				if count, to = t.counts.of(home), home; home == was || !t.hold(count) {
					to = was
				}
			}
		}
	}
	// What a refresh of the old binding would have added is void.
	v.Store(binding(to, OriginDynamic, now) | held)
	if to != was {
		t.letGo(t.counts.of(was))
	}
	switch {
	case held != 0:
		e := t.event(EventFreeze, m, to, 0, OriginDynamic)
		if to != was {
			e.Old = was
		}
		out.add(t, e)
	default:
		out.add(t, t.event(EventMove, m, d, was, OriginDynamic))
	}
	if to != d {
		return Frozen
	}
	return Moved
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
func (t *Table) Len() int { return int(t.entries.Load()) }

// Dynamic is the number of learned entries.
func (t *Table) Dynamic() int { return int(t.learned.n.Load()) }

// Count is the number of learned entries behind d.
func (t *Table) Count(d Dst) int { return t.counts.count(d) }
