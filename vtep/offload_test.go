package vtep

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/tap"
	"github.com/uvtep/uvtep/internal/underlay"
)

// flow is what a station sends to another, as a Linux sender does: sequence
// numbers and identifications count up.
type flow struct {
	from     string // a port, or @ and a peer's address
	dst, src fdb.MAC
	udp, v6  bool
	port     uint16
	seq      uint32
	id       uint16
}

// segments is what the flow sends next, in frames of their own: data in pieces of
// size bytes, PSH with the last.
func (fl *flow) segments(t testing.TB, data []byte, size int) (out [][]byte) {
	for piece := range slices.Chunk(data, size) {
		out = append(out, fl.frame(t, piece, len(out)*size+len(piece) == len(data)))
		fl.seq += uint32(len(piece))
		fl.id++
	}
	return out
}

// super is segments in one super-frame.
func (fl *flow) super(t testing.TB, data []byte, size int) ([]byte, frame.Offload) {
	b := fl.frame(t, data, true)
	n := (len(data) + size - 1) / size
	fl.seq, fl.id = fl.seq+uint32(len(data)), fl.id+uint16(n)
	l4, addrs, proto := 34, 26, uint64(frame.ProtoTCP)
	o := frame.Offload{Flags: frame.NeedsCsum, GSO: frame.GSOTCPv4, GSOSize: uint16(size), HdrLen: 20, CsumOffset: 16}
	if fl.v6 {
		l4, addrs, o.GSO = 54, 22, frame.GSOTCPv6
	}
	if fl.udp {
		proto, o.GSO, o.HdrLen, o.CsumOffset = uint64(frame.ProtoUDP), frame.GSOUDPL4, 8, 6
	}
	o.CsumStart, o.HdrLen = uint16(l4), o.HdrLen+uint16(l4)
	if n == 1 {
		o.GSO, o.GSOSize = frame.GSONone, 0
	}
	sum := frame.Fold(frame.Sum(b[addrs:l4], proto+uint64(len(b)-l4)))
	binary.BigEndian.PutUint16(b[l4+int(o.CsumOffset):], sum)
	return b, o
}

func (fl *flow) frame(t testing.TB, data []byte, last bool) []byte {
	typ, proto := layers.EthernetTypeIPv4, layers.IPProtocolTCP
	if fl.udp {
		proto = layers.IPProtocolUDP
	}
	four := ipv4(ip("192.168.100.1"), ip("192.168.100.2"), proto)
	four.Id = fl.id
	var network gopacket.SerializableLayer = four
	if fl.v6 {
		typ = layers.EthernetTypeIPv6
		network = &layers.IPv6{Version: 6, HopLimit: 9, NextHeader: proto, SrcIP: ip("fd00::1").AsSlice(), DstIP: ip("fd00::2").AsSlice()}
	}
	var transport gopacket.SerializableLayer = &layers.TCP{SrcPort: layers.TCPPort(fl.port), DstPort: 80, Seq: fl.seq, Ack: 7, ACK: true, PSH: last, Window: 500}
	if fl.udp {
		transport = &layers.UDP{SrcPort: layers.UDPPort(fl.port), DstPort: 80}
	}
	return asSent(build(t, ethernet(fl.dst, fl.src, typ), network, transport, gopacket.Payload(data)))
}

// asSent is a frame as a kernel sends it by a TAP: gopacket pads short ones, and
// writes a UDP checksum that comes out zero as zero, which means none (RFC 768).
func asSent(b []byte) []byte {
	l4, proto, n := 34, b[23], 14+int(binary.BigEndian.Uint16(b[16:]))
	if b[12] != 0x08 {
		l4, proto, n = 54, b[20], 54+int(binary.BigEndian.Uint16(b[18:]))
	}
	if sum := b[l4+6 : l4+8]; proto == frame.ProtoUDP && sum[0]|sum[1] == 0 {
		sum[0], sum[1] = 0xff, 0xff
	}
	return b[:n]
}

// plainFrames are the frames that a kernel makes of one with a virtio header, by
// gopacket, header by header.
func plainFrames(t testing.TB, b []byte, o frame.Offload) (out [][]byte) {
	t.Helper()
	if o.Flags&frame.NeedsCsum == 0 {
		return [][]byte{b}
	}
	p := gopacket.NewPacket(b, layers.LayerTypeEthernet, gopacket.Default)
	data := p.TransportLayer().LayerPayload()
	size := int(o.GSOSize)
	if o.GSO == frame.GSONone {
		size = max(len(data), 1)
	} else if hdr := len(b) - len(data); int(o.HdrLen) != hdr || len(data) <= size {
		t.Errorf("a super-frame of %d bytes with headers of %d says %+v", len(b), hdr, o)
	}
	for k := 0; k*size < len(data); k++ {
		piece := data[k*size : min((k+1)*size, len(data))]
		var ls []gopacket.SerializableLayer
		for _, l := range p.Layers() {
			switch l := l.(type) {
			case *layers.Ethernet, *layers.IPv6:
				ls = append(ls, l.(gopacket.SerializableLayer))
			case *layers.IPv4:
				c := *l
				c.Id += uint16(k)
				ls = append(ls, &c)
			case *layers.TCP:
				c := *l
				c.Seq += uint32(k * size)
				c.PSH = c.PSH && (k+1)*size >= len(data)
				ls = append(ls, &c)
			case *layers.UDP:
				c := *l
				ls = append(ls, &c)
			}
		}
		out = append(out, asSent(build(t, append(ls, gopacket.Payload(piece))...)))
	}
	return out
}

// arrivals is everything that has left a rig, in plain frames, by who got it and
// by flow.
func arrivals(t testing.TB, r *rig) (got map[string][][]byte, supers int) {
	t.Helper()
	return arrivalsAs(t, r, func(name string, b []byte, o frame.Offload) (string, []byte, frame.Offload) { return name, b, o })
}

// arrivalsAs is arrivals where what a device got is read as somebody else's.
func arrivalsAs(t testing.TB, r *rig, as func(name string, b []byte, o frame.Offload) (string, []byte, frame.Offload)) (got map[string][][]byte, supers int) {
	t.Helper()
	got = map[string][][]byte{}
	add := func(where string, b []byte) {
		p := gopacket.NewPacket(b, layers.LayerTypeEthernet, gopacket.NoCopy)
		k := fmt.Sprint(where, " ", p.LinkLayer().LinkFlow(), " ", p.NetworkLayer().NetworkFlow(), " ", p.TransportLayer().LayerType(), " ", p.TransportLayer().TransportFlow())
		got[k] = append(got[k], b)
	}
	for _, name := range r.taps.Names() {
		for {
			b, o, ok := r.taps.Device(name).TryRecvSuper()
			if !ok {
				break
			}
			if o.GSO != frame.GSONone {
				supers++
			}
			where, b, o := as(name, b, o)
			for _, f := range plainFrames(t, b, o) {
				add(where, f)
			}
		}
	}
	for _, p := range r.sent {
		add("@"+p.Dst.Addr().String(), p.Payload[encap.HeaderLen:])
	}
	r.sent = nil
	return got, supers
}

// difference tells two lists of frames apart in few words.
func difference(what string, got, want [][]byte) string {
	for i := range min(len(got), len(want)) {
		if !bytes.Equal(got[i], want[i]) {
			return fmt.Sprintf("%s: frame %d of %d is\n%x, want\n%x", what, i, len(got), got[i], want[i])
		}
	}
	return fmt.Sprintf("%s: %d frames, want %d", what, len(got), len(want))
}

// Two switches, one whose ports and tunnel do all offloads until they lose them
// one by one, and one whose do none, carry the same: of every flow the same bytes
// in the same order, to the same places.
func TestOffloadsChangeNothingInWhatArrives(t *testing.T) {
	for seed := range uint64(6) {
		rnd := rand.New(rand.NewPCG(seed, 8))
		plain, fast := newRig(t, Config{}), newOffloadRig(t, Config{})
		places := []string{"a", "b", "c", "@10.9.0.2", "@10.9.0.3"}
		for _, r := range []*rig{plain, fast} {
			s := r.segment(SegmentConfig{VNI: 100, NoLearning: true, Peers: []netip.Addr{peer2, peer3}}, "a", "b", "c")
			for i, at := range places {
				e := StaticEntry{MAC: mac(i + 1), Port: at}
				if remoteAt(at) {
					e = StaticEntry{MAC: mac(i + 1), Dst: ip(at[1:])}
				}
				if err := s.AddStatic(e); err != nil {
					t.Fatal(err)
				}
			}
		}
		var flows []*flow
		for n := range 24 {
			i, j := rnd.IntN(len(places)), rnd.IntN(len(places)+1)
			for i == j || j < len(places) && remoteAt(places[i]) && remoteAt(places[j]) {
				j = rnd.IntN(len(places) + 1) // the last one is broadcast
			}
			dst := fdb.Broadcast
			if j < len(places) {
				dst = mac(j + 1)
			}
			flows = append(flows, &flow{from: places[i], dst: dst, src: mac(i + 1), udp: rnd.IntN(2) == 0, v6: rnd.IntN(2) == 0,
				port: uint16(1000 + n), seq: rnd.Uint32(), id: uint16(rnd.Uint32())})
		}
		supers, merged := 0, 0
		for round := range 150 {
			for frames := 0; frames < 60; {
				fl := flows[rnd.IntN(len(flows))]
				size := []int{12, 100, 500, 1390, 1390}[rnd.IntN(5)]
				data := make([]byte, 1+rnd.IntN(size*(1+rnd.IntN(12))))
				for i := range data {
					data[i] = byte(rnd.Uint32())
				}
				before := *fl
				single := fl.segments(t, data, size)
				frames += len(single)
				if remoteAt(fl.from) {
					for _, b := range single {
						plain.inject(ip(fl.from[1:]), 0, vxlan(100, b))
						fast.inject(ip(fl.from[1:]), 0, vxlan(100, b))
					}
					continue
				}
				for _, b := range single {
					plain.taps.Device(fl.from).Send(b)
				}
				if rnd.IntN(3) == 0 {
					for _, b := range single {
						fast.taps.Device(fl.from).Send(b)
					}
					continue
				}
				b, o := before.super(t, data, size)
				fast.taps.Device(fl.from).SendSuper(0, b, o)
				if o.GSO != frame.GSONone {
					supers++
				}
			}
			plain.turn()
			fast.turn()
			want, none := arrivals(t, plain)
			got, some := arrivals(t, fast)
			merged += some
			if none != 0 {
				t.Fatalf("%d super-frames where there are no offloads", none)
			}
			for k := range want {
				if !slices.EqualFunc(got[k], want[k], bytes.Equal) {
					t.Fatalf("seed %d, round %d: %s", seed, round, difference(k, got[k], want[k]))
				}
			}
			if len(got) != len(want) {
				t.Fatalf("seed %d, round %d: %d flows arrived, want %d", seed, round, len(got), len(want))
			}
			switch round {
			case 50:
				fast.taps.Device("a").SetOffload(tap.All &^ tap.WriteTSO)
				fast.taps.Device("b").SetOffload(0)
			case 75:
				fast.v.Segments()[0].maintain(t.Context())
			case 100:
				fast.net.Endpoint(netip.AddrPortFrom(self, 4789)).SetOffload(0)
			}
		}
		if supers < 100 || merged < 100 {
			t.Errorf("only %d super-frames went in and %d came out", supers, merged)
		}
		for _, r := range []*rig{plain, fast} {
			if d := r.dropped(); d != "" {
				t.Errorf("drops: %s", d)
			}
		}
	}
}

// tcpBurst has a peer send a TCP stream in n segments of 1000 bytes, and returns
// what the port got: frames, and the bytes of the stream.
func tcpBurst(r *rig, fl *flow, name string, n int) (frames int, stream []byte) {
	data := bytes.Repeat([]byte{byte(n)}, 1000*n)
	for _, b := range fl.segments(r.t, data, 1000) {
		r.inject(peer2, 0, vxlan(100, b))
	}
	r.turn()
	for {
		b, o, ok := r.taps.Device(name).TryRecvSuper()
		if !ok {
			return frames, stream
		}
		frames++
		for _, f := range plainFrames(r.t, b, o) {
			honest(r.t, f)
			stream = append(stream, f[54:]...)
		}
	}
}

func TestAPortThatLosesAnOffloadGoesOnAndIsToldOfOnce(t *testing.T) {
	var log bytes.Buffer
	r := newOffloadRig(t, Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	s := r.segment(SegmentConfig{VNI: 100, Peers: []netip.Addr{peer2}}, "a", "b")
	r.send("a", eth(fdb.Broadcast, mac(1)))
	r.send("b", eth(fdb.Broadcast, mac(2)))
	r.outs()
	to := map[string]*flow{"a": {dst: mac(1), src: mac(9), port: 1}, "b": {dst: mac(2), src: mac(9), port: 1}}
	expect := func(when, name string, want int) {
		t.Helper()
		if frames, stream := tcpBurst(r, to[name], name, 6); frames != want || len(stream) != 6000 {
			t.Errorf("%s, %s got %d frames with %d bytes, want %d with 6000", when, name, frames, len(stream), want)
		}
	}
	s.maintain(t.Context())
	expect("with all", "a", 1)
	r.taps.Device("a").SetOffload(tap.All &^ tap.WriteTSO)
	expect("at once", "a", 6)
	for range 2 {
		s.maintain(t.Context())
		expect("later", "a", 6)
		expect("at the other port", "b", 1)
		if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "port=a") || !strings.Contains(got, "tcp-gro") {
			t.Errorf("the log says %q, want one line of port a and tcp-gro", got)
		}
		if n := r.v.Stats().LostOffloads; n != 1 {
			t.Errorf("%d offloads were lost, want 1", n)
		}
		if got := s.Ports()[0].Offload; slices.Contains(got, "tcp-gro") || !slices.Contains(got, "tso") {
			t.Errorf("port a has %q", got)
		}
	}
	r.taps.Device("b").SetOffload(0)
	s.maintain(t.Context())
	expect("without any", "b", 6)
	if n, want := r.v.Stats().LostOffloads, uint64(1+len(tap.All.Names())); n != want || strings.Count(log.String(), "\n") != 2 {
		t.Errorf("%d offloads were lost, want %d; the log says %q", n, want, log.String())
	}
	if d := r.dropped(); d != "" {
		t.Errorf("drops: %s", d)
	}
}

// A super-frame has a partial checksum: a device that cannot do with that gets
// none, whatever else it says.
func TestADeviceThatTakesNoPartialChecksumGetsNoSuperFrames(t *testing.T) {
	for _, o := range []tap.Offload{tap.All &^ tap.Checksum, tap.WriteTSO} {
		r := newOffloadRig(t, Config{})
		s := r.segment(SegmentConfig{VNI: 100, Peers: []netip.Addr{peer2}}, "a", "b")
		r.send("a", eth(fdb.Broadcast, mac(1)))
		r.outs()
		for _, known := range []bool{false, true} {
			r.taps.Device("a").SetOffload(o)
			if known {
				s.maintain(t.Context())
			}
			if frames, stream := tcpBurst(r, &flow{dst: mac(1), src: mac(9), port: 1}, "a", 6); frames != 6 || len(stream) != 6000 {
				t.Errorf("with %s it got %d frames with %d bytes", o, frames, len(stream))
			}
		}
	}
}

// counted counts how often it is asked to write.
type counted struct {
	underlay.Endpoint
	queues []underlay.Queue
	writes int
	waits  []time.Duration // what it was allowed to wait, in all, since it was made
}

type countedQueue struct {
	underlay.Queue
	of *counted
}

func (q countedQueue) Notify(wake func()) { q.Queue.(notifier).Notify(wake) }

func (c *counted) Queues() []underlay.Queue { return c.queues }

func (q countedQueue) Allow(wait time.Duration) { q.of.waits = append(q.of.waits, wait) }

func (q countedQueue) Write(p []underlay.Packet) int {
	q.of.writes++
	return q.Queue.Write(p)
}

func newCountedRig(t *testing.T) (*rig, *counted) {
	c := &counted{}
	return newRigWith(t, Config{}, tap.All, underlay.All, func(e underlay.Endpoint) underlay.Endpoint {
		c.Endpoint = e
		for _, q := range e.Queues() {
			c.queues = append(c.queues, countedQueue{q, c})
		}
		return c
	}), c
}

// All that a worker writes in a round, whoever sent it, may wait for room in the
// tunnel's sockets for one millisecond together.
func TestARoundMayWaitForTheTunnelOnce(t *testing.T) {
	r, c := newCountedRig(t)
	names := []string{"a", "b", "c"}
	r.segment(SegmentConfig{VNI: 100, Peers: []netip.Addr{peer2}}, names...)
	w := r.v.workers[0]
	var ready []*source
	for _, s := range *w.poll.mem.Load() {
		if s != nil && s.port != nil {
			ready = append(ready, s)
		}
	}
	for round := 1; round <= 3; round++ {
		for i, name := range names {
			for range 2 * frame.BatchLen {
				r.taps.Device(name).Send(eth(fdb.Broadcast, mac(1+i)))
			}
		}
		c.writes = 0
		w.turn(ready)
		if c.writes != 2*len(names) {
			t.Errorf("%d writes in round %d, want %d", c.writes, round, 2*len(names))
		}
		if want := slices.Repeat([]time.Duration{time.Millisecond}, round); !slices.Equal(c.waits, want) {
			t.Errorf("allowed %v in %d rounds, want %v", c.waits, round, want)
		}
	}
}

// A tunnel and a port that are full cost a write a batch, each frame of which is
// counted, and nobody tries again.
func TestWhatIsFullIsTriedOnceAndCounted(t *testing.T) {
	r, c := newCountedRig(t)
	s := r.segment(SegmentConfig{VNI: 100, Peers: []netip.Addr{peer2}}, "a", "b")
	r.net.Endpoint(netip.AddrPortFrom(self, 4789)).SetFull(true)
	r.taps.Device("b").SetCapacity(0)
	fl := &flow{dst: fdb.Broadcast, src: mac(1), port: 9}
	const batches, supers, each = 3, 10, 20
	batch := r.v.workers[0].batches.load()
	for range batches {
		for range supers {
			b, o := fl.super(t, make([]byte, each*1000), 1000)
			r.taps.Device("a").SendSuper(0, b, o)
		}
		r.turn()
	}
	if n := r.v.workers[0].batches.load() - batch; n != batches {
		t.Fatalf("%d batches, want %d: the test is void", n, batches)
	}
	if c.writes != batches {
		t.Errorf("%d writes for %d batches", c.writes, batches)
	}
	drops := map[frame.Reason]uint64{}
	for _, d := range r.v.Stats().Drops {
		drops[d.Reason] = d.Count
	}
	if drops[frame.TunnelFull] != batches*supers*each || drops[frame.PortFull] != batches*supers || len(drops) != 2 {
		t.Errorf("drops %v, want %d by the tunnel and %d by the port", drops, batches*supers*each, batches*supers)
	}
	if p := s.Peers()[0]; p.TxDropped != batches*supers*each || p.TxPackets != 0 || p.TxBytes != 0 {
		t.Errorf("peer: %+v", p)
	}
	if p := s.Ports()[1]; p.TxDropped != batches*supers || p.TxPackets != 0 {
		t.Errorf("port: %+v", p)
	}
	// And nothing of it is left when there is room again.
	r.net.Endpoint(netip.AddrPortFrom(self, 4789)).SetFull(false)
	r.taps.Device("b").SetCapacity(100)
	r.turn()
	if got := r.outs(); len(got) != 0 {
		t.Errorf("%d frames were kept", len(got))
	}
	if b, o := fl.super(t, make([]byte, 3000), 1000); !r.taps.Device("a").SendSuper(0, b, o) {
		t.Fatal("not taken")
	}
	r.turn()
	if got := r.outs(); len(got) != 4 {
		t.Errorf("%d frames left, want one at the port and three to the peer", len(got))
	}
}
