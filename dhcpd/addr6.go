package dhcpd

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// u128 is an IPv6 address as a number, or a number of addresses.
type u128 struct{ hi, lo uint64 }

func toU128(a netip.Addr) u128 {
	b := a.As16()
	return u128{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

func (a u128) addr() netip.Addr {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], a.hi)
	binary.BigEndian.PutUint64(b[8:], a.lo)
	return netip.AddrFrom16(b)
}

func (a u128) add(b u128) u128 {
	lo, carry := bits.Add64(a.lo, b.lo, 0)
	hi, _ := bits.Add64(a.hi, b.hi, carry)
	return u128{hi, lo}
}

func (a u128) sub(b u128) u128 {
	lo, borrow := bits.Sub64(a.lo, b.lo, 0)
	hi, _ := bits.Sub64(a.hi, b.hi, borrow)
	return u128{hi, lo}
}

func (a u128) less(b u128) bool { return a.hi < b.hi || a.hi == b.hi && a.lo < b.lo }

// shl and shr shift by 0 to 128 bits.
func (a u128) shl(n int) u128 {
	if n >= 64 {
		return u128{a.lo << (n - 64), 0}
	}
	return u128{a.hi<<n | a.lo>>(64-n), a.lo << n}
}

func (a u128) shr(n int) u128 {
	if n >= 64 {
		return u128{0, a.hi >> (n - 64)}
	}
	return u128{a.hi >> n, a.lo>>n | a.hi<<(64-n)}
}

func (a u128) and(b u128) u128 { return u128{a.hi & b.hi, a.lo & b.lo} }

// mask is the ones that it takes to write a.
func (a u128) mask() u128 {
	if a.hi != 0 {
		return u128{1<<bits.Len64(a.hi) - 1, ^uint64(0)}
	}
	return u128{0, 1<<bits.Len64(a.lo) - 1}
}

// saturate is the number as an int, or the greatest int.
func (a u128) saturate() int {
	const most = int(^uint(0) >> 1)
	if a.hi != 0 || a.lo > uint64(most) {
		return most
	}
	return int(a.lo)
}

// cutOf is the prefix of n bits that contains p, which is no shorter.
func cutOf(p netip.Prefix, n int) netip.Prefix {
	return netip.PrefixFrom(p.Addr(), n).Masked()
}

// address6 is the prefix that is one address.
func address6(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, 128) }
