package stream

import (
	"encoding/binary"

	"github.com/uvtep/uvtep/internal/frame"
)

// headerLen is the length of what is in front of each frame: the number of its
// bytes, 32 bits, the most significant byte first (QEMU, net/stream.c).
const headerLen = 4

// bufferLen is how much is read at once: a frame of the greatest length, and as
// much again of short ones.
const bufferLen = 2 * (headerLen + MaxLen)

// splitter takes a stream apart into frames, in whatever pieces it comes.
type splitter struct {
	buf        []byte
	start, end int // what was read and not taken yet
}

// reset forgets what was read: another stream begins.
func (s *splitter) reset() { s.start, s.end = 0, 0 }

// room is where what comes next is to be read to. There is always some where
// take left no whole frame behind.
func (s *splitter) room() []byte {
	if s.start > 0 {
		s.end = copy(s.buf, s.buf[s.start:s.end])
		s.start = 0
	}
	return s.buf[s.end:]
}

// add says how many bytes were read into room.
func (s *splitter) add(n int) { s.end += n }

// next is the length of the next frame; ok is false if it is not there as a whole.
// A length that no frame has is there at once.
func (s *splitter) next() (n uint32, ok bool) {
	b := s.buf[s.start:s.end]
	if len(b) < headerLen {
		return 0, false
	}
	n = binary.BigEndian.Uint32(b)
	return n, !valid(n) || len(b) >= headerLen+int(n)
}

// valid reports whether a frame may be so long. After one that may not there is no
// telling where the next one begins.
func valid(length uint32) bool { return length > 0 && length <= MaxLen }

// take appends whole frames to b until it is full or there are none. It is false
// if a length is none of a frame: an empty frame with the verdict Dropped and
// BadLength stands for it, and the stream is of no more use.
func (s *splitter) take(b *frame.Batch) bool {
	for {
		f := b.Next()
		if f == nil {
			return true
		}
		n, ok := s.next()
		switch {
		case !ok:
			return true
		case !valid(n):
			b.Commit(0)
			f.Drop(frame.BadLength)
			return false
		}
		from := s.buf[s.start+headerLen:][:n]
		s.start += headerLen + int(n)
		if len(from) > len(f.Buffer()) {
			b.Commit(0)
			f.Drop(frame.TooBig)
			continue
		}
		b.Commit(copy(f.Buffer(), from))
	}
}
