package vtep

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/fdb"
)

// tagged is a VXLAN payload with a group policy tag.
func tagged(vni encap.VNI, p encap.Policy, b []byte) []byte {
	h := make([]byte, encap.HeaderLen)
	encap.PutPolicyHeader(h, vni, p)
	return append(h, b...)
}

// tags are the group policy tags of what has left by the tunnel, which is then
// forgotten.
func (r *rig) tags() (all []encap.Policy) {
	for _, p := range r.sent {
		_, tag, fault := encap.ParsePolicyHeader(p.Payload, true)
		if fault != encap.OK {
			r.t.Errorf("a packet left with a bad VXLAN header: %x", p.Payload[:encap.HeaderLen])
		}
		all = append(all, tag)
	}
	r.sent = nil
	return all
}

// received is how many frames a port got, which are then forgotten.
func (r *rig) received(name string) (n int) {
	for {
		if _, ok := r.taps.Device(name).TryRecv(); !ok {
			return n
		}
		n++
	}
}

func TestFramesCarryTheGroupOfTheirPort(t *testing.T) {
	r := newRig(t, Config{GBP: true})
	s := r.segment(SegmentConfig{VNI: 100, Peers: []netip.Addr{peer2, peer3}}, "none")
	r.attach(s, PortConfig{Name: "seven", GBP: 7})
	for name, want := range map[string]encap.Policy{"none": 0, "seven": encap.GroupPolicy(7)} {
		r.taps.Device(name).Send(eth(fdb.Broadcast, mac(1)))
		r.turn()
		if got := r.tags(); len(got) != 2 || got[0] != want || got[1] != want {
			t.Errorf("from %s: tags %#x, want %#x twice", name, got, want)
		}
	}
	// It changes while the port stays.
	if err := s.SetLimits(PortConfig{Name: "seven", GBP: 0xffff}); err != nil {
		t.Fatal(err)
	}
	r.taps.Device("seven").Send(eth(fdb.Broadcast, mac(1)))
	r.turn()
	if got := r.tags(); len(got) != 2 || got[0].Group() != 0xffff {
		t.Errorf("after the change: %#x", got)
	}
	if st := s.Ports()[1]; st.GBP != 0xffff || st.GBPAllow != nil {
		t.Errorf("the port says %d, %v", st.GBP, st.GBPAllow)
	}
}

func TestAPortGetsFramesOfTheGroupsItIsFor(t *testing.T) {
	const other, applied = encap.PolicyTagged | 9, encap.PolicyApplied
	for _, c := range []struct {
		tag   encap.Policy
		allow string // the groups of the ports that get it
	}{
		{0, "[0] [0 7] nil"},
		{encap.GroupPolicy(7), "[0 7] [7 8] nil"},
		{encap.GroupPolicy(8), "[7 8] nil"},
		{other, "nil"},
		{encap.GroupPolicy(0xffff), "nil"},
		{other | applied, "[0] [0 7] [7 8] nil"}, // the policy was applied where it came from
		{encap.GroupPolicy(8) | encap.PolicyDontLearn, "[7 8] nil"},
	} {
		for _, dst := range []fdb.MAC{fdb.Broadcast, mac(9)} {
			r := newRig(t, Config{GBP: true})
			s := r.segment(SegmentConfig{VNI: 100, Peers: []netip.Addr{peer2}})
			all := map[string][]uint16{"[0]": {0}, "[0 7]": {0, 7}, "[7 8]": {7, 8}, "nil": nil}
			for name, groups := range all {
				r.attach(s, PortConfig{Name: name, GBPAllow: groups})
			}
			for range 2 {
				r.injectTagged(peer2, 100, c.tag, eth(dst, mac(1)))
			}
			r.turn()
			var got []string
			for _, name := range []string{"[0]", "[0 7]", "[7 8]", "nil"} {
				if r.received(name) > 0 {
					got = append(got, name)
				}
			}
			if g := strings.Join(got, " "); g != c.allow {
				t.Errorf("%#x to %v: got by %q, want %q", c.tag, dst, g, c.allow)
			}
			refused := 2 * (len(all) - len(got))
			if d := r.dropped(); d != strings.TrimSpace(strings.Repeat("group_policy@100 ", refused)) {
				t.Errorf("%#x to %v: drops %q, want %d", c.tag, dst, d, refused)
			}
			var lost uint64
			for _, p := range s.Ports() {
				lost += p.TxDropped
			}
			if lost != uint64(refused) {
				t.Errorf("%#x: the ports count %d", c.tag, lost)
			}
		}
	}
}

func (r *rig) injectTagged(from netip.Addr, vni encap.VNI, p encap.Policy, b []byte) {
	r.t.Helper()
	r.inject(from, 0, tagged(vni, p, b))
}

func TestGroupsOfLocalPortsMeetWithoutTheTunnel(t *testing.T) {
	r := newRig(t, Config{GBP: true})
	s := r.segment(SegmentConfig{VNI: 100})
	r.attach(s, PortConfig{Name: "web", GBP: 7, GBPAllow: []uint16{8}})
	r.attach(s, PortConfig{Name: "db", GBP: 8, GBPAllow: []uint16{7}})
	r.attach(s, PortConfig{Name: "guest", GBP: 9})
	f := eth(fdb.Broadcast, mac(1))
	expect(t, "web", r.fromPort("web", f), "db guest")
	expect(t, "db", r.fromPort("db", eth(fdb.Broadcast, mac(2))), "guest web")
	expect(t, "guest", r.fromPort("guest", eth(fdb.Broadcast, mac(3))), "")
}

func TestTheSegmentItselfIsOfNoGroup(t *testing.T) {
	r := newRig(t, Config{GBP: true})
	s := r.segment(SegmentConfig{VNI: 100, Peers: []netip.Addr{peer2}, DHCP: dhcpConfig(9)})
	r.attach(s, PortConfig{Name: "seven", GBP: 7, GBPAllow: []uint16{7}})
	if got := r.send("seven", discoverOf(t, 1)); len(got) == 0 || got[len(got)-1].where != "seven" {
		t.Errorf("no offer: %v", got)
	}
	if d := r.dropped(); d != "" {
		t.Errorf("drops: %s", d)
	}
}

func TestAFrameThatIsNotToBeLearntIsNot(t *testing.T) {
	r := newRig(t, Config{GBP: true})
	s := r.segment(SegmentConfig{VNI: 100, Peers: []netip.Addr{peer2}, FDB: []StaticEntry{{MAC: mac(2), Port: "a"}}}, "a")
	for i, want := range []int{1, 2} { // the static one, and one more
		flags := []encap.Policy{encap.PolicyDontLearn, 0}[i]
		r.injectTagged(peer2, 100, flags, eth(fdb.Broadcast, mac(1)))
		r.turn()
		if got := s.MACs(); got != want || r.received("a") != 1 {
			t.Errorf("with %#x: %d MACs are known, want %d", flags, got, want)
		}
	}
	r.injectTagged(peer2, 100, encap.PolicyDontLearn, eth(fdb.Broadcast, mac(2))) // is another's all the same
	r.turn()
	if d := r.dropped(); d != "static_source@100" {
		t.Errorf("drops: %q", d)
	}
}

func TestTheTagIsReservedBitsWhereItIsNotSpoken(t *testing.T) {
	for _, c := range []struct {
		gbp, strict bool
		p           encap.Policy
		drops       string
	}{
		{false, false, encap.GroupPolicy(9), ""}, // ignored: it is no tag
		{false, true, encap.GroupPolicy(9), "outer_reserved@0"},
		{true, true, encap.GroupPolicy(7), ""},
		{true, true, encap.PolicyApplied, "outer_reserved@0"}, // of no tag
		{true, false, encap.GroupPolicy(9), "group_policy@100"},
	} {
		r := newRig(t, Config{GBP: c.gbp, Strict: c.strict})
		s := r.segment(SegmentConfig{VNI: 100, Peers: []netip.Addr{peer2}})
		port := PortConfig{Name: "a"}
		if c.gbp {
			port.GBPAllow = []uint16{7}
		}
		r.attach(s, port)
		r.injectTagged(peer2, 100, c.p, eth(fdb.Broadcast, mac(1)))
		r.turn()
		if d := r.dropped(); d != c.drops {
			t.Errorf("%+v: drops %q", c, d)
		}
	}
}

func TestGroupPolicyNeedsItsExtension(t *testing.T) {
	r := newRig(t, Config{})
	s := r.segment(SegmentConfig{VNI: 100}, "a")
	for _, p := range []PortConfig{{Name: "b", GBP: 7}, {Name: "b", GBPAllow: []uint16{}}} {
		if _, err := s.AttachPort(p); !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: %v", p, err)
		}
		p.Name = "a"
		if err := s.SetLimits(p); !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: %v", p, err)
		}
	}
	if n := len(s.Ports()); n != 1 {
		t.Errorf("%d ports", n)
	}
}

// Segments of one flow that differ in their tag alone come out apart, each with
// its own; and those of a super-frame that goes in have that of its port.
func TestSuperFramesAreOfOneGroup(t *testing.T) {
	const size = 1000
	r := newOffloadRig(t, Config{GBP: true})
	s := r.segment(SegmentConfig{VNI: 100, Peers: []netip.Addr{peer2}})
	r.attach(s, PortConfig{Name: "seven", GBPAllow: []uint16{7}, GBP: 7})
	in := flow{dst: mac(2), src: mac(1), port: 9}
	for i, b := range in.segments(t, make([]byte, 8*size), size) {
		r.injectTagged(peer2, 100, encap.GroupPolicy([]uint16{7, 7, 8, 8, 7, 8, 7, 7}[i]), b)
	}
	r.turn()
	frames, bytes := 0, 0
	for {
		b, _, ok := r.taps.Device("seven").TryRecvSuper()
		if !ok {
			break
		}
		frames++
		bytes += len(b) - 54
	}
	if bytes != 5*size || frames != 3 {
		t.Errorf("%d bytes of the port's group arrived in %d frames, want %d in 3", bytes, frames, 5*size)
	}
	if d := r.dropped(); d != "group_policy@100 group_policy@100" {
		t.Errorf("drops: %q", d)
	}

	out := flow{dst: mac(1), src: mac(2), port: 9}
	b, o := out.super(t, make([]byte, 3*size), size)
	if !r.taps.Device("seven").SendSuper(0, b, o) {
		t.Fatal("the super-frame was not taken")
	}
	r.turn()
	seven := encap.GroupPolicy(7)
	if got := r.tags(); !slices.Equal(got, []encap.Policy{seven, seven, seven}) {
		t.Errorf("tags %#x", got)
	}
}
