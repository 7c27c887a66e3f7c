package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/uvtep/uvtep/internal/config"
	"github.com/uvtep/uvtep/internal/control"
	"github.com/uvtep/uvtep/internal/daemon"
	"github.com/uvtep/uvtep/internal/observe"
)

// Exit codes.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2 // wrong usage or configuration

	exitNoCommand = 127 // as shells have it: lab exec found no such command
)

// failed is an error of a command that was understood.
type failed struct{ error }

func (e failed) Unwrap() error { return e.error }

// usageError is wrong usage that only the command itself could see.
type usageError struct{ error }

// exitError is a failure with an exit code of its own.
type exitError struct {
	error
	code int
}

func (e exitError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// execute runs one command line and returns the exit code.
func execute(ctx context.Context, b observe.Build, args []string, stdout, stderr io.Writer) int {
	root := newRoot(b)
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	wrongHelp := helpOf(root)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		err = wrongHelp()
	}
	if err == nil {
		return exitDone
	}
	var (
		run    failed
		exit   exitError
		usage  usageError
		cfg    *daemon.ConfigError
		faults config.Faults
		bad    *control.InvalidConfig
	)
	switch {
	case errors.As(err, &faults):
		fmt.Fprintln(stderr, faults)
		return exitUsage
	case errors.As(err, &bad):
		fmt.Fprintln(stderr, bad)
		return exitUsage
	case !errors.As(err, &run), errors.As(err, &usage):
		if cmd.Name() == "help" {
			cmd = cmd.Root()
		}
		fmt.Fprintf(stderr, "uvtep: %s; see %s --help\n", oneLine(err), cmd.CommandPath())
		return exitUsage
	case errors.As(err, &cfg), errors.Is(err, control.ErrInvalid):
		fmt.Fprintf(stderr, "uvtep: %s\n", oneLine(err))
		return exitUsage
	}
	fmt.Fprintf(stderr, "uvtep: %s\n", oneLine(err))
	if errors.As(err, &exit) {
		return exit.code
	}
	return exitFailed
}

// oneLine is an error on one line, without what cobra adds on others.
func oneLine(err error) string {
	return strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' || r == '\t' }), "; ")
}

func newRoot(b observe.Build) *cobra.Command {
	root := group(&cobra.Command{
		Use:           "uvtep",
		Short:         "Userspace VXLAN VTEP with a DHCP server",
		SilenceErrors: true,
		SilenceUsage:  true,
	})
	root.Version = versionText(b)
	root.SetVersionTemplate("{{.Version}}\n")
	root.Flags().Bool("version", false, "print version, commit, Go version")
	root.SetHelpCommand(helpCommand())
	root.AddCommand(
		upCommand(b), runCommand(b), validateCommand(), schemaCommand(), showCommand(), fdbCommand(), peerCommand(),
		segmentCommand(), portCommand(), leaseCommand(), reloadCommand(), monitorCommand(), labCommand(), benchCommand(b), versionCommand(b),
	)
	markFailures(root)
	return root
}

// group makes a command that only has others, and says which.
func group(c *cobra.Command) *cobra.Command {
	c.Args = cobra.ArbitraryArgs
	c.SuggestionsMinimumDistance = 2
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) > 0 {
			return noCommand(c, args[0])
		}
		if !c.HasParent() {
			return c.Help()
		}
		var names []string
		for _, s := range c.Commands() {
			names = append(names, s.Name())
		}
		return usagef("%s needs a command: %s", c.CommandPath(), strings.Join(names, ", "))
	}
	return c
}

// markFailures makes errors of commands differ from those of parsing their
// flags and arguments.
func markFailures(c *cobra.Command) {
	if run := c.RunE; run != nil {
		c.RunE = func(c *cobra.Command, args []string) error {
			if err := run(c, args); err != nil {
				return failed{err}
			}
			return nil
		}
	}
	for _, s := range c.Commands() {
		markFailures(s)
	}
}

// clientFlag adds --socket, and returns what makes the client once it is parsed.
func clientFlag(c *cobra.Command) func() *control.Client {
	path := c.PersistentFlags().String("socket", "", "control socket of the daemon (default $UVTEP_SOCKET, else "+config.DefaultSocket+")")
	return func() *control.Client {
		return control.NewClient(cmp.Or(*path, os.Getenv("UVTEP_SOCKET"), config.DefaultSocket))
	}
}
