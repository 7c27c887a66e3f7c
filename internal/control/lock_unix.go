//go:build unix

package control

import (
	"os"

	"golang.org/x/sys/unix"
)

// lockDir takes an exclusive lock on a directory, which leaves nothing behind.
// It is held for an instant only, so that waiting for it is no risk where the
// directory is the daemon's own.
func lockDir(dir string) (unlock func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}
