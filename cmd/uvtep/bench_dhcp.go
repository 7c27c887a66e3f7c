package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/uvtep/uvtep/bench/dhcp"
	"github.com/uvtep/uvtep/internal/observe"
)

func benchDHCPCommand(b observe.Build) *cobra.Command {
	c := &cobra.Command{
		Use: "dhcp", Short: "Measure the DHCP server, beside Kea and dnsmasq", Args: noArgs,
		Long: `Measure the DHCP server, beside Kea and dnsmasq where they are installed: the
highest rate of whole exchanges (DISCOVER to ACK) without loss, the processor time
of one, how long an ACK takes at 2,000 a second, memory. perfdhcp plays the clients.
It needs root, takes about eight minutes, and leaves nothing behind.

Nothing else should run on the machine meanwhile.`,
		Example: "  uvtep bench dhcp -j\n  uvtep bench dhcp --rounds 1 --systems uvtep,kea,kea-persist,dnsmasq",
	}
	o := dhcp.Options{Version: b.Version}
	f := c.Flags()
	f.IntVar(&o.Rounds, "rounds", 3, "measure everything `N` times")
	f.DurationVar(&o.Time, "time", 5*time.Second, "how long a rate is tried")
	f.StringSliceVar(&o.Systems, "systems", dhcp.DefaultSystems(), "what is measured: `NAMES` out of "+strings.Join(dhcp.SystemNames(), ", "))
	f.StringVar(&o.Dir, "dir", "", "where leases are kept meanwhile: a `DIR` on a disk; by default below /var/lib")
	asJSON := jsonFlag(f)
	c.RunE = func(c *cobra.Command, _ []string) error {
		ctx, stop := labContext(c.Context())
		defer stop()
		o.Progress = func(e dhcp.Event) {
			if e.Line != "" {
				fmt.Fprintln(c.ErrOrStderr(), e.Line) // whoever does not read on still gets the result
			}
		}
		r, err := dhcp.Run(ctx, o)
		if errors.Is(err, dhcp.ErrOptions) {
			return usageError{err}
		}
		if err != nil {
			return err
		}
		if *asJSON {
			return writeJSON(c.OutOrStdout(), r)
		}
		_, err = fmt.Fprint(c.OutOrStdout(), "\n", r.Table())
		return err
	}
	return c
}
