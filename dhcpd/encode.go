package dhcpd

import (
	"encoding/binary"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// maxPayload is the longest message that is ever built: one that fits an
// Ethernet frame without fragments.
const maxPayload = 1500 - ipUDPLen

// encoder writes one reply. It is a plain value on the caller's stack.
type encoder struct {
	b     []byte // the message so far
	limit int    // what the options field may grow to, End included
	sent  [4]uint64

	// With overload the BOOTP fields take what the options field cannot.
	overload bool
	file     []byte
	sname    []byte
	missed   bool // an option found no room
}

// what says which reply is built and for whom.
type what struct {
	typ    dhcpv4.MessageType // 0: BOOTP, which has no options of DHCP
	yiaddr uint32
	ciaddr uint32
	server [4]byte
	lease  *subnetTimes // nil: no lease options (INFORM, NAK)
	text   string       // option 56
	rapid  bool         // option 80
	domain string
	name   string // the reservation's host name
	mtu    int    // longest IP packet; 0: 1500
}

// encode writes the reply to buf, which has room for maxPayload bytes, and
// returns the message. The first attempt keeps the BOOTP fields as they are;
// only when not everything fits, they carry options too.
func encode(buf []byte, a *answer, w *what) []byte {
	e := encoder{}
	b := e.message(buf, a, w, false)
	if !e.missed || w.typ == dhcpv4.MessageTypeNak || w.typ == 0 {
		return b
	}
	e = encoder{}
	return e.message(buf, a, w, true)
}

func (e *encoder) message(buf []byte, a *answer, w *what, overload bool) []byte {
	m := a.m
	b := buf[:headerLen]
	clear(b)
	b[0], b[1], b[2] = opReply, m.htype, m.hlen
	binary.BigEndian.PutUint32(b[4:], m.xid)
	flags := m.flags
	if w.typ == dhcpv4.MessageTypeNak && m.giaddr != 0 {
		flags |= flagBroadcast // the client has no usable address (RFC 2131 section 4.3.2)
	}
	binary.BigEndian.PutUint16(b[10:], flags)
	binary.BigEndian.PutUint32(b[12:], w.ciaddr)
	binary.BigEndian.PutUint32(b[16:], w.yiaddr)
	binary.BigEndian.PutUint32(b[24:], m.giaddr)
	copy(b[28:44], m.chaddr[:])
	binary.BigEndian.PutUint32(b[cookieAt:], cookie)

	e.b = b
	packet := m.maxSize
	if w.mtu != 0 {
		packet = min(packet, max(w.mtu, minMaxSize))
	}
	whole := min(packet-ipUDPLen, maxPayload)
	e.limit = whole - 1 // End
	// Option 82 comes last, whole and never overloaded (RFC 3046 section 2.1),
	// so its room is set aside; without room the server must leave it out.
	relay := m.relay != nil
	if relay {
		if n := wireLen(m.relay); n <= e.limit-headerLen-32 {
			e.limit -= n
		} else {
			relay = false
		}
	}
	e.overload = overload
	if overload {
		e.limit -= 3
		e.file, e.sname = b[fileAt:fileAt:fileAt+fileLen], b[snameAt:snameAt:snameAt+snameLen]
	}

	if w.typ != 0 {
		e.put(optMessageType, []byte{byte(w.typ)})
		e.put(optServerID, w.server[:])
	}
	if w.lease != nil {
		e.put(optLeaseTime, w.lease.lease[:])
		e.put(optT1, w.lease.t1[:])
		e.put(optT2, w.lease.t2[:])
	}
	if m.clientID != nil && w.typ != 0 {
		e.put(optClientID, m.clientID) // RFC 6842
	}
	if w.text != "" {
		e.put(optMessage, []byte(w.text))
	}
	if w.typ != dhcpv4.MessageTypeNak {
		e.parameters(a, w)
	}

	if overload {
		if v := e.closeFields(); v != 0 {
			e.b = append(e.b, optOverload, 1, v)
		}
	}
	if relay {
		e.b = appendOption(e.b, optRelay, m.relay)
	}
	e.b = append(e.b, optEnd)
	for len(e.b) < minReply {
		e.b = append(e.b, optPad)
	}
	if w.typ != dhcpv4.MessageTypeNak {
		e.bootFields(a)
	}
	return e.b
}

// parameters writes what the client asked for, in its order, but option 1
// before option 3 (RFC 2132 section 3.3).
func (e *encoder) parameters(a *answer, w *what) {
	m := a.m
	if w.rapid {
		e.put(optRapidCommit, nil)
	}
	if len(m.machine) == machineIDLen && m.boots() {
		e.put(optMachineID, m.machine) // RFC 4578 section 2.3
	}
	if m.autoConf {
		e.option(a, optAutoConf) // to send it is to ask for it (RFC 2563 section 2)
	}
	if len(m.fqdn) >= 3 {
		var room [512]byte
		e.put(optFQDN, appendFQDN(room[:0], m.fqdn, w.name, w.domain))
	}
	if m.params == nil {
		for _, code := range a.table.codes {
			e.option(a, code)
		}
		a.extra(func(code uint8, always bool) {
			if always || !onRequestOnly(code) {
				e.option(a, code)
			}
		})
		return
	}
	// A client that takes option 121 ignores 3 and 33 (RFC 3442): they are
	// left out, but only when 121 is sure of its room, which is set aside.
	routes, room := a.option(optRoutes), 0
	if routes != nil && requested(m.params, optRoutes) {
		if n := wireLen(routes); len(e.b)+n <= e.limit {
			room = n
			e.limit -= room
		} else {
			e.put(optRoutes, routes) // into a BOOTP field, or not at all
		}
	}
	classless := room > 0 || e.has(optRoutes)
	for _, code := range m.params {
		switch {
		case code == optRoutes && room > 0:
			e.limit += room
			room = 0
		case classless && (code == optRouter || code == optStaticRoutes):
			continue
		case code == optRouter && requested(m.params, optMask):
			e.option(a, optMask)
		}
		e.option(a, code)
	}
	if m.boots() { // network boot ROMs take what they did not ask for
		for _, code := range [...]uint8{optVendorClass, optVendorInfo, optTFTPServer, optBootfile} {
			e.option(a, code)
		}
	}
	a.extra(func(code uint8, always bool) {
		if always {
			e.option(a, code)
		}
	})
}

func requested(params []byte, code uint8) bool {
	for _, p := range params {
		if p == code {
			return true
		}
	}
	return false
}

// option writes an option that the configuration has for the client.
func (e *encoder) option(a *answer, code uint8) {
	switch code {
	case optPad, optEnd, optRelay, optOverload:
		return
	}
	if d := a.option(code); d != nil {
		e.put(code, d)
	}
}

func (e *encoder) has(code uint8) bool { return e.sent[code>>6]>>(code&63)&1 != 0 }

// put writes an option once, whole or not at all.
func (e *encoder) put(code uint8, data []byte) {
	if e.has(code) {
		return
	}
	n := wireLen(data)
	switch {
	case len(e.b)+n <= e.limit:
		e.b = appendOption(e.b, code, data)
	case e.overload && len(e.file)+n < cap(e.file):
		e.file = appendOption(e.file, code, data)
	case e.overload && len(e.sname)+n < cap(e.sname):
		e.sname = appendOption(e.sname, code, data)
	default:
		e.missed = true
		return
	}
	e.sent[code>>6] |= 1 << (code & 63)
}

// closeFields ends the BOOTP fields that carry options and returns the value
// of option 52.
func (e *encoder) closeFields() byte {
	var v byte
	if len(e.file) > 0 {
		e.file = append(e.file, optEnd)
		v |= 1
	}
	if len(e.sname) > 0 {
		e.sname = append(e.sname, optEnd)
		v |= 2
	}
	return v
}

// wireLen is the length of an option with its headers (RFC 3396).
func wireLen(data []byte) int {
	return len(data) + 2*max(1, (len(data)+254)/255)
}

// appendOption appends an option, in consecutive instances when it is longer
// than one holds (RFC 3396).
func appendOption(b []byte, code uint8, data []byte) []byte {
	for len(data) > 255 {
		b = append(append(b, code, 255), data[:255]...)
		data = data[255:]
	}
	return append(append(b, code, byte(len(data))), data...)
}

// bootFields gives a network boot client its server and file where BOOTP has
// them, for ROMs that look only there, unless options took the room.
func (e *encoder) bootFields(a *answer) {
	to := a.boot()
	binary.BigEndian.PutUint32(e.b[20:], to.next)
	if d := a.option(optTFTPServer); len(d) < snameLen && len(e.sname) == 0 {
		copy(e.b[snameAt:snameAt+snameLen], d)
	}
	if len(to.file) < fileLen && len(e.file) == 0 {
		copy(e.b[fileAt:fileAt+fileLen], to.file)
	}
}
