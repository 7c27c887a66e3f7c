package vtep

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/uvtep/uvtep/encap"
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
	patience     = 8         // reads of a source that fail in a row before it is left alone for a while
	splitLen     = 16        // segments that are written at once to a port that takes no super-frames

	roundWait = time.Millisecond // that a round may wait for room in the tunnel's sockets
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
	policy   encap.Policy       // of all of them that were not dropped at once
	merger   offload.Merger
	tried    int // frames of the batch that others could be merged into
	barren   int // batches in a row in which none were
	fallow   int // batches until it is tried again

	// To the ports.
	touched []*Port // those that the batch at hand sends to
	from    *Port   // whose the batch at hand is; nil: none's
	tooBig  tooBig
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

	rx, tx, batches, readErrors counter

	stranger stranger // that was told of last

	mail    atomic.Bool // something is in the inbox
	inboxMu sync.Mutex
	inbox   []injected

	restingMu sync.Mutex
	resting   []*source // that could not be read; until the next retry
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
		w.turn(w.poll.wait())
	}
	// What the services have said by now still leaves.
	w.round.Add(1)
	for w.mail.Load() {
		w.takeInbox()
	}
	w.round.Add(1)
}

// turn is one round.
func (w *worker) turn(ready []*source) {
	w.round.Add(1)
	w.tunnel.Allow(roundWait)
	for _, s := range ready {
		if !s.dead.Load() {
			w.serve(s)
		}
	}
	w.decideSome()
	w.takeInbox()
	w.round.Add(1)
	if w.mail.Load() { // more, or what came too late
		w.poll.wake()
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
	if err != nil {
		w.readFailed(s, n, err)
	} else if s.failed != 0 {
		s.failed = 0
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
	switch {
	case s.port != nil:
		w.fromPort(s.port, frames)
	case s.trunk != nil:
		w.fromTrunk(s.trunk, frames)
	default:
		w.fromTunnel(frames)
	}
	return n
}

// readFailed notes that a source could not be read, but for n frames. One that
// goes on like that would keep the worker from sleeping, so it is left alone
// until retry.
func (w *worker) readFailed(s *source, n int, err error) {
	if errors.Is(err, tap.ErrGone) && s.vanished() {
		w.poll.remove(s)
		return
	}
	w.readErrors.add(1)
	if !s.told {
		s.told = true
		w.v.cfg.Logger.Error("frames cannot be read; trying again for as long as it takes", append(s.name(), "err", err)...)
	}
	if n > 0 {
		s.failed = 0
		return
	}
	if s.failed++; s.failed < patience {
		if s.r.Fd() < 0 { // it has notified already
			s.ready.Store(true)
		}
		return
	}
	w.poll.pause(s)
	w.restingMu.Lock()
	w.resting = append(w.resting, s)
	w.restingMu.Unlock()
}

// retry has the sources that could not be read tried again.
func (w *worker) retry() {
	w.restingMu.Lock()
	defer w.restingMu.Unlock()
	w.resting = slices.DeleteFunc(w.resting, func(s *source) bool { return w.poll.add(s) == nil })
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
	if l := p.limits.Load(); l.policy != 0 {
		tag(frames, l.policy)
	}
	w.from, w.tooBig.last = p, nil
	parse(frames)
	if g := p.guard.Load(); g != nil {
		g.check(w, p, frames)
	}
	dropped := w.forward(p.seg, p, frames)
	w.from = nil
	if dropped > 0 {
		t.rxDropped.add(uint64(dropped))
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
			if w.forward(s, nil, frames[i:j]) > 0 {
				w.droppedOfPeers(s, frames[i:j])
			}
		} else {
			w.tally(w.v.unknown, frames[i:j])
		}
		i = j
	}
	w.merger.Reset()
	w.n = 0
}

// droppedOfPeers counts the frames that were dropped with those who sent them.
func (w *worker) droppedOfPeers(s *Segment, frames []frame.Frame) {
	for i := range frames {
		f := &frames[i]
		if in := fdb.Dst(f.Ingress); f.Verdict.Action == frame.Dropped && in.IsRemote() {
			if p := s.peers.ByID(in.Index()); p != nil {
				p.Value.traffic[w.id].rxDropped.add(1)
			}
		}
	}
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

// forward carries frames of one segment the rest of their way, and returns how
// many of them were dropped. p is the port that they came by, nil for the tunnel.
func (w *worker) forward(s *Segment, p *Port, frames []frame.Frame) int {
	vw := s.view.Load()
	w.admit(frames)
	warm(s, frames)
	w.learn(s, vw, frames)
	w.answer(s, vw, frames)
	if vw.neighbours != nil {
		w.suppress(s, vw, frames)
	}
	if vw.keeper != nil {
		w.overhear(s, vw, frames)
	}
	lookUp(s, vw, frames)
	if p != nil {
		if l := p.limits.Load(); l.storm.any() {
			w.curb(p, l.storm, frames)
		}
	}
	w.write(s, vw, frames)
	return w.tally(s.drops, frames)
}

// tally counts what was dropped before it was written anywhere, and returns how
// many frames that were.
func (w *worker) tally(d dropTable, frames []frame.Frame) (n int) {
	for i := range frames {
		if v := &frames[i].Verdict; v.Action == frame.Dropped {
			d[w.id][v.Reason].add(1)
			n++
		}
	}
	return n
}
