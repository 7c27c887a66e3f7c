package vtep

import (
	"slices"

	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/frame"
)

const inboxLen = 4096 // frames of services that wait for a worker

// injected is a frame of a segment's service that waits for a worker, and where
// it goes.
type injected struct {
	seg   *Segment
	to    origin
	bytes []byte
	as    *Port           // whose guest is spoken for; nil: the service speaks for itself
	sent  chan<- struct{} // closed once a worker has sent it; nil where nobody waits
}

// inject gives a frame of the segment's service to a worker. One that finds the
// inbox full is lost like any datagram, and counted; whoever needs it asks again.
func (s *Segment) inject(m injected) {
	v := s.v
	m.seg = s
	w := v.workers[int(s.vni)%len(v.workers)]
	w.inboxMu.Lock()
	full := len(w.inbox) >= inboxLen
	if !full {
		w.inbox = append(w.inbox, m)
	}
	w.inboxMu.Unlock()
	if full {
		s.drops[v.cfg.Workers][frame.DHCPQueueFull].addShared(1)
	}
	w.mail.Store(true)
	if w.round.Load()&1 == 0 {
		w.poll.wake() // else it looks before it rests
	}
}

// takeInbox carries what the services of the worker's segments sent: a batch at
// most, so that ports and tunnel have their turn; more of it has the worker come
// back.
func (w *worker) takeInbox() {
	if !w.mail.Swap(false) {
		return
	}
	w.poll.calm()
	w.inboxMu.Lock()
	n := min(len(w.inbox), len(w.batch.Frames))
	mail := w.inbox[:n:n]
	w.inbox = w.inbox[n:]
	more := len(w.inbox) > 0
	if !more {
		w.inbox = nil
	}
	w.inboxMu.Unlock()
	if more {
		w.mail.Store(true)
	}
	slices.SortStableFunc(mail, func(a, b injected) int { return int(a.seg.vni) - int(b.seg.vni) })
	for len(mail) > 0 {
		seg := mail[0].seg
		n := slices.IndexFunc(mail, func(m injected) bool { return m.seg != seg })
		if n < 0 {
			n = len(mail)
		}
		if s, ok := w.v.Segment(seg.vni); ok && s == seg { // else it was removed meanwhile
			w.deliver(seg, mail[:n])
		}
		clear(mail[:n])
		mail = mail[n:]
	}
}

// deliver carries a batch at most of what a segment's service sent.
func (w *worker) deliver(s *Segment, mail []injected) {
	w.batch.Clear()
	vw := s.view.Load()
	for _, m := range mail {
		f := w.batch.Next()
		w.batch.Commit(copy(f.Buffer(), m.bytes))
		f.Ingress = uint32(fdb.Self)
		if m.as != nil && vw.port(fdb.Local(m.as.id)) == m.as {
			f.Ingress = uint32(fdb.Local(m.as.id))
		}
	}
	frames := w.batch.Frames[:w.batch.N]
	parse(frames)
	for i, m := range mail {
		m.to.direct(s, vw, &frames[i])
	}
	w.write(s, vw, frames)
	w.tally(s.drops, frames)
	for _, m := range mail {
		if m.sent != nil {
			close(m.sent)
		}
	}
}
