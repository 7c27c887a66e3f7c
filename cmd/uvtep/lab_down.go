package main

import (
	"context"
	"errors"
	"os"

	"github.com/spf13/cobra"

	"github.com/uvtep/uvtep/internal/lab/screen"
)

func labDownCommand() *cobra.Command {
	c := &cobra.Command{Use: "down", Short: "Take a lab down, or what a crash left of it", Args: noArgs}
	name := labNameFlag(c.Flags())
	c.RunE = func(c *cobra.Command, _ []string) error {
		l, err := load(*name)
		if err != nil {
			return err
		}
		ctx, stop := labContext(c.Context()) // half a lab helps nobody: it is taken down all the same
		defer stop()
		s := screen.New(c.OutOrStdout(), os.Environ())
		return errors.Join(l.Down(context.WithoutCancel(ctx), s.Step), s.Close())
	}
	return c
}
