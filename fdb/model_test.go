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
	moves   map[MAC]modelMoves
	evicted []MAC // that the table says gave way, since the last look

	others  *model // of a table that shares conf.Total; nil: there is none
	total   int    // the limit of both
	exactly bool   // the table is looked through as a whole
}

type modelEntry struct {
	dst    Dst
	origin Origin
	seen   Seconds
	frozen bool
}

// modelMoves are the moves of a MAC since the first of them.
type modelMoves struct {
	home  Dst
	since Seconds
	n     int
	told  bool
}

func newModel(c Config) *model {
	return &model{conf: c, limits: map[Dst]int{}, entries: map[MAC]modelEntry{}, moves: map[MAC]modelMoves{}}
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
	case ok && e.frozen:
		return Frozen
	case portFull:
		return PortFull
	case ok:
		return m.move(mac, d, now)
	case m.total > 0 && m.dynamic()+m.others.dynamic() >= m.total && m.behind(d) >= fair(m.total, m.behind(d), m, m.others):
		return Full
	case m.conf.MaxMACs > 0 && m.dynamic() >= m.conf.MaxMACs:
		if !m.giveWay(d, m.conf.MaxMACs, m) {
			return Full
		}
	case m.total > 0 && m.dynamic()+m.others.dynamic() >= m.total:
		if !m.giveWay(d, m.total, m, m.others) {
			return Full
		}
	}
	m.entries[mac] = modelEntry{dst: d, origin: OriginDynamic, seen: now}
	return Learned
}

// giveWay lets an entry of the tables give way to one behind d, as the table says
// it did, and reports whether that is due. It panics if it is another one's turn.
func (m *model) giveWay(d Dst, limit int, tables ...*model) bool {
	own, most, gone := m.behind(d), 0, 0
	fair := fair(limit, own, tables...)
	for _, t := range tables {
		for dst, n := range t.counts() {
			if t.movable(dst) {
				most = max(most, n)
			}
		}
		gone += len(t.evicted)
	}
	if own >= fair || most <= fair || gone == 0 && (!m.exactly || len(tables) > 1) {
		if gone > 0 {
			panic(fmt.Sprintf("%d gave way to %v, which has %d of %d", gone, d, own, fair))
		}
		return false
	}
	if gone != 1 {
		panic(fmt.Sprintf("%d gave way to %v, which has %d of %d while another has %d", gone, d, own, fair, most))
	}
	for _, t := range tables {
		if len(t.evicted) == 1 {
			t.check(t.evicted[0], fair, most, m.exactly && len(tables) == 1)
			delete(t.entries, t.evicted[0])
			t.evicted = nil
		}
	}
	return true
}

// fair is what each destination may have of limit, where one has own.
func fair(limit, own int, tables ...*model) int {
	active := 0
	for _, t := range tables {
		active += len(t.counts())
	}
	if own == 0 {
		active++
	}
	return limit / active
}

// movable reports whether an entry behind dst may give way.
func (m *model) movable(dst Dst) bool {
	return m.count(func(e modelEntry) bool { return e.dst == dst && e.origin == OriginDynamic && !e.frozen }) > 0
}

// check panics if it was not the turn of mac to give way.
func (m *model) check(mac MAC, fair, most int, exactly bool) {
	e := m.entries[mac]
	n := m.behind(e.dst)
	if e.dst == 0 || e.origin != OriginDynamic || e.frozen || n <= fair {
		panic(fmt.Sprintf("%v gave way, %+v, of %d where %d are fair", mac, e, n, fair))
	}
	if !exactly {
		return
	}
	for other, o := range m.entries {
		if o.origin == OriginDynamic && !o.frozen && m.behind(o.dst) == most && (n < most || o.seen < e.seen) {
			panic(fmt.Sprintf("%v gave way, %+v of %d, before %v, %+v of %d", mac, e, n, other, o, most))
		}
	}
}

// counts are the learned entries of each destination that has any.
func (m *model) counts() map[Dst]int {
	all := map[Dst]int{}
	for _, e := range m.entries {
		if e.origin == OriginDynamic {
			all[e.dst]++
		}
	}
	return all
}

// move is learn of a MAC that was elsewhere.
func (m *model) move(mac MAC, d Dst, now Seconds) Result {
	was := m.entries[mac].dst
	to := d
	if m.conf.Moves > 0 {
		r, ok := m.moves[mac]
		if !ok || int(now)-int(r.since) >= int(m.conf.MovesWithin) {
			r = modelMoves{home: was, since: now}
		}
		if r.n++; r.n >= m.conf.Moves {
			r.since = now
			to = r.home
			if to != was && to != d && m.limits[to] > 0 && m.behind(to) >= m.limits[to] {
				to = was
			}
		}
		m.moves[mac] = r
	}
	m.entries[mac] = modelEntry{to, OriginDynamic, now, m.frozen(mac)}
	if to != d {
		return Frozen
	}
	return Moved
}

func (m *model) frozen(mac MAC) bool {
	return m.conf.Moves > 0 && m.moves[mac].n >= m.conf.Moves
}

// damp is Table.Damp.
func (m *model) damp(now Seconds) (frozen, released []MAC) {
	for mac, r := range m.moves {
		e := m.entries[mac]
		if e.frozen && !r.told {
			r.told = true
			m.moves[mac] = r
			frozen = append(frozen, mac)
		}
		if m.conf.Moves > 0 && int(now)-int(r.since) < int(m.conf.MovesWithin) {
			continue
		}
		if e.frozen {
			e.frozen = false
			m.entries[mac] = e
			released = append(released, mac)
		}
		delete(m.moves, mac)
	}
	slices.Sort(frozen)
	slices.Sort(released)
	return frozen, released
}

func (m *model) remove(which func(MAC, modelEntry) bool) (n int) {
	for mac, e := range m.entries {
		if which(mac, e) {
			m.forget(mac)
			n++
		}
	}
	return n
}

// forget removes a MAC. One that was held may move again.
func (m *model) forget(mac MAC) {
	if m.entries[mac].frozen {
		delete(m.moves, mac)
	}
	delete(m.entries, mac)
}

// forgetHomes forgets the moves of MACs whose home is one of dsts.
func (m *model) forgetHomes(dsts map[Dst]bool) {
	for mac, r := range m.moves {
		if dsts[r.home] {
			delete(m.moves, mac)
			if e := m.entries[mac]; e.frozen {
				e.frozen = false
				m.entries[mac] = e
			}
		}
	}
}

func (m *model) list(now Seconds) []Entry {
	var all []Entry
	for mac, e := range m.entries {
		x := Entry{MAC: mac, Dst: e.dst, Origin: e.origin}
		if e.origin == OriginDynamic {
			x.Age, x.Frozen = now-min(e.seen, now), e.frozen
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
