package dhcpd

import "time"

// expiryHeap orders bindings by when they end. It is a heap of its own, not
// container/heap's: that one would call through an interface for each step.
type expiryHeap[B tenancy] []B

// set puts a binding where its expiry says, whether it was in the heap or not.
func (h *expiryHeap[B]) set(b B) {
	at := &b.held().inHeap
	if *at == 0 {
		*h = append(*h, b)
		*at = int32(len(*h))
	}
	h.down(h.up(int(*at) - 1))
}

func (h *expiryHeap[B]) remove(b B) {
	at := &b.held().inHeap
	if *at == 0 {
		return
	}
	i, n := int(*at)-1, len(*h)-1
	h.swap(i, n)
	(*h)[n] = *new(B)
	*h = (*h)[:n]
	*at = 0
	if i < n {
		h.down(h.up(i))
	}
}

// at is when the i-th ends.
func (h expiryHeap[B]) at(i int) time.Duration { return h[i].held().expires }

func (h expiryHeap[B]) swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].held().inHeap, h[j].held().inHeap = int32(i)+1, int32(j)+1
}

func (h expiryHeap[B]) up(i int) int {
	for i > 0 {
		p := (i - 1) / 2
		if h.at(p) <= h.at(i) {
			break
		}
		h.swap(i, p)
		i = p
	}
	return i
}

func (h expiryHeap[B]) down(i int) {
	for {
		c := 2*i + 1
		if c >= len(h) {
			return
		}
		if c+1 < len(h) && h.at(c+1) < h.at(c) {
			c++
		}
		if h.at(i) <= h.at(c) {
			return
		}
		h.swap(i, c)
		i = c
	}
}
