package vteptest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/uvtep/uvtep/dhcpd"
	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/vtep"
	"github.com/uvtep/uvtep/vtep/vteptest"
)

var (
	ip = netip.MustParseAddr
	a1 = ip("10.9.0.1")
	a2 = ip("10.9.0.2")
)

// dhcp is a service that gives out 192.168.100.10 to .99.
func dhcp(server string) *vtep.DHCPConfig {
	return &vtep.DHCPConfig{Server: dhcpd.SegmentConfig{
		Subnet: netip.MustParsePrefix("192.168.100.0/24"), Server: ip(server), Gateway: ip("192.168.100.1"),
		DNS:    []netip.Addr{ip("192.168.100.1"), ip("9.9.9.9")},
		Ranges: []dhcpd.Range{{First: ip("192.168.100.10"), Last: ip("192.168.100.99")}},
		Lease:  time.Hour, MTU: 1450,
	}}
}

// pair is two VTEPs that are each other's peers in the segments vnis, with DHCP
// at the first.
func pair(t *testing.T, n *vteptest.Network, vnis ...encap.VNI) (a, b *vteptest.Host) {
	t.Helper()
	a, b = n.NewHost(t, n.Config(a1)), n.NewHost(t, n.Config(a2))
	for _, vni := range vnis {
		a.NewSegment(t, vtep.SegmentConfig{VNI: vni, Peers: []netip.Addr{a2}, DHCP: dhcp("192.168.100.2")})
		b.NewSegment(t, vtep.SegmentConfig{VNI: vni, Peers: []netip.Addr{a1}})
	}
	return a, b
}

func guest(t *testing.T, h *vteptest.Host, vni encap.VNI, name, addr string) *vteptest.Guest {
	t.Helper()
	g := h.NewGuest(t, vni, vtep.PortConfig{Name: name})
	g.SetIP(ip(addr))
	return g
}

func TestGuestsOfTwoVTEPsPingEachOther(t *testing.T) {
	for _, family := range [][2]netip.Addr{{a1, a2}, {ip("fd00:9::1"), ip("fd00:9::2")}} {
		n := vteptest.NewNetwork()
		a, b := n.NewHost(t, n.Config(family[0])), n.NewHost(t, n.Config(family[1]))
		a.NewSegment(t, vtep.SegmentConfig{VNI: 100, Peers: family[1:]})
		b.NewSegment(t, vtep.SegmentConfig{VNI: 100, Peers: family[:1]})
		g, far := guest(t, a, 100, "t1", "192.168.100.1"), guest(t, b, 100, "t2", "192.168.100.2")
		if err := g.Ping(t.Context(), far.IP()); err != nil {
			t.Error(err)
		}
		if m, err := far.Resolve(t.Context(), g.IP()); m != g.MAC() || err != nil {
			t.Errorf("%v has %v, %v; want %v", g.IP(), m, err, g.MAC())
		}
		if want := 1500 - encap.Overhead(family[0]); g.MTU() != want {
			t.Errorf("the guest's MTU is %d, want %d", g.MTU(), want)
		}
	}
}

func TestAGuestBehindARemoteVTEPGetsRenewsAndReleasesItsAddress(t *testing.T) {
	n := vteptest.NewNetwork()
	a, b := pair(t, n, 100)
	s, _ := a.Segment(100)
	g := b.NewGuest(t, 100, vtep.PortConfig{Name: "t1", MAC: net.HardwareAddr{2, 0, 0, 0, 1, 1}})
	if g.MAC() != 0x020000000101 {
		t.Errorf("the guest's MAC is %v, not its port's", g.MAC())
	}
	got, err := g.DHCP(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := vteptest.Lease{
		Address: netip.MustParsePrefix("192.168.100.10/24"), Server: ip("192.168.100.2"), Gateway: ip("192.168.100.1"),
		DNS: []netip.Addr{ip("192.168.100.1"), ip("9.9.9.9")}, MTU: 1450, Length: time.Hour,
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if g.IP() != want.Address.Addr() {
		t.Errorf("the guest has %v", g.IP())
	}
	if got, err = g.Renew(t.Context()); err != nil || got.Address != want.Address {
		t.Errorf("renewed to %v, %v", got.Address, err)
	}
	if l, ok := s.DHCP().Lookup(g.IP()); !ok || l.VTEP != a2 {
		t.Errorf("the server has %+v, %t; want a client behind %v", l, ok, a2)
	}
	if err := g.Ping(t.Context(), want.Server); err != nil {
		t.Error(err)
	}
	if err := g.Release(t.Context()); err != nil || g.IP().IsValid() {
		t.Errorf("after its release the guest has %v, %v", g.IP(), err)
	}
	// The answer to a DISCOVER says that the RELEASE in front of it was seen.
	if again, err := g.DHCP(t.Context()); err != nil || again.Address != want.Address {
		t.Errorf("asked anew, it got %v, %v", again.Address, err)
	}
}

func TestWhatIsLostIsAskedForAgain(t *testing.T) {
	n := vteptest.NewNetwork()
	_, b := pair(t, n, 100)
	var mu sync.Mutex
	lost := 0
	n.Lose(func(p vteptest.Packet) bool {
		mu.Lock()
		defer mu.Unlock()
		lost++
		return lost <= 2
	})
	g := b.NewGuest(t, 100, vtep.PortConfig{Name: "t1"})
	if _, err := g.DHCP(t.Context()); err != nil {
		t.Error(err)
	}
	n.Lose(nil)
	if err := g.Ping(t.Context(), ip("192.168.100.2")); err != nil {
		t.Error(err)
	}
}

func TestNobodyAnswersAGuestThatAsksForNobody(t *testing.T) {
	n := vteptest.NewNetwork()
	a, _ := pair(t, n, 100)
	g := guest(t, a, 100, "t1", "192.168.100.1")
	ctx, cancel := context.WithCancel(t.Context())
	n.Watch(func(vteptest.Packet) { cancel() }) // the question is on its way
	if err := g.Ping(ctx, ip("192.168.100.77")); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestAGuestWhosePortGoesSaysSo(t *testing.T) {
	n := vteptest.NewNetwork()
	a, _ := pair(t, n, 100)
	g := guest(t, a, 100, "t1", "192.168.100.1")
	waiting := make(chan error, 1)
	go func() {
		_, err := g.Receive(t.Context())
		waiting <- err
	}()
	s, _ := a.Segment(100)
	if err := s.DetachPort("t1"); err != nil {
		t.Fatal(err)
	}
	if err := <-waiting; !errors.Is(err, vteptest.ErrUnplugged) {
		t.Error(err)
	}
	if err := g.Send(make([]byte, 60)); !errors.Is(err, vteptest.ErrUnplugged) {
		t.Error(err)
	}
	if names := n.TAPs(a1); len(names) != 0 {
		t.Errorf("open TAPs: %q", names)
	}
}

func TestAGuestWaitsForItsTAP(t *testing.T) {
	n := vteptest.NewNetwork()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := n.NewGuest(ctx, a1, "t1"); !errors.Is(err, context.Canceled) {
		t.Errorf("nobody opened it: %v", err)
	}
	a, _ := pair(t, n, 100)
	s, _ := a.Segment(100)
	go s.AttachPort(vtep.PortConfig{Name: "t1"})
	g, err := n.NewGuest(t.Context(), a1, "t1")
	if err != nil {
		t.Fatal(err)
	}
	g.SetIP(ip("192.168.100.1"))
	if err := g.Ping(t.Context(), ip("192.168.100.2")); err != nil {
		t.Error(err)
	}
}

func TestAGuestReceivesWhatItsStackHasNoUseFor(t *testing.T) {
	n := vteptest.NewNetwork()
	a, b := pair(t, n, 100)
	g, far := guest(t, a, 100, "t1", "192.168.100.11"), guest(t, b, 100, "t2", "192.168.100.12")
	if err := g.Ping(t.Context(), far.IP()); err != nil {
		t.Fatal(err)
	}
	m, dst := g.MAC().Bytes(), far.MAC().Bytes()
	sent := slices.Concat(dst[:], m[:], []byte{0x88, 0xb5}, bytes.Repeat([]byte{7}, 46))
	if err := g.Send(sent); err != nil {
		t.Fatal(err)
	}
	if got, err := far.Receive(t.Context()); err != nil || !bytes.Equal(got, sent) {
		t.Errorf("received %x, %v", got, err)
	}
	// A stranger's frame, injected as a peer.
	if !n.Inject(vteptest.Encapsulate(a1, a2, 100, sent)) {
		t.Error("nobody took the packet")
	}
	if got, err := far.Receive(t.Context()); err != nil || !bytes.Equal(got, sent) {
		t.Errorf("received %x, %v", got, err)
	}
}

// Two segments have the same subnet, the same MACs, the same server: whoever
// looks at every frame must see that one does not hear of the other.
func TestSegmentsWithEqualMACsAndSubnetsNeverSeeEachOthersFrames(t *testing.T) {
	n := vteptest.NewNetwork()
	a, b := pair(t, n, 100, 200)
	var mu sync.Mutex
	seen := map[encap.VNI]int{}
	wire := map[encap.VNI]int{}
	n.Watch(func(p vteptest.Packet) {
		mu.Lock()
		defer mu.Unlock()
		wire[p.VNI()]++
	})
	type end struct{ near, far *vteptest.Guest }
	ends := map[encap.VNI]end{}
	for _, vni := range []encap.VNI{100, 200} {
		name := fmt.Sprintf("t%v", vni)
		e := end{
			near: a.NewGuest(t, vni, vtep.PortConfig{Name: name, MAC: net.HardwareAddr{2, 0, 0, 0, 1, 1}}),
			far:  b.NewGuest(t, vni, vtep.PortConfig{Name: name, MAC: net.HardwareAddr{2, 0, 0, 0, 1, 2}}),
		}
		for _, g := range []*vteptest.Guest{e.near, e.far} {
			g.Watch(func([]byte) {
				mu.Lock()
				defer mu.Unlock()
				seen[vni]++
			})
		}
		ends[vni] = e
	}
	talk := func(e end) {
		t.Helper()
		var got [2]netip.Addr
		for i, g := range []*vteptest.Guest{e.near, e.far} {
			l, err := g.DHCP(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			got[i] = l.Address.Addr()
		}
		if got != [2]netip.Addr{ip("192.168.100.10"), ip("192.168.100.11")} {
			t.Errorf("addresses: %v", got)
		}
		for range 20 {
			if err := e.near.Ping(t.Context(), e.far.IP()); err != nil {
				t.Fatal(err)
			}
			if err := e.far.Ping(t.Context(), e.near.IP()); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range []struct{ speaks, silent encap.VNI }{{100, 200}, {200, 100}} {
		mu.Lock()
		clear(seen)
		clear(wire)
		mu.Unlock()
		talk(ends[c.speaks])
		mu.Lock()
		if seen[c.speaks] < 80 || seen[c.silent] != 0 {
			t.Errorf("only %v spoke, frames seen: %v", c.speaks, seen)
		}
		if wire[c.speaks] < 80 || len(wire) != 1 {
			t.Errorf("only %v spoke, packets on the underlay: %v", c.speaks, wire)
		}
		mu.Unlock()
	}
	// Both at once: each keeps to itself.
	var both sync.WaitGroup
	for _, e := range ends {
		both.Go(func() {
			for range 20 {
				if err := e.near.Ping(t.Context(), e.far.IP()); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	both.Wait()
	for _, h := range []*vteptest.Host{a, b} {
		for _, s := range h.Segments() {
			for _, e := range s.FDB() {
				if e.State == "dynamic" && e.MAC != 0x020000000101 && e.MAC != 0x020000000102 && e.Dst != a1 {
					t.Errorf("segment %v of %v learned %+v", s.VNI(), h.Local(), e)
				}
			}
		}
		if d := h.Stats().Drops; len(d) != 0 {
			t.Errorf("drops of %v: %+v", h.Local(), d)
		}
	}
}

func TestTheGuestsMACIsStableAndDiffersBetweenPorts(t *testing.T) {
	macs := map[fdb.MAC]string{}
	for round := range 2 {
		n := vteptest.NewNetwork()
		a, b := pair(t, n, 100)
		for _, h := range []*vteptest.Host{a, b} {
			for _, name := range []string{"t1", "t2"} {
				m, who := guest(t, h, 100, name, "192.168.100.1").MAC(), h.Local().String()+name
				if was, ok := macs[m]; ok != (round == 1) || ok && was != who {
					t.Errorf("%v is the MAC of %q and of %q", m, was, who)
				}
				macs[m] = who
			}
		}
	}
}
