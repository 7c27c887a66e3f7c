package vtep_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"os/exec"
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
	h.server = h.segment(t, seg).DHCP()
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

// dhcpClient is a client program of a distribution. %T in an argument stands for
// a directory of its own.
type dhcpClient struct {
	name    string
	command []string
	// Renewing: a signal, or none where only time makes it renew.
	renew syscall.Signal
	// Releasing: a signal, or a command.
	release   syscall.Signal
	releaseBy []string
	ends      bool // it ends by itself once it has released
	takesMTU  bool // its script sets the MTU (26)
	routes121 bool // its script sets the routes (121), and so it asks for them
	config    string
}

var dhcpClients = []dhcpClient{
	{
		name:    "udhcpc",
		command: []string{"udhcpc", "-f", "-i", "eth0", "-x", "hostname:udhcpc", "-O", "mtu", "-t", "10", "-T", "1", "-p", "%T/pid"},
		renew:   syscall.SIGUSR1, release: syscall.SIGUSR2, takesMTU: true,
	},
	{
		name:      "dhclient",
		command:   []string{"dhclient", "-4", "-d", "-cf", "%T/conf", "-lf", "%T/leases", "-pf", "%T/pid", "eth0"},
		releaseBy: []string{"dhclient", "-4", "-r", "-cf", "%T/conf", "-lf", "%T/leases", "-pf", "%T/pid", "eth0"},
		ends:      true, takesMTU: true, routes121: true,
		config: `option rfc3442-classless-static-routes code 121 = array of unsigned integer 8;
send host-name = "dhclient";
request subnet-mask, broadcast-address, routers, domain-name, domain-name-servers, interface-mtu, rfc3442-classless-static-routes;
initial-interval 1;
timeout 20;
`,
	},
	{
		name: "dhcpcd",
		// Without its own look whether the address is in use, which takes 5 s.
		command: []string{"dhcpcd", "-4", "-B", "-d", "--noarp", "--noipv4ll", "-h", "dhcpcd", "-o", "interface_mtu", "eth0"},
		renew:   syscall.SIGUSR1, release: syscall.SIGALRM, ends: true, takesMTU: true, routes121: true,
	},
}

// running is a client program at work in a guest.
type running struct {
	dhcpClient
	t    *testing.T
	ns   *nettest.NS
	mac  net.HardwareAddr
	dir  string
	cmd  *exec.Cmd
	out  bytes.Buffer
	done chan struct{} // closed when it has ended
}

// run starts a client program in a guest, in a mount namespace of its own: what
// it and its scripts write below /etc, /run and /var/lib is seen by them alone.
func (c dhcpClient) run(t *testing.T, ns *nettest.NS, mac net.HardwareAddr) *running {
	t.Helper()
	r := &running{dhcpClient: c, t: t, ns: ns, mac: mac, dir: t.TempDir(), done: make(chan struct{})}
	if err := os.WriteFile(filepath.Join(r.dir, "conf"), []byte(c.config), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cp", "-a", "/etc", filepath.Join(r.dir, "etc")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	// A link would lead out of the copy.
	os.Remove(r.resolvConf())
	if err := os.WriteFile(r.resolvConf(), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	const script = `mount --bind "$0/etc" /etc && mount -t tmpfs none /run && mount -t tmpfs none /var/lib || exit
mkdir -p /var/lib/dhcpcd /var/lib/dhcp && exec "$@"`
	r.cmd = exec.Command("sh", append([]string{"-c", script, r.dir}, r.fill(c.command)...)...)
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	r.cmd.Stdout, r.cmd.Stderr = &r.out, &r.out
	r.cmd.WaitDelay = 2 * time.Second
	var err error
	ns.Do(func() { err = r.cmd.Start() })
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(r.done)
		_ = r.cmd.Wait() // what it printed tells more
	}()
	t.Cleanup(r.end)
	return r
}

// end ends the program if it still runs.
func (r *running) end() {
	select {
	case <-r.done:
	default:
		_ = r.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-r.done:
		case <-time.After(5 * time.Second):
			_ = r.cmd.Process.Kill()
			<-r.done
		}
	}
	if r.t.Failed() {
		r.t.Logf("%s printed:\n%s", r.name, &r.out)
	}
}

func (r *running) fill(args []string) []string {
	out := slices.Clone(args)
	for i := range out {
		out[i] = strings.ReplaceAll(out[i], "%T", r.dir)
	}
	return out
}

func (r *running) resolvConf() string { return filepath.Join(r.dir, "etc/resolv.conf") }

func (r *running) signal(s syscall.Signal) {
	r.t.Helper()
	if err := r.cmd.Process.Signal(s); err != nil {
		r.t.Fatalf("%s: %v", r.name, err)
	}
}

// applied is what the client made of its lease: addresses, routes, MTU, and
// what it wrote for the resolver.
func (r *running) applied() string {
	resolv, err := os.ReadFile(r.resolvConf())
	if err != nil {
		r.t.Fatal(err)
	}
	return r.ns.Exec("ip", "-o", "-4", "addr", "show", "dev", "eth0") + r.ns.Exec("ip", "-4", "route") +
		r.ns.Exec("ip", "-o", "link", "show", "dev", "eth0") + string(resolv)
}

func (r *running) wantApplied(ip netip.Addr) {
	r.t.Helper()
	want := []string{"inet " + ip.String() + "/24 ", "default via 192.168.100.1 ", "nameserver 192.168.100.53", "blue.example"}
	if r.takesMTU {
		want = append(want, "mtu 1390 ")
	}
	if r.routes121 {
		want = append(want, "10.0.0.0/8 via 192.168.100.254 ")
	}
	missing := func() []string {
		got := r.applied()
		return slices.DeleteFunc(slices.Clone(want), func(w string) bool { return strings.Contains(got, w) })
	}
	for deadline := time.Now().Add(10 * time.Second); len(missing()) > 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Errorf("%s did not apply %q:\n%s", r.name, missing(), r.applied())
			return
		}
	}
}

// prolong makes the client renew its lease, and waits until it has.
func (r *running) prolong(h *dhcpHost) {
	r.t.Helper()
	before := h.told(dhcpd.EventRenewed, r.mac)
	was, _ := h.lease(r.mac)
	if r.renew != 0 {
		r.signal(r.renew)
	}
	eventually(r.t, r.name+" renews its lease", func() bool { return h.told(dhcpd.EventRenewed, r.mac) > before })
	is, ok := h.lease(r.mac)
	if !ok || is.IP != was.IP || !is.Start.After(was.Start) || !is.Expires.After(was.Expires) {
		r.t.Errorf("%s: the lease was %+v, after its renewal it is %+v", r.name, was, is)
	}
}

func TestRealClientsHaveAndGiveBackAnAddressServedBehindAnotherVTEP(t *testing.T) {
	nettest.Root(t)
	nettest.Need(t, "udhcpc", "dhclient", "dhcpcd", "ping")
	hosts := hostFiles(t)
	// Over IPv6 all is the same but for the outer header.
	eachSetting(t, func(t *testing.T, base vtep.Config) {
		u := families[0]
		na, nb := cable(t, u)
		seg := vtep.SegmentConfig{VNI: 100, MTU: 1400, Peers: []netip.Addr{u.b}, DHCP: &vtep.DHCPConfig{Server: dhcpd.SegmentConfig{
			Subnet:  netip.MustParsePrefix("192.168.100.0/24"),
			Server:  netip.MustParseAddr("192.168.100.2"),
			Ranges:  []dhcpd.Range{{First: netip.MustParseAddr("192.168.100.10"), Last: netip.MustParseAddr("192.168.100.250")}},
			Gateway: netip.MustParseAddr("192.168.100.1"),
			DNS:     []netip.Addr{netip.MustParseAddr("192.168.100.53")},
			Domain:  "blue.example",
			MTU:     1390,
			Lease:   20 * time.Second, T1: 2 * time.Second, T2: 10 * time.Second,
			Routes: []dhcpd.Route{
				{To: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr("192.168.100.1")},
				{To: netip.MustParsePrefix("10.0.0.0/8"), Via: netip.MustParseAddr("192.168.100.254")},
			},
		}}}
		store := filepath.Join(t.TempDir(), "leases.db")
		base.Local = u.a
		a := serve(t, na, base, store, seg)
		base.Local = u.b
		b := start(t, nb, base)
		sb := b.segment(t, vtep.SegmentConfig{VNI: 100, MTU: 1400, Peers: []netip.Addr{u.a}})

		var clients []*running
		ips := map[string]netip.Addr{}
		for i, c := range dhcpClients {
			mac := net.HardwareAddr{2, 0, 0, 0, 1, byte(i)}
			g := nettest.New(t, c.name)
			b.attach(t, sb, g, vtep.PortConfig{Name: c.name, MAC: mac})
			clients = append(clients, c.run(t, g, mac))
		}
		for _, c := range clients {
			eventually(t, c.name+" has a lease", func() bool { return a.told(dhcpd.EventBound, c.mac) == 1 })
			l, ok := a.lease(c.mac)
			if !ok || l.Hostname != c.name || l.VTEP != u.b || l.Port != "" {
				t.Errorf("%s: lease %+v, %v; want it bound, with the host name, behind %s", c.name, l, ok, u.b)
			}
			ips[c.name] = l.IP
			c.wantApplied(l.IP)
			ping(c.ns, "192.168.100.2")
		}
		if n := len(slices.Compact(slices.SortedFunc(maps.Values(ips), netip.Addr.Compare))); n != len(clients) {
			t.Errorf("the addresses are not all different: %v", ips)
		}
		for _, c := range clients {
			c.prolong(a)
		}

		// Another process comes in the place of the one that served.
		before := a.server.Leases()
		a.stop()
		base.Local = u.a
		a = serve(t, na, base, store, seg)
		kept := a.server.Leases()
		for i := range before {
			if i >= len(kept) || kept[i].IP != before[i].IP || kept[i].State != before[i].State ||
				kept[i].ClientID != before[i].ClientID || kept[i].CHAddr != before[i].CHAddr || kept[i].Hostname != before[i].Hostname {
				t.Errorf("leases before the restart %+v, after it %+v", before, kept)
				break
			}
		}
		for _, c := range clients {
			c.prolong(a)
			c.wantApplied(ips[c.name])
		}

		for _, c := range clients {
			c.giveBack(a)
			if l, ok := a.lease(c.mac); ok {
				t.Errorf("%s: there still is a lease: %+v", c.name, l)
			}
			eventually(t, c.name+" has taken its address away", func() bool { return !strings.Contains(c.applied(), "inet ") })
			if c.ends {
				eventually(t, c.name+" has ended", func() bool {
					select {
					case <-c.done:
						return true
					default:
						return false
					}
				})
			}
			c.end()
		}
		for _, l := range a.server.Leases() {
			t.Errorf("left: %+v", l)
		}
	})
	if now := hostFiles(t); now != hosts {
		t.Errorf("the host's own files changed from %q to %q", hosts, now)
	}
}

// giveBack makes the client give its address back, and waits until it has.
func (r *running) giveBack(h *dhcpHost) {
	r.t.Helper()
	var asked time.Time
	eventually(r.t, r.name+" has given its address back", func() bool {
		if h.told(dhcpd.EventReleased, r.mac) == 1 {
			return true
		}
		// Asked once more if need be: on a machine with very much to do dhcpcd
		// has been seen to miss a signal.
		if time.Since(asked) > 5*time.Second {
			asked = time.Now()
			if r.release != 0 {
				r.signal(r.release)
			} else {
				r.releaseWith(r.releaseBy)
			}
		}
		return false
	})
}

// releaseWith runs a command that makes the client give its address back, where
// the client sees its files.
func (r *running) releaseWith(command []string) {
	r.t.Helper()
	enter := []string{"--mount", "--target", fmt.Sprint(r.cmd.Process.Pid), "--net=" + r.ns.Path, "--"}
	out, err := exec.Command("nsenter", append(enter, r.fill(command)...)...).CombinedOutput()
	if err != nil {
		r.t.Errorf("%s: %v\n%s", strings.Join(command, " "), err, out)
	}
}

// hostFiles is what clients write to where nobody keeps them from it.
func hostFiles(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	for _, name := range []string{"/etc/resolv.conf", "/etc/hostname"} {
		b, err := os.ReadFile(name)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		all.Write(b)
	}
	for _, pattern := range []string{"/run/dhc*", "/run/udhcpc*", "/var/lib/dhcp/*", "/var/lib/dhcpcd/*"} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(&all, names)
	}
	return all.String()
}
