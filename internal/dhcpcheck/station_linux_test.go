package dhcpcheck

import (
	"net/netip"
	"time"

	"github.com/uvtep/uvtep/internal/verdict"
)

// station is a machine that wants an address, or what it says to be one.
type station struct {
	w      *world
	wire   *wire // nil: the world's
	mac    mac
	id     []byte // option 61; nil: none
	params []byte // option 55; nil: none
	extra  []option
	flags  uint16
	relay  []byte // option 82 of the relay that it is behind; nil: on the segment itself
	ip     netip.Addr
}

var defaultParams = []byte{1, 3, 6, 15, 51, 54, 58, 59}

// station is the machine number n.
func (w *world) station(n byte) *station {
	return &station{w: w, mac: mac{2, 0, 0, 0, 1, n}, params: defaultParams}
}

// message is a message of the station's, of an exchange of its own.
func (s *station) message(typ byte, more ...option) *message {
	s.w.lastXID++
	m := &message{op: 1, htype: 1, hlen: 6, xid: 0x5eed0000 + s.w.lastXID, flags: s.flags}
	copy(m.chaddr[:], s.mac[:])
	m.options = append(m.options, opt(53, typ))
	m.options = append(m.options, more...)
	if s.id != nil {
		m.options = append(m.options, opt(61, s.id...))
	}
	if s.params != nil && typ != release && typ != decline {
		m.options = append(m.options, opt(55, s.params...))
	}
	m.options = append(m.options, s.extra...)
	if s.relay != nil {
		m.giaddr, m.hops = relayIP, 1
		m.options = append(m.options, opt(82, s.relay...))
	}
	return m
}

// local is how a client without an address speaks, direct how one with an
// address speaks to the server, and relayed how a relay does.
func (s *station) local() way {
	return way{srcMAC: s.mac, dstMAC: broadcastMAC, src: anyIP, dst: bcastIP, sport: 68, dport: 67}
}

func (s *station) direct(from netip.Addr) way {
	return way{srcMAC: s.mac, dstMAC: s.w.hw, src: from, dst: serverIP, sport: 68, dport: 67}
}

func (s *station) relayed() way {
	return way{srcMAC: router, dstMAC: s.w.hw, src: relayIP, dst: serverIP, sport: 67, dport: 67}
}

func (s *station) usual() way {
	if s.relay != nil {
		return s.relayed()
	}
	return s.local()
}

// soon is how long an answer is waited for before the witness is called.
const soon = 300 * time.Millisecond

// ask sends a message and returns the reply, nil for silence.
func (s *station) ask(m *message) *packet { return s.askBy(s.usual(), m) }

func (s *station) askBy(h way, m *message) *packet {
	if s.wire != nil {
		defer func(usual *wire) { s.w.wire = usual }(s.w.wire)
		s.w.wire = s.wire
	}
	return s.w.exchange(h, m, soon)
}

// silent sends a message that must not be answered.
func (s *station) silent(what string, h way, m *message) {
	if p := s.w.exchange(h, m, 0); p != nil {
		verdict.Fail("%s: %v", what, p)
	}
}

// expect wants a reply of a type.
func expect(what string, typ byte, p *packet) *packet {
	switch {
	case p == nil:
		verdict.Fail("%s: silence", what)
	case p.typ() != typ:
		verdict.Fail("%s: %v", what, p)
	}
	return p
}

func (s *station) discover(more ...option) *packet { return s.ask(s.message(discover, more...)) }

// take is the REQUEST for an offer.
func (s *station) take(o *packet, more ...option) *packet {
	p := s.ask(s.message(request, append([]option{optAddr(50, o.yiaddr), opt(54, o.get(54)...)}, more...)...))
	s.note(p)
	return p
}

// note remembers the lease, and has the station answer ARP for it.
func (s *station) note(p *packet) {
	if p != nil && p.typ() == ack && !p.yiaddr.IsUnspecified() {
		s.ip = p.yiaddr
		w, owner := s.w.wire, s.mac
		if s.wire != nil {
			w = s.wire
		}
		if s.relay != nil {
			owner = router
		}
		w.owners[s.ip] = owner
	}
}

// bind takes the station to a lease.
func (s *station) bind() (offered, acked *packet) {
	offered = expect("DISCOVER", offer, s.discover())
	return offered, expect("REQUEST", ack, s.take(offered))
}

// reboot is the REQUEST of a client that remembers an address.
func (s *station) reboot(ip netip.Addr) *packet { return s.ask(s.message(request, optAddr(50, ip))) }

// prolonging is the REQUEST of a client that has an address and keeps it.
func (s *station) prolonging(ip netip.Addr, more ...option) *message {
	m := s.message(request, more...)
	m.ciaddr = ip
	return m
}

func (s *station) renew(ip netip.Addr) *packet { return s.askBy(s.direct(ip), s.prolonging(ip)) }

func (s *station) rebind(ip netip.Addr) *packet {
	h := s.local()
	h.src = ip
	return s.askBy(h, s.prolonging(ip))
}

// release and decline give an address back and refuse one.
func (s *station) release(ip, server netip.Addr) *message {
	m := s.message(release, optAddr(54, server))
	m.ciaddr = ip
	return m
}

func (s *station) decline(ip netip.Addr) *message {
	return s.message(decline, optAddr(50, ip), optAddr(54, serverIP))
}
