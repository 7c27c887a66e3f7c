package dhcpd

import (
	"bytes"
	"encoding/binary"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// Sizes and offsets of a BOOTP message (RFC 951, RFC 2131 section 2).
const (
	headerLen  = 240 // fixed fields and the magic cookie
	snameAt    = 44
	snameLen   = 64
	fileAt     = 108
	fileLen    = 128
	cookieAt   = 236
	minReply   = 300 // shorter messages are dropped by old relays and clients
	ipUDPLen   = 28  // option 57 counts the IP and UDP headers (RFC 2132 section 9.10)
	minMaxSize = 576

	machineIDLen = 17 // option 97: a type and a UUID (RFC 4578 section 2.3)
	cookie       = 0x63825363

	opRequest     = 1
	opReply       = 2
	htypeEthernet = 1
	flagBroadcast = 0x8000
)

// Option codes that the server reads or writes by itself. The library's
// constants are of an interface type's implementation, so a switch needs the
// numbers.
const (
	optPad          = 0
	optMask         = 1
	optRouter       = 3
	optDNS          = 6
	optHostname     = 12
	optDomain       = 15
	optMTU          = 26
	optBroadcast    = 28
	optStaticRoutes = 33
	optVendorInfo   = 43
	optRequestedIP  = 50
	optLeaseTime    = 51
	optOverload     = 52
	optMessageType  = 53
	optServerID     = 54
	optParams       = 55
	optMessage      = 56
	optMaxSize      = 57
	optT1           = 58
	optT2           = 59
	optVendorClass  = 60
	optClientID     = 61
	optTFTPServer   = 66
	optBootfile     = 67
	optUserClass    = 77
	optRapidCommit  = 80
	optFQDN         = 81
	optRelay        = 82
	optArch         = 93
	optMachineID    = 97
	optIPv6Only     = 108
	optAutoConf     = 116
	optSubnetSelect = 118
	optRoutes       = 121
	optRoutesMS     = 249
	optEnd          = 255
)

// message is a request, parsed once. Its slices are views of the payload,
// unless an option came in several pieces; nil means that the option was absent.
type message struct {
	typ   dhcpv4.MessageType
	htype uint8
	hlen  uint8
	xid   uint32
	flags uint16

	ciaddr, giaddr uint32
	chaddr         [16]byte

	requested uint32 // option 50
	serverID  uint32 // option 54
	subnet    uint32 // option 118
	link      uint32 // option 82, suboption 5 (RFC 3527)
	override  uint32 // option 82, suboption 11: what a relay has the server call itself (RFC 5107); 0: nothing
	maxSize   int    // option 57, at least 576

	hasRequested, hasServerID, hasSubnet, hasLink bool
	rapid                                         bool // option 80
	bootp                                         bool // no option 53 (RFC 951)
	autoConf                                      bool // option 116

	clientID []byte // option 61
	relay    []byte // option 82
	circuit  []byte // option 82, suboption 1
	params   []byte // option 55
	hostname []byte // option 12
	fqdn     []byte // option 81
	vendor   []byte // option 60
	user     []byte // option 77
	arch     []byte // option 93
	machine  []byte // option 97
}

// fixed holds the pieces of the options whose size the RFC fixes.
type fixed struct {
	requested, overload, typ, serverID, maxSize, subnet []byte

	open bool // the options field has no End
}

// parse reads a request and says Answered when it can be served, Malformed
// otherwise. It never keeps more than views of b.
func (m *message) parse(b []byte) Outcome {
	if len(b) < headerLen || b[0] != opRequest || b[2] > 16 {
		return Malformed
	}
	magic := binary.BigEndian.Uint32(b[cookieAt:])
	if magic != cookie && magic != 0 { // 0: a BOOTP client without vendor information
		return Malformed
	}
	*m = message{
		htype:   b[1],
		hlen:    b[2],
		xid:     binary.BigEndian.Uint32(b[4:]),
		flags:   binary.BigEndian.Uint16(b[10:]),
		ciaddr:  binary.BigEndian.Uint32(b[12:]),
		giaddr:  binary.BigEndian.Uint32(b[24:]),
		maxSize: minMaxSize,
	}
	copy(m.chaddr[:m.hlen], b[28:])

	// An option may be spread over the options field, then file, then sname,
	// in this order (RFC 3396 section 5).
	var f fixed
	if magic == cookie && !m.options(b[headerLen:], &f, true) {
		return Malformed
	}
	if f.overload != nil {
		if len(f.overload) != 1 || f.overload[0] < 1 || f.overload[0] > 3 {
			return Malformed
		}
		if f.overload[0]&1 != 0 && !m.options(b[fileAt:fileAt+fileLen], &f, false) {
			return Malformed
		}
		if f.overload[0]&2 != 0 && !m.options(b[snameAt:snameAt+snameLen], &f, false) {
			return Malformed
		}
	}
	if m.bootp = f.typ == nil; m.bootp {
		// The client is sure to take what is as long as what it sent (RFC 1542
		// section 2.1).
		m.maxSize = ipUDPLen + max(minReply, len(b))
	} else if f.open {
		return Malformed
	}
	return m.settle(&f)
}

// options reads one field of options and says whether it could. The options
// field of DHCP must have an End (RFC 2131 section 4.1); that of BOOTP and the
// two BOOTP fields may simply end.
func (m *message) options(b []byte, f *fixed, main bool) bool {
	for i := 0; i < len(b); {
		code := b[i]
		i++
		switch code {
		case optPad:
			continue
		case optEnd:
			return true
		}
		if i >= len(b) {
			return false
		}
		n := int(b[i])
		i++
		if n > len(b)-i {
			return false
		}
		data := b[i : i+n : i+n]
		i += n
		switch code {
		case optRequestedIP:
			piece(&f.requested, data, 4)
		case optOverload:
			if main { // an overload option in an overloaded field means nothing
				piece(&f.overload, data, 1)
			}
		case optMessageType:
			piece(&f.typ, data, 1)
		case optServerID:
			piece(&f.serverID, data, 4)
		case optMaxSize:
			piece(&f.maxSize, data, 2)
		case optSubnetSelect:
			piece(&f.subnet, data, 4)
		case optRapidCommit:
			m.rapid = true
		case optAutoConf:
			m.autoConf = true
		case optClientID:
			join(&m.clientID, data)
		case optRelay:
			join(&m.relay, data)
		case optParams:
			join(&m.params, data)
		case optHostname:
			join(&m.hostname, data)
		case optFQDN:
			join(&m.fqdn, data)
		case optVendorClass:
			join(&m.vendor, data)
		case optUserClass:
			join(&m.user, data)
		case optArch:
			join(&m.arch, data)
		case optMachineID:
			join(&m.machine, data)
		}
	}
	f.open = f.open || main
	return true
}

// join appends one more instance of an option (RFC 3396).
func join(dst *[]byte, data []byte) {
	if *dst == nil {
		*dst = data
		return
	}
	*dst = append(*dst, data...) // the views have no spare capacity: this copies
}

// piece joins the parts of an option of a fixed size. What comes once it is
// whole is a repetition, not a part, and is left out.
func piece(dst *[]byte, data []byte, size int) {
	if len(*dst) < size {
		join(dst, data)
	}
}

// settle turns the options of fixed size into values and checks what must hold
// of every request.
func (m *message) settle(f *fixed) Outcome {
	if !m.bootp {
		if len(f.typ) != 1 {
			return Malformed
		}
		m.typ = dhcpv4.MessageType(f.typ[0])
	}
	for _, a := range [...]struct {
		data []byte
		dst  *uint32
		has  *bool
	}{
		{f.requested, &m.requested, &m.hasRequested},
		{f.serverID, &m.serverID, &m.hasServerID},
		{f.subnet, &m.subnet, &m.hasSubnet},
	} {
		if a.data == nil {
			continue
		}
		if len(a.data) != 4 {
			return Malformed
		}
		*a.dst, *a.has = binary.BigEndian.Uint32(a.data), true
	}
	if f.maxSize != nil {
		if len(f.maxSize) != 2 {
			return Malformed
		}
		m.maxSize = max(minMaxSize, int(binary.BigEndian.Uint16(f.maxSize)))
	}
	// A client must be told from every other one, and be reachable: an
	// identifier, or else a hardware address; on Ethernet an address of one
	// station.
	if m.htype == htypeEthernet {
		if m.hlen != 6 || m.chaddr[0]&1 != 0 || m.chaddr == ([16]byte{}) {
			return Malformed
		}
	} else if m.hlen == 0 && !m.identified() {
		return Malformed
	}
	m.suboptions()
	return Answered
}

// suboptions reads the parts of option 82 that the server uses. A torn one is
// still echoed whole, but means nothing.
func (m *message) suboptions() {
	for b := m.relay; len(b) >= 2 && int(b[1]) <= len(b)-2; b = b[2+int(b[1]):] {
		data := b[2 : 2+int(b[1])]
		switch b[0] {
		case 1:
			m.circuit = data
		case 5:
			if len(data) == 4 {
				m.link, m.hasLink = binary.BigEndian.Uint32(data), true
			}
		case 11:
			if len(data) == 4 && m.giaddr != 0 {
				m.override = binary.BigEndian.Uint32(data)
			}
		}
	}
}

// appendKey appends the client's identity: option 61 if there is one, else the
// hardware type and address (RFC 2131 section 4.2). Its first byte keeps the
// two apart.
func (m *message) appendKey(b []byte) []byte {
	if m.identified() {
		return append(append(b, keyClientID), m.clientID...)
	}
	return append(append(b, keyHardware, m.htype), m.chaddr[:m.hlen]...)
}

const (
	keyHardware = 'h'
	keyClientID = 'i'
)

// identified says that option 61 can name a client: it has its type byte and
// at least one more (RFC 2132 section 9.14). A shorter one is only echoed.
func (m *message) identified() bool { return len(m.clientID) >= 2 }

func (m *message) broadcast() bool { return m.flags&flagBroadcast != 0 }

func (m *message) hardware() []byte { return m.chaddr[:m.hlen] }

// boots tells a network boot client: PXE 2.1 section 2.2.1, or UEFI's HTTP boot.
func (m *message) boots() bool {
	return bytes.HasPrefix(m.vendor, []byte("PXEClient")) || bytes.HasPrefix(m.vendor, []byte("HTTPClient"))
}
