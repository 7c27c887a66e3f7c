package config

import (
	"encoding/binary"
	"net/netip"
)

// broadcast is the last address of an IPv4 prefix.
func broadcast(n netip.Prefix) netip.Addr {
	a := n.Addr().As4()
	binary.BigEndian.PutUint32(a[:], binary.BigEndian.Uint32(a[:])|uint32(uint64(1)<<(32-n.Bits())-1))
	return netip.AddrFrom4(a)
}

// usable are the addresses of a subnet that machines can have.
func usable(n netip.Prefix) []Range {
	return []Range{{n.Addr().Next(), broadcast(n).Prev()}}
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
