package main

import (
	"cmp"
	"fmt"
	"time"

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
	c := &cobra.Command{
		Use: "release --vni N --ip IP", Short: "Take a lease back, or a reservation that is not in use", Args: noArgs,
		Long: `Take a lease back; its client is not told, and is refused when it renews. Where
nobody has a lease, remove the reservation that "uvtep lease reserve" made. One of
the configuration's is taken out there.`,
	}
	vni := vniFlag(c.Flags(), "segment")
	ip := addrFlag(c.Flags(), "ip", "address of the lease")
	require(c, "vni", "ip")
	c.RunE = func(c *cobra.Command, _ []string) error { return client().ReleaseLease(c.Context(), *vni, *ip) }
	return c
}

func leaseReserveCommand(client func() *control.Client) *cobra.Command {
	c := &cobra.Command{
		Use:   "reserve --vni N --ip IP (--mac M | --client-id HEX) [--hostname NAME]",
		Short: "Keep an address for a client, until the daemon stops", Args: noArgs,
	}
	vni := vniFlag(c.Flags(), "segment")
	ip := addrFlag(c.Flags(), "ip", "address that is kept")
	mac := macFlag(c.Flags(), "whose it is, by hardware address")
	id := clientIDFlag(c.Flags(), "whose it is, by option 61 in hexadecimal, its type byte included")
	hostname := c.Flags().String("hostname", "", "host name that the client is told")
	require(c, "vni", "ip")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := exactlyOne(c, "mac", "client-id"); err != nil {
			return err
		}
		r := control.Reservation{ClientID: *id, Hostname: *hostname}
		if *id == "" {
			r.MAC = mac
		}
		done, err := client().ReserveLease(c.Context(), *vni, *ip, r)
		if err != nil {
			return err
		}
		if l := done.HeldBy; l != nil {
			fmt.Fprintf(c.ErrOrStderr(), "uvtep: reserved, but %s; to end that now: uvtep lease release --vni %v --ip %s\n", heldBy(l), *vni, *ip)
		}
		return nil
	}
	return c
}

// heldBy says who has an address, and how long.
func heldBy(l *control.Lease) string {
	until := ""
	if l.Expires != nil {
		until = " until " + l.Expires.Local().Format(time.DateTime)
	}
	return fmt.Sprintf("%s is %s, by %s%s", l.IP, l.State, cmp.Or(l.MAC, "client id "+l.ClientID), until)
}
