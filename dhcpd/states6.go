package dhcpd

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"
)

// What the server does with each message: RFC 8415 section 18.3.

// solicit advertises what the client would get, or gives it at once when the
// client and the configuration want it so (section 18.3.1).
func (s *Server6) solicit(c *call6) Outcome {
	rapid := s.cfg.RapidCommit && c.m.rapid
	if rapid {
		if out := s.ready(c); out != Pending {
			return out
		}
	}
	for i := range c.m.ias {
		r := s.assign(c, &c.m.ias[i])
		if rapid && r.b != nil {
			s.bind(c, r.b)
		}
		c.ias = append(c.ias, r)
	}
	if len(c.parts) > 0 {
		return s.answer(c, dhcpv6.MessageTypeReply, nil)
	}
	return s.answer(c, dhcpv6.MessageTypeAdvertise, nil)
}

// request gives the client what it was advertised (section 18.3.2).
func (s *Server6) request(c *call6) Outcome {
	if out := s.ready(c); out != Pending {
		return out
	}
	for i := range c.m.ias {
		a := &c.m.ias[i]
		if a.code != dhcpv6.OptionIAPD && slices.ContainsFunc(a.items, s.offLink) {
			c.ias = append(c.ias, iaReply{ia: a, status: iana.StatusNotOnLink, text: "no address of this link"})
			continue
		}
		r := s.assign(c, a)
		if r.b != nil {
			s.bind(c, r.b)
		}
		c.ias = append(c.ias, r)
	}
	return s.answer(c, dhcpv6.MessageTypeReply, nil)
}

// extend prolongs leases: RENEW and REBIND (sections 18.3.4 and 18.3.5).
func (s *Server6) extend(c *call6) Outcome {
	if out := s.ready(c); out != Pending {
		return out
	}
	for i := range c.m.ias {
		r := s.prolong(c, &c.m.ias[i])
		if r.b != nil {
			s.bind(c, r.b)
		}
		c.ias = append(c.ias, r)
	}
	return s.answer(c, dhcpv6.MessageTypeReply, nil)
}

// prolong gives a client its address again, if it may still have it.
func (s *Server6) prolong(c *call6, a *ia) iaReply {
	if a.code == dhcpv6.OptionIATA {
		return iaReply{ia: a, status: iana.StatusNoBinding, text: noTemporary}
	}
	key := c.keyOf(a)
	if b := s.clients[string(key)]; b != nil {
		want := c.reservedFor(a.code)
		moved := want.IsValid() && want != b.prefix && s.free(want)
		if !moved && s.allowed(b.prefix, c.h) && s.takeable(c, key, b.prefix) && (b.state == StateBound || !s.portFull(c)) {
			c.claim(b.prefix)
			return iaReply{ia: a, b: s.hold(c, key, b.prefix), gone: others(a.items, b.prefix)}
		}
		// The configuration gave the client another address, or this one to
		// somebody else, or it ended and was given away. Told so, the client stops
		// using it at once.
		r := s.assign(c, a)
		if r.b == nil && b.state == StateBound && s.current(b) && !s.allowed(b.prefix, c.h) {
			s.end(c, b)
		}
		return r
	}
	// Nothing is recorded of the client. What it says to have it may have all the
	// same where it is free, as long as no other server is asked, too: RENEW names
	// this one, and RapidCommit says that there is no other. So is its reservation
	// as good as a record.
	own := c.m.typ == dhcpv6.MessageTypeRenew || s.cfg.RapidCommit
	want := c.reservedFor(a.code)
	switch {
	case own && !s.portFull(c):
		for _, p := range a.items {
			if s.available(c, key, p) && (!want.IsValid() || want == p) {
				c.claim(p)
				return iaReply{ia: a, b: s.hold(c, key, p), gone: others(a.items, p)}
			}
		}
	case slices.Contains(a.items, want) && s.available(c, key, want):
		c.claim(want)
		return iaReply{ia: a, b: s.hold(c, key, want), gone: others(a.items, want)}
	}
	foreign := a.code == dhcpv6.OptionIANA && len(a.items) > 0 && !slices.ContainsFunc(a.items, s.onLink)
	switch {
	case own && (len(a.items) == 0 || foreign):
		return s.assign(c, a)
	case foreign:
		return iaReply{ia: a, gone: a.items}
	}
	return iaReply{ia: a, status: iana.StatusNoBinding, text: "no such lease"}
}

// others are the items besides p.
func others(items []netip.Prefix, p netip.Prefix) (out []netip.Prefix) {
	for _, o := range items {
		if o != p && o.Addr() != netip.IPv6Unspecified() {
			out = append(out, o)
		}
	}
	return out
}

const noTemporary = "no temporary addresses here"

// assign chooses what an identity association gets and holds it. What the
// client has besides it must no longer use.
func (s *Server6) assign(c *call6, a *ia) iaReply {
	r := iaReply{ia: a, status: iana.StatusNoAddrsAvail, text: "no address left"}
	switch a.code {
	case dhcpv6.OptionIATA:
		r.text = noTemporary
		return r
	case dhcpv6.OptionIAPD:
		r.status, r.text = iana.StatusNoPrefixAvail, "no prefix left"
	}
	key := c.keyOf(a)
	lasting := c.m.typ != dhcpv6.MessageTypeSolicit && c.m.typ != dhcpv6.MessageTypeRequest
	if lasting {
		r.gone = others(a.items, netip.Prefix{})
	}
	if s.offers[string(key)] == nil && !s.bound(key) && s.portFull(c) {
		r.text = "the port has all the leases that it may"
		c.bad = PortFull
		return r
	}
	p, ok := s.choose(c, a, key)
	if !ok {
		c.bad = NoLease
		return r
	}
	c.claim(p)
	r.b, r.status, r.text = s.hold(c, key, p), iana.StatusSuccess, ""
	if lasting {
		r.gone = others(a.items, p)
	}
	return r
}

// bound says that a client has a lease.
func (s *Server6) bound(key []byte) bool {
	b := s.clients[string(key)]
	return b != nil && b.state == StateBound
}

// choose picks what a client gets: its reservation, what it was just offered,
// what it has or had, what it asks for, one never used, the one unused for
// longest.
func (s *Server6) choose(c *call6, a *ia, key []byte) (netip.Prefix, bool) {
	if p := c.reservedFor(a.code); p.IsValid() {
		if s.takeable(c, key, p) {
			return p, true
		}
		if b := s.all[p]; b != nil {
			s.event(EventBlocked, b, "reserved for "+c.h.who())
		}
	}
	if b := s.offers[string(key)]; b != nil && s.available(c, key, b.prefix) {
		return b.prefix, true
	}
	if b := s.clients[string(key)]; b != nil && s.available(c, key, b.prefix) {
		return b.prefix, true
	}
	// What another client is remembered for is not given away for the asking
	// while there is something that nobody had.
	for _, p := range a.items {
		if pool := s.poolOf(p); s.available(c, key, p) && (s.all[p] == nil || pool == nil || pool.full()) {
			return p, true
		}
	}
	pools := s.poolsFor(a)
	for _, pool := range pools {
		p, ok := pool.pick(key, func(p netip.Prefix) bool {
			return s.all[p] == nil && s.hosts.at[p] == nil && !s.isSpecial(p) && !s.strays.clash(p)
		}, s.strays.n > 0)
		if ok {
			pool.exhausted = false
			return p, true
		}
	}
	for _, pool := range pools {
		for e := pool.unused.Front(); e != nil; e = e.Next() {
			if p := e.Value.(*binding6).prefix; s.available(c, key, p) {
				return p, true
			}
		}
	}
	for _, pool := range pools {
		if !pool.exhausted {
			pool.exhausted = true
			s.log.Warn("no address or prefix left", "pool", pool.name)
			s.event(EventExhausted, nil, pool.name)
		}
	}
	return netip.Prefix{}, false
}

// kindOf is the kind of identity association that a lease is for.
func kindOf(p netip.Prefix) dhcpv6.OptionCode {
	if p.Bits() == 128 {
		return dhcpv6.OptionIANA
	}
	return dhcpv6.OptionIAPD
}

// poolsFor are the pools to choose from, the best first: of delegations those of
// the length that the client asks for, then those with more than that, then those
// with less, in each case the nearest (RFC 8168 section 3.2).
func (s *Server6) poolsFor(a *ia) (out []*pool6) {
	for _, p := range s.pools {
		if (p.bits == 128) == (a.code == dhcpv6.OptionIANA) {
			out = append(out, p)
		}
	}
	if a.code == dhcpv6.OptionIANA || len(a.items) == 0 {
		return out
	}
	want := a.items[0].Bits()
	distance := func(p *pool6) int {
		if p.bits <= want {
			return want - p.bits
		}
		return 128 + p.bits - want
	}
	slices.SortStableFunc(out, func(a, b *pool6) int { return cmp.Compare(distance(a), distance(b)) })
	return out
}

func (s *Server6) onLink(p netip.Prefix) bool  { return s.cfg.Subnet.Contains(p.Addr()) }
func (s *Server6) offLink(p netip.Prefix) bool { return !s.onLink(p) }

// allowed says that the configuration lets this client have this address or
// prefix.
func (s *Server6) allowed(p netip.Prefix, h *host6) bool {
	if r := s.hosts.at[p]; r != nil {
		return r == h
	}
	return s.poolOf(p) != nil && !s.isSpecial(p)
}

// available says that the client may have the address and can have it now.
func (s *Server6) available(c *call6, key []byte, p netip.Prefix) bool {
	return kindOf(p) == dhcpv6.OptionCode(key[0]) && s.allowed(p, c.h) && s.takeable(c, key, p)
}

// takeable says that no other client has the address now. A client may take it
// over from another identity of its own: both are who the reservation names.
// The caller has checked that the client is allowed the address.
func (s *Server6) takeable(c *call6, key []byte, p netip.Prefix) bool {
	if c.claimed(p) || s.strays.clash(p) {
		return false
	}
	b := s.all[p]
	if b == nil || b.state == StateFree || b.key == string(key) && b.state != StateDeclined {
		return true
	}
	h := s.hosts.at[p]
	return h != nil && b.state != StateDeclined && h.shares(b, c)
}

// free says that nobody has the address at all.
func (s *Server6) free(p netip.Prefix) bool {
	b := s.all[p]
	return (b == nil || b.state == StateFree) && !s.strays.clash(p)
}

// reservedFor is what the client's reservation keeps for an identity association
// of this kind, unless one of the same message has it already.
func (c *call6) reservedFor(code dhcpv6.OptionCode) (p netip.Prefix) {
	if c.h == nil {
		return p
	}
	if p = c.h.addr; code == dhcpv6.OptionIAPD {
		p = c.h.pd
	}
	if p.IsValid() && c.claimed(p) {
		return netip.Prefix{}
	}
	return p
}

// claim notes that an identity association of this message has p.
func (c *call6) claim(p netip.Prefix) { c.taken = append(c.taken, p) }

func (c *call6) claimed(p netip.Prefix) bool { return slices.Contains(c.taken, p) }

// keyOf is the key of an identity association, valid until the next one's.
func (c *call6) keyOf(a *ia) []byte { return appendKey6(c.key[:0], a.code, a.id, c.m.clientID) }

// confirm says whether the client's addresses are of this link (section 18.3.3).
func (s *Server6) confirm(c *call6) Outcome {
	any, all := false, true
	for i := range c.m.ias {
		if a := &c.m.ias[i]; a.code != dhcpv6.OptionIAPD {
			any = any || len(a.items) > 0
			all = all && !slices.ContainsFunc(a.items, s.offLink)
		}
	}
	switch {
	case !any:
		return IgnoredAddress
	case !all:
		s.refused(c, "not of this link")
		return s.answer(c, dhcpv6.MessageTypeReply, &status6{code: iana.StatusNotOnLink, text: "an address is not of this link"})
	}
	return s.answer(c, dhcpv6.MessageTypeReply, &status6{text: "all addresses are of this link"})
}

// refused tells that a client was told not to use what it has.
func (s *Server6) refused(c *call6, why string) {
	if s.svc.cfg.Events == nil {
		return
	}
	l := Lease{ClientID: string(c.m.clientID), Port: c.req.Port, VTEP: c.req.VTEP}
	if len(c.hw) > 0 {
		l.HType, l.CHAddr = htypeEthernet, string(c.hw[0][:])
	}
	for i := range c.m.ias {
		if a := &c.m.ias[i]; len(a.items) > 0 && !l.IP.IsValid() {
			l.IP, l.IAID = a.items[0].Addr(), a.id
		}
	}
	s.event(EventRefused, nil, why)
	s.events[len(s.events)-1].Lease = l
}

// release: the client gives leases back (section 18.3.7).
func (s *Server6) release(c *call6) Outcome {
	return s.giveUp(c, func(b *binding6) bool {
		if b.state != StateBound {
			return false
		}
		s.end(c, b)
		return true
	})
}

// decline: the client found addresses in use by somebody else (section 18.3.8).
func (s *Server6) decline(c *call6) Outcome {
	return s.giveUp(c, func(b *binding6) bool {
		if b.prefix.Bits() < 128 || b.state != StateBound && b.state != StateOffered {
			return false
		}
		if s.offers[b.key] == b {
			delete(s.offers, b.key)
		}
		if s.clients[b.key] == b {
			delete(s.clients, b.key)
		}
		b.state, b.start, b.expires = StateDeclined, c.now, c.now+s.cfg.DeclineHold
		s.expiry.set(b)
		s.arm()
		s.settle(b)
		c.change(s, b, Change{Segment: s.segment, Lease: s.leaseOf(b)})
		log := s.log.With("ip", b.prefix.Addr(), "client", hexString([]byte(duidOf(b.key))), "for", s.cfg.DeclineHold)
		if h := s.hosts.at[b.prefix]; h != nil {
			log.Error("a reserved address is in use by somebody else")
			s.event(EventAlarm, b, "reserved for "+h.who())
		} else {
			log.Warn("an address is in use by somebody else")
			s.event(EventDeclined, b, "")
		}
		return true
	})
}

// giveUp lets each lease that a message is about, and its client has, be given
// up. An identity association that has none is told so; the rest is success.
func (s *Server6) giveUp(c *call6, up func(b *binding6) bool) Outcome {
	if out := s.svc.room(); out != Pending {
		return out
	}
	for i := range c.m.ias {
		a := &c.m.ias[i]
		key := c.keyOf(a)
		known := s.bound(key)
		for _, p := range a.items {
			if b := s.all[p]; b != nil && b.key == string(key) && up(b) {
				known = true
			}
		}
		if !known {
			c.ias = append(c.ias, iaReply{ia: a, status: iana.StatusNoBinding, text: "no such lease"})
		}
	}
	return s.answer(c, dhcpv6.MessageTypeReply, &status6{text: "done"})
}

// end takes a lease back before its time; the client stays remembered.
func (s *Server6) end(c *call6, b *binding6) {
	s.expiry.remove(b)
	b.state, b.expires = StateFree, s.svc.elapsed()
	s.event(EventReleased, b, "")
	ch := Change{Segment: s.segment, Lease: s.leaseOf(b)}
	if c != nil {
		c.change(s, b, ch)
	} else {
		s.queue(b, ch)
	}
	s.settle(b)
}

// ready says that leases can be given: Pending. The same request again, while its
// leases are on the way to the disk, needs no other answer.
func (s *Server6) ready(c *call6) Outcome {
	again := false
	for i := range c.m.ias {
		a := &c.m.ias[i]
		if a.code == dhcpv6.OptionIATA {
			continue
		}
		b := s.clients[string(c.keyOf(a))]
		if b == nil || b.awaited == 0 || b.xid != c.m.xid || b.state != StateBound {
			again = false
			break
		}
		again = true
	}
	if again {
		return Duplicate
	}
	return s.svc.room()
}

// bind makes the lease the client's; the REPLY leaves when it is durable.
func (s *Server6) bind(c *call6, b *binding6) {
	p := part6{bound: true, key: b.key, kind: EventBound}
	if b.stored && b.durable == StateBound && b.durableUntil > c.now {
		p.kind = EventRenewed
	}
	// A client that moves has its former address until the new one is durable,
	// both in one transaction.
	b.supersede(s.clients[b.key])
	p.old, p.oldSeq = b.former, b.formerSeq
	if s.offers[b.key] == b {
		delete(s.offers, b.key)
	}
	b.state, b.xid = StateBound, c.m.xid
	b.start, b.expires = c.now, c.now+s.cfg.Lease
	s.clients[b.key] = b
	s.seen(c, b)
	s.expiry.set(b)
	s.arm()
	s.settle(b)
	b.awaited++
	c.add(s, p, b, Change{Segment: s.segment, Lease: s.leaseOf(b)})
}

// status6 is what a whole message is answered.
type status6 struct {
	code iana.StatusCode
	text string
}

const (
	portServer6 = 547
	portClient6 = 546
)

// answer builds the reply, says where it goes (RFC 8415 sections 18.3.10 and
// 19.3), and hands it to the commit loop if it is to wait for the disk.
func (s *Server6) answer(c *call6, typ dhcpv6.MessageType, st *status6) Outcome {
	m := c.m
	w := make(writer6, 0, maxReply6)
	ends := w.wrap(m.relays)
	w = append(w, byte(typ), m.xid[0], m.xid[1], m.xid[2])
	w.option(dhcpv6.OptionServerID, s.duid)
	if m.clientID != nil {
		w.option(dhcpv6.OptionClientID, m.clientID)
	}
	if st != nil {
		w.status(st.code, st.text)
	}
	if m.typ == dhcpv6.MessageTypeSolicit && typ == dhcpv6.MessageTypeReply {
		w.option(dhcpv6.OptionRapidCommit, nil)
	}
	given, refused := 0, 0
	for i := range c.ias {
		w.ia(&c.ias[i], &s.times)
		if c.ias[i].b != nil {
			given++
		} else {
			refused++
		}
	}
	if st == nil {
		s.configure(c, &w)
	}
	for i := len(ends) - 1; i >= 0; i-- {
		w.end(ends[i])
	}
	s.out[typ]++
	c.out = Reply{Payload: w, Dst: c.req.Src, DstPort: portClient6, DstMAC: c.req.SrcMAC}
	if len(m.relays) > 0 {
		c.out.DstPort = portServer6
	}
	switch {
	case len(c.parts) > 0:
		s.push(c)
		return Pending
	case given == 0 && refused > 0 && c.bad != Answered:
		return c.bad
	}
	return Answered
}

// configure writes the options that the client asked for, as far as they fit:
// those of its reservation before those of the segment.
func (s *Server6) configure(c *call6, w *writer6) {
	put := func(o Option6) {
		if c.m.wants(dhcpv6.OptionCode(o.Code)) && len(*w)+4+len(o.Data) <= maxReply6 {
			w.option(dhcpv6.OptionCode(o.Code), o.Data)
		}
	}
	var own []Option6
	hostname := ""
	if c.h != nil {
		own, hostname = c.h.Options, c.h.Hostname
	}
	for _, o := range own {
		put(o)
	}
	for _, o := range s.opts {
		if !slices.ContainsFunc(own, func(h Option6) bool { return h.Code == o.Code }) {
			put(o)
		}
	}
	if c.m.fqdn != nil && c.m.asked != nil && c.m.wants(dhcpv6.OptionFQDN) && len(*w)+300 <= maxReply6 {
		domain := ""
		if len(s.cfg.Search) > 0 {
			domain = s.cfg.Search[0]
		}
		w.fqdn(c.m.fqdn, hostname, domain)
	}
}
