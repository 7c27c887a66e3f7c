package vteptest

import (
	"encoding/binary"
	"net/netip"

	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/frame"
)

// ethernet begins a frame, with n bytes of payload.
func ethernet(src, dst fdb.MAC, typ uint16, n int) (b, payload []byte) {
	b = make([]byte, frame.EthernetLen+n)
	dst.Put(b)
	src.Put(b[6:])
	binary.BigEndian.PutUint16(b[12:], typ)
	return b, b[frame.EthernetLen:]
}

// as4 is an address as ARP and IPv4 carry it: 0.0.0.0 for none.
func as4(a netip.Addr) (b [4]byte) {
	if a.Is4() {
		b = a.As4()
	}
	return b
}

func arpRequest(mac fdb.MAC, ip, who netip.Addr) []byte {
	return arp(frame.ARPRequest, mac, fdb.Broadcast, ip, 0, who)
}

// arp is an ARP packet (RFC 826) in a frame to dst.
func arp(op uint16, mac, dst fdb.MAC, ip netip.Addr, targetMAC fdb.MAC, target netip.Addr) []byte {
	b, body := ethernet(mac, dst, frame.TypeARP, frame.ARPLen)
	copy(body, []byte{0, 1, 8, 0, 6, 4})
	p := frame.ARP(body)
	p.SetOp(op)
	sender, wanted := as4(ip), as4(target)
	mac.Put(p.SenderMAC())
	copy(p.SenderIP(), sender[:])
	targetMAC.Put(p.TargetMAC())
	copy(p.TargetIP(), wanted[:])
	return b
}

// ipv4 begins an IPv4 packet without options, with n bytes of payload.
func ipv4(mac, to fdb.MAC, src, dst netip.Addr, proto uint8, n int) (b, payload []byte) {
	b, ip := ethernet(mac, to, frame.TypeIPv4, 20+n)
	ip[0], ip[8], ip[9] = 0x45, 64, proto
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	s, d := as4(src), as4(dst)
	copy(ip[12:], s[:])
	copy(ip[16:], d[:])
	binary.BigEndian.PutUint16(ip[10:], ^frame.Fold(frame.Sum(ip[:20], 0)))
	return b, ip[20:]
}

// echo is an ICMP echo request (typ 8) or reply (0) (RFC 792).
func echo(typ uint8, mac, to fdb.MAC, src, dst netip.Addr, id, seq uint16, data []byte) []byte {
	b, icmp := ipv4(mac, to, src, dst, frame.ProtoICMP, 8+len(data))
	icmp[0] = typ
	binary.BigEndian.PutUint16(icmp[4:], id)
	binary.BigEndian.PutUint16(icmp[6:], seq)
	copy(icmp[8:], data)
	binary.BigEndian.PutUint16(icmp[2:], ^frame.Fold(frame.Sum(icmp, 0)))
	return b
}

// udp is a UDP datagram over IPv4 (RFC 768).
func udp(mac, to fdb.MAC, src, dst netip.Addr, from, port uint16, data []byte) []byte {
	b, u := ipv4(mac, to, src, dst, frame.ProtoUDP, 8+len(data))
	binary.BigEndian.PutUint16(u, from)
	binary.BigEndian.PutUint16(u[2:], port)
	binary.BigEndian.PutUint16(u[4:], uint16(len(u)))
	copy(u[8:], data)
	sum := ^frame.Fold(pseudo(b[frame.EthernetLen:], u))
	if sum == 0 {
		sum = 0xffff // zero would mean that there is none
	}
	binary.BigEndian.PutUint16(u[6:], sum)
	return b
}

// udp6 is a UDP datagram over IPv6 (RFC 8200).
func udp6(mac, to fdb.MAC, src, dst netip.Addr, from, port uint16, data []byte) []byte {
	b, ip := ethernet(mac, to, frame.TypeIPv6, 40+8+len(data))
	ip[0], ip[6], ip[7] = 0x60, frame.ProtoUDP, 255
	u := ip[40:]
	binary.BigEndian.PutUint16(ip[4:], uint16(len(u)))
	s, d := src.As16(), dst.As16()
	copy(ip[8:], s[:])
	copy(ip[24:], d[:])
	binary.BigEndian.PutUint16(u, from)
	binary.BigEndian.PutUint16(u[2:], port)
	binary.BigEndian.PutUint16(u[4:], uint16(len(u)))
	copy(u[8:], data)
	sum := ^frame.Fold(frame.Sum(u, frame.Sum(ip[8:40], uint64(frame.ProtoUDP)+uint64(len(u)))))
	if sum == 0 {
		sum = 0xffff // there is always one
	}
	binary.BigEndian.PutUint16(u[6:], sum)
	return b
}

// pseudo is the sum of a transport packet and its pseudo-header.
func pseudo(ip, l4 []byte) uint64 {
	return frame.Sum(l4, frame.Sum(ip[12:20], uint64(ip[9])+uint64(len(l4))))
}

// checksumsHold reports whether the IPv4 header's checksum and that of the ICMP
// or UDP packet behind it are right, and the UDP header's length is.
func checksumsHold(f *frame.Frame) bool {
	b, i := f.Bytes(), &f.Info
	ip := b[i.L3:]
	l4 := b[i.L4 : int(i.L3)+int(binary.BigEndian.Uint16(ip[2:]))]
	const right = 0xffff // of a sum that has the checksum in it
	if frame.Fold(frame.Sum(ip[:int(ip[0]&15)*4], 0)) != right {
		return false
	}
	switch i.Proto {
	case frame.ProtoICMP:
		return frame.Fold(frame.Sum(l4, 0)) == right
	case frame.ProtoUDP:
		n := int(binary.BigEndian.Uint16(l4[4:]))
		if n < 8 || n > len(l4) {
			return false
		}
		return binary.BigEndian.Uint16(l4[6:]) == 0 || frame.Fold(pseudo(ip, l4[:n])) == right
	}
	return true
}
