package dhcpd

import (
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
)

// current says that a binding is still the address's.
func (s *Server6) current(b *binding6) bool { return s.all[b.prefix] == b }

// runOut ends a lease or an offer, or the time for which an address is left alone.
func (s *Server6) runOut(b *binding6) {
	switch b.state {
	case StateOffered:
		s.lapse(b)
	case StateBound:
		s.event(EventExpired, b, "")
		s.tally.become(b, StateFree)
		s.settle(b)
	case StateDeclined:
		s.discard(b)
	}
}

// lapse ends an offer. Its client is still remembered if it once had the lease.
func (s *Server6) lapse(b *binding6) {
	s.expiry.remove(b)
	if s.offers[b.key] == b {
		delete(s.offers, b.key)
	}
	if s.clients[b.key] == b {
		s.tally.become(b, StateFree)
		s.settle(b)
		return
	}
	s.forget(b)
}

// settle puts a binding where its state says it belongs. Whoever changes the
// state calls it.
func (s *Server6) settle(b *binding6) {
	if b.offer != nil && b.state != StateOffered {
		s.offered.Remove(b.offer)
		b.offer = nil
	}
	if b.unused != nil && (b.state != StateFree || b.pool == nil) {
		b.pool.unused.Remove(b.unused)
		b.unused = nil
	}
	switch {
	case b.state != StateFree:
	case b.pool != nil:
		if b.unused == nil {
			b.unused = b.pool.unused.PushBack(b)
			s.remember(b.pool)
		}
	case s.hosts.at[b.prefix] == nil:
		s.forget(b) // nobody can get it any more, so there is nothing to remember
	}
	if b.pool != nil {
		s.watchPool(b.pool)
	}
}

// MaxUnused is how many ended leases a pool remembers. A pool may be too large
// ever to run out, and clients that were here once are many; one that is
// forgotten gets the same address again, from the hash, as a rule.
const MaxUnused = 16384

// remember forgets the longest unused of a pool's ended leases beyond MaxUnused.
func (s *Server6) remember(p *pool6) {
	for p.unused.Len() > MaxUnused {
		s.discard(p.unused.Front().Value.(*binding6))
	}
}

// discard forgets a binding for good: nobody may ever have the address again, so
// what the store has of it would stay there.
func (s *Server6) discard(b *binding6) {
	s.queue(b, Change{Segment: s.segment, Delete: true, Lease: s.leaseOf(b)})
	s.forget(b)
}

// forget removes a binding altogether.
func (s *Server6) forget(b *binding6) {
	s.expiry.remove(b)
	if s.clients[b.key] == b {
		delete(s.clients, b.key)
	}
	if s.offers[b.key] == b {
		delete(s.offers, b.key)
	}
	if !s.current(b) {
		return
	}
	delete(s.all, b.prefix)
	s.tally.remove(b)
	b.state = StateFree
	if b.offer != nil {
		s.offered.Remove(b.offer)
		b.offer = nil
	}
	if b.unused != nil {
		b.pool.unused.Remove(b.unused)
		b.unused = nil
	}
	if b.pool != nil {
		p := b.pool
		p.held--
		b.pool = nil
		s.watchPool(p)
	}
	if b.stray {
		s.strays.mark(b.prefix, -1)
		b.stray = false
	}
}

// portFull says that the client, which has no lease, may not have one: those of
// its port are all that the port may have.
func (s *Server6) portFull(c *call6) bool { return s.core.portFull(c.req.Port, c.req.MaxLeases) }

// watchPool tells that nearly all of a pool is in use, where it is one that can
// be.
func (s *Server6) watchPool(p *pool6) {
	if in, of := p.level(); of <= highFrom {
		s.watch(&p.fill, p, in, of)
	}
}

// hold makes the address the client's for as long as an offer is held; the
// caller has checked that the client may have it. A lease that the client has
// on it already stays what it is.
func (s *Server6) hold(c *call6, key []byte, p netip.Prefix) *binding6 {
	b := s.all[p]
	if b != nil && b.key != string(key) {
		if b.state == StateFree {
			s.forget(b)
			b = nil
		} else {
			s.rekey(b, string(key)) // the same client under another identity
		}
	}
	if b == nil {
		b = &binding6{prefix: p, tenure: tenure{key: string(key)}}
		s.all[p] = b
		s.tally.add(b)
		s.join(b)
	}
	if b.state != StateBound {
		s.seen(c, b)
		s.offer(b, c.now)
		return b
	}
	s.withdraw(b)
	return b
}

// join tells a binding which pool it takes an address of.
func (s *Server6) join(b *binding6) {
	if p := s.poolOf(b.prefix); p != nil && s.hosts.at[b.prefix] == nil {
		b.pool = p
		p.held++
	}
}

// withdraw lapses the offer that the client of b has besides b: a client is
// offered one address at a time.
func (s *Server6) withdraw(b *binding6) {
	if old := s.offers[b.key]; old != nil && old != b {
		s.lapse(old)
	}
}

// offer puts a binding at the end of the queue of offers.
func (s *Server6) offer(b *binding6, now time.Duration) {
	s.withdraw(b)
	s.tally.become(b, StateOffered)
	b.expires = now + s.cfg.OfferHold
	s.offers[b.key] = b
	if b.offer == nil {
		b.offer = s.offered.PushBack(b)
	} else {
		s.offered.MoveToBack(b.offer)
	}
	s.expiry.set(b)
	s.arm()
	s.settle(b)
	if s.offered.Len() > s.cfg.MaxOffers {
		s.lapse(s.offered.Front().Value.(*binding6))
	}
}

// rekey gives a binding another owner, both being who one reservation names.
// What the new owner had before is given up as when a client moves.
func (s *Server6) rekey(b *binding6, key string) {
	if o := s.offers[key]; o != nil {
		s.lapse(o)
	}
	if s.clients[b.key] == b {
		delete(s.clients, b.key)
		if o := s.clients[key]; s.holds(o, key) {
			b.former = o
		}
		s.clients[key] = b
	}
	if s.offers[b.key] == b {
		delete(s.offers, b.key)
		s.offers[key] = b
	}
	b.key = key
}

// seen notes what a client says of itself and where it is.
func (s *Server6) seen(c *call6, b *binding6) {
	if len(c.hw) > 0 && b.chaddr != string(c.hw[0][:]) {
		b.chaddr = string(c.hw[0][:])
	}
	reserved := ""
	if c.h != nil {
		reserved = c.h.Hostname
	}
	b.call(reserved, c.m.hostname())
	var relay []byte
	if n := len(c.m.relays); n > 0 {
		relay = findOption(c.m.relays[n-1].options, dhcpv6.OptionInterfaceID)
	}
	if b.relay != string(relay) {
		b.relay = string(relay)
	}
	s.tally.stay(b, c.req.Port, c.req.VTEP)
}

// leaseOf is a binding as others see it.
func (s *Server6) leaseOf(b *binding6) Lease {
	l := Lease{IP: b.prefix.Addr(), ClientID: duidOf(b.key), IAID: iaidOf(b.key)}
	b.fill(&l, s.svc.zero())
	if b.prefix.Bits() < 128 {
		l.PrefixLen = uint8(b.prefix.Bits())
	}
	if b.chaddr != "" {
		l.HType = htypeEthernet
	}
	return l
}
