package fdb

import "sync/atomic"

// directory maps the leading bits of a hash to the part that holds it. Its
// length is a power of two; a part of a smaller depth is listed several times.
type directory struct {
	parts []atomic.Pointer[part]
	shift uint8 // 64 - depth
	depth uint8
}

func newDirectory(depth uint8) *directory {
	return &directory{parts: make([]atomic.Pointer[part], 1<<depth), shift: 64 - depth, depth: depth}
}

func (d *directory) at(h uint64) *part { return d.parts[h>>d.shift].Load() }

// put lists p wherever it belongs.
func (d *directory) put(p *part) {
	first := int(p.prefix >> d.shift)
	for i := range 1 << (d.depth - p.depth) {
		d.parts[first+i].Store(p)
	}
}

// part is the one that holds the hash h now.
func (t *Table) part(h uint64) *part { return t.dir.Load().at(h) }

// lock returns the part that holds h, locked.
func (t *Table) lock(h uint64) *part {
	for {
		p := t.part(h)
		p.mu.Lock()
		if !p.gone {
			return p
		}
		p.mu.Unlock()
	}
}

// lockFor returns the part that holds h, locked, and the binding of the MAC
// key in it; if there is none the part has room for it.
func (t *Table) lockFor(h, key uint64) (*part, *atomic.Uint64) {
	for {
		p := t.lock(h)
		v := p.find(h, key)
		if v != nil || p.used < p.room() {
			return p, v
		}
		t.grow(p)
		p.mu.Unlock()
	}
}

// grow replaces p, which is locked, by one part or two with room for more.
func (t *Table) grow(p *part) {
	if 2*(p.live+1) <= maxBuckets*bucketSlots {
		t.resize(p)
		return
	}
	bit := uint64(1) << (63 - p.depth)
	low := newPart(p.depth+1, p.prefix, maxBuckets)
	high := newPart(p.depth+1, p.prefix|bit, maxBuckets)
	p.seal(&t.key, func(h uint64) *part {
		if h&bit != 0 {
			return high
		}
		return low
	})
	t.mu.Lock()
	defer t.mu.Unlock()
	d := t.dir.Load()
	if p.depth == d.depth {
		d = t.redirect(d.depth + 1)
	}
	d.put(low)
	d.put(high)
	if low.depth == d.depth {
		t.deepest += 2
	}
}

// resize replaces p, which is locked, by a part of the size that its living
// entries need.
func (t *Table) resize(p *part) {
	q := newPart(p.depth, p.prefix, bucketsFor(p.live+1))
	p.seal(&t.key, func(uint64) *part { return q })
	t.mu.Lock()
	t.dir.Load().put(q)
	t.mu.Unlock()
}

// shrink gives back what the part p, which is locked, no longer needs: it
// merges with its other half as often as the two fill an eighth of the largest
// part at most, or becomes smaller. It unlocks p.
func (t *Table) shrink(p *part) {
	for p.depth > 0 {
		q := t.merge(p)
		if q == nil {
			break
		}
		p.mu.Unlock()
		p = q
	}
	if len(p.buckets) > minBuckets && p.live < len(p.buckets)*bucketSlots/8 {
		t.resize(p)
	}
	p.mu.Unlock()
}

// merge makes one part of p, which is locked, and its other half, and returns
// it locked; nil if they are too full, or the half is not whole or just busy.
// Two locks are never waited for at once, so the other one is only tried.
func (t *Table) merge(p *part) *part {
	bit := p.span()
	half := t.part(p.prefix ^ bit)
	if half.depth != p.depth || !half.mu.TryLock() {
		return nil
	}
	defer half.mu.Unlock()
	n := p.live + half.live
	if half.gone || n > maxBuckets*bucketSlots/8 {
		return nil
	}
	q := newPart(p.depth-1, p.prefix&^bit, bucketsFor(n+1))
	q.mu.Lock()
	to := func(uint64) *part { return q }
	p.seal(&t.key, to)
	half.seal(&t.key, to)

	t.mu.Lock()
	defer t.mu.Unlock()
	d := t.dir.Load()
	d.put(q)
	if p.depth == d.depth {
		t.deepest -= 2
		for t.deepest == 0 && d.depth > 0 {
			d = t.redirect(d.depth - 1)
		}
	}
	return q
}

// redirect replaces the directory by one of another depth, and counts the parts
// that have all of it. The table's mutex is held.
func (t *Table) redirect(depth uint8) *directory {
	old, d := t.dir.Load(), newDirectory(depth)
	t.deepest = 0
	for i := range d.parts {
		p := old.at(uint64(i) << d.shift)
		d.parts[i].Store(p)
		if p.depth == depth {
			t.deepest++
		}
	}
	t.dir.Store(d)
	return d
}
