package vtep

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/uvtep/uvtep/dhcpd/dhcpdtest"
	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/tap"
	"github.com/uvtep/uvtep/internal/underlay"
	"github.com/uvtep/uvtep/internal/underlay/underlaytest"
)

func TestAVTEPRunsOnceAtATimeAndNotAfterItsEnd(t *testing.T) {
	r := newRig(t, Config{Workers: 2})
	for range 2 { // again, once it has ended
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- r.v.Run(ctx) }()
		soon(t, "it runs", r.v.running.Load)
		if err := r.v.Run(ctx); !errors.Is(err, ErrRunning) {
			t.Errorf("a second time: error %v", err)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	if err := r.v.Close(); err != nil {
		t.Fatal(err)
	}
	if err := r.v.Run(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("after its end: error %v", err)
	}
}

// queues is an underlay with other queues than were asked for.
type queues struct {
	underlay.Endpoint
	n int
}

func (q queues) Queues() (out []underlay.Queue) {
	for range q.n {
		out = append(out, q.Endpoint.Queues()[0])
	}
	return out
}

func TestAnUnderlayHasAQueueForEachWorkerOrIsRefused(t *testing.T) {
	for n := range 5 {
		net := underlaytest.NewNetwork()
		v, err := New(Config{Local: self, Workers: 2, OpenUnderlay: func(c underlay.Config) (underlay.Endpoint, error) {
			e, err := net.Open(c)
			return queues{e, n}, err
		}})
		switch {
		case n == 2 && err == nil:
			err = v.Close()
			fallthrough
		case n == 2:
			if err != nil {
				t.Error(err)
			}
		case !errors.Is(err, ErrInvalid):
			t.Errorf("%d queues for 2 workers: error %v", n, err)
		}
		if net.Endpoint(sources(self, 4789)) != nil {
			t.Errorf("%d queues: the underlay is left open", n)
		}
	}
}

// Attaching a port can take seconds, in which its lock is held.
func TestTheClockGoesOnWhileTheSegmentsAreLocked(t *testing.T) {
	var passed atomic.Int64
	start := time.Now()
	r := newRig(t, Config{Accept: AcceptAny, Clock: func() time.Time { return start.Add(time.Duration(passed.Load()) * time.Second) }})
	r.segment(SegmentConfig{VNI: 100}, "a")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- r.v.Run(ctx) }()
	passed.Store(1)
	shows := func(n uint32) func() bool { return func() bool { return r.v.now.Load() == n } }
	soon(t, "the first second", shows(1))
	r.v.mu.Lock()
	for _, n := range []uint32{2, 3} {
		passed.Store(int64(n))
		soon(t, fmt.Sprint("second ", n), shows(n))
	}
	r.v.mu.Unlock()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// troubled is a TAP whose reads fail as long as it has errors to give.
type troubled struct {
	brokenTAP
	errors, reads int
	frames        [][]byte
	wake          func()
}

func (d *troubled) Queues() []tap.Queue { return []tap.Queue{d} }
func (d *troubled) Notify(wake func())  { d.wake = wake }
func (d *troubled) Read(b *frame.Batch) (int, error) {
	d.reads++
	if d.errors > 0 {
		d.errors--
		return 0, errors.New("input/output error")
	}
	n := len(d.frames)
	for _, f := range d.frames {
		b.Commit(copy(b.Next().Buffer(), f))
	}
	d.frames = nil
	return n, nil
}

func TestASourceThatCannotBeReadIsCountedToldOnceAndTriedAgain(t *testing.T) {
	var log strings.Builder
	r := newRig(t, Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	s := r.segment(SegmentConfig{VNI: 100}, "b")
	w, d := r.v.workers[0], &troubled{errors: patience - 1}
	p := r.attach(s, PortConfig{Name: "a", Device: d})
	send := func() {
		d.frames = append(d.frames, eth(fdb.Broadcast, mac(1)))
		d.wake()
		r.turn()
	}
	send()
	if got := r.outs(); len(got) != 1 || d.reads < patience {
		t.Errorf("after a few errors: %d frames arrived, %d reads", len(got), d.reads)
	}

	d.errors, d.reads = 1000, 0
	send()
	if d.reads != patience {
		t.Errorf("it was read %d times in a row, and failed, want %d", d.reads, patience)
	}
	w.retry()
	r.turn()
	if d.reads != patience+1 {
		t.Errorf("it was read %d times when it was tried again, want once", d.reads-patience)
	}
	d.errors = 0
	w.retry()
	r.turn()
	if got := r.outs(); len(got) != 1 {
		t.Errorf("%d frames arrived once it could be read", len(got))
	}
	if st := r.v.Stats().Workers[0]; st.ReadErrors != 2*patience {
		t.Errorf("%d errors counted, want %d", st.ReadErrors, 2*patience)
	}
	if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "input/output error") || !strings.Contains(got, "port=a") {
		t.Errorf("logged: %q", got)
	}

	// Taken away while it is left alone, it is not tried again.
	d.errors, d.reads = 1000, 0
	send()
	if err := s.DetachPort("a"); err != nil {
		t.Fatal(err)
	}
	w.retry()
	r.turn()
	if d.reads != patience || len(w.resting) != 0 {
		t.Errorf("a port that was taken away: %d reads, %d sources wait", d.reads, len(w.resting))
	}
	p.sources[0].ready.Store(false)
	d.wake()
	if p.sources[0].ready.Load() {
		t.Error("the device of a port that was taken away still wakes the worker")
	}
}

func TestStrangersAreNamedOnceAndNeverTooMany(t *testing.T) {
	var log strings.Builder
	logger := slog.New(slog.NewTextHandler(&log, nil))
	r := newRig(t, Config{Logger: logger})
	r.segment(SegmentConfig{VNI: 100, Peers: []netip.Addr{peer2}}, "a")
	r.segment(SegmentConfig{VNI: 200}, "b")
	f := eth(fdb.Broadcast, mac(1))
	told := func() []string {
		r.v.tellNews()
		defer log.Reset()
		return strings.Split(strings.TrimSuffix(log.String(), "\n"), "\n")
	}
	for range 3 {
		r.fromPeer(peer2, 100, f)
		r.fromPeer(peer3, 100, f)
		r.fromPeer(peer3, 200, f)
		r.fromPeer(peer3, 300, f) // nobody's
	}
	got := told()
	if len(got) != 2 || !strings.Contains(got[0], "vni=100 vtep=10.9.0.3") || !strings.Contains(got[1], "vni=200 vtep=10.9.0.3") || !strings.Contains(got[0], "add it to the segment's peers") {
		t.Errorf("told: %q", got)
	}
	r.fromPeer(peer3, 100, f)
	if got := told(); got[0] != "" {
		t.Errorf("told again: %q", got)
	}
	lines, last := 0, ""
	for i := range 2 * maxStrangers {
		r.fromPeer(netip.AddrFrom4([4]byte{10, 8, byte(i >> 8), byte(i)}), 100, f)
		if i%newsLen == newsLen-1 {
			if got := told(); got[0] != "" {
				lines += len(got)
				last = got[len(got)-1]
			}
		}
	}
	if lines != maxStrangers-2+1 || !strings.Contains(last, "no longer named") {
		t.Errorf("%d lines of many strangers, want %d; the last: %s", lines, maxStrangers-1, last)
	}
	for i := range 10 * newsLen {
		r.fromPeer(netip.AddrFrom4([4]byte{10, 7, byte(i >> 8), byte(i)}), 100, f) // waits for nobody
	}

	r = newRig(t, Config{Logger: logger, Accept: AcceptAny})
	r.segment(SegmentConfig{VNI: 100}, "a")
	log.Reset()
	for i := range maxLearnedPeers + 2 {
		r.fromPeer(netip.AddrFrom4([4]byte{10, 8, byte(i >> 8), byte(i)}), 100, f)
	}
	r.v.tellNews()
	if log.Len() != 0 {
		t.Errorf("where everyone is accepted: %s", log.String())
	}
}

func TestDetailsAreLoggedALineEach(t *testing.T) {
	var log strings.Builder
	r := newRig(t, Config{Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	told := func(what string, want ...string) {
		t.Helper()
		r.v.tellNews()
		lines := strings.Split(strings.TrimSuffix(log.String(), "\n"), "\n")
		log.Reset()
		if len(lines) != len(want) {
			t.Errorf("%s: logged %q", what, lines)
			return
		}
		for i, w := range want {
			if _, got, _ := strings.Cut(lines[i], "level="); got != w {
				t.Errorf("%s: logged %q, want %q", what, got, w)
			}
		}
	}
	s := r.segment(SegmentConfig{VNI: 100, Peers: []netip.Addr{peer2}, DHCP: dhcpConfig(1), MACMoves: -1}, "a", "b")
	told("ports", `DEBUG msg="port is attached" vni=100 port=a queues=1 offload=[]`, `DEBUG msg="port is attached" vni=100 port=b queues=1 offload=[]`)

	r.fromPort("a", eth(fdb.Broadcast, mac(1)))
	told("a MAC that is new", "")
	r.fromPort("b", eth(fdb.Broadcast, mac(1)))
	told("one that moves", `DEBUG msg="a MAC has moved" vni=100 mac=02:00:00:00:00:01 to=b`)
	r.fromPeer(peer2, 100, eth(fdb.Broadcast, mac(1)))
	told("and moves away", `DEBUG msg="a MAC has moved" vni=100 mac=02:00:00:00:00:01 to=10.9.0.2`)
	for i := range 100 * newsLen {
		r.fromPort([]string{"a", "b"}[i%2], eth(fdb.Broadcast, mac(1)))
	}
	r.v.tellNews()
	if n := strings.Count(log.String(), "\n"); n != maxLines {
		t.Errorf("%d lines of a MAC that does not stop moving, want %d", n, maxLines)
	}
	log.Reset()

	r.fromPort("a", broadcastBOOTP(t, mac(2), (&dhcpdtest.Client{MAC: hw(mac(2))}).Discover()))
	told("an answer", `DEBUG msg="DHCP answer" vni=100 at=a type=OFFER client=02:00:00:00:00:02 ip=192.168.100.10`)
	r.datagram(peer2, 0, vxlan(encap.VNI(100), broadcastBOOTP(t, mac(3), (&dhcpdtest.Client{MAC: hw(mac(3))}).Discover())))
	told("none", `DEBUG msg="DHCP request without an answer" vni=100 at=10.9.0.2 type=DISCOVER client=02:00:00:00:00:03 ip=0.0.0.0 outcome=no_lease`)
	r.fromPort("a", broadcastBOOTP(t, mac(2), []byte("nonsense")))
	told("nonsense", `DEBUG msg="DHCP request without an answer" vni=100 at=a outcome=malformed`)
	if err := s.DetachPort("b"); err != nil {
		t.Fatal(err)
	}
	told("a port that goes", `DEBUG msg="port is down" vni=100 port=b`)
}
