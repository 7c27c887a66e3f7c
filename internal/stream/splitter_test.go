package stream

import (
	"bytes"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/uvtep/uvtep/internal/frame"
)

// put appends a frame as QEMU sends it.
func put(b []byte, f []byte) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(f))), f...)
}

// oracle reads a whole stream, plainly. It is false if a length is none.
func oracle(stream []byte) (frames [][]byte, ok bool) {
	r := bytes.NewReader(stream)
	for {
		var n uint32
		if binary.Read(r, binary.BigEndian, &n) != nil {
			return frames, true
		}
		if n == 0 || n > MaxLen {
			return frames, false
		}
		f := make([]byte, n)
		if _, err := io.ReadFull(r, f); err != nil {
			return frames, true
		}
		frames = append(frames, f)
	}
}

// split is what a splitter makes of a stream that comes in the pieces that cut
// says, read into batches of a few frames.
func split(stream []byte, cut func(room int) int) (frames [][]byte, ok bool) {
	s := splitter{buf: make([]byte, bufferLen)}
	b := frame.NewBatch(3, frame.MaxLen)
	for {
		for {
			b.Clear()
			ok := s.take(b)
			for i := range b.N {
				if b.Frames[i].Verdict.Action != frame.Dropped {
					frames = append(frames, bytes.Clone(b.Frames[i].Bytes()))
				}
			}
			if !ok {
				return frames, false
			}
			if b.N < len(b.Frames) {
				break
			}
		}
		if len(stream) == 0 {
			return frames, true
		}
		room := s.room()
		n := copy(room, stream[:min(len(stream), max(1, cut(len(room))))])
		s.add(n)
		stream = stream[n:]
	}
}

func same(t *testing.T, stream []byte, cut func(int) int) {
	t.Helper()
	want, wantOK := oracle(stream)
	got, ok := split(stream, cut)
	if ok != wantOK || !slices.EqualFunc(got, want, bytes.Equal) {
		t.Errorf("%d frames, fine %v; want %d, %v", len(got), ok, len(want), wantOK)
	}
}

func TestAStreamIsTakenApartInWhateverPiecesItComes(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	frames := func(lengths ...int) (stream []byte) {
		for _, n := range lengths {
			f := make([]byte, n)
			for i := range f {
				f[i] = byte(rnd.Uint32())
			}
			stream = put(stream, f)
		}
		return stream
	}
	var many []int
	for range 500 {
		many = append(many, 1+rnd.IntN(1600))
	}
	length := func(n uint32) []byte { return binary.BigEndian.AppendUint32(frames(60, 1514), n) }
	for _, tc := range []struct {
		name   string
		stream []byte
	}{
		{"nothing", nil},
		{"one", frames(60)},
		{"one byte", frames(1)},
		{"the longest, again and again", frames(MaxLen, MaxLen, 1, MaxLen)},
		{"many", frames(many...)},
		{"a part of a length", frames(60, 1514)[:60+4+2]},
		{"a part of a frame", frames(60, 1514)[:60+4+1000]},
		{"no length", length(0)},
		{"one too long", length(MaxLen + 1)},
		{"the longest number", length(1<<32 - 1)},
		{"something else", []byte("GET / HTTP/1.1\r\n\r\n")},
	} {
		t.Run(tc.name, func(t *testing.T) {
			same(t, tc.stream, func(room int) int { return room })
			same(t, tc.stream, func(int) int { return 1 })
			for range 20 {
				same(t, tc.stream, func(room int) int { return rnd.IntN(room) })
				same(t, tc.stream, func(int) int { return rnd.IntN(3000) })
			}
		})
	}
}

func TestAFrameThatTheBatchHasNoRoomForIsTooBigAndNoMoreIsLost(t *testing.T) {
	s := splitter{buf: make([]byte, bufferLen)}
	s.add(copy(s.room(), put(put(nil, make([]byte, 3000)), []byte("next"))))
	b := frame.NewBatch(4, 2048)
	if !s.take(b) || b.N != 2 {
		t.Fatalf("%d frames, want 2", b.N)
	}
	if v := b.Frames[0].Verdict; v.Reason != frame.TooBig || string(b.Frames[1].Bytes()) != "next" {
		t.Errorf("verdict %+v, then %q", v, b.Frames[1].Bytes())
	}
}

func FuzzStream(f *testing.F) {
	f.Add(put(put(nil, []byte("a frame")), []byte("another")), uint64(1))
	f.Add(binary.BigEndian.AppendUint32(nil, 0), uint64(2))              // no length
	f.Add(binary.BigEndian.AppendUint32(nil, 1<<31), uint64(3))          // far too long
	f.Add(binary.BigEndian.AppendUint32(nil, MaxLen), uint64(4))         // the longest, which never comes
	f.Add(put(nil, make([]byte, MaxLen)), uint64(5))                     // and one that does
	f.Add(put(nil, bytes.Repeat([]byte{0, 0, 0, 1}, 64))[1:], uint64(6)) // out of step
	f.Fuzz(func(t *testing.T, stream []byte, seed uint64) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		most := 1 + rnd.IntN(1<<rnd.IntN(18))
		same(t, stream, func(int) int { return rnd.IntN(most) })
	})
}
