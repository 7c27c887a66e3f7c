package guest

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/uvtep/uvtep/internal/netns"
)

// Apply gives the interface the lease's address, MTU and routes. The address
// ends with the lease, as nobody renews it.
func (l Lease) Apply(ns, ifname string) error {
	err := netns.Do(ns, func() error {
		h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer h.Close()
		ifi, err := h.LinkByName(ifname)
		if err != nil {
			return ErrNoInterface
		}
		if l.MTU != 0 && l.MTU != ifi.Attrs().MTU {
			if err := h.LinkSetMTU(ifi, l.MTU); err != nil {
				return fmt.Errorf("set MTU %d: %w", l.MTU, err)
			}
		}
		seconds := int(l.Duration.Seconds())
		err = h.AddrReplace(ifi, &netlink.Addr{IPNet: ipNet(l.Address), ValidLft: seconds, PreferedLft: seconds})
		if err != nil {
			return fmt.Errorf("add address %s: %w", l.Address, err)
		}
		routes := l.Routes
		if l.Gateway.IsValid() {
			routes = []Route{{To: netip.PrefixFrom(netip.IPv4Unspecified(), 0), Via: l.Gateway}}
		}
		for _, r := range routes {
			route := &netlink.Route{LinkIndex: ifi.Attrs().Index, Dst: ipNet(r.To)}
			if r.Via.IsUnspecified() {
				route.Scope = netlink.SCOPE_LINK
			} else {
				route.Gw = r.Via.AsSlice()
			}
			if err := h.RouteReplace(route); err != nil {
				return fmt.Errorf("add route to %s via %s: %w", r.To, r.Via, err)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("configure %s in %s: %w", ifname, ns, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
