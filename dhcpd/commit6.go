package dhcpd

import "time"

// job6 is a change of several bindings on its way to the disk: one message may
// be about many, and its one reply waits for all.
type job6 struct {
	server *Server6
	parts  []part6
}

// part6 is the change of one of them; its fields are those of job.
type part6 struct {
	b      *binding6
	seq    uint64
	change Change
	bound  bool
	key    string
	kind   EventKind

	start, until time.Duration
}

func (j *job6) appendChanges(to []Change) []Change {
	for i := range j.parts {
		to = append(to, j.parts[i].change)
	}
	return to
}

// add notes a change that the reply to a message waits for.
func (c *call6) add(s *Server6, p part6, b *binding6, ch Change) {
	s.seq++
	b.seq = s.seq
	p.b, p.seq, p.change, p.start, p.until = b, b.seq, ch, b.start, b.expires
	c.parts = append(c.parts, p)
}

// change notes one that makes no lease.
func (c *call6) change(s *Server6, b *binding6, ch Change) { c.add(s, part6{}, b, ch) }

// push hands the changes of a message and its reply to the commit loop. The lock
// is held, so changes of one segment are queued in the order in which they were
// made.
func (s *Server6) push(c *call6) {
	s.svc.push(job{six: &job6{s, c.parts}, reply: c.out, send: c.reply, at: s.svc.elapsed()})
}

// queue hands over a change that nobody waits for.
func (s *Server6) queue(b *binding6, ch Change) {
	s.seq++
	b.seq = s.seq
	s.pushPart(b, ch)
}

func (s *Server6) pushPart(b *binding6, ch Change) {
	p := part6{b: b, seq: b.seq, change: ch, start: b.start, until: b.expires}
	s.svc.push(job{six: &job6{s, []part6{p}}, at: s.svc.elapsed()})
}

// finish notes what became of the changes and says whether the client is to be
// told, as Server.finish does: only if all that the reply tells still holds.
func (s *Server6) finish(j *job6, err error) (tell bool) {
	s.mu.Lock()
	defer s.unlock()
	tell = !s.removed
	for i := range j.parts {
		p := &j.parts[i]
		b := p.b
		if p.bound {
			b.awaited--
		}
		if err != nil {
			tell = false
			if p.bound && b.seq == p.seq && b.state == StateBound && s.current(b) {
				s.undo(b)
			}
			continue
		}
		b.wrote(p.change.Lease.State, p.start, p.until)
		if p.bound {
			if !s.has(b, p.key) {
				tell = false
			} else if !s.removed {
				s.note(b, true)
			}
		}
	}
	if tell && s.svc.cfg.Events != nil {
		for i := range j.parts {
			if p := &j.parts[i]; p.bound {
				s.events = append(s.events, Event{Time: s.svc.wall(), Segment: s.segment, Kind: p.kind, Lease: p.change.Lease})
			}
		}
	}
	return tell
}

// undo takes back a lease that the disk did not take and that nobody was told
// of, as Server.undo does.
func (s *Server6) undo(b *binding6) {
	if s.revert(b) {
		return
	}
	if s.clients[b.key] == b && !b.stored {
		delete(s.clients, b.key)
	}
	if s.holds(b.former, b.key) {
		s.clients[b.key] = b.former
	}
	b.former = nil
	s.offer(b, s.svc.elapsed())
}

// resend writes a lease as it is.
func (s *Server6) resend(b *binding6) {
	s.pushPart(b, Change{Segment: s.segment, Lease: s.leaseOf(b)})
}

// leaves is never so: a change of an address of DHCPv6 deletes no other.
func (*Server6) leaves(*binding6) bool { return false }
