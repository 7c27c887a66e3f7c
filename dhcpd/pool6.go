package dhcpd

import (
	linked "container/list"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
)

// pool6 is a range of addresses, or a prefix that is cut into prefixes of one
// length. It may be huge, so nothing in it is as long as it: what is not held
// by a binding is looked for.
type pool6 struct {
	name  string // in events
	first u128
	bits  int  // of each cut; 128: addresses
	size  u128 // cuts

	held   int         // bindings in it
	kept   int         // cuts that are not for whoever asks: reserved ones and special addresses
	unused linked.List // *binding6 whose lease ended, the longest unused first

	exhausted bool // said so already
	fill      level
}

func newRangePool(r Range) *pool6 {
	first := toU128(r.First)
	return &pool6{
		name: r.First.String() + "-" + r.Last.String(), first: first, bits: 128,
		size: toU128(r.Last).sub(first).add(u128{0, 1}),
	}
}

func newDelegationPool(d Delegation) *pool6 {
	return &pool6{
		name: d.Prefix.String(), first: toU128(d.Prefix.Addr()), bits: d.Length,
		size: u128{0, 1}.shl(d.Length - d.Prefix.Bits()),
	}
}

// String names the pool in events.
func (p *pool6) String() string { return p.name }

// same says that both give out the same.
func (p *pool6) same(o *pool6) bool {
	return p.first == o.first && p.bits == o.bits && p.size == o.size
}

// cut is the cut with a number.
func (p *pool6) cut(i u128) netip.Prefix {
	return netip.PrefixFrom(p.first.add(i.shl(128-p.bits)).addr(), p.bits)
}

// holds says that the prefix is one of the pool's cuts.
func (p *pool6) holds(q netip.Prefix) bool {
	a := toU128(q.Addr())
	return q.Bits() == p.bits && !a.less(p.first) && a.sub(p.first).shr(128-p.bits).less(p.size)
}

// full says that no cut is left that nobody ever had.
func (p *pool6) full() bool { return !(u128{0, uint64(p.held + p.kept)}).less(p.size) }

// Looking for a cut begins where a hash of the client says (RFC 7943), so that
// a client has the same address whatever became of the leases, and nobody knows
// a neighbour's address from his own. After some tries that were all taken it goes
// on from the last one; there are no more taken than bindings and kept ones. A
// pool with strays, whose number is not known, is not searched for longer than
// maxScan.
const (
	maxTries = 32
	maxScan  = 1 << 16
)

// pick is a cut for a client that nobody has or had.
func (p *pool6) pick(key []byte, free func(netip.Prefix) bool, strays bool) (netip.Prefix, bool) {
	if p.full() {
		return netip.Prefix{}, false
	}
	mask := p.size.sub(u128{0, 1}).mask()
	var seed [25]byte
	binary.BigEndian.PutUint64(seed[:], p.first.hi)
	binary.BigEndian.PutUint64(seed[8:], p.first.lo)
	seed[16] = byte(p.bits)
	var i u128
	for try := range uint64(maxTries) {
		binary.BigEndian.PutUint64(seed[17:], try)
		h := sha256.New()
		h.Write(seed[:])
		h.Write(key)
		var sum [sha256.Size]byte
		h.Sum(sum[:0])
		at := u128{binary.BigEndian.Uint64(sum[:8]), binary.BigEndian.Uint64(sum[8:16])}.and(mask)
		if !at.less(p.size) {
			continue
		}
		if i = at; free(p.cut(i)) {
			return p.cut(i), true
		}
	}
	steps := p.held + p.kept + 1
	if strays {
		steps = min(p.size.saturate(), maxScan)
	}
	for range steps {
		if i = i.add(u128{0, 1}); !i.less(p.size) {
			i = u128{}
		}
		if free(p.cut(i)) {
			return p.cut(i), true
		}
	}
	return netip.Prefix{}, false
}

// highFrom is the size from which, downwards, a pool may run full by the
// clients of one segment, so that it is worth a warning.
const highFrom = 1 << 20

// level is how full the pool is: in is what of it is in use.
func (p *pool6) level() (in, of int) {
	return p.held - p.unused.Len(), max(p.size.saturate()-p.kept, 0)
}
