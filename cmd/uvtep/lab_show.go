package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/uvtep/uvtep/internal/lab/screen"
)

func labShowCommand() *cobra.Command {
	c := &cobra.Command{Use: "show", Short: "Hosts and guests of a lab that is up", Args: noArgs}
	name := labNameFlag(c.Flags())
	asJSON := jsonFlag(c.Flags())
	c.RunE = func(c *cobra.Command, _ []string) error {
		l, err := load(*name)
		if err != nil {
			return err
		}
		if *asJSON {
			return writeJSON(c.OutOrStdout(), l)
		}
		s := screen.New(c.OutOrStdout(), os.Environ())
		s.Show(l)
		return s.Close()
	}
	return c
}
