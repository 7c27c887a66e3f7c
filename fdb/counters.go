package fdb

import (
	"sync"
	"sync/atomic"
)

// counter counts the learned entries of one destination.
type counter struct {
	n, limit atomic.Int64
}

func (c *counter) full() bool {
	l := c.limit.Load()
	return l > 0 && c.n.Load() >= l
}

func (c *counter) reserve() (int64, bool) { return reserve(&c.n, c.limit.Load()) }

// counters has a counter for each destination that was ever asked for. A
// segment's ports and peers are numbered densely and numbers are used again, so
// they are few and are kept.
type counters struct {
	mu  sync.Mutex // of put
	idx index[Dst, *counter]
}

func (c *counters) init() { c.idx.init() }

func hashDst(d Dst) uint64 { return uint64(d) * 0x9e3779b97f4a7c15 }

// of is the counter of d, made if need be.
func (c *counters) of(d Dst) *counter {
	h := hashDst(d)
	if n, ok := c.idx.get(h, d); ok {
		return n
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	n, ok := c.idx.get(h, d)
	if !ok {
		n = &counter{}
		c.idx.put(h, d, n)
	}
	return n
}

func (c *counters) count(d Dst) int {
	if n, ok := c.idx.get(hashDst(d), d); ok {
		return int(n.n.Load())
	}
	return 0
}
