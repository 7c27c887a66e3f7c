package netns

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// Exec replaces the calling program by another one inside a namespace, set up as
// by Start. The number of the process, its terminal, and who waits for it stay
// as they are, so that signals and the exit code need nobody to pass them on. It
// returns only if it fails.
func Exec(nameOrPath, path string, argv, env []string) error {
	ns, err := Open(nameOrPath)
	if err != nil {
		return err
	}
	defer ns.Close()
	// The thread that executes becomes the process: the namespaces it is in
	// are those of the new program.
	onSideThread(func() {
		if err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			err = fmt.Errorf("enter the network namespace %s: %w", nameOrPath, err)
			return
		}
		if err = ownSys(); err == nil {
			err = syscall.Exec(path, argv, env)
		}
		if err != nil {
			err = fmt.Errorf("execute %s in the network namespace %s: %w", path, nameOrPath, err)
		}
	})
	return err
}
