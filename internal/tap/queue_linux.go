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
	for n := 0; ; {
		f := b.Next()
		if f == nil {
			return n, nil
		}
		buf := f.Buffer()
		r, _, errno := syscall.RawSyscall(unix.SYS_READ, uintptr(q.fd),
			uintptr(unsafe.Pointer(unsafe.SliceData(buf))), uintptr(len(buf)))
		switch errno {
		case 0:
			if int(r) < len(buf) {
				b.Commit(int(r))
			} else {
				// The kernel cuts off what does not fit and does not tell.
				b.Commit(0)
				f.Drop(frame.TooBig)
			}
			n++
		case unix.EINTR:
		case unix.EAGAIN:
			return n, nil
		case unix.EBADFD, unix.ENODEV:
			return n, ErrGone
		default:
			return n, errno
		}
	}
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

// reason is why the kernel refused a frame.
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
