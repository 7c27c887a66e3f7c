package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/uvtep/uvtep/internal/control"
)

func monitorCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "monitor [--vni N] [--kind KIND]…", Short: "Print events as JSON lines, as they happen", Args: noArgs,
		Long: `Print events of a running uvtep, one JSON object a line, until it stops or you do.
Each has "time", "kind" and "vni" (0: the daemon as a whole), and more, by its
kind:
  lease_bound, lease_renewed, lease_released, lease_expired, lease_refused,
  lease_declined: ip, mac, client_id, hostname, expires, port, vtep; of DHCPv6 also
    iaid and, of a delegated prefix, length
  address_in_use, reservation_in_use, reservation_blocked: ip, detail
  pool_high (nine tenths of a pool are in use), pool_exhausted, port_full
  store_failed, store_recovered, clock_set
  port_up, port_down: port
  peer_added, peer_learned, peer_removed: dst
  mac_frozen (it moves too often and is held where it was), mac_released: mac, and
    port or dst
  address_claimed (a station says to have what is another's): ip, mac, port, dst
  group_failed (a multicast group cannot be joined, and is tried again): group,
    detail; group_joined (at last): group
  reloaded: changes; reload_failed: detail
  missed: how many events this reader was too slow for
Later versions add kinds and keys.`,
	}
	client := clientFlag(c)
	var f control.EventFilter
	vni := vniFlag(c.Flags(), "this segment only")
	c.Flags().StringArrayVar(&f.Kinds, "kind", nil, `this kind only, or those that begin so: "lease", "port"; may be repeated`)
	c.RunE = func(c *cobra.Command, _ []string) error {
		f.VNI = *vni
		out := c.OutOrStdout()
		return client().Events(c.Context(), f, nil, func(line []byte) error {
			_, err := fmt.Fprintf(out, "%s\n", line)
			return err
		})
	}
	return c
}
