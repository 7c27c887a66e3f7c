package dhcpd

import (
	"cmp"
	"net/netip"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// The client's states and what the server does in each: RFC 2131 section 4.3.

// discover answers a DISCOVER by an offer, or at once by a lease when the
// client and the configuration want it so (RFC 4039).
func (s *Server) discover(c *call) Outcome {
	if c.m.hasServerID && !s.named(c.m) {
		return IgnoredOtherServer
	}
	if s.full(c) {
		return PortFull
	}
	if p := s.waiting(c); p != nil {
		if c.tries == 0 { // else the client has asked anew since
			p.keep(c)
		}
		return Duplicate
	}
	b := s.choose(c)
	if b == nil {
		if !c.n.exhausted {
			c.n.exhausted = true
			s.log.Warn("no address left", "subnet", c.n.subnet)
			s.event(EventExhausted, nil, c.n.subnet.String())
		}
		if c.m.autoConf && c.n.table.data[optAutoConf] != nil {
			// An offer of nothing, that says whether the client may make up an
			// address by itself (RFC 2563 section 2.2).
			s.answer(c, nil, &what{typ: dhcpv4.MessageTypeOffer})
			return Answered
		}
		return NoLease
	}
	c.n.exhausted = false
	if s.probe(c, b) {
		return Probing
	}
	if s.cfg.RapidCommit && c.m.rapid {
		return s.bind(c, b, true)
	}
	s.answer(c, b, &what{typ: dhcpv4.MessageTypeOffer, yiaddr: b.ip, lease: &c.n.times})
	return Answered
}

// choose picks the client's address: its reservation, what it was just
// offered, what it has or had, what it asks for, one never used, the one
// unused for longest (RFC 2131 section 4.3.1).
func (s *Server) choose(c *call) *binding {
	n, h := c.n, c.h
	if h != nil && h.ip != 0 && n.allowed(h.ip, h) {
		if n.takeable(h.ip, c) {
			return s.hold(c, h.ip)
		}
		b := n.byIP[h.ip]
		s.event(EventBlocked, b, "reserved for "+h.who())
	}
	if b := n.offers[string(c.key)]; b != nil && n.available(b.ip, c) {
		return s.hold(c, b.ip)
	}
	if b := n.byKey[string(c.key)]; b != nil && n.available(b.ip, c) {
		return s.hold(c, b.ip)
	}
	// What another client is remembered for is not given away for the asking
	// while there are addresses that nobody had.
	if want := c.m.requested; c.m.hasRequested && n.available(want, c) && (n.byIP[want] == nil || n.fresh.count == 0) {
		return s.hold(c, want)
	}
	if ip := n.next(); ip != 0 {
		return s.hold(c, ip)
	}
	return nil
}

// who names a reservation's client in logs.
func (h *host) who() string {
	switch {
	case len(h.MAC) > 0:
		return h.MAC.String()
	case h.Port != "":
		return "port " + h.Port
	case len(h.ClientID) > 0:
		return "client id " + hexString(h.ClientID)
	case h.Hostname != "":
		return "host name " + h.Hostname
	}
	return "nobody"
}

// named says that option 54 names this server: by its own address, or by the one
// that the relay has it go by (RFC 5107), so that the client sends to the relay
// what it would else send past it.
func (s *Server) named(m *message) bool {
	return m.serverID == s.ip || m.override != 0 && m.serverID == m.override
}

// request tells the client's state by what it filled in (RFC 2131 table 4).
func (s *Server) request(c *call) Outcome {
	switch m := c.m; {
	case m.ciaddr != 0 && !m.hasRequested:
		if m.hasServerID && !s.named(m) {
			return IgnoredOtherServer
		}
		return s.renewing(c)
	case m.hasServerID:
		return s.selecting(c)
	case m.hasRequested:
		return s.rebooting(c)
	}
	return IgnoredAddress
}

// selecting: the client took an offer, ours or another server's.
func (s *Server) selecting(c *call) Outcome {
	n, m := c.n, c.m
	offer := n.offers[string(c.key)]
	if !s.named(m) {
		if offer != nil {
			s.lapse(n, offer)
		}
		return IgnoredOtherServer
	}
	if !m.hasRequested {
		return IgnoredAddress
	}
	want := m.requested
	switch have := n.byKey[string(c.key)]; {
	case offer != nil && offer.ip != want:
		return s.refuse(c, "not the address that was offered")
	case offer == nil && have != nil && have.state == StateBound && have.ip != want:
		return s.refuse(c, "not the client's address")
	case !n.available(want, c):
		return s.refuse(c, "address not available")
	}
	// Without an offer, of before a restart say, the address is the client's
	// all the same as long as nobody else has it.
	return s.take(c, want)
}

// rebooting: the client remembers a lease and asks whether it still holds.
func (s *Server) rebooting(c *call) Outcome {
	n, want := c.n, c.m.requested
	if !n.contains(want) {
		return s.refuse(c, "wrong network")
	}
	if b := n.byKey[string(c.key)]; b != nil {
		return s.prolong(c, b, want)
	}
	return s.unrecorded(c, want)
}

// renewing: the client prolongs its lease, by unicast or, later, by broadcast.
func (s *Server) renewing(c *call) Outcome {
	n, want := c.n, c.m.ciaddr
	if !n.contains(want) {
		// Its subnet is gone from the configuration, or never was ours.
		if s.stray.byKey[string(c.key)] != nil || toU32(c.req.Dst) == s.ip {
			return s.refuse(c, "wrong network")
		}
		return s.unknown(c)
	}
	if b := n.byKey[string(c.key)]; b != nil {
		return s.prolong(c, b, want)
	}
	return s.unrecorded(c, want)
}

// unrecorded: no lease is recorded of the client, which says that it has one.
// Its reservation is as good as a record, and so is another client's lease.
func (s *Server) unrecorded(c *call, want uint32) Outcome {
	n, h := c.n, c.h
	if h != nil && h.ip != 0 && n.available(h.ip, c) {
		if h.ip != want {
			return s.refuse(c, "not the client's address")
		}
		return s.take(c, want)
	}
	if b := n.byIP[want]; b != nil && b.state == StateBound {
		return s.refuse(c, "address of another client")
	}
	return s.unknown(c)
}

// unknown: nothing is recorded of the client. Another server may know better,
// unless this one has authority.
func (s *Server) unknown(c *call) Outcome {
	if s.cfg.Authoritative {
		return s.refuse(c, "no such lease")
	}
	return IgnoredUnknown
}

// prolong gives a client its address again, if it may still have it.
func (s *Server) prolong(c *call, b *binding, want uint32) Outcome {
	n := c.n
	if b.ip != want {
		return s.refuse(c, "not the client's address")
	}
	moved := c.h != nil && c.h.ip != 0 && c.h.ip != want && n.available(c.h.ip, c)
	if moved || !n.allowed(want, c.h) {
		// The configuration gave the client another address, or this one to
		// somebody else. Told so, the client asks anew and gives this one up by
		// taking another; until then, or until the lease ends, it is nobody
		// else's, for the client may not have heard.
		return s.refuse(c, "address no longer available")
	}
	if !n.takeable(want, c) {
		return s.refuse(c, "address not available")
	}
	return s.take(c, want)
}

// decline: the client found its address in use by somebody else.
func (s *Server) decline(c *call) Outcome {
	n, m := c.n, c.m
	if !m.hasServerID || !s.named(m) {
		return IgnoredOtherServer
	}
	b := n.byIP[m.requested]
	if !m.hasRequested || b == nil || b.key != string(c.key) || b.state != StateBound && b.state != StateOffered {
		return IgnoredAddress
	}
	if n.offers[b.key] == b {
		delete(n.offers, b.key)
	}
	if n.byKey[b.key] == b {
		delete(n.byKey, b.key)
	}
	s.unprobe(b)
	b.unlist()
	s.tally.become(b, StateDeclined)
	b.start, b.expires = c.now, c.now+s.cfg.DeclineHold
	s.expiry.set(b)
	s.arm()
	n.settle(b.ip)
	s.queue(b, Change{Segment: s.segment, Lease: s.leaseOf(b)})
	log := s.log.With("ip", toAddr(b.ip), "client", hexString([]byte(b.chaddr)), "for", s.cfg.DeclineHold)
	if n.hostIP[b.ip] != nil {
		log.Error("a reserved address is in use by somebody else")
		s.event(EventAlarm, b, "reserved for "+n.hostIP[b.ip].who())
	} else {
		log.Warn("an address is in use by somebody else")
		s.event(EventDeclined, b, "")
	}
	return Answered
}

// release: the client gives its lease back. It is never answered.
func (s *Server) release(c *call) Outcome {
	n, m := c.n, c.m
	if m.hasServerID && !s.named(m) {
		return IgnoredOtherServer
	}
	b := n.byIP[m.ciaddr]
	if b == nil || b.key != string(c.key) || b.state != StateBound {
		return IgnoredAddress
	}
	s.end(n, b)
	return Answered
}

// end takes a lease back before its time; the client stays remembered.
func (s *Server) end(n *network, b *binding) {
	s.expiry.remove(b)
	s.tally.become(b, StateFree)
	b.expires = s.svc.elapsed()
	s.event(EventReleased, b, "")
	s.queue(b, Change{Segment: s.segment, Lease: s.leaseOf(b)})
	n.settle(b.ip)
}

// inform: the client has an address and wants the rest (RFC 2131 section
// 4.3.5). No lease is looked at or made.
func (s *Server) inform(c *call) Outcome {
	m := c.m
	if m.hasServerID && !s.named(m) {
		return IgnoredOtherServer
	}
	// The answer goes to the address that the message gives: only to one that
	// the service has to do with.
	to := m.ciaddr
	if to == 0 {
		to = toU32(c.req.Src)
	}
	if m.giaddr == 0 && (!c.n.contains(to) || to == c.n.net || to == c.n.net|^c.n.mask) {
		return IgnoredAddress
	}
	w := what{typ: dhcpv4.MessageTypeAck, ciaddr: m.ciaddr}
	s.answer(c, c.n.byIP[to], &w)
	if m.giaddr == 0 {
		c.out.Dst, c.out.DstMAC = toAddr(to), c.req.SrcMAC
	}
	return Answered
}

// refuse sends a NAK (RFC 2131 section 4.3.2).
func (s *Server) refuse(c *call, why string) Outcome {
	s.answer(c, nil, &what{typ: dhcpv4.MessageTypeNak, text: why})
	if s.svc.cfg.Events != nil {
		ip := c.m.requested
		if c.m.ciaddr != 0 {
			ip = c.m.ciaddr
		}
		s.event(EventRefused, nil, why)
		s.events[len(s.events)-1].Lease = Lease{
			IP: toAddr(ip), HType: c.m.htype, CHAddr: string(c.m.hardware()), ClientID: string(c.m.clientID),
			Port: c.req.Port, VTEP: c.req.VTEP,
		}
	}
	return Answered
}

// take binds an address that the client has no offer of, or has one.
func (s *Server) take(c *call, ip uint32) Outcome {
	if s.full(c) {
		return PortFull
	}
	return s.bind(c, s.hold(c, ip), false)
}

// bind makes the lease the client's and hands the change to the commit loop;
// the ACK leaves when it is durable.
func (s *Server) bind(c *call, b *binding, rapid bool) Outcome {
	n := c.n
	if b.awaited > 0 && b.xid == c.m.xid && b.state == StateBound {
		return Duplicate
	}
	if out := s.svc.room(); out != Pending {
		return out
	}
	j := job{bound: true, key: b.key, send: c.reply, kind: EventBound}
	if b.stored && b.durable == StateBound && b.durableUntil > c.now {
		j.kind = EventRenewed
	}
	// A client that moves has its former address until the new one is durable,
	// both in one transaction.
	old := n.byKey[b.key]
	if old == nil || old == b {
		old = s.stray.byKey[b.key]
	}
	b.supersede(old)
	if o := b.former; o != nil && o.seq == b.formerSeq && s.current(o) {
		j.old, j.oldSeq = o, o.seq
	}
	if n.offers[b.key] == b {
		delete(n.offers, b.key)
	}
	s.unprobe(b)
	b.unlist()
	s.tally.become(b, StateBound)
	b.xid, b.start, b.expires = c.m.xid, c.now, c.now+n.lease
	n.byKey[b.key] = b
	s.seen(c, b)
	s.expiry.set(b)
	s.arm()
	n.settle(b.ip)

	w := what{typ: dhcpv4.MessageTypeAck, yiaddr: b.ip, lease: &n.times, rapid: rapid}
	if !c.m.hasRequested {
		w.ciaddr = c.m.ciaddr // a client that renews speaks from its address
	}
	s.answer(c, b, &w)
	j.reply, j.buf, c.buf = c.out, c.buf, nil
	s.enqueue(j, b, Change{Segment: s.segment, Lease: s.leaseOf(b)})
	return Pending
}

// answer builds the reply and says where it goes (RFC 2131 section 4.1).
func (s *Server) answer(c *call, b *binding, w *what) {
	n, m := c.n, c.m
	a := answer{m: m, table: n.table}
	if c.h != nil {
		a.host = c.h
		w.name = c.h.Hostname
	}
	if w.typ != dhcpv4.MessageTypeNak && len(s.classes) > 0 {
		circuit := m.circuit
		if circuit == nil && b != nil && b.key == string(c.key) {
			circuit = circuitOf(b.relay)
		}
		a.classify(s.classes, circuit)
	}
	w.server, w.domain, w.mtu = put4(cmp.Or(m.override, s.ip)), n.domain, n.mtu
	c.buf = buffers.Get().(*buffer)
	c.out.Payload = encode(c.buf[:], &a, w)
	c.out.Src = s.cfg.Server
	s.out[w.typ]++

	c.out.DstPort, c.out.DstMAC = portClient, c.req.SrcMAC
	switch {
	case m.giaddr != 0:
		c.out.Dst, c.out.DstPort = toAddr(m.giaddr), portServer
	case w.typ == dhcpv4.MessageTypeNak:
		c.out.Dst, c.out.DstMAC = broadcastAddr, broadcastMAC
	case w.ciaddr != 0:
		// The frame goes back the way it came: the client may be behind a router.
		c.out.Dst = toAddr(w.ciaddr)
	case m.broadcast() || m.htype != htypeEthernet || w.yiaddr == 0:
		c.out.Dst, c.out.DstMAC = broadcastAddr, broadcastMAC
	default:
		// The client has no address yet and cannot answer ARP.
		c.out.Dst, c.out.DstMAC = toAddr(w.yiaddr), [6]byte(m.chaddr[:6])
	}
}

const (
	portServer = 67
	portClient = 68
)

var (
	broadcastAddr = netip.AddrFrom4([4]byte{255, 255, 255, 255})
	broadcastMAC  = [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
)
