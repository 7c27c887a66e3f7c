package main

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/internal/control"
	"github.com/uvtep/uvtep/internal/observe"
)

func showCommand() *cobra.Command {
	c := group(&cobra.Command{Use: "show", Short: "Show what a running uvtep knows"})
	client := clientFlag(c)
	c.AddCommand(
		listCommand("segments", "Segments, their peers and ports", client, (*control.Client).Segments, observe.Segments),
		listCommand("ports", "Ports and their counters", client, (*control.Client).Ports, observe.Ports),
		listCommand("fdb", "Where each MAC lives", client, (*control.Client).FDB, observe.FDB),
		listCommand("neighbours", "Who has which address, where requests for it are answered (suppress)", client, (*control.Client).Neighbours, observe.Neighbours),
		listCommand("peers", "Remote VTEPs and their counters", client, (*control.Client).Peers, observe.Peers),
		listCommand("leases", "DHCP leases and reservations", client, (*control.Client).Leases, observe.LeasesNow),
		listCommand("dhcp", "DHCP servers and how full their pools are", client, (*control.Client).DHCP, observe.DHCP),
		listCommand("drops", "Dropped frames, by reason", client, (*control.Client).Drops, observe.Drops),
		workersCommand(client),
	)
	return c
}

func listCommand[T any](name, short string, client func() *control.Client,
	get func(*control.Client, context.Context, encap.VNI) ([]T, error), table func(io.Writer, []T) error,
) *cobra.Command {
	c := &cobra.Command{Use: name, Short: short, Args: noArgs}
	vni := vniFlag(c.Flags(), "this segment only")
	return listing(c, func(ctx context.Context) ([]T, error) { return get(client(), ctx, *vni) }, table)
}

// workersCommand takes --vni as all the others do, and shows all workers: each
// carries every segment.
func workersCommand(client func() *control.Client) *cobra.Command {
	c := &cobra.Command{Use: "workers", Short: "Workers and their counters", Args: noArgs}
	vniFlag(c.Flags(), "changes nothing: every worker carries this segment too")
	return listing(c, func(ctx context.Context) ([]control.Worker, error) { return client().Workers(ctx) }, observe.Workers)
}

func listing[T any](c *cobra.Command, get func(context.Context) ([]T, error), table func(io.Writer, []T) error) *cobra.Command {
	asJSON := jsonFlag(c.Flags())
	c.RunE = func(c *cobra.Command, _ []string) error {
		all, err := get(c.Context())
		if err != nil {
			return err
		}
		if *asJSON {
			return writeJSON(c.OutOrStdout(), all)
		}
		return table(c.OutOrStdout(), all)
	}
	return c
}
