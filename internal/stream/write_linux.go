package stream

import (
	"encoding/binary"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/uvtep/uvtep/internal/frame"
)

// writeLen is how many frames leave in one system call.
const writeLen = frame.BatchLen

// writer is what sending takes. Everything of it is under the queue's mu.
type writer struct {
	headers [writeLen][headerLen]byte
	iovecs  [2 * writeLen]unix.Iovec
	rest    []byte // of the last frame, of which the kernel took a part only
}

func (w *writer) reset() { w.rest = w.rest[:0] }

// Write implements tap.Queue. What the connection does not take is not waited for:
// a machine that does not keep up loses frames, and nobody else does.
func (q *queue) Write(frames []*frame.Frame) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	sent := 0
	for len(frames) > 0 {
		n := min(len(frames), writeLen)
		took, why := q.send(frames[:n])
		sent += took
		if took < n {
			for _, f := range frames[took:] {
				f.Drop(why)
			}
			break
		}
		frames = frames[n:]
	}
	return sent
}

// send sends frames until one finds no room, and says why that one did not.
func (q *queue) send(frames []*frame.Frame) (sent int, why frame.Reason) {
	if q.conn < 0 {
		return 0, frame.PortDown
	}
	if errno := q.sendRest(); errno != 0 {
		return 0, reason(errno)
	}
	w := &q.out
	for i, f := range frames {
		binary.BigEndian.PutUint32(w.headers[i][:], uint32(f.Len()))
		w.iovecs[2*i].Base = &w.headers[i][0]
		w.iovecs[2*i].SetLen(headerLen)
		b := f.Bytes()
		w.iovecs[2*i+1].Base = unsafe.SliceData(b)
		w.iovecs[2*i+1].SetLen(len(b))
	}
	n, errno := sendmsg(q.conn, w.iovecs[:2*len(frames)])
	if errno != 0 {
		return 0, reason(errno)
	}
	for i, f := range frames {
		size := headerLen + f.Len()
		if n < size {
			if n > 0 {
				q.keep(w.headers[i][:], f.Bytes(), n)
				return i + 1, frame.PortFull
			}
			return i, frame.PortFull
		}
		n -= size
	}
	return len(frames), frame.NotDropped
}

// keep keeps what the kernel did not take of a frame: where the next one begins
// is told by nothing but the lengths.
func (q *queue) keep(header, b []byte, taken int) {
	rest := append(append(q.out.rest, header...), b...)
	q.out.rest = rest[:copy(rest, rest[taken:])]
	q.behind.Store(true)
	_ = q.poll(unix.EPOLL_CTL_MOD, q.conn, unix.EPOLLIN|unix.EPOLLOUT)
}

// catchUp sends the rest of the last frame once there is room for it, so that it
// need not wait for the next one.
func (q *queue) catchUp() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.conn >= 0 {
		_ = q.sendRest()
	}
}

// sendRest sends the rest of the last frame. An error means that it is still there.
func (q *queue) sendRest() syscall.Errno {
	w := &q.out
	if len(w.rest) == 0 {
		return 0
	}
	w.iovecs[0].Base = &w.rest[0]
	w.iovecs[0].SetLen(len(w.rest))
	n, errno := sendmsg(q.conn, w.iovecs[:1])
	if errno != 0 {
		return errno
	}
	w.rest = w.rest[:copy(w.rest, w.rest[n:])]
	if len(w.rest) > 0 {
		return unix.EAGAIN
	}
	q.behind.Store(false)
	_ = q.poll(unix.EPOLL_CTL_MOD, q.conn, unix.EPOLLIN)
	return 0
}

// sendmsg sends as much as there is room for, without a signal where nobody is
// there any more.
func sendmsg(fd int, iovecs []unix.Iovec) (int, syscall.Errno) {
	msg := unix.Msghdr{Iov: &iovecs[0]}
	msg.SetIovlen(len(iovecs))
	for {
		n, _, errno := syscall.RawSyscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&msg)), unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
		if errno != unix.EINTR {
			return int(n), errno
		}
	}
}

// reason is why the kernel took nothing. A connection that has ended is for Read
// to find out.
func reason(errno syscall.Errno) frame.Reason {
	switch errno {
	case unix.EAGAIN, unix.ENOBUFS, unix.ENOMEM:
		return frame.PortFull
	case unix.EPIPE, unix.ECONNRESET, unix.ENOTCONN:
		return frame.PortDown
	}
	return frame.PortError
}
