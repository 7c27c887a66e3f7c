package underlay_test

import (
	"bytes"
	"net/netip"
	"strconv"
	"testing"

	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/underlay"
)

func itoa(n int) string { return strconv.Itoa(n) }

func TestAPacketArrivesAsItWasSent(t *testing.T) {
	eachWorld(t, func(t *testing.T, w world) {
		for _, checksum := range []bool{true, false} {
			cfgA, cfgB := config(w.a), config(w.b)
			cfgA.Checksum, cfgB.Checksum = checksum, checksum
			a, b := mustOpen(t, w.openA, cfgA), mustOpen(t, w.openB, cfgB)
			ps := packets(w.b, 3, 100)
			ps[1].TOS, ps[1].TTL = 0xb8|1, 3 // EF, ECT(1)
			ps[2].TTL = 255
			mustWrite(t, a, ps)
			for i, g := range read(t, b, 3) {
				want := append([]byte{'h', 'e', 'a', 'd', 0, 0, 0, byte(i)}, bytes.Repeat([]byte{byte(i)}, 100)...)
				if !bytes.Equal(g.payload, want) || g.verdict.Action != frame.Undecided {
					t.Errorf("packet %d: %q, verdict %+v", i, g.payload, g.verdict)
				}
				if g.outer != (frame.Outer{Src: w.a, TOS: ps[i].TOS}) {
					t.Errorf("packet %d: outer %+v", i, g.outer)
				}
			}
			a.Close()
			b.Close()
		}
	})
}

func TestFlowsKeepTheirOrderTheirPortAndTheirQueue(t *testing.T) {
	eachWorld(t, func(t *testing.T, w world) {
		cfgA, cfgB := config(w.a), config(w.b)
		cfgA.Queues, cfgB.Queues = 2, 3
		cfgA.SourceLow, cfgA.SourceHigh = 50000, 50999
		a, b := mustOpen(t, w.openA, cfgA), mustOpen(t, w.openB, cfgB)
		seen := w.sources()

		const flows, rounds = 64, 5
		var all []got
		for round := range rounds {
			ps := packets(w.b, flows*2, 20)
			for i := range ps {
				ps[i].Entropy = uint32(i%flows) << 26
				ps[i].Data[0][4] = byte(round)
			}
			// Whichever queue sends them.
			if n := a.Queues()[round%2].Write(ps); n != len(ps) {
				t.Fatalf("%d of %d sent", n, len(ps))
			}
			all = append(all, read(t, b, len(ps))...)
		}
		last, queue, used := map[int]int{}, map[int]int{}, map[int]bool{}
		for _, g := range all {
			flow, at := number(g)%flows, int(g.payload[4])*1000+number(g)
			if before, ok := last[flow]; ok && at <= before {
				t.Errorf("flow %d: %d after %d", flow, at, before)
			}
			if q, ok := queue[flow]; ok && q != g.queue {
				t.Errorf("flow %d is on queues %d and %d", flow, q, g.queue)
			}
			last[flow], queue[flow], used[g.queue] = at, g.queue, true
		}
		if len(used) != 3 {
			t.Errorf("%d queues of 3 are in use", len(used))
		}
		ports := seen()
		if len(ports) != 16 {
			t.Errorf("%d source ports, want 16: %v", len(ports), ports)
		}
		for p, n := range ports {
			if p < 50000 || p > 50999 || n != flows*2*rounds/16 && w.offload&underlay.GSO == 0 { // a train counts as one
				t.Errorf("source port %d sent %d packets", p, n)
			}
		}
	})
}

func TestAPacketThatIsTooBigIsToldAndTheOthersGoOn(t *testing.T) {
	eachWorld(t, func(t *testing.T, w world) {
		w.setMTU(1400)
		a, b := mustOpen(t, w.openA, config(w.a)), mustOpen(t, w.openB, config(w.b))
		if mtu, err := a.MTU(); err != nil || mtu != 1400 {
			t.Errorf("MTU %d, error %v", mtu, err)
		}
		headers := 28
		if w.a.Is6() {
			headers = 48
		}
		fits := 1400 - headers - 8
		ps := packets(w.b, 3, fits)
		ps[1] = packets(w.b, 1, fits+1)[0]
		if n := a.Queues()[0].Write(ps); n != 2 {
			t.Errorf("%d sent, want 2", n)
		}
		for i, want := range []frame.Reason{frame.NotDropped, frame.TooBig, frame.NotDropped} {
			if ps[i].Reason != want {
				t.Errorf("packet %d: %v, want %v", i, ps[i].Reason, want)
			}
		}
		gs := read(t, b, 2)
		if len(gs) != 2 || number(gs[0]) != 0 || number(gs[1]) != 2 {
			t.Errorf("%d packets arrived", len(gs))
		}
	})
}

func TestADatagramThatDoesNotFitIsMarkedNotCut(t *testing.T) {
	eachWorld(t, func(t *testing.T, w world) {
		a, b := mustOpen(t, w.openA, config(w.a)), mustOpen(t, w.openB, config(w.b))
		ps := packets(w.b, 2, 100)
		// A longer one behind a shorter one is never put together with it.
		ps[0].Data[0] = ps[0].Data[0][:8+92]
		ps[1].Data[0] = ps[1].Data[0][:8+93] // one more than there is room for
		mustWrite(t, a, ps)
		batch := frame.NewBatch(4, 100)
		fill(t, b.Queues()[0], batch, 2)
		for i, want := range []struct {
			length int
			frame.Verdict
		}{{100, frame.Verdict{}}, {0, frame.Verdict{Action: frame.Dropped, Reason: frame.TooBig}}} {
			f := &batch.Frames[i]
			if f.Len() != want.length || f.Verdict != want.Verdict || f.Outer.Src != w.a {
				t.Errorf("packet %d: %d bytes, verdict %+v, from %s", i, f.Len(), f.Verdict, f.Outer.Src)
			}
		}
	})
}

func TestAFullBatchLeavesTheRestForLater(t *testing.T) {
	eachWorld(t, func(t *testing.T, w world) {
		a, b := mustOpen(t, w.openA, config(w.a)), mustOpen(t, w.openB, config(w.b))
		ps := packets(w.b, 150, 200)
		for i := range ps {
			ps[i].Data[0] = ps[i].Data[0][:20+i] // each longer than the one before: they are not put together
		}
		mustWrite(t, a, ps)
		batch, next := frame.NewBatch(100, 256), 0
		for _, want := range []int{100, 50, 0} {
			batch.Clear()
			fill(t, b.Queues()[0], batch, want)
			if n, err := b.Queues()[0].Read(batch); n != 0 || err != nil {
				t.Fatalf("%d more, error %v", n, err)
			}
			for i := range batch.N {
				if n := int(batch.Frames[i].Bytes()[7]); n != next {
					t.Fatalf("packet %d, want %d", n, next)
				}
				next++
			}
		}
	})
}

func TestAGroupReachesItsMembersOnceAndNotTheSender(t *testing.T) {
	eachWorld(t, func(t *testing.T, w world) {
		cfg := config(w.b)
		cfg.Queues = 2
		a, b := mustOpen(t, w.openA, config(w.a)), mustOpen(t, w.openB, cfg)
		other := w.group.Next()
		for _, at := range []struct {
			e underlay.Endpoint
			g netip.Addr
		}{{a, w.group}, {b, w.group}, {b, w.group}, {b, other}} {
			if err := join(at.e, at.g); err != nil {
				t.Fatal(err)
			}
		}
		// The last packet, to the host itself, comes after all the others.
		round := func(want ...int) {
			t.Helper()
			ps := append(packets(w.group, 1, 20), packets(other, 2, 20)[1], packets(other.Next(), 3, 20)[2], packets(w.b, 4, 20)[3])
			mustWrite(t, a, ps)
			seen := map[int]int{}
			for _, g := range read(t, b, len(want)) {
				seen[number(g)]++
				if g.outer.Src != w.a {
					t.Errorf("packet %d is from %s", number(g), g.outer.Src)
				}
			}
			for _, n := range want {
				if seen[n] != 1 {
					t.Errorf("packet %d arrived %d times", n, seen[n])
				}
				delete(seen, n)
			}
			if len(seen) != 0 {
				t.Errorf("arrived as well: %v", seen)
			}
			if gs := read(t, b, 0); len(gs) != 0 {
				t.Errorf("%d packets too many", len(gs))
			}
			if gs := read(t, a, 0); len(gs) != 0 {
				t.Errorf("%d packets came back to the sender", len(gs))
			}
		}
		leave := func(g netip.Addr) {
			t.Helper()
			if err := b.Leave(g, ""); err != nil {
				t.Fatal(err)
			}
		}
		round(0, 1, 3)
		leave(w.group) // joined twice
		round(0, 1, 3)
		leave(w.group)
		round(1, 3)
		leave(w.group) // not joined
		leave(other)
		round(3)
		if err := join(b, w.group); err != nil {
			t.Fatal(err)
		}
		round(0, 3)
	})
}

func TestWhatIsNoGroupCannotBeJoined(t *testing.T) {
	eachWorld(t, func(t *testing.T, w world) {
		a := mustOpen(t, w.openA, config(w.a))
		wantErr(t, join(a, w.b), underlay.ErrNotMulticast, w.b.String())
		wrong := netip.MustParseAddr("ff05::1")
		if w.a.Is6() {
			wrong = netip.MustParseAddr("239.0.0.1")
		}
		if join(a, wrong) == nil {
			t.Error("a group of the other family was joined")
		}
	})
}

func TestAPortThatIsOpenIsInUse(t *testing.T) {
	eachWorld(t, func(t *testing.T, w world) {
		for _, queues := range []int{1, 4} {
			cfg := config(w.a)
			cfg.Queues = queues
			first := mustOpen(t, w.openA, cfg)
			_, err := w.openA(cfg)
			wantErr(t, err, underlay.ErrPortInUse, netip.AddrPortFrom(w.a, port).String())
			cfg.Port = 8472
			mustOpen(t, w.openA, cfg).Close() // another port is no clash
			first.Close()
		}
	})
}

func TestAPacketOfTheOtherFamilyIsAnErrorOfItsOwn(t *testing.T) {
	eachWorld(t, func(t *testing.T, w world) {
		a, b := mustOpen(t, w.openA, config(w.a)), mustOpen(t, w.openB, config(w.b))
		ps := packets(w.b, 3, 20)
		wrong := netip.MustParseAddr("fd00::99")
		if w.a.Is6() {
			wrong = netip.MustParseAddr("10.0.0.99")
		}
		ps[1].Dst = underlay.NewRemote(wrong, port)
		if n := a.Queues()[0].Write(ps); n != 2 || ps[1].Reason != frame.TunnelError {
			t.Errorf("%d sent, reason %v, want 2 and tunnel_error", n, ps[1].Reason)
		}
		read(t, b, 2)
	})
}

func TestARemoteIsWhatItWasMadeOf(t *testing.T) {
	for _, s := range []string{"10.0.0.1:4789", "[fd00::1]:8472", "[fe80::1%1]:4789"} {
		want := netip.MustParseAddrPort(s)
		if got := underlay.NewRemote(want.Addr(), want.Port()).AddrPort(); got != want {
			t.Errorf("%s became %s", want, got)
		}
	}
	mapped := netip.MustParseAddr("::ffff:10.0.0.1")
	if got := underlay.NewRemote(mapped, 1).Addr(); got != mapped.Unmap() {
		t.Errorf("%s became %s", mapped, got)
	}
}
