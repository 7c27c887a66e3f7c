package vtep_test

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/uvtep/uvtep/dhcpd"
	"github.com/uvtep/uvtep/internal/nettest"
	"github.com/uvtep/uvtep/vtep"
)

// dhcp6Client is a client program of DHCPv6.
type dhcp6Client struct {
	dhcpClient
	address, prefix bool     // what it asks for
	again           []string // what it sends first when it is started again
	late            bool     // it rebinds ten seconds after it began to renew
	slow            bool     // it takes no T1 and T2 as short as these
	keeps           bool     // it gives nothing back: what it has runs out
}

const dhclient6Files = "-cf %T/conf -lf %T/leases -pf %T/pid eth0"

var dhcp6Clients = []dhcp6Client{
	{address: true, again: []string{"confirm"}, late: true, dhcpClient: dhcpClient{
		name:      "dhclient",
		command:   append([]string{"dhclient", "-6", "-d"}, strings.Fields(dhclient6Files)...),
		releaseBy: append([]string{"dhclient", "-6", "-r"}, strings.Fields(dhclient6Files)...),
		ends:      true,
		files:     map[string]string{"%T/conf": "request dhcp6.name-servers, dhcp6.domain-search;\n"},
	}},
	{prefix: true, again: []string{"rebind"}, late: true, dhcpClient: dhcpClient{
		name:      "dhclient-pd",
		command:   append([]string{"dhclient", "-6", "-P", "-d"}, strings.Fields(dhclient6Files)...),
		releaseBy: append([]string{"dhclient", "-6", "-P", "-r"}, strings.Fields(dhclient6Files)...),
		ends:      true,
		files:     map[string]string{"%T/conf": "request dhcp6.name-servers;\n"},
	}},
	{address: true, prefix: true, again: []string{"rebind"}, dhcpClient: dhcpClient{
		name:    "dhcpcd",
		command: []string{"dhcpcd", "-6", "-B", "-d", "-f", "%T/conf", "eth0"},
		release: syscall.SIGALRM, ends: true,
		files: map[string]string{"%T/conf": "duid\nnoipv4\noption domain_name_servers, domain_search\ninterface eth0\n  ia_na 1\n  ia_pd 2/::/56 -\n"},
	}},
	{address: true, prefix: true, again: []string{"solicit", "request"}, slow: true, dhcpClient: dhcpClient{
		name:    "dhcp6c",
		command: []string{"sh", "-c", "mkdir -p /var/lib/dhcpv6; exec dhcp6c -f -D -c %T/conf -p %T/pid eth0"},
		ends:    true,
		files: map[string]string{"%T/conf": `interface eth0 { send ia-na 1; send ia-pd 1; request domain-name-servers; };
id-assoc na 1 { };
id-assoc pd 1 { };
`},
	}},
	{address: true, prefix: true, again: []string{"solicit"}, keeps: true, dhcpClient: dhcpClient{
		name:    "networkd",
		command: networkdCommand,
		ends:    true,
		files: map[string]string{"%T/etc/systemd/network/eth0.network": `[Match]
Name=eth0
[Network]
DHCP=ipv6
IPv6AcceptRA=yes
`},
	}},
}

// clientNet6 is a segment's DHCPv6 service, at an address that makes its
// identifier, too.
func clientNet6(server string) *vtep.DHCP6Config {
	return &vtep.DHCP6Config{Server: dhcpd.SegmentConfig6{
		Subnet:      netip.MustParsePrefix("fd00:100::/64"),
		Server:      netip.MustParseAddr(server),
		Ranges:      []dhcpd.Range{{First: netip.MustParseAddr("fd00:100::1:0"), Last: netip.MustParseAddr("fd00:100::1:ffff")}},
		DNS:         []netip.Addr{netip.MustParseAddr("fd00:100::53")},
		Search:      []string{"blue.example"},
		Lease:       24 * time.Second,
		Preferred:   20 * time.Second,
		T1:          2 * time.Second,
		T2:          4 * time.Second,
		Delegations: []dhcpd.Delegation{{Prefix: netip.MustParsePrefix("fd00:200::/40"), Length: 56}},
		RapidCommit: true,
	}}
}

// held is what a client of DHCPv6 has: an address, a prefix or both.
func (h *dhcpHost) held(mac net.HardwareAddr) (leases []dhcpd.Lease) {
	for _, l := range h.seg.DHCP6().Leases() {
		if l.State == dhcpd.StateBound && bytes.Equal(l.HardwareAddr(), mac) {
			leases = append(leases, l)
		}
	}
	return leases
}

// lives6 is what clients of DHCPv6 at one VTEP do with what another one serves.
type lives6 struct {
	t       *testing.T
	base    vtep.Config
	ns      *nettest.NS
	store   string
	seg     vtep.SegmentConfig
	a       *dhcpHost
	ear     *dhcpEar
	clients []*running
	kinds   []dhcp6Client // the clients', in the same order
	had     [][]dhcpd.Lease
}

func TestRealClientsLiveWithAddressesAndPrefixesServedBehindAnotherVTEP(t *testing.T) {
	nettest.Root(t)
	nettest.Need(t, "dhclient", "dhcpcd", "dhcp6c", networkd, "ping")
	t.Parallel() // most of it is waiting
	hosts := hostFiles(t)
	u := families[0]
	na, nb := cable(t, u)
	l := &lives6{t: t, base: vtep.Config{Local: u.a}, ns: na, store: filepath.Join(t.TempDir(), "leases.db"), kinds: dhcp6Clients}
	l.ear = listenToClients(t, na, "clients6")
	l.seg = vtep.SegmentConfig{VNI: 100, MTU: 1400, Peers: []netip.Addr{u.b}, DHCP6: clientNet6("fd00:100::2"), RA: &vtep.RAConfig{
		Managed: true, Other: true, Interval: 4 * time.Second,
		Prefixes: []vtep.RAPrefix{{Prefix: netip.MustParsePrefix("fd00:100::/64"), OnLink: true}},
	}}
	l.serve()
	b := start(t, nb, vtep.Config{Local: u.b})
	s := b.segment(t, vtep.SegmentConfig{VNI: 100, MTU: 1400, Peers: []netip.Addr{u.a}})
	for i, c := range l.kinds {
		mac := net.HardwareAddr{2, 0, 0, 0, 6, byte(i)}
		g := nettest.New(t, c.name)
		b.attach(t, s, g, vtep.PortConfig{Name: c.name, MAC: mac})
		l.clients = append(l.clients, c.run(t, g, mac))
	}
	l.bind()
	l.renew()
	for i, c := range l.clients {
		// networkd takes its time after T1, ten seconds if it wants to, so that T2
		// may come first.
		if kinds := l.ear.kinds(c); !l.kinds[i].slow && !slices.Contains(kinds, "renew") && !slices.Contains(kinds, "rebind") {
			t.Errorf("%s renewing: it sent %q", c.name, kinds)
		}
	}
	l.restart()
	l.rebind()
	l.startAgain()
	l.release()
	l.ear.save()
	if now := hostFiles(t); now != hosts {
		t.Errorf("the host's own files changed from %q to %q", hosts, now)
	}
}

func (l *lives6) serve() {
	l.t.Helper()
	l.a = serve(l.t, l.ns, l.base, l.store, l.seg)
	l.ear.serving(l.seg.DHCP6.Server.Subnet, l.seg.DHCP6.Server.Server)
}

// applied waits until a client uses what it has.
func (l *lives6) applied(i int) {
	l.t.Helper()
	c := l.clients[i]
	for _, lease := range l.had[i] {
		if lease.PrefixLen != 0 {
			continue
		}
		eventually(l.t, fmt.Sprintf("%s has %v", c.name, lease.IP), func() bool {
			return strings.Contains(c.ns.Exec("ip", "-o", "-6", "addr", "show", "dev", "eth0"), "inet6 "+lease.IP.String()+"/")
		})
		// The way to it comes from a router's advertisement where the client goes by
		// those.
		eventually(l.t, c.name+" reaches the server", func() bool {
			_, err := c.ns.Try("ping", "-6", "-c", "1", "-W", "1", l.seg.DHCP6.Server.Server.String())
			return err == nil
		})
	}
}

// renewed waits until a client has prolonged all that it has.
func (l *lives6) renewed(i int, what string, before int) {
	l.t.Helper()
	c := l.clients[i]
	eventually(l.t, c.name+" "+what, func() bool { return l.a.told(dhcpd.EventRenewed, c.mac) >= before+len(l.had[i]) })
	is := l.a.held(c.mac)
	same := len(is) == len(l.had[i])
	for j := range is {
		same = same && is[j].IP == l.had[i][j].IP
	}
	if !same {
		l.t.Errorf("%s had %+v, and when it %s %+v", c.name, l.had[i], what, is)
	}
}

func (l *lives6) bind() {
	for i, c := range l.clients {
		want := 0
		for _, asked := range []bool{l.kinds[i].address, l.kinds[i].prefix} {
			if asked {
				want++
			}
		}
		eventually(l.t, c.name+" has what it asked for", func() bool { return len(l.a.held(c.mac)) == want })
		l.had = append(l.had, l.a.held(c.mac))
		l.applied(i)
		l.ear.kinds(c)
	}
}

func (l *lives6) renew() {
	for i, c := range l.clients {
		if !l.kinds[i].slow {
			l.renewed(i, "renews", l.a.told(dhcpd.EventRenewed, c.mac))
		}
	}
}

func (l *lives6) restart() {
	l.a.stop()
	l.serve()
	l.renew()
	for i := range l.clients {
		l.applied(i)
	}
}

// rebind puts another server, with the same leases, in the place of the one that
// the clients know.
func (l *lives6) rebind() {
	l.seg.DHCP6 = clientNet6("fd00:100::3")
	before := make([]int, len(l.clients))
	for i, c := range l.clients {
		l.ear.kinds(c)
		before[i] = l.a.told(dhcpd.EventRenewed, c.mac)
	}
	if err := l.a.seg.Reconfigure(l.seg); err != nil {
		l.t.Fatal(err)
	}
	l.ear.serving(l.seg.DHCP6.Server.Subnet, l.seg.DHCP6.Server.Server)
	for i, c := range l.clients {
		if l.kinds[i].slow || l.kinds[i].late && !full() {
			continue
		}
		l.renewed(i, "rebinds", before[i])
		l.ear.want(c, "rebinding", "rebind")
		l.applied(i)
	}
}

// startAgain has the clients crash and come back.
func (l *lives6) startAgain() {
	before := make([]int, len(l.clients))
	for i, c := range l.clients {
		c.kill()
		c.ns.Exec("ip", "-6", "addr", "flush", "dev", "eth0", "scope", "global")
		l.ear.kinds(c)
		before[i] = l.a.told(dhcpd.EventRenewed, c.mac)
		c.start(nil)
	}
	for i, c := range l.clients {
		l.renewed(i, "starts again", before[i])
		l.applied(i)
		want := l.kinds[i].again
		if got := l.ear.kinds(c); len(got) < len(want) || !slices.Equal(got[:len(want)], want) {
			l.t.Errorf("%s starting again: it sent %q, want %q first", c.name, got, want)
		}
	}
}

func (l *lives6) release() {
	for i, c := range l.clients {
		before := l.a.told(dhcpd.EventReleased, c.mac)
		if l.kinds[i].keeps {
			c.end()
			continue
		}
		c.releaseUntil(func() bool { return l.a.told(dhcpd.EventReleased, c.mac) > before && len(l.a.held(c.mac)) == 0 })
		c.end()
		l.ear.want(c, "releasing", "release")
	}
}
