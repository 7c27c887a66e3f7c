package underlay

import (
	"fmt"
	"net/netip"
	"sync"
	"syscall"
	"unsafe"

	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/mmsg"
	"golang.org/x/sys/unix"
)

// queue is one worker's end of the underlay.
type queue struct {
	fd    int // the socket of unicast packets
	epoll int // readable when one of sockets is
	in    reader
	out   writer

	mu      sync.Mutex // between Read, and Join and Leave
	sockets []int      // fd and those of multicast groups
	turn    int        // the socket that is read first
}

func newQueue(e *endpoint, fd int) (*queue, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make an epoll: %w", err)
	}
	q := &queue{fd: fd, epoll: epoll}
	if err := q.add(fd); err != nil {
		unix.Close(epoll)
		return nil, err
	}
	q.in.init(e.cfg.Local.Zone())
	return q, nil
}

// Fd implements Queue.
func (q *queue) Fd() int { return q.epoll }

// add makes the queue read from a socket, too.
func (q *queue) add(fd int) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}
	if err := unix.EpollCtl(q.epoll, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
		return fmt.Errorf("poll a socket: %w", err)
	}
	q.sockets = append(q.sockets, fd)
	return nil
}

// remove closes a socket that add added. Nobody reads from it meanwhile.
func (q *queue) remove(fd int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, s := range q.sockets {
		if s == fd {
			q.sockets = append(q.sockets[:i], q.sockets[i+1:]...)
			q.turn = 0
			unix.Close(fd) // epoll forgets it
			return
		}
	}
}

// Read implements Queue.
func (q *queue) Read(b *frame.Batch) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	total, first := 0, syscall.Errno(0)
	for range q.sockets {
		n, errno := q.in.read(q.sockets[q.turn], b)
		total += n
		if first == 0 {
			first = errno
		}
		// A socket that has more than fits lets the others go first next time.
		if q.turn++; q.turn == len(q.sockets) {
			q.turn = 0
		}
		if b.N == len(b.Frames) {
			break
		}
	}
	if first != 0 {
		return total, first
	}
	return total, nil
}

// reader is what recvmmsg needs, made once.
type reader struct {
	zone     string // of link-local senders
	window   int    // how many datagrams the next call asks for
	msgs     [frame.BatchLen]mmsg.Header
	iovecs   [frame.BatchLen]unix.Iovec
	names    [frame.BatchLen]unix.RawSockaddrInet6 // the longer one
	controls [frame.BatchLen]control
}

const (
	// minWindow is the least that a call asks for. Making ready for a datagram
	// that does not come costs a little, a second call costs more.
	minWindow = 8
	// readBudget is how many bytes are read before they are carried on: about
	// half of a second-level cache.
	readBudget = 512 << 10
)

func (r *reader) init(zone string) {
	r.zone = zone
	r.window = minWindow
	for i := range r.msgs {
		h := &r.msgs[i].Hdr
		h.Iov = &r.iovecs[i]
		h.SetIovlen(1)
		h.Name = (*byte)(unsafe.Pointer(&r.names[i]))
		h.Control = (*byte)(unsafe.Pointer(&r.controls[i]))
	}
}

// read reads from one socket until b is full or nothing is there.
func (r *reader) read(fd int, b *frame.Batch) (int, syscall.Errno) {
	total, bytes := 0, 0
	for b.N < len(b.Frames) && bytes < readBudget {
		want := min(r.window, len(b.Frames)-b.N)
		for i := range want {
			f := &b.Frames[b.N+i]
			f.Reset()
			buf := f.Buffer()
			r.iovecs[i].Base = unsafe.SliceData(buf)
			r.iovecs[i].SetLen(len(buf))
			h := &r.msgs[i].Hdr
			h.Namelen = unix.SizeofSockaddrInet6
			h.SetControllen(len(r.controls[i].bytes()))
		}
		got, errno := mmsg.Recv(fd, r.msgs[:want])
		switch errno {
		case 0:
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			return total, 0
		default:
			return total, errno
		}
		was := bytes
		for i := range got {
			bytes += r.commit(b, i)
		}
		total += got
		// Ask for twice of what came, so that the load sets the window, but for
		// no more than the budget.
		r.window = min(max(2*got, minWindow), frame.BatchLen)
		if mean := (bytes - was) / got; mean > 0 {
			r.window = min(r.window, max(readBudget/mean, 1))
		}
		if got < want {
			break // nothing is left
		}
	}
	return total, 0
}

// commit keeps the next frame of b, which message i was read into, and returns
// its length.
func (r *reader) commit(b *frame.Batch, i int) int {
	f, m := &b.Frames[b.N], &r.msgs[i]
	if m.Hdr.Flags&unix.MSG_TRUNC == 0 {
		b.Commit(int(m.Len))
	} else {
		b.Commit(0)
		f.Drop(frame.TooBig)
	}
	tos, segment := r.controls[i].received(int(m.Hdr.Controllen))
	f.Outer.TOS = tos
	if segment < f.Len() {
		f.Outer.Segment = uint16(segment)
	}
	if sa := &r.names[i]; sa.Family == unix.AF_INET6 {
		f.Outer.Src = netip.AddrFrom16(sa.Addr)
		if r.zone != "" && f.Outer.Src.IsLinkLocalUnicast() {
			f.Outer.Src = f.Outer.Src.WithZone(r.zone)
		}
	} else {
		f.Outer.Src = netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(sa)).Addr)
	}
	return f.Len()
}
