package fdb

import (
	"slices"
	"sync"
	"sync/atomic"
)

// totalTries is how many tables are asked for room at most, where a total has
// none: about a microsecond.
const totalTries = 64

// Total counts the learned MACs of several tables, and bounds them. NewTotal
// makes one; all methods may be called at any time from any goroutine.
type Total struct {
	learned quota

	at     atomic.Uint32 // where the next search for room begins
	tables atomic.Pointer[[]*Table]
	mu     sync.Mutex // of changes of tables
}

// NewTotal makes a total of no tables yet. limit is how many MACs they learn
// together at most; 0 is no limit.
func NewTotal(limit int) *Total {
	t := &Total{}
	t.tables.Store(&[]*Table{})
	t.SetLimit(limit)
	return t
}

// SetLimit changes how many MACs are learned at most; 0 is no limit. What was
// learned stays.
func (t *Total) SetLimit(limit int) { t.learned.limit.Store(int64(limit)) }

// Dynamic is the number of learned entries in all tables.
func (t *Total) Dynamic() int { return int(t.learned.n.Load()) }

// join adds a table. It goes behind the end of the slices that readers hold,
// where they do not look, so that n tables are added with O(n) copies in all.
func (t *Total) join(table *Table) {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := append(*t.tables.Load(), table)
	t.tables.Store(&all)
}

// Leave empties a table that nobody uses any more of what it learned, and takes
// it out of its total.
func (t *Table) Leave() {
	t.Flush()
	if t.of == nil {
		return
	}
	t.of.mu.Lock()
	defer t.of.mu.Unlock()
	all := *t.of.tables.Load()
	if i := slices.Index(all, t); i >= 0 {
		all = slices.Concat(all[:i], all[i+1:])
		t.of.tables.Store(&all)
	}
}

// evict removes an entry of a destination that has more than fair of them, of
// whichever table, and keeps its place in the total. The caller has a part locked.
func (t *Total) evict(fair int64, out *changes) bool {
	all := *t.tables.Load()
	at := int(t.at.Load())
	for i := range min(len(all), totalTries) {
		table := all[(at+i)%len(all)]
		// A table of which this is not true may have such a destination as well,
		// but some table of which it is always has.
		if table.learned.n.Load() <= fair*table.learned.active.Load() {
			continue
		}
		t.at.Store(uint32((at + i) % len(all)))
		if table.evict(nil, fair, out) {
			table.learned.n.Add(-1)
			return true
		}
	}
	t.at.Store(uint32((at + totalTries) % max(len(all), 1)))
	return false
}
