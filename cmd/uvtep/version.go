package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/uvtep/uvtep/internal/observe"
)

func versionCommand(b observe.Build) *cobra.Command {
	c := &cobra.Command{Use: "version", Short: "Version, commit, Go version", Args: cobra.NoArgs}
	asJSON := jsonFlag(c.Flags())
	c.RunE = func(c *cobra.Command, _ []string) error {
		if *asJSON {
			return writeJSON(c.OutOrStdout(), b)
		}
		_, err := fmt.Fprintf(c.OutOrStdout(), "uvtep %s (commit %s, %s)\n", b.Version, b.Commit, b.Go)
		return err
	}
	return c
}
