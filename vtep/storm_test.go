package vtep

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/uvtep/uvtep/dhcpd/dhcpdtest"
	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/frame"
)

// stormRig has a port "a" with limits, and a clock that the test turns.
func stormRig(t *testing.T, cfg SegmentConfig, storm Storm) (r *rig, s *Segment, tick func(time.Duration)) {
	now := time.Unix(1e9, 0)
	r = newRig(t, Config{Clock: func() time.Time { return now }})
	cfg.VNI = 100
	s = r.segment(cfg, "b")
	r.attach(s, PortConfig{Name: "a", Storm: storm})
	return r, s, func(d time.Duration) { now = now.Add(d) }
}

// passed is how many of n such frames reach the port "b".
func (r *rig) passed(port string, n int, b []byte) (passed int) {
	for range n {
		passed += len(r.send(port, b))
	}
	return passed
}

func TestEachClassOfFloodsHasItsOwnLimit(t *testing.T) {
	group := fdb.MAC(0x01005e010203)
	r, s, tick := stormRig(t, SegmentConfig{}, Storm{Broadcast: 3, Multicast: 5, Unknown: 7})
	for round := range 2 {
		for _, c := range []struct {
			what string
			dst  fdb.MAC
			want int
		}{{"broadcast", fdb.Broadcast, 3}, {"multicast", group, 5}, {"unknown", mac(99), 7}} {
			if n := r.passed("a", 20, eth(c.dst, mac(1))); n != c.want {
				t.Errorf("round %d: %d frames of %s pass, want %d", round, n, c.what, c.want)
			}
		}
		tick(time.Second)
	}
	if n := r.v.Stats().Drops[0]; n.Reason != frame.StormLimit || n.Count != 2*(17+15+13) {
		t.Errorf("drops: %v", n)
	}
	if p := s.Ports()[1]; p.RxDropped != 2*(17+15+13) || p.Storm != (Storm{3, 5, 7}) {
		t.Errorf("the port says %d dropped, %v", p.RxDropped, p.Storm)
	}
}

func TestNothingButFloodsIsLimited(t *testing.T) {
	r, _, _ := stormRig(t, SegmentConfig{DHCP: dhcpConfig(200)}, Storm{1, 1, 1})
	r.fromPort("b", eth(mac(1), mac(2)))
	if n := r.passed("a", 20, eth(mac(2), mac(1))); n != 20 {
		t.Errorf("%d of 20 frames to a known station pass", n)
	}
	if n := r.passed("b", 20, eth(fdb.Broadcast, mac(2))); n != 20 {
		t.Errorf("%d of 20 broadcasts of a port without limits pass", n)
	}
	// A message that the segment's own service takes is no flood.
	r.fromPort("a", eth(fdb.Broadcast, mac(1)))
	for i := range 20 {
		only(t, r.send("a", broadcastBOOTP(t, mac(i), (&dhcpdtest.Client{MAC: hw(mac(i))}).Discover())), "a")
	}
	if d := r.dropped(); d != "" {
		t.Errorf("drops: %s", d)
	}
}

func TestWhatThePeersSendIsNotLimitedByAPort(t *testing.T) {
	r, _, _ := stormRig(t, SegmentConfig{Peers: []netip.Addr{peer2}}, Storm{1, 1, 1})
	for range 5 {
		expect(t, "a broadcast", r.fromPeer(peer2, 100, eth(fdb.Broadcast, mac(9))), "a b")
	}
}

func TestLimitsOfFloodsChangeWhileThePortStays(t *testing.T) {
	r, s, tick := stormRig(t, SegmentConfig{}, Storm{})
	f := eth(fdb.Broadcast, mac(1))
	for _, c := range []struct {
		limit Storm
		want  int
	}{{Storm{}, 20}, {Storm{Broadcast: 4}, 4}, {Storm{Broadcast: 9}, 9}, {Storm{Multicast: 1}, 20}} {
		tick(time.Second)
		if err := s.SetLimits(PortConfig{Name: "a", Storm: c.limit}); err != nil {
			t.Fatal(err)
		}
		if n := r.passed("a", 20, f); n != c.want {
			t.Errorf("%v: %d pass, want %d", c.limit, n, c.want)
		}
	}
	for _, bad := range []Storm{{Broadcast: -1}, {Multicast: -1}, {Unknown: 2e9}} {
		if err := s.SetLimits(PortConfig{Name: "a", Storm: bad}); !errors.Is(err, ErrInvalid) {
			t.Errorf("%v: %v", bad, err)
		}
		if _, err := s.AttachPort(PortConfig{Name: "c", Storm: bad}); !errors.Is(err, ErrInvalid) {
			t.Errorf("a port with %v: %v", bad, err)
		}
	}
}

// A super-frame is never split for its limit: what of it is too much is owed.
func TestOfARateMoreThanThereIsMayBeTakenAtOnceAndIsOwed(t *testing.T) {
	var r rate
	if !r.take(0, 10, 25) || r.take(time.Second, 10, 1) {
		t.Error("a frame of 25 packets, then another one a second later")
	}
	at := 1500*time.Millisecond + 100*time.Millisecond
	if r.take(at-time.Nanosecond, 10, 1) || !r.take(at, 10, 1) {
		t.Error("1.5 s are owed, and a packet takes 0.1 s")
	}
}
