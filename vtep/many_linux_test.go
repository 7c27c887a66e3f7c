package vtep

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/nettest"
	"github.com/uvtep/uvtep/internal/underlay"
)

// BenchmarkFloodThroughTheKernel is one broadcast frame to many peers through
// real sockets and a cable to a router that drops the packets. Its time is that of
// the worker's thread alone, whatever else the machine does; the kernel delivers
// the packets at the far end of the cable in it, too.
func BenchmarkFloodThroughTheKernel(b *testing.B) {
	nettest.Root(b)
	for _, n := range []int{1, 16, 256, 1024} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			ns, far := nettest.New(b, "a"), nettest.New(b, "b")
			nettest.Veth(b, ns, "ul", far, "ul")
			ns.Addr("ul", "10.9.0.1/24")
			far.Addr("ul", "10.9.0.2/24")
			ns.Exec("ip", "route", "add", "10.64.0.0/16", "via", "10.9.0.2")
			r := newRigOver(b, Config{}, func(e underlay.Endpoint) underlay.Endpoint {
				if err := e.Close(); err != nil {
					b.Fatal(err)
				}
				var err error
				ns.Do(func() {
					e, err = underlay.Open(underlay.Config{Local: self, Port: encap.Port, Checksum: true, TTL: 64, Queues: 1, Offload: underlay.All})
				})
				if err != nil {
					b.Fatal(err)
				}
				return e
			})
			cfg := SegmentConfig{VNI: 100}
			for i := range n {
				cfg.Peers = append(cfg.Peers, netip.AddrFrom4([4]byte{10, 64, byte(i >> 8), byte(i)}))
			}
			r.segment(cfg, "a")
			f, from := eth(fdb.Broadcast, mac(1)), r.taps.Device("a")
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			flood := func() {
				from.Send(f)
				r.turn()
			}
			flood() // the router is known then
			start := threadTime(b)
			for range b.N {
				flood()
			}
			took := threadTime(b) - start
			b.ReportMetric(float64(took)/float64(b.N), "cpu-ns/flood")
			b.ReportMetric(float64(took)/float64(b.N)/float64(n), "cpu-ns/peer")
			if d := r.v.Stats().Drops; len(d) > 0 {
				b.Logf("drops: %+v", d)
			}
		})
	}
}

// threadTime is what this thread has had of a processor, nanoseconds.
func threadTime(b *testing.B) int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		b.Fatal(err)
	}
	return t.Nano()
}
