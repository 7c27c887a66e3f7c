package dhcpd

// Commit is one turn of the commit loop, for tests that decide themselves when
// the disk is written; Run must not be running.
func (s *Service) Commit() { s.commit() }
