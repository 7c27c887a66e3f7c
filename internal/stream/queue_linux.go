package stream

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/tap"
)

const (
	sendBuffer = 1 << 20 // bytes that may wait for the machine, if the kernel grants it
	backlog    = 16      // connections that wait to be let in, or to be refused
)

// queue is the one queue of a port: the socket that listens, and the connection
// if there is one. Its descriptor is an epoll that holds both, which is readable
// when one of them has something, and a third one for what was read and found no
// room in the batch. The system calls of the traffic are raw, as those of TAPs.
type queue struct {
	epfd, listener, more int

	up   atomic.Bool
	tell atomic.Pointer[func(tap.Link)]

	in     splitter // the reader's, as left
	left   bool     // whole frames are left in it, and more is readable
	behind atomic.Bool

	mu   sync.Mutex // of what follows, and of closing the connection
	conn int        // -1: none; changed by the reader alone
	out  writer
}

func newQueue(listener int) (*queue, error) {
	q := &queue{listener: listener, epfd: -1, more: -1, conn: -1}
	var err error
	if q.epfd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if q.more, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return nil, errors.Join(os.NewSyscallError("eventfd", err), unix.Close(q.epfd))
	}
	for _, fd := range []int{listener, q.more} {
		if err := q.poll(unix.EPOLL_CTL_ADD, fd, unix.EPOLLIN); err != nil {
			return nil, errors.Join(err, unix.Close(q.epfd), unix.Close(q.more))
		}
	}
	return q, nil
}

func (q *queue) poll(op, fd int, events uint32) error {
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(q.epfd, op, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)}))
}

// close is called once nobody uses the queue any more.
func (q *queue) close() error {
	var errs []error
	for _, fd := range []int{q.conn, q.epfd, q.more, q.listener} {
		if fd >= 0 {
			errs = append(errs, unix.Close(fd))
		}
	}
	q.conn = -1
	q.up.Store(false)
	return errors.Join(errs...)
}

// Fd implements tap.Queue.
func (q *queue) Fd() int { return q.epfd }

// Read implements tap.Queue. It is never ErrGone: another machine may come.
func (q *queue) Read(b *frame.Batch) (int, error) {
	before := b.N
	if q.behind.Load() {
		q.catchUp()
	}
	if q.conn < 0 {
		if err := q.accept(); err != nil || q.conn < 0 {
			return 0, err
		}
	}
	if end := q.receive(b); end != (tap.Link{}) {
		q.hangUp(end)
	} else if b.N == before {
		q.refuse() // it was not the machine that woke us
	}
	q.leave()
	return b.N - before, nil
}

// receive reads until b is full or nothing is there. It says what has ended the
// connection, if it is of no more use.
func (q *queue) receive(b *frame.Batch) (end tap.Link) {
	for drained := false; ; {
		if !q.in.take(b) {
			n, _ := q.in.next()
			return tap.Link{Fault: true, What: fmt.Sprintf("the machine sent a frame of %d bytes, where 1 to %d are allowed, and was hung up on", n, MaxLen)}
		}
		if drained || b.N == len(b.Frames) {
			return end
		}
		room := q.in.room()
		n, errno := read(q.conn, room)
		switch {
		case errno == unix.EAGAIN:
			return end
		case errno != 0:
			return tap.Link{Fault: true, What: "the machine cannot be heard: " + errno.Error()}
		case n == 0:
			return tap.Link{What: "the machine has hung up"}
		}
		q.in.add(n)
		drained = n < len(room) // the next read would say so
	}
}

func read(fd int, buf []byte) (int, syscall.Errno) {
	for {
		n, _, errno := syscall.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(buf))), uintptr(len(buf)))
		if errno != unix.EINTR {
			return int(n), errno
		}
	}
}

// leave has the queue readable as long as there are frames that were read from the
// connection and that had no room in the batch: of them the kernel knows nothing.
func (q *queue) leave() {
	_, ok := q.in.next()
	if ok == q.left {
		return
	}
	q.left = ok
	var word [8]byte
	binary.NativeEndian.PutUint64(word[:], 1)
	if ok {
		_, _ = unix.Write(q.more, word[:])
	} else {
		_, _ = unix.Read(q.more, word[:])
	}
}

// accept lets the next machine in, if one has come.
func (q *queue) accept() error {
	fd, err := q.next()
	if fd < 0 {
		return err
	}
	// More than the usual maximum takes CAP_NET_ADMIN; less is no failure.
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, sendBuffer) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, sendBuffer)
	}
	if err := q.poll(unix.EPOLL_CTL_ADD, fd, unix.EPOLLIN); err != nil {
		unix.Close(fd)
		return err
	}
	if q.in.buf == nil {
		q.in.buf = make([]byte, bufferLen)
	}
	q.mu.Lock()
	q.conn = fd
	q.mu.Unlock()
	q.say(tap.Link{Up: true, What: "a machine has connected"})
	return nil
}

// next takes a connection out of the backlog, -1 if there is none.
func (q *queue) next() (int, error) {
	for {
		fd, _, err := unix.Accept4(q.listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch err {
		case nil:
			return fd, nil
		case unix.EINTR, unix.ECONNABORTED:
		case unix.EAGAIN:
			return -1, nil
		default:
			return -1, os.NewSyscallError("accept", err)
		}
	}
}

// refuse sends away who connects while a machine is there.
func (q *queue) refuse() {
	for range backlog {
		fd, _ := q.next()
		if fd < 0 {
			return
		}
		unix.Close(fd)
		q.say(tap.Link{Up: true, Fault: true, What: "a second machine was refused: there is one already"})
	}
}

// hangUp ends the connection; the next machine may come.
func (q *queue) hangUp(end tap.Link) {
	q.mu.Lock()
	unix.Close(q.conn) // which takes it out of the epoll
	q.conn = -1
	q.out.reset()
	q.behind.Store(false)
	q.mu.Unlock()
	q.in.reset()
	q.say(end)
}

// say tells who watches what has become of the connection.
func (q *queue) say(l tap.Link) {
	q.up.Store(l.Up)
	if f := q.tell.Load(); f != nil {
		(*f)(l)
	}
}
