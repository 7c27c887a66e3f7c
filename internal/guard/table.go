package guard

import (
	"net/netip"
	"slices"
	"sync/atomic"
	"time"
)

// Source is on whose word a pair of MAC and address is bound; it is a set.
type Source uint8

const (
	Configured Source = 1 << iota
	Leased            // by the segment's own server
	Snooped           // by another one
	Claimed           // a link-local address, by duplicate address detection
)

// Table is what is bound to a port: pairs of a MAC and an address or prefix, up
// to very many. Workers look up without a lock while one writer at a time changes
// it; a change costs the same however many pairs there are.
type Table struct {
	slots    atomic.Pointer[slots]
	few      atomic.Pointer[few]     // nil: there are more
	prefixes atomic.Pointer[[]uint8] // lengths of the prefixes that are bound, as of IPv6; nil: only addresses

	// The writer's.
	pairs   map[key]*Pair
	macs    map[MAC]*Pair
	used    int // slots that are not nil
	lengths [129]int
}

// key is what is looked up. bits is 128 of an address, and anyBits where the key
// is that of a MAC alone.
type key struct {
	mac  MAC
	ip   address
	bits uint8
}

const anyBits = 255

// Pair is a MAC and an address, or prefix, that it may send from.
type Pair struct {
	key
	by    Source // the writer's, as what follows
	pairs int    // of an entry of a MAC alone: how many of the MAC count
	firm  int    // and how many are not only claimed

	valid atomic.Bool   // it counts
	due   time.Duration // of a claim: when it may count
}

// slots is a hash table with open addressing. A slot goes from nil to a pair, and
// from there to gone; it never becomes nil again.
type slots struct {
	at    []atomic.Pointer[Pair]
	shift uint8
}

// gone has a key that nobody looks up: a MAC has 48 bits.
var gone = &Pair{key: key{mac: 1 << 63}}

const minSlots = 16

// NewTable makes a table that binds nothing.
func NewTable() *Table {
	t := &Table{pairs: map[key]*Pair{}, macs: map[MAC]*Pair{}}
	t.slots.Store(newSlots(minSlots))
	return t
}

func newSlots(n int) *slots {
	s := &slots{at: make([]atomic.Pointer[Pair], n), shift: 64}
	for ; n > 1; n /= 2 {
		s.shift--
	}
	return s
}

func (k key) hash() uint64 {
	h := (uint64(k.mac)^k.ip.hi)*0x9e3779b97f4a7c15 ^ k.ip.lo ^ uint64(k.bits)<<40
	h ^= h >> 32
	return h * 0xd6e8feb86659fd93
}

// find is the pair of a key, nil if it is not bound.
func (t *Table) find(k key) *Pair {
	s := t.slots.Load()
	mask := uint64(len(s.at) - 1)
	for i := k.hash() >> s.shift; ; i++ {
		p := s.at[i&mask].Load()
		if p == nil {
			return nil
		}
		if p.key == k {
			return p
		}
	}
}

// few are the addresses that are bound where they are few: those that count, one
// after the other. It is not changed but replaced.
type few struct {
	n     int
	pairs [maxFew]struct {
		mac MAC
		ip  address
	}
}

const maxFew = 8

// fewHave reports whether a MAC may send from an address, if few are bound.
func (t *Table) fewHave(m MAC, ip address) bool {
	all := t.few.Load()
	if all == nil {
		return false
	}
	for i := range all.pairs[:all.n] {
		if p := &all.pairs[i]; p.ip.lo == ip.lo && p.mac == m && p.ip.hi == ip.hi {
			return true
		}
	}
	return false
}

// list renews few, after any change.
func (t *Table) list() {
	if len(t.pairs) > maxFew {
		t.few.Store(nil)
		return
	}
	all := &few{}
	for k, p := range t.pairs {
		if p.valid.Load() && k.bits == 128 {
			all.pairs[all.n].mac, all.pairs[all.n].ip = k.mac, k.ip
			all.n++
		}
	}
	t.few.Store(all)
}

// has is the pair by which a MAC may send from an address, nil if it may not.
func (t *Table) has(m MAC, ip address) *Pair {
	if p := t.find(key{m, ip, 128}); p != nil {
		return p
	}
	if lengths := t.prefixes.Load(); lengths != nil {
		for _, n := range *lengths {
			if p := t.find(key{m, ip.masked(n), n}); p != nil {
				return p
			}
		}
	}
	return nil
}

// knows reports whether anything is bound to a MAC.
func (t *Table) knows(m MAC) bool { return t.find(key{mac: m, bits: anyBits}) != nil }

// Has reports whether a MAC may send from an address.
func (t *Table) Has(m MAC, ip netip.Addr) bool {
	p := t.has(m, of(ip))
	return p != nil && p.Valid()
}

// Knows reports whether anything is bound to a MAC.
func (t *Table) Knows(m MAC) bool { return t.knows(m) }

// Len is how many pairs are bound. It is for the writer.
func (t *Table) Len() int { return len(t.pairs) }

func keyOf(m MAC, p netip.Prefix) key {
	bits := p.Bits()
	if p.Addr().Is4() {
		bits += 96
	}
	return key{m, of(p.Addr()).masked(uint8(bits)), uint8(bits)}
}

// Firm reports whether anything is bound to a MAC but by its own claims. It is for
// the writer.
func (t *Table) Firm(m MAC) bool { return t.macs[m] != nil && t.macs[m].firm > 0 }

// Due is when a claim may count, by the clock of who made it.
func (p *Pair) Due() time.Duration { return p.due }

// Valid reports whether the pair counts.
func (p *Pair) Valid() bool { return p.valid.Load() }

// Bind binds a pair, or adds to on whose word it is bound.
func (t *Table) Bind(m MAC, p netip.Prefix, by Source) { t.bind(keyOf(m, p), by, 0) }

// Claim binds a link-local address to a MAC that claims it. It does not count
// before it is validated, unless it is bound already.
func (t *Table) Claim(m MAC, ip netip.Addr, due time.Duration) *Pair {
	return t.bind(keyOf(m, netip.PrefixFrom(ip, ip.BitLen())), Claimed, due)
}

func (t *Table) bind(k key, by Source, due time.Duration) *Pair {
	b := t.pairs[k]
	if b == nil {
		b = &Pair{key: k, due: due}
		t.pairs[k] = b
		t.insert(b)
		t.count(k.bits, 1)
	}
	firm := b.by&^Claimed != 0
	if b.by |= by; by != Claimed {
		t.Validate(b)
		if !firm {
			t.macs[k.mac].firm++
		}
	}
	t.list()
	return b
}

// Validate makes a claim count.
func (t *Table) Validate(p *Pair) {
	if t.pairs[p.key] == p && !p.valid.Swap(true) {
		t.tally(p.mac, 1)
		t.list()
	}
}

// Unbind takes back by whose word a pair is bound; the last one ends it.
func (t *Table) Unbind(m MAC, p netip.Prefix, by Source) {
	b := t.pairs[keyOf(m, p)]
	if b == nil {
		return
	}
	firm := b.by&^Claimed != 0
	b.by &^= by
	if firm && b.by&^Claimed == 0 {
		t.macs[m].firm--
	}
	if b.by != 0 {
		return
	}
	delete(t.pairs, b.key)
	t.remove(b)
	t.count(b.bits, -1)
	if b.valid.Load() {
		t.tally(m, -1)
	}
	t.list()
}

// tally counts the pairs of a MAC that count, and keeps an entry of the MAC while
// there are any.
func (t *Table) tally(m MAC, n int) {
	p := t.macs[m]
	if p == nil {
		p = &Pair{key: key{mac: m, bits: anyBits}}
		t.macs[m] = p
		t.insert(p)
	}
	if p.pairs += n; p.pairs == 0 {
		delete(t.macs, m)
		t.remove(p)
	}
}

// count keeps the list of the lengths of prefixes, the longest first.
func (t *Table) count(bits uint8, n int) {
	was := t.lengths[bits] > 0
	t.lengths[bits] += n
	if bits == 128 || was == (t.lengths[bits] > 0) {
		return
	}
	var all []uint8
	for bits := range uint8(128) {
		if t.lengths[bits] > 0 {
			all = append(all, bits)
		}
	}
	slices.Reverse(all)
	if all == nil {
		t.prefixes.Store(nil)
	} else {
		t.prefixes.Store(&all)
	}
}

// insert puts a pair into the first slot that never had one; where few of those
// are left all go into new slots.
func (t *Table) insert(p *Pair) {
	s := t.slots.Load()
	if t.used++; 4*t.used > 3*len(s.at) {
		n := minSlots
		for n < 2*(len(t.pairs)+len(t.macs)) {
			n *= 2
		}
		s, t.used = newSlots(n), 0
		for _, o := range t.pairs {
			s.put(o)
			t.used++
		}
		for _, o := range t.macs {
			s.put(o)
			t.used++
		}
		t.slots.Store(s)
		return
	}
	s.put(p)
}

func (s *slots) put(p *Pair) {
	mask := uint64(len(s.at) - 1)
	for i := p.hash() >> s.shift; ; i++ {
		if slot := &s.at[i&mask]; slot.Load() == nil {
			slot.Store(p)
			return
		}
	}
}

// remove leaves the slot of a pair to nobody, so that those behind are found.
func (t *Table) remove(p *Pair) {
	s := t.slots.Load()
	mask := uint64(len(s.at) - 1)
	for i := p.hash() >> s.shift; ; i++ {
		if slot := &s.at[i&mask]; slot.Load() == p {
			slot.Store(gone)
			return
		}
	}
}
