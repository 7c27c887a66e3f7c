package fdb

import (
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"testing"
)

// station is the i-th MAC of a destination in the tests here.
func station(d Dst, i int) MAC { return MAC(0x02_00_00_00_00_00) | MAC(d.Index())<<24 | MAC(i) }

// madeUp is an address of a flood.
func madeUp(r *rand.Rand) MAC { return MAC(0x0a_00_00_00_00_00) | MAC(r.Uint64N(1<<40)) }

// learned has a station speak until it is learned, a few times at most: where
// hardly anybody has more than his share, one who has may not be met at once.
func learned(t *Table, m MAC, d Dst, now Seconds) bool {
	for range 20 {
		if t.Learn(m, d, now) == Learned {
			return true
		}
	}
	return false
}

// A million made-up addresses behind one port leave the others what they have,
// and room for more up to their share, and take no more memory than the limit
// allows.
func TestAFloodOfMACsLeavesOthersTheirShare(t *testing.T) {
	const limit, ports = 8192, 8
	r := rand.New(rand.NewPCG(1, 2))
	before := heap()
	table := New(Config{MaxMACs: limit})
	flooder, fair := Local(0), limit/ports
	for p := 1; p < ports; p++ {
		for i := range 100 {
			table.Learn(station(Local(uint32(p)), i), Local(uint32(p)), 1)
		}
	}
	full := 0
	for i := range 1_000_000 {
		if table.Learn(madeUp(r), flooder, Seconds(2+i/10_000)) == Full {
			full++
		}
		// Everybody else goes on growing all the while.
		if p := i % ports; p != 0 && i/ports < fair-100 {
			d := Local(uint32(p))
			if !learned(table, station(d, 100+i/ports), d, Seconds(2+i/10_000)) {
				t.Fatalf("station %d of %v, which has %d of %d, is not learned", i/ports, d, table.Count(d), fair)
			}
		}
	}
	for p := 1; p < ports; p++ {
		d := Local(uint32(p))
		for i := range fair {
			if at := table.Lookup(station(d, i)); at != d {
				t.Fatalf("station %d of %v is behind %v", i, d, at)
			}
		}
	}
	if n := table.Count(flooder); n > fair || table.Dynamic() > limit || full < 900_000 {
		t.Errorf("the flooder has %d of %d, %d of its addresses were not learned; the table has %d", n, fair, full, table.Dynamic())
	}
	if grown := heap() - before; grown > limit*96 {
		t.Errorf("%d bytes for %d entries", grown, limit)
	}
	if err := table.check(); err != nil {
		t.Error(err)
	}
	runtime.KeepAlive(table)
}

// One flooder in one segment must not take from the others what all share.
func TestAFloodInOneSegmentLeavesOtherSegmentsTheirShare(t *testing.T) {
	const limit, segments = 20_000, 100
	r := rand.New(rand.NewPCG(1, 3))
	total := NewTotal(limit)
	tables := make([]*Table, segments)
	for i := range tables {
		tables[i] = New(Config{Total: total})
	}
	for range 100_000 {
		tables[0].Learn(madeUp(r), Local(0), 1)
	}
	if n := total.Dynamic(); n != limit {
		t.Fatalf("%d are learned of %d", n, limit)
	}
	for s, table := range tables[1:] {
		for i := range limit / segments {
			d := Local(uint32(s))
			if !learned(table, station(d, i), d, 2) {
				t.Fatalf("station %d of segment %d is not learned", i, s)
			}
		}
		if got := tables[0].Learn(madeUp(r), Local(0), 2); got != Full {
			t.Fatalf("the flooder's: %v", got)
		}
	}
	if n := total.Dynamic(); n > limit {
		t.Errorf("%d are learned of %d", n, limit)
	}
	for _, table := range tables {
		if err := table.check(); err != nil {
			t.Error(err)
		}
		table.Leave()
	}
	if n, left := total.Dynamic(), len(*total.tables.Load()); n != 0 || left != 0 {
		t.Errorf("of no table: %d MACs, %d tables", n, left)
	}
}

// Whoever goes on speaking stays, even among the flooder's own.
func TestTheLongestUnusedEntryGivesWay(t *testing.T) {
	table := New(Config{MaxMACs: 60})
	for i := range 60 {
		table.Learn(station(Local(0), i), Local(0), 1)
	}
	for i := range 31 {
		table.Learn(station(Local(0), i), Local(0), 9)
	}
	for i := range 29 {
		if r := table.Learn(station(Local(1), i), Local(1), 10); r != Learned {
			t.Fatalf("the other port's station %d: %v", i, r)
		}
	}
	for i := range 60 {
		d := table.Lookup(station(Local(0), i))
		if stays := i < 31; (d == Local(0)) != stays {
			t.Errorf("station %d is behind %v; it stays: %v", i, d, stays)
		}
	}
}

func TestAMACThatGoesRoundIsHeldAtItsHome(t *testing.T) {
	var events []Event
	table := New(Config{Moves: 5, MovesWithin: 180, Events: func(e Event) { events = append(events, e) }})
	home, loop := Local(1), Remote(2)
	table.Learn(alice, home, 100)
	// Each frame of alice's comes back by the loop.
	for i := range 2 {
		now := Seconds(101 + i)
		if r := table.Learn(alice, loop, now); r != Moved {
			t.Fatalf("came back %d times: %v", i+1, r)
		}
		if r := table.Learn(alice, home, now); r != Moved {
			t.Fatalf("at home again: %v", r)
		}
	}
	for range 3 {
		if r := table.Learn(alice, loop, 103); r != Frozen {
			t.Fatalf("came back too often: %v", r)
		}
	}
	if e, _ := table.LookupEntry(alice, 103); e.Dst != home || !e.Frozen || e.State() != "dynamic" {
		t.Errorf("held: %+v", e)
	}
	if r := table.Learn(alice, home, 282); r != Known {
		t.Errorf("a frame from home: %v", r)
	}
	if last := events[len(events)-1]; last.Kind != EventFreeze || last.Dst != home || last.MAC != alice {
		t.Errorf("the last event is %+v", last)
	}
	for _, now := range []Seconds{103, 150, 282} {
		frozen, released := table.Damp(now)
		if len(released) != 0 || (len(frozen) == 1) != (now == 103) {
			t.Errorf("at %d: frozen %v, released %v", now, frozen, released)
		}
	}
	if _, released := table.Damp(283); len(released) != 1 || released[0] != alice {
		t.Errorf("released: %v", released)
	}
	if last := events[len(events)-1]; last.Kind != EventRelease || last.Dst != home {
		t.Errorf("the last event is %+v", last)
	}
	if r := table.Learn(alice, loop, 284); r != Moved {
		t.Errorf("it moves again: %v", r)
	}
}

// A virtual machine that is migrated there and back, and once more, is no loop.
func TestAFewMovesAreNoLoop(t *testing.T) {
	table := New(Config{Moves: 5, MovesWithin: 180})
	table.Learn(alice, Local(1), 0)
	for i := range 100 {
		now := Seconds(46 * (i + 1)) // four in any 180 seconds
		if r := table.Learn(alice, Local(uint32(2+i%3)), now); r != Moved {
			t.Fatalf("move %d: %v", i, r)
		}
		table.Damp(now)
	}
}

func TestAHeldMACIsFreeWhereItsHomeGoesOrItIsDeleted(t *testing.T) {
	for name, free := range map[string]func(*Table){
		"port":   func(t *Table) { t.FlushDst(Local(1), false) },
		"delete": func(t *Table) { t.Delete(alice) },
		"flush":  func(t *Table) { t.Flush() },
		"off":    func(t *Table) { t.Reconfigure(Config{}); t.Damp(3) },
	} {
		t.Run(name, func(t *testing.T) {
			table := New(Config{Moves: 2, MovesWithin: 180})
			table.Learn(alice, Local(1), 1)
			table.Learn(alice, Local(2), 2)
			table.Learn(alice, Local(3), 2)
			if r := table.Learn(alice, Local(2), 3); r != Frozen {
				t.Fatalf("held: %v", r)
			}
			free(table)
			if r := table.Learn(alice, Local(2), 4); r != Learned && r != Moved {
				t.Errorf("afterwards: %v", r)
			}
			if err := table.check(); err != nil {
				t.Error(err)
			}
		})
	}
}

// However many MACs move, the memory for it is bounded, and those that are held
// stay so.
func TestMovesOfAnyNumberOfMACsTakeBoundedMemory(t *testing.T) {
	table := New(Config{Moves: 5, MovesWithin: 180})
	const held, n = 50, 20_000
	for i := range n {
		table.Learn(station(0, i), Local(0), 1)
	}
	for move := range 5 {
		for i := range held {
			table.Learn(station(0, i), Local(uint32(1+move)), 2)
		}
	}
	for move := range 4 {
		for i := held; i < n; i++ {
			table.Learn(station(0, i), Local(uint32(1+move)), 3)
		}
	}
	if n := len(table.damper.of); n > maxMoving {
		t.Errorf("%d records", n)
	}
	for i := range held {
		if e, _ := table.LookupEntry(station(0, i), 3); !e.Frozen || e.Dst != Local(0) {
			t.Errorf("station %d: %+v", i, e)
		}
	}
	if err := table.check(); err != nil {
		t.Error(err)
	}
	if _, released := table.Damp(200); len(released) < held || len(table.damper.of) != 0 || table.damper.of != nil {
		t.Errorf("%d released, %d records left", len(released), len(table.damper.of))
	}
}

// Learners at a limit that several tables share, with MACs that move, are held,
// age and are released all at once.
func TestTheLimitsHoldAmongConcurrentLearners(t *testing.T) {
	const limit, workers = 3000, 4
	total := NewTotal(limit)
	var tables [3]*Table
	var gone, come atomic.Int64
	for i := range tables {
		tables[i] = New(Config{MaxMACs: 1500, Ageing: 20, Moves: 3, MovesWithin: 5, Total: total, Events: func(e Event) {
			switch {
			case e.Kind == EventLearn:
				come.Add(1)
			case e.Kind == EventEvict || e.Kind == EventAge || e.Kind == EventDelete && e.Origin == OriginDynamic:
				gone.Add(1)
			}
		}})
	}
	var clock atomic.Uint32
	together(workers, func(worker int, r *rand.Rand) {
		for i := range 40_000 {
			table := tables[r.IntN(len(tables))]
			now := Seconds(clock.Load())
			d := Local(uint32(r.IntN(20)))
			switch op := r.IntN(1000); {
			case op < 500:
				table.Learn(station(0, r.IntN(3000)), d, now)
			case op < 990:
				table.Learn(madeUp(r), Local(7), now)
			case op < 995:
				table.FlushDst(d, true)
			case op < 997:
				table.Delete(station(0, r.IntN(3000)))
			}
			if worker == 0 && i%500 == 0 {
				clock.Add(1)
				for _, table := range tables {
					table.Sweep(now, 0)
					table.Damp(now)
				}
			}
			if n := total.Dynamic(); n > limit {
				t.Errorf("%d MACs are learned, of %d", n, limit)
				return
			}
		}
	})
	sum, active := 0, int64(0)
	for _, table := range tables {
		if err := table.check(); err != nil {
			t.Error(err)
		}
		sum += table.Dynamic()
		active += table.learned.active.Load()
	}
	if sum != total.Dynamic() || active != total.learned.active.Load() || come.Load()-gone.Load() != int64(sum) {
		t.Errorf("%d MACs, counted %d, %d came and %d went; %d destinations, counted %d", sum, total.Dynamic(), come.Load(), gone.Load(), active, total.learned.active.Load())
	}
}
