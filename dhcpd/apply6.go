package dhcpd

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/insomniacslk/dhcp/dhcpv6"
)

// apply puts a configuration in force; the lock is held or the server not yet
// known to anybody. Where it gives out the same as before, the bindings stay as
// they are, whatever their number.
func (s *Server6) apply(cfg SegmentConfig6) error {
	if f := cfg.Validate(); len(f) > 0 {
		return fmt.Errorf("dhcp6 of segment %d: %w", s.segment, f[0])
	}
	cfg = cfg.withDefaults()
	hosts := newHosts6()
	for _, r := range cfg.Hosts {
		hosts.add(newHost6(r))
	}
	// One made live gives way to what the configuration says of its address or
	// its client, and is back once that is gone.
	for _, r := range s.live {
		if h := newHost6(r); cfg.hasRoomFor(r) && hosts.rival(h) == nil {
			h.live = true
			hosts.add(h)
		}
	}
	var pools []*pool6
	for _, r := range cfg.Ranges {
		pools = append(pools, newRangePool(r))
	}
	for _, d := range cfg.Delegations {
		pools = append(pools, newDelegationPool(d))
	}
	same := s.cfg.Subnet == cfg.Subnet && s.cfg.Server == cfg.Server && s.strays.n == 0 &&
		slices.EqualFunc(s.pools, pools, (*pool6).same)
	was := s.hosts.at
	s.cfg, s.duid, s.times, s.hosts = cfg, cfg.ServerDUID(), newLifetimes(&cfg), hosts
	s.opts = segmentOptions(&cfg)
	if !same {
		s.pools = pools
	}
	for _, p := range s.pools {
		p.kept = s.kept(p)
	}
	lengths := map[int]bool{128: true}
	for _, p := range s.pools {
		lengths[p.bits] = true
	}
	for p := range hosts.at {
		lengths[p.Bits()] = true
	}
	var moved []*binding6
	if !same {
		moved = slices.Collect(maps.Values(s.all))
	} else {
		for _, at := range []map[netip.Prefix]*host6{was, hosts.at} {
			for p := range at {
				if b := s.all[p]; b != nil && (was[p] == nil) != (hosts.at[p] == nil) {
					moved = append(moved, b)
				}
			}
		}
	}
	s.strays = newStrays(slices.Sorted(maps.Keys(lengths)))
	s.insertAll(moved)
	return nil
}

// segmentOptions are the options of all clients; one that is given by its code
// comes before the same by its name.
func segmentOptions(c *SegmentConfig6) []Option6 {
	out := slices.Clone(c.Options)
	add := func(code dhcpv6.OptionCode, data []byte) {
		given := slices.ContainsFunc(out, func(o Option6) bool { return o.Code == uint16(code) })
		if len(data) > 0 && !given {
			out = append(out, Option6{Code: uint16(code), Data: data})
		}
	}
	var dns []byte
	for _, a := range c.DNS {
		dns = append(dns, a.AsSlice()...)
	}
	add(dhcpv6.OptionDNSRecursiveNameServer, dns)
	add(dhcpv6.OptionDomainSearchList, domainNames(c.Search))
	return out
}

// kept is how many cuts of a pool are not for whoever asks.
func (s *Server6) kept(p *pool6) (n int) {
	for q := range s.hosts.at {
		if p.holds(q) {
			n++
		}
	}
	for _, a := range s.special() {
		if p.holds(address6(a)) {
			n++
		}
	}
	return n
}

// special are the addresses of the subnet that no client may have: the server's
// own and the subnet-router anycast address (RFC 4291 section 2.6.1).
func (s *Server6) special() [2]netip.Addr {
	return [2]netip.Addr{s.cfg.Server, s.cfg.Subnet.Addr()}
}

func (s *Server6) isSpecial(p netip.Prefix) bool {
	for _, a := range s.special() {
		if p == address6(a) {
			return true
		}
	}
	return false
}

// poolOf is the pool that a prefix is a cut of, nil if there is none.
func (s *Server6) poolOf(p netip.Prefix) *pool6 {
	for _, pool := range s.pools {
		if pool.holds(p) {
			return pool
		}
	}
	return nil
}

// insertAll inserts many bindings, those that ended first in front, so that the
// longest unused address is the next to be given out.
func (s *Server6) insertAll(bs []*binding6) {
	slices.SortFunc(bs, func(a, b *binding6) int {
		return cmp.Or(cmp.Compare(a.expires, b.expires), a.prefix.Addr().Compare(b.prefix.Addr()))
	})
	for _, b := range bs {
		s.insert(b)
	}
}

// insert puts a binding where the configuration now wants it.
func (s *Server6) insert(b *binding6) {
	if p := b.pool; p != nil {
		if b.unused != nil {
			p.unused.Remove(b.unused)
		}
		p.held--
	}
	b.pool, b.unused, b.stray = nil, nil, false
	s.all[b.prefix] = b
	s.join(b)
	switch b.state {
	case StateOffered, StateDeclined:
	default:
		// One client has one lease; should there be two, the one that it was given
		// last counts, else the one that ended last.
		o := s.clients[b.key]
		switch {
		case o == nil, b.state == StateBound && (o.state == StateFree || b.start > o.start),
			b.state == StateFree && o.state == StateFree && b.expires > o.expires:
			s.clients[b.key] = b
		}
	}
	if b.pool == nil && s.hosts.at[b.prefix] == nil && b.state != StateFree {
		b.stray = true
		s.strays.mark(b.prefix, 1)
	}
	s.settle(b)
}
