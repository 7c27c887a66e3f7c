package main

import (
	"errors"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/uvtep/uvtep/bench/e2e"
	"github.com/uvtep/uvtep/internal/observe"
)

// What --quick makes of a run.
const (
	quickRounds = 1
	quickTime   = time.Second
	quickTrial  = 250 * time.Millisecond
)

func benchE2ECommand(b observe.Build) *cobra.Command {
	c := &cobra.Command{
		Use: "e2e", Short: "Measure end to end, beside the kernel's vxlan and Open vSwitch", Args: noArgs,
		Long: `Measure end to end, beside the kernel's vxlan and Open vSwitch's userspace
datapath. All of them stand side by side in network namespaces, and are measured
in turn: TCP with 1 and 4 streams and the processor time it takes, the highest
rate of 64-byte frames without loss, round trips, memory. Mode "virt" lets
super-frames cross the underlay whole, mode "wire" cuts them as a cable would.
It needs root, takes about four minutes, and leaves nothing behind.

Nothing else should run on the machine meanwhile.`,
		Example: "  uvtep bench e2e --out results\n  uvtep bench e2e --quick --systems kernel,uvtep,uvtep-offload-off",
	}
	o := e2e.Options{Version: b.Version}
	f := c.Flags()
	f.IntVar(&o.Rounds, "rounds", 3, "measure everything `N` times")
	f.DurationVar(&o.Time, "time", 2*time.Second, "how long TCP is measured")
	f.DurationVar(&o.Trial, "trial", time.Second, "how long a rate is tried, and round trips are measured")
	f.StringSliceVar(&o.Systems, "systems", e2e.DefaultSystems(), "what is measured: `NAMES` out of "+strings.Join(e2e.SystemNames(), ", "))
	modes := f.StringSlice("modes", []string{string(e2e.Virt), string(e2e.Wire)}, "how the underlay is: `MODES`")
	f.StringVar(&o.Generator, "generator", e2e.Auto, "`WHO` makes TCP traffic: iperf3, builtin, or auto (iperf3 where it is installed)")
	quick := f.Bool("quick", false, "one short round: not for comparing, but to see whether everything works")
	out := f.String("out", "", "write JSON and pictures (SVG) into `DIR`")
	asJSON := jsonFlag(f)
	c.RunE = func(c *cobra.Command, _ []string) error {
		for _, m := range *modes {
			o.Modes = append(o.Modes, e2e.Mode(m))
		}
		if *quick {
			unless := func(flag string, set func()) {
				if !f.Changed(flag) {
					set()
				}
			}
			unless("rounds", func() { o.Rounds = quickRounds })
			unless("time", func() { o.Time = quickTime })
			unless("trial", func() { o.Trial = quickTrial })
		}
		return benchE2E(c, o, *out, *asJSON)
	}
	return c
}

func benchE2E(c *cobra.Command, o e2e.Options, out string, asJSON bool) error {
	ctx, stop := labContext(c.Context())
	defer stop()
	people := c.OutOrStdout()
	if asJSON {
		people = c.ErrOrStderr()
	}
	s := e2e.NewScreen(people, os.Environ())
	defer s.Close()
	if !asJSON || s.Live() {
		o.Progress = s.Event
	}
	r, err := e2e.Run(ctx, o)
	if errors.Is(err, e2e.ErrOptions) {
		return usageError{err}
	}
	if r == nil {
		return err
	}
	var files []string
	var unwritten error
	if out != "" {
		files, unwritten = r.Write(out)
	}
	if !asJSON {
		s.Report(r, files)
	}
	err = errors.Join(err, unwritten, r.Err(), s.Close())
	if asJSON {
		err = errors.Join(err, writeJSON(c.OutOrStdout(), r))
	}
	return err
}
