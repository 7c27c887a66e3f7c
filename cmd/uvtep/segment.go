package main

import (
	"github.com/spf13/cobra"

	"github.com/uvtep/uvtep/internal/control"
)

func segmentCommand() *cobra.Command {
	c := group(&cobra.Command{Use: "segment", Short: "Add and remove segments of a running uvtep"})
	client := clientFlag(c)
	c.AddCommand(segmentAddCommand(client), segmentDelCommand(client))
	return c
}

func segmentAddCommand(client func() *control.Client) *cobra.Command {
	c := &cobra.Command{
		Use: "add --vni N [--name NAME] [--mtu N] [--peer IP]… [--group IP] [--dhcp CIDR] [--dhcp6 CIDR]", Short: "Add a segment", Args: noArgs,
		Long: "Add a segment, without ports: uvtep port add adds those. It stays until it is\nremoved or the daemon stops: to keep it, list it in the configuration too.",
	}
	var s control.NewSegment
	vni := vniFlag(c.Flags(), "VXLAN network identifier")
	f := c.Flags()
	f.StringVar(&s.Name, "name", "", "what people call it (default: vni and its number)")
	f.IntVar(&s.MTU, "mtu", 0, "MTU of its ports, bytes (default: the underlay's less the overhead)")
	f.StringArrayVar(&s.Peers, "peer", nil, "remote VTEP that floods are replicated to; may be repeated")
	f.StringVar(&s.Group, "group", "", "multicast group that floods go to")
	f.StringVar(&s.DHCP, "dhcp", "", "subnet of a DHCPv4 server")
	f.StringVar(&s.DHCP6, "dhcp6", "", "subnet of a DHCPv6 server")
	require(c, "vni")
	c.RunE = func(c *cobra.Command, _ []string) error { return client().AddSegment(c.Context(), *vni, s) }
	return c
}

func segmentDelCommand(client func() *control.Client) *cobra.Command {
	c := &cobra.Command{
		Use: "del --vni N", Short: "Remove a segment and its ports", Args: noArgs,
		Long: "Remove a segment and its ports. One that the configuration lists comes back with\nthe next reload.",
	}
	vni := vniFlag(c.Flags(), "segment")
	require(c, "vni")
	c.RunE = func(c *cobra.Command, _ []string) error { return client().DeleteSegment(c.Context(), *vni) }
	return c
}
