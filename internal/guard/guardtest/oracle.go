// Package guardtest has what the port guard is held against: frames of whoever
// knows every trick, and a slow oracle that says which of them a port may send. It
// reads frames by gopacket and shares nothing with the guard.
package guardtest

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"slices"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// Pair is a station and what it may send from.
type Pair struct {
	MAC net.HardwareAddr
	IP  netip.Prefix
}

// World is what is bound to a port.
type World struct {
	Bound []Pair
	Open  bool // stations without an address may ask for one
}

// Answer is what the oracle says of a frame.
type Answer uint8

const (
	Spoofed Answer = iota
	Bound
	Asks // of a station that nothing is bound to
	Claims
	Tries
)

func (w *World) knows(m net.HardwareAddr) bool {
	return slices.ContainsFunc(w.Bound, func(p Pair) bool { return bytes.Equal(p.MAC, m) })
}

func (w *World) may(m net.HardwareAddr, ip netip.Addr) bool {
	for _, p := range w.Bound {
		if bytes.Equal(p.MAC, m) && (p.IP.Contains(ip) || ip == madeOf(m)) {
			return true
		}
	}
	return false
}

// madeOf is the link-local address of a MAC (RFC 4291 appendix A).
func madeOf(m net.HardwareAddr) netip.Addr {
	return netip.AddrFrom16([16]byte{0xfe, 0x80, 8: m[0] ^ 2, m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5]})
}

// untag reads the Ethernet header and the tags.
func untag(b []byte) (eth *layers.Ethernet, typ layers.EthernetType, rest []byte, tags int) {
	eth = &layers.Ethernet{}
	if len(b) < 14 || eth.DecodeFromBytes(b, gopacket.NilDecodeFeedback) != nil {
		return nil, 0, nil, 0
	}
	typ, rest = layers.EthernetType(binary.BigEndian.Uint16(b[12:])), b[14:]
	for typ == layers.EthernetTypeDot1Q || typ == layers.EthernetTypeQinQ {
		var q layers.Dot1Q
		if q.DecodeFromBytes(rest, gopacket.NilDecodeFeedback) != nil {
			return eth, typ, nil, 99
		}
		typ, rest = q.Type, q.Payload
		tags++
	}
	return eth, typ, rest, tags
}

// MaxTags is how many tags the switch looks behind.
const MaxTags = 8

// Judge says whether a frame may come from the port.
func (w *World) Judge(b []byte) Answer {
	eth, typ, rest, tags := untag(b)
	if eth == nil || tags > MaxTags {
		return Spoofed
	}
	switch typ {
	case layers.EthernetTypeARP:
		return w.arp(eth.SrcMAC, rest)
	case layers.EthernetTypeIPv4:
		return w.ipv4(eth.SrcMAC, rest)
	case layers.EthernetTypeIPv6:
		return w.ipv6(eth.SrcMAC, rest)
	}
	return Spoofed
}

func bound(ok bool) Answer {
	if ok {
		return Bound
	}
	return Spoofed
}

func (w *World) asks(m net.HardwareAddr) Answer {
	switch {
	case w.knows(m):
		return Bound
	case w.Open:
		return Asks
	}
	return Spoofed
}

func (w *World) arp(src net.HardwareAddr, b []byte) Answer {
	var a layers.ARP
	// For Ethernet and IPv4: what else there is gopacket reads wrong, or not at all.
	if len(b) < 28 || !bytes.Equal(b[:2], []byte{0, 1}) || !bytes.Equal(b[4:6], []byte{6, 4}) || a.DecodeFromBytes(b, gopacket.NilDecodeFeedback) != nil ||
		a.Protocol != layers.EthernetTypeIPv4 ||
		!bytes.Equal(a.SourceHwAddress, src) || a.Operation != layers.ARPRequest && a.Operation != layers.ARPReply {
		return Spoofed
	}
	ip, _ := netip.AddrFromSlice(a.SourceProtAddress)
	if ip.IsUnspecified() && a.Operation == layers.ARPRequest {
		ip, _ = netip.AddrFromSlice(a.DstProtAddress)
	}
	return bound(w.may(src, ip))
}

func (w *World) ipv4(src net.HardwareAddr, b []byte) Answer {
	if len(b) < 20 || b[0]>>4 != 4 {
		return Spoofed
	}
	header, total := int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
	if header < 20 || total < header || total > len(b) {
		return Spoofed
	}
	from, to := netip.AddrFrom4([4]byte(b[12:])), netip.AddrFrom4([4]byte(b[16:]))
	may := w.may(src, from)
	fragment := binary.BigEndian.Uint16(b[6:])
	udp := b[header:total]
	if b[9] != 17 || fragment&0x1fff != 0 || len(udp) < 8 || binary.BigEndian.Uint16(udp[2:]) != 67 {
		return bound(may)
	}
	// A client's message to a server.
	var m layers.DHCPv4
	body := udp[8:]
	if fragment&0x3fff != 0 || len(body) < 44 || body[0] != 1 || body[1] != 1 || body[2] != 6 ||
		!bytes.Equal(body[24:28], make([]byte, 4)) || !bytes.Equal(body[28:34], src) {
		return Spoofed
	}
	if m.DecodeFromBytes(udp[8:], gopacket.NilDecodeFeedback) == nil && !bytes.Equal(m.ClientHWAddr, src) {
		return Spoofed
	}
	if !may && (from.IsUnspecified() || from == netip.AddrFrom4([4]byte(body[12:]))) && to == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return w.asks(src)
	}
	return bound(may)
}

// chain is what an IPv6 packet carries.
type chain struct {
	proto    byte
	payload  []byte // behind all headers; nil in a fragment that is not the first
	fragment bool
	first    bool
	whole    bool // the chain has an end, and none of it is behind a fragment header
	headers  int
}

func follow(b []byte) (c chain) {
	next, rest := b[6], b[40:40+int(binary.BigEndian.Uint16(b[4:]))]
	c.first = true
	for next == 0 || next == 43 || next == 44 || next == 60 {
		if c.fragment || len(rest) < 8 {
			return c
		}
		n := 8 + 8*int(rest[1])
		if next == 44 {
			n = 8
			c.fragment, c.first = true, binary.BigEndian.Uint16(rest[2:])&^7 == 0
		}
		if n > len(rest) {
			return c
		}
		next, rest = rest[0], rest[n:]
		c.headers++
	}
	c.proto, c.whole = next, true
	if c.first {
		c.payload = rest
	}
	return c
}

// maxHeaders is how many extension headers the switch looks behind.
const maxHeaders = 8

// readable reports whether an IPv6 packet is there, as long as it says.
func readable(b []byte) bool {
	return len(b) >= 40 && b[0]>>4 == 6 && 40+int(binary.BigEndian.Uint16(b[4:])) <= len(b)
}

// known reports whether a transport header is known and whole.
func (c chain) known() bool {
	return c.proto == 6 && len(c.payload) >= 20 || (c.proto == 17 || c.proto == 58 || c.proto == 1) && len(c.payload) >= 8
}

// dark reports whether nobody can tell what a packet carries.
func (c chain) dark() bool {
	return !c.whole || c.headers > maxHeaders || c.fragment && c.first && !c.known() && (c.proto == 17 || c.proto == 58)
}

func (w *World) ipv6(src net.HardwareAddr, b []byte) Answer {
	if !readable(b) {
		return Spoofed
	}
	c := follow(b)
	if c.dark() {
		return Spoofed
	}
	from := netip.AddrFrom16([16]byte(b[8:]))
	if from.IsMulticast() || from.Is4In6() {
		return Spoofed
	}
	if c.proto == 17 && len(c.payload) >= 8 && binary.BigEndian.Uint16(c.payload[2:]) == 547 &&
		(c.fragment || len(c.payload) == 8 || c.payload[8] == byte(12)) {
		return Spoofed
	}
	if c.proto == 58 && c.known() {
		if c.fragment {
			if t := c.payload[0]; t >= 133 && t <= 137 {
				return Spoofed
			}
		} else if a, decided := w.icmpv6(src, from, c.payload); decided {
			return a
		}
	}
	return w.from(src, from)
}

func (w *World) from(src net.HardwareAddr, from netip.Addr) Answer {
	switch {
	case w.may(src, from):
		return Bound
	case from.IsLinkLocalUnicast() && (w.Open || w.knows(src)):
		return Tries
	}
	return Spoofed
}

// icmpv6 decides on what a message says beyond that it comes from its source.
func (w *World) icmpv6(src net.HardwareAddr, from netip.Addr, m []byte) (Answer, bool) {
	typ, body := m[0], m[4:]
	none := from.IsUnspecified()
	addresses := func(opts layers.ICMPv6Options, option layers.ICMPv6Opt) (all []net.HardwareAddr) {
		for _, o := range opts {
			if o.Type == option {
				all = append(all, o.Data)
			}
		}
		return all
	}
	// says: the options can be read, and those of a kind name the sender once, or
	// nobody.
	says := func(opts layers.ICMPv6Options, err error, option layers.ICMPv6Opt, may bool) bool {
		all := addresses(opts, option)
		return err == nil && (len(all) == 0 || may && len(all) == 1 && len(all[0]) >= 6 && bytes.Equal(all[0][:6], src))
	}
	switch typ {
	case 135:
		var n layers.ICMPv6NeighborSolicitation
		err := n.DecodeFromBytes(body, gopacket.NilDecodeFeedback)
		if !says(n.Options, err, layers.ICMPv6OptSourceAddress, !none) || trailing(m, 24) {
			return Spoofed, true
		}
		if target, _ := netip.AddrFromSlice(n.TargetAddress); none {
			switch {
			case w.may(src, target) && !target.IsMulticast() && !target.Is4In6():
				return Bound, true
			case target.IsLinkLocalUnicast() && (w.Open || w.knows(src)):
				return Claims, true
			}
			return Spoofed, true
		}
	case 136:
		var n layers.ICMPv6NeighborAdvertisement
		err := n.DecodeFromBytes(body, gopacket.NilDecodeFeedback)
		target, _ := netip.AddrFromSlice(n.TargetAddress)
		if !says(n.Options, err, layers.ICMPv6OptTargetAddress, true) || trailing(m, 24) || !w.may(src, target) || target.IsMulticast() || target.Is4In6() {
			return Spoofed, true
		}
	case 133:
		var n layers.ICMPv6RouterSolicitation
		err := n.DecodeFromBytes(body, gopacket.NilDecodeFeedback)
		if !says(n.Options, err, layers.ICMPv6OptSourceAddress, !none) || trailing(m, 8) {
			return Spoofed, true
		}
		if none {
			return w.asks(src), true
		}
	case 134:
		var n layers.ICMPv6RouterAdvertisement
		err := n.DecodeFromBytes(body, gopacket.NilDecodeFeedback)
		if !says(n.Options, err, layers.ICMPv6OptSourceAddress, true) || trailing(m, 16) {
			return Spoofed, true
		}
	case 131, 132, 143:
		if none {
			return w.asks(src), true
		}
	}
	return Spoofed, false
}

// trailing reports whether the options of a message, which begin at a byte, do not
// end where it does.
func trailing(m []byte, at int) bool {
	for at+8 <= len(m) {
		if m[at+1] == 0 {
			return true
		}
		at += 8 * int(m[at+1])
	}
	return at != len(m)
}

// Rogue reports whether a frame is a server's or a router's, or could be, to
// whoever gets it and strips tags and follows headers as far as they go.
func Rogue(b []byte) bool {
	eth, typ, rest, tags := untag(b)
	if eth == nil {
		return false
	}
	if tags > MaxTags {
		return true
	}
	switch typ {
	case layers.EthernetTypeIPv4:
		if len(rest) < 20 || rest[0]>>4 != 4 {
			return false
		}
		header, total := int(rest[0]&15)*4, int(binary.BigEndian.Uint16(rest[2:]))
		if header < 20 || total < header || total > len(rest) {
			return false
		}
		fragment := binary.BigEndian.Uint16(rest[6:])
		if rest[9] != 17 || fragment&0x1fff != 0 || total-header < 8 {
			return false
		}
		udp := rest[header:total]
		src, dst := binary.BigEndian.Uint16(udp), binary.BigEndian.Uint16(udp[2:])
		return dst == 68 || (src == 67 || dst == 67) && (len(udp) > 8 && udp[8] == 2 || len(udp) == 8 && fragment&0x3fff != 0)
	case layers.EthernetTypeIPv6:
		if !readable(rest) {
			return false
		}
		c := follow(rest)
		switch {
		case c.dark():
			return true
		case c.proto == 58 && c.known():
			return c.payload[0] == 134 || c.payload[0] == 137
		case c.proto == 17 && c.known():
			src, dst := binary.BigEndian.Uint16(c.payload), binary.BigEndian.Uint16(c.payload[2:])
			body := c.payload[8:]
			return dst == 546 || (src == 547 || dst == 547) &&
				(len(body) > 0 && slices.Contains([]byte{2, 7, 10, 13}, body[0]) || len(body) == 0 && c.fragment)
		}
		return false
	}
	if typ < 0x600 {
		switch {
		case len(rest) >= 2 && rest[0]&^1 == 6:
			return true
		case len(rest) >= 8 && rest[0]&^1 == 0xaa && rest[1]&^1 == 0xaa:
			return slices.Contains([]uint16{0x0800, 0x86dd, 0x8100, 0x88a8}, binary.BigEndian.Uint16(rest[6:]))
		}
	}
	return false
}
