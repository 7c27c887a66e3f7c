package dhcpd

// job6 is a change of several bindings on its way to the disk: one message may
// be about many, and its one reply waits for all.
type job6 struct {
	server  *Server6
	changes []Change
}

func (j *job6) appendChanges(to []Change) []Change { return append(to, j.changes...) }

// finish notes what became of the changes and says whether the client is to be
// told.
func (s *Server6) finish(j *job6, err error) (tell bool) { return err == nil }

// restamp queues every lease as it is, as Server.restamp does.
func (s *Server6) restamp() {}
