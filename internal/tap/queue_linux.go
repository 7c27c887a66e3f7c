package tap

import (
	"syscall"
	"unsafe"

	"github.com/uvtep/uvtep/internal/frame"
	"golang.org/x/sys/unix"
)

// queue is one queue of a TAP device. The system calls below are raw: they
// never block, so the scheduler need not be told of them, which would cost as
// much as a small frame does.
type queue struct {
	fd int
}

// Fd implements Queue.
func (q *queue) Fd() int { return q.fd }

// Read implements Queue.
func (q *queue) Read(b *frame.Batch) (int, error) {
	for n := 0; ; n++ {
		f := b.Next()
		if f == nil {
			return n, nil
		}
		buf := f.Buffer()
		r, more, err := read(q.fd, buf)
		if !more {
			return n, err
		}
		commit(b, f, r, len(buf))
	}
}

// read reads what comes next into buf, and returns how many bytes it is; more is
// false if nothing came.
func read(fd int, buf []byte) (n int, more bool, err error) {
	for {
		r, _, errno := syscall.RawSyscall(unix.SYS_READ, uintptr(fd),
			uintptr(unsafe.Pointer(unsafe.SliceData(buf))), uintptr(len(buf)))
		switch errno {
		case 0:
			return int(r), true, nil
		case unix.EINTR:
		case unix.EAGAIN:
			return 0, false, nil
		case unix.EBADFD, unix.ENODEV:
			return 0, false, ErrGone
		default:
			return 0, false, errno
		}
	}
}

// commit keeps the next frame of b, of which n bytes were read into a buffer of
// room bytes. The kernel cuts off what does not fit and does not tell.
func commit(b *frame.Batch, f *frame.Frame, n, room int) {
	if n < room {
		b.Commit(n)
		return
	}
	b.Commit(0)
	f.Drop(frame.TooBig)
}

// Write implements Queue.
func (q *queue) Write(frames []*frame.Frame) int {
	sent := 0
	for _, f := range frames {
		buf := f.Bytes()
		for {
			_, _, errno := syscall.RawSyscall(unix.SYS_WRITE, uintptr(q.fd),
				uintptr(unsafe.Pointer(unsafe.SliceData(buf))), uintptr(len(buf)))
			if errno == unix.EINTR {
				continue
			}
			if errno == 0 {
				sent++
			} else {
				f.Drop(reason(errno))
			}
			break
		}
	}
	return sent
}

// reason is why the kernel refused a frame. What there is no room for is not
// waited for: a queue has no bound unless somebody else set one, since a frame that
// is written goes up the kernel's stack before the call returns.
func reason(errno syscall.Errno) frame.Reason {
	switch errno {
	case unix.EAGAIN, unix.ENOBUFS, unix.ENOMEM:
		return frame.PortFull
	case unix.EIO, unix.EBADFD, unix.ENODEV: // EIO: the kernel side is down
		return frame.PortDown
	case unix.EMSGSIZE, unix.E2BIG:
		return frame.TooBig
	}
	return frame.PortError
}
