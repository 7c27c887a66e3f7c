package vtep

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/tap"
	"github.com/uvtep/uvtep/internal/underlay"
)

// The null devices take everything and yield nothing, so that what is measured
// is the switch alone.
type nullTAP struct{}

func (nullTAP) Name() string                     { return "null" }
func (d nullTAP) Queues() []tap.Queue            { return []tap.Queue{nullQueue{}} }
func (nullTAP) SetMTU(int) error                 { return nil }
func (nullTAP) Close() error                     { return nil }
func (nullTAP) Offload() tap.Offload             { return 0 }
func (nullQueue) Fd() int                        { return -1 }
func (nullQueue) Read(*frame.Batch) (int, error) { return 0, nil }
func (nullQueue) Write(fs []*frame.Frame) int    { return len(fs) }

type nullQueue struct{}

type nullUnderlay struct{}

func (nullUnderlay) Queues() []underlay.Queue             { return []underlay.Queue{nullTunnel{}} }
func (nullUnderlay) Join(netip.Addr) error                { return nil }
func (nullUnderlay) Leave(netip.Addr) error               { return nil }
func (nullUnderlay) MTU() (int, error)                    { return 1500, nil }
func (nullUnderlay) Close() error                         { return nil }
func (nullUnderlay) Offload() underlay.Offload            { return underlay.All }
func (nullTunnel) Fd() int                                { return -1 }
func (nullTunnel) Read(*frame.Batch) (int, error)         { return 0, nil }
func openNull(underlay.Config) (underlay.Endpoint, error) { return nullUnderlay{}, nil }

func (nullTunnel) Write(ps []underlay.Packet) (n int) {
	for i := range ps {
		ps[i].Sent, ps[i].Reason = ps[i].Count, frame.NotDropped
		n += ps[i].Sent
	}
	return n
}

type nullTunnel struct{}

// path is a VTEP between null devices, with macs known behind its port and as
// many behind its peer.
type path struct {
	w        *worker
	p        *Port
	out, in  *frame.Batch // 64-byte frames from the port; VXLAN packets from the peer
	src, dst netip.Addr
}

func newPath(b testing.TB, macs int) *path {
	b.Helper()
	local, far := netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("10.9.0.2")
	v, err := New(Config{Local: local, Workers: 1, OpenUnderlay: openNull})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { v.Close() })
	s, err := v.AddSegment(SegmentConfig{VNI: 100, Peers: []netip.Addr{far}, MaxMACs: -1})
	if err != nil {
		b.Fatal(err)
	}
	p, err := s.AttachPort(PortConfig{Name: "null", Device: nullTAP{}})
	if err != nil {
		b.Fatal(err)
	}
	peer, _ := s.peers.Lookup(far)
	for i := range macs {
		s.table.Learn(localMAC(i), fdb.Local(p.id), 0)
		s.table.Learn(farMAC(i), fdb.Remote(peer.ID), 0)
	}
	return &path{w: v.workers[0], p: p, src: local, dst: far,
		out: frame.NewBatch(frame.BatchLen, 2048), in: frame.NewBatch(frame.BatchLen, 2048)}
}

func localMAC(i int) fdb.MAC { return fdb.MAC(0x020000000000 | i) }
func farMAC(i int) fdb.MAC   { return fdb.MAC(0x060000000000 | i) }

// put writes a 64-byte UDP frame (FCS left out: 60 bytes) to b.
func put(b []byte, dst, src fdb.MAC, flow int) int {
	clear(b[:60])
	dst.Put(b)
	src.Put(b[6:])
	binary.BigEndian.PutUint16(b[12:], frame.TypeIPv4)
	ip := b[14:]
	ip[0], ip[8], ip[9] = 0x45, 64, frame.ProtoUDP
	binary.BigEndian.PutUint16(ip[2:], 46)
	binary.BigEndian.PutUint32(ip[12:], 0xc0a86401)
	binary.BigEndian.PutUint32(ip[16:], 0xc0a86402)
	binary.BigEndian.PutUint16(ip[20:], uint16(flow))
	binary.BigEndian.PutUint16(ip[22:], 9)
	binary.BigEndian.PutUint16(ip[24:], 26)
	binary.BigEndian.PutUint16(ip[26:], 0x1234)
	return 60
}

// turn carries one batch out and one in; n counts up over all MACs.
func (p *path) turn(n, macs int) {
	p.out.Clear()
	p.in.Clear()
	for i := range frame.BatchLen {
		m := (n + i) % macs
		f := p.out.Next()
		p.out.Commit(put(f.Buffer(), farMAC(m), localMAC(m), i))
		f = p.in.Next()
		encap.PutHeader(f.Buffer(), 100)
		p.in.Commit(8 + put(f.Buffer()[8:], localMAC(m), farMAC(m), i))
		f.Outer.Src = p.dst
	}
	p.w.fromPort(p.p, p.out.Frames)
	p.w.fromTunnel(p.in.Frames)
}

func TestTheFastPathAllocatesNothingAndDropsNothing(t *testing.T) {
	p := newPath(t, 1000)
	if n := testing.AllocsPerRun(100, func() { p.turn(0, 1000) }); n != 0 {
		t.Errorf("%v allocations a turn of %d frames", n, 2*frame.BatchLen)
	}
	if d := p.w.v.Stats().Drops; len(d) != 0 {
		t.Errorf("drops: %+v", d)
	}
	st := p.p.Stats()
	if want := uint64(101 * frame.BatchLen); st.RxPackets != want || st.TxPackets != want {
		t.Errorf("the port counts %d in and %d out, want %d each", st.RxPackets, st.TxPackets, want)
	}
}

// One operation is a 64-byte frame encapsulated and another decapsulated, the
// making of both included; see BenchmarkMakingFrames for that part.
func BenchmarkEncapsulateAndDecapsulate(b *testing.B) {
	for _, c := range []struct {
		name string
		macs int
	}{{"64MACs", 64}, {"100kMACs", 100_000}} {
		b.Run(c.name, func(b *testing.B) {
			p := newPath(b, c.macs)
			b.ReportAllocs()
			b.ResetTimer()
			for n := 0; n < b.N; n += frame.BatchLen {
				p.turn(n, c.macs)
			}
		})
	}
}

func BenchmarkMakingFrames(b *testing.B) {
	buf := make([]byte, 128)
	for n := 0; n < b.N; n++ {
		put(buf, farMAC(n&63), localMAC(n&63), n)
		encap.PutHeader(buf[60:], 100)
		put(buf[:60], localMAC(n&63), farMAC(n&63), n)
	}
}
