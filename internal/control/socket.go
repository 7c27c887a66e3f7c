package control

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// socketMode lets the owner and the socket's group in.
const socketMode = 0o660

// probeTimeout is how long a daemon may take to accept a connection before its
// socket counts as answered anyway.
const probeTimeout = time.Second

// ErrInUse is what Listen returns where another daemon answers.
var ErrInUse = errors.New("another uvtep answers")

// Listen opens the control socket at path, with mode 0660 (on Linux from its
// first moment), and makes its directory. The socket of a daemon that is gone is replaced; one that answers
// gives ErrInUse, and a file that is no socket is left alone. Closing the
// listener removes the socket.
func Listen(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("make the directory of the control socket %s: %w; choose --socket", path, reason(err))
	}
	// Two daemons that start at once must not take each other's socket for a
	// stale one.
	unlock, err := lockDir(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("lock the directory of the control socket %s: %w; another program holds it: choose --socket", path, reason(err))
	}
	defer unlock()
	if err := removeStale(path); err != nil {
		return nil, err
	}
	l, err := bind(path)
	if err != nil {
		return nil, fmt.Errorf("open the control socket %s: %w; choose --socket", path, reason(err))
	}
	// The umask may have kept the group out.
	if err := os.Chmod(path, socketMode); err != nil {
		l.Close()
		return nil, fmt.Errorf("set the mode of the control socket %s: %w", path, reason(err))
	}
	return l, nil
}

func removeStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("look at the control socket %s: %w; choose --socket", path, reason(err))
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%s is there and is no socket; move it away or choose --socket", path)
	}
	conn, err := net.DialTimeout("unix", path, probeTimeout)
	if err == nil {
		conn.Close()
	}
	if err == nil || !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("%w on %s; stop it or choose --socket", ErrInUse, path)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove the stale control socket %s: %w", path, reason(err))
	}
	return nil
}

// reason is err without the call and the path, which the text around it has.
func reason(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}
