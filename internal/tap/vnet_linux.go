package tap

import (
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/offload"
	"golang.org/x/sys/unix"
)

// vnetQueue is one queue of a TAP device whose frames have a virtio header in
// front. Its system calls are raw for the same reason as those of queue.
type vnetQueue struct {
	fd      int
	offload *atomic.Uint32 // the device's

	mu     sync.Mutex // of what Write needs: several workers may write
	faults Faults
	header [offload.HeaderLen]byte
	iovecs [2 + offload.MaxParts]unix.Iovec
}

func newVnetQueue(fd int, of *atomic.Uint32) *vnetQueue {
	q := &vnetQueue{fd: fd, offload: of}
	q.iovecs[0].Base = &q.header[0]
	q.iovecs[0].SetLen(len(q.header))
	return q
}

// readBudget is how many bytes are read before they are carried on: about half
// of a second-level cache.
const readBudget = 512 << 10

// Fd implements Queue.
func (q *vnetQueue) Fd() int { return q.fd }

// Read implements Queue.
func (q *vnetQueue) Read(b *frame.Batch) (int, error) {
	bytes := 0
	for n := 0; ; {
		f := b.Next()
		if f == nil || bytes > readBudget {
			return n, nil
		}
		buf := f.BufferAfter(offload.HeaderLen)
		r, more, err := read(q.fd, buf)
		switch {
		case !more:
			return n, err
		case r < offload.HeaderLen: // no frame at all
			continue
		}
		commit(b, f, r-offload.HeaderLen, len(buf)-offload.HeaderLen)
		f.Offload = offload.Get(buf)
		bytes += r
		n++
	}
}

// Write implements Queue.
func (q *vnetQueue) Write(frames []*frame.Frame) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	sent := 0
	for _, f := range frames {
		errno := q.write(f)
		if errno == 0 {
			sent++
		} else {
			f.Drop(reason(errno))
		}
		if f.Offload.GSO != frame.GSONone {
			q.faults.Judge(q.offload, f.Offload.GSO, errno == 0, errno == unix.EINVAL)
		}
	}
	return sent
}

func (q *vnetQueue) write(f *frame.Frame) syscall.Errno {
	offload.Put(q.header[:], f.Offload)
	b := f.Bytes()
	q.iovecs[1].Base = unsafe.SliceData(b)
	q.iovecs[1].SetLen(len(b))
	n := 2
	for _, p := range f.Parts {
		q.iovecs[n].Base = unsafe.SliceData(p)
		q.iovecs[n].SetLen(len(p))
		n++
	}
	for {
		_, _, errno := syscall.RawSyscall(unix.SYS_WRITEV, uintptr(q.fd), uintptr(unsafe.Pointer(&q.iovecs[0])), uintptr(n))
		if errno != unix.EINTR {
			return errno
		}
	}
}
