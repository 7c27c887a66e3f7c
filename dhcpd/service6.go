package dhcpd

import (
	"fmt"
	"math"
	"net/netip"
)

// Add6 starts serving a segment by DHCPv6 and loads its leases.
func (s *Service) Add6(segment uint32, cfg SegmentConfig6) (*Server6, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.servers6[segment] != nil {
		return nil, fmt.Errorf("segment %d: %w", segment, ErrSegmentExists)
	}
	srv := &Server6{
		svc: s, segment: segment, log: s.cfg.Logger.With("vni", segment), hosts: newHosts6(),
		all: map[netip.Prefix]*binding6{}, clients: map[string]*binding6{}, offers: map[string]*binding6{},
		ports: map[string]int{}, crowded: map[string]bool{},
		audience: audience[*binding6]{s.watchers[segment], (*binding6).aboutLease},
	}
	if err := srv.apply(cfg); err != nil {
		return nil, err
	}
	if err := srv.load(); err != nil {
		return nil, fmt.Errorf("segment %d: load leases: %w", segment, err)
	}
	s.servers6[segment] = srv
	return srv, nil
}

// Remove6 stops serving a segment by DHCPv6, as Remove does.
func (s *Service) Remove6(segment uint32) error {
	s.mu.Lock()
	srv := s.servers6[segment]
	delete(s.servers6, segment)
	s.mu.Unlock()
	if srv == nil {
		return fmt.Errorf("segment %d: %w", segment, ErrNoSegment)
	}
	srv.close(true)
	return nil
}

// Server6 is the DHCPv6 service of one segment, nil if it has none.
func (s *Service) Server6(segment uint32) *Server6 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.servers6[segment]
}

// all6 is every server of DHCPv6, by segment.
func (s *Service) all6() []*Server6 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bySegment(s.servers6)
}

// load puts the stored leases in their places, as Server.load does.
func (s *Server6) load() error {
	s.mu.Lock()
	defer s.unlock()
	now, wall := s.svc.elapsed(), s.svc.wall()
	var all []*binding6
	err := s.svc.cfg.Store.Load6(s.segment, func(l Lease) error {
		b := &binding6{
			prefix: l.prefix(), state: l.State, key: l.key6(), chaddr: l.CHAddr,
			hostname: l.Hostname, relay: l.Relay, stored: true,
		}
		left := min(l.Expires.Sub(wall), l.Expires.Sub(l.Start))
		b.expires = now + left
		b.start = b.expires - l.Expires.Sub(l.Start)
		if l.Port != "" {
			b.stay(place{port: l.Port})
		}
		switch {
		case left > 0 && l.State != StateFree:
			s.expiry.set(b)
		case l.State == StateDeclined:
			s.discard(b)
			return nil
		default:
			b.state = StateFree
		}
		b.durable, b.durableStart, b.durableUntil = b.state, b.start, b.expires
		all = append(all, b)
		return nil
	})
	if err != nil {
		return err
	}
	s.insertAll(all)
	for _, b := range s.expiry {
		if b.state == StateBound {
			s.note(b, true)
		}
	}
	s.arm()
	return nil
}

// close stops serving. What is queued is still committed and, unless the server
// was removed, answered.
func (s *Server6) close(removed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed, s.removed = true, removed
	if s.timer != nil {
		s.timer.Stop()
	}
	if removed {
		s.audience.close(s.expiry)
	}
}

// Stats is a snapshot. The pool is addresses and prefixes together; of a range
// too large to count it is the greatest number. It looks at every lease.
func (s *Server6) Stats() Stats {
	s.mu.Lock()
	defer s.unlock()
	s.expire(s.svc.elapsed())
	out := Stats{In: s.in, Out: s.out, Outcomes: s.outcomes, Offered: s.offered.Len(), Reserved: len(s.hosts.at)}
	for _, p := range s.pools {
		in, of := p.level()
		out.Used += in
		if out.Pool += of; out.Pool < 0 {
			out.Pool = math.MaxInt
		}
	}
	for _, b := range s.expiry {
		switch b.state {
		case StateBound:
			out.Bound++
		case StateDeclined:
			out.Declined++
		}
	}
	return out
}
