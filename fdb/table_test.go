package fdb

import (
	"errors"
	"math"
	"math/rand/v2"
	"runtime"
	"testing"
)

const alice, bob MAC = 0x02_00_00_00_00_0a, 0x02_00_00_00_00_0b

func TestALookupSeesWhatWasLearned(t *testing.T) {
	table := New(Config{})
	if d := table.Lookup(alice); d != 0 {
		t.Fatalf("unknown MAC is behind %v", d)
	}
	if r := table.Learn(alice, Local(3), 10); r != Learned {
		t.Fatalf("first frame: %v", r)
	}
	if r := table.Learn(alice, Local(3), 12); r != Known {
		t.Fatalf("second frame: %v", r)
	}
	if d := table.Lookup(alice); d != Local(3) {
		t.Fatalf("behind %v", d)
	}
	e, ok := table.LookupEntry(alice, 17)
	if want := (Entry{MAC: alice, Dst: Local(3), Age: 5}); !ok || e != want || e.State() != "dynamic" {
		t.Fatalf("entry %+v, %v", e, ok)
	}
}

func TestAStationThatMovesIsFoundAtItsNewPlaceAtOnce(t *testing.T) {
	table := New(Config{})
	table.Learn(alice, Local(1), 1)
	if r := table.Learn(alice, Remote(1), 2); r != Moved {
		t.Fatalf("moved: %v", r)
	}
	if d := table.Lookup(alice); d != Remote(1) {
		t.Fatalf("behind %v", d)
	}
	if l, r := table.Count(Local(1)), table.Count(Remote(1)); l != 0 || r != 1 {
		t.Fatalf("counts %d, %d", l, r)
	}
}

func TestAStaticEntryNeverMovesAndNeverAges(t *testing.T) {
	table := New(Config{Ageing: 10, MaxMACs: 1})
	table.SetLimit(Local(1), 1)
	table.Learn(alice, Remote(9), 1)
	for _, m := range []MAC{alice, bob} {
		if err := table.AddStatic(m, Local(1)); err != nil {
			t.Fatal(err)
		}
		if r := table.Learn(m, Remote(2), 5); r != Static {
			t.Errorf("from elsewhere: %v", r)
		}
		if r := table.Learn(m, Local(1), 5); r != Known {
			t.Errorf("from its place: %v", r)
		}
	}
	if n, d, l := table.Len(), table.Dynamic(), table.Count(Local(1)); n != 2 || d != 0 || l != 0 {
		t.Errorf("%d entries, %d learned, %d behind the port", n, d, l)
	}
	if n := table.Count(Remote(9)); n != 0 {
		t.Errorf("%d entries behind where the learned one was", n)
	}
	if n, done := table.Sweep(1000, 0); n != 0 || !done {
		t.Errorf("swept %d, %v", n, done)
	}
	if n := table.Flush(); n != 0 {
		t.Errorf("flushed %d", n)
	}
	if r := table.Learn(0x02_00_00_00_00_0c, Local(1), 5); r != Learned {
		t.Errorf("static entries count against the limits: %v", r)
	}
	if e, _ := table.LookupEntry(alice, 1000); e.State() != "static" || e.Age != 0 {
		t.Errorf("entry %+v", e)
	}
}

func TestTheSegmentsOwnAddressIsNobodyElses(t *testing.T) {
	table := New(Config{})
	table.Learn(alice, Local(1), 1)
	table.SetSelf(alice)
	if d := table.Lookup(alice); d != Self {
		t.Errorf("behind %v", d)
	}
	if r := table.Learn(alice, Local(1), 1); r != Own {
		t.Errorf("learned: %v", r)
	}
	if err := table.AddStatic(alice, Local(1)); !errors.Is(err, ErrOwnMAC) {
		t.Errorf("static: %v", err)
	}
	if table.Delete(alice) || table.Flush() != 0 || table.FlushDst(Self, true) != 0 {
		t.Error("it was deleted")
	}
	if e, ok := table.LookupEntry(alice, 1); !ok || e.State() != "self" {
		t.Errorf("entry %+v, %v", e, ok)
	}
	table.ClearSelf(alice)
	table.ClearSelf(bob)
	if n := table.Len(); n != 0 {
		t.Errorf("%d entries left", n)
	}
}

func TestWhatIsNoStationIsNeverTaken(t *testing.T) {
	table := New(Config{})
	for _, m := range []MAC{0, Broadcast, 0x01_00_5e_00_00_01, 1 << 50} {
		if r := table.Learn(m, Local(1), 1); r != Invalid {
			t.Errorf("%v: learned: %v", m, r)
		}
		if err := table.AddStatic(m, Local(1)); !errors.Is(err, ErrNotStation) {
			t.Errorf("%v: static: %v", m, err)
		}
		table.SetSelf(m)
		if d := table.Lookup(m); d != 0 {
			t.Errorf("%v is behind %v", m, d)
		}
	}
	for _, d := range []Dst{0, Self} {
		if r := table.Learn(alice, d, 1); r != Invalid {
			t.Errorf("learned behind %v: %v", d, r)
		}
		if err := table.AddStatic(alice, d); !errors.Is(err, ErrNoDst) {
			t.Errorf("static behind %v: %v", d, err)
		}
	}
	if n := table.Len(); n != 0 {
		t.Errorf("%d entries", n)
	}
}

func TestAFullTableKeepsWhatItKnows(t *testing.T) {
	table := New(Config{MaxMACs: 2})
	table.SetLimit(Local(2), 1)
	steps := []struct {
		m    MAC
		d    Dst
		want Result
	}{
		{1 << 8, Local(1), Learned}, {2 << 8, Local(2), Learned}, {3 << 8, Local(1), Full},
		{1 << 8, Local(1), Known}, {1 << 8, Local(2), PortFull}, {2 << 8, Remote(1), Moved}, {1 << 8, Local(2), Moved},
	}
	for i, s := range steps {
		if r := table.Learn(s.m, s.d, 1); r != s.want {
			t.Errorf("step %d: %v, want %v", i, r, s.want)
		}
	}
	if d := table.Lookup(3 << 8); d != 0 {
		t.Errorf("what was refused is behind %v", d)
	}
	table.Reconfigure(Config{MaxMACs: 3})
	if r := table.Learn(3<<8, Local(1), 1); r != Learned {
		t.Errorf("after the limit was raised: %v", r)
	}
}

func TestAnEntryAgesFromItsLastFrameOn(t *testing.T) {
	table := New(Config{Ageing: 300})
	table.Learn(alice, Local(1), 1000)
	table.Learn(bob, Local(1), 1000)
	table.Learn(bob, Local(1), 1100)
	table.Learn(bob, Local(1), 1050) // a worker whose clock lags makes it no older
	if n, done := table.Sweep(1299, 0); n != 0 || !done {
		t.Fatalf("swept %d early", n)
	}
	if n, _ := table.Sweep(1300, 0); n != 1 || table.Lookup(alice) != 0 || table.Lookup(bob) == 0 {
		t.Fatalf("swept %d", n)
	}
	if n, _ := table.Sweep(900, 0); n != 0 {
		t.Fatal("a clock that lags ages what it should not")
	}
	if n, _ := table.Sweep(1400, 0); n != 1 || table.Len() != 0 {
		t.Fatalf("swept %d, left %d", n, table.Len())
	}
	if r := table.Learn(alice, Local(2), 1500); r != Learned {
		t.Fatalf("back again: %v", r)
	}
}

func TestTimeMayWrapAround(t *testing.T) {
	for _, start := range []Seconds{math.MaxUint32 - 5, 1<<28 - 5, 0} {
		table := New(Config{Ageing: 20})
		table.Learn(alice, Local(1), start)
		table.Learn(alice, Local(1), start+10)
		if e, _ := table.LookupEntry(alice, start+25); e.Age != 15 {
			t.Errorf("from %d: age %d", start, e.Age)
		}
		if n, _ := table.Sweep(start+29, 0); n != 0 {
			t.Errorf("from %d: swept early", start)
		}
		if n, _ := table.Sweep(start+30, 0); n != 1 {
			t.Errorf("from %d: swept %d", start, n)
		}
	}
}

// Each of a round's calls visits few slots, and the table changes in between;
// still the round finds everything that had aged when it began.
func TestARoundOfSweepsLeavesNothingOut(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for _, budget := range []int{64, 500, 5000} {
		table := New(Config{Ageing: 10})
		old := map[MAC]bool{}
		for i := range MAC(20_000) {
			m := 0x02_00_00_00_00_00 | i
			table.Learn(m, Local(1), Seconds(1+i%2*100))
			old[m] = i%2 == 0
		}
		removed, calls := 0, 0
		for done := false; !done; calls++ {
			var n int
			n, done = table.Sweep(105, budget)
			if n > budget {
				t.Fatalf("a call with a budget of %d removed %d", budget, n)
			}
			removed += n
			for range 10 {
				table.Learn(0x06_00_00_00_00_00|MAC(r.Uint32()), Local(2), 105)
			}
			if calls > 100_000 {
				t.Fatal("the round does not end")
			}
		}
		if removed != 10_000 {
			t.Errorf("budget %d: %d removed", budget, removed)
		}
		for m, gone := range old {
			if (table.Lookup(m) == 0) != gone {
				t.Errorf("budget %d: %v is behind %v", budget, m, table.Lookup(m))
			}
		}
		if calls < 20_000/budget {
			t.Errorf("budget %d: only %d calls", budget, calls)
		}
		if err := table.check(); err != nil {
			t.Error(err)
		}
	}
}

func TestATableGivesBackWhatAFloodTook(t *testing.T) {
	table := New(Config{Ageing: 10})
	idle := footprint(table)
	for i := range MAC(50) {
		table.Learn(0x02_00_00_00_00_00|i, Local(1), 100)
	}
	few := footprint(table)
	for i := range MAC(300_000) {
		table.Learn(0x06_00_00_00_00_00|i, Local(2), 1)
	}
	flooded := footprint(table)
	for done := false; !done; {
		_, done = table.Sweep(100, 4096)
	}
	after := footprint(table)
	t.Logf("slots: idle %d, few %d, flooded %d, after %d", idle, few, flooded, after)
	if idle > 16 || few > 400 || flooded > 1_000_000 || after > few {
		t.Error("too many")
	}
	if n := len(table.dir.Load().parts); n != 1 || table.Len() != 50 {
		t.Errorf("%d parts, %d entries", n, table.Len())
	}
	if err := table.check(); err != nil {
		t.Error(err)
	}
}

func footprint(t *Table) (slots int) {
	for h := uint64(0); ; {
		p := t.part(h)
		slots += len(p.buckets) * bucketSlots
		if h = p.prefix + p.span(); h == 0 {
			return slots
		}
	}
}

func TestChurnNeitherBloatsNorRots(t *testing.T) {
	table := New(Config{})
	for i := range MAC(400_000) {
		table.Learn(0x02_00_00_00_00_00|i, Local(1), 1)
		if i >= 100 {
			table.Delete(0x02_00_00_00_00_00 | i - 100)
		}
	}
	if n := footprint(table); n > 1024 || table.Len() != 100 {
		t.Errorf("%d slots for %d entries", n, table.Len())
	}
	if err := table.check(); err != nil {
		t.Error(err)
	}
}

func TestAnIdleTableIsSmall(t *testing.T) {
	const n = 1000
	tables := make([]*Table, n)
	before := heap()
	for i := range tables {
		tables[i] = New(Config{MaxMACs: 8192, Ageing: 300})
		for j := range MAC(16) {
			tables[i].Learn(alice+j, Local(uint32(j%4)), 1)
		}
	}
	each := (heap() - before) / n
	runtime.KeepAlive(tables)
	t.Logf("%d bytes", each)
	if each > 4096 {
		t.Errorf("%d bytes for a table of 16 entries", each)
	}
}

// Whatever the order of addresses, buckets fill as random ones would: few
// entries lie elsewhere than in their home bucket.
func TestTheHashSpreadsAddressesHoweverTheyAreGiven(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	for name, of := range map[string]func(i uint64) MAC{
		"counting":       func(i uint64) MAC { return MAC(0x02_00_00_00_00_00 | i) },
		"vendors":        func(i uint64) MAC { return MAC(0x02_00_00_00_00_01 | i%4096<<24 | i/4096<<8) },
		"by strides":     func(i uint64) MAC { return MAC(0x02_00_00_00_00_00 | i*4096) },
		"counting above": func(i uint64) MAC { return MAC(i/256<<41 | i%256<<16) },
		"at random":      func(i uint64) MAC { return MAC(r.Uint64() &^ (0xffff << 48) &^ (1 << 40)) },
	} {
		table := New(Config{})
		const n = 50_000
		for i := range uint64(n) {
			table.Learn(of(i+1), Local(1), 1)
		}
		far, farthest := 0, uint64(0)
		for h := uint64(0); ; {
			p := table.part(h)
			for i := range p.buckets {
				for j := range p.buckets[i].slots {
					key := p.buckets[i].slots[j].key.Load()
					if key == 0 {
						continue
					}
					off := (uint64(i) - table.key.hash(MAC(key&^occupied))) & p.mask
					if off > 0 {
						far++
					}
					farthest = max(farthest, off)
				}
			}
			if h = p.prefix + p.span(); h == 0 {
				break
			}
		}
		// At the highest load, three entries a bucket, some 15 % overflow.
		if far > n/5 || farthest > 60 {
			t.Errorf("%s: %d of %d entries are not in their bucket, the farthest is %d away", name, far, n, farthest)
		}
	}
}

func TestTwoTablesHashDifferently(t *testing.T) {
	a, b := New(Config{}), New(Config{})
	same := 0
	for m := range MAC(1000) {
		if a.key.hash(m)>>54 == b.key.hash(m)>>54 {
			same++
		}
	}
	if same > 30 {
		t.Errorf("%d of 1000 addresses have the same ten bits in both", same)
	}
}

func TestABatchYieldsWhatSingleLookupsDo(t *testing.T) {
	table := New(Config{})
	for i := range MAC(5000) {
		table.Learn(alice+i*2, Local(uint32(i)), 1)
	}
	for _, n := range []int{0, 1, 63, 64, 65, 1000} {
		macs, dst := make([]MAC, n), make([]Dst, n+1)
		for i := range macs {
			macs[i] = alice + MAC(i*7)
			dst[i] = Self
		}
		dst[n] = Self
		table.LookupBatch(macs, dst)
		for i, m := range macs {
			if dst[i] != table.Lookup(m) {
				t.Errorf("batch of %d: %v is behind %v, alone behind %v", n, m, dst[i], table.Lookup(m))
			}
		}
		if dst[n] != Self {
			t.Errorf("batch of %d: wrote more", n)
		}
	}
}

func TestTheHotPathDoesNotAllocate(t *testing.T) {
	table := New(Config{MaxMACs: 1000})
	for i := range MAC(1000) {
		table.Learn(alice+i, Local(uint32(i%300)), 1)
	}
	table.SetSelf(0x02_00_ff_00_00_01)
	if err := table.AddStatic(0x02_00_ff_00_00_02, Local(1)); err != nil {
		t.Fatal(err)
	}
	now := Seconds(1)
	macs, dst := make([]MAC, 64), make([]Dst, 64)
	if n := testing.AllocsPerRun(100, func() {
		now++
		for i := range MAC(100) {
			table.Lookup(alice + i)
			table.LookupEntry(alice+i, now)
			table.Learn(alice+i, Local(uint32(i%300)), now)   // known
			table.Learn(alice+i, Local(uint32(now)%300), now) // moves
			table.Learn(0x0a_00_00_00_00_00|i, Local(1), now) // refused
			table.Learn(0x02_00_ff_00_00_01, Local(1), now)   // own
			table.Learn(0x02_00_ff_00_00_02, Local(2), now)   // static
			table.Learn(alice+i, Local(uint32(i%300)), now)   // back
		}
		table.LookupBatch(macs, dst)
		table.Sweep(now, 512)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestWordsAreThoseThatUsersSee(t *testing.T) {
	for got, want := range map[string]string{
		OriginDynamic.String(): "dynamic", OriginStatic.String(): "static", OriginSelf.String(): "self", Origin(7).String(): "origin 7",
		EventLearn.String(): "learn", EventMove.String(): "move", EventAge.String(): "age", EventDelete.String(): "delete", EventAdd.String(): "add",
		EventKind(9).String(): "event 9", Known.String(): "known", Invalid.String(): "invalid", Result(99).String(): "result 99",
		PeerConfig.String(): "config", PeerAPI.String(): "api", PeerLearned.String(): "learned", PeerOrigin(8).String(): "origin 8",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
