package vtep

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/uvtep/uvtep/fdb"
)

func TestAFloodOfInventedNeighboursLeavesRoomForOthers(t *testing.T) {
	table := newNeighbours()
	now := fdb.Seconds(1)
	invent := func(in fdb.Dst, from, n int) {
		for i := range n {
			table.observe(netip.AddrFrom4([4]byte{10, byte((from + i) >> 16), byte((from + i) >> 8), byte(from + i)}), mac(i+1), in, nil, true, now)
		}
	}
	invent(fdb.Local(1), 0, 100_000)
	if table.total > maxNeighbours/2 {
		t.Errorf("one has %d of %d", table.total, maxNeighbours)
	}
	invent(fdb.Local(2), 1<<20, 1000)
	if n := table.snooped[fdb.Local(2)]; n != 1000 {
		t.Errorf("another one has %d of 1000", n)
	}
	table.forgetBehind(map[fdb.Dst]bool{fdb.Local(1): true})
	if table.total != 1000 || table.n != 1000 || len(table.snooped) != 1 {
		t.Errorf("left: %d, %d, %v", table.total, table.n, table.snooped)
	}
	table.age(now+100, 99)
	if table.n != 0 {
		t.Errorf("%d are still known", table.n)
	}
}

// The oracle is a map, and the rules as a list.
func TestTheTableOfNeighboursIsWhatItsRulesMakeOfIt(t *testing.T) {
	type known struct {
		mac    fdb.MAC
		source NeighbourSource
		router bool
		seen   fdb.Seconds
		in     fdb.Dst
	}
	for seed := range uint64(30) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		table, model := newNeighbours(), map[netip.Addr]known{}
		now := fdb.Seconds(1)
		for step := range 3000 {
			a, m := ip(fmt.Sprintf("10.0.%d.%d", rnd.IntN(2), rnd.IntN(40))), mac(1+rnd.IntN(3))
			was, there := model[a]
			switch rnd.IntN(8) {
			default:
				override, router := rnd.IntN(4) > 0, (*bool)(nil)
				if rnd.IntN(3) == 0 {
					router = new(rnd.IntN(2) == 0)
				}
				in := fdb.Local(uint32(rnd.IntN(3)))
				got, want := table.observe(a, m, in, router, override, now), isNews
				held := there && was.mac != m && was.source != NeighbourSnooped
				switch {
				case held:
					want = isHeld
				case there && was.mac == m && was.in == in && (router == nil || *router == was.router):
					want = asBefore
				}
				if got != want {
					t.Fatalf("seed %d, step %d: %v, want %v", seed, step, got, want)
				}
				switch {
				case !there:
					was = known{mac: m}
				case was.mac != m && (held || !override):
					continue
				case was.mac != m:
					was = known{mac: m}
				}
				if router != nil {
					was.router = *router
				}
				was.seen, was.in = now, in
				model[a] = was
			case 0:
				source := NeighbourSource(1 + rnd.IntN(2))
				table.bind(a, m, source)
				if !there || was.source <= source {
					now := known{mac: m, source: source}
					if was.mac == m {
						now.router, now.in = was.router, was.in
					}
					model[a] = now
				}
			case 1:
				source := NeighbourSource(1 + rnd.IntN(2))
				table.unbind(a, source)
				if was.source == source {
					delete(model, a)
				}
			case 3:
				got, want := table.doubt(a, m), asBefore
				switch {
				case !there || was.mac == m:
				case was.source != NeighbourSnooped:
					want = isHeld
				default:
					want = isNews
					delete(model, a)
				}
				if got != want {
					t.Fatalf("seed %d, step %d: doubt: %v, want %v", seed, step, got, want)
				}
			case 2:
				now++
				if rnd.IntN(20) == 0 {
					table.age(now, 50)
					for a, k := range model {
						if k.source == NeighbourSnooped && now-k.seen > 50 {
							delete(model, a)
						}
					}
				}
			}
		}
		got := map[netip.Addr]known{}
		for i := range table.buckets {
			for n := table.buckets[i].Load(); n != nil; n = n.next {
				k := known{n.mac, n.source, n.router, 0, n.in}
				if n.source == NeighbourSnooped {
					k.seen = fdb.Seconds(n.seen.Load())
				}
				got[n.ip] = k
			}
		}
		for a, k := range model {
			if k.source != NeighbourSnooped {
				k.seen = 0
				model[a] = k
			}
		}
		if diff := cmp.Diff(model, got, cmp.AllowUnexported(known{}), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
			t.Fatalf("seed %d: -want +got:\n%s", seed, diff)
		}
		if table.n != len(model) {
			t.Fatalf("seed %d: counted %d of %d", seed, table.n, len(model))
		}
	}
}

// Whoever looks while others write sees a neighbour as it was at some time.
func TestNeighboursAreLookedUpWhileTheyChange(t *testing.T) {
	table := newNeighbours()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ctx.Err() == nil; i++ {
			a := ip(fmt.Sprintf("10.0.0.%d", 1+i%250))
			table.observe(a, mac(1+i%250), fdb.Local(1), nil, true, fdb.Seconds(i))
			if i%7 == 0 {
				table.bind(a, mac(1+i%250), NeighbourLease)
				table.unbind(a, NeighbourLease)
			}
			if i%1000 == 0 {
				table.forgetBehind(map[fdb.Dst]bool{fdb.Local(1): true})
			}
		}
	}()
	for i := range 200_000 {
		if n := table.lookUp(ip(fmt.Sprintf("10.0.0.%d", 1+i%250))); n != nil && n.mac != mac(1+i%250) {
			t.Errorf("10.0.0.%d is said to be %v", 1+i%250, n.mac)
			break
		}
	}
	cancel()
	<-done
}
