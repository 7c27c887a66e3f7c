package dhcpd

import "time"

// Commit is one turn of the commit loop, for tests that decide themselves when
// the disk is written; Run must not be running.
func (s *Service) Commit() { s.commit() }

// Probed is one turn of the timer that lets offers go whose address was probed.
func (s *Server) Probed() { s.probed() }

// Probing is how many offers wait, dead ones included, and how many live.
func (s *Server) Probing() (queued, held int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.probes.queue), len(s.probes.of)
}

// ByHand leaves it to Probed to let offers go; nothing goes by itself.
func (s *Service) ByHand() {
	s.after = func(_ time.Duration, f func()) *time.Timer {
		t := time.AfterFunc(time.Hour, f)
		t.Stop()
		return t
	}
}

// Ports is how many ports are counted.
func (s *Server) Ports() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.tally.ports)
}
