package frame

import (
	"encoding/binary"
	"math"
)

// EtherTypes that the switch looks at.
const (
	TypeIPv4 uint16 = 0x0800
	TypeARP  uint16 = 0x0806
	TypeVLAN uint16 = 0x8100
	TypeIPv6 uint16 = 0x86dd
	TypeQinQ uint16 = 0x88a8
)

// IP protocol numbers that the switch looks at.
const (
	ProtoICMP   uint8 = 1
	ProtoTCP    uint8 = 6
	ProtoUDP    uint8 = 17
	ProtoICMPv6 uint8 = 58
)

// EthernetLen is the length of an Ethernet header without tags, bytes.
const EthernetLen = 14

// maxTags is how many tags Parse looks behind. Two are in use; without a bound
// 64 KiB of them would lead offsets out of their 16 bits.
const maxTags = 8

// Info is what Parse found in a frame. Offsets count from the frame's first
// byte; 0 means that there is no such header or that it is incomplete.
type Info struct {
	EtherType uint16 // of what follows the tags
	L3        uint16 // the IPv4, IPv6 or ARP header
	L4        uint16 // the transport header; 0 in a fragment that is not the first
	Proto     uint8  // IP protocol of L4, after IPv6 extension headers
	TOS       uint8  // the IP header's TOS or traffic class byte
	TTL       uint8  // the IP header's TTL or hop limit
	Fragment  bool   // part of a fragmented IP packet, the first included
	Tagged    bool   // at least one 802.1Q or 802.1ad tag is in front
}

// Parse fills f.Info. It never looks beyond the frame and never fails for what
// it does not know: a switch carries what it cannot read. It reports false only
// for a frame that is shorter than its Ethernet header.
func (f *Frame) Parse() bool {
	b := f.Bytes()
	if len(b) < EthernetLen {
		return false
	}
	i := &f.Info
	*i = Info{EtherType: binary.BigEndian.Uint16(b[12:])}
	at := EthernetLen
	for tags := 0; i.EtherType == TypeVLAN || i.EtherType == TypeQinQ; tags++ {
		if tags == maxTags || len(b) < at+4 {
			return true
		}
		i.Tagged = true
		i.EtherType = binary.BigEndian.Uint16(b[at+2:])
		at += 4
	}
	switch i.EtherType {
	case TypeIPv4:
		i.parseIPv4(b, at)
	case TypeIPv6:
		i.parseIPv6(b, at)
	case TypeARP:
		if len(b) >= at+ARPLen {
			i.L3 = uint16(at)
		}
	}
	return true
}

func (i *Info) parseIPv4(b []byte, at int) {
	if len(b) < at+20 || b[at]>>4 != 4 {
		return
	}
	h := b[at:]
	n := int(h[0]&15) * 4
	total := int(binary.BigEndian.Uint16(h[2:]))
	if n < 20 || len(h) < n || total < n || total > len(h) {
		return
	}
	i.L3 = uint16(at)
	i.TOS, i.TTL, i.Proto = h[1], h[8], h[9]
	frag := binary.BigEndian.Uint16(h[6:])
	i.Fragment = frag&0x3fff != 0
	if frag&0x1fff == 0 {
		i.setL4(at+n, total-n)
	}
}

func (i *Info) parseIPv6(b []byte, at int) {
	if len(b) < at+40 || b[at]>>4 != 6 {
		return
	}
	h := b[at:]
	payload := int(binary.BigEndian.Uint16(h[4:]))
	if 40+payload > len(h) {
		return
	}
	i.L3 = uint16(at)
	i.TOS, i.TTL = uint8(binary.BigEndian.Uint16(h)>>4), h[7]
	next, off, first := h[6], 40, true
	// At most eight extension headers: a chain may be as long as the packet.
	for range 8 {
		var n int
		switch next {
		case 0, 43, 60: // hop-by-hop, routing, destination options (RFC 8200 section 4)
			if off+8 > 40+payload {
				n = -1
				break
			}
			n = 8 + 8*int(h[off+1])
		case 44: // fragment
			if off+8 > 40+payload {
				n = -1
				break
			}
			i.Fragment = true
			first = binary.BigEndian.Uint16(h[off+2:])&0xfff8 == 0
			n = 8
		}
		if n < 0 || off+n > 40+payload {
			first = false
			break
		}
		if n == 0 {
			break
		}
		next = h[off]
		off += n
		if !first {
			break
		}
	}
	i.Proto = next
	if first {
		i.setL4(at+off, 40+payload-off)
	}
}

// setL4 keeps the transport header's offset if all of the header is there: n
// bytes are left in the packet. Behind thousands of tags it can be too far off to
// be told.
func (i *Info) setL4(at, n int) {
	need := 0
	switch i.Proto {
	case ProtoTCP:
		need = 20
	case ProtoUDP, ProtoICMP, ProtoICMPv6:
		need = 8
	}
	if need > 0 && n >= need && at <= math.MaxUint16 {
		i.L4 = uint16(at)
	}
}

// DontFragment is the DF flag of the IPv4 header at Info.L3; the caller has
// checked that there is one.
func (f *Frame) DontFragment() bool { return f.Bytes()[f.Info.L3+6]&0x40 != 0 }

// UDPPorts are the ports of a UDP header at Info.L4; the caller has checked
// Proto and L4.
func (f *Frame) UDPPorts() (src, dst uint16) {
	b := f.Bytes()[f.Info.L4:]
	return binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
}
