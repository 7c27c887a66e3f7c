package dhcpd

import (
	"encoding/binary"
	"net/netip"

	"github.com/insomniacslk/dhcp/dhcpv6"
)

// Limits of a request (RFC 8415 sections 7 to 9, 11.1). More than these no
// client sends, and what a message costs is bounded by them.
const (
	maxRequest6 = 9216 // bytes
	maxRelays   = 32   // relays on the way
	maxIAs      = 16   // identity associations
	maxItems    = 16   // addresses or prefixes of one
	minDUID     = 3
	maxDUID     = 130

	relayHeader = 34 // message type, hop count, link-address, peer-address
)

// message6 is a request, parsed once. Its slices are views of the payload; nil
// means that the option was absent.
type message6 struct {
	typ dhcpv6.MessageType
	xid [3]byte

	clientID []byte // option 1
	serverID []byte // option 2
	asked    []byte // option 6, pairs of bytes
	fqdn     []byte // option 39
	rapid    bool   // option 14

	ias    []ia     // in the order of the message
	relays []relay6 // the one that sent the message first

	items []netip.Prefix // room for those of the ias
}

// ia is an identity association (RFC 8415 section 12).
type ia struct {
	code  dhcpv6.OptionCode // IA_NA, IA_TA or IA_PD
	id    uint32
	items []netip.Prefix // what it is about: addresses as /128, prefixes; one of ::/n tells a length only
}

// relay6 is one RELAY-FORW around the client's message.
type relay6 struct {
	head    []byte // relayHeader bytes
	options []byte
}

// link is the link-address; the zero one says that the relay does not tell.
func (r relay6) link() netip.Addr { return netip.AddrFrom16([16]byte(r.head[2:18])) }

// nextOption splits the first option off; it fails on one that is cut short.
func nextOption(b []byte) (code dhcpv6.OptionCode, data, rest []byte, ok bool) {
	if len(b) < 4 {
		return 0, nil, nil, false
	}
	n := int(binary.BigEndian.Uint16(b[2:]))
	if n > len(b)-4 {
		return 0, nil, nil, false
	}
	return dhcpv6.OptionCode(binary.BigEndian.Uint16(b)), b[4 : 4+n : 4+n], b[4+n:], true
}

// findOption is the first option with a code among options that are known to be
// whole, nil if there is none.
func findOption(b []byte, want dhcpv6.OptionCode) []byte {
	for len(b) > 0 {
		code, data, rest, ok := nextOption(b)
		if !ok {
			return nil
		}
		if code == want {
			return data
		}
		b = rest
	}
	return nil
}

// reset forgets the message, but not the room it took.
func (m *message6) reset() {
	*m = message6{ias: m.ias[:0], relays: m.relays[:0], items: m.items[:0]}
	clear(m.ias[:cap(m.ias)])
	clear(m.relays[:cap(m.relays)])
}

// parse reads a request, and says whether it can be served.
func (m *message6) parse(b []byte) bool {
	m.reset()
	if len(b) > maxRequest6 {
		return false
	}
	for len(b) > 0 && dhcpv6.MessageType(b[0]) == dhcpv6.MessageTypeRelayForward {
		if len(b) < relayHeader || len(m.relays) == maxRelays {
			return false
		}
		r := relay6{head: b[:relayHeader:relayHeader], options: b[relayHeader:]}
		var inner []byte
		for rest := r.options; len(rest) > 0; {
			code, data, after, ok := nextOption(rest)
			if !ok {
				return false
			}
			if code == dhcpv6.OptionRelayMsg && inner == nil {
				inner = data
			}
			rest = after
		}
		m.relays = append(m.relays, r)
		b = inner
	}
	if len(b) < 4 || dhcpv6.MessageType(b[0]) == dhcpv6.MessageTypeRelayReply {
		return false
	}
	m.typ, m.xid = dhcpv6.MessageType(b[0]), [3]byte(b[1:4])
	for rest := b[4:]; len(rest) > 0; {
		code, data, after, ok := nextOption(rest)
		if !ok {
			return false
		}
		rest = after
		switch code {
		case dhcpv6.OptionClientID:
			ok = once(&m.clientID, data) && len(data) >= minDUID && len(data) <= maxDUID
		case dhcpv6.OptionServerID:
			ok = once(&m.serverID, data) && len(data) <= maxDUID
		case dhcpv6.OptionORO:
			ok = once(&m.asked, data) && len(data)%2 == 0
		case dhcpv6.OptionFQDN:
			ok = once(&m.fqdn, data)
		case dhcpv6.OptionRapidCommit:
			m.rapid = true
		case dhcpv6.OptionIANA, dhcpv6.OptionIATA, dhcpv6.OptionIAPD:
			ok = m.addIA(code, data)
		}
		if !ok {
			return false
		}
	}
	return true
}

// once notes an option that a message has once (RFC 8415 appendix B).
func once(to *[]byte, data []byte) bool {
	if *to != nil {
		return false
	}
	*to = data
	return true
}

// addIA reads an identity association (RFC 8415 sections 21.4, 21.5, 21.21).
func (m *message6) addIA(code dhcpv6.OptionCode, b []byte) bool {
	fixed := 12 // IAID, T1, T2
	if code == dhcpv6.OptionIATA {
		fixed = 4
	}
	if len(b) < fixed || len(m.ias) == maxIAs {
		return false
	}
	a := ia{code: code, id: binary.BigEndian.Uint32(b)}
	for _, o := range m.ias {
		if o.code == a.code && o.id == a.id {
			return false
		}
	}
	from := len(m.items)
	for rest := b[fixed:]; len(rest) > 0; {
		code, data, after, ok := nextOption(rest)
		if !ok {
			return false
		}
		rest = after
		var item netip.Prefix
		switch {
		case code == dhcpv6.OptionIAAddr && a.code != dhcpv6.OptionIAPD:
			// Address, preferred and valid lifetime, options.
			if len(data) < 24 {
				return false
			}
			item = address6(netip.AddrFrom16([16]byte(data)))
			if item.Addr().IsUnspecified() {
				continue
			}
		case code == dhcpv6.OptionIAPrefix && a.code == dhcpv6.OptionIAPD:
			// Preferred and valid lifetime, length, prefix, options.
			if len(data) < 25 || data[8] > 128 {
				return false
			}
			item = netip.PrefixFrom(netip.AddrFrom16([16]byte(data[9:])), int(data[8])).Masked()
			if item.Bits() == 0 {
				continue
			}
		default:
			continue
		}
		if len(m.items)-from == maxItems {
			return false
		}
		m.items = append(m.items, item)
	}
	a.items = m.items[from:len(m.items):len(m.items)]
	m.ias = append(m.ias, a)
	return true
}

// hasIA says that the message has an identity association of any kind.
func (m *message6) hasIA() bool { return len(m.ias) > 0 }

// link is the address that tells the client's link: that of the relay nearest to
// the client which tells one (RFC 8415 section 13.1, RFC 6221); zero without any.
func (m *message6) link() netip.Addr {
	for i := len(m.relays) - 1; i >= 0; i-- {
		if a := m.relays[i].link(); !a.IsUnspecified() {
			return a
		}
	}
	return netip.Addr{}
}

// hardware appends the client's Ethernet addresses: that of the frame or, behind
// relays, what the nearest tells (option 79, RFC 6939), then the one within the
// DUID.
func (m *message6) hardware(to [][6]byte, frame [6]byte) [][6]byte {
	switch n := len(m.relays); {
	case n == 0:
		to = append(to, frame)
	default:
		if d := findOption(m.relays[n-1].options, dhcpv6.OptionClientLinkLayerAddr); len(d) == 8 && d[0] == 0 && d[1] == htypeEthernet {
			to = append(to, [6]byte(d[2:]))
		}
	}
	if mac := hardwareOf(m.clientID); len(mac) > 0 {
		to = append(to, [6]byte(mac))
	}
	return to
}

// hardwareOf is the Ethernet address within a DUID (RFC 8415 sections 11.2 and
// 11.4), empty if there is none.
func hardwareOf[T []byte | string](d T) T {
	switch {
	case len(d) == 14 && d[0] == 0 && d[1] == byte(dhcpv6.DUID_LLT) && d[2] == 0 && d[3] == htypeEthernet:
		return d[8:]
	case len(d) == 10 && d[0] == 0 && d[1] == byte(dhcpv6.DUID_LL) && d[2] == 0 && d[3] == htypeEthernet:
		return d[4:]
	}
	var none T
	return none
}

// wants says that the client asked for an option (RFC 8415 section 21.7). Who
// asks for nothing at all gets what is not for special purposes.
func (m *message6) wants(code dhcpv6.OptionCode) bool {
	switch code {
	case dhcpv6.OptionInformationRefreshTime:
		// Only of use where no lease makes the client come back.
		if m.typ != dhcpv6.MessageTypeInformationRequest {
			return false
		}
	case dhcpv6.OptionSolMaxRT, dhcpv6.OptionInfMaxRT:
	default:
		if m.asked == nil {
			return true
		}
	}
	for b := m.asked; len(b) >= 2; b = b[2:] {
		if dhcpv6.OptionCode(binary.BigEndian.Uint16(b)) == code {
			return true
		}
	}
	return false
}

// hostname is the first label of option 39 (RFC 4704 section 4), without what a
// terminal or a log should not see.
func (m *message6) hostname() []byte {
	f := m.fqdn
	if len(f) < 2 || f[1] > 63 || int(f[1]) > len(f)-2 {
		return nil
	}
	return printable(f[2 : 2+int(f[1])])
}
