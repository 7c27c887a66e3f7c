package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/uvtep/uvtep/internal/lab"
)

func labExecCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "exec NAME -- CMD…", Short: "Run a command in a host or guest of a lab, with its exit code",
		Long: `Run a command in a host or guest of a lab. The exit code is the command's, or 127
if there is no such command.`,
		Example: "  uvtep lab exec g1-v100 -- ping 192.168.100.11\n  uvtep lab exec h1 -- uvtep show fdb",
	}
	c.Flags().SetInterspersed(false) // what follows NAME is the command's
	name := labNameFlag(c.Flags())
	c.Args = func(_ *cobra.Command, args []string) error {
		if _, command := nodeAndCommand(args); len(command) == 0 {
			return usagef("name a host or guest, and a command to run in it")
		}
		return nil
	}
	c.RunE = func(_ *cobra.Command, args []string) error {
		l, err := load(*name)
		if err != nil {
			return err
		}
		node, command := nodeAndCommand(args)
		err = l.Exec(node, command)
		if errors.Is(err, lab.ErrNoCommand) {
			return exitError{err, exitNoCommand}
		}
		return err
	}
	return c
}

// nodeAndCommand takes NAME [--] CMD… apart.
func nodeAndCommand(args []string) (node string, command []string) {
	if len(args) == 0 {
		return "", nil
	}
	node, command = args[0], args[1:]
	if len(command) > 0 && command[0] == "--" {
		command = command[1:]
	}
	return node, command
}
