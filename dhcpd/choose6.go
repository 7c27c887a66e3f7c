package dhcpd

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"
)

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
	// What the client asks to prolong, and what it has by our record, it keeps
	// unless the reply says otherwise (section 18.2.10.1).
	var has []netip.Prefix
	if c.m.typ == dhcpv6.MessageTypeRenew || c.m.typ == dhcpv6.MessageTypeRebind {
		has = others(a.items, netip.Prefix{})
	}
	held := s.clients[string(key)]
	if held != nil && (held.state != StateBound || !c.commits) {
		held = nil
	}
	if held != nil && !slices.Contains(has, held.prefix) {
		has = append(has, held.prefix)
	}
	if held == nil && s.offers[string(key)] == nil && !s.bound(key) && s.portFull(c) {
		r.text, r.gone = "the port has all the leases that it may", has
		c.bad = PortFull
		return r
	}
	p, ok := s.choose(c, a, key)
	if !ok {
		c.bad = NoLease
		switch {
		case held == nil:
			r.gone = has
		case s.allowed(held.prefix, c.h):
			r.gone = others(has, held.prefix)
		default:
			// The client may not hear that it must give it up.
			if r.gone = has; c.knows(a, held) {
				s.end(c, held)
			}
		}
		return r
	}
	if pool := s.poolOf(p); pool != nil {
		pool.exhausted = false
	}
	c.claim(p)
	r.b, r.status, r.text, r.gone = s.hold(c, key, p), iana.StatusSuccess, "", others(has, p)
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
