package lab

import (
	"context"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/uvtep/uvtep/internal/netns"
)

// atOnce bounds what is made side by side; the kernel does most of it in turn.
const atOnce = 16

// namespaces are the names of all that a lab makes.
func (l *Lab) namespaces() []string {
	names := []string{l.NetNS}
	for _, h := range l.Hosts {
		names = append(names, h.NetNS)
	}
	for _, g := range l.Guests {
		names = append(names, g.NetNS)
	}
	return names
}

// makeNamespaces makes them all, with their loopbacks up.
func (l *Lab) makeNamespaces(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for _, name := range l.namespaces() {
		group.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := netns.Create(name); err != nil {
				return err
			}
			return inside(name, func(h *netlink.Handle) error { return setUp(h, "lo") })
		})
	}
	return group.Wait()
}

// makeUnderlay joins the hosts by a bridge in a namespace of its own, and gives
// them their addresses.
func (l *Lab) makeUnderlay(ctx context.Context) error {
	snooping := false // nobody sends queries here, so there is nothing to learn from
	bridge := &netlink.Bridge{LinkAttrs: attrs("br0", l.MTU), MulticastSnooping: &snooping}
	err := inside(l.NetNS, func(h *netlink.Handle) error {
		if err := h.LinkAdd(bridge); err != nil {
			return fmt.Errorf("add the bridge br0: %w", err)
		}
		if err := h.LinkSetUp(bridge); err != nil {
			return err
		}
		for _, host := range l.Hosts {
			if err := plug(h, bridge, host, l.MTU); err != nil {
				return fmt.Errorf("cable to %s: %w", host.Name, err)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	macs := make([]net.HardwareAddr, len(l.Hosts))
	group, made := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for i, host := range l.Hosts {
		group.Go(func() error {
			if err := made.Err(); err != nil {
				return err
			}
			return inside(host.NetNS, func(h *netlink.Handle) error {
				link, err := h.LinkByName(guestInterface)
				if err != nil {
					return fmt.Errorf("%s: %w", guestInterface, err)
				}
				// Nobody else is on this net: an IPv6 address need not wait
				// until it has proved to be unique.
				a := &netlink.Addr{IPNet: &net.IPNet{
					IP:   host.Underlay.Addr().AsSlice(),
					Mask: net.CIDRMask(host.Underlay.Bits(), host.Underlay.Addr().BitLen()),
				}}
				if host.Underlay.Addr().Is6() {
					a.Flags = unix.IFA_F_NODAD
				}
				if err := h.AddrAdd(link, a); err != nil {
					return fmt.Errorf("add the address %s: %w", host.Underlay, err)
				}
				macs[i] = link.Attrs().HardwareAddr
				return h.LinkSetUp(link)
			})
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return l.introduce(ctx, macs)
}

// introduce tells every host the hardware addresses of all others. What is
// permanent does not count against the kernel's limit of neighbours, 1024 for
// all namespaces together unless somebody raises it; 33 hosts that each find 32
// others would be more.
func (l *Lab) introduce(ctx context.Context, macs []net.HardwareAddr) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for _, host := range l.Hosts {
		group.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			return inside(host.NetNS, func(h *netlink.Handle) error {
				link, err := h.LinkByName(guestInterface)
				if err != nil {
					return fmt.Errorf("%s: %w", guestInterface, err)
				}
				for i, other := range l.Hosts {
					if other == host {
						continue
					}
					err := h.NeighSet(&netlink.Neigh{
						LinkIndex: link.Attrs().Index, State: netlink.NUD_PERMANENT,
						IP: other.Underlay.Addr().AsSlice(), HardwareAddr: macs[i],
					})
					if err != nil {
						return fmt.Errorf("add the neighbour %s: %w", other.Name, err)
					}
				}
				return nil
			})
		})
	}
	return group.Wait()
}

// plug draws a cable from the bridge to a host.
func plug(h *netlink.Handle, bridge *netlink.Bridge, host *Host, mtu int) error {
	ns, err := netns.Open(host.NetNS)
	if err != nil {
		return err
	}
	defer ns.Close()
	a := attrs(host.Name, mtu)
	a.MasterIndex = bridge.Index
	veth := &netlink.Veth{LinkAttrs: a, PeerName: guestInterface, PeerNamespace: netlink.NsFd(ns.Fd())}
	if err := h.LinkAdd(veth); err != nil {
		return err
	}
	return h.LinkSetUp(veth)
}

func attrs(name string, mtu int) netlink.LinkAttrs {
	a := netlink.NewLinkAttrs()
	a.Name, a.MTU = name, mtu
	return a
}

func setUp(h *netlink.Handle, name string) error {
	link, err := h.LinkByName(name)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := h.LinkSetUp(link); err != nil {
		return fmt.Errorf("set %s up: %w", name, err)
	}
	return nil
}

// inside calls fn with a netlink socket of a namespace.
func inside(name string, fn func(*netlink.Handle) error) error {
	err := netns.Do(name, func() error {
		h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer h.Close()
		return fn(h)
	})
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}
