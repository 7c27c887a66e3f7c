package fdb

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Between a part's copying and its successor's publication a refresh must wait:
// what it wrote to the old part would be lost.
func TestARefreshWaitsWhileItsPartIsReplaced(t *testing.T) {
	table := New(Config{})
	table.Learn(alice, Local(1), 10)
	p := table.lock(table.key.hash(alice))
	q := newPart(p.depth, p.prefix, len(p.buckets))
	p.seal(&table.key, func(uint64) *part { return q })
	learned := make(chan Result)
	go func() { learned <- table.Learn(alice, Local(1), 20) }()
	select {
	case r := <-learned:
		t.Fatalf("learned in a part that is being replaced: %v", r)
	case <-time.After(20 * time.Millisecond): // a fault shows at once; nothing else is waited for
	}
	table.dir.Load().put(q)
	p.mu.Unlock()
	if r := <-learned; r != Known {
		t.Errorf("learned: %v", r)
	}
	if e, ok := table.LookupEntry(alice, 20); !ok || e.Age != 0 {
		t.Errorf("the refresh was lost: %+v, %v", e, ok)
	}
	if err := table.check(); err != nil {
		t.Error(err)
	}
}

func TestAStationThatIsHeardOfDuringASweepStays(t *testing.T) {
	const n, rounds = 64, 3000
	table := New(Config{Ageing: 1})
	// Both begin a round at the same moment, as nearly as can be.
	var begun, ended atomic.Uint32
	var sweeper sync.WaitGroup
	sweeper.Go(func() {
		for round := range uint32(rounds) {
			for begun.Load() == round {
				runtime.Gosched()
			}
			table.Sweep(Seconds(2*round), 0)
			ended.Add(1)
		}
	})
	for round := range uint32(rounds) {
		now := Seconds(2 * round)
		var heard [n]bool
		begun.Add(1)
		for i := range n {
			heard[i] = table.Learn(alice+MAC(i), Local(1), now) == Known
		}
		for ended.Load() == round {
			runtime.Gosched()
		}
		for i := range n {
			if _, ok := table.LookupEntry(alice+MAC(i), now); heard[i] && !ok {
				t.Errorf("round %d: %v was known, and gone a moment later", round, alice+MAC(i))
			}
		}
	}
	sweeper.Wait()
	if err := table.check(); err != nil {
		t.Error(err)
	}
}

// Stations whose hashes lie in one corner make the directory deep there; the
// parts elsewhere are split and merged without its changing.
func TestADirectoryCountsItsDeepestParts(t *testing.T) {
	table := New(Config{})
	learn := func(prefix uint64, depth uint8, n int) (macs []MAC) {
		for m := MAC(0x02_00_00_00_00_00); len(macs) < n; m++ {
			if table.key.hash(m)>>(64-depth) == prefix {
				macs = append(macs, m)
				table.Learn(m, Local(1), 1)
			}
		}
		if err := table.check(); err != nil {
			t.Fatal(err)
		}
		return macs
	}
	corner := learn(0b0000, 4, 2500)
	if d := table.dir.Load().depth; d < 5 {
		t.Fatalf("depth %d", d)
	}
	side := learn(0b1, 1, 4000)
	for _, macs := range [][]MAC{side, corner} {
		for _, m := range macs {
			table.Delete(m)
		}
		if err := table.check(); err != nil {
			t.Fatal(err)
		}
	}
	if d := table.dir.Load(); d.depth != 0 || footprint(table) > 16 {
		t.Errorf("an empty table has depth %d and %d slots", d.depth, footprint(table))
	}
}

func TestAHalfThatIsBeingReplacedIsNotMerged(t *testing.T) {
	table := New(Config{})
	for i := range MAC(2000) { // two parts
		table.Learn(alice+i, Local(1), 1)
	}
	p := table.lock(0)
	defer p.mu.Unlock()
	half := table.part(p.span())
	half.gone = true
	p.live, half.live = 0, 0 // small enough, if it were not for that
	if q := table.merge(p); q != nil {
		t.Errorf("merged into %d buckets", len(q.buckets))
	}
}

func TestAnEntryTakesLessThan96Bytes(t *testing.T) {
	table := New(Config{})
	for n := range MAC(200_000) {
		table.Learn(alice+n, Local(1), 1)
		if n < 1000 || n%997 != 0 {
			continue
		}
		if each := 16 * footprint(table) / int(n+1); each >= 96-8 { // a directory takes less than 8
			t.Fatalf("%d bytes an entry of %d", each, n+1)
		}
		if each := 8 * len(table.dir.Load().parts) / int(n+1); each >= 8 {
			t.Fatalf("the directory takes %d bytes an entry of %d", each, n+1)
		}
	}
}
