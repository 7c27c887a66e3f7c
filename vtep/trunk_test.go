package vtep

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/uvtep/uvtep/dhcpd/dhcpdtest"
	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/frame"
)

// inVLAN is a frame with an 802.1Q tag in front of its type.
func inVLAN(tci uint16, b []byte) []byte {
	tag := binary.BigEndian.AppendUint16([]byte{0x81, 0}, tci)
	return bytes.Join([][]byte{b[:12], tag, b[12:]}, nil)
}

// trunkRig has a trunk t, with segments 1000 untagged and 1001 and 1002 in VLANs
// 101 and 102, and a port n, a and b in each.
func trunkRig(t testing.TB, cfg SegmentConfig) *rig {
	r := newRig(t, Config{})
	for vni, name := range map[encap.VNI]string{1000: "n", 1001: "a", 1002: "b"} {
		cfg.VNI = vni
		s := r.segment(cfg, name)
		vlan := uint16(0)
		if vni != 1000 {
			vlan = uint16(vni) - 900
		}
		r.attach(s, PortConfig{Trunk: "t", VLAN: vlan})
	}
	return r
}

func TestFramesOfATrunkGoToTheSegmentOfTheirVLANAndNowhereElse(t *testing.T) {
	b := eth(fdb.Broadcast, mac(1))
	service := inVLAN(101, b)
	service[12], service[13] = 0x88, 0xa8
	for _, c := range []struct {
		what  string
		sent  []byte
		where string // and a remote VTEP in each segment
		vni   encap.VNI
		got   []byte
		drops string
	}{
		{"VLAN 101", inVLAN(101, b), "a", 1001, b, ""},
		{"VLAN 102", inVLAN(102, b), "b", 1002, b, ""},
		{"no tag", b, "n", 1000, b, ""},
		{"a priority only", inVLAN(0xe000, b), "n", 1000, b, ""},
		{"a VLAN with a priority", inVLAN(0xe000|101, b), "a", 1001, b, ""},
		{"a tag behind it", inVLAN(101, inVLAN(102, b)), "a", 1001, inVLAN(102, b), ""},
		{"a provider's tag", service, "n", 1000, service, ""},
		{"another VLAN", inVLAN(103, b), "", 0, nil, "vlan_unmapped@0"},
		{"the last VLAN", inVLAN(4094, b), "", 0, nil, "vlan_unmapped@0"},
		{"the reserved VLAN", inVLAN(4095, b), "", 0, nil, "vlan_unmapped@0"},
		{"half a tag", inVLAN(101, b)[:17], "", 0, nil, "malformed@0"},
		{"half a header", b[:13], "", 0, nil, "malformed@0"},
		{"nothing", nil, "", 0, nil, "malformed@0"},
	} {
		r := trunkRig(t, SegmentConfig{Peers: []netip.Addr{peer2}})
		got := r.send("t", c.sent)
		if c.where == "" {
			if len(got) != 0 {
				t.Errorf("%s: went to %v", c.what, got)
			}
		} else if len(got) != 2 || got[0].where != c.where || got[1].where != "@10.9.0.2" || got[1].vni != c.vni ||
			!bytes.Equal(got[0].bytes, c.got) || !bytes.Equal(got[1].bytes, c.got) {
			t.Errorf("%s: got %v", c.what, got)
		}
		if d := r.dropped(); d != c.drops {
			t.Errorf("%s: drops %q, want %q", c.what, d, c.drops)
		}
	}
}

func TestFramesLeaveByATrunkInTheVLANOfTheirSegment(t *testing.T) {
	b := eth(fdb.Broadcast, mac(1))
	r := trunkRig(t, SegmentConfig{})
	for _, c := range []struct {
		from       string
		sent, want []byte
		drops      string
	}{
		{"a", b, inVLAN(101, b), ""},
		{"b", b, inVLAN(102, b), ""},
		{"n", b, b, ""},
		{"a", inVLAN(102, b), inVLAN(101, inVLAN(102, b)), ""},
		{"n", inVLAN(0xe000, b), inVLAN(0xe000, b), ""},
		{"n", inVLAN(101, b), nil, "vlan_unmapped@1000"}, // it would be segment 1001's
	} {
		got := r.send(c.from, c.sent)
		if c.want == nil {
			if len(got) != 0 {
				t.Errorf("%x from %s went to %v", c.sent, c.from, got)
			}
		} else if len(got) != 1 || got[0].where != "t" || !bytes.Equal(got[0].bytes, c.want) {
			t.Errorf("%x from %s: got %v", c.sent, c.from, got)
		}
		if d := r.dropped(); d != c.drops {
			t.Errorf("%x from %s: drops %q, want %q", c.sent, c.from, d, c.drops)
		}
	}
}

func TestATrunkIsAPortOfEachOfItsSegmentsByItself(t *testing.T) {
	r := newRig(t, Config{})
	s1, s2 := r.segment(SegmentConfig{VNI: 1}, "a"), r.segment(SegmentConfig{VNI: 2}, "b")
	r.attach(s1, PortConfig{Name: "lonely", Isolated: true})
	r.attach(s1, PortConfig{Trunk: "t", VLAN: 10, Isolated: true, MaxMACs: 1})
	r.attach(s2, PortConfig{Trunk: "t", VLAN: 20})
	r.send("t", inVLAN(10, eth(fdb.Broadcast, mac(1))))
	r.send("t", inVLAN(20, eth(fdb.Broadcast, mac(1)))) // the same address, and another station
	r.send("t", inVLAN(10, eth(fdb.Broadcast, mac(2)))) // more than it may have there
	for _, c := range []struct{ from, want string }{
		{"a", "t (changed)"}, {"b", "t (changed)"}, {"lonely", ""},
	} {
		expect(t, "to its station from "+c.from, r.fromPort(c.from, eth(mac(1), mac(9))), c.want)
	}
	if d := r.dropped(); d != "port_isolated@1" {
		t.Errorf("drops: %s", d)
	}
	for _, c := range []struct {
		s    *Segment
		want string
	}{
		{s1, "02:00:00:00:00:01 t.10, 02:00:00:00:00:09 lonely"},
		{s2, "02:00:00:00:00:01 t.20, 02:00:00:00:00:09 b"},
	} {
		var got []string
		for _, e := range c.s.FDB() {
			got = append(got, fmt.Sprint(e.MAC, " ", e.Port))
		}
		if s := strings.Join(got, ", "); s != c.want {
			t.Errorf("segment %v knows %s, want %s", c.s.VNI(), s, c.want)
		}
	}
	p := s1.port("t.10").Stats()
	if want := (Traffic{RxPackets: 2, RxBytes: 120, TxPackets: 1, TxBytes: 60}); p.Traffic != want || p.Kind != "trunk" || p.VLAN != 10 || p.State != "up" {
		t.Errorf("the port is %+v", p)
	}
	if p, want := s2.port("t.20").Stats(), (Traffic{RxPackets: 1, RxBytes: 60, TxPackets: 1, TxBytes: 60}); p.Traffic != want {
		t.Errorf("the other port is %+v", p)
	}
}

// A batch of frames of all VLANs, of no segment and of none at all comes out whole
// and in order.
func TestABatchOfManyVLANsIsCarriedInOrder(t *testing.T) {
	r := trunkRig(t, SegmentConfig{})
	want := map[string][]byte{}
	for i := range 60 {
		b := eth(fdb.Broadcast, mac(i+1))
		switch b[20] = byte(i); i * i % 7 {
		case 0, 1:
			r.taps.Device("t").Send(inVLAN(101, b))
			want["a"] = append(want["a"], byte(i))
		case 2:
			r.taps.Device("t").Send(inVLAN(102, b))
			want["b"] = append(want["b"], byte(i))
		case 4:
			r.taps.Device("t").Send(b)
			want["n"] = append(want["n"], byte(i))
		default:
			r.taps.Device("t").Send(inVLAN(7, b))
		}
	}
	r.turn()
	got := map[string][]byte{}
	for _, o := range r.outs() {
		got[o.where] = append(got[o.where], o.bytes[20])
	}
	for where := range want {
		if !bytes.Equal(got[where], want[where]) {
			t.Errorf("%s got %v, want %v", where, got[where], want[where])
		}
	}
}

// The bytes of a flood are shared: a tag is there for the trunk only.
func TestATagIsNotSeenByTheOthersOfAFlood(t *testing.T) {
	r := newRig(t, Config{})
	s := r.segment(SegmentConfig{VNI: 1, Peers: []netip.Addr{peer2, peer3}}, "a", "b")
	r.attach(s, PortConfig{Trunk: "t", VLAN: 10})
	r.attach(s, PortConfig{Trunk: "u", VLAN: 4094})
	r.attach(s, PortConfig{Name: "c"})
	sent := eth(fdb.Broadcast, mac(1))
	check := func(all []out, places int) {
		t.Helper()
		for _, o := range all {
			want := sent
			switch o.where {
			case "t":
				want = inVLAN(10, sent)
			case "u":
				want = inVLAN(4094, sent)
			}
			if !bytes.Equal(o.bytes, want) || o.vni != 0 && o.vni != 1 {
				t.Errorf("%s got %x in segment %v", o.where, o.bytes, o.vni)
			}
		}
		if len(all) != places {
			t.Errorf("%d got it, want %d", len(all), places)
		}
	}
	check(r.send("a", sent), 6)
	check(r.datagram(peer2, 0, vxlan(1, sent)), 5)
}

func TestATrunksDeviceIsOpenWhileASegmentHasIt(t *testing.T) {
	r := newRig(t, Config{})
	s1, s2, s3 := r.segment(SegmentConfig{VNI: 1, MTU: 1400}), r.segment(SegmentConfig{VNI: 2, MTU: 9000}), r.segment(SegmentConfig{VNI: 3, MTU: 1300})
	mtu := func(what string, want int) {
		t.Helper()
		if got := r.taps.Device("t").MTU(); got != want {
			t.Errorf("%s: the MTU is %d, want %d", what, got, want)
		}
	}
	in := func(vlan uint16) PortConfig { return PortConfig{Trunk: "t", VLAN: vlan, NetNS: "guest"} }
	r.attach(s1, in(10))
	mtu("one segment", 1400)
	first := r.taps.Device("t")
	r.attach(s2, in(20))
	mtu("a larger one", 9000)
	r.attach(s3, in(0))
	mtu("a smaller one", 9000)
	for _, c := range []struct {
		what string
		s    *Segment
		cfg  PortConfig
		want error
	}{
		{"a VLAN that has a segment", s3, in(20), ErrExists},
		{"a second native segment", s2, in(0), ErrExists},
		{"another namespace", s3, PortConfig{Trunk: "t", VLAN: 30, NetNS: "other"}, ErrInvalid},
		{"a VLAN that is none", s3, in(4095), ErrInvalid},
		{"a VLAN of a TAP", s3, PortConfig{Name: "u", VLAN: 1}, ErrInvalid},
		{"a port of that name", s3, PortConfig{Name: "t"}, ErrExists},
	} {
		if _, err := c.s.AttachPort(c.cfg); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.what, err, c.want)
		}
	}
	if err := s3.Reconfigure(SegmentConfig{VNI: 3, MTU: 9100}); err != nil {
		t.Error(err)
	}
	mtu("the small one has grown", 9100)
	for _, c := range []struct {
		s    *Segment
		name string
		mtu  int
	}{{s3, "t", 9000}, {s2, "t.20", 1400}} {
		if err := c.s.DetachPort(c.name); err != nil {
			t.Error(err)
		}
		mtu(c.name+" is gone", c.mtu)
	}
	if r.taps.Device("t") != first {
		t.Error("the device was opened twice")
	}
	// The last one goes, and another one comes.
	release := r.v.KeepTrunks()
	if err := s1.DetachPort("t.10"); err != nil {
		t.Error(err)
	}
	r.attach(s2, in(11))
	if err := errors.Join(release(), r.v.KeepTrunks()()); err != nil || r.taps.Device("t") != first {
		t.Errorf("the device did not stay: %v", err)
	}
	expect(t, "the new VLAN", r.fromPort("t", inVLAN(10, eth(fdb.Broadcast, mac(1)))), "")
	if err := s2.DetachPort("t.11"); err != nil || r.taps.Device("t") != nil {
		t.Errorf("the device is still there: %v", err)
	}
	// One that was kept is opened anew where it is to be elsewhere.
	r.attach(s1, in(10))
	release = r.v.KeepTrunks()
	if err := s1.DetachPort("t.10"); err != nil {
		t.Error(err)
	}
	r.attach(s1, PortConfig{Trunk: "t", VLAN: 10, NetNS: "other"})
	if err := release(); err != nil || r.taps.Device("t").Config().NetNS != "other" {
		t.Errorf("the device is %+v: %v", r.taps.Device("t").Config(), err)
	}
	if err := r.v.RemoveSegment(1); err != nil || r.taps.Device("t") != nil {
		t.Errorf("the device outlives its last segment: %v", err)
	}
}

func TestATrunkThatVanishesTakesAllItsPortsDownAndComesBack(t *testing.T) {
	r := trunkRig(t, SegmentConfig{})
	old := r.taps.Device("t")
	old.Vanish()
	r.turn()
	for _, s := range r.v.Segments() {
		for _, p := range s.Ports() {
			if down := p.State == "down" && p.Vanished; down != (p.Kind == "trunk") {
				t.Errorf("port %s is %s", p.Name, p.State)
			}
		}
	}
	if err := old.Close(); err != nil { // the kernel has none of that name any more
		t.Fatal(err)
	}
	for _, s := range r.v.Segments() {
		for _, p := range s.Ports() {
			if p.Kind != "trunk" {
				continue
			}
			cfg := PortConfig{Trunk: "t", VLAN: p.VLAN}
			var err error
			if cfg.Device, err = s.OpenDevice(cfg); err != nil {
				t.Fatal(err)
			}
			if err := s.DetachPort(p.Name); err != nil {
				t.Error(err)
			}
			r.attach(s, cfg)
		}
	}
	expect(t, "VLAN 101", r.fromPort("t", inVLAN(101, eth(fdb.Broadcast, mac(1)))), "a (changed)")
	expect(t, "no VLAN", r.fromPort("t", eth(fdb.Broadcast, mac(1))), "n")
}

func TestAGuestBehindATrunkGetsItsLeaseFromItsSegmentsServer(t *testing.T) {
	r := trunkRig(t, SegmentConfig{DHCP: dhcpConfig(9)})
	c := dhcpdtest.Client{MAC: hw(mac(1))}
	discover := broadcastBOOTP(t, mac(1), c.Discover())
	for vlan, vni := range map[uint16]encap.VNI{101: 1001, 102: 1002} {
		all := r.send("t", inVLAN(vlan, discover))
		s, _ := r.v.Segment(vni)
		if got := s.DHCP().Leases(); len(got) != 1 || got[0].Port != fmt.Sprint("t.", vlan) {
			t.Errorf("segment %v has the leases %+v", vni, got)
		}
		for _, o := range all {
			if o.where == "t" && !bytes.Equal(o.bytes[12:16], inVLAN(vlan, discover)[12:16]) {
				t.Errorf("an answer of segment %v left as %x", vni, o.bytes)
			}
		}
	}
	if s, _ := r.v.Segment(1000); len(s.DHCP().Leases()) != 0 {
		t.Error("the native segment has a lease")
	}
}

func TestATrunkAllocatesNothing(t *testing.T) {
	r := newRig(t, Config{})
	var device, other sink
	cfg := r.v.cfg
	cfg.OpenTAP = func(TAPConfig) (Device, error) { return &device, nil }
	r.v.cfg = cfg
	for vni := encap.VNI(1); vni <= 3; vni++ {
		s := r.segment(SegmentConfig{VNI: vni, Peers: []netip.Addr{peer2}})
		r.attach(s, PortConfig{Trunk: "t", VLAN: uint16(vni) - 1})
		r.attach(s, PortConfig{Name: "other", Device: &other})
	}
	w := r.v.workers[0]
	w.tunnel = &sinkTunnel{}
	b := eth(fdb.Broadcast, mac(1))
	kinds := [][]byte{b, inVLAN(1, b), inVLAN(2, b), inVLAN(3, b)} // of which one is no segment's
	in := frame.NewBatch(frame.BatchLen, 2048)
	turn := func() {
		in.Clear()
		for i := range frame.BatchLen {
			in.Commit(copy(in.Next().Buffer(), kinds[i%len(kinds)]))
		}
		w.fromTrunk(r.v.trunks["t"], in.Frames)
		p := (*r.v.segments.Load())[2].port("other")
		in.Clear()
		for range frame.BatchLen {
			in.Commit(copy(in.Next().Buffer(), kinds[0]))
		}
		w.fromPort(p, in.Frames)
	}
	if n := testing.AllocsPerRun(100, turn); n != 0 {
		t.Errorf("%v allocations a turn of %d frames", n, 2*frame.BatchLen)
	}
	if device.n == 0 || other.n == 0 {
		t.Errorf("%d frames came to the trunk and %d from it", device.n, other.n)
	}
}
