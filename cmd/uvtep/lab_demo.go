package main

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/uvtep/uvtep/internal/lab"
	"github.com/uvtep/uvtep/internal/lab/screen"
)

func labDemoCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "demo", Short: "Make a lab, prove that it does what it should, and take it down", Args: noArgs,
		Long: `Make a lab, prove that it does what it should, and take it down.

Every guest gets its address by DHCP, pings every other guest of its segment,
asks each address for the name of who holds it, and looks at every frame that
arrives: all of them must be of its own segment.`,
	}
	options := labFlags(c.Flags(), 100, 200)
	keep := c.Flags().Bool("keep", false, "leave the lab up")
	c.RunE = func(c *cobra.Command, _ []string) error {
		o, err := options()
		if err != nil {
			return err
		}
		ctx, stop := labContext(c.Context())
		defer stop()
		s := screen.New(c.OutOrStdout(), os.Environ())
		return labError(errors.Join(runDemo(ctx, s, o, *keep), s.Close()))
	}
	return c
}

func runDemo(ctx context.Context, s *screen.Screen, o lab.Options, keep bool) error {
	start := time.Now()
	o.Progress = s.Step
	r, err := lab.Demo(ctx, o)
	if err != nil {
		return err
	}
	if !keep {
		if err := r.Lab.Down(context.WithoutCancel(ctx), s.Step); err != nil {
			return err
		}
	}
	took := time.Since(start)
	s.Report(r)
	s.Verdict(r, took)
	if keep {
		s.LookAround(r.Lab)
	}
	return nil
}
