package main

import (
	"errors"
	"os"

	"github.com/spf13/cobra"

	"github.com/uvtep/uvtep/internal/lab"
	"github.com/uvtep/uvtep/internal/lab/screen"
)

func labUpCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "up", Short: "Make a lab whose guests have their address by DHCP over the overlay", Args: noArgs,
		Example: "  uvtep lab up --hosts 3 --guests 6 --vni 100,200",
	}
	options := labFlags(c.Flags(), 100)
	c.RunE = func(c *cobra.Command, _ []string) error {
		o, err := options()
		if err != nil {
			return err
		}
		ctx, stop := labContext(c.Context())
		defer stop()
		s := screen.New(c.OutOrStdout(), os.Environ())
		o.Progress = s.Step
		l, err := lab.Up(ctx, o)
		if err == nil {
			s.Addresses(l)
			s.LookAround(l)
		}
		return labError(errors.Join(err, s.Close()))
	}
	return c
}
