package underlay_test

import (
	"bytes"
	"net/netip"
	"os"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/nettest"
	"github.com/uvtep/uvtep/internal/underlay"
)

// train is a packet of count datagrams of size bytes, 8 at least, but the last.
// Each is in two pieces, if it is longer than that, and begins as one of packets does, with the numbers from
// first on.
func train(dst netip.Addr, first, size, count, last int) underlay.Packet {
	p := underlay.Packet{Segment: size, Count: count, Dst: underlay.NewRemote(dst, port)}
	for i := range count {
		n := size
		if i == count-1 {
			n = last
		}
		d := wanted(first+i, n)
		if p.Data = append(p.Data, d[:8]); n > 8 {
			p.Data = append(p.Data, d[8:])
		}
	}
	if count == 1 {
		p.Segment = 0
	}
	return p
}

// wanted is datagram number n of size bytes.
func wanted(n, size int) []byte {
	b := bytes.Repeat([]byte{byte(n)}, size)
	copy(b, []byte{'h', 'e', 'a', 'd', 0, 0, byte(n >> 8), byte(n)})
	return b
}

// arrive reads as many datagrams as there are sizes and compares them.
func arrive(t *testing.T, e underlay.Endpoint, outer frame.Outer, sizes []int) {
	t.Helper()
	gs := read(t, e, len(sizes))
	if len(gs) != len(sizes) {
		t.Errorf("%d datagrams arrived, want %d", len(gs), len(sizes))
	}
	for i, size := range sizes {
		if g := gs[i]; !bytes.Equal(g.payload, wanted(i, size)) || g.outer != outer || g.verdict != (frame.Verdict{}) {
			t.Fatalf("datagram %d: %d bytes, number %d, outer %+v, verdict %+v; want %d bytes, %+v", i, len(g.payload), number(g), g.outer, g.verdict, size, outer)
		}
	}
}

func TestATrainArrivesAsItsDatagrams(t *testing.T) {
	most := underlay.MaxTrainLen / underlay.MaxTrain
	eachWorld(t, func(t *testing.T, w world) {
		a, b := mustOpen(t, w.openA, config(w.a)), mustOpen(t, w.openB, config(w.b))
		for _, s := range []struct{ size, count, last int }{
			{1000, 1, 1000}, {1000, 2, 1000}, {1000, 2, 9}, {8, 64, 8}, {1400, 46, 1400}, {1400, 46, 8}, {most, underlay.MaxTrain, most}, {most, underlay.MaxTrain, 100},
		} {
			for _, tos := range []uint8{0, 0xb9} {
				for _, ttl := range []uint8{0, 17} {
					p := train(w.b, 0, s.size, s.count, s.last)
					p.TOS, p.TTL = tos, ttl
					ps := []underlay.Packet{p}
					if n := a.Queues()[0].Write(ps); n != s.count || ps[0].Sent != s.count || ps[0].Reason != frame.NotDropped {
						t.Fatalf("%+v: %d sent, packet %d, %v", s, n, ps[0].Sent, ps[0].Reason)
					}
					sizes := make([]int, s.count)
					for i := range sizes {
						sizes[i] = s.size
					}
					sizes[s.count-1] = s.last
					arrive(t, b, frame.Outer{Src: w.a, TOS: tos}, sizes)
				}
			}
		}
	})
}

// Single datagrams of one flow may leave as a train: equal ones, and a shorter one
// that ends it.
func TestDatagramsOfAllLengthsKeepTheirBoundsAndOrder(t *testing.T) {
	eachWorld(t, func(t *testing.T, w world) {
		a, b := mustOpen(t, w.openA, config(w.a)), mustOpen(t, w.openB, config(w.b))
		var sizes []int
		for _, s := range []struct{ size, n int }{{500, 3}, {200, 1}, {500, 2}, {700, 1}, {300, 1}, {8, 2}, {9, 1}, {1400, 70}, {1399, 1}, {1400, 1}} {
			for range s.n {
				sizes = append(sizes, s.size)
			}
		}
		var ps []underlay.Packet
		for i, size := range sizes {
			ps = append(ps, train(w.b, i, size, 1, size))
		}
		mustWrite(t, a, ps)
		arrive(t, b, frame.Outer{Src: w.a}, sizes)

		// Between trains, and with other marks, which are messages of their own.
		ps, sizes = nil, nil
		for i := range 40 {
			p := train(w.b, len(sizes), 400, 1+i%3, 400-i)
			for range p.Count - 1 {
				sizes = append(sizes, 400)
			}
			sizes = append(sizes, 400-i)
			ps = append(ps, p)
		}
		if n := a.Queues()[0].Write(ps); n != len(sizes) {
			t.Fatalf("%d of %d sent", n, len(sizes))
		}
		arrive(t, b, frame.Outer{Src: w.a}, sizes)
		ps = packets(w.b, 60, 100)
		for i := range ps {
			ps[i].TOS, ps[i].TTL = uint8(i/3), uint8(10+i/5)
		}
		mustWrite(t, a, ps)
		for i, g := range read(t, b, len(ps)) {
			if number(g) != i || g.outer.TOS != ps[i].TOS {
				t.Errorf("datagram %d is number %d, TOS %#x", i, number(g), g.outer.TOS)
			}
		}
	})
}

func TestWhatIsTooBigInATrainTakesNothingElseAlong(t *testing.T) {
	eachWorld(t, func(t *testing.T, w world) {
		w.setMTU(1400)
		a, b := mustOpen(t, w.openA, config(w.a)), mustOpen(t, w.openB, config(w.b))
		fits := 1400 - 28
		if w.a.Is6() {
			fits -= 20
		}
		sizes := []int{fits, fits, fits + 1, fits + 1, 100, fits + 1, fits, fits, 50}
		var ps []underlay.Packet
		for i, size := range sizes {
			ps = append(ps, train(w.b, i, size, 1, size))
		}
		// And one that is a train from the start: of that it may be all or some.
		big := train(w.b, 20, fits+1, 3, fits+1)
		ps = append(ps, big, train(w.b, 30, 60, 1, 60))
		had := a.Offload()
		if n := a.Queues()[0].Write(ps); n != 7 {
			t.Errorf("%d sent, want 7", n)
		}
		for i := range ps {
			want, sent := frame.NotDropped, 1
			if i == 2 || i == 3 || i == 5 || i == 9 {
				want, sent = frame.TooBig, 0
			}
			if ps[i].Reason != want || ps[i].Sent != sent {
				t.Errorf("packet %d: %v, %d sent, want %v, %d", i, ps[i].Reason, ps[i].Sent, want, sent)
			}
		}
		gs := read(t, b, 7)
		for i, want := range []int{0, 1, 4, 6, 7, 8, 30} {
			if number(gs[i]) != want {
				t.Errorf("datagram %d is number %d, want %d", i, number(gs[i]), want)
			}
		}
		if a.Offload() != had {
			t.Errorf("it does %s, before %s", a.Offload(), had)
		}
	})
}

// What a kernel puts together is told with the length of its datagrams, and no
// read takes more than a cache holds.
func TestAReadThatIsManyDatagramsSaysSoAndHasABound(t *testing.T) {
	for _, hosts := range []world{hosts4, hosts6} {
		w, _, _ := kernelWorld(t, hosts)
		w = w.with(underlay.All)
		a, b := mustOpen(t, w.openA, config(w.a)), mustOpen(t, w.openB, config(w.b))
		mustWrite(t, a, packets(w.b, 1, 20)) // few wait for a neighbour to be found
		read(t, b, 1)
		const trains, each, size = 30, 46, 1400
		for i := range trains {
			ps := []underlay.Packet{train(w.b, i*each, size, each, size-1)}
			if n := a.Queues()[0].Write(ps); n != each {
				t.Fatalf("%d sent, %v", n, ps[0].Reason)
			}
		}
		batch, next, reads := frame.NewBatch(frame.BatchLen, frame.MaxLen), 0, 0
		for deadline := time.Now().Add(5 * time.Second); next < trains*each; {
			batch.Clear()
			if _, err := b.Queues()[0].Read(batch); err != nil {
				t.Fatal(err)
			}
			total := 0
			for i := range batch.N {
				f := &batch.Frames[i]
				total += f.Len()
				if f.Outer.Segment != size || f.Len() != each*size-1 {
					t.Fatalf("a read of %d bytes says its datagrams have %d", f.Len(), f.Outer.Segment)
				}
				for data := f.Bytes(); len(data) > 0; data = data[min(size, len(data)):] {
					if n := int(data[6])<<8 | int(data[7]); n != next {
						t.Fatalf("datagram %d, want %d", n, next)
					}
					next++
				}
			}
			if batch.N > 0 {
				reads++
			}
			// Half a megabyte, and what was asked for together with the last of it.
			if total > 1<<20+1<<16 {
				t.Errorf("one read took %d bytes", total)
			}
			if time.Now().After(deadline) {
				t.Fatalf("%d of %d datagrams arrived", next, trains*each)
			}
		}
		if reads < 2 {
			t.Errorf("%d reads took all", reads)
		}
	}
}

// A socket whose kernel comes to refuse: EINVAL where there are no checksums.
func TestATrainThatIsRefusedIsSentOneByOneFromThenOn(t *testing.T) {
	w, _, _ := kernelWorld(t, hosts4)
	w = w.with(underlay.All)
	a, b := mustOpen(t, w.openA, config(w.a)), mustOpen(t, w.openB, config(w.b))
	found := 0
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		fd, err := strconv.Atoi(n.Name())
		if err != nil {
			t.Fatal(err)
		}
		if sa, err := unix.Getsockname(fd); err == nil {
			if sa, ok := sa.(*unix.SockaddrInet4); ok && netip.AddrFrom4(sa.Addr) == w.a && sa.Port >= 49152 {
				found++
				if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_NO_CHECK, 1); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if found != 16 {
		t.Fatalf("%d sockets that are sent from, want 16", found)
	}
	for round := range 2 {
		// A train, and singles that would be one, the last of them shorter.
		ps := []underlay.Packet{train(w.b, 0, 900, 10, 77), train(w.b, 10, 800, 1, 800), train(w.b, 11, 800, 1, 800), train(w.b, 12, 33, 1, 33)}
		if n := a.Queues()[0].Write(ps); n != 13 {
			t.Errorf("round %d: %d sent, want 13", round, n)
		}
		for i := range ps {
			if ps[i].Sent != ps[i].Count || ps[i].Reason != frame.NotDropped {
				t.Errorf("round %d: packet %d: %d sent, %v", round, i, ps[i].Sent, ps[i].Reason)
			}
		}
		arrive(t, b, frame.Outer{Src: w.a}, []int{900, 900, 900, 900, 900, 900, 900, 900, 900, 77, 800, 800, 33})
		if a.Offload() != underlay.GRO {
			t.Errorf("round %d: it does %s, want udp-gro alone", round, a.Offload())
		}
	}
}

func TestWithoutChecksumsNothingIsSplitByTheKernel(t *testing.T) {
	w, _, _ := kernelWorld(t, hosts4)
	cfg := config(w.a)
	cfg.Checksum, cfg.Offload = false, underlay.All
	if e := mustOpen(t, w.openA, cfg); e.Offload() != underlay.GRO {
		t.Errorf("it does %s", e.Offload())
	}
}

func TestTrainsThatFindTheSocketFullAreToldApart(t *testing.T) {
	w, a, _ := kernelWorld(t, hosts4)
	cfg := config(w.a)
	cfg.SndBuf, cfg.Offload = 60000, underlay.All
	e := mustOpen(t, w.openA, cfg)
	a.Sysctl("net/ipv4/neigh/eth0/unres_qlen_bytes", "1000000") // as in TestASocketThatIsFullIsToldApart
	var ps []underlay.Packet
	for i := range 20 {
		ps = append(ps, train(netip.MustParseAddr("10.0.0.77"), i*20, 1000, 20, 1000))
	}
	n, sum := e.Queues()[0].Write(ps), 0
	for i := range ps {
		sum += ps[i].Sent
		if (ps[i].Reason == frame.NotDropped) != (ps[i].Sent == 20) || ps[i].Sent < 20 && ps[i].Reason != frame.TunnelFull {
			t.Errorf("packet %d: %d of 20 sent, %v", i, ps[i].Sent, ps[i].Reason)
		}
	}
	if n != sum || n == 0 || n == 400 || e.Offload() != underlay.All {
		t.Errorf("%d sent, %d by the packets, offload %s", n, sum, e.Offload())
	}
}

// An older kernel, played by a filter on the thread that opens.
func TestAKernelWithoutReceiveOffloadGivesTheRest(t *testing.T) {
	w, a, _ := kernelWorld(t, hosts4)
	var e underlay.Endpoint
	a.Do(func() {
		const udpGRO = 104
		nettest.RefuseValue(t, unix.ENOPROTOOPT, unix.SYS_SETSOCKOPT, unix.IPPROTO_UDP, udpGRO)
		var err error
		cfg := config(w.a)
		cfg.Offload = underlay.All
		if e, err = underlay.Open(cfg); err != nil {
			t.Fatal(err)
		}
	})
	defer e.Close()
	if e.Offload() != underlay.GSO {
		t.Errorf("it does %s, want udp-gso alone", e.Offload())
	}
	b := mustOpen(t, w.openB, config(w.b))
	mustWrite(t, b, packets(w.a, 3, 20))
	read(t, e, 3)
}

func TestTrainsAllocateNothing(t *testing.T) {
	for _, hosts := range []world{hosts4, hosts6} {
		for _, o := range []underlay.Offload{0, underlay.All} {
			w, _, _ := kernelWorld(t, hosts)
			w = w.with(o)
			a, b := mustOpen(t, w.openA, config(w.a)), mustOpen(t, w.openB, config(w.b))
			ps, r := []underlay.Packet{train(w.b, 0, 1000, 30, 10), train(w.b, 30, 1000, 1, 1000), train(w.b, 31, 1000, 1, 20)}, frame.NewBatch(frame.BatchLen, frame.MaxLen)
			ps[0].TOS, ps[0].TTL = 3, 9
			if n := testing.AllocsPerRun(50, func() {
				if n := a.Queues()[0].Write(ps); n != 32 {
					t.Fatalf("%d sent", n)
				}
				for left, deadline := 30*1000-990+1020, time.Now().Add(5*time.Second); left > 0; {
					r.Clear()
					if _, err := b.Queues()[0].Read(r); err != nil {
						t.Fatal(err)
					}
					for i := range r.N {
						left -= r.Frames[i].Len()
					}
					if time.Now().After(deadline) {
						t.Fatalf("%d bytes did not arrive", left)
					}
				}
			}); n != 0 {
				t.Errorf("%s: %v allocations a round", o, n)
			}
		}
	}
}
