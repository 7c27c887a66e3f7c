package vtep

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/tap"
	"github.com/uvtep/uvtep/internal/underlay"
)

// packetsLen is how many datagrams a worker gathers before it sends them.
const packetsLen = 256

// worker carries batches, one after the other, each to its end. Everything in it
// is its own; what others touch is atomic.
type worker struct {
	v      *VTEP
	id     int
	tunnel underlay.Queue
	poll   *poller
	round  atomic.Uint64 // odd while the worker may hold what it read from a view

	batch    *frame.Batch
	segments [frame.BatchLen]*Segment // of the batch's frames, when they come from the tunnel
	touched  []*Port                  // ports that the batch at hand sends to
	packets  []underlay.Packet        // datagrams that the batch at hand sends
	remotes  []*remote                // whose they are; nil: a group's

	rx, tx, batches counter

	mail    atomic.Bool // something is in the inbox
	inboxMu sync.Mutex
	inbox   []injected
}

func newWorker(v *VTEP, id int, q underlay.Queue) (*worker, error) {
	p, err := newPoller()
	if err != nil {
		return nil, err
	}
	w := &worker{
		v: v, id: id, tunnel: q, poll: p,
		batch:   frame.NewBatch(frame.BatchLen, frame.MaxLen),
		touched: make([]*Port, 0, 64),
		packets: make([]underlay.Packet, 0, packetsLen),
		remotes: make([]*remote, 0, packetsLen),
	}
	if err := p.add(&source{r: q, worker: w}); err != nil {
		return nil, errors.Join(err, p.close())
	}
	return w, nil
}

// run serves the worker's sources until ctx is cancelled. Every ready source
// gets one batch a round, so that none starves another.
func (w *worker) run(ctx context.Context) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for ctx.Err() == nil {
		ready := w.poll.wait()
		w.round.Add(1)
		w.takeInbox()
		for _, s := range ready {
			if !s.dead.Load() {
				w.serve(s)
			}
		}
		w.round.Add(1)
	}
}

func (w *worker) serve(s *source) {
	w.batch.Clear()
	n, err := s.r.Read(w.batch)
	if errors.Is(err, tap.ErrGone) && s.port != nil {
		s.port.gone.Store(true)
		w.poll.remove(s)
	}
	if n == 0 {
		return
	}
	if s.r.Fd() < 0 { // it notified once; there may be more
		s.ready.Store(true)
	}
	frames := w.batch.Frames[:w.batch.N]
	w.batches.add(1)
	w.rx.add(uint64(n))
	if s.port != nil {
		w.fromPort(s.port, frames)
	} else {
		w.fromTunnel(frames)
	}
}

// fromPort carries a batch that came in by a local port.
func (w *worker) fromPort(p *Port, frames []frame.Frame) {
	var bytes uint64
	in := uint32(fdb.Local(p.id))
	for i := range frames {
		frames[i].Ingress = in
		bytes += uint64(frames[i].Len())
	}
	t := &p.state[w.id].traffic
	t.rxPackets.add(uint64(len(frames)))
	t.rxBytes.add(bytes)
	parse(frames)
	w.forward(p.seg, frames)
	var dropped uint64
	for i := range frames {
		if frames[i].Verdict.Action == frame.Dropped {
			dropped++
		}
	}
	if dropped > 0 {
		t.rxDropped.add(dropped)
	}
}

// fromTunnel carries a batch that came in by the underlay: runs of frames of one
// segment after the other.
func (w *worker) fromTunnel(frames []frame.Frame) {
	w.decapsulate(frames)
	parse(frames)
	w.unmark(frames)
	for i := 0; i < len(frames); {
		s := w.segments[i]
		j := i + 1
		for j < len(frames) && w.segments[j] == s {
			j++
		}
		if s != nil {
			w.forward(s, frames[i:j])
		} else {
			w.tally(w.v.unknown, frames[i:j])
		}
		i = j
	}
}

// forward carries frames of one segment the rest of their way.
func (w *worker) forward(s *Segment, frames []frame.Frame) {
	vw := s.view.Load()
	w.admit(frames)
	learn(s, vw, frames, w.v.seconds())
	w.answer(s, vw, frames)
	lookUp(s, vw, frames)
	w.write(s, vw, frames)
	w.tally(s.drops, frames)
}

// tally counts what was dropped before it was written anywhere.
func (w *worker) tally(d dropTable, frames []frame.Frame) {
	for i := range frames {
		if v := &frames[i].Verdict; v.Action == frame.Dropped {
			d[w.id][v.Reason].add(1)
		}
	}
}
