package fdb

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

// What AddStatic refuses.
var (
	ErrNotStation = errors.New("not the address of a station")
	ErrOwnMAC     = errors.New("an address of the segment itself")
	ErrNoDst      = errors.New("no destination")
)

// AddStatic binds m to d, a local port or a remote VTEP, until it is deleted: no
// frame moves it, and it does not age. It takes the place of what was there,
// learned or static, without a moment in between. It is ErrNotStation if m is
// zero or a group address, ErrOwnMAC if it is one of SetSelf's, ErrNoDst if d is
// neither a port nor a VTEP.
func (t *Table) AddStatic(m MAC, d Dst) error {
	if !m.station() {
		return fmt.Errorf("static entry %v: %w: give a unicast address", m, ErrNotStation)
	}
	if !d.IsLocal() && !d.IsRemote() {
		return fmt.Errorf("static entry %v: %w: give a port or a remote VTEP", m, ErrNoDst)
	}
	if !t.bind(m, d, OriginStatic) {
		return fmt.Errorf("static entry %v: %w: it cannot be bound elsewhere", m, ErrOwnMAC)
	}
	return nil
}

// SetSelf makes m an address of the segment itself, whatever it was before:
// Lookup yields Self, Learn yields Own. Zero and group addresses, which no
// station has, are ignored.
func (t *Table) SetSelf(m MAC) {
	if m.station() {
		t.bind(m, Self, OriginSelf)
	}
}

// bind makes an entry that is not learned. It reports false, and does nothing,
// if the address is the segment's own and is to be bound elsewhere.
func (t *Table) bind(m MAC, d Dst, o Origin) bool {
	h := t.key.hash(m)
	p, v := t.lockFor(h, uint64(m)|occupied)
	var old uint64
	if v != nil {
		old = v.Load()
	}
	b := binding(d, o, 0)
	if old == b {
		p.mu.Unlock()
		return true
	}
	if originOf(old) == OriginSelf {
		p.mu.Unlock()
		return false
	}
	if v != nil {
		v.Store(b)
	} else {
		p.insert(h, uint64(m)|occupied, b)
	}
	if dstOf(old) == 0 {
		t.entries.Add(1)
		if v != nil {
			p.live++
		}
	} else {
		t.uncount(m, old)
	}
	e := t.event(EventAdd, m, d, dstOf(old), o)
	p.mu.Unlock()
	t.tell(e)
	return true
}

// uncount takes a binding of m that is no more, or no longer a learned one, off
// the counts of learned ones. Its part is locked.
func (t *Table) uncount(m MAC, b uint64) {
	if originOf(b) != OriginDynamic {
		return
	}
	t.learned.n.Add(-1)
	if t.of != nil {
		t.of.learned.n.Add(-1)
	}
	t.letGo(t.counts.of(dstOf(b)))
	if b&frozen != 0 {
		t.damper.forget(m)
	}
}

// drop counts a binding of m in p, which is locked, as removed.
func (t *Table) drop(p *part, m MAC, b uint64) {
	p.live--
	t.entries.Add(-1)
	t.uncount(m, b)
}

// tell hands out events; no lock is held.
func (t *Table) tell(events ...Event) {
	if f := t.conf.Load().Events; f != nil {
		for _, e := range events {
			f(e)
		}
	}
}

// ClearSelf ends what SetSelf began; other entries are left alone.
func (t *Table) ClearSelf(m MAC) {
	t.remove(m, func(o Origin) bool { return o == OriginSelf })
}

// Delete removes m, be it learned or static, and reports whether it was there.
// The segment's own addresses stay.
func (t *Table) Delete(m MAC) bool {
	return t.remove(m, func(o Origin) bool { return o != OriginSelf })
}

func (t *Table) remove(m MAC, which func(Origin) bool) bool {
	h := t.key.hash(m)
	p := t.lock(h)
	v := p.find(h, uint64(m)|occupied)
	if v == nil || v.Load() == 0 || !which(originOf(v.Load())) {
		p.mu.Unlock()
		return false
	}
	b := v.Swap(0)
	t.drop(p, m, b)
	e := t.event(EventDelete, m, dstOf(b), 0, originOf(b))
	t.shrink(p)
	t.tell(e)
	return true
}

// Flush removes every learned entry and returns how many there were.
func (t *Table) Flush() int {
	return t.flush(func(b uint64) bool { return originOf(b) == OriginDynamic })
}

// FlushDst removes the entries behind d, the learned ones or, with statics, all
// of them, and returns how many there were. A worker that still sees frames
// from d learns anew: take the port or peer away from the workers first.
func (t *Table) FlushDst(d Dst, statics bool) int {
	return t.flushDsts(func(b Dst) bool { return b == d }, statics)
}

// FlushDsts is FlushDst for all of a set, in one walk of the table.
func (t *Table) FlushDsts(of map[Dst]bool, statics bool) int {
	return t.flushDsts(func(b Dst) bool { return of[b] }, statics)
}

func (t *Table) flushDsts(which func(Dst) bool, statics bool) int {
	n := t.flush(func(b uint64) bool {
		o := originOf(b)
		return (o == OriginDynamic || statics && o != OriginSelf) && which(dstOf(b))
	})
	return n + t.forgetHomes(which)
}

func (t *Table) flush(which func(b uint64) bool) int {
	listened := t.conf.Load().Events != nil
	n := 0
	var events []Event
	for h := uint64(0); ; {
		p := t.lock(h)
		h = p.prefix + p.span()
		for i := range p.buckets {
			for j := range p.buckets[i].slots {
				s := &p.buckets[i].slots[j]
				if b := s.val.Load(); b == 0 || !which(b) {
					continue
				}
				b := s.val.Swap(0)
				m := MAC(s.key.Load() &^ occupied)
				t.drop(p, m, b)
				n++
				if listened {
					events = append(events, t.event(EventDelete, m, dstOf(b), 0, originOf(b)))
				}
			}
		}
		t.shrink(p)
		t.tell(events...)
		events = events[:0]
		if h == 0 {
			return n
		}
	}
}

// Entries is all that the table knows at the time now, in the order of the
// MACs. It takes no lock: what changes meanwhile is in it or not.
func (t *Table) Entries(now Seconds) []Entry {
	all := make([]Entry, 0, t.Len())
	for h := uint64(0); ; {
		p := t.part(h)
		for i := range p.buckets {
			for j := range p.buckets[i].slots {
				s := &p.buckets[i].slots[j]
				key := s.key.Load()
				if key == 0 {
					break
				}
				m := MAC(key &^ occupied)
				// A part that was merged while this walk was in its middle
				// also has what the walk has been through already.
				if t.key.hash(m) < h {
					continue
				}
				if e, ok := entryOf(m, s.val.Load(), now); ok {
					all = append(all, e)
				}
			}
		}
		if h = p.prefix + p.span(); h == 0 {
			break
		}
	}
	slices.SortFunc(all, func(a, b Entry) int { return cmp.Compare(a.MAC, b.MAC) })
	return all
}
