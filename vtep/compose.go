package vtep

import (
	"encoding/binary"
	"net/netip"

	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/frame"
)

const ipv6Len = 40 // of an IPv6 header, bytes

// composeIP begins a frame with an IP packet of n bytes behind the IP header,
// whose checksum is right, and returns both. hops is the TTL or hop limit.
func composeIP(to, from fdb.MAC, src, dst netip.Addr, proto, hops uint8, n int) (b, l4 []byte) {
	const ipv4Len = 20
	if dst.Is4() {
		b = make([]byte, frame.EthernetLen+ipv4Len+n)
		composeEthernet(b, to, from, frame.TypeIPv4)
		ip := b[frame.EthernetLen:]
		ip[0], ip[8], ip[9] = 0x45, hops, proto
		binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
		s, d := src.As4(), dst.As4()
		copy(ip[12:], s[:])
		copy(ip[16:], d[:])
		binary.BigEndian.PutUint16(ip[10:], ^frame.Fold(frame.Sum(ip[:ipv4Len], 0)))
		return b, ip[ipv4Len:]
	}
	b = make([]byte, frame.EthernetLen+ipv6Len+n)
	return b, putIPv6(b, to, from, src, dst, proto, hops)
}

// putIPv6 makes b a frame with an IPv6 packet in it, and returns what is behind
// the IPv6 header.
func putIPv6(b []byte, to, from fdb.MAC, src, dst netip.Addr, proto, hops uint8) []byte {
	composeEthernet(b, to, from, frame.TypeIPv6)
	ip := b[frame.EthernetLen:]
	ip[0], ip[6], ip[7] = 0x60, proto, hops
	binary.BigEndian.PutUint16(ip[4:], uint16(len(ip)-ipv6Len))
	s, d := src.As16(), dst.As16()
	copy(ip[8:], s[:])
	copy(ip[24:], d[:])
	return ip[ipv6Len:]
}

func composeEthernet(b []byte, to, from fdb.MAC, typ uint16) {
	to.Put(b)
	from.Put(b[6:])
	binary.BigEndian.PutUint16(b[12:], typ)
}

// composeUDP is a UDP datagram in a frame (RFC 768, RFC 8200 section 8.1).
func composeUDP(to, from fdb.MAC, src, dst netip.AddrPort, payload []byte) []byte {
	b, udp := composeIP(to, from, src.Addr(), dst.Addr(), frame.ProtoUDP, 64, 8+len(payload))
	binary.BigEndian.PutUint16(udp, src.Port())
	binary.BigEndian.PutUint16(udp[2:], dst.Port())
	binary.BigEndian.PutUint16(udp[4:], uint16(len(udp)))
	copy(udp[8:], payload)
	sum := checksum(src.Addr(), dst.Addr(), frame.ProtoUDP, udp)
	if sum == 0 {
		sum = 0xffff // zero would mean that there is none
	}
	binary.BigEndian.PutUint16(udp[6:], sum)
	return b
}

// checksum is that of a transport packet with its pseudo-header; the checksum
// field is zero.
func checksum(src, dst netip.Addr, proto uint8, l4 []byte) uint16 {
	s, d := src.As16(), dst.As16()
	from := 0
	if dst.Is4() {
		from = 12 // what is in front of it would be part of the sum
	}
	sum := frame.Sum(d[from:], frame.Sum(s[from:], uint64(proto)+uint64(len(l4))))
	return ^frame.Fold(frame.Sum(l4, sum))
}
