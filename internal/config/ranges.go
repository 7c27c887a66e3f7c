package config

import (
	"encoding/binary"
	"net/netip"
)

// last is the last address of a prefix: of an IPv4 subnet its broadcast address.
func last(n netip.Prefix) netip.Addr {
	b := n.Masked().Addr().AsSlice()
	for i := n.Bits(); i < 8*len(b); i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// plus is the address n after a, which is an IPv6 one.
func plus(a netip.Addr, n uint64) netip.Addr {
	b := a.As16()
	low := binary.BigEndian.Uint64(b[8:])
	if low+n < low {
		binary.BigEndian.PutUint64(b[:8], binary.BigEndian.Uint64(b[:8])+1)
	}
	binary.BigEndian.PutUint64(b[8:], low+n)
	return netip.AddrFrom16(b)
}

// usable are the addresses of an IPv4 subnet that machines can have.
func usable(n netip.Prefix) []Range {
	return []Range{{n.Addr().Next(), last(n).Prev()}}
}

// usable6 are the addresses of an IPv6 subnet that are given out where nothing
// else is said: 61,440 of them, clear of those that people give by hand, or all
// that a smaller subnet has.
func usable6(n netip.Prefix) []Range {
	if n.Bits() <= 112 {
		return []Range{{plus(n.Addr(), 0x1000), plus(n.Addr(), 0xffff)}}
	}
	return []Range{{n.Addr().Next(), last(n)}}
}

// without takes one address out of disjoint ranges, in their order.
func without(ranges []Range, a netip.Addr) []Range {
	var out []Range
	for _, r := range ranges {
		if !a.IsValid() || !r.Contains(a) {
			out = append(out, r)
			continue
		}
		if r.First != a {
			out = append(out, Range{r.First, a.Prev()})
		}
		if r.Last != a {
			out = append(out, Range{a.Next(), r.Last})
		}
	}
	return out
}
