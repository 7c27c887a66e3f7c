package vtep

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/fdb"
)

// oracle is a segment written down as its documentation tells it: maps, loops
// and no thought of speed. Places are named as whereTo names them.
type oracle struct {
	any      bool // Accept
	learning bool
	ageing   int // seconds; 0 = never
	max      int
	now      int
	ports    map[string]*oraclePort
	peers    map[string]*oraclePeer
	macs     map[fdb.MAC]*oracleMAC
	gone     func(fdb.MAC) bool // of which of several entries gave way, where it may be any
	drops    int
}

type oraclePort struct {
	isolated bool
	max      int
}

type oraclePeer struct {
	flooded, learned bool
	seen             int
}

type oracleMAC struct {
	at     string
	static bool
	seen   int
}

func remoteAt(place string) bool { return strings.HasPrefix(place, "@") }

// learned counts the dynamic entries, at one place or, for "", in all.
func (o *oracle) learned(at string) (n int) {
	for _, m := range o.macs {
		if !m.static && (at == "" || m.at == at) {
			n++
		}
	}
	return n
}

// full reports whether a place can have no further address.
func (o *oracle) full(at string) bool {
	p := o.ports[at]
	return p != nil && p.max > 0 && o.learned(at) >= p.max
}

// frame is where a frame goes that comes from a place.
func (o *oracle) frame(in string, dst, src fdb.MAC) []string {
	if remoteAt(in) {
		p := o.peers[in]
		if p == nil && !o.any {
			o.drops++
			return nil
		}
		if p == nil {
			p = &oraclePeer{learned: true}
			o.peers[in] = p
		}
		p.seen = o.now
	}
	if src == 0 || src.IsGroup() || !o.see(in, src) {
		o.drops++
		return nil
	}
	out := o.way(in, dst)
	if len(out) == 0 {
		o.drops++
	}
	slices.Sort(out)
	return out
}

// see learns a source, and reports whether it may be one at that place.
func (o *oracle) see(in string, src fdb.MAC) bool {
	m := o.macs[src]
	switch {
	case m != nil && m.static:
		return m.at == in
	case !o.learning:
	case m == nil:
		if !o.full(in) && (o.max == 0 || o.learned("") < o.max || o.giveWay(in)) {
			o.macs[src] = &oracleMAC{at: in, seen: o.now}
		}
	case m.at == in:
		m.seen = o.now
	case !o.full(in):
		m.at, m.seen = in, o.now
	}
	return true
}

// giveWay makes room in a full table for a place that has less than its share,
// and reports whether it has: the longest unused of those goes that are where
// most are.
func (o *oracle) giveWay(in string) bool {
	places := map[string]int{in: 0}
	for _, m := range o.macs {
		if !m.static {
			places[m.at]++
		}
	}
	fair, most, oldest := o.max/len(places), 0, o.now
	if places[in] >= fair {
		return false
	}
	for _, n := range places {
		most = max(most, n)
	}
	turn := func(m *oracleMAC) bool { return !m.static && places[m.at] == most }
	for _, m := range o.macs {
		if turn(m) {
			oldest = min(oldest, m.seen)
		}
	}
	for mac, m := range o.macs {
		if turn(m) && m.seen == oldest && o.gone(mac) {
			delete(o.macs, mac)
			return true
		}
	}
	return false
}

func (o *oracle) way(in string, dst fdb.MAC) (out []string) {
	apart := func(name string) bool { return o.ports[in] != nil && o.ports[in].isolated && o.ports[name].isolated }
	if m := o.macs[dst]; m != nil && !dst.IsGroup() {
		switch {
		case m.at == in, remoteAt(in) && remoteAt(m.at):
		case !remoteAt(m.at) && apart(m.at):
		default:
			out = append(out, m.at)
		}
		return out
	}
	for name := range o.ports {
		if name != in && !apart(name) {
			out = append(out, name)
		}
	}
	for addr, p := range o.peers {
		if p.flooded && !remoteAt(in) {
			out = append(out, addr)
		}
	}
	return out
}

// unnamed forgets the peer of a static entry that is no more, unless floods go
// to it or another entry names it.
func (o *oracle) unnamed(was *oracleMAC) {
	if was == nil || !was.static || o.peers[was.at] == nil || o.peers[was.at].flooded {
		return
	}
	for _, e := range o.macs {
		if e.static && e.at == was.at {
			return
		}
	}
	delete(o.peers, was.at)
	o.forget(was.at)
}

// forget ends what is known of a place, static entries included.
func (o *oracle) forget(at string) {
	for mac, m := range o.macs {
		if m.at == at {
			delete(o.macs, mac)
		}
	}
}

// age does what is due at a time.
func (o *oracle) age(now int) {
	o.now = now
	if o.ageing == 0 {
		return
	}
	for mac, m := range o.macs {
		if !m.static && now-m.seen >= o.ageing {
			delete(o.macs, mac)
		}
	}
	for addr, p := range o.peers {
		if p.learned && now-p.seen > o.ageing {
			delete(o.peers, addr)
			o.forget(addr)
		}
	}
}

// fdb is the table as the segment tells it.
func (o *oracle) fdb() (out []string) {
	for mac, m := range o.macs {
		state, age := "dynamic", o.now-m.seen
		if m.static {
			state, age = "static", 0
		}
		out = append(out, fmt.Sprint(mac, " ", m.at, " ", state, " ", age))
	}
	slices.Sort(out)
	return out
}

func tableOf(s *Segment) (out []string) {
	for _, e := range s.FDB() {
		at := e.Port
		if e.Dst.IsValid() {
			at = "@" + e.Dst.String()
		}
		out = append(out, fmt.Sprint(e.MAC, " ", at, " ", e.State, " ", int(e.Age.Seconds())))
	}
	slices.Sort(out)
	return out
}

// Random frames and random changes, and after each the same question to the
// switch and to the oracle: who got it, and what is known now?
func TestTheSwitchDoesWhatAnObviouslyRightOneDoes(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			o := &oracle{any: seed%2 == 1, learning: true, ports: map[string]*oraclePort{}, peers: map[string]*oraclePeer{}, macs: map[fdb.MAC]*oracleMAC{}}
			cfg := Config{}
			if o.any {
				cfg.Accept = AcceptAny
			}
			open := newRig
			if seed%3 == 0 {
				open = newOffloadRig
			}
			r := open(t, cfg)
			// Everything moves here, all the time.
			s := r.segment(SegmentConfig{VNI: 100, Ageing: -1, MaxMACs: -1, MACMoves: -1})
			o.gone = func(m fdb.MAC) bool { return s.table.Lookup(m) == 0 }
			r.segment(SegmentConfig{VNI: 200, Peers: []netip.Addr{peer2}}, "elsewhere")
			anyMAC := func() fdb.MAC { return mac(1 + rnd.IntN(10)) }
			anyPort := func() string { return string(rune('a' + rnd.IntN(6))) }
			anyPeer := func() netip.Addr { return netip.AddrFrom4([4]byte{10, 9, 0, byte(2 + rnd.IntN(5))}) }
			at := func(p netip.Addr) string { return "@" + p.String() }
			agree := func(what string, err error, should bool) {
				t.Helper()
				if (err == nil) != should {
					t.Fatalf("%s: error %v, should work: %t", what, err, should)
				}
			}
			var last string
			for range 4000 {
				switch rnd.IntN(24) {
				case 0:
					name := anyPort()
					last = "attach " + name
					p := &oraclePort{isolated: rnd.IntN(2) == 0, max: rnd.IntN(3)}
					_, err := s.AttachPort(PortConfig{Name: name, Isolated: p.isolated, MaxMACs: p.max})
					agree(last, err, o.ports[name] == nil)
					if err == nil {
						o.ports[name] = p
					}
				case 1:
					name := anyPort()
					last = "detach " + name
					agree(last, s.DetachPort(name), o.ports[name] != nil)
					delete(o.ports, name)
					o.forget(name)
				case 2:
					p := anyPeer()
					last = fmt.Sprint("add peer ", p)
					was := o.peers[at(p)]
					agree(last, s.AddPeer(p), was == nil || !was.flooded)
					if was == nil {
						was = &oraclePeer{}
						o.peers[at(p)] = was
					}
					was.flooded, was.learned = true, false
				case 3:
					p := anyPeer()
					last = fmt.Sprint("remove peer ", p)
					agree(last, s.RemovePeer(p), o.peers[at(p)] != nil)
					delete(o.peers, at(p))
					o.forget(at(p))
				case 4:
					m, name := anyMAC(), anyPort()
					last = fmt.Sprint("bind ", m, " to ", name)
					agree(last, s.AddStatic(StaticEntry{MAC: m, Port: name}), o.ports[name] != nil)
					if o.ports[name] != nil {
						was := o.macs[m]
						o.macs[m] = &oracleMAC{at: name, static: true}
						o.unnamed(was)
					}
				case 5:
					m, p := anyMAC(), anyPeer()
					last = fmt.Sprint("bind ", m, " to ", p)
					agree(last, s.AddStatic(StaticEntry{MAC: m, Dst: p}), true)
					was := o.macs[m]
					o.macs[m] = &oracleMAC{at: at(p), static: true}
					if o.peers[at(p)] == nil {
						o.peers[at(p)] = &oraclePeer{}
					}
					o.peers[at(p)].learned = false
					o.unnamed(was)
				case 6, 7:
					m := anyMAC()
					last = fmt.Sprint("delete ", m)
					was := o.macs[m]
					agree(last, s.DeleteMAC(m), was != nil)
					delete(o.macs, m)
					o.unnamed(was)
				case 8:
					if rnd.IntN(4) > 0 {
						continue
					}
					last = "flush"
					if n := s.FlushFDB(); n != o.learned("") {
						t.Errorf("%d were flushed, want %d", n, o.learned(""))
					}
					for m, e := range o.macs {
						if !e.static {
							delete(o.macs, m)
						}
					}
				case 9:
					last = "reconfigure"
					o.learning, o.max, o.ageing = rnd.IntN(4) > 0, rnd.IntN(8), rnd.IntN(30)
					c := SegmentConfig{VNI: 100, NoLearning: !o.learning, MaxMACs: o.max, MACMoves: -1, Ageing: time.Duration(o.ageing) * time.Second}
					if o.max == 0 {
						c.MaxMACs = -1
					}
					if o.ageing == 0 {
						c.Ageing = -1
					}
					agree(last, s.Reconfigure(c), true)
				case 10:
					now := o.now + rnd.IntN(10)
					last = fmt.Sprint("time ", now)
					o.age(now)
					r.age(now)
				default:
					dst, src := anyMAC(), anyMAC()
					switch rnd.IntN(12) {
					case 0, 1:
						dst = fdb.Broadcast
					case 2:
						src = fdb.Broadcast
					}
					f := eth(dst, src)
					var got string
					var want []string
					if p := anyPeer(); rnd.IntN(3) == 0 {
						last = fmt.Sprint(src, " to ", dst, " from ", p)
						got = r.fromPeer(p, 100, f)
						want = o.frame(at(p), dst, src)
					} else {
						name := anyPort()
						if o.ports[name] == nil {
							continue
						}
						last = fmt.Sprint(src, " to ", dst, " from ", name)
						got = r.fromPort(name, f)
						want = o.frame(name, dst, src)
					}
					if got != strings.Join(want, " ") {
						t.Fatalf("%s: went to %q, want %q\ntable: %q", last, got, want, o.fdb())
					}
				}
				if got, want := tableOf(s), o.fdb(); !slices.Equal(got, want) {
					t.Fatalf("%s: the table is\n%q, want\n%q", last, got, want)
				}
			}
			var dropped int
			for _, d := range r.v.Stats().Drops {
				if d.VNI != 100 {
					t.Errorf("a drop in another segment: %+v", d)
				}
				dropped += int(d.Count)
			}
			if dropped != o.drops {
				t.Errorf("%d drops, want %d", dropped, o.drops)
			}
			if n := len(s.Peers()); n != len(o.peers) {
				t.Errorf("%d peers, want %d", n, len(o.peers))
			}
		})
	}
}

// A batch mixes segments, peers, strangers and what is no packet at all; each
// frame in it fares as it does by itself.
func TestABatchOfManySegmentsAndPeersIsTakenApartFrameByFrame(t *testing.T) {
	twin := func() *rig {
		r := newRig(t, Config{})
		for i, peers := range [][]netip.Addr{{peer2}, {peer2, peer3}, {peer3}, nil} {
			vni := encap.VNI(100 * (i + 1))
			s := r.segment(SegmentConfig{VNI: vni, NoLearning: true, Peers: peers}, vni.String()+"a", vni.String()+"b")
			for m, port := range []string{"a", "b"} {
				if err := s.AddStatic(StaticEntry{MAC: mac(m + 1), Port: vni.String() + port}); err != nil {
					t.Fatal(err)
				}
			}
		}
		return r
	}
	told := func(all []out) []string {
		var s []string
		for _, o := range all {
			s = append(s, fmt.Sprintf("%s %x", o.where, o.bytes))
		}
		slices.Sort(s)
		return s
	}
	rnd := rand.New(rand.NewPCG(5, 5))
	together, alone := twin(), twin()
	for range 200 {
		var want []out
		for range 1 + rnd.IntN(150) {
			from := []netip.Addr{peer2, peer2, peer2, peer3, peer3, self, ip("10.9.0.9")}[rnd.IntN(7)]
			b := vxlan(encap.VNI(100*rnd.IntN(6)), eth(mac(1+rnd.IntN(3)), mac(1+rnd.IntN(5))))
			switch rnd.IntN(12) {
			case 0:
				b = b[:rnd.IntN(24)]
			case 1:
				b[0] = 0
			}
			if len(b) > 30 {
				b[30] = byte(rnd.Uint32()) // tells frames apart
			}
			want = append(want, alone.datagram(from, 0, b)...)
			together.inject(from, 0, b)
		}
		together.turn()
		if got, want := told(together.outs()), told(want); !slices.Equal(got, want) {
			t.Fatalf("together: %q\nalone: %q", got, want)
		}
	}
	if got, want := together.dropped(), alone.dropped(); got != want {
		t.Errorf("drops together: %s\nalone: %s", got, want)
	}
	for i, s := range together.v.Segments() {
		if got, want := fmt.Sprint(s.Peers(), s.Ports()), fmt.Sprint(alone.v.Segments()[i].Peers(), alone.v.Segments()[i].Ports()); got != want {
			t.Errorf("counted together: %s\nalone: %s", got, want)
		}
	}
}
