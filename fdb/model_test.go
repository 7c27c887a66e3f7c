package fdb

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// model is a table that is obviously right: a map, and everything counted when
// it is asked for.
type model struct {
	conf    Config
	limits  map[Dst]int
	entries map[MAC]modelEntry
}

type modelEntry struct {
	dst    Dst
	origin Origin
	seen   Seconds
}

func newModel(c Config) *model {
	return &model{conf: c, limits: map[Dst]int{}, entries: map[MAC]modelEntry{}}
}

func (m *model) count(which func(modelEntry) bool) (n int) {
	for _, e := range m.entries {
		if which(e) {
			n++
		}
	}
	return n
}

func (m *model) dynamic() int {
	return m.count(func(e modelEntry) bool { return e.origin == OriginDynamic })
}

func (m *model) behind(d Dst) int {
	return m.count(func(e modelEntry) bool { return e.origin == OriginDynamic && e.dst == d })
}

func (m *model) learn(mac MAC, d Dst, now Seconds) Result {
	if mac == 0 || mac.IsGroup() || !d.IsLocal() && !d.IsRemote() {
		return Invalid
	}
	e, ok := m.entries[mac]
	portFull := m.limits[d] > 0 && m.behind(d) >= m.limits[d]
	switch {
	case ok && e.origin == OriginSelf:
		return Own
	case ok && e.dst == d:
		if e.origin == OriginDynamic {
			e.seen = max(e.seen, now)
			m.entries[mac] = e
		}
		return Known
	case ok && e.origin == OriginStatic:
		return Static
	case !ok && m.conf.MaxMACs > 0 && m.dynamic() >= m.conf.MaxMACs:
		return Full
	case portFull:
		return PortFull
	}
	m.entries[mac] = modelEntry{d, OriginDynamic, now}
	if ok {
		return Moved
	}
	return Learned
}

func (m *model) remove(which func(MAC, modelEntry) bool) (n int) {
	for mac, e := range m.entries {
		if which(mac, e) {
			delete(m.entries, mac)
			n++
		}
	}
	return n
}

func (m *model) list(now Seconds) []Entry {
	var all []Entry
	for mac, e := range m.entries {
		x := Entry{MAC: mac, Dst: e.dst, Origin: e.origin}
		if e.origin == OriginDynamic {
			x.Age = now - min(e.seen, now)
		}
		all = append(all, x)
	}
	slices.SortFunc(all, func(a, b Entry) int { return int(a.MAC) - int(b.MAC) })
	return all
}

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
				if b&frozen != 0 || dstOf(b) == 0 {
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
	return nil
}

func TestRandomOperationsDoWhatTheModelDoes(t *testing.T) {
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 99))
		// From a handful, where everything happens to the same MACs, to
		// thousands, where the table grows and shrinks.
		space := []uint64{4, 40, 400, 6000}[seed%4]
		c := Config{MaxMACs: []int{0, 3, 300, 2500}[r.IntN(4)], Ageing: Seconds(r.IntN(3) * 20)}
		table, m := New(c), newModel(c)
		now := Seconds(100)
		for step := range 3000 {
			if err := operate(r, table, m, space, &now); err != nil {
				t.Fatalf("seed %d, step %d: %v", seed, step, err)
			}
			if step%500 == 499 {
				if err := table.check(); err != nil {
					t.Fatalf("seed %d, step %d: %v", seed, step, err)
				}
				if got, want := table.Entries(now), m.list(now); !slices.Equal(got, want) {
					t.Fatalf("seed %d, step %d: entries\n%v\nwant\n%v", seed, step, got, want)
				}
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
		if x, known := m.entries[mac]; ok != known || e.Dst != x.dst || e.Origin != x.origin {
			return fmt.Errorf("entry of %v: %v, %v; want %v, %v", mac, e, ok, x, known)
		}
	case op < 880:
		got = table.Delete(mac)
		want = m.remove(func(k MAC, e modelEntry) bool { return k == mac && e.origin != OriginSelf }) == 1
	case op < 920:
		err := table.AddStatic(mac, d)
		own := m.entries[mac].origin == OriginSelf
		if !own {
			m.entries[mac] = modelEntry{d, OriginStatic, 0}
		}
		got, want = errors.Is(err, ErrOwnMAC), own
	case op < 935:
		table.SetSelf(mac)
		m.entries[mac] = modelEntry{Self, OriginSelf, 0}
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
			want = m.remove(func(_ MAC, e modelEntry) bool { return e.origin == OriginDynamic && *now-min(e.seen, *now) >= a })
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
	default:
		m.conf.MaxMACs = r.IntN(3) * int(space/4)
		table.Reconfigure(m.conf)
	}
	if got != want {
		return fmt.Errorf("%v behind %v at %d: got %v, want %v", mac, d, *now, got, want)
	}
	if table.Len() != len(m.entries) || table.Dynamic() != m.dynamic() || table.Count(d) != m.behind(d) {
		return fmt.Errorf("len %d, dynamic %d, behind %v %d; want %d, %d, %d", table.Len(), table.Dynamic(), d, table.Count(d), len(m.entries), m.dynamic(), m.behind(d))
	}
	return nil
}
