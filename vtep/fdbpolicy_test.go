package vtep

import (
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/frame"
)

// A port that floods made-up addresses takes neither their places nor their
// frames from others: stations that were there stay, new ones come, and what is
// for them goes to them alone.
func TestAFloodOfMACsLeavesOtherPortsTheirTraffic(t *testing.T) {
	const flood, stations = 1_000_000, 20
	r := newRig(t, Config{})
	s := r.segment(SegmentConfig{VNI: 100, Peers: []netip.Addr{peer2}, MaxMACs: 1024, FDB: []StaticEntry{{MAC: mac(1), Port: "flooder"}}}, "flooder", "a", "b")
	quiet := func(port byte, i int) fdb.MAC { return mac(int(port)<<8 | i) }
	for _, port := range []byte("ab") {
		r.fromPort(string(port), eth(fdb.Broadcast, quiet(port, 0)))
	}
	rnd := rand.New(rand.NewPCG(4, 5))
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	// To a station of the flooder's own, as floods of frames are another matter.
	f := eth(mac(1), mac(1))
	batch, w, port := frame.NewBatch(50, 128), r.v.workers[0], s.port("flooder")
	for i := 0; i < flood; i += len(batch.Frames) {
		batch.Clear()
		for b := batch.Next(); b != nil; b = batch.Next() {
			fdb.MAC(0x0a0000000000 | rnd.Uint64N(1<<40)).Put(f[6:])
			batch.Commit(copy(b.Buffer(), f))
		}
		w.fromPort(port, batch.Frames)
		if n := i / (flood / stations); i%(flood/stations) == 0 {
			expect(t, "a frame between others", r.fromPort("a", eth(quiet('b', 0), quiet('a', n))), "b")
			expect(t, "its answer", r.fromPort("b", eth(quiet('a', n), quiet('b', n))), "a")
			expect(t, "one from afar", r.fromPeer(peer2, 100, eth(quiet('b', n), quiet('p', n))), "b")
			expect(t, "one to afar", r.fromPort("b", eth(quiet('p', n), quiet('b', n))), "@10.9.0.2")
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 1<<20 {
		t.Errorf("%d bytes more than before", grown)
	}
	if n := s.MACs() - 1; n > 1024 {
		t.Errorf("%d addresses in a segment that may have 1024", n)
	}
	if d := r.v.Stats().Drops; len(d) != 1 || d[0] != (DropStats{Reason: frame.Hairpin, VNI: 100, Count: flood}) {
		t.Errorf("drops: %+v", d)
	}
}

// What all segments may have together is shared by all, too, and may change.
func TestAFloodInOneSegmentLeavesOtherSegmentsTheirTraffic(t *testing.T) {
	r := newRig(t, Config{MaxMACs: 60})
	s1 := r.segment(SegmentConfig{VNI: 100, MaxMACs: -1}, "flooder", "a")
	s2 := r.segment(SegmentConfig{VNI: 200}, "b", "c")
	flood := func(n int) {
		for i := range n {
			r.fromPort("flooder", eth(mac(1), mac(0x10000+i)))
		}
	}
	flood(100)
	if n := s1.MACs(); n != 60 {
		t.Fatalf("%d addresses of 60 in all", n)
	}
	for i := range 20 {
		r.fromPort("b", eth(fdb.Broadcast, mac(i+1)))
		flood(3)
	}
	for i := range 20 {
		expect(t, "to a quiet segment's station", r.fromPort("c", eth(mac(i+1), mac(99))), "b")
	}
	if n := s1.MACs() + s2.MACs(); n != 60 {
		t.Errorf("%d addresses of 60 in all", n)
	}
	r.v.SetMaxMACs(0)
	flood(100)
	if n := s1.MACs(); n < 100 {
		t.Errorf("%d addresses where there is no limit", n)
	}
	if err := r.v.RemoveSegment(100); err != nil {
		t.Fatal(err)
	}
	if n := r.v.macs.Dynamic(); n != s2.MACs() {
		t.Errorf("%d addresses count in all, %d are there", n, s2.MACs())
	}
}

// A frame that comes back by a loop is dropped, once it has come back a few
// times, and what is for its station still reaches it.
func TestALoopIsBrokenForWhomItCarriesRound(t *testing.T) {
	var events []Event
	var log strings.Builder
	r := newRig(t, Config{Logger: slog.New(slog.NewTextHandler(&log, nil)), Events: func(e Event) { events = append(events, e) }})
	s := r.segment(SegmentConfig{VNI: 100, Peers: []netip.Addr{peer2}}, "a", "b", "loop")
	alice := eth(fdb.Broadcast, mac(1))
	r.fromPort("b", eth(fdb.Broadcast, mac(2)))
	came := 0
	for range 10 {
		r.fromPort("a", alice)
		if r.fromPort("loop", alice) != "" {
			came++
		}
	}
	if came != 2 {
		t.Errorf("came round %d times, want 2", came)
	}
	expect(t, "to alice", r.fromPort("b", eth(mac(1), mac(2))), "a")
	expect(t, "from alice afar", r.fromPeer(peer2, 100, alice), "")
	if d := r.v.Stats().Drops; len(d) != 1 || d[0] != (DropStats{Reason: frame.MACFrozen, VNI: 100, Count: 9}) {
		t.Errorf("drops: %+v", d)
	}
	events = nil
	r.age(100)
	r.age(179)
	r.v.tellNews()
	e := s.FDB()
	if i := slices.IndexFunc(e, func(e FDBEntry) bool { return e.MAC == mac(1) }); i < 0 || !e[i].Frozen || e[i].Port != "a" || e[i].State != "dynamic" {
		t.Errorf("the table: %+v", e)
	}
	if len(events) != 1 || events[0] != (Event{Kind: EventMACFrozen, VNI: 100, MAC: mac(1), Port: "a"}) {
		t.Errorf("events: %+v", events)
	}
	if n := strings.Count(log.String(), "a MAC moves too often"); n != 1 {
		t.Errorf("logged: %s", log.String())
	}
	r.age(180)
	if len(events) != 2 || events[1] != (Event{Kind: EventMACReleased, VNI: 100, MAC: mac(1), Port: "a"}) {
		t.Errorf("events: %+v", events)
	}
	expect(t, "the station has moved", r.fromPort("b", alice), "@10.9.0.2 a loop")
}

// However many stations a loop carries round, it does not fill the log.
func TestALoopOfManyStationsIsTenLinesASecond(t *testing.T) {
	var log strings.Builder
	r := newRig(t, Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	r.segment(SegmentConfig{VNI: 100}, "a", "loop")
	const stations = 500
	for range 3 {
		for i := range stations {
			r.fromPort("a", eth(fdb.Broadcast, mac(i+1)))
			r.fromPort("loop", eth(fdb.Broadcast, mac(i+1)))
		}
	}
	for _, now := range []int{1, 181} {
		log.Reset()
		r.age(now)
		r.v.tellNews()
		if n := strings.Count(log.String(), "\n"); n != maxLines || !strings.Contains(log.String(), "more=491") {
			t.Errorf("at %d: %d lines: %s", now, n, log.String())
		}
	}
}
