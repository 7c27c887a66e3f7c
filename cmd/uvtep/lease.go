package main

import (
	"github.com/spf13/cobra"

	"github.com/uvtep/uvtep/internal/control"
	"github.com/uvtep/uvtep/internal/observe"
)

func leaseCommand() *cobra.Command {
	c := group(&cobra.Command{Use: "lease", Short: "Show and change the DHCP leases of a running uvtep"})
	client := clientFlag(c)
	c.AddCommand(leaseShowCommand(client), leaseReleaseCommand(client), leaseReserveCommand(client))
	return c
}

func leaseShowCommand(client func() *control.Client) *cobra.Command {
	return listCommand("show", "DHCP leases and reservations", client, (*control.Client).Leases, observe.LeasesNow)
}

func leaseReleaseCommand(client func() *control.Client) *cobra.Command {
	c := &cobra.Command{Use: "release --vni N --ip IP", Short: "Take a lease back; its client is not told", Args: cobra.NoArgs}
	vni := vniFlag(c.Flags(), "segment")
	ip := addrFlag(c.Flags(), "ip", "address of the lease")
	require(c, "vni", "ip")
	c.RunE = func(c *cobra.Command, _ []string) error { return client().ReleaseLease(c.Context(), *vni, *ip) }
	return c
}

func leaseReserveCommand(client func() *control.Client) *cobra.Command {
	c := &cobra.Command{
		Use:   "reserve --vni N --ip IP (--mac M | --client-id HEX) [--hostname NAME]",
		Short: "Keep an address for a client, until the daemon stops", Args: cobra.NoArgs,
	}
	vni := vniFlag(c.Flags(), "segment")
	ip := addrFlag(c.Flags(), "ip", "address that is kept")
	mac := macFlag(c.Flags(), "whose it is, by hardware address")
	id := c.Flags().String("client-id", "", "whose it is, by option 61 in hexadecimal, its type byte included")
	hostname := c.Flags().String("hostname", "", "host name that the client is told")
	require(c, "vni", "ip")
	c.MarkFlagsOneRequired("mac", "client-id")
	c.MarkFlagsMutuallyExclusive("mac", "client-id")
	c.RunE = func(c *cobra.Command, _ []string) error {
		r := control.Reservation{ClientID: *id, Hostname: *hostname}
		if *id == "" {
			r.MAC = mac
		}
		return client().ReserveLease(c.Context(), *vni, *ip, r)
	}
	return c
}
