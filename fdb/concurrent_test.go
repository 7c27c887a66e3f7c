package fdb

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
)

// together runs n goroutines of f, each with random numbers of its own, and
// waits for them.
func together(n int, f func(worker int, r *rand.Rand)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { f(i, rand.New(rand.NewPCG(uint64(i), 7))) })
	}
	wg.Wait()
}

// home is one of the destinations that m may have in the tests here: those
// whose number says so.
func home(m MAC, r *rand.Rand) Dst {
	i := uint32(m)%64 + 64*r.Uint32N(8)
	if r.IntN(2) == 0 {
		return Local(i)
	}
	return Remote(i)
}

func TestALookupNeverYieldsADestinationThatTheMACNeverHad(t *testing.T) {
	table := New(Config{Ageing: 5, MaxMACs: 6000, Events: func(e Event) {
		if e.Dst.Index()%64 != uint32(e.MAC)%64 && e.Dst != Self {
			t.Errorf("event %+v", e)
		}
	}})
	var writers sync.WaitGroup
	var end atomic.Bool
	var clock atomic.Uint32
	const space = 12_000
	for w := range 3 {
		writers.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 1))
			for i := range 60_000 {
				m := MAC(0x02_00_00_00_00_00) | MAC(r.IntN(space))
				switch op := r.IntN(2000); {
				case op < 1600:
					table.Learn(m, home(m, r), Seconds(clock.Load()))
				case op < 1900:
					table.Delete(m)
				case op < 1950:
					if err := table.AddStatic(m, home(m, r)); err != nil {
						t.Error(err)
					}
				case op < 1951:
					table.Flush()
				case op < 1954:
					table.FlushDst(home(m, r), true)
				default:
					table.Sweep(Seconds(clock.Load()), 500)
				}
				if i%4000 == 0 {
					clock.Add(1)
				}
			}
		})
	}
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			r := rand.New(rand.NewPCG(5, 6))
			var macs [20]MAC
			var dsts [20]Dst
			for !end.Load() {
				for i := range macs {
					macs[i] = MAC(0x02_00_00_00_00_00) | MAC(r.IntN(space))
				}
				table.LookupBatch(macs[:], dsts[:])
				for i, m := range macs {
					e, ok := table.LookupEntry(m, Seconds(clock.Load()))
					for _, d := range []Dst{dsts[i], table.Lookup(m), e.Dst} {
						if d != 0 && (d.Index()%64 != uint32(m)%64 || !d.IsLocal() && !d.IsRemote()) {
							t.Errorf("%v is behind %v", m, d)
							return
						}
					}
					if ok && (e.MAC != m || e.Dst == 0) {
						t.Errorf("entry of %v: %+v", m, e)
					}
				}
				if r.IntN(200) == 0 {
					for _, e := range table.Entries(Seconds(clock.Load())) {
						if e.Dst.Index()%64 != uint32(e.MAC)%64 {
							t.Errorf("listed: %+v", e)
						}
					}
				}
			}
		})
	}
	writers.Wait()
	end.Store(true)
	readers.Wait()
	if err := table.check(); err != nil {
		t.Fatal(err)
	}
}

// While others make the table grow and shrink around it, an entry is always
// found, its refreshes are never lost, and the sweep leaves it alone as long as
// it is refreshed.
func TestAnEntryIsNeverLostWhileTheTableGrowsAndShrinks(t *testing.T) {
	const kept, flood = 200, 20_000
	table := New(Config{Ageing: 3})
	for i := range kept {
		table.Learn(MAC(0x02_00_00_00_00_00)|MAC(i), Local(uint32(i)), 1)
	}
	var end atomic.Bool
	var clock atomic.Uint32
	clock.Store(1)
	var others sync.WaitGroup
	for w := range 2 {
		others.Go(func() {
			for round := 0; !end.Load() || round < 3; round++ {
				base := MAC(0x06_00_00_00_00_00) | MAC(w)<<32
				for i := range MAC(flood) {
					table.Learn(base|i, Remote(1), Seconds(clock.Load()))
				}
				for i := range MAC(flood) {
					table.Delete(base | i)
				}
				if round == 3 {
					break
				}
			}
		})
	}
	others.Go(func() {
		for !end.Load() {
			table.Sweep(Seconds(clock.Load()), 300)
		}
	})
	others.Go(func() {
		for !end.Load() {
			seen := 0
			for _, e := range table.Entries(Seconds(clock.Load())) {
				if e.Dst.IsLocal() {
					seen++
				}
			}
			if seen != kept {
				t.Errorf("%d of %d entries listed", seen, kept)
				return
			}
		}
	})
	for range 100 {
		now := Seconds(clock.Load())
		for i := range kept {
			m := MAC(0x02_00_00_00_00_00) | MAC(i)
			if r := table.Learn(m, Local(uint32(i)), now); r != Known {
				t.Fatalf("%v: %v", m, r)
			}
			if e, ok := table.LookupEntry(m, now); !ok || e.Age != 0 || e.Dst != Local(uint32(i)) {
				t.Fatalf("%v at %d: %+v, %v", m, now, e, ok)
			}
		}
		clock.Add(1)
	}
	end.Store(true)
	others.Wait()
	if err := table.check(); err != nil {
		t.Fatal(err)
	}
}

func TestLimitsAreExactAmongConcurrentLearners(t *testing.T) {
	for round := range uint64(20) {
		table := New(Config{MaxMACs: 500})
		table.SetLimit(Local(1), 100)
		table.SetLimit(Local(2), 150)
		if err := table.AddStatic(0x02_00_00_00_ff_ff, Local(1)); err != nil {
			t.Fatal(err)
		}
		together(4, func(worker int, r *rand.Rand) {
			for range 3000 {
				m := MAC(0x02_00_00_00_00_00) | MAC(r.IntN(800))
				d := Local(1 + r.Uint32N(3))
				if r.IntN(10) == 0 {
					table.Delete(m)
				} else {
					table.Learn(m, d, 1)
				}
				if n, one, two := table.Dynamic(), table.Count(Local(1)), table.Count(Local(2)); n > 500 || one > 100 || two > 150 {
					t.Errorf("round %d: %d learned, %d and %d behind the limited ports", round, n, one, two)
					return
				}
			}
		})
		if err := table.check(); err != nil {
			t.Fatal(err)
		}
		// What is left of the limits can be had to the last entry.
		for i := range MAC(1000) {
			table.Learn(0x06_00_00_00_00_00|i, Local(1), 1)
			table.Learn(0x06_01_00_00_00_00|i, Local(2), 1)
		}
		one, two := table.Count(Local(1)), table.Count(Local(2))
		for i := range MAC(1000) {
			table.Learn(0x06_02_00_00_00_00|i, Local(3), 1)
		}
		if n := table.Dynamic(); n != 500 || one != 100 && one+two+table.Count(Local(3)) != 500 {
			t.Fatalf("round %d: %d learned, %d and %d behind the limited ports", round, n, one, two)
		}
	}
}

// The events of a MAC, put in the order of their numbers, are a history: each
// begins where the one before ended.
func TestEventsTellTheWholeHistory(t *testing.T) {
	var mu sync.Mutex
	var events []Event
	table := New(Config{Ageing: 2, Events: func(e Event) {
		mu.Lock()
		defer mu.Unlock()
		events = append(events, e)
	}})
	together(4, func(worker int, r *rand.Rand) {
		for i := range 4000 {
			m := MAC(0x02_00_00_00_00_00) | MAC(r.IntN(50))
			switch r.IntN(12) {
			case 0:
				table.Delete(m)
			case 1:
				if err := table.AddStatic(m, home(m, r)); err != nil {
					t.Error(err)
				}
			case 2:
				table.Sweep(Seconds(i/10), 64)
			default:
				table.Learn(m, home(m, r), Seconds(i/10))
			}
		}
	})
	table.Flush()
	history := make([]Event, len(events)+1)
	for _, e := range events {
		if e.Seq == 0 || e.Seq > uint64(len(events)) || history[e.Seq].Seq != 0 {
			t.Fatalf("event %d of %d: %+v", e.Seq, len(events), e)
		}
		history[e.Seq] = e
	}
	now := map[MAC]Dst{}
	for _, e := range history[1:] {
		was := now[e.MAC]
		switch e.Kind {
		case EventLearn:
			if was != 0 || e.Old != 0 {
				t.Fatalf("%+v, but it was behind %v", e, was)
			}
			now[e.MAC] = e.Dst
		case EventMove, EventAdd:
			if was != e.Old {
				t.Fatalf("%+v, but it was behind %v", e, was)
			}
			now[e.MAC] = e.Dst
		case EventAge, EventDelete:
			if was != e.Dst || was == 0 {
				t.Fatalf("%+v, but it was behind %v", e, was)
			}
			delete(now, e.MAC)
		}
	}
	entries := table.Entries(0)
	if len(entries) != len(now) {
		t.Fatalf("%d entries, %d by the events", len(entries), len(now))
	}
	for _, e := range entries {
		if now[e.MAC] != e.Dst {
			t.Fatalf("%+v, but by the events it is behind %v", e, now[e.MAC])
		}
	}
}
