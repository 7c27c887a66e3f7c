package dhcpd

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
)

// Reconfigure puts another configuration in force, all of it or, on an error,
// nothing. Leases are kept; a client whose address the new configuration does
// not let it have is refused when it renews, at the latest its lease ends.
func (s *Server) Reconfigure(cfg SegmentConfig) error {
	s.mu.Lock()
	defer s.unlock()
	s.expire(s.svc.elapsed())
	return s.apply(cfg)
}

// Leases are the addresses that a client has, was offered or declined, and the
// reservations whose client does not hold its address now, by address: one that
// is reserved for another client than its holder is there twice, the holder first.
func (s *Server) Leases() []Lease {
	s.mu.Lock()
	defer s.unlock()
	s.expire(s.svc.elapsed())
	var out []Lease
	for _, n := range append(slices.Clone(s.nets), s.stray) {
		for _, b := range n.byIP {
			if b.state != StateFree {
				out = append(out, s.leaseOf(b))
			}
		}
		for ip, h := range n.hostIP {
			if b := n.byIP[ip]; b != nil && b.state != StateFree && h.Names(s.leaseOf(b)) {
				continue
			}
			l := Lease{IP: h.IP, State: StateReserved, ClientID: string(h.ClientID), Hostname: h.Hostname, Port: h.Port}
			if len(h.MAC) > 0 {
				l.HType, l.CHAddr = htypeEthernet, string(h.MAC)
			}
			out = append(out, l)
		}
	}
	slices.SortFunc(out, func(a, b Lease) int { return cmp.Or(a.IP.Compare(b.IP), cmp.Compare(a.State, b.State)) })
	return out
}

// Lookup is the lease of an address; false when nobody has it.
func (s *Server) Lookup(ip netip.Addr) (Lease, bool) {
	s.mu.Lock()
	defer s.unlock()
	s.expire(s.svc.elapsed())
	v := toU32(ip)
	b := s.home(v).byIP[v]
	if b == nil || b.state == StateFree {
		return Lease{}, false
	}
	return s.leaseOf(b), true
}

// Release takes an address back: a lease ends, an offer lapses, a declined
// address is available again. ErrNoLease when nobody has it. The client is not
// told; it is refused when it renews, unless it is given the address anew.
func (s *Server) Release(ip netip.Addr) error {
	s.mu.Lock()
	defer s.unlock()
	s.expire(s.svc.elapsed())
	v := toU32(ip)
	n := s.home(v)
	b := n.byIP[v]
	switch {
	case b == nil || b.state == StateFree:
		return fmt.Errorf("release %s: %w", ip, ErrNoLease)
	case b.state == StateOffered:
		s.lapse(n, b)
		return nil
	case b.state == StateDeclined:
		s.event(EventReleased, b, "")
		s.expiry.remove(b)
		s.queue(b, Change{Segment: s.segment, Delete: true, Lease: Lease{IP: ip}})
		n.forget(b)
		return nil
	}
	s.end(n, b)
	return nil
}

// Reserve adds a reservation to those of the configuration, live: it lasts
// until Unreserve or the end of the process. An address that another client
// holds is given to its new owner once that client's lease ends; Lookup tells.
// Errors are ErrReservation where the reservation is wrong by itself, and
// ErrReserved where the address or the client has another.
func (s *Server) Reserve(r Reservation) error {
	s.mu.Lock()
	defer s.unlock()
	s.expire(s.svc.elapsed())
	h := newHost(r)
	h.live = true
	alone := s.cfg
	alone.Hosts = []Reservation{r}
	for _, f := range alone.Validate() {
		return refusef(ErrReservation, "reserve %s for %s: %s", r.IP, h.who(), f.Msg)
	}
	if o := rivalOf(s.nets, h); o != nil {
		return refusef(ErrReserved, "reserve %s for %s: %s is reserved for %s already", r.IP, h.who(), o.IP, o.who())
	}
	s.live = append(s.live, r)
	addReservation(s.nets, h)
	if n := s.netOf(h.ip); n != nil {
		n.settle(h.ip)
	}
	return nil
}

// Unreserve removes the reservation of an address that Reserve made, also one
// that has given way. The client keeps the lease that it has until it ends.
// Errors are ErrNoLease when the address is not reserved, and ErrConfigured when
// the configuration does it.
func (s *Server) Unreserve(ip netip.Addr) error {
	s.mu.Lock()
	defer s.unlock()
	s.expire(s.svc.elapsed())
	v := toU32(ip)
	n := s.netOf(v)
	if n != nil && n.hostIP[v] != nil && !n.hostIP[v].live {
		return refusef(ErrConfigured, "%s is reserved for %s by the configuration", ip, n.hostIP[v].who())
	}
	others := slices.DeleteFunc(slices.Clone(s.live), func(r Reservation) bool { return r.IP == ip })
	if len(others) == len(s.live) {
		return fmt.Errorf("unreserve %s: %w", ip, ErrNoLease)
	}
	s.live = others
	return s.apply(s.cfg)
}
