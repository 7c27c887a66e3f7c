package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/uvtep/uvtep/internal/observe"
)

func versionCommand(b observe.Build) *cobra.Command {
	c := &cobra.Command{Use: "version", Short: "Version, commit, Go version", Args: noArgs}
	asJSON := jsonFlag(c.Flags())
	c.RunE = func(c *cobra.Command, _ []string) error {
		if *asJSON {
			return writeJSON(c.OutOrStdout(), b)
		}
		_, err := fmt.Fprintln(c.OutOrStdout(), versionText(b))
		return err
	}
	return c
}

func versionText(b observe.Build) string {
	return fmt.Sprintf("uvtep %s (commit %s, %s)", b.Version, b.Commit, b.Go)
}
