package dhcpd

import (
	"sync"
	"time"
)

// maxQueue is how many answers may wait for the disk. Beyond it clients are
// left to try again, which they do.
const maxQueue = 1 << 16

// job is a change on its way to the disk and, if a client waits for it, the
// reply that tells.
type job struct {
	server *Server
	b      *binding
	seq    uint64 // of b when the job was made
	change Change
	bound  bool   // a client waits
	key    string // of that client
	kind   EventKind

	old    *binding // the client's former address, given up by this change
	oldSeq uint64

	six *job6 // of DHCPv6: has the changes in place of all the above

	reply Reply
	buf   *buffer       // holds reply's payload; nil: nobody else's
	send  func(Reply)   // nil: nobody waits
	at    time.Duration // when it was queued

	start, until time.Duration // the lease in the change, by the running clock
}

// queue holds what the commit loop has to do next.
type queue struct {
	qmu     sync.Mutex
	jobs    []job
	spare   []job // the other buffer of two that take turns
	changes []Change
	stopped bool
	failing bool          // the last commit failed; only the commit loop looks
	wake    chan struct{} // holds a token while there are jobs
}

// room says whether one more answer can wait: Pending if so.
func (q *queue) room() Outcome {
	q.qmu.Lock()
	defer q.qmu.Unlock()
	switch {
	case q.stopped:
		return Stopped
	case len(q.jobs) >= maxQueue:
		return Busy
	}
	return Pending
}

func (q *queue) push(j job) {
	q.qmu.Lock()
	q.jobs = append(q.jobs, j)
	q.qmu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *queue) take() []job {
	q.qmu.Lock()
	defer q.qmu.Unlock()
	jobs := q.jobs
	q.jobs, q.spare = q.spare[:0], nil
	return jobs
}

// giveBack returns a buffer of take's for reuse.
func (q *queue) giveBack(jobs []job) {
	clear(jobs)
	q.qmu.Lock()
	q.spare = jobs[:0]
	q.qmu.Unlock()
}

func (q *queue) stop() {
	q.qmu.Lock()
	q.stopped = true
	q.qmu.Unlock()
}

// enqueue hands a change of b to the commit loop. The lock is held, so changes
// of one segment are queued in the order in which they were made.
func (s *Server) enqueue(j job, b *binding, ch Change) {
	s.seq++
	b.seq = s.seq
	s.pushJob(j, b, ch)
}

func (s *Server) pushJob(j job, b *binding, ch Change) {
	if j.bound {
		b.awaited++
	}
	j.server, j.b, j.seq, j.change, j.at = s, b, b.seq, ch, s.svc.elapsed()
	j.start, j.until = b.start, b.expires
	s.svc.push(j)
}

// queue hands over a change that nobody waits for.
func (s *Server) queue(b *binding, ch Change) { s.enqueue(job{}, b, ch) }

// commit makes everything queued durable in one transaction, then lets the
// replies go. What is queued meanwhile is the next transaction.
func (s *Service) commit() {
	s.followClock()
	jobs := s.take()
	if len(jobs) == 0 {
		s.giveBack(jobs)
		return
	}
	s.changes = s.changes[:0]
	for i := range jobs {
		s.changes = jobs[i].appendChanges(s.changes)
	}
	began := s.elapsed()
	err := s.cfg.Store.Commit(s.changes)
	now := s.elapsed()
	s.stats.add(now-began, len(s.changes), err)
	s.report(err, len(jobs))
	for i := range jobs {
		j := &jobs[i]
		if j.finish(err) && j.send != nil {
			s.stats.answered(now - j.at)
			j.send(j.reply)
		}
		if j.buf != nil {
			buffers.Put(j.buf)
		}
	}
	clear(s.changes)
	s.giveBack(jobs)
}

// appendChanges appends what the job makes durable.
func (j *job) appendChanges(to []Change) []Change {
	if j.six != nil {
		return j.six.appendChanges(to)
	}
	if o := j.old; o != nil {
		to = append(to, Change{Segment: j.change.Segment, Delete: true, Lease: Lease{IP: toAddr(o.ip)}})
	}
	return append(to, j.change)
}

// finish tells the job's server what became of the changes. It says whether
// the client that waits for them is to be told.
func (j *job) finish(err error) (tell bool) {
	if j.six != nil {
		return j.six.server.finish(j.six, err)
	}
	return j.server.finish(j, err)
}

// report says once that the store fails and once that it works again.
func (s *Service) report(err error, n int) {
	if (err != nil) == s.failing {
		return
	}
	s.failing = err != nil
	e := Event{Time: s.wall(), Kind: EventRecovered}
	if err != nil {
		e.Kind, e.Detail = EventFailed, err.Error()
		s.cfg.Logger.Error("leases cannot be made durable; nobody gets one until they can", "err", err, "changes", n)
	} else {
		s.cfg.Logger.Info("leases are durable again")
	}
	if s.cfg.Events != nil {
		s.cfg.Events(e)
	}
}

// finish notes what became of a change and says whether its client is to be
// told: not when the lease was taken back, declined or left to run out
// meanwhile, and not when another server of the segment has read the store
// since, perhaps before this change was in it.
func (s *Server) finish(j *job, err error) (tell bool) {
	s.mu.Lock()
	defer s.unlock()
	b := j.b
	if j.bound {
		b.awaited--
	}
	if err != nil {
		if j.bound && b.seq == j.seq && b.state == StateBound && s.current(b) {
			s.undo(b)
		}
		return false
	}
	b.wrote(j.change.Lease.State, j.start, j.until)
	if !j.bound {
		return false
	}
	if o := j.old; o != nil {
		if b.former == o {
			b.former = nil
		}
		if o.seq == j.oldSeq && s.current(o) && o.state != StateOffered {
			s.expiry.remove(o)
			if o.state == StateBound {
				o.expires = s.svc.elapsed()
				s.event(EventReleased, o, "its client moved to "+toAddr(b.ip).String())
			}
			s.home(o.ip).forget(o)
		}
	}
	tell = s.has(b, j.key) && !s.removed
	if tell {
		s.note(b, true)
	}
	if tell && s.svc.cfg.Events != nil {
		s.events = append(s.events, Event{Time: s.svc.wall(), Segment: s.segment, Kind: j.kind, Lease: j.change.Lease})
	}
	return tell
}

// undo takes back a lease that the disk did not take and that nobody was told
// of. A renewed lease is what it was before; a new one is an offer again, so
// the client's next try succeeds.
func (s *Server) undo(b *binding) {
	if s.revert(b) {
		return
	}
	n := s.home(b.ip)
	if n.byKey[b.key] == b && !b.stored {
		delete(n.byKey, b.key)
	}
	if o := b.former; o != nil && s.current(o) && o.key == b.key {
		s.home(o.ip).byKey[b.key] = o
	}
	b.former = nil
	s.offer(n, b, s.svc.elapsed())
}

// A step of the wall clock of less than this is left alone: the lease of
// MinLease survives it.
const clockStep = 5 * time.Second

// followClock writes all leases anew when the wall clock was set, for their
// times in the store are by the wall clock. The running leases do not notice.
func (s *Service) followClock() {
	off := s.offset()
	step := off - s.skew
	if step < clockStep && step > -clockStep {
		return
	}
	s.skew = off
	s.cfg.Logger.Warn("the wall clock was set", "by", step)
	if s.cfg.Events != nil {
		s.cfg.Events(Event{Time: s.wall(), Kind: EventClock, Detail: step.String()})
	}
	s.each(running.restamp)
}

// resend writes a lease as it is.
func (s *Server) resend(b *binding) {
	s.pushJob(job{}, b, Change{Segment: s.segment, Lease: s.leaseOf(b)})
}
