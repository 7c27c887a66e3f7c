package dhcpd

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
)

// Reconfigure puts another configuration in force, all of it or, on an error,
// nothing. Leases are kept; a client whose address the new configuration does
// not let it have is given another, or none, when it renews.
func (s *Server6) Reconfigure(cfg SegmentConfig6) error {
	s.mu.Lock()
	defer s.unlock()
	s.expire(s.svc.elapsed())
	return s.apply(cfg)
}

// Leases are the addresses and prefixes that a client has, was advertised or
// declined, and the reservations whose client does not hold its own now, by
// address: one that is reserved for another client than its holder is there
// twice, the holder first.
func (s *Server6) Leases() []Lease {
	s.mu.Lock()
	defer s.unlock()
	s.expire(s.svc.elapsed())
	var out []Lease
	for _, b := range s.all {
		if b.state != StateFree {
			out = append(out, s.leaseOf(b))
		}
	}
	for p, h := range s.hosts.at {
		if b := s.all[p]; b != nil && b.state != StateFree && h.Names(s.leaseOf(b)) {
			continue
		}
		l := Lease{IP: p.Addr(), State: StateReserved, ClientID: string(h.DUID), Hostname: h.Hostname, Port: h.Port}
		if p.Bits() < 128 {
			l.PrefixLen = uint8(p.Bits())
		}
		if len(h.MAC) > 0 {
			l.HType, l.CHAddr = htypeEthernet, string(h.MAC)
		}
		out = append(out, l)
	}
	slices.SortFunc(out, func(a, b Lease) int {
		return cmp.Or(a.IP.Compare(b.IP), cmp.Compare(a.PrefixLen, b.PrefixLen), cmp.Compare(a.State, b.State))
	})
	return out
}

// at is the binding of an address or of the prefix that begins with it, nil when
// nobody has it.
func (s *Server6) at(ip netip.Addr) *binding6 {
	if !ip.Is6() {
		return nil
	}
	lengths := s.strays.lengths
	if s.strays.n > 0 {
		lengths = nil
		for n := range 129 {
			lengths = append(lengths, n)
		}
	}
	for _, n := range slices.Backward(lengths) {
		p := netip.PrefixFrom(ip, n)
		if b := s.all[p]; b != nil && b.state != StateFree {
			return b
		}
	}
	return nil
}

// Lookup is the lease of an address or of the prefix that begins with it; false
// when nobody has it.
func (s *Server6) Lookup(ip netip.Addr) (Lease, bool) {
	s.mu.Lock()
	defer s.unlock()
	s.expire(s.svc.elapsed())
	b := s.at(ip)
	if b == nil {
		return Lease{}, false
	}
	return s.leaseOf(b), true
}

// Release takes an address or a prefix back, as Server.Release does. The client
// is not told before it renews.
func (s *Server6) Release(ip netip.Addr) error {
	s.mu.Lock()
	defer s.unlock()
	s.expire(s.svc.elapsed())
	b := s.at(ip)
	switch {
	case b == nil:
		return fmt.Errorf("release %s: %w", ip, ErrNoLease)
	case b.state == StateOffered:
		s.lapse(b)
	case b.state == StateDeclined:
		s.event(EventReleased, b, "")
		s.discard(b)
	default:
		s.end(nil, b)
	}
	return nil
}

// Reserve adds a reservation to those of the configuration, live, as
// Server.Reserve does.
func (s *Server6) Reserve(r Reservation6) error {
	s.mu.Lock()
	defer s.unlock()
	s.expire(s.svc.elapsed())
	h := newHost6(r)
	alone := s.cfg
	alone.Hosts = []Reservation6{r}
	for _, f := range alone.Validate() {
		return refusef(ErrReservation, "reserve %s for %s: %s", h.what(), h.who(), f.Msg)
	}
	if o := s.hosts.rival(h); o != nil {
		return refusef(ErrReserved, "reserve %s for %s: %s is reserved for %s already", h.what(), h.who(), o.what(), o.who())
	}
	s.live = append(s.live, r)
	return s.apply(s.cfg)
}

// what names what the reservation keeps.
func (h *host6) what() string {
	switch {
	case h.addr.IsValid() && h.pd.IsValid():
		return h.IP.String() + " and " + h.pd.String()
	case h.pd.IsValid():
		return h.pd.String()
	case h.addr.IsValid():
		return h.IP.String()
	}
	return "options"
}

// Unreserve removes the reservation that Reserve made of an address, or of the
// prefix that begins with it, as Server.Unreserve does.
func (s *Server6) Unreserve(ip netip.Addr) error {
	s.mu.Lock()
	defer s.unlock()
	s.expire(s.svc.elapsed())
	for p, h := range s.hosts.at {
		if p.Addr() == ip && !h.live {
			return refusef(ErrConfigured, "%s is reserved for %s by the configuration", ip, h.who())
		}
	}
	others := slices.DeleteFunc(slices.Clone(s.live), func(r Reservation6) bool { return r.IP == ip || r.Prefix.IsValid() && r.Prefix.Addr() == ip })
	if len(others) == len(s.live) {
		return fmt.Errorf("unreserve %s: %w", ip, ErrNoLease)
	}
	s.live = others
	return s.apply(s.cfg)
}
