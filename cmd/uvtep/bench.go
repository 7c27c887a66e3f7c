package main

import (
	"context"
	"errors"
	"regexp"
	"time"

	"github.com/spf13/cobra"

	"github.com/uvtep/uvtep/bench"
	"github.com/uvtep/uvtep/internal/observe"
)

// benchReport is what "uvtep bench -j" prints. The keys are stable.
type benchReport struct {
	Version string         `json:"version"`
	Machine string         `json:"machine"`
	Results []bench.Result `json:"results"`
}

func benchCommand(b observe.Build) *cobra.Command {
	c := &cobra.Command{
		Use: "bench", Short: "Measure the fast path in memory, on one core", Args: cobra.NoArgs,
		Long: `Measure the fast path in memory, on one core: its steps one by one, and the
whole way of a frame through a VTEP that stands between null devices. It needs
no rights. "uvtep bench e2e" measures end to end, "uvtep bench dhcp"
the DHCP server.`,
		Example: "  uvtep bench --run 'look-up|port-to-tunnel' --for 3s",
	}
	each := c.Flags().Duration("for", time.Second, "how long each thing is measured")
	only := c.Flags().String("run", "", "only what has an id that `REGEXP` matches")
	asJSON := jsonFlag(c.Flags())
	c.RunE = func(c *cobra.Command, _ []string) error {
		which, err := regexp.Compile(*only)
		if err != nil {
			return usagef("--run: %v", err)
		}
		if *each <= 0 {
			return usagef("--for %s is no time to measure in", *each)
		}
		r := benchReport{Version: b.Version, Machine: bench.Machine(), Results: []bench.Result{}}
		if *asJSON {
			err := runBench(c.Context(), *each, which, func(one bench.Result) error {
				r.Results = append(r.Results, one)
				return nil
			})
			if err != nil {
				return err
			}
			return writeJSON(c.OutOrStdout(), r)
		}
		if err := bench.WriteHead(c.OutOrStdout()); err != nil {
			return err
		}
		return runBench(c.Context(), *each, which, func(one bench.Result) error { return bench.WriteRow(c.OutOrStdout(), one) })
	}
	c.AddCommand(benchE2ECommand(b), benchDHCPCommand(b))
	return c
}

// runBench measures what is wanted, and hands over each result as it is there.
func runBench(ctx context.Context, each time.Duration, which *regexp.Regexp, take func(bench.Result) error) error {
	found := false
	for _, s := range bench.Scenarios() {
		if !which.MatchString(s.ID()) {
			continue
		}
		found = true
		if ctx.Err() != nil {
			return errInterrupted
		}
		r, err := s.Measure(each)
		if err != nil {
			return err
		}
		if err := take(r); err != nil {
			return err
		}
	}
	if !found {
		return usagef("--run %s matches nothing that is measured", which)
	}
	return nil
}

var errInterrupted = errors.New("interrupted")
