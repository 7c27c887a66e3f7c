package dhcpd

import (
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
	if c.commits = rapid; rapid {
		if out := s.ready(c); out != Pending {
			return out
		}
	}
	for i := range c.m.ias {
		r := s.assign(c, &c.m.ias[i])
		if rapid && r.b != nil {
			s.bind(c, &r)
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
	c.commits = true
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
			s.bind(c, &r)
		}
		c.ias = append(c.ias, r)
	}
	return s.answer(c, dhcpv6.MessageTypeReply, nil)
}

// extend prolongs leases: RENEW and REBIND (sections 18.3.4 and 18.3.5).
func (s *Server6) extend(c *call6) Outcome {
	c.commits = true
	if out := s.ready(c); out != Pending {
		return out
	}
	for i := range c.m.ias {
		r := s.prolong(c, &c.m.ias[i])
		if r.b != nil {
			s.bind(c, &r)
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
		return s.assign(c, a)
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
		s.tally.become(b, StateDeclined)
		b.start, b.expires = c.now, c.now+s.cfg.DeclineHold
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
	s.tally.become(b, StateFree)
	b.expires = s.svc.elapsed()
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

// bind makes the lease the client's; the REPLY leaves when it is durable. What the
// client had before stays its own until it shows that it knows of the new one, or
// until the lease ends: it may not hear this REPLY.
func (s *Server6) bind(c *call6, r *iaReply) {
	b := r.b
	p := part6{bound: true, key: b.key, kind: EventBound}
	if b.stored && b.durable == StateBound && b.durableUntil > c.now {
		p.kind = EventRenewed
	}
	if f := b.former; !s.holds(f, b.key) {
		b.former = nil
	} else if c.knows(r.ia, f) {
		s.end(c, f)
		b.former = nil
	}
	if o := s.clients[b.key]; o != b && s.holds(o, b.key) {
		b.former = o
	}
	if s.offers[b.key] == b {
		delete(s.offers, b.key)
	}
	s.tally.become(b, StateBound)
	b.xid = c.m.xid
	b.start, b.expires = c.now, c.now+s.cfg.Lease
	s.clients[b.key] = b
	s.seen(c, b)
	s.expiry.set(b)
	s.arm()
	s.settle(b)
	b.awaited++
	c.add(s, p, b, Change{Segment: s.segment, Lease: s.leaseOf(b)})
}

// holds says that the client has a lease on the address, be it its present one or
// a former one.
func (s *Server6) holds(b *binding6, key string) bool {
	return b != nil && b.state == StateBound && b.key == key && s.current(b)
}

// knows says that the client no longer believes to have what b is: it asks to
// prolong all that it believes to have.
func (c *call6) knows(a *ia, b *binding6) bool {
	return (c.m.typ == dhcpv6.MessageTypeRenew || c.m.typ == dhcpv6.MessageTypeRebind) && !slices.Contains(a.items, b.prefix)
}
