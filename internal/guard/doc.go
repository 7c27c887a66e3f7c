// Package guard says which frames a port may send: those of stations and
// addresses that are bound to it, and none that only a server or a router has a
// right to. It knows frames and addresses, and nothing of ports or time.
package guard

import (
	"encoding/binary"
	"net/netip"
)

// MAC is a MAC address as fdb.MAC has it.
type MAC uint64

func macOf(b []byte) MAC {
	_ = b[5]
	return MAC(b[0])<<40 | MAC(b[1])<<32 | MAC(b[2])<<24 | MAC(b[3])<<16 | MAC(b[4])<<8 | MAC(b[5])
}

// sourceOf is the source of a frame, which has an Ethernet header.
func sourceOf(b []byte) MAC { return MAC(binary.BigEndian.Uint64(b[6:]) >> 16) }

// address is an IPv6 address, or an IPv4 one in the place of a multicast address,
// from which no packet may come.
type address struct{ hi, lo uint64 }

const group = 0xff // first byte of a multicast address (RFC 4291 section 2.7)

func of4(b []byte) address { return address{group << 56, uint64(binary.BigEndian.Uint32(b))} }

func of16(b []byte) address {
	_ = b[15]
	return address{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])}
}

func of(a netip.Addr) address {
	b := a.As16()
	if a.Is4() {
		return of4(b[12:])
	}
	return of16(b[:])
}

// linkLocal reports whether the address is in fe80::/10.
func (a address) linkLocal() bool { return a.hi>>54 == 0xfe80>>6 }

// eui64 is the link-local address that is made of a MAC (RFC 4291 appendix A).
func eui64(m MAC) address {
	return address{0xfe80 << 48, uint64(m>>24^0x20000)<<40 | 0xfffe<<24 | uint64(m&0xffffff)}
}

// LinkLocal is the link-local address that is made of a MAC.
func LinkLocal(m MAC) netip.Addr {
	var b [16]byte
	a := eui64(m)
	binary.BigEndian.PutUint64(b[:], a.hi)
	binary.BigEndian.PutUint64(b[8:], a.lo)
	return netip.AddrFrom16(b)
}

// masked is the address with all but its first n bits cleared.
func (a address) masked(n uint8) address {
	switch {
	case n == 0:
		return address{}
	case n <= 64:
		return address{a.hi &^ (1<<(64-n) - 1), 0}
	case n < 128:
		return address{a.hi, a.lo &^ (1<<(128-n) - 1)}
	}
	return a
}
