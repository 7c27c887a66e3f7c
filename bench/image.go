package bench

import (
	"encoding/binary"

	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/frame"
)

// minFrame is the shortest frame there is on a cable, bytes with FCS, and fcs
// what the switch never sees of it.
const (
	minFrame = 64
	fcs      = 4
)

// localMAC and farMAC are the i-th address behind a port and behind a peer.
func localMAC(i int) fdb.MAC { return 0x02_00_00_00_00_00 | fdb.MAC(i) }
func farMAC(i int) fdb.MAC   { return 0x06_00_00_00_00_00 | fdb.MAC(i) }

// udp4 is a frame of length bytes, FCS included, which is left out: UDP in IPv4,
// from the first local address to the first far one, to port 9 (discard).
func udp4(length int) []byte {
	b := make([]byte, length-fcs)
	farMAC(0).Put(b)
	localMAC(0).Put(b[6:])
	binary.BigEndian.PutUint16(b[12:], frame.TypeIPv4)
	ip := b[14:]
	ip[0], ip[8], ip[9] = 0x45, 64, frame.ProtoUDP
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	binary.BigEndian.PutUint32(ip[12:], 0xc0a86401) // 192.168.100.1
	binary.BigEndian.PutUint32(ip[16:], 0xc0a86402)
	binary.BigEndian.PutUint16(ip[10:], ^frame.Fold(frame.Sum(ip[:20], 0)))
	binary.BigEndian.PutUint16(ip[22:], 9)
	binary.BigEndian.PutUint16(ip[24:], uint16(len(ip)-20))
	return b
}

// taggedTCP6 is a TCP segment without data in IPv6 behind an 802.1Q tag.
func taggedTCP6() []byte {
	b := make([]byte, 18+40+20)
	farMAC(0).Put(b)
	localMAC(0).Put(b[6:])
	binary.BigEndian.PutUint16(b[12:], frame.TypeVLAN)
	binary.BigEndian.PutUint16(b[14:], 101)
	binary.BigEndian.PutUint16(b[16:], frame.TypeIPv6)
	ip := b[18:]
	ip[0], ip[6], ip[7] = 0x60, frame.ProtoTCP, 64
	binary.BigEndian.PutUint16(ip[4:], 20)
	binary.BigEndian.PutUint64(ip[8:], 0x20010db8_01000000)
	binary.BigEndian.PutUint64(ip[24:], 0x20010db8_01000000)
	ip[23], ip[39] = 1, 2
	tcp := ip[40:]
	binary.BigEndian.PutUint16(tcp, 49152)
	binary.BigEndian.PutUint16(tcp[2:], 9)
	tcp[12], tcp[13] = 0x50, 0x10
	return b
}

// vxlan is the UDP payload that carries a frame in segment 100.
func vxlan(inner []byte) []byte {
	b := make([]byte, encap.HeaderLen, encap.HeaderLen+len(inner))
	encap.PutHeader(b, 100)
	return append(b, inner...)
}
