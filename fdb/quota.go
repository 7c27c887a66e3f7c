package fdb

import "sync/atomic"

// quota is a number of places for learned entries, and who has them.
type quota struct {
	n      atomic.Int64 // taken
	limit  atomic.Int64 // there are; 0: no limit
	active atomic.Int64 // destinations that have any
}

// take takes a place, if one is free.
func (q *quota) take() bool {
	_, ok := reserve(&q.n, q.limit.Load())
	return ok
}

// share is how many of the places each destination can have, if all that have
// any, and one that has own of them, are to have as many.
func (q *quota) share(own int64) int64 {
	active := q.active.Load()
	if own == 0 {
		active++
	}
	return q.limit.Load() / max(active, 1)
}

// denies reports whether a destination that has own places gets no other one:
// none is free, and it has its share.
func (q *quota) denies(own int64) bool {
	limit := q.limit.Load()
	return limit > 0 && q.n.Load() >= limit && own >= q.share(own)
}

// reserve adds one to n, and returns what n is then, unless that would exceed
// limit; 0 is no limit.
func reserve(n *atomic.Int64, limit int64) (int64, bool) {
	if limit <= 0 {
		return n.Add(1), true
	}
	for {
		old := n.Load()
		if old >= limit {
			return old, false
		}
		if n.CompareAndSwap(old, old+1) {
			return old + 1, true
		}
	}
}
