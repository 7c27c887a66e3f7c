package pair

import (
	"encoding/binary"
	"sync"

	"github.com/uvtep/uvtep/internal/frame"
)

const (
	maxBytes   = 4 << 20   // that wait in a queue, and once more while they are read
	maxFrames  = 4096      // likewise
	readBudget = 512 << 10 // bytes that are read before they are carried on, as of a TAP

	addresses = 12 // bytes that a tag comes behind
)

// queue is what waits to be read at one end. In the switch the worker that writes
// to it is the one that reads it, so the lock is hardly ever contended for.
type queue struct {
	end *End
	i   int

	mu   sync.Mutex
	in   store // what was written since out was filled
	wake func()

	out  store // what is being read; the reader's
	next int   // frame of out
	at   int   // and its first byte
}

// store is frames, one behind the other.
type store struct {
	bytes  []byte
	frames []waiting
}

type waiting struct {
	size    int
	crossed uint8
	offload frame.Offload
}

func (s *store) clear() { s.bytes, s.frames = s.bytes[:0], s.frames[:0] }

// Fd is -1: there is nothing to poll. Use Notify.
func (q *queue) Fd() int { return -1 }

// Notify sets what is called whenever Read may have something, and calls it at
// once if that is so already.
func (q *queue) Notify(wake func()) {
	q.mu.Lock()
	q.wake = wake
	ready := len(q.in.frames) > 0 || q.next < len(q.out.frames)
	q.mu.Unlock()
	if ready {
		wake()
	}
}

// Read implements tap.Queue.
func (q *queue) Read(b *frame.Batch) (int, error) {
	n := 0
	for bytes := 0; bytes <= readBudget; n++ {
		if q.next == len(q.out.frames) && !q.refill() {
			break
		}
		f := b.Next()
		if f == nil {
			break
		}
		w := &q.out.frames[q.next]
		if w.size <= len(f.Buffer()) {
			b.Commit(copy(f.Buffer(), q.out.bytes[q.at:q.at+w.size]))
		} else {
			b.Commit(0)
			f.Drop(frame.TooBig)
		}
		f.Offload, f.Crossed = w.offload, w.crossed
		bytes += w.size
		q.at += w.size
		q.next++
	}
	return n, nil
}

// refill makes what was written the next to be read, and reports whether there is
// anything.
func (q *queue) refill() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.out.clear()
	q.in, q.out = q.out, q.in
	q.next, q.at = 0, 0
	return len(q.out.frames) > 0
}

// Write implements tap.Queue.
func (q *queue) Write(frames []*frame.Frame) int {
	to := q.end.other()
	if to == nil {
		for _, f := range frames {
			f.Drop(frame.PortDown)
		}
		return 0
	}
	return to.queues[q.i].put(q.end, frames)
}

// put adds frames that were written to the other end, from.
func (q *queue) put(from *End, frames []*frame.Frame) (sent int) {
	q.mu.Lock()
	for _, f := range frames {
		c, why := from.cross(f, q.end)
		if why == frame.NotDropped && (len(q.in.frames) == maxFrames || len(q.in.bytes)+c.size(f) > maxBytes) {
			why = frame.PortFull
		}
		if why != frame.NotDropped {
			f.Drop(why)
			continue
		}
		q.in.add(f, c)
		sent++
	}
	wake := q.wake
	q.mu.Unlock()
	if sent > 0 && wake != nil {
		wake()
	}
	return sent
}

// add copies a frame, with other tags than it has.
func (s *store) add(f *frame.Frame, c crossing) {
	w := waiting{size: c.size(f), crossed: f.Crossed + 1, offload: f.Offload}
	w.offload.Shift(w.size - f.Size())
	b := f.Bytes()
	s.bytes = append(s.bytes, b[:addresses]...)
	rest := b[addresses:]
	if c.pop {
		rest = rest[frame.TagLen:]
	}
	if c.push != 0 {
		s.bytes = binary.BigEndian.AppendUint16(s.bytes, frame.TypeVLAN)
		s.bytes = binary.BigEndian.AppendUint16(s.bytes, c.push)
	}
	s.bytes = append(s.bytes, rest...)
	for _, p := range f.Parts {
		s.bytes = append(s.bytes, p...)
	}
	s.frames = append(s.frames, w)
}
