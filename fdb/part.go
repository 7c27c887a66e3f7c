package fdb

import (
	"math/bits"
	"math/rand/v2"
	"sync"
	"sync/atomic"
)

const (
	bucketSlots = 4       // 64 bytes: a cache line
	minBuckets  = 2       // the smallest part: 128 bytes
	maxBuckets  = 512     // the largest part: 32 KiB, copied in some 10 µs
	occupied    = 1 << 48 // set in every MAC that is stored, so that an unused slot is no MAC
)

// A binding is the second word of a slot: the destination in the upper half,
// then the frozen bit, two bits of origin, the sealed bit and 28 bits of time. A
// binding without a destination is that of a deleted entry.
const (
	seenBits            = 28
	seenMask     uint64 = 1<<seenBits - 1
	sealed       uint64 = 1 << seenBits // the part was copied: writers must go to its successor
	originShift         = seenBits + 1
	originMask   uint64 = 3 << originShift
	frozen       uint64 = 1 << 31 // the MAC moved too often: it stays for a while
	halfTheClock        = 1 << (seenBits - 1)
)

func binding(d Dst, o Origin, seen Seconds) uint64 {
	return uint64(d)<<32 | uint64(o)<<originShift | uint64(seen)&seenMask
}

func dstOf(v uint64) Dst       { return Dst(v >> 32) }
func originOf(v uint64) Origin { return Origin(v & originMask >> originShift) }

// newer tells whether now is later than the time in v.
func newer(now Seconds, v uint64) bool {
	d := (uint64(now) - v) & seenMask
	return d-1 < halfTheClock-1
}

// ageOf is how long before now the binding was refreshed: 0 if it was later.
func ageOf(now Seconds, v uint64) Seconds {
	if !newer(now, v) {
		return 0
	}
	return Seconds((uint64(now) - v) & seenMask)
}

// slot is a MAC and its binding. The MAC is written once, after the binding;
// a reader that has seen the MAC sees a binding of this MAC, then and later.
type slot struct {
	key, val atomic.Uint64
}

// bucket is filled from its first slot on: while the last is unused, no entry
// of this bucket has overflowed into the next.
type bucket struct {
	slots [bucketSlots]slot
}

// part holds the entries whose hashes start with the same depth bits. What
// readers need lies on a cache line that is never written once it is public.
type part struct {
	buckets []bucket // a power of two
	mask    uint64   // of the bucket's number in a hash
	prefix  uint64   // the hashes' leading bits, in place; the rest zero
	depth   uint8    // how many they are
	_       [64 - 24 - 8 - 8 - 1]byte

	mu   sync.Mutex
	used int  // slots with a MAC
	live int  // those of them with a binding
	hand int  // the bucket where the next search for an entry that gives way begins
	gone bool // replaced: look again
	_    [64 - 8 - 24 - 1]byte
}

func newPart(depth uint8, prefix uint64, buckets int) *part {
	return &part{buckets: make([]bucket, buckets), mask: uint64(buckets - 1), depth: depth, prefix: prefix}
}

// bucketsFor is the size of a part for n entries and as many more until it
// must grow, at least: twice the slots, of which three in four are used at most.
func bucketsFor(n int) int {
	b := 1 << bits.Len(uint((2*n+bucketSlots-1)/bucketSlots-1))
	return min(max(b, minBuckets), maxBuckets)
}

// room is how many slots may be used: one in four stays free, so that every
// search ends soon.
func (p *part) room() int { return len(p.buckets) * bucketSlots * 3 / 4 }

// span is how many hashes a part covers; 0 means all 2⁶⁴.
func (p *part) span() uint64 { return 1 << (64 - p.depth) }

// find is the binding of the MAC key, nil if the part has no slot for it. The
// comparisons are free of branches: where in its bucket a MAC lies cannot be
// predicted, and a wrong guess costs more than all four.
func (p *part) find(h, key uint64) *atomic.Uint64 {
	for i := h & p.mask; ; i = (i + 1) & p.mask {
		b := &p.buckets[i]
		at := bucketSlots
		last := b.slots[3].key.Load()
		if b.slots[0].key.Load() == key {
			at = 0
		}
		if b.slots[1].key.Load() == key {
			at = 1
		}
		if b.slots[2].key.Load() == key {
			at = 2
		}
		if last == key {
			at = 3
		}
		if at < bucketSlots {
			return &b.slots[at].val
		}
		if last == 0 {
			return nil
		}
	}
}

// insert adds a MAC that the part has no slot for. The part is locked, or not
// yet public, and has room.
func (p *part) insert(h, key, val uint64) {
	for i := h & p.mask; ; i = (i + 1) & p.mask {
		for j := range p.buckets[i].slots {
			s := &p.buckets[i].slots[j]
			if s.key.Load() == 0 {
				s.val.Store(val)
				s.key.Store(key)
				p.used++
				p.live++
				return
			}
		}
	}
}

// seal copies every living entry to the part that to chooses, and leaves p
// as it is for readers that still hold it.
func (p *part) seal(k *hashKey, to func(h uint64) *part) {
	for i := range p.buckets {
		for j := range p.buckets[i].slots {
			s := &p.buckets[i].slots[j]
			key := s.key.Load()
			if key == 0 {
				break
			}
			if s.val.Load() == 0 {
				continue
			}
			val := s.val.Or(sealed)
			h := k.hash(MAC(key &^ occupied))
			to(h).insert(h, key, val&^sealed)
		}
	}
	p.gone = true
}

// hashKey is the secret of a table's hash.
type hashKey [3]uint64

func newHashKey() hashKey {
	return hashKey{rand.Uint64(), rand.Uint64() | 1, rand.Uint64() | 1}
}

// hash spreads a MAC over 64 bits: two multiplications whose halves are folded,
// keyed. The first alone keeps too much of the order of neighbouring addresses.
func (k *hashKey) hash(m MAC) uint64 {
	hi, lo := bits.Mul64(uint64(m)^k[0], k[1])
	hi, lo = bits.Mul64(hi^lo, k[2])
	return hi ^ lo
}
