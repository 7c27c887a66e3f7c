package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/uvtep/uvtep/internal/netns"
)

// Exec becomes a command in the namespace of a host or a guest: it returns only
// if that fails; ErrNoCommand means that there is none of that name. In a host $UVTEP_SOCKET is its daemon's socket, so that uvtep's
// commands talk to it; everywhere "uvtep" is the lab's own program.
func (l *Lab) Exec(node string, argv []string) error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("%s: %w: run it with sudo", l, ErrNotRoot)
	}
	if err := l.Whole(); err != nil {
		return err
	}
	ns, host, err := l.node(node)
	if err != nil {
		return err
	}
	if err := os.Setenv("PATH", filepath.Dir(l.Binary)+string(os.PathListSeparator)+os.Getenv("PATH")); err != nil {
		return fmt.Errorf("%s: %w", l, err)
	}
	path, err := exec.LookPath(argv[0])
	switch {
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s: %q: %w", l, argv[0], ErrNoCommand)
	case err != nil:
		return fmt.Errorf("%s: %w", l, err)
	}
	env := slices.DeleteFunc(os.Environ(), func(e string) bool { return strings.HasPrefix(e, "UVTEP_SOCKET=") })
	if host != nil {
		env = append(env, "UVTEP_SOCKET="+host.Socket)
	}
	if err := netns.Exec(ns, path, argv, env); err != nil {
		return fmt.Errorf("%s: %s: %w", l, node, err)
	}
	return nil
}
