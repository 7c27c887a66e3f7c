package dhcpd

import "math/bits"

// bitmap is a set of small numbers that finds its least one in a few steps:
// each level has a bit for every word of the level below that is not empty.
type bitmap struct {
	levels [][]uint64
	count  int
}

func newBitmap(n int) *bitmap {
	b := &bitmap{}
	for {
		n = (n + 63) / 64
		b.levels = append(b.levels, make([]uint64, n))
		if n <= 1 {
			return b
		}
	}
}

func (b *bitmap) has(i int) bool { return b.levels[0][i>>6]>>(i&63)&1 != 0 }

func (b *bitmap) add(i int) {
	if b.has(i) {
		return
	}
	b.count++
	for _, l := range b.levels {
		l[i>>6] |= 1 << (i & 63)
		i >>= 6
	}
}

func (b *bitmap) remove(i int) {
	if !b.has(i) {
		return
	}
	b.count--
	for _, l := range b.levels {
		if l[i>>6] &^= 1 << (i & 63); l[i>>6] != 0 {
			return
		}
		i >>= 6
	}
}

// fill makes the set 0..n-1; n is what newBitmap was given.
func (b *bitmap) fill(n int) {
	b.count = n
	for _, l := range b.levels {
		for i := range l {
			l[i] = ^uint64(0)
		}
		if r := n & 63; r != 0 {
			l[len(l)-1] = 1<<r - 1
		}
		n = (n + 63) / 64
	}
}

// first is the least number of the set; -1 when it is empty.
func (b *bitmap) first() int {
	if b.count == 0 {
		return -1
	}
	i := 0
	for l := len(b.levels) - 1; l >= 0; l-- {
		i = i<<6 | bits.TrailingZeros64(b.levels[l][i])
	}
	return i
}
