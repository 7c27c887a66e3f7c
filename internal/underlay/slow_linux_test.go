package underlay_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/nettest"
	"github.com/uvtep/uvtep/internal/underlay"
)

// An interface that is slower than the sender, behind a buffer that is small:
// what may wait is not lost, and what may not wait is.
func TestNothingIsLostThatHadTheTimeToBeSent(t *testing.T) {
	for _, o := range []underlay.Offload{0, underlay.All} {
		w, a, _ := kernelWorld(t, hosts4)
		nettest.Need(t, "tc")
		cfg := config(w.a)
		cfg.SndBuf, cfg.Offload, cfg.Sources = 16<<10, o, 1
		ea, eb := mustOpen(t, w.openA, cfg), mustOpen(t, w.openB, config(w.b))
		mustWrite(t, ea, packets(w.b, 1, 20)) // the neighbours find each other
		read(t, eb, 1)
		a.Exec("tc", "qdisc", "add", "dev", "eth0", "root", "tbf", "rate", "16mbit", "burst", "4kb", "limit", "4mb")

		const n = 200
		ps := packets(w.b, n, 1000)
		if o != 0 {
			// A train counts at once against the buffer, however long it is.
			ps = nil
			for i := range n / 20 {
				ps = append(ps, train(w.b, i*20, 1008, 20, 1008))
			}
		}
		q := ea.Queues()[0]
		sent := q.Write(ps)
		if sent == 0 || sent == n {
			t.Fatalf("%s: %d of %d sent without waiting, want some", o, sent, n)
		}
		read(t, eb, sent)
		q.Allow(time.Minute)
		mustWriteAll(t, q, ps)
		for i, g := range read(t, eb, n) {
			if number(g) != i {
				t.Fatalf("%s: packet %d arrived as the %dth", o, number(g), i)
			}
		}
	}
}

func mustWriteAll(t *testing.T, q underlay.Queue, ps []underlay.Packet) {
	t.Helper()
	q.Write(ps)
	for i := range ps {
		if ps[i].Sent != ps[i].Count || ps[i].Reason != frame.NotDropped {
			t.Fatalf("packet %d: %d of %d sent, %v", i, ps[i].Sent, ps[i].Count, ps[i].Reason)
		}
	}
}

func TestWaitingAllocatesNothing(t *testing.T) {
	w, a, _ := kernelWorld(t, hosts4)
	cfg := config(w.a)
	cfg.SndBuf = 4608
	q := mustOpen(t, w.openA, cfg).Queues()[0]
	a.Sysctl("net/ipv4/neigh/eth0/unres_qlen_bytes", "1000000") // as in TestASocketThatIsFullIsToldApart
	ps := packets(netip.MustParseAddr("10.0.0.77"), 64, 1000)
	full := 0
	if n := testing.AllocsPerRun(20, func() {
		q.Allow(100 * time.Microsecond)
		if q.Write(ps) < len(ps) {
			full++
		}
	}); n != 0 {
		t.Errorf("%v allocations a write", n)
	}
	if full == 0 {
		t.Error("the socket was never full: the test is void")
	}
}
