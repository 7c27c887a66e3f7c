package vtep

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/offload"
	"github.com/uvtep/uvtep/internal/tap"
	"github.com/uvtep/uvtep/internal/underlay"
)

const (
	packetsLen   = 256       // packets that a worker gathers before it sends them
	piecesLen    = 2048      // pieces of those
	headersLen   = 256 << 10 // bytes of headers of segments, likewise
	innerLen     = 256       // frames of the tunnel that are carried at once
	roundBatches = 4         // full batches of one source before the others have their turn
	splitLen     = 16        // segments that are written at once to a port that takes no super-frames
)

// worker carries batches, one after the other, each to its end. Everything in it
// is its own; what others touch is atomic.
type worker struct {
	v      *VTEP
	id     int
	tunnel underlay.Queue
	poll   *poller
	round  atomic.Uint64 // odd while the worker may hold what it read from a view

	batch *frame.Batch // what was read

	// From the tunnel: the frames in what was read.
	inner    [innerLen]frame.Frame
	segments [innerLen]*Segment // whose they are; nil where that is not known
	n        int                // frames in inner
	merger   offload.Merger
	tried    int // frames of the batch that others could be merged into
	barren   int // batches in a row in which none were
	fallow   int // batches until it is tried again

	// To the ports.
	touched []*Port      // those that the batch at hand sends to
	split   *frame.Batch // segments for a port that takes no super-frames; nil until there is one

	// To the tunnel.
	packets  []underlay.Packet // what the batch at hand sends
	remotes  []*remote         // whose they are; nil: a group's
	pieces   [][]byte          // of the packets
	headers  []byte            // of the segments of super-frames
	splitter offload.Splitter
	train    struct { // what packets hold of the last super-frame, for its further peers
		of       *frame.Frame
		from, to int
	}

	rx, tx, batches counter

	mail    atomic.Bool // something is in the inbox
	inboxMu sync.Mutex
	inbox   []injected
}

func newWorker(v *VTEP, id int, q underlay.Queue) (*worker, error) {
	p, err := newPoller(v.cfg.BusyPoll)
	if err != nil {
		return nil, err
	}
	w := &worker{
		v: v, id: id, tunnel: q, poll: p,
		batch:   frame.NewBatch(frame.BatchLen, frame.MaxLen),
		touched: make([]*Port, 0, 64),
		packets: make([]underlay.Packet, 0, packetsLen),
		remotes: make([]*remote, 0, packetsLen),
		pieces:  make([][]byte, 0, piecesLen),
		headers: make([]byte, 0, headersLen),
	}
	if err := p.add(&source{r: q, worker: w}); err != nil {
		return nil, errors.Join(err, p.close())
	}
	return w, nil
}

// run serves the worker's sources until ctx is cancelled. Every ready source
// gets a few batches a round, so that none starves another.
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
	for range roundBatches {
		if w.carryFrom(s) < len(w.batch.Frames) {
			return
		}
	}
}

// carryFrom carries one batch of a source, and returns how many frames it read.
func (w *worker) carryFrom(s *source) int {
	w.batch.Clear()
	n, err := s.r.Read(w.batch)
	if errors.Is(err, tap.ErrGone) && s.port != nil {
		s.port.gone.Store(true)
		w.poll.remove(s)
	}
	if n == 0 {
		return 0
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
	return n
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

// fromTunnel carries a batch that came in by the underlay.
func (w *worker) fromTunnel(batch []frame.Frame) {
	var from sender
	for i := range batch {
		w.decapsulate(&from, &batch[i])
	}
	from.count(w)
	w.carry()
}

// carry carries the frames that decapsulate found: runs of frames of one segment
// after the other.
func (w *worker) carry() {
	frames := w.inner[:w.n]
	w.rest(w.merger.Finish())
	unmark(frames)
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
	w.merger.Reset()
	w.n = 0
}

// rest keeps a worker from looking for what does not come: where nothing could
// be merged for a while, it is tried in fewer and fewer batches.
func (w *worker) rest(merged int) {
	const few, longest = 16, 15
	switch {
	case w.fallow > 0:
		w.fallow--
	case merged > 0:
		w.barren = 0
	case w.tried >= few:
		w.barren = min(w.barren+1, longest)
		w.fallow = w.barren
	}
	w.tried = 0
}

// forward carries frames of one segment the rest of their way.
func (w *worker) forward(s *Segment, frames []frame.Frame) {
	vw := s.view.Load()
	w.admit(frames)
	warm(s, frames)
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
