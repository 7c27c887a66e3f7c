package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/uvtep/uvtep/bench/proc"
	"github.com/uvtep/uvtep/internal/netns"
)

const (
	underlayIf = "eth0" // of a host
	guestIf    = "eth0" // of a guest
	vni        = 100
	vxlanPort  = 4789
	pathTries  = 10 * time.Second // for the first datagram to find its way
)

// hostAddr is the underlay address of a system's host, 0 or 1. Systems do not
// meet, so that all have the same.
func hostAddr(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 9, 0, byte(i + 1)}) }

// guestAddr is the address of the guest on that host.
func guestAddr(i int) netip.Addr { return netip.AddrFrom4([4]byte{192, 168, 100, byte(i + 1)}) }

// world is all that a run makes on this machine, to be taken away again.
type world struct {
	dir    string // for files of processes
	prefix string // of the namespaces' names
	names  []string
	procs  []*proc.Process
	pairs  []*udpPair
}

// runDir is short: the path of a Unix socket has at most 107 bytes.
const runDir = "/run"

func newWorld() (*world, error) {
	dir, err := os.MkdirTemp(runDir, fmt.Sprintf("uvtep-bench-%d-", os.Getpid()))
	if err != nil {
		return nil, err
	}
	return &world{dir: dir, prefix: fmt.Sprintf("uvbench-%d-", os.Getpid())}, nil
}

// close takes all of it away. Links go with their namespaces.
func (w *world) close() error {
	for _, p := range w.pairs {
		p.close()
	}
	var ending sync.WaitGroup
	for _, p := range w.procs {
		ending.Go(p.End)
	}
	ending.Wait()
	var err error
	for _, name := range w.names {
		err = errors.Join(err, netns.Delete(name))
	}
	return errors.Join(err, os.RemoveAll(w.dir))
}

// system is a System that stands.
type system struct {
	System
	world  *world
	hosts  [2]string // namespaces, which have underlayIf
	guests [2]string // namespaces, which have guestIf with guestAddr
	procs  []*proc.Process
	udp    *udpPair
	plain  [2]map[string]bool // features of the underlay as they were at first
}

// build makes the namespaces, the underlay, and what is particular to the
// system, and returns when a datagram has been there and back.
func (w *world) build(ctx context.Context, about System, o Options) (*system, error) {
	s := &system{System: about, world: w}
	for i := range 2 {
		for kind, name := range map[string]*string{"h": &s.hosts[i], "g": &s.guests[i]} {
			*name = fmt.Sprintf("%s%s-%s%d", w.prefix, s.Name, kind, i+1)
			if err := netns.Create(*name); err != nil {
				return nil, err
			}
			w.names = append(w.names, *name)
			if err := inside(*name, func(h *netlink.Handle) error { return setUp(h, "lo") }); err != nil {
				return nil, err
			}
		}
	}
	if err := s.cable(); err != nil {
		return nil, fmt.Errorf("underlay: %w", err)
	}
	if err := s.raise(ctx, o); err != nil {
		return nil, err
	}
	return s, s.join(ctx)
}

// raise makes what carries frames between the underlay and the guests.
func (s *system) raise(ctx context.Context, o Options) error {
	switch s.Name {
	case Kernel:
		return s.raiseKernel(false)
	case "kernel-bridge":
		return s.raiseKernel(true)
	case "ovs":
		return s.raiseOVS(ctx)
	case "uvtep":
		return s.raiseUvtep(ctx, o, "auto")
	case "uvtep-offload-off":
		return s.raiseUvtep(ctx, o, "off")
	}
	return fmt.Errorf("%w: system %q", ErrOptions, s.Name)
}

// cable joins the hosts' underlay interfaces and remembers their features.
func (s *system) cable() error {
	other, err := netns.Open(s.hosts[1])
	if err != nil {
		return err
	}
	defer other.Close()
	err = inside(s.hosts[0], func(h *netlink.Handle) error {
		if err := h.LinkAdd(&netlink.Veth{LinkAttrs: attrs(underlayIf), PeerName: underlayIf, PeerNamespace: netlink.NsFd(other.Fd())}); err != nil {
			return err
		}
		return setUp(h, underlayIf)
	})
	if err != nil {
		return err
	}
	if err := inside(s.hosts[1], func(h *netlink.Handle) error { return setUp(h, underlayIf) }); err != nil {
		return err
	}
	for i, ns := range s.hosts {
		if s.plain[i], err = features(ns, underlayIf); err != nil {
			return err
		}
	}
	return nil
}

// numberHosts gives the underlay interfaces their addresses.
func (s *system) numberHosts() error {
	for i, ns := range s.hosts {
		if err := inside(ns, func(h *netlink.Handle) error { return number4(h, underlayIf, hostAddr(i)) }); err != nil {
			return err
		}
	}
	return nil
}

// join makes the guests' interfaces usable and waits until they reach each other.
func (s *system) join(ctx context.Context) error {
	for i, ns := range s.guests {
		err := inside(ns, func(h *netlink.Handle) error {
			link, err := h.LinkByName(guestIf)
			if err != nil {
				return fmt.Errorf("%s: %w", guestIf, err)
			}
			if err := h.LinkSetMTU(link, mtu); err != nil {
				return fmt.Errorf("%s: MTU %d: %w", guestIf, mtu, err)
			}
			if err := h.LinkSetUp(link); err != nil {
				return err
			}
			return number4(h, guestIf, guestAddr(i))
		})
		if err != nil {
			return err
		}
	}
	var err error
	if s.udp, err = newUDPPair(s.guests[0], s.guests[1]); err != nil {
		return err
	}
	s.world.pairs = append(s.world.pairs, s.udp)
	for deadline := time.Now().Add(pathTries); ; {
		_, err := s.udp.roundTrips(ctx, shortest)
		if err == nil || ctx.Err() != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the guests did not reach each other within %s: %w", pathTries, err)
		}
	}
}

// spawn starts a process of the system in one of its hosts.
func (s *system) spawn(host int, env []string, name string, args ...string) (*proc.Process, error) {
	log := filepath.Join(s.world.dir, fmt.Sprintf("%s-%d.log", s.Name, len(s.procs)))
	p, err := proc.Start(s.hosts[host], log, env, name, args...)
	if err != nil {
		return nil, err
	}
	s.procs = append(s.procs, p)
	s.world.procs = append(s.world.procs, p)
	return p, nil
}

// set makes the underlay behave as a mode wants it.
func (s *system) set(m Mode) error {
	for i, ns := range s.hosts {
		want := wired(s.plain[i])
		if m == Virt {
			for name := range want {
				want[name] = s.plain[i][name]
			}
		}
		if err := setFeatures(ns, underlayIf, want); err != nil {
			return fmt.Errorf("mode %s: %w", m, err)
		}
	}
	return nil
}

func attrs(name string) netlink.LinkAttrs {
	a := netlink.NewLinkAttrs()
	a.Name = name
	return a
}

func setUp(h *netlink.Handle, name string) error {
	link, err := h.LinkByName(name)
	if err == nil {
		err = h.LinkSetUp(link)
	}
	if err != nil {
		return fmt.Errorf("set %s up: %w", name, err)
	}
	return nil
}

// number4 gives an interface an address of a /24.
func number4(h *netlink.Handle, name string, a netip.Addr) error {
	link, err := h.LinkByName(name)
	if err == nil {
		err = h.AddrAdd(link, &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(24, 32)}})
	}
	if err != nil {
		return fmt.Errorf("address %s of %s: %w", a, name, err)
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

// hand moves an interface into a namespace, under a new name.
func hand(h *netlink.Handle, link netlink.Link, to, name string) error {
	ns, err := netns.Open(to)
	if err != nil {
		return err
	}
	defer ns.Close()
	if err := h.LinkSetNsFd(link, int(ns.Fd())); err != nil {
		return fmt.Errorf("move %s to %s: %w", link.Attrs().Name, to, err)
	}
	return inside(to, func(h *netlink.Handle) error {
		moved, err := h.LinkByName(link.Attrs().Name)
		if err == nil {
			err = h.LinkSetName(moved, name)
		}
		return err
	})
}
