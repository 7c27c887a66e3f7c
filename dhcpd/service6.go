package dhcpd

import (
	"math"
	"net/netip"
)

// Add6 starts serving a segment by DHCPv6 and loads its leases.
func (s *Service) Add6(segment uint32, cfg SegmentConfig6) (*Server6, error) {
	srv := &Server6{hosts: newHosts6(), all: map[netip.Prefix]*binding6{}, clients: map[string]*binding6{}, offers: map[string]*binding6{}}
	return add(s, s.servers6, segment, srv, func() error {
		srv.init(s, segment, srv, " of DHCPv6")
		return srv.apply(cfg)
	})
}

// Remove6 stops serving a segment by DHCPv6, as Remove does.
func (s *Service) Remove6(segment uint32) error { return remove(s, s.servers6, segment) }

// Server6 is the DHCPv6 service of one segment, nil if it has none.
func (s *Service) Server6(segment uint32) *Server6 { return of(s, s.servers6, segment) }

// load puts the stored leases in their places.
func (s *Server6) load() error {
	s.mu.Lock()
	defer s.unlock()
	now, wall := s.svc.elapsed(), s.svc.wall()
	var all []*binding6
	err := s.svc.cfg.Store.Load6(s.segment, func(l Lease) error {
		b := &binding6{prefix: l.prefix(), tenure: tenure{key: l.key6()}}
		if s.restore(b, l, now, wall) {
			all = append(all, b)
		} else {
			s.discard(b)
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.insertAll(all)
	s.restored()
	return nil
}

func (s *Server6) close(removed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.core.close(removed)
}

// Stats is a snapshot. The pool is addresses and prefixes together; of a range
// too large to count it is the greatest number. It costs the same whatever the
// number of leases.
func (s *Server6) Stats() Stats {
	s.mu.Lock()
	defer s.unlock()
	s.expire(s.svc.elapsed())
	out := s.common()
	out.Reserved = len(s.hosts.at)
	for _, p := range s.pools {
		in, of := p.level()
		out.Used += in
		if out.Pool += of; out.Pool < 0 {
			out.Pool = math.MaxInt
		}
	}
	return out
}
