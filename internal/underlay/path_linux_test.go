package underlay_test

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/nettest"
	"github.com/uvtep/uvtep/internal/underlay"
)

// routed is two hosts with a router between them, whose way to the second carries
// 1300 bytes.
func routed(t *testing.T, v6 bool) (w world) {
	t.Helper()
	a, r, b := nettest.New(t, "a"), nettest.New(t, "r"), nettest.New(t, "b")
	nettest.Veth(t, a, "eth0", r, "eth0")
	nettest.Veth(t, r, "eth1", b, "eth0")
	near, nearGW, farGW, far, bits, everybody := "10.0.1.1", "10.0.1.2", "10.0.2.2", "10.0.2.1", "/24", "0.0.0.0/0"
	if v6 {
		near, nearGW, farGW, far, bits, everybody = "fd00:1::1", "fd00:1::2", "fd00:2::2", "fd00:2::1", "/64", "::/0"
	}
	r.Sysctl("net/ipv4/ip_forward", "1")
	r.Sysctl("net/ipv6/conf/all/forwarding", "1")
	a.Addr("eth0", near+bits)
	r.Addr("eth0", nearGW+bits)
	r.Addr("eth1", farGW+bits)
	b.Addr("eth0", far+bits)
	a.Exec("ip", "route", "add", everybody, "via", nearGW)
	b.Exec("ip", "route", "add", everybody, "via", farGW)
	r.Exec("ip", "link", "set", "eth1", "mtu", "1300")
	return world{a: netip.MustParseAddr(near), b: netip.MustParseAddr(far), openA: opener(a), openB: opener(b)}
}

func TestTheMTUOfThePathIsLearnt(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		w := routed(t, v6)
		ea, eb := mustOpen(t, w.openA, config(w.a)), mustOpen(t, w.openB, config(w.b))
		mustWrite(t, ea, packets(w.b, 1, 20)) // the neighbours find each other
		read(t, eb, 1)
		expectPathMTU(t, ea, w.b, 1500)
		big := packets(w.b, 1, 1350)
		for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
			ea.Queues()[0].Write(big)
			if big[0].Reason == frame.TooBig {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("IPv6 %v: the path's MTU was not learnt: %v", v6, big[0].Reason)
			}
		}
		expectPathMTU(t, ea, w.b, 1300)
		expectPathMTU(t, ea, w.a.Next(), 1500) // the router
		mustWrite(t, ea, packets(w.b, 1, 1200))
		for _, g := range read(t, eb, 1) {
			if len(g.payload) != 1208 {
				t.Errorf("a packet of %d bytes arrived", len(g.payload))
			}
		}
	}
}

func expectPathMTU(t *testing.T, e underlay.Endpoint, to netip.Addr, want int) {
	t.Helper()
	if mtu, err := e.PathMTU(underlay.NewRemote(to, port)); mtu != want || err != nil {
		t.Errorf("the path to %s: MTU %d, want %d; %v", to, mtu, want, err)
	}
}

func TestTheMTUOfAPathIsThatOfTheWayOut(t *testing.T) {
	eachWorld(t, func(t *testing.T, w world) {
		e := mustOpen(t, w.openA, config(w.a))
		expectPathMTU(t, e, w.b, 1500)
		w.setMTU(1400)
		expectPathMTU(t, e, w.b, 1400)
	})
}

func TestOfNoWayThereIsNoMTU(t *testing.T) {
	for _, hosts := range []world{hosts4, hosts6} {
		w, _, _ := kernelWorld(t, hosts)
		e := mustOpen(t, w.openA, config(w.a))
		nowhere := netip.MustParseAddr("192.0.2.1")
		if w.a.Is6() {
			nowhere = netip.MustParseAddr("2001:db8::1")
		}
		if mtu, err := e.PathMTU(underlay.NewRemote(nowhere, port)); err == nil {
			t.Errorf("to %s: %d", nowhere, mtu)
		}
		expectPathMTU(t, e, w.b, 1500) // the question before does no harm
	}
}

// Without DF the routers fragment and tell nothing; with it set or where the
// packet says so they do not.
func TestRoutersMayFragmentWhatHasNoDF(t *testing.T) {
	for _, df := range []underlay.DF{underlay.DFClear, underlay.DFInherit} {
		w := routed(t, false)
		cfg := config(w.a)
		cfg.DF, cfg.Offload = df, underlay.GSO
		ea, eb := mustOpen(t, w.openA, cfg), mustOpen(t, w.openB, config(w.b))
		ps := packets(w.b, 20, 1350)
		for i := range ps {
			ps[i].NoDF = df == underlay.DFInherit
		}
		mustWrite(t, ea, ps)
		for _, g := range read(t, eb, len(ps)) {
			if len(g.payload) != 1358 {
				t.Errorf("%v: a packet of %d bytes arrived", df, len(g.payload))
			}
		}
		expectPathMTU(t, ea, w.b, 1500)
		// This host does not fragment all the same.
		big := packets(w.b, 1, 1480)
		big[0].NoDF = true
		if n := ea.Queues()[0].Write(big); n != 0 || big[0].Reason != frame.TooBig {
			t.Errorf("%v: %d sent of what the interface does not carry: %v", df, n, big[0].Reason)
		}
		if df != underlay.DFInherit {
			continue
		}
		ps[0].NoDF = false
		for deadline := time.Now().Add(5 * time.Second); ps[0].Reason != frame.TooBig; ea.Queues()[0].Write(ps[:1]) {
			if time.Now().After(deadline) {
				t.Fatalf("the path's MTU was not learnt of a packet with DF: %v", ps[0].Reason)
			}
		}
		mustWrite(t, ea, ps[1:]) // still
	}
}

func TestWhatIsTooBigLeavesInFragmentsWhereThatIsAskedFor(t *testing.T) {
	const probe = 1340 // bytes of what may still be under way
	for _, v6 := range []bool{false, true} {
		for _, offload := range []underlay.Offload{0, underlay.GSO} {
			w := routed(t, v6)
			cfg := config(w.a)
			cfg.Fragment, cfg.DF, cfg.Offload = true, underlay.DFClear, offload
			ea, eb := mustOpen(t, w.openA, cfg), mustOpen(t, w.openB, config(w.b))
			mustWrite(t, ea, packets(w.b, 1, 20))
			read(t, eb, 1)
			if v6 { // whose routers do not fragment
				for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
					mustWrite(t, ea, packets(w.b, 1, probe-8))
					if mtu, err := ea.PathMTU(underlay.NewRemote(w.b, port)); err == nil && mtu == 1300 {
						break
					} else if time.Now().After(deadline) {
						t.Fatalf("the path's MTU was not learnt: %d, %v", mtu, err)
					}
				}
			}
			// Single ones, and trains: of those too big for the path, for the
			// interface, and for none.
			for _, size := range []int{1350, 1480, 4000, 1000} {
				mustWrite(t, ea, packets(w.b, 2, size-8))
				ps := []underlay.Packet{train(w.b, 2, size, 8, 300)}
				if n := ea.Queues()[0].Write(ps); n != 8 || ps[0].Reason != frame.NotDropped {
					t.Errorf("IPv6 %v, %v: %d of 8 datagrams of %d bytes sent: %v", v6, offload, n, size, ps[0].Reason)
				}
				var gs []got
				for len(gs) < 10 {
					gs = append(gs, slices.DeleteFunc(read(t, eb, 1), func(g got) bool { return len(g.payload) == probe })...)
				}
				for i, g := range gs {
					if want := size; i < 9 && len(g.payload) != want || i == 9 && len(g.payload) != 300 {
						t.Errorf("IPv6 %v, %v: datagram %d has %d bytes, want %d", v6, offload, i, len(g.payload), want)
					}
				}
			}
			if ea.Offload() != offload {
				t.Errorf("IPv6 %v: %q is left of %q", v6, ea.Offload(), offload)
			}
		}
	}
}

// RFC 6935: they are taken where that is asked for, and where nothing sends any.
func TestAPacketWithoutAChecksumOverIPv6IsTakenWhereThatIsAskedFor(t *testing.T) {
	for _, c := range []struct{ checksum, zero, taken bool }{{true, false, false}, {true, true, true}, {false, false, true}} {
		w, _, _ := kernelWorld(t, hosts6)
		from, to := config(w.a), config(w.b)
		from.Checksum, to.Checksum, to.ZeroSum6 = false, c.checksum, c.zero
		a, b := mustOpen(t, w.openA, from), mustOpen(t, w.openB, to)
		mustWrite(t, a, packets(w.b, 1, 20))
		from.Checksum, from.Port = true, port+1
		mustWrite(t, mustOpen(t, w.openA, from), packets(w.b, 1, 21))
		want := 1
		if c.taken {
			want = 2
		}
		// The one with a checksum comes in either case, and last.
		if gs := read(t, b, want); len(gs) != want || len(gs[want-1].payload) != 29 {
			t.Errorf("%+v: %d packets arrived", c, len(gs))
		}
	}
}

func TestPacketsWithoutDFHaveSourcePortsOfTheirOwn(t *testing.T) {
	w, _, _ := kernelWorld(t, hosts4)
	cfg := config(w.a)
	cfg.DF, cfg.Sources, cfg.SourceLow, cfg.SourceHigh = underlay.DFInherit, 4, 50000, 50007
	a := mustOpen(t, w.openA, cfg)
	mustWrite(t, a, packets(w.b, 1, 20)) // the neighbours find each other
	of := map[bool]map[uint16]int{}
	for _, noDF := range []bool{false, true} {
		seen := w.sources()
		ps := packets(w.b, 64, 20)
		for i := range ps {
			ps[i].Entropy, ps[i].NoDF = uint32(i)<<26, noDF
		}
		mustWrite(t, a, ps)
		of[noDF] = seen()
		if len(of[noDF]) != 4 {
			t.Errorf("without DF %v: source ports %v, want 4", noDF, of[noDF])
		}
	}
	for p := range of[true] {
		if of[false][p] != 0 || p < 50000 || p > 50007 {
			t.Errorf("port %d of %v", p, of)
		}
	}
}
