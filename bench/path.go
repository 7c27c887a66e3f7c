package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/tap"
	"github.com/uvtep/uvtep/internal/underlay"
	"github.com/uvtep/uvtep/vtep"
)

// The whole way through a VTEP with one worker: what is left out is what the
// kernel would do. Every address is behind the port, or the peer, and has been
// learned; frames use all of them in turn, both as source and as destination.
func pathScenarios() []Scenario {
	var all []Scenario
	for _, c := range []struct{ frame, addresses int }{{minFrame, 64}, {minFrame, 100_000}, {1518, 64}} {
		for _, way := range []struct {
			name  string
			start func(Scenario) (*run, error)
		}{
			{"port to tunnel", func(s Scenario) (*run, error) { return between(s, true) }},
			{"tunnel to port", func(s Scenario) (*run, error) { return between(s, false) }},
		} {
			all = append(all, Scenario{Name: way.name, Frame: c.frame, Addresses: c.addresses, start: way.start})
		}
	}
	return all
}

var (
	local = netip.MustParseAddr("10.9.0.1")
	far   = netip.MustParseAddr("10.9.0.2")
)

// between is a VTEP between null devices that carries frames out or in.
func between(s Scenario, out bool) (*run, error) {
	r, err := newRig(s)
	if err != nil {
		return nil, err
	}
	from, to := r.port, r.tunnel
	if !out {
		from, to = to, from
	}
	return &run{stop: r.stop, do: func(n int) error { return r.carry(from, to, n) }}, nil
}

// rig is a running VTEP with one port, one peer, and a null device at each.
type rig struct {
	v            *vtep.VTEP
	port, tunnel *end
	stop         func()
}

func newRig(s Scenario) (*rig, error) {
	n := s.Addresses / 2 // behind each side
	image := udp4(s.Frame)
	r := &rig{
		port:   newEnd(image, 0, func(b []byte, i int) { address(b, farMAC(i%n), localMAC(i%n), i) }),
		tunnel: newEnd(vxlan(image), encap.HeaderLen, func(b []byte, i int) { address(b, localMAC(i%n), farMAC(i%n), i) }),
	}
	var err error
	r.v, err = vtep.New(vtep.Config{
		Local: local, Workers: 1,
		OpenUnderlay: func(underlay.Config) (underlay.Endpoint, error) { return nullUnderlay{&nullTunnel{r.tunnel}}, nil },
	})
	if err != nil {
		return nil, err
	}
	seg, err := r.v.AddSegment(vtep.SegmentConfig{VNI: 100, Peers: []netip.Addr{far}, MaxMACs: -1, Ageing: -1})
	if err == nil {
		_, err = seg.AttachPort(vtep.PortConfig{Name: "null", Device: nullTAP{&nullQueue{r.port}}})
	}
	if err != nil {
		return nil, errors.Join(err, r.v.Close())
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { r.v.Run(ctx) }) // nil when cancelled
	r.stop = func() {
		cancel()
		running.Wait()
		r.v.Close() // null devices close without an error
	}
	// Each side's addresses are learned from its own frames.
	err = errors.Join(r.carry(r.port, r.tunnel, n), r.carry(r.tunnel, r.port, n))
	if got := seg.MACs(); err == nil && got != 2*n {
		err = fmt.Errorf("%d addresses were learned, not %d", got, 2*n)
	}
	if err != nil {
		r.stop()
		return nil, err
	}
	return r, nil
}

// carry lets n frames go from one end to the other and counts them there.
func (r *rig) carry(from, to *end, n int) error {
	before := to.taken.Load()
	from.yield(n)
	if got := to.taken.Load() - before; got != int64(n) {
		return fmt.Errorf("%d of %d frames came out; drops: %+v", got, n, r.v.Stats().Drops)
	}
	return nil
}

// address makes the i-th frame of an image: its addresses, and one of 64 flows.
func address(b []byte, dst, src fdb.MAC, i int) {
	dst.Put(b)
	src.Put(b[6:])
	binary.BigEndian.PutUint16(b[34:], uint16(i&63))
}

// end is the reading end of a null device. It yields as many frames as it is
// told to, which costs the copying of one, and counts what was written to it.
type end struct {
	image []byte
	skip  int // bytes of the image in front of the frame
	vary  func(frame []byte, i int)

	next  int          // number of the next frame; the reader's
	left  atomic.Int64 // frames to yield
	owed  atomic.Bool  // somebody waits for all to be read and carried
	done  chan struct{}
	taken atomic.Int64
	wake  atomic.Pointer[func()]
}

func newEnd(image []byte, skip int, vary func(frame []byte, i int)) *end {
	return &end{image: image, skip: skip, vary: vary, done: make(chan struct{}, 1)}
}

// yield lets n frames be read and returns once they have been carried: a worker
// carries what it read to its end, and then finds that nothing is left.
func (e *end) yield(n int) {
	e.left.Store(int64(n))
	e.owed.Store(true)
	(*e.wake.Load())()
	<-e.done
}

// Fd is -1: there is nothing to poll.
func (e *end) Fd() int { return -1 }

// Notify sets what is called when there is something to read.
func (e *end) Notify(wake func()) { e.wake.Store(&wake) }

func (e *end) read(b *frame.Batch, src netip.Addr) (int, error) {
	left := e.left.Load()
	if left == 0 {
		if e.owed.CompareAndSwap(true, false) {
			e.done <- struct{}{}
		}
		return 0, nil
	}
	n := 0
	for ; int64(n) < left; n++ {
		f := b.Next()
		if f == nil {
			break
		}
		buf := f.Buffer()
		copy(buf, e.image)
		e.vary(buf[e.skip:], e.next)
		e.next++
		f.Outer.Src = src
		b.Commit(len(e.image))
	}
	e.left.Add(-int64(n))
	return n, nil
}

type nullTAP struct{ q *nullQueue }

func (d nullTAP) Name() string         { return "null" }
func (d nullTAP) Queues() []tap.Queue  { return []tap.Queue{d.q} }
func (d nullTAP) SetMTU(int) error     { return nil }
func (d nullTAP) Close() error         { return nil }
func (d nullTAP) Offload() tap.Offload { return tap.All }

type nullQueue struct{ *end }

func (q *nullQueue) Read(b *frame.Batch) (int, error) { return q.read(b, netip.Addr{}) }

func (q *nullQueue) Write(frames []*frame.Frame) int {
	n := 0
	for _, f := range frames {
		n += 1 + len(f.Parts)
	}
	q.taken.Add(int64(n))
	return len(frames)
}

type nullUnderlay struct{ q *nullTunnel }

func (u nullUnderlay) Queues() []underlay.Queue                          { return []underlay.Queue{u.q} }
func (u nullUnderlay) Join(netip.Addr, string) (*underlay.Remote, error) { return nil, nil }
func (u nullUnderlay) Leave(netip.Addr, string) error                    { return nil }
func (u nullUnderlay) MTU() (int, error)                                 { return 1600, nil }
func (u nullUnderlay) PathMTU(*underlay.Remote) (int, error)             { return 1600, nil }
func (u nullUnderlay) Offload() underlay.Offload                         { return underlay.All }
func (u nullUnderlay) Close() error                                      { return nil }

type nullTunnel struct{ *end }

func (q *nullTunnel) Read(b *frame.Batch) (int, error) { return q.read(b, far) }

func (q *nullTunnel) Allow(time.Duration) {}

func (q *nullTunnel) Write(packets []underlay.Packet) int {
	n := 0
	for i := range packets {
		packets[i].Sent, packets[i].Reason = packets[i].Count, frame.NotDropped
		n += packets[i].Count
	}
	q.taken.Add(int64(n))
	return n
}
