package dhcp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/uvtep/uvtep/bench/proc"
	"github.com/uvtep/uvtep/internal/netns"
)

const (
	clientIf = "eth0" // of the clients' side
	serverIf = "eth1" // of a server that wants an interface
	poolSize = 60000  // clients, and addresses at least
)

// The subnet of all servers, and who is where in it.
var (
	subnet   = net.IPNet{IP: net.IP{10, 44, 0, 0}, Mask: net.CIDRMask(16, 32)}
	serverIP = net.IP{10, 44, 0, 1}
	clientIP = net.IP{10, 44, 0, 2} // of perfdhcp, which plays a relay
	firstIP  = net.IP{10, 44, 1, 0}
	lastIP   = net.IP{10, 44, 250, 250}
)

// world is what one trial makes on this machine.
type world struct {
	dir            string
	server, client string // namespaces
	procs          []*proc.Process
}

func newWorld(parent string) (w *world, err error) {
	w = &world{}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close())
		}
	}()
	if w.dir, err = os.MkdirTemp(parent, "trial-"); err != nil {
		return w, err
	}
	for _, one := range []struct {
		name *string
		side string
	}{{&w.server, "server"}, {&w.client, "client"}} {
		name := fmt.Sprintf("uvbench-%d-%s", os.Getpid(), one.side)
		if err := netns.Create(name); err != nil {
			return w, err
		}
		*one.name = name
		if err := inside(name, func(h *netlink.Handle) error { return setUp(h, "lo", nil) }); err != nil {
			return w, err
		}
	}
	return w, nil
}

// close takes all of it away. Links go with their namespaces.
func (w *world) close() (err error) {
	for _, p := range w.procs {
		p.End()
	}
	for _, name := range []string{w.server, w.client} {
		if name != "" {
			err = errors.Join(err, netns.Delete(name))
		}
	}
	return errors.Join(err, os.RemoveAll(w.dir))
}

// serve starts a server and returns once it serves.
func (w *world) serve(ctx context.Context, name, binary string) (*proc.Process, error) {
	switch name {
	case Uvtep:
		return w.uvtep(ctx, binary, "off")
	case "uvtep-probe":
		return w.uvtep(ctx, binary, "200ms")
	}
	if err := w.cable(ctx); err != nil {
		return nil, err
	}
	switch name {
	case Kea:
		return w.kea(ctx, false)
	case "kea-persist":
		return w.kea(ctx, true)
	}
	return w.dnsmasq(ctx)
}

func (w *world) uvtep(ctx context.Context, binary, probe string) (*proc.Process, error) {
	file, err := w.write("uvtep.yaml", `underlay: {local: 127.0.0.1}
state: %q
api: {socket: %q, http: ""}
segments:
  - vni: 100
    mtu: 1450
    ports: [{tap: bench0, netns: %s, rename: %s}]
    dhcp: {subnet: %s, server: %s, ranges: [%s-%s], lease: 1h, probe: %s}
`, w.in("state"), w.in("uvtep.sock"), w.client, clientIf, &subnet, serverIP, firstIP, lastIP, probe)
	if err != nil {
		return nil, err
	}
	p, err := w.spawn(nil, binary, "run", "-c", file)
	if err != nil {
		return nil, err
	}
	if err := p.Await(ctx, func() bool { return p.Says("ready") }); err != nil {
		return nil, err
	}
	return p, inside(w.client, func(h *netlink.Handle) error { return setUp(h, clientIf, clientIP) })
}

// cable joins the two namespaces for a server that wants an interface.
func (w *world) cable(ctx context.Context) error {
	other, err := netns.Open(w.client)
	if err != nil {
		return err
	}
	defer other.Close()
	err = inside(w.server, func(h *netlink.Handle) error {
		a := netlink.NewLinkAttrs()
		a.Name = serverIf
		if err := h.LinkAdd(&netlink.Veth{LinkAttrs: a, PeerName: clientIf, PeerNamespace: netlink.NsFd(other.Fd())}); err != nil {
			return err
		}
		return setUp(h, serverIf, serverIP)
	})
	if err != nil {
		return err
	}
	if err := inside(w.client, func(h *netlink.Handle) error { return setUp(h, clientIf, clientIP) }); err != nil {
		return err
	}
	// Kea looks once whether the interface runs, which the kernel tells late.
	return inside(w.server, func(h *netlink.Handle) error {
		for ctx.Err() == nil {
			link, err := h.LinkByName(serverIf)
			if err != nil {
				return err
			}
			if a := link.Attrs(); a.RawFlags&unix.IFF_RUNNING != 0 && a.OperState == netlink.OperUp {
				return nil
			}
			time.Sleep(10 * time.Millisecond)
		}
		return ctx.Err()
	})
}

// kea has the threads and the queue that its manual recommends for memfile.
func (w *world) kea(ctx context.Context, persist bool) (*proc.Process, error) {
	file, err := w.write("kea.json", `{"Dhcp4": {
  "interfaces-config": {"interfaces": [%q], "dhcp-socket-type": "raw"},
  "lease-database": {"type": "memfile", "persist": %t, "name": %q, "lfc-interval": 0},
  "multi-threading": {"enable-multi-threading": true, "thread-pool-size": 4, "packet-queue-size": 28},
  "valid-lifetime": 3600,
  "subnet4": [{"id": 1, "subnet": %q, "interface": %q, "pools": [{"pool": "%s - %s"}]}],
  "loggers": [{"name": "kea-dhcp4", "severity": "WARN", "output_options": [{"output": "stdout"}]}]
}}
`, serverIf, persist, w.in("kea.csv"), subnet.String(), serverIf, firstIP, lastIP)
	if err != nil {
		return nil, err
	}
	env := []string{"KEA_PIDFILE_DIR=" + w.dir, "KEA_LOCKFILE_DIR=" + w.dir}
	p, err := w.spawn(env, "kea-dhcp4", "-c", file)
	if err != nil {
		return nil, err
	}
	return p, p.Await(ctx, func() bool { return p.Says("DHCP4_MULTI_THREADING_INFO") })
}

func (w *world) dnsmasq(ctx context.Context) (*proc.Process, error) {
	pid := w.in("dnsmasq.pid")
	p, err := w.spawn(nil, "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--no-ping", "--quiet-dhcp",
		"--interface="+serverIf, "--bind-interfaces", "--user=root", "--group=root", "--log-facility=-", "--pid-file="+pid,
		"--dhcp-leasefile="+w.in("dnsmasq.leases"), "--dhcp-lease-max=100000", fmt.Sprintf("--dhcp-range=%s,%s,255.255.0.0,1h", firstIP, lastIP))
	if err != nil {
		return nil, err
	}
	return p, p.Await(ctx, func() bool { _, err := os.Stat(pid); return err == nil })
}

func (w *world) in(name string) string { return filepath.Join(w.dir, name) }

// write writes a configuration.
func (w *world) write(name, format string, args ...any) (string, error) {
	file := w.in(name)
	return file, os.WriteFile(file, fmt.Appendf(nil, format, args...), 0o600)
}

// spawn starts a server.
func (w *world) spawn(env []string, name string, args ...string) (*proc.Process, error) {
	p, err := proc.Start(w.server, w.in("server.log"), env, name, args...)
	if err != nil {
		return nil, err
	}
	w.procs = append(w.procs, p)
	return p, nil
}

// setUp sets an interface up and, unless that is nil, gives it an address.
func setUp(h *netlink.Handle, name string, a net.IP) error {
	link, err := h.LinkByName(name)
	if err == nil {
		err = h.LinkSetUp(link)
	}
	if err == nil && a != nil {
		err = h.AddrAdd(link, &netlink.Addr{IPNet: &net.IPNet{IP: a, Mask: subnet.Mask}})
	}
	if err != nil {
		return fmt.Errorf("set %s up: %w", name, err)
	}
	return nil
}

// inside calls fn with a netlink socket of a namespace.
func inside(ns string, fn func(*netlink.Handle) error) error {
	err := netns.Do(ns, func() error {
		h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer h.Close()
		return fn(h)
	})
	if err != nil {
		return fmt.Errorf("%s: %w", ns, err)
	}
	return nil
}
