package guard

import (
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/uvtep/uvtep/internal/frame"
)

// Kind is what a DHCP message that was overheard means for what is bound.
type Kind uint8

const (
	Nothing Kind = iota
	Request      // a client's that may be answered by a lease
	Leases       // a server's: what Each yields
	Ends         // a client's: it gives back what Each yields
	Refused      // a server's: the client has none of its IPv4 addresses
)

// Message is a DHCP message that passes.
type Message struct {
	Kind Kind
	Six  bool   // DHCPv6
	MAC  MAC    // the client's
	XID  uint32 // of the exchange

	ip   netip.Addr // DHCPv4
	time time.Duration
	opts []byte // DHCPv6
}

// Types of messages: option 53 (RFC 2132 section 9.6), and RFC 8415 section 7.3.
const (
	request4, decline4, ack4, nak4, release4, discover4 = 3, 4, 5, 6, 7, 1

	solicit6, request6, renew6, rebind6, reply6, release6, decline6 = 1, 3, 5, 6, 7, 8, 9
)

// Overhear reads the DHCP message of a frame, in either direction. What is no such
// message, or concerns no lease, is Nothing.
func Overhear(f *frame.Frame) (m Message) {
	i := &f.Info
	if i.Proto != frame.ProtoUDP || i.L4 == 0 || i.Fragment || i.Tagged {
		return m
	}
	src, dst := f.UDPPorts()
	msg := body(f)
	n := int(binary.BigEndian.Uint16(f.Bytes()[i.L4+4:])) - 8
	if n < 0 || n > len(msg) {
		return m
	}
	msg = msg[:n]
	switch {
	case i.EtherType == frame.TypeIPv4 && dst == clientPort4 && src == serverPort4:
		m.server4(msg)
	case i.EtherType == frame.TypeIPv4 && dst == serverPort4:
		m.client4(msg)
	case i.EtherType == frame.TypeIPv6 && dst == clientPort6 && src == serverPort6:
		m.server6(msg, macOf(f.Bytes()))
	case i.EtherType == frame.TypeIPv6 && dst == serverPort6:
		m.client6(msg, macOf(f.Bytes()[6:]))
	}
	return m
}

// options4 are the message type, the lease time and the requested address.
func options4(b []byte) (typ byte, lease time.Duration, requested netip.Addr) {
	const end, requestedIP, leaseTime, messageType = 255, 50, 51, 53
	for i := 240; i+1 < len(b) && b[i] != end; {
		if b[i] == 0 {
			i++
			continue
		}
		n := int(b[i+1])
		if i+2+n > len(b) {
			return 0, 0, requested
		}
		switch v := b[i+2 : i+2+n]; {
		case b[i] == messageType && n == 1:
			typ = v[0]
		case b[i] == leaseTime && n == 4:
			lease = time.Duration(binary.BigEndian.Uint32(v)) * time.Second
		case b[i] == requestedIP && n == 4:
			requested = netip.AddrFrom4([4]byte(v))
		}
		i += 2 + n
	}
	return typ, lease, requested
}

// header4 reads what all messages of DHCPv4 have (RFC 2131 section 2).
func (m *Message) header4(b []byte, op byte) bool {
	if len(b) < 240 || b[0] != op || b[1] != 1 || b[2] != 6 || binary.BigEndian.Uint32(b[24:]) != 0 {
		return false
	}
	m.XID, m.MAC = binary.BigEndian.Uint32(b[4:]), macOf(b[28:])
	return true
}

func (m *Message) server4(b []byte) {
	if !m.header4(b, 2) {
		return
	}
	typ, lease, _ := options4(b)
	m.ip, m.time = netip.AddrFrom4([4]byte(b[16:20])), lease
	switch {
	case typ == ack4 && lease > 0 && !m.ip.IsUnspecified(): // else the answer to an INFORM
		m.Kind = Leases
	case typ == nak4:
		m.Kind = Refused
	}
}

func (m *Message) client4(b []byte) {
	if !m.header4(b, 1) {
		return
	}
	typ, _, requested := options4(b)
	switch typ {
	case discover4, request4:
		m.Kind = Request
	case release4:
		m.Kind, m.ip = Ends, netip.AddrFrom4([4]byte(b[12:16]))
	case decline4:
		if requested.IsValid() {
			m.Kind, m.ip = Ends, requested
		}
	}
}

func (m *Message) server6(b []byte, to MAC) {
	if len(b) >= 4 && b[0] == reply6 {
		m.Kind, m.Six, m.MAC, m.XID, m.opts = Leases, true, to, xid6(b), b[4:]
	}
}

func (m *Message) client6(b []byte, from MAC) {
	if len(b) < 4 {
		return
	}
	m.Six, m.MAC, m.XID, m.opts = true, from, xid6(b), b[4:]
	switch b[0] {
	case solicit6, request6, renew6, rebind6:
		m.Kind = Request
	case release6, decline6:
		m.Kind = Ends
	}
}

func xid6(b []byte) uint32 { return binary.BigEndian.Uint32(b) & 0xffffff }

// Each calls f for each address or prefix that the message is about, and how long
// it is leased from now on; not at all if that is zero.
func (m *Message) Each(f func(p netip.Prefix, lease time.Duration)) {
	if !m.Six {
		f(netip.PrefixFrom(m.ip, 32), m.time)
		return
	}
	const nonTemporary, temporary, address, delegation, prefix = 3, 4, 5, 25, 26
	options6(m.opts, func(code uint16, v []byte) {
		fixed := 12 // IAID, T1, T2 (RFC 8415 section 21.4)
		switch code {
		case temporary:
			fixed = 4
		case nonTemporary, delegation:
		default:
			return
		}
		if len(v) < fixed {
			return
		}
		options6(v[fixed:], func(code uint16, v []byte) {
			switch {
			case code == address && len(v) >= 24:
				f(netip.PrefixFrom(netip.AddrFrom16([16]byte(v)), 128), seconds(v[20:]))
			case code == prefix && len(v) >= 25 && v[8] >= 8 && v[8] <= 128:
				f(netip.PrefixFrom(netip.AddrFrom16([16]byte(v[9:])), int(v[8])).Masked(), seconds(v[4:]))
			}
		})
	})
}

// options6 calls f for each option of DHCPv6, as far as they are whole.
func options6(b []byte, f func(code uint16, v []byte)) {
	for len(b) >= 4 {
		n := int(binary.BigEndian.Uint16(b[2:]))
		if n > len(b)-4 {
			return
		}
		f(binary.BigEndian.Uint16(b), b[4:4+n])
		b = b[4+n:]
	}
}

func seconds(b []byte) time.Duration { return time.Duration(binary.BigEndian.Uint32(b)) * time.Second }
