package underlay_test

import (
	"bytes"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/nettest"
	"github.com/uvtep/uvtep/internal/underlay"
	"github.com/uvtep/uvtep/internal/underlay/underlaytest"
	"golang.org/x/sys/unix"
)

const port = 4789

// world is two hosts, a and b, on one network: in memory, or two namespaces.
type world struct {
	a, b    netip.Addr
	group   netip.Addr
	openA   underlay.Opener
	openB   underlay.Opener
	setMTU  func(mtu int)
	sources func() func() map[uint16]int // starts to count a's packets by source port
	offload underlay.Offload
}

func eachWorld(t *testing.T, body func(t *testing.T, w world)) {
	for _, v := range []struct {
		name, a, b, group string
	}{
		{"IPv4", "10.0.0.1", "10.0.0.2", "239.1.1.100"},
		{"IPv6", "fd00::1", "fd00::2", "ff05::1:100"},
	} {
		w := world{a: netip.MustParseAddr(v.a), b: netip.MustParseAddr(v.b), group: netip.MustParseAddr(v.group)}
		t.Run("memory "+v.name, func(t *testing.T) { body(t, memoryWorld(w)) })
		t.Run("memory with offloads "+v.name, func(t *testing.T) { body(t, memoryWorld(w).with(underlay.All)) })
		t.Run("kernel "+v.name, func(t *testing.T) { w, _, _ := kernelWorld(t, w); body(t, w) })
		for _, o := range []underlay.Offload{underlay.GSO, underlay.GRO, underlay.All} {
			t.Run("kernel with "+o.String()+" "+v.name, func(t *testing.T) { w, _, _ := kernelWorld(t, w); body(t, w.with(o)) })
		}
	}
}

// with is the world with offloads at both ends.
func (w world) with(o underlay.Offload) world {
	want := func(open underlay.Opener) underlay.Opener {
		return func(cfg underlay.Config) (underlay.Endpoint, error) {
			cfg.Offload = o
			return open(cfg)
		}
	}
	w.openA, w.openB, w.offload = want(w.openA), want(w.openB), o
	return w
}

func memoryWorld(w world) world {
	n := underlaytest.NewNetwork()
	n.Offload = underlay.All
	w.openA, w.openB, w.setMTU = n.Open, n.Open, n.SetMTU
	w.sources = func() func() map[uint16]int {
		count := map[uint16]int{}
		n.OnPacket(func(p underlaytest.Packet) {
			if p.Src.Addr() == w.a {
				count[p.Src.Port()]++
			}
		})
		return func() map[uint16]int { return count }
	}
	return w
}

func kernelWorld(t *testing.T, w world) (world, *nettest.NS, *nettest.NS) {
	a, b := nettest.New(t, "a"), nettest.New(t, "b")
	nettest.Veth(t, a, "eth0", b, "eth0")
	bits := "/24"
	if w.a.Is6() {
		bits = "/64"
	}
	a.Addr("eth0", w.a.String()+bits)
	b.Addr("eth0", w.b.String()+bits)
	w.openA, w.openB = opener(a), opener(b)
	w.setMTU = func(mtu int) {
		a.Exec("ip", "link", "set", "eth0", "mtu", itoa(mtu))
	}
	w.sources = func() func() map[uint16]int { return countSources(t, b, w.a) }
	return w, a, b
}

func opener(ns *nettest.NS) underlay.Opener {
	return func(cfg underlay.Config) (e underlay.Endpoint, err error) {
		ns.Do(func() { e, err = underlay.Open(cfg) })
		return e, err
	}
}

// countSources counts the UDP packets from an address by their source port, as
// a packet socket sees them.
func countSources(t *testing.T, ns *nettest.NS, from netip.Addr) func() map[uint16]int {
	t.Helper()
	fd := -1
	ns.Do(func() {
		var err error
		const allNet = 0x0300 // ETH_P_ALL, in network byte order
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, allNet)
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20); err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(func() { unix.Close(fd) })
	return func() map[uint16]int {
		count, buf := map[uint16]int{}, make([]byte, 2048)
		for {
			n, _, err := unix.Recvfrom(fd, buf, 0)
			if err != nil {
				return count
			}
			p := buf[:n]
			switch {
			case n > 28 && p[0] == 0x45 && p[9] == unix.IPPROTO_UDP && bytes.Equal(p[12:16], from.AsSlice()):
				count[uint16(p[20])<<8|uint16(p[21])]++
			case n > 48 && p[0]>>4 == 6 && p[6] == unix.IPPROTO_UDP && bytes.Equal(p[8:24], from.AsSlice()):
				count[uint16(p[40])<<8|uint16(p[41])]++
			}
		}
	}
}

func config(local netip.Addr) underlay.Config {
	return underlay.Config{Local: local, Port: port, Checksum: true, TTL: 64, Queues: 1}
}

func mustOpen(t *testing.T, open underlay.Opener, cfg underlay.Config) underlay.Endpoint {
	t.Helper()
	e, err := open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return e
}

// packets makes packets to dst, each with eight bytes of headroom in front that
// hold its number, as a VXLAN header is there in real life.
func packets(dst netip.Addr, n, size int) []underlay.Packet {
	ps, batch := make([]underlay.Packet, n), frame.NewBatch(n, max(size, 64))
	r := underlay.NewRemote(dst, port)
	for i := range ps {
		f := &batch.Frames[i]
		f.Load(bytes.Repeat([]byte{byte(i)}, size))
		copy(f.Room(8), []byte{'h', 'e', 'a', 'd', 0, 0, byte(i >> 8), byte(i)})
		ps[i] = underlay.Packet{Data: [][]byte{f.WithRoom(8)}, Count: 1, Dst: r}
	}
	return ps
}

type got struct {
	outer   frame.Outer
	verdict frame.Verdict
	payload []byte
	queue   int
}

// read reads from all queues until n packets came, or for at least a moment if
// n is 0: what was sent on a veth pair or in memory has arrived by then.
func read(t *testing.T, e underlay.Endpoint, n int) []got {
	t.Helper()
	var gs []got
	b := frame.NewBatch(frame.BatchLen, frame.MaxLen)
	for deadline := time.Now().Add(5 * time.Second); ; {
		for i, q := range e.Queues() {
			b.Clear()
			if _, err := q.Read(b); err != nil {
				t.Fatal(err)
			}
			for j := range b.N {
				f := &b.Frames[j]
				data, each := f.Bytes(), int(f.Outer.Segment)
				f.Outer.Segment = 0
				for each > 0 && len(data) > each {
					gs = append(gs, got{f.Outer, f.Verdict, bytes.Clone(data[:each]), i})
					data = data[each:]
				}
				gs = append(gs, got{f.Outer, f.Verdict, bytes.Clone(data), i})
			}
		}
		if len(gs) >= n {
			return gs
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d packets arrived, want %d", len(gs), n)
		}
	}
}

// fill reads into a batch until it has n packets.
func fill(t *testing.T, q underlay.Queue, b *frame.Batch, n int) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); b.N < n; {
		if _, err := q.Read(b); err != nil {
			t.Fatal(err)
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d packets arrived, want %d", b.N, n)
		}
	}
}

func number(g got) int { return int(g.payload[6])<<8 | int(g.payload[7]) }

func mustWrite(t *testing.T, e underlay.Endpoint, ps []underlay.Packet) {
	t.Helper()
	if n := e.Queues()[0].Write(ps); n != len(ps) {
		for i := range ps {
			if ps[i].Reason != frame.NotDropped {
				t.Fatalf("%d of %d sent; packet %d: %v", n, len(ps), i, ps[i].Reason)
			}
		}
		t.Fatalf("%d of %d sent, none with a reason", n, len(ps))
	}
}

// join joins a group on the underlay's own interface.
func join(e underlay.Endpoint, g netip.Addr) error {
	_, err := e.Join(g, "")
	return err
}

func wantErr(t *testing.T, err, want error, says string) {
	t.Helper()
	switch {
	case !errors.Is(err, want):
		t.Errorf("error %v, want %v", err, want)
	case strings.Contains(err.Error(), "\n"), !strings.Contains(err.Error(), says):
		t.Errorf("error %q, want one line that says %q", err, says)
	}
}
