package main

import (
	"cmp"
	"math"
	"path"

	"github.com/spf13/cobra"

	"github.com/uvtep/uvtep/internal/control"
)

func portCommand() *cobra.Command {
	c := group(&cobra.Command{Use: "port", Short: "Add and remove ports of a running uvtep"})
	client := clientFlag(c)
	c.AddCommand(portAddCommand(client), portDelCommand(client))
	return c
}

func portAddCommand(client func() *control.Client) *cobra.Command {
	c := &cobra.Command{
		Use: "add --vni N (--tap NAME | --stream PATH | --nic NAME)", Short: "Add a port", Args: noArgs,
		Long: "Add a port. It stays until it is removed or the daemon stops: to keep it, list it in the configuration too.",
	}
	var p control.NewPort
	vni := vniFlag(c.Flags(), "segment")
	mac := macFlag(c.Flags(), "hardware address of the kernel side")
	f := c.Flags()
	f.StringVar(&p.TAP, "tap", "", "TAP device; created if it is not there. Also the port's name")
	f.StringVar(&p.Stream, "stream", "", "socket that QEMU connects to (-netdev stream). The last element of its path is the port's name")
	f.StringVar(&p.NIC, "nic", "", "interface whose frames enter the segment, all of them. Also the port's name")
	f.StringVar(&p.NetNS, "netns", "", "network namespace, name or path, that its kernel side is moved to, or that the interface of --nic is in")
	f.StringVar(&p.Rename, "rename", "", "what its kernel side is called there")
	f.StringVar(&p.Bridge, "bridge", "", "Linux bridge that its kernel side is enslaved to")
	f.BoolVar(&p.Isolated, "isolated", false, "exchange no frames with other isolated ports")
	f.IntVar(&p.MaxMACs, "max-macs", 0, "limit of learned MACs (default: the segment's)")
	f.IntVar(&p.MaxLeases, "max-leases", 0, "limit of its clients' DHCP leases (default: none)")
	f.IntVar(&p.DHCPRate, "dhcp-rate", 0, "limit of DHCP messages a second (default: none)")
	f.BoolVar(&p.DHCPCheckMAC, "dhcp-check-mac", false, "serve only DHCP clients that are the source of their frame")
	storm := f.Int("storm", 0, "packets a second that it may flood, of broadcasts, multicasts and unknown unicasts each (default: no limit)")
	f.Uint16Var(&p.GBP, "gbp", 0, "group policy id of its frames (default: none)")
	allow := f.UintSlice("gbp-allow", nil, "group policy ids of the frames it gets, 0 being those without one (default: all frames)")
	f.StringVar(&p.Bind, "bind", "", "who may send: none, lease or static (default: none)")
	f.Var((*bindingsValue)(&p.Addresses), "address", "station and address that may send; may be repeated")
	trusted := f.Bool("trusted", false, "may send as DHCP server, as router and from protected MACs (default: as the segment needs it)")
	require(c, "vni")
	c.RunE = func(c *cobra.Command, _ []string) error {
		for _, id := range *allow {
			if id > math.MaxUint16 {
				return usagef("--gbp-allow: %d is outside 0..65535", id)
			}
			p.GBPAllow = append(p.GBPAllow, uint16(id))
		}
		if err := exactlyOne(c, "tap", "stream", "nic"); err != nil {
			return err
		}
		p.Storm = control.Storm{Broadcast: *storm, Multicast: *storm, Unknown: *storm}
		if c.Flags().Changed("trusted") {
			p.Trusted = trusted
		}
		if c.Flags().Changed("mac") {
			p.MAC = mac
		}
		return client().AddPort(c.Context(), *vni, p)
	}
	return c
}

func portDelCommand(client func() *control.Client) *cobra.Command {
	c := &cobra.Command{
		Use: "del --vni N (--tap NAME | --stream PATH | --nic NAME)", Short: "Remove a port", Args: noArgs,
		Long: "Remove a port. One that the configuration lists comes back with the next reload.",
	}
	vni := vniFlag(c.Flags(), "segment")
	tap := c.Flags().String("tap", "", "the port's name: its TAP device")
	stream := c.Flags().String("stream", "", "path of its socket, or the last element of it")
	nic := c.Flags().String("nic", "", "its interface")
	require(c, "vni")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := exactlyOne(c, "tap", "stream", "nic"); err != nil {
			return err
		}
		return client().DeletePort(c.Context(), *vni, cmp.Or(*tap, *nic, path.Base(*stream)))
	}
	return c
}
