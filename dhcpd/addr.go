package dhcpd

import (
	"encoding/binary"
	"net/netip"
)

// Addresses are 32-bit numbers in host byte order within the package: they are
// compared, counted and used as keys far more often than they are shown.

// toU32 is an IPv4 address as a number; 0 for anything else.
func toU32(a netip.Addr) uint32 {
	if !a.Is4() {
		return 0
	}
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

// toAddr is the reverse of toU32; 0 is 0.0.0.0.
func toAddr(v uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], v)
	return netip.AddrFrom4(b)
}

// lastAddr is the broadcast address of an IPv4 subnet.
func lastAddr(p netip.Prefix) netip.Addr { return toAddr(toU32(p.Addr()) | ^maskOf(p)) }

func maskOf(p netip.Prefix) uint32 {
	if p.Bits() <= 0 {
		return 0
	}
	return ^uint32(0) << (32 - p.Bits())
}
