package dhcpd

import "net/netip"

// Server6 is the DHCPv6 service of one segment. Its methods may be called from
// any goroutine; none waits for the disk.
type Server6 struct{}

// Add6 starts serving a segment by DHCPv6 and loads its leases.
func (s *Service) Add6(segment uint32, cfg SegmentConfig6) (*Server6, error) { return &Server6{}, nil }

// Remove6 stops serving a segment. Its leases stay in the store.
func (s *Service) Remove6(segment uint32) error { return nil }

// Server6 is the DHCPv6 service of one segment, nil if it has none.
func (s *Service) Server6(segment uint32) *Server6 { return nil }

// Serve takes one request, as Server.Serve does.
func (s *Server6) Serve(req *Request, reply func(Reply)) Outcome { return Stopped }

// Reconfigure puts another configuration in force, all of it or nothing.
func (s *Server6) Reconfigure(cfg SegmentConfig6) error { return nil }

// Leases are the addresses and prefixes that a client has, was advertised or
// declined, and the reservations that nobody holds now.
func (s *Server6) Leases() []Lease { return nil }

// Lookup is the lease of an address or of the prefix that begins with it.
func (s *Server6) Lookup(ip netip.Addr) (Lease, bool) { return Lease{}, false }

// Release takes an address or a prefix back.
func (s *Server6) Release(ip netip.Addr) error { return ErrNoLease }

// Reserve adds a reservation, live.
func (s *Server6) Reserve(r Reservation6) error { return nil }

// Unreserve removes a reservation that Reserve made.
func (s *Server6) Unreserve(ip netip.Addr) error { return ErrNoLease }

// Stats is a snapshot.
func (s *Server6) Stats() Stats { return Stats{} }

// Validate says all that is wrong with a configuration.
func (c SegmentConfig6) Validate() []Fault { return nil }

// all6 is every server of DHCPv6, by segment.
func (s *Service) all6() []*Server6 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bySegment(s.servers6)
}

func (s *Server6) close(removed bool) {}
