// Command uvtep is a userspace VXLAN VTEP with a DHCP server, and the tool that
// asks and tells a running one.
package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/uvtep/uvtep/internal/observe"
)

// Set by the linker: -X main.version=… -X main.commit=…
var version, commit string

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// Libraries write here what is told, in one line, by errors already.
	slog.SetDefault(slog.New(slog.DiscardHandler))
	os.Exit(execute(ctx, observe.ReadBuild(version, commit), os.Args[1:], os.Stdout, os.Stderr))
}
