package main

import (
	"context"
	"net/netip"

	"github.com/spf13/cobra"

	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/internal/control"
)

func peerCommand() *cobra.Command {
	c := group(&cobra.Command{Use: "peer", Short: "Change the head-end replication list of a running uvtep"})
	client := clientFlag(c)
	c.AddCommand(
		peerChange("add", "Replicate to a remote VTEP", client, (*control.Client).AddPeer),
		peerChange("del", "No longer replicate to a remote VTEP", client, (*control.Client).DeletePeer),
	)
	return c
}

func peerChange(name, short string, client func() *control.Client,
	change func(*control.Client, context.Context, encap.VNI, netip.Addr) error,
) *cobra.Command {
	c := &cobra.Command{Use: name + " --vni N --dst IP", Short: short, Args: noArgs}
	vni := vniFlag(c.Flags(), "segment")
	dst := addrFlag(c.Flags(), "dst", "remote VTEP")
	require(c, "vni", "dst")
	c.RunE = func(c *cobra.Command, _ []string) error { return change(client(), c.Context(), *vni, *dst) }
	return c
}
