package nic

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/mmsg"
	"github.com/uvtep/uvtep/internal/offload"
	"github.com/uvtep/uvtep/internal/tap"
)

// writer is what sendmmsg needs, made once. Everything of it is under the queue's
// mu.
type writer struct {
	msgs    [frame.BatchLen]mmsg.Header
	headers [frame.BatchLen][offload.HeaderLen]byte
	iovecs  [2*frame.BatchLen + offload.MaxParts]unix.Iovec
	faults  tap.Faults
}

// Write implements tap.Queue.
func (q *queue) Write(frames []*frame.Frame) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	sent := 0
	for len(frames) > 0 {
		n := q.out.gather(frames)
		sent += q.send(frames[:n])
		frames = frames[n:]
	}
	return sent
}

// gather makes messages of as many of the frames as there is room for, and returns
// how many; it is one at least.
func (w *writer) gather(frames []*frame.Frame) int {
	used := 0
	for i, f := range frames {
		if i == len(w.msgs) || used+2+len(f.Parts) > len(w.iovecs) {
			return i
		}
		first := used
		add := func(b []byte) {
			w.iovecs[used].Base = unsafe.SliceData(b)
			w.iovecs[used].SetLen(len(b))
			used++
		}
		offload.Put(w.headers[i][:], f.Offload)
		add(w.headers[i][:])
		add(f.Bytes())
		for _, p := range f.Parts {
			add(p)
		}
		h := &w.msgs[i].Hdr
		h.Iov = &w.iovecs[first]
		h.SetIovlen(used - first)
	}
	return len(frames)
}

// send sends the messages that were made of frames.
func (q *queue) send(frames []*frame.Frame) (sent int) {
	for at := 0; at < len(frames); {
		n, errno := mmsg.Send(q.fd, q.out.msgs[at:len(frames)])
		if errno == unix.EINTR {
			continue
		}
		if errno == 0 {
			for _, f := range frames[at : at+n] {
				q.judge(f, 0)
			}
			sent += n
			at += n
			continue
		}
		f := frames[at]
		f.Drop(reason(errno))
		q.judge(f, errno)
		if at++; errno == unix.EAGAIN { // the others would fare no better
			for _, f := range frames[at:] {
				f.Drop(frame.PortFull)
			}
			return sent
		}
	}
	return sent
}

func (q *queue) judge(f *frame.Frame, errno syscall.Errno) {
	if f.Offload.GSO != frame.GSONone {
		q.out.faults.Judge(q.offload, f.Offload.GSO, errno == 0, errno == unix.EINVAL)
	}
}

// reason is why the kernel refused a frame.
func reason(errno syscall.Errno) frame.Reason {
	switch errno {
	case unix.EAGAIN, unix.ENOBUFS, unix.ENOMEM:
		return frame.PortFull
	case unix.ENETDOWN, unix.ENXIO, unix.ENODEV:
		return frame.PortDown
	case unix.EMSGSIZE, unix.E2BIG:
		return frame.TooBig
	}
	return frame.PortError
}
