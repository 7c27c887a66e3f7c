package underlay_test

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/underlay"
)

// The sender's queue for a flow is frame.QueueOf, so the receiver's has to be.
func TestAFlowArrivesAtTheQueueOfItsHash(t *testing.T) {
	for _, hosts := range []world{hosts4, hosts6} {
		for _, c := range []struct {
			queues, sources int
			offload         underlay.Offload
		}{{2, 16, 0}, {2, 16, underlay.All}, {3, 16, underlay.All}, {5, 16, 0}, {16, 16, 0}, {4, 64, 0}, {2, 8, underlay.All}, {32, 64, 0}} {
			w, _, _ := kernelWorld(t, hosts)
			cfg := config(w.a)
			cfg.Sources, cfg.Offload = c.sources, c.offload
			a := mustOpen(t, w.openA, cfg)
			cfg = config(w.b)
			cfg.Queues, cfg.Offload = c.queues, c.offload
			b := mustOpen(t, w.openB, cfg)
			ps, used := packets(w.b, 256, 20), map[int]bool{}
			for i := range ps {
				ps[i].Entropy = uint32(i)<<24 | rand.Uint32N(1<<24)
			}
			mustWrite(t, a, packets(w.b, 1, 20)) // the neighbours find each other
			read(t, b, 1)
			mustWrite(t, a, ps)
			for _, g := range read(t, b, len(ps)) {
				hash := ps[number(g)].Entropy
				if want := frame.QueueOf(hash, c.queues); g.queue != want {
					t.Errorf("%+v: %#x came by queue %d, want %d", c, hash, g.queue, want)
				}
				used[g.queue] = true
			}
			if len(used) != c.queues {
				t.Errorf("%+v: %d queues were used", c, len(used))
			}
		}
	}
}

// Those that may send by whatever port they like are spread all the same, by more
// than that port: hosts that send by one port each do not share one queue.
func TestStrangersPortsAreSpreadByTheKernel(t *testing.T) {
	w, a, _ := kernelWorld(t, hosts4)
	cfg := config(w.b)
	cfg.Queues = 2
	b := mustOpen(t, w.openB, cfg)
	used := map[int]bool{}
	for i := range 32 {
		addr := hosts4.a.As4()
		addr[3] = byte(100 + i)
		from := config(hosts4.a)
		from.Local = netip.AddrFrom4(addr)
		a.Addr("eth0", from.Local.String()+"/24")
		from.Sources, from.SourceLow, from.SourceHigh = 1, port, port
		from.Port = port + 1
		e := mustOpen(t, w.openA, from)
		queue := -1
		for range 3 {
			mustWrite(t, e, packets(w.b, 1, 20))
			g := read(t, b, 1)[0]
			if queue >= 0 && g.queue != queue {
				t.Errorf("%s came by queues %d and %d", from.Local, queue, g.queue)
			}
			queue = g.queue
		}
		used[queue] = true
	}
	if len(used) != 2 {
		t.Errorf("all of them share a queue")
	}
}
