package guard

import (
	"encoding/binary"

	"github.com/uvtep/uvtep/internal/frame"
)

const (
	serverPort4, clientPort4 = 67, 68   // RFC 2131 section 4.1
	clientPort6, serverPort6 = 546, 547 // RFC 8415 section 7.2

	redirect = 137 // ICMPv6 (RFC 4861 section 4.5)
)

// Rogue says why a port that is not trusted may not send a frame: it is a message
// of a DHCP server, or one of a router (RFC 6105), or nobody could tell whether it
// is (RFC 7113). What is right for others is NotDropped. Checksums, addresses and
// tags are not asked: whoever gets the frame may not care, either.
func Rogue(f *frame.Frame) frame.Reason {
	i := &f.Info
	switch i.EtherType {
	case frame.TypeIPv4:
		if i.Proto == frame.ProtoUDP && i.L4 != 0 && ofServer4(f) {
			return frame.RogueDHCP
		}
	case frame.TypeIPv6:
		switch {
		case i.L3 == 0:
			return frame.NotDropped // nor does anybody else see more than a torn packet
		case i.L4 == 0 || i.Fragment:
			if obscure(f) {
				return frame.RogueRA
			}
		}
		if i.L4 == 0 {
			return frame.NotDropped
		}
		switch i.Proto {
		case frame.ProtoICMPv6:
			if t := f.Bytes()[i.L4]; t == frame.RouterAdvertisement || t == redirect {
				return frame.RogueRA
			}
		case frame.ProtoUDP:
			if ofServer6(f) {
				return frame.RogueDHCP
			}
		}
	case frame.TypeVLAN, frame.TypeQinQ:
		return frame.RogueRA // more tags than anybody reads, or cut short
	default:
		if i.EtherType < 0x600 {
			return snap(f)
		}
	}
	return frame.NotDropped
}

// ofServer4 reports whether a UDP packet is one of a DHCP server's to a client or
// to a relay, by its ports or as it says. A client listens to nobody else.
func ofServer4(f *frame.Frame) bool {
	const bootReply = 2
	src, dst := f.UDPPorts()
	if dst == clientPort4 {
		return true
	}
	if src != serverPort4 && dst != serverPort4 {
		return false
	}
	b := body(f)
	if len(b) == 0 {
		return f.Info.Fragment // it may be in the next one
	}
	return b[0] == bootReply
}

// body is what a UDP packet carries, up to the end of the IP packet.
func body(f *frame.Frame) []byte {
	b, i := f.Bytes(), &f.Info
	end := int(i.L3)
	if h := b[i.L3:]; i.EtherType == frame.TypeIPv4 {
		end += int(binary.BigEndian.Uint16(h[2:]))
	} else {
		end += 40 + int(binary.BigEndian.Uint16(h[4:]))
	}
	return b[i.L4+8 : end]
}

// ofServer6 is ofServer4 for DHCPv6.
func ofServer6(f *frame.Frame) bool {
	const advertise, reply, reconfigure, relayReply = 2, 7, 10, 13
	src, dst := f.UDPPorts()
	if dst == clientPort6 {
		return true
	}
	if src != serverPort6 && dst != serverPort6 {
		return false
	}
	b := body(f)
	if len(b) == 0 {
		return f.Info.Fragment
	}
	switch b[0] {
	case advertise, reply, reconfigure, relayReply:
		return true
	}
	return false
}

// extension reports whether receivers look behind a header of IPv6 for what the
// packet carries (RFC 8200 section 4). What is behind an authentication header
// they do not take without its key.
func extension(proto uint8) bool {
	switch proto {
	case 0, 43, fragment, 60: // hop-by-hop, routing, destination options
		return true
	}
	return false
}

const fragment = 44

// obscure reports whether it cannot be told what an IPv6 packet without a
// transport header, or a fragment, carries: the header chain has no end within the
// packet or within its first fragment (RFC 7112), or it goes on behind a fragment
// header, where other fragments could be laid over it.
func obscure(f *frame.Frame) bool {
	i := &f.Info
	if extension(i.Proto) {
		return true
	}
	if !i.Fragment {
		return false
	}
	h := f.Bytes()[i.L3:]
	next, at := h[6], 40
	for next != fragment {
		next, at = h[at], at+8+8*int(h[at+1])
	}
	switch offset := binary.BigEndian.Uint16(h[at+2:]) &^ 7; {
	case extension(h[at]):
		return true
	case offset == 0:
		return i.L4 == 0 && (h[at] == frame.ProtoICMPv6 || h[at] == frame.ProtoUDP)
	}
	return false
}

// snap says what an 802.3 frame is: some receivers take IP that comes behind an
// LLC or SNAP header (RFC 1042), and nobody sends it so (CVE-2021-27854).
func snap(f *frame.Frame) frame.Reason {
	b := f.Bytes()
	at := frame.EthernetLen
	for t := binary.BigEndian.Uint16(b[12:]); t == frame.TypeVLAN || t == frame.TypeQinQ; at += 4 {
		t = binary.BigEndian.Uint16(b[at+2:])
	}
	const ip, subnetwork = 0x06, 0xaa // service access points
	switch {
	case len(b) >= at+2 && b[at]&^1 == ip:
		return frame.RogueDHCP
	case len(b) < at+8 || b[at]&^1 != subnetwork || b[at+1]&^1 != subnetwork:
		return frame.NotDropped
	}
	switch binary.BigEndian.Uint16(b[at+6:]) {
	case frame.TypeIPv4:
		return frame.RogueDHCP
	case frame.TypeIPv6, frame.TypeVLAN, frame.TypeQinQ:
		return frame.RogueRA
	}
	return frame.NotDropped
}
