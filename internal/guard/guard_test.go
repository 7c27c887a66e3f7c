package guard_test

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/guard"
	"github.com/uvtep/uvtep/internal/guard/guardtest"
)

func mac(m net.HardwareAddr) (v guard.MAC) {
	for _, b := range m {
		v = v<<8 | guard.MAC(b)
	}
	return v
}

// tableOf binds what a world has bound; link-local addresses by claims.
func tableOf(w guardtest.World) *guard.Table {
	t := guard.NewTable()
	for _, p := range w.Bound {
		if p.IP.Addr().IsLinkLocalUnicast() {
			t.Validate(t.Claim(mac(p.MAC), p.IP.Addr(), 0))
		} else {
			t.Bind(mac(p.MAC), p.IP, guard.Leased)
		}
	}
	return t
}

// read parses a frame as a worker does.
func read(t testing.TB, f *frame.Frame, b []byte) bool {
	t.Helper()
	if !f.Load(b) {
		t.Fatalf("%d bytes do not fit", len(b))
	}
	return f.Parse()
}

var answers = map[guard.Verdict]guardtest.Answer{
	guard.Spoofed: guardtest.Spoofed, guard.Bound: guardtest.Bound, guard.Asks: guardtest.Asks, guard.Claims: guardtest.Claims, guard.Tries: guardtest.Tries,
}

// agree holds the guard against the oracle, for one frame.
func agree(t *testing.T, table *guard.Table, w *guardtest.World, f *frame.Frame, b []byte) (guard.Verdict, bool) {
	t.Helper()
	if !read(t, f, b) {
		return guard.Spoofed, false
	}
	v, _ := table.Judge(f, w.Open)
	if want := w.Judge(b); answers[v] != want {
		t.Fatalf("%x\n%v\nverdict %d, the oracle's %d", b, gopacket.NewPacket(b, layers.LayerTypeEthernet, gopacket.Default), answers[v], want)
	}
	why := guard.Rogue(f)
	if want := guardtest.Rogue(b); (why != frame.NotDropped) != want {
		t.Fatalf("%x\n%v\ndropped as %v, the oracle calls it rogue: %t", b, gopacket.NewPacket(b, layers.LayerTypeEthernet, gopacket.Default), why, want)
	}
	return v, why != frame.NotDropped
}

func TestTheGuardAgreesWithTheOracleOnEveryTrick(t *testing.T) {
	var f frame.Frame
	f.Attach(make([]byte, frame.Headroom+4096))
	for _, open := range []bool{true, false} {
		w := guardtest.NewForger(1, open)
		table := tableOf(w.World)
		verdicts, rogue := map[guard.Verdict]int{}, 0
		const n = 200_000
		for range n {
			v, r := agree(t, table, &w.World, &f, w.Frame())
			verdicts[v]++
			if r {
				rogue++
			}
		}
		t.Logf("open %t: %v, %d rogue", open, verdicts, rogue)
		for v, least := range map[guard.Verdict]int{guard.Spoofed: n / 4, guard.Bound: n / 50, guard.Claims: 25, guard.Tries: 1000} {
			if verdicts[v] < least {
				t.Errorf("open %t: only %d frames of verdict %d", open, verdicts[v], v)
			}
		}
		if open && verdicts[guard.Asks] < 100 || !open && verdicts[guard.Asks] > 0 || rogue < n/50 {
			t.Errorf("open %t: %d frames ask, %d are rogue", open, verdicts[guard.Asks], rogue)
		}
	}
}

func FuzzTheGuardAgreesWithTheOracle(f *testing.F) {
	w := guardtest.NewForger(2, true)
	for range 200 {
		f.Add(w.Frame(), true)
	}
	f.Fuzz(func(t *testing.T, b []byte, open bool) {
		if len(b) > 4096 {
			return
		}
		w := guardtest.NewForger(0, open)
		table := tableOf(w.World)
		var fr frame.Frame
		fr.Attach(make([]byte, frame.Headroom+4096))
		agree(t, table, &w.World, &fr, b)
		if fr.Info.L3 != 0 && fr.Info.L4 != 0 {
			m := guard.Overhear(&fr)
			if m.Kind == guard.Leases || m.Kind == guard.Ends {
				m.Each(func(p netip.Prefix, lease time.Duration) {
					if !p.IsValid() || lease < 0 {
						t.Errorf("%v for %v", p, lease)
					}
				})
			}
		}
	})
}

func TestJudgingAllocatesNothing(t *testing.T) {
	w := guardtest.NewForger(3, true)
	table := tableOf(w.World)
	frames := frame.NewBatch(1000, 2048)
	for range len(frames.Frames) {
		f := frames.Next()
		frames.Commit(copy(f.Buffer(), w.Frame()))
		f.Parse()
	}
	if n := testing.AllocsPerRun(10, func() {
		for i := range frames.Frames {
			f := &frames.Frames[i]
			table.Judge(f, true)
			guard.Rogue(f)
			guard.Overhear(f)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestATableIsTheMapThatItIsHeldAgainst binds and unbinds at random.
func TestATableIsTheMapThatItIsHeldAgainst(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 4))
	table := guard.NewTable()
	type pair struct {
		m guard.MAC
		p netip.Prefix
	}
	model := map[pair]guard.Source{}
	station := func() guard.MAC { return guard.MAC(0x020000000000 + rng.IntN(40)) }
	prefix := func() netip.Prefix {
		a := netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 15: byte(rng.IntN(12))})
		if rng.IntN(2) == 0 {
			return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(rng.IntN(12))}), []int{32, 32, 30}[rng.IntN(3)]).Masked()
		}
		return netip.PrefixFrom(a, []int{128, 128, 126}[rng.IntN(3)]).Masked()
	}
	for step := range 100_000 {
		k := pair{station(), prefix()}
		by := []guard.Source{guard.Configured, guard.Leased, guard.Snooped}[rng.IntN(3)]
		if rng.IntN(2+step%5) > 0 {
			table.Unbind(k.m, k.p, by)
			if model[k] &^= by; model[k] == 0 {
				delete(model, k)
			}
		} else {
			table.Bind(k.m, k.p, by)
			model[k] |= by
		}
		m, ip := station(), prefix().Addr()
		may, knows := false, false
		for k := range model {
			knows = knows || k.m == m
			may = may || k.m == m && k.p.Contains(ip)
		}
		if table.Has(m, ip) != may || table.Knows(m) != knows || table.Firm(m) != knows || table.Len() != len(model) {
			t.Fatalf("step %d: %x from %s: may %t, known %t; %d pairs; want %t, %t, %d", step, m, ip, table.Has(m, ip), table.Knows(m), table.Len(), may, knows, len(model))
		}
	}
}

// A reader finds what is bound all the time, whatever else comes and goes.
func TestReadersFindWhatStaysWhileOthersComeAndGo(t *testing.T) {
	table := guard.NewTable()
	stays := netip.MustParsePrefix("192.168.100.10/32")
	table.Bind(1, stays, guard.Leased)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 20_000 {
			p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 32)
			table.Bind(guard.MAC(i), p, guard.Leased)
			if i%3 == 0 {
				table.Unbind(guard.MAC(i), p, guard.Leased)
			}
		}
	}()
	for {
		select {
		case <-done:
			return
		default:
			if !table.Has(1, stays.Addr()) || !table.Knows(1) || table.Has(1<<40, stays.Addr()) {
				t.Fatal("what is bound was not found, or what is not was")
			}
		}
	}
}

func TestAClaimCountsOnceItIsValid(t *testing.T) {
	table := guard.NewTable()
	ip := netip.MustParseAddr("fe80::9")
	p := table.Claim(5, ip, time.Second)
	if p.Due() != time.Second || p.Valid() || table.Knows(5) || table.Firm(5) {
		t.Error("a claim counts at once")
	}
	table.Validate(p)
	if !p.Valid() || !table.Knows(5) || table.Firm(5) {
		t.Error("a claim that is valid does not count, or makes its station firm")
	}
	table.Bind(5, netip.PrefixFrom(ip, 128), guard.Configured)
	table.Unbind(5, netip.PrefixFrom(ip, 128), guard.Claimed)
	if !table.Firm(5) || !table.Knows(5) {
		t.Error("what is configured ended with the claim")
	}
	table.Unbind(5, netip.PrefixFrom(ip, 128), guard.Configured)
	if table.Knows(5) || table.Len() != 0 {
		t.Error("something is left")
	}
	gone := table.Claim(6, ip, 0)
	table.Unbind(6, netip.PrefixFrom(ip, 128), guard.Claimed)
	if table.Validate(gone); table.Knows(6) {
		t.Error("a claim that was dropped has become valid")
	}
}
