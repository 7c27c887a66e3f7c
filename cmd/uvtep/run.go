package main

import (
	"io"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/uvtep/uvtep/internal/config"
	"github.com/uvtep/uvtep/internal/daemon"
	"github.com/uvtep/uvtep/internal/observe"
)

func runCommand(b observe.Build) *cobra.Command {
	c := &cobra.Command{
		Use: "run -c FILE", Short: "Run the daemon, in the foreground", Args: noArgs,
		Long: `Run the daemon, in the foreground. SIGHUP reloads the configuration, SIGTERM stops
cleanly.

At the configuration's api.http, ` + config.DefaultHTTP + ` unless it says otherwise, it serves to
programs of this host, read-only:
  /metrics        for Prometheus
  /v1/segments    and /v1/ports, /v1/fdb, /v1/peers, /v1/leases, /v1/dhcp, /v1/drops
                  and /v1/workers: the JSON of "uvtep show … -j"; ?vni=N of one segment
  /v1/events      the lines of "uvtep monitor", as server-sent events
  /openapi.json   a description of that API
The control socket serves the whole of it, changes included:
  curl --unix-socket ` + config.DefaultSocket + ` http://uvtep/v1/segments`,
	}
	path := configFlag(c)
	socket := daemonSocketFlag(c)
	verbose := verboseFlag(c)
	move := c.Flags().Bool("move-damaged-leases", false, "move a lease store aside that cannot be read, and begin without leases")
	c.RunE = func(c *cobra.Command, _ []string) error {
		return daemon.Run(c.Context(), daemon.Options{
			ConfigPath: *path, Socket: *socket, Logger: logger(c.ErrOrStderr(), *verbose), Build: b, MoveDamaged: *move,
		})
	}
	return c
}

func daemonSocketFlag(c *cobra.Command) *string {
	return c.Flags().String("socket", "", "control socket (default: the configuration's, else "+config.DefaultSocket+")")
}

func verboseFlag(c *cobra.Command) *bool {
	return c.Flags().BoolP("verbose", "v", false, "log details too")
}

func logger(w io.Writer, verbose bool) *slog.Logger {
	level := slog.LevelInfo
	if verbose {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level}))
}
