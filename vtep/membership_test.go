package vtep

import (
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/underlay"
)

func TestAGroupThatCannotBeJoinedIsTriedAgainAndTheSegmentIsThereMeanwhile(t *testing.T) {
	var events []string
	var log strings.Builder
	f := &flaky{err: errors.New("no such luck")}
	r := newRigOver(t, Config{Accept: AcceptAny, Logger: slog.New(slog.NewTextHandler(&log, nil)),
		Events: func(e Event) {
			if e.Group.IsValid() {
				events = append(events, e.Kind.String()+" "+e.Group.String()+" "+e.Detail)
			}
		},
	}, func(e underlay.Endpoint) underlay.Endpoint { f.Endpoint = e; return f })
	g := ip("239.1.1.1")
	s := r.segment(SegmentConfig{VNI: 100, Peers: []netip.Addr{peer2}, Group: g}, "a", "b")
	flood := eth(fdb.Broadcast, mac(1))
	expect(t, "without its group", r.fromPort("a", flood), "@10.9.0.2 b")
	if err := s.GroupError(); err == nil || !errors.Is(err, f.err) {
		t.Errorf("the segment says %v", err)
	}

	tried := 0
	f.tried = func() { tried++ }
	for at := range 301 {
		r.age(at)
	}
	// At 2, 6, 14, 30, 62, and from then on each minute.
	if tried != 5+3 {
		t.Errorf("tried %d times in five minutes", tried)
	}
	f.err = nil
	r.age(301)
	if s.GroupError() == nil {
		t.Error("it was tried before its time")
	}
	r.age(302)
	r.age(400)
	expect(t, "with its group", r.fromPort("a", flood), "@10.9.0.2 @239.1.1.1 b")
	if s.GroupError() != nil || tried != 9 {
		t.Errorf("joined after %d times, and it says %v", tried, s.GroupError())
	}
	if want := []string{"group_failed 239.1.1.1 no such luck", "group_joined 239.1.1.1 "}; !slices.Equal(events, want) {
		t.Errorf("events: %q", events)
	}
	if n := strings.Count(log.String(), "\n"); n != 2 {
		t.Errorf("%d lines are logged:\n%s", n, log.String())
	}
	if err := r.v.RemoveSegment(100); err != nil {
		t.Fatal(err)
	}
	if g := r.net.Endpoint(sources(self, 4789)).Groups(); len(g) != 0 {
		t.Errorf("still joined: %v", g)
	}
}

func TestAGroupIsLeftWhereItWasJoinedAlsoOnAnotherInterface(t *testing.T) {
	r := newRig(t, Config{Accept: AcceptAny})
	g, e := ip("239.1.1.1"), r.net.Endpoint(sources(self, 4789))
	at := func(want ...string) {
		t.Helper()
		if got := e.Devices(g); !slices.Equal(got, want) {
			t.Errorf("joined on %q, want %q", got, want)
		}
	}
	cfg := SegmentConfig{VNI: 100, Group: g, Device: "eth1"}
	s := r.segment(cfg)
	other := r.segment(SegmentConfig{VNI: 200, Group: g})
	at("eth1", "")
	cfg.Device = "eth2"
	if err := s.Reconfigure(cfg); err != nil {
		t.Fatal(err)
	}
	at("", "eth2")
	cfg.MaxMACs = 7
	if err := s.Reconfigure(cfg); err != nil {
		t.Fatal(err)
	}
	at("", "eth2")
	if err := r.v.RemoveSegment(other.VNI()); err != nil {
		t.Fatal(err)
	}
	at("eth2")
	if err := s.Reconfigure(SegmentConfig{VNI: 100}); err != nil {
		t.Fatal(err)
	}
	at()
	if err := s.Reconfigure(SegmentConfig{VNI: 100, Device: "eth1"}); !errors.Is(err, ErrInvalid) {
		t.Errorf("an interface without a group: %v", err)
	}
}

// A change to a group that cannot be joined is made, and one away from it ends the
// trying.
func TestAChangeOfGroupNeedsNoGroupThatCanBeJoined(t *testing.T) {
	f := &flaky{}
	r := newRigOver(t, Config{Accept: AcceptAny}, func(e underlay.Endpoint) underlay.Endpoint { f.Endpoint = e; return f })
	s := r.segment(SegmentConfig{VNI: 100, Group: ip("239.1.1.1")}, "a")
	f.err = errors.New("no such luck")
	if err := s.Reconfigure(SegmentConfig{VNI: 100, Group: ip("239.1.1.2")}); err != nil || s.GroupError() == nil {
		t.Errorf("got %v, the segment says %v", err, s.GroupError())
	}
	if g := r.net.Endpoint(sources(self, 4789)).Groups(); len(g) != 0 {
		t.Errorf("joined: %v", g)
	}
	if err := s.Reconfigure(SegmentConfig{VNI: 100}); err != nil || s.GroupError() != nil {
		t.Errorf("got %v, the segment says %v", err, s.GroupError())
	}
	f.tried = func() { t.Error("tried again, though nobody wants it") }
	r.age(10)
}
