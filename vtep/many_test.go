package vtep

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"

	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/underlay"
)

// address is the i-th of many remote VTEPs.
func address(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 64 + byte(i>>16), byte(i >> 8), byte(i)})
}

// Four thousand segments and ten thousand peers fit: some 20 KiB a segment and
// half a KiB a peer, and not a goroutine more than for one.
func TestManySegmentsAndPeersTakeLittleMemory(t *testing.T) {
	const segments, peers = 4096, 10_000
	r := newRig(t, Config{Workers: 2})
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before, goroutines := heap(), runtime.NumGoroutine()
	for i := range segments {
		cfg := SegmentConfig{VNI: encap.VNI(i + 1)}
		for j := i; j < peers; j += segments {
			cfg.Peers = append(cfg.Peers, address(j))
		}
		r.segment(cfg)
	}
	if grown := heap() - before; grown > 100<<20 {
		t.Errorf("%d MiB for %d segments and %d peers", grown>>20, segments, peers)
	} else {
		t.Logf("%d KiB", grown>>10)
	}
	if n := runtime.NumGoroutine() - goroutines; n > 0 {
		t.Errorf("%d goroutines more", n)
	}
	// Each has its own, and nobody else's.
	r.attach(r.v.Segments()[6], PortConfig{Name: "a"})
	expect(t, "a flood in one of them", r.fromPort("a", eth(fdb.Broadcast, mac(1))), "@10.64.0.6 @10.64.16.6 @10.64.32.6")
}

// What strangers send is dropped, however many they are and however much it is,
// and of who is no peer nothing is learned.
func TestAMillionPacketsOfStrangersDoNothing(t *testing.T) {
	const peers, packets = 1024, 1_000_000
	r := newRig(t, Config{})
	cfg := SegmentConfig{VNI: 100}
	for i := range peers {
		cfg.Peers = append(cfg.Peers, address(i))
	}
	s := r.segment(cfg, "a")
	batch, p := frame.NewBatch(50, 128), vxlan(100, eth(mac(1), mac(2)))
	for i := 0; i < packets; {
		batch.Clear()
		for d := batch.Next(); d != nil; d = batch.Next() {
			mac(2 + i).Put(p[encap.HeaderLen+6:])
			d.Outer.Src = address(peers + i%70_000)
			batch.Commit(copy(d.Buffer(), p))
			i++
		}
		r.v.workers[0].fromTunnel(batch.Frames)
	}
	if out := r.outs(); len(out) > 0 {
		t.Errorf("%d frames were delivered", len(out))
	}
	if n, p := s.MACs(), len(s.Peers()); n != 0 || p != peers {
		t.Errorf("%d MACs were learned, and %d peers of %d are there", n, p, peers)
	}
	if d := r.v.Stats().Drops; len(d) != 1 || d[0] != (DropStats{Reason: frame.UnknownPeer, VNI: 100, Count: packets}) {
		t.Errorf("drops: %+v", d)
	}
}

// BenchmarkFlood is one broadcast frame to many peers, without what the kernel
// does: a packet for each, with its header and its counters.
func BenchmarkFlood(b *testing.B) {
	for _, n := range []int{1, 16, 256, 1024, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			r := newRig(b, Config{})
			r.v.workers[0].tunnel = nullQueue{r.v.workers[0].tunnel}
			cfg := SegmentConfig{VNI: 100}
			for i := range n {
				cfg.Peers = append(cfg.Peers, address(i))
			}
			r.segment(cfg, "a")
			f, from := eth(fdb.Broadcast, mac(1)), r.taps.Device("a")
			b.ReportAllocs()
			for b.Loop() {
				from.Send(f)
				r.turn()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/peer")
		})
	}
}

// nullQueue sends everything to nobody.
type nullQueue struct{ underlay.Queue }

func (nullQueue) Write(packets []underlay.Packet) (sent int) {
	for i := range packets {
		packets[i].Sent, packets[i].Reason = packets[i].Count, frame.NotDropped
		sent += packets[i].Count
	}
	return sent
}

// BenchmarkFromManyPeers is what packets cost that are dropped as nobody's, and those
// that are somebody's, where there are many peers.
func BenchmarkFromManyPeers(b *testing.B) {
	for _, n := range []int{1, 1024, 10_000} {
		r := newRig(b, Config{})
		cfg := SegmentConfig{VNI: 100, MaxMACs: -1}
		for i := range n {
			cfg.Peers = append(cfg.Peers, address(i))
		}
		s := r.segment(cfg)
		for _, who := range []struct {
			name  string
			first int
		}{{"peer", 0}, {"stranger", n}} {
			b.Run(fmt.Sprint(n, "/", who.name), func(b *testing.B) {
				w := r.v.workers[0]
				for i := 0; b.Loop(); i++ {
					var from sender // who sent the one before is another
					w.identify(&from, s.vni, address(who.first+i%n))
				}
			})
		}
	}
}
