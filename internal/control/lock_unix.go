//go:build unix

package control

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// lockWait is how long another program may hold the lock. Daemons hold it for an
// instant; but whoever can read the directory can lock it.
const lockWait = 2 * time.Second

// lockDir takes an exclusive lock on a directory, which leaves nothing behind.
func lockDir(dir string) (unlock func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(lockWait); ; time.Sleep(10 * time.Millisecond) {
		switch err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); {
		case err == nil:
			return func() { f.Close() }, nil
		case errors.Is(err, unix.EINTR):
		case !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(deadline):
			f.Close()
			return nil, err
		}
	}
}
