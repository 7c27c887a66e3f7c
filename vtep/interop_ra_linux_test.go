package vtep_test

import (
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/uvtep/uvtep/dhcpd"
	"github.com/uvtep/uvtep/internal/nettest"
	"github.com/uvtep/uvtep/vtep"
)

// statelessClients ask for what else there is, having an address already. One
// that does not write it down says that it was answered.
var statelessClients = []struct {
	says string
	dhcpClient
}{
	{dhcpClient: dhcpClient{
		name:    "dhclient-s",
		command: append([]string{"dhclient", "-6", "-S", "-d"}, strings.Fields(dhclient6Files)...),
		files:   map[string]string{"%T/conf": "request dhcp6.name-servers, dhcp6.domain-search;\n"},
	}},
	{dhcpClient: dhcpClient{
		name:    "dhcpcd-s",
		command: []string{"dhcpcd", "-6", "-B", "-d", "-f", "%T/conf", "eth0"},
		files:   map[string]string{"%T/conf": "duid\nnoipv4\noption domain_name_servers, domain_search\n"},
	}},
	{says: "DHCPv6 client: Processed Reply message", dhcpClient: dhcpClient{
		name:    "networkd-s",
		command: networkdCommand,
		files: map[string]string{"%T/etc/systemd/network/eth0.network": `[Match]
Name=eth0
[Network]
IPv6AcceptRA=yes
`},
	}},
}

func TestGuestsConfigureThemselvesByAdvertisementsAndAskForTheRest(t *testing.T) {
	nettest.Root(t)
	nettest.Need(t, "dhclient", "dhcpcd", networkd, "rdisc6", "ping")
	t.Parallel() // most of it is waiting
	u := families[0]
	na, nb := cable(t, u)
	ear := listenToClients(t, na, "clients6")
	prefix := netip.MustParsePrefix("fd00:300::/64")
	d := &vtep.DHCP6Config{Server: dhcpd.SegmentConfig6{
		Subnet: prefix, Server: netip.MustParseAddr("fd00:300::2"),
		DNS: []netip.Addr{netip.MustParseAddr("fd00:300::53")}, Search: []string{"blue.example"},
	}}
	a := serve(t, na, vtep.Config{Local: u.a}, filepath.Join(t.TempDir(), "leases.db"), vtep.SegmentConfig{
		VNI: 100, MTU: 1400, Peers: []netip.Addr{u.b}, DHCP6: d, RA: &vtep.RAConfig{
			Other: true, Interval: 4 * time.Second, Lifetime: 20 * time.Minute, MTU: 1390,
			DNS: []netip.Addr{netip.MustParseAddr("fd00:300::54")}, Search: []string{"ra.example"},
			Prefixes: []vtep.RAPrefix{{Prefix: prefix, OnLink: true, Autonomous: true}},
		},
	})
	ear.serving(prefix, d.Server.Server)
	b := start(t, nb, vtep.Config{Local: u.b})
	s := b.segment(t, vtep.SegmentConfig{VNI: 100, MTU: 1400, Peers: []netip.Addr{u.a}})
	guest := func(name string, i byte) (*nettest.NS, net.HardwareAddr) {
		mac := net.HardwareAddr{2, 0, 0, 0, 7, i}
		g := nettest.New(t, name)
		b.attach(t, s, g, vtep.PortConfig{Name: name, MAC: mac})
		return g, mac
	}
	// configured waits until a guest has an address of the prefix and a way out.
	configured := func(g *nettest.NS) {
		t.Helper()
		eventually(t, g.Name+" has configured itself", func() bool {
			return strings.Contains(g.Exec("ip", "-o", "-6", "addr", "show", "dev", "eth0"), "inet6 fd00:300::") &&
				strings.Contains(g.Exec("ip", "-6", "route"), "default via fe80::")
		})
		eventually(t, g.Name+" reaches the server", func() bool {
			_, err := g.Try("ping", "-6", "-c", "1", "-W", "1", d.Server.Server.String())
			return err == nil
		})
	}

	kernel, _ := guest("kernel", 0)
	var clients []*running
	for i, c := range statelessClients {
		g, mac := guest(c.name, byte(i+1))
		clients = append(clients, c.run(t, g, mac))
	}
	configured(kernel)
	if mtu := strings.TrimSpace(kernel.Exec("cat", "/proc/sys/net/ipv6/conf/eth0/mtu")); mtu != "1390" {
		t.Errorf("the kernel's MTU for IPv6 is %s, want the advertised 1390", mtu)
	}
	seen := strings.Join(strings.Fields(kernel.Exec("rdisc6", "-1", "eth0")), " ")
	for _, want := range []string{
		"Stateful address conf. : No", "Stateful other conf. : Yes", "Router lifetime : 1200", "Prefix : fd00:300::/64",
		"On-link : Yes", "Autonomous address conf.: Yes", "MTU : 1390 bytes", "Recursive DNS server : fd00:300::54", "DNS search list : ra.example",
	} {
		if !strings.Contains(seen, want) {
			t.Errorf("rdisc6 does not see %q in:\n%s", want, seen)
		}
	}
	for i, c := range clients {
		var kinds []string
		eventually(t, c.name+" asks for the rest", func() bool {
			kinds = append(kinds, ear.kinds(c)...)
			return len(kinds) > 0
		})
		if kinds[0] != "information-request" {
			t.Errorf("%s sent %q", c.name, kinds)
		}
		configured(c.ns)
		eventually(t, c.name+" was answered", func() bool {
			if says := statelessClients[i].says; says != "" {
				return strings.Contains(c.out.String(), says)
			}
			return strings.Contains(c.applied(), "fd00:300::53") && strings.Contains(c.applied(), "blue.example")
		})
	}
	if l := a.seg.DHCP6().Leases(); len(l) != 0 {
		t.Errorf("leases %+v, want none", l)
	}
	ear.save()
}
