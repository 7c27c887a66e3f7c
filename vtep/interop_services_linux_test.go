package vtep_test

import (
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/uvtep/uvtep/dhcpd"
	"github.com/uvtep/uvtep/internal/nettest"
	"github.com/uvtep/uvtep/vtep"
)

var (
	prefix6 = netip.MustParsePrefix("2001:db8:100::/64")
	server6 = netip.MustParseAddr("2001:db8:100::2")
)

// The kernel is a guest like others: it takes the prefix, the router, the MTU
// and the service's addresses, at the VTEP that advertises and behind another.
func TestTheKernelTakesRouterAdvertisementsAndReachesTheService(t *testing.T) {
	nettest.Root(t)
	nettest.Need(t, "ping")
	for i, setting := range settings {
		if i > 0 && !full() { // it takes the kernel its time
			continue
		}
		t.Run(setting.name, func(t *testing.T) { takesAdvertisements(t, setting.base) })
	}
}

// takesAdvertisements is the test in one setting.
func takesAdvertisements(t *testing.T, base vtep.Config) {
	u := families[0]
	na, nb := cable(t, u)
	base.Local = u.b
	b := start(t, nb, base)
	sb := b.segment(t, vtep.SegmentConfig{VNI: 100, Peers: []netip.Addr{u.a}})
	base.Local = u.a
	cfg := vtep.SegmentConfig{
		VNI: 100, Peers: []netip.Addr{u.b},
		DHCP6: &vtep.DHCP6Config{Server: dhcpd.SegmentConfig6{Subnet: prefix6, Server: server6}},
		RA: &vtep.RAConfig{
			Managed: true, MTU: 1400, Lifetime: 30 * time.Minute,
			Prefixes: []vtep.RAPrefix{{Prefix: prefix6, OnLink: true, Autonomous: true}},
		},
	}
	a := serve(t, na, base, filepath.Join(t.TempDir(), "leases.db"), cfg)
	sa, _ := a.v.Segment(100)
	guests := []*nettest.NS{eager(t, "ga"), eager(t, "gb")}
	a.attach(t, sa, guests[0], vtep.PortConfig{Name: "ta"})
	b.attach(t, sb, guests[1], vtep.PortConfig{Name: "tb"})
	for i, g := range guests {
		eventually(t, "an address of the prefix is ready", func() bool {
			out := g.Exec("ip", "-6", "addr", "show", "dev", "eth0", "scope", "global", "-tentative")
			return strings.Contains(out, "2001:db8:100:")
		})
		route := g.Exec("ip", "-6", "route", "show", "default")
		link, ok := strings.CutPrefix(route, "default via ")
		if !ok || !strings.Contains(route, "proto ra") {
			t.Fatalf("guest %d: default route %q", i, route)
		}
		link = strings.Fields(link)[0]
		if mtu := strings.TrimSpace(g.Exec("cat", "/proc/sys/net/ipv6/conf/eth0/mtu")); mtu != "1400" {
			t.Errorf("guest %d: IPv6 MTU %s", i, mtu)
		}
		ping(g, server6.String())
		ping(g, link+"%eth0")
		ping(g, server6.String(), "-s", "1300")
		if n := g.Exec("ip", "-6", "neigh", "show", link); !strings.Contains(n, "router") {
			t.Errorf("guest %d: its router is %q", i, n)
		}
	}
	ping(guests[0], globalAddr(t, guests[1]))

	// Who would like to have the server's address learns that it is taken.
	for i, g := range guests {
		g.Exec("ip", "-6", "addr", "add", server6.String()+"/64", "dev", "eth0")
		eventually(t, "the duplicate is found", func() bool {
			return strings.Contains(g.Exec("ip", "-6", "addr", "show", "dev", "eth0", "dadfailed"), server6.String())
		})
		g.Exec("ip", "-6", "addr", "del", server6.String()+"/64", "dev", "eth0")
		if i == 0 {
			ping(g, server6.String())
		}
	}

	// The last advertisement takes the router away, and nothing else.
	cfg.RA = nil
	if err := sa.Reconfigure(cfg); err != nil {
		t.Fatal(err)
	}
	for _, g := range guests {
		eventually(t, "there is no default route any more", func() bool { return g.Exec("ip", "-6", "route", "show", "default") == "" })
		ping(g, server6.String())
	}
}

// eager is a namespace whose interfaces look for routers and for duplicates of
// their addresses, which those of other tests do not.
func eager(t *testing.T, name string) *nettest.NS {
	ns := nettest.New(t, name)
	for key, value := range map[string]string{"accept_dad": "1", "router_solicitations": "3", "accept_ra": "2"} {
		ns.Sysctl("net/ipv6/conf/all/"+key, value)
		ns.Sysctl("net/ipv6/conf/default/"+key, value)
	}
	return ns
}

// globalAddr is a guest's address of the prefix.
func globalAddr(t *testing.T, g *nettest.NS) string {
	t.Helper()
	for _, word := range strings.Fields(g.Exec("ip", "-6", "addr", "show", "dev", "eth0", "scope", "global")) {
		if p, err := netip.ParsePrefix(word); err == nil && prefix6.Contains(p.Addr()) {
			return p.Addr().String()
		}
	}
	t.Fatal("the guest has no address of the prefix")
	return ""
}

// A machine whose address was set by hand answers for it, behind whichever VTEP.
func TestAProbeFindsAStaticAddressBehindARemoteVTEP(t *testing.T) {
	nettest.Root(t)
	nettest.Need(t, "udhcpc")
	eachSetting(t, func(t *testing.T, base vtep.Config) {
		u := families[0]
		na, nb := cable(t, u)
		base.Local = u.b
		b := start(t, nb, base)
		sb := b.segment(t, vtep.SegmentConfig{VNI: 100, Peers: []netip.Addr{u.a}})
		base.Local = u.a
		taken := netip.MustParseAddr("192.168.100.10")
		a := serve(t, na, base, filepath.Join(t.TempDir(), "leases.db"), vtep.SegmentConfig{
			VNI: 100, Peers: []netip.Addr{u.b},
			DHCP: &vtep.DHCPConfig{Server: dhcpd.SegmentConfig{
				Subnet: netip.MustParsePrefix("192.168.100.0/24"), Server: netip.MustParseAddr("192.168.100.2"),
				Ranges: []dhcpd.Range{{First: taken, Last: netip.MustParseAddr("192.168.100.11")}}, Probe: time.Second,
			}},
		})
		sa, _ := a.v.Segment(100)
		b.guest(t, sb, "squatter", taken.String()+"/24")
		client := a.guest(t, sa, "client")
		client.Exec("udhcpc", "-n", "-q", "-f", "-i", "eth0", "-t", "20", "-T", "1", "-s", "/bin/true")
		for _, l := range a.server.Leases() {
			switch {
			case l.IP == taken && l.State == dhcpd.StateDeclined:
			case l.IP != taken && l.State == dhcpd.StateBound && l.Port == "client":
			default:
				t.Errorf("lease: %+v", l)
			}
		}
		if n := len(a.server.Leases()); n != 2 {
			t.Errorf("%d leases, want the one that was declined and the client's", n)
		}
	})
}
