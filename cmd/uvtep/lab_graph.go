package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/uvtep/uvtep/internal/lab/graph"
)

func labGraphCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "graph", Short: "Draw a lab as an SVG: underlay, hosts, segments and guests", Args: noArgs,
		Example: "  uvtep lab graph -o lab.svg",
	}
	name := labNameFlag(c.Flags())
	file := c.Flags().StringP("output", "o", "", "write to `FILE` instead of the standard output")
	c.RunE = func(c *cobra.Command, _ []string) error {
		l, err := load(*name)
		if err != nil {
			return err
		}
		if err := l.Whole(); err != nil {
			return err
		}
		svg := graph.SVG(l)
		if *file == "" {
			_, err = c.OutOrStdout().Write(svg)
			return err
		}
		return os.WriteFile(*file, svg, 0o644)
	}
	return c
}
