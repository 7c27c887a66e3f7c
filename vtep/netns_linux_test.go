package vtep_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/nettest"
	"github.com/uvtep/uvtep/vtep"
)

// family is an IP version that a tunnel runs over, and what the tests use of it.
type family struct {
	name  string
	a, b  netip.Addr // the hosts on the underlay
	bits  int
	group netip.Addr
}

var families = []family{
	{"IPv4", netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("10.9.0.2"), 24, netip.MustParseAddr("239.1.1.100")},
	{"IPv6", netip.MustParseAddr("fd00:9::1"), netip.MustParseAddr("fd00:9::2"), 64, netip.MustParseAddr("ff05::1:100")},
}

// setting is a way in which a VTEP moves its frames.
type setting struct {
	name string
	base vtep.Config
}

// settings are the two ways that differ most. What a test shows has to hold in
// each, so that tests begin with one of these and add to it; those between are
// tried by TestEveryMixOfOffloadsCarriesEverything.
var settings = []setting{
	{"all", vtep.Config{}},
	{"plain", vtep.Config{NoOffload: vtep.OffloadAll}},
}

func eachSetting(t *testing.T, body func(t *testing.T, base vtep.Config)) {
	for _, s := range settings {
		t.Run(s.name, func(t *testing.T) { body(t, s.base) })
	}
}

// eachFamily runs a test over both underlays, in each setting: the outer header
// and the offloads have little to do with each other, so that one of the four is
// left to UVTEP_TEST=full.
func eachFamily(t *testing.T, body func(t *testing.T, base vtep.Config, u family)) {
	for i, s := range settings {
		for j, u := range families {
			if i+j < 2 || full() {
				t.Run(s.name+"/"+u.name, func(t *testing.T) { body(t, s.base, u) })
			}
		}
	}
}

// wire makes a cable of virtual ends like one of copper: nothing longer than the
// MTU crosses it.
func wire(ends ...*nettest.NS) {
	for _, ns := range ends {
		ns.Exec("ethtool", "-K", "ul", "tso", "off", "gso", "off", "tx-udp_tnl-segmentation", "off",
			"tx-udp_tnl-csum-segmentation", "off", "tx-udp-segmentation", "off", "gro", "on")
	}
}

// cable makes two namespaces that are linked by their interfaces ul.
func cable(t testing.TB, u family) (a, b *nettest.NS) {
	t.Helper()
	a, b = nettest.New(t, "a"), nettest.New(t, "b")
	nettest.Veth(t, a, "ul", b, "ul")
	a.Addr("ul", fmt.Sprintf("%s/%d", u.a, u.bits))
	b.Addr("ul", fmt.Sprintf("%s/%d", u.b, u.bits))
	return a, b
}

// host is a namespace on the underlay, and the VTEP in it.
type host struct {
	ns   *nettest.NS
	v    *vtep.VTEP
	stop func() // ends the VTEP before the test ends
}

// start makes a VTEP in a namespace and runs it until the test ends.
func start(t testing.TB, ns *nettest.NS, cfg vtep.Config) *host {
	t.Helper()
	h := &host{ns: ns}
	ns.Do(func() {
		v, err := vtep.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		h.v = v
	})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := h.v.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	h.stop = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
		if err := h.v.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(h.stop)
	return h
}

// segment adds a segment to a host's VTEP.
func (h *host) segment(t testing.TB, cfg vtep.SegmentConfig) *vtep.Segment {
	t.Helper()
	s, err := h.v.AddSegment(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// attach gives a namespace a TAP of the segment, as eth0.
func (h *host) attach(t testing.TB, s *vtep.Segment, g *nettest.NS, cfg vtep.PortConfig) {
	t.Helper()
	cfg.NetNS, cfg.Rename = g.Path, "eth0"
	h.ns.Do(func() {
		if _, err := s.AttachPort(cfg); err != nil {
			t.Fatal(err)
		}
	})
}

// guest makes a namespace with a TAP of the segment, as eth0 with addresses.
func (h *host) guest(t testing.TB, s *vtep.Segment, tapName string, addrs ...string) *nettest.NS {
	t.Helper()
	g := nettest.New(t, "g-"+tapName)
	h.attach(t, s, g, vtep.PortConfig{Name: tapName})
	for _, a := range addrs {
		g.Addr("eth0", a)
	}
	return g
}

// dropped is how often a VTEP dropped a frame for a reason.
func (h *host) dropped(r frame.Reason) (n uint64) {
	for _, d := range h.v.Stats().Drops {
		if d.Reason == r {
			n += d.Count
		}
	}
	return n
}

// eventually waits until ok holds, and fails the test if it never does.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never happened: %s", what)
		}
	}
}

// ping sends echo requests, and more arguments of ping(8) before the address.
func ping(from *nettest.NS, to string, args ...string) {
	from.Exec("ping", append(append([]string{"-c", "2", "-i", "0.02", "-W", "2"}, args...), to)...)
}

func TestGuestsOfASegmentReachEachOtherAcrossHosts(t *testing.T) {
	nettest.Root(t)
	nettest.Need(t, "ping")
	eachFamily(t, func(t *testing.T, base vtep.Config, u family) {
		na, nb := cable(t, u)
		a, b := pair(t, base, u, na, nb)
		for _, vni := range []encap.VNI{100, 200} {
			sa := a.segment(t, vtep.SegmentConfig{VNI: vni, Peers: []netip.Addr{u.b}})
			sb := b.segment(t, vtep.SegmentConfig{VNI: vni, Peers: []netip.Addr{u.a}})
			ga := a.guest(t, sa, fmt.Sprintf("ta%d", vni), "192.168.100.1/24")
			b.guest(t, sb, fmt.Sprintf("tb%d", vni), "192.168.100.2/24")
			ping(ga, "192.168.100.2")
			// Whole packets of the segment's MTU fit the underlay.
			ping(ga, "192.168.100.2", "-M", "do", "-s", fmt.Sprint(sa.Config().MTU-28))
			remote := slices.DeleteFunc(sa.FDB(), func(e vtep.FDBEntry) bool { return e.Dst != u.b || e.State != "dynamic" })
			if len(remote) != 1 {
				t.Errorf("VNI %v: learned behind %s: %+v, want one MAC", vni, u.b, remote)
			}
		}
		for _, h := range []*host{a, b} {
			for _, d := range h.v.Stats().Drops {
				if d.Reason != frame.NoWayOut { // before the guest was there
					t.Errorf("dropped: %+v", d)
				}
			}
		}
	})
}

// pair starts a VTEP at either end of a cable.
func pair(t testing.TB, base vtep.Config, u family, na, nb *nettest.NS) (a, b *host) {
	t.Helper()
	base.Local = u.a
	a = start(t, na, base)
	base.Local = u.b
	return a, start(t, nb, base)
}

func TestGuestsOfOneHostReachEachOther(t *testing.T) {
	nettest.Root(t)
	nettest.Need(t, "ping")
	eachSetting(t, func(t *testing.T, base vtep.Config) {
		ns := nettest.New(t, "a")
		ns.Addr("lo", "10.9.0.1/32")
		base.Local = netip.MustParseAddr("10.9.0.1")
		h := start(t, ns, base)
		s := h.segment(t, vtep.SegmentConfig{VNI: 100, MTU: 1450})
		g1, g2 := h.guest(t, s, "t1", "192.168.100.1/24"), h.guest(t, s, "t2", "192.168.100.2/24")
		ping(g1, "192.168.100.2", "-M", "do", "-s", "1422")
		carry(t, g1, g2, "192.168.100.2", little)
		exchange(t, g1, g2, "192.168.100.2", 1450-28)
	})
}

func TestANamespaceThatVanishesTakesItsPortDownAndNoOther(t *testing.T) {
	nettest.Root(t)
	nettest.Need(t, "ping")
	eachSetting(t, func(t *testing.T, base vtep.Config) {
		ns := nettest.New(t, "a")
		ns.Addr("lo", "10.9.0.1/32")
		base.Local = netip.MustParseAddr("10.9.0.1")
		h := start(t, ns, base)
		s := h.segment(t, vtep.SegmentConfig{VNI: 100, MTU: 1450})
		g1 := h.guest(t, s, "t1", "192.168.100.1/24")
		h.guest(t, s, "t2", "192.168.100.2/24")
		doomed := h.guest(t, s, "t3", "192.168.100.3/24")
		ping(g1, "192.168.100.3")
		doomed.Delete()
		eventually(t, "the third port alone is down", func() bool {
			var states []string
			for _, p := range s.Ports() {
				states = append(states, p.State)
			}
			return slices.Equal(states, []string{"up", "up", "down"})
		})
		ping(g1, "192.168.100.2")
		// Its place is free for another.
		if err := s.DetachPort("t3"); err != nil {
			t.Error(err)
		}
		h.guest(t, s, "t3", "192.168.100.4/24")
		ping(g1, "192.168.100.4")
	})
}
