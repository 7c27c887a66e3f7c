package e2e

import (
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/uvtep/uvtep/internal/netns"
)

// raiseKernel makes the kernel's vxlan devices, and gives them to the guests:
// the shortest way that there is, or, with a bridge, the usual one.
func (s *system) raiseKernel(bridged bool) error {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return fmt.Errorf("uname: %w", err)
	}
	s.Version = unix.ByteSliceToString(name.Release[:])
	if err := s.numberHosts(); err != nil {
		return err
	}
	for i, ns := range s.hosts {
		err := inside(ns, func(h *netlink.Handle) error {
			underlay, err := h.LinkByName(underlayIf)
			if err != nil {
				return err
			}
			vxlan := &netlink.Vxlan{
				LinkAttrs: attrs("vxlan0"), VxlanId: vni, VtepDevIndex: underlay.Attrs().Index, Port: vxlanPort,
				SrcAddr: hostAddr(i).AsSlice(), Group: hostAddr(1 - i).AsSlice(), Learning: true,
				UDPCSum: true, // or the receiver's GRO is lost
			}
			if err := h.LinkAdd(vxlan); err != nil {
				return fmt.Errorf("add a vxlan device: %w", err)
			}
			if bridged {
				return bridge(h, vxlan, s.guests[i])
			}
			return hand(h, vxlan, s.guests[i], guestIf)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// bridge joins a vxlan device and a veth pair, whose other end is the guest's.
func bridge(h *netlink.Handle, vxlan netlink.Link, guest string) error {
	snooping := false // nobody sends queries here, so there is nothing to learn from
	br := &netlink.Bridge{LinkAttrs: attrs("br0"), MulticastSnooping: &snooping}
	if err := h.LinkAdd(br); err != nil {
		return fmt.Errorf("add a bridge: %w", err)
	}
	ns, err := netns.Open(guest)
	if err != nil {
		return err
	}
	defer ns.Close()
	port := &netlink.Veth{LinkAttrs: attrs("port0"), PeerName: guestIf, PeerNamespace: netlink.NsFd(ns.Fd())}
	if err := h.LinkAdd(port); err != nil {
		return fmt.Errorf("add a veth pair: %w", err)
	}
	for _, l := range []netlink.Link{vxlan, port} {
		if err := h.LinkSetMaster(l, br); err != nil {
			return fmt.Errorf("%s: join the bridge: %w", l.Attrs().Name, err)
		}
		if err := h.LinkSetUp(l); err != nil {
			return err
		}
	}
	return h.LinkSetUp(br)
}
