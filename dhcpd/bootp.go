package dhcpd

// bootp answers a client that speaks BOOTP alone (RFC 951, RFC 1542): it has no
// lease, and keeps its address for as long as it runs. So it gets none but its
// reservation's, which is recorded in the configuration and given to nobody
// else; nothing is stored, and nothing is probed.
func (s *Server) bootp(c *call) Outcome {
	n, h := c.n, c.h
	if h == nil || h.ip == 0 {
		return IgnoredUnknown
	}
	if !n.takeable(h.ip, c) {
		s.event(EventBlocked, n.byIP[h.ip], "reserved for "+h.who())
		return NoLease
	}
	s.answer(c, nil, &what{yiaddr: h.ip, ciaddr: c.m.ciaddr})
	return Answered
}
