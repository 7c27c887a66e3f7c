package fdb

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// check says what is wrong inside of a table that nobody is writing to.
func (t *Table) check() error {
	d := t.dir.Load()
	if len(d.parts) != 1<<d.depth || d.shift != 64-d.depth {
		return fmt.Errorf("directory of %d with depth %d, shift %d", len(d.parts), d.depth, d.shift)
	}
	total, dynamic, deepest := 0, 0, 0
	counts := map[Dst]int{}
	macs := map[MAC]bool{}
	for h := uint64(0); ; {
		p := d.at(h)
		if p.prefix != h || p.depth > d.depth || p.gone {
			return fmt.Errorf("part at %#x: prefix %#x, depth %d of %d, gone %v", h, p.prefix, p.depth, d.depth, p.gone)
		}
		for i := range 1 << (d.depth - p.depth) {
			if q := d.parts[int(h>>d.shift)+i].Load(); q != p {
				return fmt.Errorf("part at %#x is not listed at %d", h, i)
			}
		}
		if p.depth == d.depth {
			deepest++
		}
		used, live := 0, 0
		for i := range p.buckets {
			for j := range p.buckets[i].slots {
				s := &p.buckets[i].slots[j]
				key, b := s.key.Load(), s.val.Load()
				if key == 0 {
					continue
				}
				used++
				m := MAC(key &^ occupied)
				hm := t.key.hash(m)
				if macs[m] || d.at(hm) != p || p.find(hm, key) != &s.val {
					return fmt.Errorf("%v is twice in the table or cannot be found", m)
				}
				macs[m] = true
				if b == 0 {
					continue
				}
				if b&sealed != 0 || dstOf(b) == 0 {
					return fmt.Errorf("%v has the binding %#x", m, b)
				}
				live++
				if originOf(b) == OriginDynamic {
					dynamic++
					counts[dstOf(b)]++
				}
			}
		}
		if used != p.used || live != p.live || used > p.room() {
			return fmt.Errorf("part at %#x of %d slots: used %d, counted %d; live %d, counted %d", h, len(p.buckets)*bucketSlots, used, p.used, live, p.live)
		}
		total += live
		if h = p.prefix + p.span(); h == 0 {
			break
		}
	}
	if total != t.Len() || dynamic != t.Dynamic() || deepest != t.deepest {
		return fmt.Errorf("%d entries, counted %d; %d learned, counted %d; %d deepest parts, counted %d", total, t.Len(), dynamic, t.Dynamic(), deepest, t.deepest)
	}
	for dst, n := range counts {
		if t.Count(dst) != n {
			return fmt.Errorf("%d entries behind %v, counted %d", n, dst, t.Count(dst))
		}
	}
	if n := int(t.learned.active.Load()); n != len(counts) {
		return fmt.Errorf("%d destinations have entries, counted %d", len(counts), n)
	}
	return t.damper.check(t)
}

// check says what of the records does not agree with the entries of t.
func (d *damper) check(t *Table) error {
	if int(d.n.Load()) != len(d.of) || len(d.of) > maxMoving {
		return fmt.Errorf("%d records of moves, counted %d", len(d.of), d.n.Load())
	}
	frozen := map[MAC]bool{}
	for _, e := range t.Entries(0) {
		if frozen[e.MAC] = e.Frozen; d.of[e.MAC].frozen != e.Frozen {
			return fmt.Errorf("%v is frozen: %v, and its record says %+v", e.MAC, e.Frozen, d.of[e.MAC])
		}
	}
	for m, r := range d.of {
		if r.frozen && !frozen[m] {
			return fmt.Errorf("%v is held, and not there: %+v", m, r)
		}
	}
	return nil
}

func TestRandomOperationsDoWhatTheModelDoes(t *testing.T) {
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 99))
		// From a handful, where everything happens to the same MACs, to
		// thousands, where the table grows and shrinks.
		space := []uint64{4, 40, 90, 400, 6000}[seed%5]
		limit := func(of ...int) int { return of[r.IntN(len(of))] }
		total := NewTotal(limit(0, 0, 5, 60, 700))
		var tables [2]*Table
		var models [2]*model
		for i := range tables {
			c := Config{MaxMACs: limit(0, 3, 20, 300, 2500), Ageing: Seconds(r.IntN(3) * 20), Moves: r.IntN(6), MovesWithin: Seconds(1 + r.IntN(40)), Total: total}
			m := newModel(c)
			// The table's share of both is looked through as a whole.
			m.exactly, m.total = space <= 90, int(total.learned.limit.Load())
			c.Events = func(e Event) {
				if e.Kind == EventEvict {
					m.evicted = append(m.evicted, e.MAC)
				}
			}
			tables[i], models[i] = New(c), m
		}
		models[0].others, models[1].others = models[1], models[0]
		now := Seconds(100)
		for step := range 4000 {
			i := r.IntN(2)
			if err := operate(r, tables[i], models[i], space, &now); err != nil {
				t.Fatalf("seed %d, step %d: %v", seed, step, err)
			}
			if n := tables[0].Dynamic() + tables[1].Dynamic(); total.Dynamic() != n {
				t.Fatalf("seed %d, step %d: %d MACs are learned, counted %d in all", seed, step, n, total.Dynamic())
			}
			if step%500 != 499 {
				continue
			}
			for i, table := range tables {
				if err := table.check(); err != nil {
					t.Fatalf("seed %d, step %d: %v", seed, step, err)
				}
				if got, want := table.Entries(now), models[i].list(now); !slices.Equal(got, want) {
					t.Fatalf("seed %d, step %d: entries\n%v\nwant\n%v", seed, step, got, want)
				}
			}
			if n := tables[0].learned.active.Load() + tables[1].learned.active.Load(); total.learned.active.Load() != n {
				t.Fatalf("seed %d, step %d: %d destinations have MACs, counted %d", seed, step, n, total.learned.active.Load())
			}
		}
	}
}

// operate does one random thing to both and compares what they say.
func operate(r *rand.Rand, table *Table, m *model, space uint64, now *Seconds) error {
	mac := MAC(0x02_00_00_00_00_00) | MAC(r.Uint64N(space))
	d := []Dst{Local(0), Local(1), Local(2), Remote(0), Remote(1)}[r.IntN(5)]
	var got, want any
	switch op := r.IntN(1000); {
	case op < 700:
		switch r.IntN(200) {
		case 0:
			mac = 0
		case 1:
			mac |= 1 << 40
		case 2:
			d = []Dst{0, Self}[r.IntN(2)]
		}
		when := *now - Seconds(r.IntN(3))
		got, want = table.Learn(mac, d, when), m.learn(mac, d, when)
	case op < 800:
		got, want = table.Lookup(mac), m.entries[mac].dst
		e, ok := table.LookupEntry(mac, *now)
		if x, known := m.entries[mac]; ok != known || e.Dst != x.dst || e.Origin != x.origin || e.Frozen != x.frozen {
			return fmt.Errorf("entry of %v: %v, %v; want %v, %v", mac, e, ok, x, known)
		}
	case op < 880:
		got = table.Delete(mac)
		want = m.remove(func(k MAC, e modelEntry) bool { return k == mac && e.origin != OriginSelf }) == 1
	case op < 920:
		err := table.AddStatic(mac, d)
		own := m.entries[mac].origin == OriginSelf
		if !own {
			m.forget(mac)
			m.entries[mac] = modelEntry{dst: d, origin: OriginStatic}
		}
		got, want = errors.Is(err, ErrOwnMAC), own
	case op < 935:
		table.SetSelf(mac)
		m.forget(mac)
		m.entries[mac] = modelEntry{dst: Self, origin: OriginSelf}
	case op < 950:
		table.ClearSelf(mac)
		m.remove(func(k MAC, e modelEntry) bool { return k == mac && e.origin == OriginSelf })
	case op < 960:
		m.limits[d] = r.IntN(50)
		table.SetLimit(d, m.limits[d])
	case op < 975:
		*now += Seconds(r.IntN(15))
	case op < 990:
		n := 0
		for budget := r.IntN(100); ; {
			removed, done := table.Sweep(*now, budget)
			if n += removed; done {
				break
			}
		}
		got, want = n, 0
		if a := m.conf.Ageing; a > 0 {
			want = m.remove(func(_ MAC, e modelEntry) bool {
				return e.origin == OriginDynamic && !e.frozen && *now-min(e.seen, *now) >= a
			})
		}
		frozen, released := table.Damp(*now)
		if f, r := m.damp(*now); !slices.Equal(frozen, f) || !slices.Equal(released, r) {
			return fmt.Errorf("at %d: %v froze and %v were released, want %v and %v", *now, frozen, released, f, r)
		}
	case op < 992:
		got = table.Flush()
		want = m.remove(func(_ MAC, e modelEntry) bool { return e.origin == OriginDynamic })
	case op < 996:
		statics, of := r.IntN(2) == 0, map[Dst]bool{d: true}
		if r.IntN(2) == 0 {
			got = table.FlushDst(d, statics)
		} else {
			of[Local(uint32(r.IntN(4)))], of[Self] = true, true
			got = table.FlushDsts(of, statics)
		}
		want = m.remove(func(_ MAC, e modelEntry) bool {
			return of[e.dst] && (e.origin == OriginDynamic || statics && e.origin == OriginStatic)
		})
		m.forgetHomes(of)
	default:
		m.conf.MaxMACs, m.conf.Moves = r.IntN(3)*int(space/4), r.IntN(6)
		c := m.conf
		c.Events = table.conf.Load().Events
		table.Reconfigure(c)
	}
	if got != want {
		return fmt.Errorf("%v behind %v at %d: got %v, want %v", mac, d, *now, got, want)
	}
	if table.Len() != len(m.entries) || table.Dynamic() != m.dynamic() || table.Count(d) != m.behind(d) {
		return fmt.Errorf("len %d, dynamic %d, behind %v %d; want %d, %d, %d", table.Len(), table.Dynamic(), d, table.Count(d), len(m.entries), m.dynamic(), m.behind(d))
	}
	return nil
}
