package main

import (
	"github.com/spf13/cobra"

	"github.com/uvtep/uvtep/internal/daemon"
)

func validateCommand() *cobra.Command {
	c := &cobra.Command{Use: "validate -c FILE", Short: "Check a configuration; one line per fault", Args: noArgs}
	path := configFlag(c)
	c.RunE = func(*cobra.Command, []string) error { return daemon.Validate(*path) }
	return c
}

func configFlag(c *cobra.Command) *string {
	path := c.Flags().StringP("config", "c", "", "configuration file")
	require(c, "config")
	return path
}
