package main

import (
	"strings"

	"github.com/spf13/cobra"
)

// helpCommand is cobra's own, but a command that there is not is an error.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use: "help [COMMAND]…", Short: "Help about any command",
		RunE: func(c *cobra.Command, args []string) error {
			of, rest, err := c.Root().Find(args)
			if err != nil {
				return usageError{err}
			}
			if len(rest) > 0 {
				return noCommand(of, rest[0])
			}
			of.InitDefaultHelpFlag()
			return of.Help()
		},
	}
}

// helpOf makes --help of a command that there is not an error, which it returns
// once root has run.
func helpOf(root *cobra.Command) (wrong func() error) {
	var err error
	help := root.HelpFunc()
	root.SetHelpFunc(func(c *cobra.Command, args []string) {
		if words := c.Flags().Args(); c.HasSubCommands() && len(words) > 0 {
			err = noCommand(c, words[0])
			return
		}
		help(c, args)
	})
	return func() error { return err }
}

// noCommand says that a command has none of that name, and which may be meant.
func noCommand(c *cobra.Command, word string) error {
	if s := c.SuggestionsFor(word); len(s) > 0 {
		return usagef("unknown command %q; did you mean %s?", strings.TrimPrefix(c.CommandPath()+" "+word, "uvtep "), s[0])
	}
	return usagef("unknown command %q", strings.TrimPrefix(c.CommandPath()+" "+word, "uvtep "))
}
