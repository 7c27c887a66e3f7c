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
	s := r.segment(SegmentConfig{VNI: 100, Peers: []netip.Addr{peer2, peer3}, DHCP: probing(9), DHCP6: dhcp6Config(), RA: &RAConfig{},
		Suppress: SuppressARP | SuppressND})
	var devices [3]sink
	var ports [3]*Port
	for i := range ports {
		cfg := PortConfig{Name: string(rune('a' + i)), Device: &devices[i]}
		if i == 0 { // everything that a guard may look at
			cfg.Bind, cfg.Addresses = BindLease, []Address{{mac(1), netip.MustParsePrefix("192.168.100.77/32")}, {mac(1), netip.PrefixFrom(guest6, 128)}}
		}
		ports[i] = r.attach(s, cfg)
	}
	w, tunnel := r.v.workers[0], &sinkTunnel{}
	w.tunnel = tunnel
	own := serviceMAC(self, 100)
	// Of stations that move the table of MACs is told, which it may be without end;
	// who has which address is asked and said by others at each side, who stay there.
	kinds := func(m, other fdb.MAC, a4, a6 netip.Addr) [][]byte {
		return [][]byte{
			eth(mac(1), mac(2)), eth(mac(2), mac(1)), eth(mac(3), mac(1)), eth(mac(3), mac(2)), eth(fdb.Broadcast, mac(1)), eth(mac(99), mac(2)),
			arpFor(t, fdb.Broadcast, m, a4, server), ping(t, own, m, a4, server, "x"),
			eth(mac(1), fdb.Broadcast), eth(own, mac(2)),
			solicit(t, multicastMAC(solicitedNode(server6)), m, a6, solicitedNode(server6), server6, true), ping6(t, own, m, a6, server6, "x"),
			routerSolicitation(t, m, a6, allRouters, true), announce(t, m, a4), arpAnswer(t, own, m, a4, ip("0.0.0.0")),
			arpFor(t, fdb.Broadcast, other, a4.Next(), a4), advertised(t, m, a6, 0x20),
			solicit(t, multicastMAC(solicitedNode(a6)), other, a6.Next(), solicitedNode(a6), a6, true),
		}
	}
	local, far := kinds(mac(11), mac(12), ip("192.168.100.77"), guest6), kinds(mac(13), mac(14), ip("192.168.100.87"), ip("fe80::87"))
	s.probe(ip("192.168.100.77"))
	in, out := frame.NewBatch(frame.BatchLen, 2048), frame.NewBatch(frame.BatchLen, 2048)
	turn := func() {
		in.Clear()
		out.Clear()
		for i := range frame.BatchLen {
			out.Commit(copy(out.Next().Buffer(), local[i%len(local)]))
			f := in.Next()
			in.Commit(copy(f.Buffer(), vxlan100(far[i%len(far)])))
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
