package vtep

import (
	"net/netip"
	"testing"
	"time"

	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/tap"
	"github.com/uvtep/uvtep/internal/underlay"
)

// sink takes everything and counts it: a TAP, its queue and a tunnel's.
type sink struct{ n int }

func (*sink) Name() string                      { return "sink" }
func (s *sink) Queues() []tap.Queue             { return []tap.Queue{s} }
func (*sink) SetMTU(int) error                  { return nil }
func (*sink) Close() error                      { return nil }
func (*sink) Offload() tap.Offload              { return tap.All }
func (*sink) Fd() int                           { return -1 }
func (*sink) Notify(func())                     {}
func (*sink) Read(*frame.Batch) (int, error)    { return 0, nil }
func (s *sink) Write(frames []*frame.Frame) int { s.n += len(frames); return len(frames) }

type sinkTunnel struct{ n int }

func (*sinkTunnel) Fd() int                        { return -1 }
func (*sinkTunnel) Allow(time.Duration)            {}
func (*sinkTunnel) Read(*frame.Batch) (int, error) { return 0, nil }
func (s *sinkTunnel) Write(ps []underlay.Packet) int {
	for i := range ps {
		ps[i].Sent, ps[i].Reason = ps[i].Count, frame.NotDropped
	}
	s.n += len(ps)
	return len(ps)
}

// Unicast, floods, answers of the service and drops, from both sides.
func TestASteadyPathAllocatesNothing(t *testing.T) {
	r := newRig(t, Config{})
	s := r.segment(SegmentConfig{VNI: 100, Peers: []netip.Addr{peer2, peer3}, DHCP: probing(9), DHCP6: dhcp6Config(), RA: &RAConfig{}})
	var devices [3]sink
	var ports [3]*Port
	for i := range ports {
		ports[i] = r.attach(s, PortConfig{Name: string(rune('a' + i)), Device: &devices[i]})
	}
	w, tunnel := r.v.workers[0], &sinkTunnel{}
	w.tunnel = tunnel
	own := serviceMAC(self, 100)
	kinds := [][]byte{
		eth(mac(1), mac(2)), eth(mac(2), mac(1)), eth(mac(3), mac(1)), eth(mac(3), mac(2)), eth(fdb.Broadcast, mac(1)), eth(mac(99), mac(2)),
		arpFor(t, fdb.Broadcast, mac(1), ip("192.168.100.77"), server), ping(t, own, mac(1), ip("192.168.100.77"), server, "x"),
		eth(mac(1), fdb.Broadcast), eth(own, mac(2)),
		solicit(t, multicastMAC(solicitedNode(server6)), mac(1), guest6, solicitedNode(server6), server6, true), ping6(t, own, mac(1), guest6, server6, "x"),
		routerSolicitation(t, mac(1), guest6, allRouters, true), arpFor(t, fdb.Broadcast, mac(1), ip("192.168.100.77"), ip("192.168.100.77")),
		arpAnswer(t, own, mac(1), ip("192.168.100.77"), ip("0.0.0.0")),
	}
	s.probe(ip("192.168.100.77"))
	in, out := frame.NewBatch(frame.BatchLen, 2048), frame.NewBatch(frame.BatchLen, 2048)
	turn := func() {
		in.Clear()
		out.Clear()
		for i := range frame.BatchLen {
			b := kinds[i%len(kinds)]
			out.Commit(copy(out.Next().Buffer(), b))
			f := in.Next()
			in.Commit(copy(f.Buffer(), vxlan100(b)))
			f.Outer.Src = peer2
		}
		w.fromPort(ports[0], out.Frames)
		w.fromTunnel(in.Frames)
	}
	if n := testing.AllocsPerRun(100, turn); n != 0 {
		t.Errorf("%v allocations a turn of %d frames", n, 2*frame.BatchLen)
	}
	for i := range devices {
		if devices[i].n == 0 {
			t.Errorf("nothing came to port %d", i)
		}
	}
	if tunnel.n == 0 {
		t.Error("nothing went into the tunnel")
	}
}

var vxlanRoom [2048]byte

// vxlan100 is vxlan for segment 100 in memory that is used again.
func vxlan100(b []byte) []byte {
	copy(vxlanRoom[:8], []byte{8, 0, 0, 0, 0, 0, 100, 0})
	return vxlanRoom[:8+copy(vxlanRoom[8:], b)]
}
