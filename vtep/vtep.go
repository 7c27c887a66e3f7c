package vtep

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/pair"
	"github.com/uvtep/uvtep/internal/underlay"
)

// VTEP is one VXLAN tunnel end point: an underlay, its workers, its segments.
// All methods may be called at any time, also while Run runs.
type VTEP struct {
	cfg     Config
	local4  uint32 // cfg.Local, if it is IPv4
	mtu     int    // of a segment that does not say
	ep      underlay.Endpoint
	workers []*worker
	start   time.Time
	after   func(time.Duration, func()) *time.Timer // time.AfterFunc, but for tests with a clock of their own
	now     atomic.Uint32                           // seconds since start, for ageing
	unknown dropTable                               // drops of packets whose segment is not known
	macs    *fdb.Total                              // learned MACs of all segments

	lostOffloads atomic.Uint64
	running      atomic.Bool
	serving      atomic.Bool // workers are at work, and services may speak
	news         news

	requests, freeRequests chan *request // DHCP messages on their way to the service, and unused ones
	called                 chan struct{} // holds a token when somebody has to look for requests
	deciding               sync.Mutex    // held by who takes requests, one after the other
	held                   *request      // was taken, and could not be decided on at once; comes first
	heard                  chan heard    // what the services want to know

	mu         sync.Mutex // changes of the set of segments, and of any segment
	closed     bool
	trunks     map[string]*trunk     // those that are open, by name; under mu, as what follows
	trunksKept int                   // how many want them kept open, used or not
	pairs      map[string]*pair.Pair // those that have an end plugged, and some that had
	segments   atomic.Pointer[map[encap.VNI]*Segment]
}

// New opens the underlay and makes the workers; Run starts them. The error
// wraps one of internal/underlay's, or ErrInvalid.
func New(cfg Config) (*VTEP, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	ep, err := cfg.OpenUnderlay(underlay.Config{
		Local: cfg.Local, Port: cfg.Port, Device: cfg.Device, Checksum: !cfg.NoChecksum, TTL: cfg.TTL, Queues: cfg.Workers,
		ZeroSum6: cfg.ZeroSum6, DF: cfg.DF, Fragment: cfg.Fragment,
		Offload: cfg.offload().ofUnderlay(),
	})
	if err != nil {
		return nil, err
	}
	if n := len(ep.Queues()); n != cfg.Workers {
		err := fmt.Errorf("underlay: %w: it has %d queues for %d workers", ErrInvalid, n, cfg.Workers)
		return nil, errors.Join(err, ep.Close())
	}
	mtu, err := ep.MTU()
	if err != nil {
		return nil, errors.Join(err, ep.Close())
	}
	v := &VTEP{cfg: cfg, ep: ep, mtu: mtu - encap.Overhead(cfg.Local), start: cfg.Clock(), after: time.AfterFunc, unknown: make(dropTable, cfg.Workers), macs: fdb.NewTotal(max(cfg.MaxMACs, 0)), news: newNews(), heard: make(chan heard, heardLen),
		trunks: map[string]*trunk{}, pairs: map[string]*pair.Pair{}}
	if cfg.Local.Is4() {
		a := cfg.Local.As4()
		v.local4 = binary.BigEndian.Uint32(a[:])
	}
	v.segments.Store(&map[encap.VNI]*Segment{})
	if cfg.DHCP != nil {
		v.requests, v.freeRequests = make(chan *request, dhcpQueueLen), make(chan *request, dhcpQueueLen)
		v.called = make(chan struct{}, 1)
		for range dhcpQueueLen {
			v.freeRequests <- new(request)
		}
	}
	for i, q := range ep.Queues() {
		w, err := newWorker(v, i, q)
		if err != nil {
			return nil, errors.Join(err, v.Close())
		}
		v.workers = append(v.workers, w)
	}
	return v, nil
}

// Local is the VTEP's own address.
func (v *VTEP) Local() netip.Addr { return v.cfg.Local }

// Port is the UDP port of the underlay.
func (v *VTEP) Port() uint16 { return v.cfg.Port }

// DefaultMTU is the MTU of a segment that does not set one: the underlay's less
// the overhead, bytes.
func (v *VTEP) DefaultMTU() int { return v.mtu }

// SetMaxMACs changes how many MACs are learned at most in all segments together;
// 0 is no limit. What was learned stays.
func (v *VTEP) SetMaxMACs(n int) { v.macs.SetLimit(max(n, 0)) }

// Run carries frames until ctx is cancelled; it then returns nil, with all
// workers at rest. Close comes after it. It is ErrRunning if Run runs already,
// ErrClosed after Close.
func (v *VTEP) Run(ctx context.Context) error {
	if !v.running.CompareAndSwap(false, true) {
		return ErrRunning
	}
	defer v.running.Store(false)
	v.mu.Lock()
	closed := v.closed
	v.mu.Unlock()
	if closed {
		return ErrClosed
	}
	g, ctx := errgroup.WithContext(ctx)
	carrying, rest := context.WithCancel(context.WithoutCancel(ctx))
	defer rest()
	for _, w := range v.workers {
		g.Go(func() error { w.run(carrying); return nil })
	}
	v.serving.Store(true)
	v.mu.Lock() // so that none is started that a change has just stopped
	for _, s := range v.Segments() {
		if sv := s.view.Load().service; sv != nil && sv.ra != nil {
			sv.ra.start()
		}
	}
	v.mu.Unlock()
	g.Go(func() error { v.keepTime(ctx); return nil })
	g.Go(func() error { v.maintain(ctx); return nil })
	g.Go(func() error { v.serve(ctx); return nil })
	g.Go(func() error {
		<-ctx.Done()
		v.serving.Store(false)
		for _, s := range v.Segments() {
			if sv := s.view.Load().service; sv != nil && sv.ra != nil {
				sv.ra.stop()
			}
		}
		rest() // with what the services have said by now on its way
		for _, w := range v.workers {
			w.poll.wake()
		}
		return nil
	})
	return g.Wait()
}

// Close removes all segments, closes their ports and the underlay. Run has
// returned. Closing twice is closing once.
func (v *VTEP) Close() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return nil
	}
	v.closed = true
	var errs []error
	for _, s := range *v.segments.Load() {
		errs = append(errs, s.close())
	}
	v.segments.Store(&map[encap.VNI]*Segment{})
	errs = append(errs, v.ep.Close())
	for _, w := range v.workers {
		errs = append(errs, w.poll.close())
	}
	return errors.Join(errs...)
}

// sweepBudget is how many entries of one segment a pass of maintain visits
// before it lets go of the processor.
const sweepBudget = 4096

// keepTime does nothing else, as all else may have to wait for a lock.
func (v *VTEP) keepTime(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			v.now.Store(uint32(v.since() / time.Second))
		}
	}
}

// maintain ages what was learned, has what failed tried again, and tells what
// workers have no time to.
func (v *VTEP) maintain(ctx context.Context) {
	offload := v.ep.Offload()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			for _, w := range v.workers {
				w.retry()
			}
			for _, s := range v.Segments() {
				s.maintain(ctx)
			}
			v.tellNews()
			if lost := offload &^ v.ep.Offload(); lost != 0 {
				offload &^= lost
				v.cfg.Logger.Warn("the kernel refuses an offload; going on without it", "offload", lost)
				v.lostOffloads.Add(uint64(len(lost.Names())))
			}
		}
	}
}

// since is the time since the VTEP was made, exactly.
func (v *VTEP) since() time.Duration { return v.cfg.Clock().Sub(v.start) }

func (v *VTEP) seconds() fdb.Seconds { return fdb.Seconds(v.now.Load()) }

// settle returns once no worker can hold anything that it read from a view
// before the call: each was seen at rest or has begun another round.
func (v *VTEP) settle() {
	for _, w := range v.workers {
		was := w.round.Load()
		for pause := 10 * time.Microsecond; was&1 == 1 && w.round.Load() == was; pause = min(2*pause, time.Millisecond) {
			time.Sleep(pause)
		}
	}
}

// AddSegment makes a segment, without ports. The error wraps ErrExists,
// ErrInvalid, or ErrClosed. A group that cannot be joined is none: it is tried
// again, and GroupError says why.
func (v *VTEP) AddSegment(cfg SegmentConfig) (*Segment, error) {
	cfg, err := cfg.check(v.cfg, v.mtu)
	if err != nil {
		return nil, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return nil, ErrClosed
	}
	old := *v.segments.Load()
	if _, ok := old[cfg.VNI]; ok {
		return nil, fmt.Errorf("segment %v %w", cfg.VNI, ErrExists)
	}
	s, err := newSegment(v, cfg)
	if err != nil {
		return nil, err
	}
	all := maps.Clone(old)
	all[cfg.VNI] = s
	v.segments.Store(&all)
	s.tellMembership()
	s.advertise()
	s.warnOfMTU()
	return s, nil
}

// RemoveSegment takes a segment away and closes its ports.
func (v *VTEP) RemoveSegment(vni encap.VNI) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	old := *v.segments.Load()
	s, ok := old[vni]
	if !ok {
		return fmt.Errorf("segment %v %w", vni, ErrNotFound)
	}
	s.sayGoodbye()
	all := maps.Clone(old)
	delete(all, vni)
	v.segments.Store(&all)
	return s.close()
}

// Segment finds a segment by its VNI.
func (v *VTEP) Segment(vni encap.VNI) (*Segment, bool) {
	s, ok := (*v.segments.Load())[vni]
	return s, ok
}

// Segments are all segments, by VNI.
func (v *VTEP) Segments() []*Segment {
	return slices.SortedFunc(maps.Values(*v.segments.Load()), func(a, b *Segment) int { return int(a.vni) - int(b.vni) })
}

// WorkerStats is what one worker did. CPU is -1: workers are not bound to one.
type WorkerStats struct {
	ID, CPU                       int
	RxPackets, TxPackets, Batches uint64
	ReadErrors                    uint64   // reads of ports and tunnel that failed
	Offload                       []string // of the tunnel, in use
}

// DropStats counts the frames that were dropped for one reason. VNI is 0 for
// packets of which no segment is known.
type DropStats struct {
	Reason frame.Reason
	VNI    encap.VNI
	Count  uint64
}

// Stats is a VTEP's work so far.
type Stats struct {
	Workers []WorkerStats
	Drops   []DropStats // those that happened, by VNI and reason

	LostOffloads uint64 // of ports and tunnel, that the kernel came to refuse
}

// Stats reads the counters; it takes no lock that a worker takes.
func (v *VTEP) Stats() Stats {
	st := Stats{LostOffloads: v.lostOffloads.Load()}
	offload := v.ep.Offload().Names()
	for _, w := range v.workers {
		st.Workers = append(st.Workers, WorkerStats{ID: w.id, CPU: -1, RxPackets: w.rx.load(), TxPackets: w.tx.load(), Batches: w.batches.load(), ReadErrors: w.readErrors.load(), Offload: offload})
	}
	add := func(vni encap.VNI, d dropTable) {
		for r := range frame.Reason(frame.Reasons) {
			if n := d.sum(r); n > 0 {
				st.Drops = append(st.Drops, DropStats{Reason: r, VNI: vni, Count: n})
			}
		}
	}
	add(0, v.unknown)
	for _, s := range v.Segments() {
		add(s.vni, s.drops)
	}
	return st
}
