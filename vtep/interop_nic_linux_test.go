package vtep_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/uvtep/uvtep/internal/nettest"
	"github.com/uvtep/uvtep/vtep"
)

// provider makes a namespace that is a network behind an interface, nic0, of a
// host, with an address on its eth0.
func provider(t *testing.T, host *nettest.NS, addr string) *nettest.NS {
	t.Helper()
	p := nettest.New(t, "provider")
	nettest.Veth(t, host, "nic0", p, "eth0")
	host.Exec("ip", "link", "set", "nic0", "mtu", "1450")
	p.Exec("ip", "link", "set", "eth0", "mtu", "1450")
	p.Addr("eth0", addr)
	// What is sent before the kernel has come round to the link is lost.
	eventually(t, "the interface has a link", func() bool {
		return strings.Contains(host.Exec("ip", "link", "show", "nic0"), "state UP") &&
			strings.Contains(p.Exec("ip", "link", "show", "eth0"), "state UP")
	})
	return p
}

// What is behind an interface and guests elsewhere are one network, in every way
// that frames move: super-frames, open checksums, and what becomes of them in the
// tunnel.
func TestANetworkBehindAnInterfaceIsPartOfTheSegment(t *testing.T) {
	nettest.Need(t, "ping")
	eachSetting(t, func(t *testing.T, base vtep.Config) {
		u := families[0]
		na, nb := cable(t, u)
		p := provider(t, na, "192.168.100.1/24")
		p.Addr("eth0", "fd00:100::1/64")
		a, b := pair(t, base, u, na, nb)
		sa := a.segment(t, vtep.SegmentConfig{VNI: 100, Peers: []netip.Addr{u.b}})
		sb := b.segment(t, vtep.SegmentConfig{VNI: 100, Peers: []netip.Addr{u.a}})
		na.Do(func() {
			if _, err := sa.AttachPort(vtep.PortConfig{NIC: "nic0"}); err != nil {
				t.Fatal(err)
			}
		})
		near := a.guest(t, sa, "near", "192.168.100.2/24", "fd00:100::2/64")
		far := b.guest(t, sb, "far", "192.168.100.3/24", "fd00:100::3/64")
		for _, g := range []*nettest.NS{near, far} {
			ping(g, "192.168.100.1")
			ping(p, strings.TrimSuffix(strings.Fields(g.Exec("ip", "-o", "-4", "addr", "show", "eth0"))[3], "/24"))
			carry(t, g, p, "192.168.100.1", little)
			exchange(t, g, p, "192.168.100.1", 1400)
		}
		carry(t, p, near, "192.168.100.2", little)
		carry(t, p, far, "192.168.100.3", little)
		carry(t, p, far, "fd00:100::3", little)
		exchange(t, p, far, "fd00:100::3", 1400)
		i := slices.IndexFunc(sa.Ports(), func(p vtep.PortStats) bool { return p.Name == "nic0" })
		if st := sa.Ports()[i]; st.Kind != "nic" || st.State != "up" || st.Queues != len(a.v.Stats().Workers) || st.RxDropped+st.TxDropped != 0 {
			t.Errorf("the port is %+v", st)
		}
	})
}

func TestAnInterfaceThatVanishesTakesItsPortDownAndMayComeBack(t *testing.T) {
	nettest.Need(t, "ping")
	u := families[0]
	na, nb := cable(t, u)
	provider(t, na, "192.168.100.1/24")
	heard := &news{}
	a, _ := pair(t, vtep.Config{Events: heard.hear}, u, na, nb)
	s := a.segment(t, vtep.SegmentConfig{VNI: 100})
	cfg := vtep.PortConfig{NIC: "nic0"}
	attach := func() (err error) {
		na.Do(func() { _, err = s.AttachPort(cfg) })
		return err
	}
	if err := attach(); err != nil {
		t.Fatal(err)
	}
	port := func() vtep.PortStats { return s.Ports()[0] }
	eventually(t, "the port is up", func() bool { return port().State == "up" })
	na.Exec("ip", "link", "set", "nic0", "down")
	eventually(t, "the port is down", func() bool { p := port(); return p.State == "down" && !p.Vanished })
	na.Exec("ip", "link", "set", "nic0", "up")
	eventually(t, "the port is up again", func() bool { return port().State == "up" })
	na.Exec("ip", "link", "del", "nic0")
	eventually(t, "the port has vanished", func() bool { return port().Vanished })
	if err := s.DetachPort("nic0"); err != nil {
		t.Error(err)
	}
	if err := attach(); !errors.Is(err, vtep.ErrNoInterface) {
		t.Errorf("it is not there: %v", err)
	}
	p := provider(t, na, "192.168.100.1/24")
	if err := attach(); err != nil {
		t.Fatal(err)
	}
	g := a.guest(t, s, "near", "192.168.100.2/24")
	ping(g, "192.168.100.1")
	ping(p, "192.168.100.2")
	if words := heard.String(); !strings.HasPrefix(words, "port_up nic0") || !strings.Contains(words, "port_down nic0") {
		t.Errorf("events %s", words)
	}
}

func TestTheTunnelsOwnInterfaceIsNoPort(t *testing.T) {
	u := families[0]
	na, nb := cable(t, u)
	a, _ := pair(t, vtep.Config{}, u, na, nb)
	s := a.segment(t, vtep.SegmentConfig{VNI: 100})
	for _, tc := range []struct {
		cfg  vtep.PortConfig
		want error
	}{
		{vtep.PortConfig{NIC: "ul"}, vtep.ErrUnderlayNIC},
		{vtep.PortConfig{NIC: "ul", MAC: make([]byte, 6)}, vtep.ErrInvalid},
		{vtep.PortConfig{NIC: "ul", Stream: "/run/vm1"}, vtep.ErrInvalid},
	} {
		na.Do(func() {
			if _, err := s.AttachPort(tc.cfg); !errors.Is(err, tc.want) {
				t.Errorf("%v: %v, want %v", fmt.Sprint(tc.cfg), err, tc.want)
			}
		})
	}
}
