package main

import (
	"cmp"
	"fmt"
	"slices"
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
		Long: `Take back the lease of an address or of a delegated prefix of IPv6; its client is
not told, and is refused when it renews. Where nobody has a lease, remove the
reservation that "uvtep lease reserve" made. One of the configuration's is taken
out there.`,
	}
	vni := vniFlag(c.Flags(), "segment")
	ip := leaseFlag(c.Flags(), "address of the lease, or its prefix")
	require(c, "vni", "ip")
	c.RunE = func(c *cobra.Command, _ []string) error { return client().ReleaseLease(c.Context(), *vni, ip.addr) }
	return c
}

func leaseReserveCommand(client func() *control.Client) *cobra.Command {
	c := &cobra.Command{
		Use:   "reserve --vni N --ip IP (--mac M | --client-id HEX | --duid HEX | --port NAME | --hostname NAME)",
		Short: "Keep an address for a client", Args: noArgs,
		Long: `Keep an address, or a prefix of IPv6 that is delegated, for a client: at once, and
over restarts, until "uvtep lease release". A client of IPv4 is told by --mac,
--client-id, --port or --hostname alone, one of IPv6 by --mac, --duid or --port.`,
	}
	vni := vniFlag(c.Flags(), "segment")
	ip := leaseFlag(c.Flags(), "address that is kept, or prefix")
	mac := macFlag(c.Flags(), "whose it is, by hardware address")
	id := clientIDFlag(c.Flags(), "whose it is, by option 61 in hexadecimal, its type byte included")
	duid := duidFlag(c.Flags(), "whose it is, by its DUID in hexadecimal (IPv6)")
	port := c.Flags().String("port", "", "whose it is, by the local port that it is behind")
	hostname := c.Flags().String("hostname", "", "host name that the client is told; without the others: whose it is")
	require(c, "vni", "ip")
	c.RunE = func(c *cobra.Command, _ []string) error {
		owners := []string{"mac", "client-id", "duid", "port"}
		if f := c.Flags(); !slices.ContainsFunc(owners, f.Changed) {
			owners = append(owners, "hostname") // which names who has no other name
		}
		if err := exactlyOne(c, owners...); err != nil {
			return err
		}
		r := control.Reservation{ClientID: *id, DUID: *duid, Port: *port, Hostname: *hostname, Length: ip.length}
		if c.Flags().Changed("mac") {
			r.MAC = mac
		}
		done, err := client().ReserveLease(c.Context(), *vni, ip.addr, r)
		if err != nil {
			return err
		}
		if l := done.HeldBy; l != nil {
			fmt.Fprintf(c.ErrOrStderr(), "uvtep: reserved, but %s; to end that now: uvtep lease release --vni %v --ip %s\n", heldBy(l), *vni, ip.addr)
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
