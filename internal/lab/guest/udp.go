package guest

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
)

const (
	etherLen  = 14
	ipv4Len   = 20
	udpLen    = 8
	protoUDP  = 17
	etherIPv4 = 0x0800
)

// errNotUDP stands for every frame that is not a whole, plain UDP packet over
// IPv4. A client that listens to a segment meets many and cares for none.
var errNotUDP = errors.New("not a UDP packet over IPv4")

// udpPacket is a UDP packet over IPv4 and Ethernet.
type udpPacket struct {
	srcMAC, dstMAC net.HardwareAddr
	src, dst       netip.AddrPort
	payload        []byte
}

// marshal returns the frame, checksums included, without FCS.
func (p udpPacket) marshal() []byte {
	b := make([]byte, etherLen+ipv4Len+udpLen+len(p.payload))
	copy(b, p.dstMAC)
	copy(b[6:], p.srcMAC)
	binary.BigEndian.PutUint16(b[12:], etherIPv4)
	ip := b[etherLen:]
	ip[0] = 0x45
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	ip[8] = 64
	ip[9] = protoUDP
	copy(ip[12:16], p.src.Addr().AsSlice())
	copy(ip[16:20], p.dst.Addr().AsSlice())
	binary.BigEndian.PutUint16(ip[10:], ^sum(0, ip[:ipv4Len]))
	udp := ip[ipv4Len:]
	binary.BigEndian.PutUint16(udp[0:], p.src.Port())
	binary.BigEndian.PutUint16(udp[2:], p.dst.Port())
	binary.BigEndian.PutUint16(udp[4:], uint16(len(udp)))
	copy(udp[udpLen:], p.payload)
	check := ^sum(pseudo(ip, len(udp)), udp)
	if check == 0 {
		check = 0xffff // zero means that there is none (RFC 768)
	}
	binary.BigEndian.PutUint16(udp[6:], check)
	return b
}

// parseUDP reads a frame. The result points into it. Wrong checksums, fragments
// and lengths beyond the frame are errNotUDP; padding behind the packet is not.
func parseUDP(b []byte) (udpPacket, error) {
	var p udpPacket
	if len(b) < etherLen+ipv4Len || binary.BigEndian.Uint16(b[12:]) != etherIPv4 {
		return p, errNotUDP
	}
	ip := b[etherLen:]
	ihl, total := int(ip[0]&0x0f)*4, int(binary.BigEndian.Uint16(ip[2:]))
	if ip[0]>>4 != 4 || ihl < ipv4Len || total < ihl+udpLen || total > len(ip) || ip[9] != protoUDP {
		return p, errNotUDP
	}
	if binary.BigEndian.Uint16(ip[6:])&0x3fff != 0 || sum(0, ip[:ihl]) != 0xffff { // MF or an offset
		return p, errNotUDP
	}
	udp := ip[ihl:total]
	length := int(binary.BigEndian.Uint16(udp[4:]))
	if length < udpLen || length > len(udp) {
		return p, errNotUDP
	}
	udp = udp[:length]
	if binary.BigEndian.Uint16(udp[6:]) != 0 && sum(pseudo(ip, length), udp) != 0xffff {
		return p, errNotUDP
	}
	p.dstMAC, p.srcMAC = b[0:6:6], b[6:12:12]
	p.src = netip.AddrPortFrom(netip.AddrFrom4([4]byte(ip[12:16])), binary.BigEndian.Uint16(udp[0:]))
	p.dst = netip.AddrPortFrom(netip.AddrFrom4([4]byte(ip[16:20])), binary.BigEndian.Uint16(udp[2:]))
	p.payload = udp[udpLen:]
	return p, nil
}

// pseudo sums the pseudo-header of a UDP packet (RFC 768).
func pseudo(ip []byte, length int) uint16 {
	return sum(sum(protoUDP, ip[12:20]), []byte{byte(length >> 8), byte(length)})
}

// sum is the ones' complement sum of RFC 1071, added to seed.
func sum(seed uint16, b []byte) uint16 {
	s := uint32(seed)
	for ; len(b) >= 2; b = b[2:] {
		s += uint32(b[0])<<8 | uint32(b[1])
	}
	if len(b) == 1 {
		s += uint32(b[0]) << 8
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}
