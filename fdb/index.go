package fdb

import "sync/atomic"

// index is a hash map that is read without locks and changed by one goroutine
// at a time. Entries are added in place; the array is replaced only when it has
// become too full, by one of the size that its entries need, so that adding n of
// them copies O(n) pointers in all. A hash's upper bits must be good.
type index[K comparable, V any] struct {
	tab        atomic.Pointer[indexTable[K, V]]
	used, live int            // slots that are not nil; those of them not removed
	removed    *indexed[K, V] // stands where an entry was, so that searches go on
}

type indexTable[K comparable, V any] struct {
	slots []atomic.Pointer[indexed[K, V]] // a power of two
	shift uint8
}

type indexed[K comparable, V any] struct {
	hash uint64
	key  K
	val  V
}

const indexMinBits = 2

func (x *index[K, V]) init() {
	x.removed = &indexed[K, V]{}
	x.tab.Store(newIndexTable[K, V](indexMinBits))
}

func newIndexTable[K comparable, V any](bits uint8) *indexTable[K, V] {
	return &indexTable[K, V]{slots: make([]atomic.Pointer[indexed[K, V]], 1<<bits), shift: 64 - bits}
}

// get is the value of k, whose hash is h. It takes no lock.
func (x *index[K, V]) get(h uint64, k K) (v V, ok bool) {
	t := x.tab.Load()
	mask := uint64(len(t.slots) - 1)
	for i := h >> t.shift; ; i = (i + 1) & mask {
		e := t.slots[i&mask].Load()
		if e == nil {
			return v, false
		}
		if e.hash == h && e.key == k && e != x.removed {
			return e.val, true
		}
	}
}

// put adds k, which must not be there.
func (x *index[K, V]) put(h uint64, k K, v V) {
	t := x.tab.Load()
	if 4*(x.used+1) > 3*len(t.slots) {
		t = x.rebuild(t)
	}
	t.insert(&indexed[K, V]{h, k, v})
	x.used++
	x.live++
}

// del removes k and reports whether it was there.
func (x *index[K, V]) del(h uint64, k K) bool {
	t := x.tab.Load()
	mask := uint64(len(t.slots) - 1)
	for i := h >> t.shift; ; i = (i + 1) & mask {
		e := t.slots[i&mask].Load()
		if e == nil {
			return false
		}
		if e.hash == h && e.key == k && e != x.removed {
			t.slots[i&mask].Store(x.removed)
			x.live--
			if x.live < len(t.slots)/8 && len(t.slots) > 1<<indexMinBits {
				x.rebuild(t)
			}
			return true
		}
	}
}

// rebuild replaces the array by one that is at most half full.
func (x *index[K, V]) rebuild(t *indexTable[K, V]) *indexTable[K, V] {
	bits := uint8(indexMinBits)
	for 1<<bits < 2*(x.live+1) {
		bits++
	}
	n := newIndexTable[K, V](bits)
	for i := range t.slots {
		if e := t.slots[i].Load(); e != nil && e != x.removed {
			n.insert(e)
		}
	}
	x.used = x.live
	x.tab.Store(n)
	return n
}

func (t *indexTable[K, V]) insert(e *indexed[K, V]) {
	mask := uint64(len(t.slots) - 1)
	i := e.hash >> t.shift
	for t.slots[i].Load() != nil {
		i = (i + 1) & mask
	}
	t.slots[i].Store(e)
}
