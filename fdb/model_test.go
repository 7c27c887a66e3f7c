package fdb

import (
	"fmt"
	"slices"
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
