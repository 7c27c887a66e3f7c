package vtep

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/pair"
)

// join puts the ends of a pair into two segments.
func (r *rig) join(name string, a *Segment, vlanA uint16, b *Segment, vlanB uint16) {
	r.t.Helper()
	r.attach(a, PortConfig{Name: name + ".a", Pair: name, VLAN: vlanA})
	r.attach(b, PortConfig{Name: name + ".b", Pair: name, VLAN: vlanB})
}

func TestAPairCarriesItsVLANsAndNothingElse(t *testing.T) {
	b := eth(fdb.Broadcast, mac(1))
	for _, c := range []struct {
		what         string
		vlanA, vlanB uint16
		sent, want   []byte // from a; want is nil if it stays
	}{
		{"all, untagged", 0, 0, b, b},
		{"all, tagged", 0, 0, inVLAN(10, b), inVLAN(10, b)},
		{"a VLAN", 10, 0, inVLAN(0xe000|10, b), b},
		{"two tags", 10, 0, inVLAN(10, inVLAN(5, b)), inVLAN(5, b)},
		{"another VLAN", 10, 0, inVLAN(11, b), nil},
		{"no VLAN", 10, 0, b, nil},
		{"into a VLAN", 0, 10, b, inVLAN(10, b)},
		{"a VLAN into one", 0, 10, inVLAN(5, b), inVLAN(10, inVLAN(5, b))},
		{"from one to another", 10, 20, inVLAN(10, b), inVLAN(20, b)},
	} {
		r := newRig(t, Config{})
		r.join("p", r.segment(SegmentConfig{VNI: 1}, "a"), c.vlanA, r.segment(SegmentConfig{VNI: 2, Peers: []netip.Addr{peer2}}, "b"), c.vlanB)
		got := r.send("a", c.sent)
		if c.want == nil {
			if d := r.dropped(); len(got) != 0 || d != "vlan_unmapped@1" {
				t.Errorf("%s: went to %v, drops %q", c.what, got, d)
			}
			continue
		}
		if len(got) != 2 || got[0].where != "b" || got[1].where != "@10.9.0.2" || got[1].vni != 2 || !bytes.Equal(got[0].bytes, c.want) || !bytes.Equal(got[1].bytes, c.want) {
			t.Errorf("%s: got %v", c.what, got)
		}
		// The answer finds the way back, and is as its question was, but for the priority.
		answer := bytes.Clone(c.want)
		copy(answer, eth(mac(1), mac(2))[:12])
		want := bytes.Clone(c.sent)
		copy(want, answer[:12])
		if c.vlanA != 0 {
			want[14] &= 0x0f
		}
		if got := r.send("b", answer); len(got) != 1 || got[0].where != "a" || !bytes.Equal(got[0].bytes, want) {
			t.Errorf("%s: the answer is %v, want %x", c.what, got, want)
		}
		if d := r.dropped(); d != "" {
			t.Errorf("%s: drops %s", c.what, d)
		}
	}
}

func TestAPairOfOneEndIsDownAndAThirdEndIsRefused(t *testing.T) {
	r := newRig(t, Config{})
	s1, s2, s3 := r.segment(SegmentConfig{VNI: 1}, "a"), r.segment(SegmentConfig{VNI: 2}, "b"), r.segment(SegmentConfig{VNI: 3})
	end := r.attach(s1, PortConfig{Name: "p.a", Pair: "p"})
	if st := end.Stats(); st.State != "down" || st.Kind != "pair" {
		t.Errorf("alone it is %+v", st)
	}
	expect(t, "with nobody there", r.fromPort("a", eth(fdb.Broadcast, mac(1))), "")
	if d := r.dropped(); d != "port_down@1" {
		t.Errorf("drops: %s", d)
	}
	r.attach(s2, PortConfig{Name: "p.b", Pair: "p"})
	if st := end.Stats(); st.State != "up" {
		t.Errorf("with the other end it is %s", st.State)
	}
	expect(t, "with somebody there", r.fromPort("a", eth(fdb.Broadcast, mac(1))), "b")
	if _, err := s3.AttachPort(PortConfig{Name: "p.c", Pair: "p"}); !errors.Is(err, pair.ErrTaken) {
		t.Errorf("a third end: %v", err)
	}
	if err := s2.DetachPort("p.b"); err != nil || end.Stats().State != "down" {
		t.Errorf("without the other end it is %s: %v", end.Stats().State, err)
	}
	r.attach(s3, PortConfig{Name: "p.c", Pair: "p"})
	if len(r.v.pairs) != 1 || end.Stats().State != "up" {
		t.Errorf("%d pairs, and the end is %s", len(r.v.pairs), end.Stats().State)
	}
}

// Three segments in a ring: a frame goes round until it has crossed too many
// pairs, and then is gone.
func TestARingOfPairsEnds(t *testing.T) {
	r := newRig(t, Config{})
	s1, s2, s3 := r.segment(SegmentConfig{VNI: 1}, "a"), r.segment(SegmentConfig{VNI: 2}, "b"), r.segment(SegmentConfig{VNI: 3}, "c")
	r.join("p", s1, 0, s2, 0)
	r.join("q", s2, 0, s3, 0)
	r.join("r", s3, 0, s1, 0)
	got := map[string]int{}
	for _, o := range r.send("a", eth(fdb.Broadcast, mac(1))) {
		got[o.where]++
	}
	// Both ways round: s2, s3, s1, s2 and s3, s2, s1, s3.
	if got["a"] != 2 || got["b"] != 3 || got["c"] != 3 {
		t.Errorf("got it: %v", got)
	}
	if d := r.dropped(); d != "pair_loop@2 pair_loop@3" {
		t.Errorf("drops: %s", d)
	}
}

func TestWhatTheOtherSegmentCannotCarryDoesNotCrossAPair(t *testing.T) {
	r := newOffloadRig(t, Config{})
	r.join("p", r.segment(SegmentConfig{VNI: 1, MTU: 9000}, "a"), 0, r.segment(SegmentConfig{VNI: 2, MTU: 1400}, "b"), 20)
	refused := ""
	for _, c := range []struct {
		what    string
		payload int // of TCP, behind 40 bytes of headers
		size    int // of a super-frame's segments
		crosses bool
	}{
		{"a packet that fits", 1360, 2000, true},
		{"one that does not", 1361, 2000, false},
		{"a super-frame of such that fit", 20000, 1360, true},
		{"one of such that do not", 20000, 1361, false},
	} {
		fl := &flow{dst: fdb.Broadcast, src: mac(1), port: 1000}
		b, o := fl.super(t, make([]byte, c.payload), c.size)
		r.taps.Device("a").SendSuper(0, b, o)
		r.turn()
		got, super, ok := r.taps.Device("b").TryRecvSuper()
		if ok != c.crosses || ok && (!bytes.Equal(got, inVLAN(20, b)) || super.GSO != o.GSO) {
			t.Errorf("%s: %v, %d bytes", c.what, ok, len(got))
		}
		if !c.crosses {
			refused = strings.TrimSpace(refused + " too_big@1")
		}
		if d := r.dropped(); d != refused {
			t.Errorf("%s: drops %q, want %q", c.what, d, refused)
		}
	}
}

// One switch has three ports in a segment; in the other the second is a VLAN of a
// trunk, and the third in a segment that two pairs lead to, through a VLAN. Of
// every flow the same bytes arrive, in the same order.
func TestTrunksAndPairsChangeNothingInWhatArrives(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	plain, far := newRig(t, Config{}), newOffloadRig(t, Config{})
	s := plain.segment(SegmentConfig{VNI: 100, Peers: []netip.Addr{peer2}}, "a", "b", "c")
	s1 := far.segment(SegmentConfig{VNI: 100, Peers: []netip.Addr{peer2}}, "a")
	s2, s3 := far.segment(SegmentConfig{VNI: 200}), far.segment(SegmentConfig{VNI: 300}, "c")
	far.attach(s1, PortConfig{Trunk: "t", VLAN: 7})
	far.join("p", s1, 0, s2, 10)
	far.join("q", s2, 10, s3, 0)
	places := []string{"a", "b", "c", "@10.9.0.2"}
	for i, at := range places {
		e := StaticEntry{MAC: mac(i + 1), Port: at}
		if remoteAt(at) {
			e = StaticEntry{MAC: mac(i + 1), Dst: peer2}
		}
		elsewhere := e
		switch at {
		case "b":
			elsewhere.Port = "t.7"
		case "c":
			elsewhere.Port = "p.a"
		}
		if err := errors.Join(s.AddStatic(e), s1.AddStatic(elsewhere)); err != nil {
			t.Fatal(err)
		}
	}
	var flows []*flow
	for n := range 24 {
		i, j := rnd.IntN(len(places)), rnd.IntN(len(places)+1)
		for i == j {
			j = rnd.IntN(len(places) + 1)
		}
		dst := fdb.Broadcast
		if j < len(places) {
			dst = mac(j + 1)
		}
		flows = append(flows, &flow{from: places[i], dst: dst, src: mac(i + 1), udp: rnd.IntN(2) == 0, v6: rnd.IntN(2) == 0, port: uint16(1000 + n)})
	}
	untrunk := func(name string, b []byte, o frame.Offload) (string, []byte, frame.Offload) {
		if name != "t" {
			return name, b, o
		}
		if !bytes.Equal(b[12:16], []byte{0x81, 0, 0, 7}) {
			t.Fatalf("the trunk got %x", b)
		}
		if o.Flags&frame.NeedsCsum != 0 {
			o.CsumStart -= 4
		}
		if o.GSO != frame.GSONone {
			o.HdrLen -= 4
		}
		return "b", slices.Concat(b[:12], b[16:]), o
	}
	supers := 0
	for round := range 200 {
		for range 20 {
			fl := flows[rnd.IntN(len(flows))]
			size := []int{100, 500, 1390}[rnd.IntN(3)]
			data := make([]byte, 1+rnd.IntN(size*(1+rnd.IntN(12))))
			for i := range data {
				data[i] = byte(rnd.Uint32())
			}
			before := *fl
			for _, b := range fl.segments(t, data, size) {
				if remoteAt(fl.from) {
					plain.inject(peer2, 0, vxlan(100, b))
					far.inject(peer2, 0, vxlan(100, b))
				} else {
					plain.taps.Device(fl.from).Send(b)
				}
			}
			if remoteAt(fl.from) {
				continue
			}
			b, o := before.super(t, data, size)
			from := fl.from
			if from == "b" {
				from, b = "t", inVLAN(7, b)
				o.CsumStart += 4
				if o.GSO != frame.GSONone {
					o.HdrLen += 4
				}
			}
			far.taps.Device(from).SendSuper(0, b, o)
		}
		plain.turn()
		far.turn()
		want, _ := arrivals(t, plain)
		got, n := arrivalsAs(t, far, untrunk)
		supers += n
		for k := range want {
			if !slices.EqualFunc(got[k], want[k], bytes.Equal) {
				t.Fatalf("round %d: %s", round, difference(k, got[k], want[k]))
			}
		}
		if len(got) != len(want) {
			t.Fatalf("round %d: %d flows arrived, want %d", round, len(got), len(want))
		}
	}
	if d := plain.dropped() + far.dropped(); d != "" || supers < 100 {
		t.Errorf("drops %q; %d super-frames came out whole", d, supers)
	}
}

func TestAPairAllocatesNothing(t *testing.T) {
	r := newRig(t, Config{})
	s1, s2 := r.segment(SegmentConfig{VNI: 1}), r.segment(SegmentConfig{VNI: 2})
	var to sink
	in := r.attach(s1, PortConfig{Name: "a", Device: new(sink)})
	r.attach(s2, PortConfig{Name: "b", Device: &to})
	r.join("p", s1, 0, s2, 20)
	w := r.v.workers[0]
	var end *source
	for _, src := range *w.poll.mem.Load() {
		if src != nil && src.port != nil && src.port.cfg.Name == "p.b" {
			end = src
		}
	}
	b := eth(fdb.Broadcast, mac(1))
	batch := frame.NewBatch(frame.BatchLen, 2048)
	turn := func() {
		batch.Clear()
		for range frame.BatchLen {
			batch.Commit(copy(batch.Next().Buffer(), b))
		}
		w.fromPort(in, batch.Frames)
		w.serve(end)
	}
	if n := testing.AllocsPerRun(100, turn); n != 0 {
		t.Errorf("%v allocations a turn of %d frames", n, frame.BatchLen)
	}
	if to.n == 0 {
		t.Error("nothing crossed")
	}
}

// A frame of a trunk stays in the segment of its VLAN, whatever it holds.
func FuzzFramesOfATrunkStayInTheSegmentOfTheirVLAN(f *testing.F) {
	for _, b := range fuzzFrames(f) {
		f.Add(inVLAN(101, b))
		f.Add(b) // the native segment's
	}
	f.Add(inVLAN(101, eth(mac(2), mac(1)))[:17]) // cut off in its tag
	r := trunkRig(f, SegmentConfig{Peers: []netip.Addr{peer2}, DHCP: dhcpConfig(9)})
	f.Fuzz(func(t *testing.T, b []byte) {
		r.t = t
		vni, port := encap.VNI(0), ""
		if len(b) >= 14 {
			vni, port = 1000, "n"
		}
		if len(b) >= 14 && b[12] == 0x81 && b[13] == 0 {
			vni, port = 0, ""
			if len(b) >= 18 {
				switch binary.BigEndian.Uint16(b[14:]) & 0xfff {
				case 0:
					vni, port = 1000, "n"
				case 101:
					vni, port = 1001, "a"
				case 102:
					vni, port = 1002, "b"
				}
			}
		}
		for _, o := range r.send("t", b) {
			switch {
			case o.where == port && port != "", o.where == "@10.9.0.2" && o.vni == vni && vni != 0:
			case o.where == "t" && vni == 1000 && !bytes.HasPrefix(o.bytes[12:], []byte{0x81, 0}):
			case o.where == "t" && vni > 1000 && binary.BigEndian.Uint32(o.bytes[12:]) == 0x81000000|uint32(vni-900):
			default:
				t.Errorf("a frame of segment %v went to %s of %v: %x", vni, o.where, o.vni, o.bytes)
			}
		}
		r.tidy()
	})
}
