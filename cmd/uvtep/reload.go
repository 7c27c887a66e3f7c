package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func reloadCommand() *cobra.Command {
	c := &cobra.Command{Use: "reload", Short: "Make a running uvtep read its configuration again: all of it or nothing", Args: noArgs}
	client := clientFlag(c)
	asJSON := jsonFlag(c.Flags())
	c.RunE = func(c *cobra.Command, _ []string) error {
		done, err := client().Reload(c.Context())
		if err != nil {
			return err
		}
		if *asJSON {
			return writeJSON(c.OutOrStdout(), done)
		}
		if len(done.Changes) == 0 {
			fmt.Fprintln(c.OutOrStdout(), "nothing differs")
		}
		for _, line := range done.Changes {
			fmt.Fprintln(c.OutOrStdout(), line)
		}
		return nil
	}
	return c
}
