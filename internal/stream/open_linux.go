package stream

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/uvtep/uvtep/internal/tap"
)

// mode lets the owner of a socket and its group connect.
const mode = 0o660

// device is the socket of one virtual machine. It has one queue, as QEMU has one
// connection.
type device struct {
	path  string
	name  string
	inode uint64 // of the socket's file
	queue *queue
	ends  []tap.Queue
}

// Open listens at Config.Path. The socket of a program that is gone is replaced;
// where one listens it is ErrInUse, and a file that is no socket is left alone.
// The socket has mode 0660 from its first moment on, and is gone after Close. The
// Device is a tap.Linked: it is up while a machine is connected.
//
// There is one machine at a time. Whoever else connects is refused: it cannot take
// the place, and the traffic, of the one that is there.
func Open(cfg Config) (tap.Device, error) {
	d, err := open(cfg.Path)
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", cfg.Path, err)
	}
	return d, nil
}

func open(path string) (*device, error) {
	if len(path) > MaxPath {
		return nil, fmt.Errorf("the path of a socket has at most %d bytes; this one has %d", MaxPath, len(path))
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	listener, err := listen(path)
	if err != nil {
		return nil, explain(err, path)
	}
	d := &device{path: path, name: Name(path)}
	var st unix.Stat_t
	if err = unix.Lstat(path, &st); err == nil {
		d.inode = st.Ino
		d.queue, err = newQueue(listener)
	}
	if err != nil {
		return nil, errors.Join(err, unix.Close(listener), unix.Unlink(path))
	}
	d.ends = []tap.Queue{d.queue}
	return d, nil
}

// removeStale removes the socket of a program that is gone.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return explain(err, path)
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%w; move it away or choose another path", ErrNotSocket)
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	// One with a full backlog (EAGAIN) listens, too.
	switch err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); {
	case errors.Is(err, unix.EACCES):
		return explain(err, path)
	case !errors.Is(err, unix.ECONNREFUSED):
		return fmt.Errorf("%w; stop that program or choose another path", ErrInUse)
	}
	if err := unix.Unlink(path); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove the socket of a program that is gone: %w", explain(err, path))
	}
	return nil
}

// listen makes a listening socket that never lets in whom mode does not: Linux
// makes the file with the mode of the socket, less the umask.
func listen(path string) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	bound := false
	err = unix.Fchmod(fd, mode)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrUnix{Name: path})
		bound = err == nil
	}
	if err == nil {
		err = os.Chmod(path, mode) // the umask may have kept the group out
	}
	if err == nil {
		err = unix.Listen(fd, backlog)
	}
	if err != nil {
		unix.Close(fd)
		if bound {
			err = errors.Join(err, unix.Unlink(path))
		}
		return -1, err
	}
	return fd, nil
}

// explain makes errors of files ones that users can tell apart.
func explain(err error, path string) error {
	dir := filepath.Dir(path)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		return fmt.Errorf(`%w; make it with "mkdir -p %s"`, ErrNoDirectory, dir)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w to make a socket in %s; give uvtep that directory", ErrPermission, dir)
	case errors.Is(err, unix.EADDRINUSE):
		return fmt.Errorf("%w; stop that program or choose another path", ErrInUse)
	}
	return fmt.Errorf("listen: %w", err)
}

func (d *device) Name() string        { return d.name }
func (d *device) Queues() []tap.Queue { return d.ends }

// SetMTU has nothing to set: the interface is inside the machine, which DHCP tells
// its MTU.
func (d *device) SetMTU(int) error { return nil }

// Offload is nothing: QEMU's streams have no virtio headers.
func (d *device) Offload() tap.Offload { return 0 }

// Up implements tap.Linked.
func (d *device) Up() bool { return d.queue.up.Load() }

// Watch implements tap.Linked.
func (d *device) Watch(f func(tap.Link)) { d.queue.tell.Store(&f) }

// Close implements tap.Device.
func (d *device) Close() error {
	err := d.queue.close()
	// Somebody else may have put a socket of his own there.
	var st unix.Stat_t
	if unix.Lstat(d.path, &st) == nil && st.Ino == d.inode {
		err = errors.Join(err, unix.Unlink(d.path))
	}
	if err != nil {
		return fmt.Errorf("stream %s: %w", d.path, err)
	}
	return nil
}
