package vtep_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/uvtep/uvtep/dhcpd"
	"github.com/uvtep/uvtep/internal/nettest"
	"github.com/uvtep/uvtep/vtep"
)

// dhcpHost is a host whose VTEP serves DHCP, and what its service told.
type dhcpHost struct {
	*host
	seg    *vtep.Segment
	server *dhcpd.Server

	mu     sync.Mutex
	events []dhcpd.Event
}

// serve starts a host that serves a segment out of a lease store. stop ends it,
// and closes the store.
func serve(t *testing.T, ns *nettest.NS, base vtep.Config, path string, seg vtep.SegmentConfig) *dhcpHost {
	t.Helper()
	h := &dhcpHost{}
	store, err := dhcpd.OpenBolt(path)
	if err != nil {
		t.Fatal(err)
	}
	svc, err := dhcpd.NewService(dhcpd.Config{Store: store, Events: func(e dhcpd.Event) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.events = append(h.events, e)
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := svc.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	base.DHCP = svc
	h.host = start(t, ns, base)
	endVTEP := h.stop
	h.stop = sync.OnceFunc(func() {
		endVTEP()
		cancel()
		wg.Wait()
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(h.stop)
	h.seg = h.segment(t, seg)
	h.server = h.seg.DHCP()
	return h
}

// told is how often an event of a client was told.
func (h *dhcpHost) told(kind dhcpd.EventKind, mac net.HardwareAddr) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range h.events {
		if e.Kind == kind && bytes.Equal(e.Lease.HardwareAddr(), mac) {
			n++
		}
	}
	return n
}

// lease is the lease of a client.
func (h *dhcpHost) lease(mac net.HardwareAddr) (dhcpd.Lease, bool) {
	for _, l := range h.server.Leases() {
		if l.State == dhcpd.StateBound && bytes.Equal(l.HardwareAddr(), mac) {
			return l, true
		}
	}
	return dhcpd.Lease{}, false
}

const networkdFile = `[Match]
Name=eth0
[Network]
DHCP=ipv4
LinkLocalAddressing=no
IPv6AcceptRA=no
`

var dhcpClients = []dhcpClient{
	{
		name:    "udhcpc",
		command: []string{"udhcpc", "-f", "-i", "eth0", "-x", "hostname:udhcpc", "-O", "mtu", "-t", "10", "-T", "1", "-p", "%T/pid"},
		again:   []string{"-r", "%A"},
		renew:   syscall.SIGUSR1, release: syscall.SIGUSR2, asksAnew: true, takesMTU: true,
	},
	{
		name:    "dhclient",
		command: []string{"dhclient", "-4", "-d", "-cf", "%T/conf", "-lf", "%T/leases", "-pf", "%T/pid", "eth0"},
		// It gives back what stands in its file, and of short leases it is the
		// first alone that does.
		releasingWithout: "%T/leases",
		releaseBy:        []string{"dhclient", "-4", "-r", "-cf", "%T/conf", "-lf", "%T/leases", "-pf", "%T/pid", "eth0"},
		ends:             true, takesMTU: true, routes121: true,
		files: map[string]string{"%T/conf": `option rfc3442-classless-static-routes code 121 = array of unsigned integer 8;
send host-name = "dhclient";
request subnet-mask, broadcast-address, routers, domain-name, domain-name-servers, interface-mtu, rfc3442-classless-static-routes;
initial-interval 1;
timeout 20;
`},
	},
	{
		name: "dhcpcd",
		// Without its own look whether the address is in use, which takes 5 s.
		command: []string{"dhcpcd", "-4", "-B", "-d", "--noarp", "--noipv4ll", "-h", "dhcpcd", "-o", "interface_mtu", "eth0"},
		renew:   syscall.SIGUSR1, release: syscall.SIGALRM, ends: true, takesMTU: true, routes121: true,
	},
	{
		name:          "networkd",
		command:       networkdCommand,
		releasingWith: map[string]string{"%T/etc/systemd/network/eth0.network": networkdFile},
		ends:          true, keepsAddress: true, takesMTU: true, routes121: true,
		files: map[string]string{
			"%T/etc/systemd/network/eth0.network": networkdFile + "KeepConfiguration=dhcp\n[DHCPv4]\nUseMTU=yes\nUseDomains=yes\n",
		},
	},
}

// networkd is systemd's network manager, which needs none of the rest of it.
const networkd = "/lib/systemd/systemd-networkd"

var networkdCommand = []string{"sh", "-c", `d=/run/systemd/netif; install -d -o systemd-network -g systemd-network $d $d/links $d/leases &&
SYSTEMD_LOG_LEVEL=debug SYSTEMD_LOG_TARGET=console exec ` + networkd}

// clientNet is a segment's service in a subnet of 192.168.100.0/24.
func clientNet(subnet, server string) *vtep.DHCPConfig {
	p := netip.MustParsePrefix(subnet)
	addr := func(host byte) netip.Addr {
		b := p.Addr().As4()
		b[3] += host
		return netip.AddrFrom4(b)
	}
	return &vtep.DHCPConfig{Server: dhcpd.SegmentConfig{
		Subnet:  p,
		Server:  netip.MustParseAddr(server),
		Ranges:  []dhcpd.Range{{First: addr(10), Last: addr(49)}},
		Gateway: addr(1),
		DNS:     []netip.Addr{addr(53)},
		Domain:  "blue.example",
		MTU:     1390,
		Lease:   24 * time.Second, T1: 2 * time.Second, T2: 4 * time.Second,
		Routes: []dhcpd.Route{
			{To: netip.MustParsePrefix("0.0.0.0/0"), Via: addr(1)},
			{To: netip.MustParsePrefix("10.0.0.0/8"), Via: addr(54)},
		},
	}}
}

// has is what a client shows that has an address of a service.
func (r *running) has(ip netip.Addr, cfg dhcpd.SegmentConfig) []string {
	want := []string{fmt.Sprintf("inet %v/%d ", ip, cfg.Subnet.Bits()), "default via " + cfg.Gateway.String() + " ", cfg.DNS[0].String(), cfg.Domain}
	if r.takesMTU {
		want = append(want, "mtu 1390 ")
	}
	if r.routes121 {
		want = append(want, "10.0.0.0/8 via "+cfg.Routes[1].Via.String()+" ")
	}
	return want
}

// hurry has the client renew its lease now if it can be told to.
func (r *running) hurry() {
	r.t.Helper()
	if r.renew != 0 {
		r.signal(r.renew)
	}
}

// giveBack makes the client give its address back, and waits until it has.
func (r *running) giveBack(h *dhcpHost) {
	r.t.Helper()
	if r.releasingWith != nil || r.releasingWithout != "" {
		r.kill()
		before := h.told(dhcpd.EventRenewed, r.mac)
		file := r.fill([]string{r.releasingWithout})[0]
		os.Remove(file)
		r.write(r.releasingWith)
		r.start(nil)
		eventually(r.t, r.name+" has its lease once more", func() bool { return h.told(dhcpd.EventRenewed, r.mac) > before })
		l, _ := h.lease(r.mac)
		r.wantApplied("inet " + l.IP.String() + "/")
		eventually(r.t, r.name+" has written its lease down", func() bool {
			b, _ := os.ReadFile(file)
			return file == "" || strings.Contains(string(b), l.IP.String())
		})
	}
	before := h.told(dhcpd.EventReleased, r.mac)
	r.releaseUntil(func() bool { return h.told(dhcpd.EventReleased, r.mac) > before })
}

func TestRealClientsLiveWithAnAddressServedBehindAnotherVTEP(t *testing.T) {
	nettest.Root(t)
	nettest.Need(t, "udhcpc", "dhclient", "dhcpcd", networkd, "ping")
	t.Parallel() // most of it is waiting
	hosts := hostFiles(t)
	// Over IPv6 all is the same but for the outer header.
	t.Run("in", func(t *testing.T) {
		for i, s := range settings {
			t.Run(s.name, func(t *testing.T) {
				t.Parallel()
				liveWithLeases(t, s.base, i == 0 || full())
			})
		}
	})
	if now := hostFiles(t); now != hosts {
		t.Errorf("the host's own files changed from %q to %q", hosts, now)
	}
}

// lives is what clients at one VTEP do with leases that another one serves.
type lives struct {
	t       *testing.T
	base    vtep.Config // of the host that serves
	ns      *nettest.NS // its
	store   string
	seg     vtep.SegmentConfig
	a       *dhcpHost
	b       *host
	ear     *dhcpEar
	clients []*running
	ips     map[string]netip.Addr // the clients', by their names
}

// liveWithLeases takes every client through all that happens to a lease, or
// through the beginning and the end of it.
func liveWithLeases(t *testing.T, base vtep.Config, whole bool) {
	u := families[0]
	na, nb := cable(t, u)
	l := &lives{t: t, base: base, ns: na, store: filepath.Join(t.TempDir(), "leases.db"), ips: map[string]netip.Addr{}}
	l.ear = listenToClients(t, na, "clients")
	l.base.Local = u.a
	l.seg = vtep.SegmentConfig{VNI: 100, MTU: 1400, Peers: []netip.Addr{u.b}, DHCP: clientNet("192.168.100.0/24", "192.168.100.2")}
	l.serve()
	base.Local = u.b
	l.b = start(t, nb, base)
	s := l.b.segment(t, vtep.SegmentConfig{VNI: 100, MTU: 1400, Peers: []netip.Addr{u.a}})
	for i, c := range dhcpClients {
		mac := net.HardwareAddr{2, 0, 0, 0, 1, byte(i)}
		g := nettest.New(t, c.name)
		l.b.attach(t, s, g, vtep.PortConfig{Name: c.name, MAC: mac})
		l.clients = append(l.clients, c.run(t, g, mac))
	}
	l.bind(u.b)
	l.renew()
	l.restart()
	if whole {
		l.rebind()
		l.startAgain()
		l.move()
	}
	l.release()
	if whole {
		l.ear.save()
	}
}

// serve starts the host that serves.
func (l *lives) serve() {
	l.t.Helper()
	l.a = serve(l.t, l.ns, l.base, l.store, l.seg)
	l.ear.serving(l.seg.DHCP.Server.Subnet, l.seg.DHCP.Server.Server)
}

// reload puts another configuration of the service in force.
func (l *lives) reload(d *vtep.DHCPConfig) {
	l.t.Helper()
	l.seg.DHCP = d
	if err := l.a.seg.Reconfigure(l.seg); err != nil {
		l.t.Fatal(err)
	}
	l.ear.serving(d.Server.Subnet, d.Server.Server)
}

// renewed waits until a client has prolonged the lease that it had.
func (l *lives) renewed(c *running, what string, before int) {
	l.t.Helper()
	eventually(l.t, c.name+" "+what, func() bool { return l.a.told(dhcpd.EventRenewed, c.mac) > before })
	if lease, ok := l.a.lease(c.mac); !ok || lease.IP != l.ips[c.name] {
		l.t.Errorf("%s had %s, and when it %s %+v, %v", c.name, l.ips[c.name], what, lease, ok)
	}
}

// applied waits until a client has applied its lease, and uses it.
func (l *lives) applied(c *running, ip netip.Addr) {
	l.t.Helper()
	c.wantApplied(c.has(ip, l.seg.DHCP.Server)...)
	ping(c.ns, l.seg.DHCP.Server.Server.String())
}

func (l *lives) bind(behind netip.Addr) {
	for _, c := range l.clients {
		eventually(l.t, c.name+" has a lease", func() bool { return l.a.told(dhcpd.EventBound, c.mac) == 1 })
		lease, ok := l.a.lease(c.mac)
		if !ok || lease.Hostname != c.name || lease.VTEP != behind || lease.Port != "" {
			l.t.Errorf("%s: lease %+v, %v; want it bound, with the host name, behind %s", c.name, lease, ok, behind)
		}
		l.ips[c.name] = lease.IP
		l.applied(c, lease.IP)
	}
	if n := len(slices.Compact(slices.SortedFunc(maps.Values(l.ips), netip.Addr.Compare))); n != len(l.clients) {
		l.t.Errorf("the addresses are not all different: %v", l.ips)
	}
}

func (l *lives) renew() {
	for _, c := range l.clients {
		before, was := l.a.told(dhcpd.EventRenewed, c.mac), l.leaseOf(c)
		c.hurry()
		l.renewed(c, "renews its lease", before)
		if is := l.leaseOf(c); !is.Start.After(was.Start) || !is.Expires.After(was.Expires) {
			l.t.Errorf("%s: the lease was %+v, after its renewal it is %+v", c.name, was, is)
		}
		l.ear.want(c, "renewing", "renew")
	}
}

func (l *lives) leaseOf(c *running) dhcpd.Lease {
	lease, _ := l.a.lease(c.mac)
	return lease
}

// restart has another process come in the place of the one that served.
func (l *lives) restart() {
	before := l.a.server.Leases()
	l.a.stop()
	l.serve()
	kept := l.a.server.Leases()
	for i := range before {
		if i >= len(kept) || kept[i].IP != before[i].IP || kept[i].State != before[i].State ||
			kept[i].ClientID != before[i].ClientID || kept[i].CHAddr != before[i].CHAddr || kept[i].Hostname != before[i].Hostname {
			l.t.Errorf("leases before the restart %+v, after it %+v", before, kept)
			break
		}
	}
	l.renew()
	for _, c := range l.clients {
		l.applied(c, l.ips[c.name])
	}
}

// rebind takes the server away that gave the leases. Another one, at another
// address, knows of them.
func (l *lives) rebind() {
	l.reload(clientNet("192.168.100.0/24", "192.168.100.200"))
	before := map[string]int{}
	for _, c := range l.clients {
		before[c.name] = l.a.told(dhcpd.EventRenewed, c.mac)
		c.ns.Exec("ip", "neigh", "flush", "dev", "eth0") // as time would
		c.hurry()
	}
	for _, c := range l.clients {
		l.renewed(c, "rebinds", before[c.name])
		l.ear.want(c, "rebinding", "rebind")
		l.applied(c, l.ips[c.name])
	}
}

// startAgain has the clients crash and come back.
func (l *lives) startAgain() {
	before := map[string]int{}
	for _, c := range l.clients {
		c.kill()
		if !c.keepsAddress {
			c.ns.Exec("ip", "addr", "flush", "dev", "eth0")
		}
		before[c.name] = l.a.told(dhcpd.EventRenewed, c.mac)
		var more []string
		for _, a := range c.again {
			more = append(more, strings.ReplaceAll(a, "%A", l.ips[c.name].String()))
		}
		c.start(more)
	}
	for _, c := range l.clients {
		l.renewed(c, "starts again", before[c.name])
		l.applied(c, l.ips[c.name])
		if c.asksAnew {
			l.ear.want(c, "starting again", "discover", "select")
		} else {
			l.ear.want(c, "starting again", "reboot")
		}
	}
}

// move takes the clients' addresses out of the subnet.
func (l *lives) move() {
	l.reload(clientNet("192.168.100.128/25", "192.168.100.200"))
	for _, c := range l.clients {
		c.hurry()
	}
	for _, c := range l.clients {
		var lease dhcpd.Lease
		moved := func() bool {
			lease = l.leaseOf(c)
			return lease.IP.IsValid() && l.seg.DHCP.Server.Subnet.Contains(lease.IP)
		}
		// One that heard no refusal asks ever more rarely, until its lease ends.
		for end := time.Now().Add(l.seg.DHCP.Server.Lease); !moved() && time.Now().Before(end); {
			time.Sleep(5 * time.Millisecond)
		}
		eventually(l.t, c.name+" has an address of the other subnet", moved)
		l.applied(c, lease.IP)
		if got := c.applied(); strings.Contains(got, "inet "+l.ips[c.name].String()+"/") {
			l.t.Errorf("%s still has its old address:\n%s", c.name, got)
		}
		if l.a.told(dhcpd.EventRefused, c.mac) == 0 {
			l.t.Errorf("%s was not told that its address is no longer its own", c.name)
		}
		l.ear.want(c, "moving", "discover", "select")
	}
}

func (l *lives) release() {
	for _, c := range l.clients {
		c.giveBack(l.a)
		if lease, ok := l.a.lease(c.mac); ok {
			l.t.Errorf("%s: there still is a lease: %+v", c.name, lease)
		}
		eventually(l.t, c.name+" has taken its address away", func() bool { return !strings.Contains(c.applied(), "inet ") })
		if c.ends && !c.ended(20*time.Second) {
			l.t.Errorf("%s has not ended", c.name)
		}
		c.end()
		l.ear.want(c, "releasing", "release")
	}
	for _, lease := range l.a.server.Leases() {
		l.t.Errorf("left: %+v", lease)
	}
}
