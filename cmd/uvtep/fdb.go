package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/uvtep/uvtep/internal/control"
)

func fdbCommand() *cobra.Command {
	c := group(&cobra.Command{Use: "fdb", Short: "Change the forwarding database of a running uvtep"})
	client := clientFlag(c)
	c.AddCommand(fdbAddCommand(client), fdbDelCommand(client), fdbFlushCommand(client))
	return c
}

func fdbAddCommand(client func() *control.Client) *cobra.Command {
	c := &cobra.Command{Use: "add --vni N --mac M (--dst IP | --port NAME)", Short: "Bind a MAC statically", Args: noArgs}
	vni := vniFlag(c.Flags(), "segment")
	mac := macFlag(c.Flags(), "hardware address of the guest")
	dst := addrFlag(c.Flags(), "dst", "remote VTEP that it is behind")
	port := c.Flags().String("port", "", "local port that it is behind: its tap: name")
	require(c, "vni", "mac")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := exactlyOne(c, "dst", "port"); err != nil {
			return err
		}
		to := control.StaticTarget{Port: *port}
		if dst.IsValid() {
			to.Dst = dst
		}
		return client().AddFDB(c.Context(), *vni, *mac, to)
	}
	return c
}

func fdbDelCommand(client func() *control.Client) *cobra.Command {
	c := &cobra.Command{Use: "del --vni N --mac M", Short: "Remove an entry, static or learned", Args: noArgs}
	vni := vniFlag(c.Flags(), "segment")
	mac := macFlag(c.Flags(), "hardware address of the guest")
	require(c, "vni", "mac")
	c.RunE = func(c *cobra.Command, _ []string) error { return client().DeleteFDB(c.Context(), *vni, *mac) }
	return c
}

func fdbFlushCommand(client func() *control.Client) *cobra.Command {
	c := &cobra.Command{Use: "flush --vni N", Short: "Remove the learned entries", Args: noArgs}
	vni := vniFlag(c.Flags(), "segment")
	asJSON := jsonFlag(c.Flags())
	require(c, "vni")
	c.RunE = func(c *cobra.Command, _ []string) error {
		n, err := client().FlushFDB(c.Context(), *vni)
		if err != nil {
			return err
		}
		if *asJSON {
			return writeJSON(c.OutOrStdout(), control.Flushed{Count: n})
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "%d learned entries removed\n", n)
		return err
	}
	return c
}
