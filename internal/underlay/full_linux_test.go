package underlay

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/mmsg"
	"golang.org/x/sys/unix"
)

// stubborn is a kernel that has no room at times. It takes messages until it is
// to say something else.
type stubborn struct {
	says   func(call int) (take int, errno syscall.Errno) // of each call: how many messages it takes, at least one, or why none
	takes  time.Duration                                  // how long a wait takes, if it may
	calls  int
	waits  []int // the socket of each
	waited time.Duration
	sent   []uint32 // numbers of the datagrams
}

func (k *stubborn) send(_ int, msgs []mmsg.Header) (int, syscall.Errno) {
	take, errno := k.says(k.calls)
	k.calls++
	if errno != 0 {
		return 0, errno
	}
	take = min(take, len(msgs))
	for i := range take {
		h := &msgs[i].Hdr
		for _, v := range unsafe.Slice(h.Iov, int(h.Iovlen)) {
			k.sent = append(k.sent, binary.BigEndian.Uint32(unsafe.Slice(v.Base, int(v.Len))))
		}
	}
	return take, 0
}

func (k *stubborn) wait(fd int, atMost time.Duration) time.Duration {
	took := min(k.takes, atMost)
	k.waits = append(k.waits, fd)
	k.waited += took
	return took
}

// inTurn says each errno in turn, and takes two messages where it is 0 and all
// that come later.
func inTurn(errnos ...syscall.Errno) func(int) (int, syscall.Errno) {
	return func(call int) (int, syscall.Errno) {
		if call < len(errnos) {
			return 2, errnos[call]
		}
		return maxMessages, 0
	}
}

// queueOf makes a queue of so many sockets, numbered from 100, over a kernel.
func queueOf(k *stubborn, sockets int, o Offload) *queue {
	e := &endpoint{cfg: withDefaults(Config{}), family: unix.AF_INET}
	e.offload.Store(uint32(o))
	for i := range sockets {
		e.sources = append(e.sources, 100+i)
	}
	e.withDF = len(e.sources)
	q := &queue{}
	q.out.init(e)
	q.out.kernel = kernel{k.send, k.wait}
	return q
}

// numbered makes n packets of one datagram each, which holds its number, of as
// many flows as there are sockets.
func numbered(n, sockets int) []Packet {
	r, ps := NewRemote(netip.MustParseAddr("10.0.0.2"), 4789), make([]Packet, n)
	for i := range ps {
		ps[i] = Packet{
			Data: [][]byte{binary.BigEndian.AppendUint32(nil, uint32(i))}, Count: 1, Dst: r,
			Entropy: uint32(uint64(i%sockets) << 32 / uint64(sockets)),
		}
	}
	return ps
}

func TestASocketThatIsFullIsWaitedForWithinBounds(t *testing.T) {
	const again, nobufs, nomem = unix.EAGAIN, unix.ENOBUFS, unix.ENOMEM
	for _, c := range []struct {
		name  string
		allow time.Duration
		takes time.Duration
		says  []syscall.Errno

		sent  []uint32 // of ten
		calls int
		waits []int
	}{
		{"room in time", 1000, 10, []syscall.Errno{0, again}, []uint32{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, 3, []int{100}},
		{"room at the last moment", 1000, 2000, []syscall.Errno{0, again}, []uint32{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, 3, []int{100}},
		{"no room in time", 1000, 2000, []syscall.Errno{0, again, again}, []uint32{0, 1}, 3, []int{100}},
		{"a poll that lies", 1000, 0, []syscall.Errno{0, again, again}, []uint32{0, 1}, 3, []int{100}},
		{"a little room each time", 1000, 10, []syscall.Errno{again, 0, again, 0, again}, []uint32{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, 6, []int{100, 100, 100}},
		{"a little room each time, and no time left", 1000, 600, []syscall.Errno{again, 0, again, 0, again}, []uint32{0, 1, 2, 3}, 5, []int{100, 100}},
		{"not allowed", 0, 10, []syscall.Errno{0, again}, []uint32{0, 1}, 2, nil},
		{"interrupted", 1000, 10, []syscall.Errno{unix.EINTR, again, unix.EINTR}, []uint32{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, 4, []int{100}},
		// Memory of the kernel's may be there for the next one.
		{"memory in time", 1000, 10, []syscall.Errno{0, nobufs}, []uint32{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, 3, []int{-1}},
		{"no memory in time", 1000, 10, []syscall.Errno{0, nomem, nomem}, []uint32{0, 1, 3, 4, 5, 6, 7, 8, 9}, 4, []int{-1}},
		{"no memory twice", 1000, 10, []syscall.Errno{0, nobufs, 0, nobufs}, []uint32{0, 1, 2, 3, 5, 6, 7, 8, 9}, 5, []int{-1}},
		{"memory, then room", 1000, 10, []syscall.Errno{nobufs, 0, again}, []uint32{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, 4, []int{-1, 100}},
		{"no memory, not allowed", 0, 10, []syscall.Errno{0, nobufs}, []uint32{0, 1, 3, 4, 5, 6, 7, 8, 9}, 3, nil},
	} {
		k := &stubborn{says: inTurn(c.says...), takes: c.takes}
		q, ps := queueOf(k, 1, 0), numbered(10, 1)
		q.Allow(c.allow)
		n := q.Write(ps)
		if !slices.Equal(k.sent, c.sent) || n != len(c.sent) {
			t.Errorf("%s: %d sent: %v, want %v", c.name, n, k.sent, c.sent)
		}
		if k.calls != c.calls || !slices.Equal(k.waits, c.waits) {
			t.Errorf("%s: %d calls, want %d; waited for %v, want %v", c.name, k.calls, c.calls, k.waits, c.waits)
		}
		tellsWhatWasSent(t, c.name, ps, k.sent)
	}
}

// tellsWhatWasSent checks that packets of one datagram say what became of them.
func tellsWhatWasSent(t *testing.T, name string, ps []Packet, sent []uint32) {
	t.Helper()
	for i := range ps {
		want, why := 0, frame.TunnelFull
		if slices.Contains(sent, uint32(i)) {
			want, why = 1, frame.NotDropped
		}
		if ps[i].Sent != want || ps[i].Reason != why {
			t.Errorf("%s: packet %d: %d sent, %v, want %d, %v", name, i, ps[i].Sent, ps[i].Reason, want, why)
		}
	}
}

func TestWhatMayBeWaitedIsForAllWritesAndSockets(t *testing.T) {
	full := func(int) (int, syscall.Errno) { return 0, unix.EAGAIN }
	for _, takes := range []time.Duration{0, 300, 1000} {
		k := &stubborn{says: full, takes: takes}
		q, ps := queueOf(k, 16, 0), numbered(64, 16)
		for round := 1; round <= 3; round++ {
			*k = stubborn{says: full, takes: takes}
			q.Allow(1000)
			for range 5 {
				if n := q.Write(ps); n != 0 {
					t.Fatalf("%d sent", n)
				}
				tellsWhatWasSent(t, "full", ps, nil)
			}
			if k.waited > 1000 || takes > 0 && k.waited < 1000 {
				t.Errorf("waits of %d: %d in round %d, want 1000", takes, k.waited, round)
			}
			// A call for each write and socket, and one for each wait.
			if k.calls != 5*16+len(k.waits) || len(k.waits) > 5*16 {
				t.Errorf("waits of %d: %d calls and %d waits in round %d", takes, k.calls, len(k.waits), round)
			}
		}
	}
}

func TestATrainThatIsSentSinglyIsWaitedForAsWell(t *testing.T) {
	data := numbered(8, 1)
	one := Packet{Segment: 4, Count: 8, Dst: data[0].Dst}
	for i := range data {
		one.Data = append(one.Data, data[i].Data[0])
	}
	for _, c := range []struct {
		allow time.Duration
		says  []syscall.Errno
		sent  []uint32
		waits int
	}{
		{1000, []syscall.Errno{unix.EINVAL, unix.EINVAL, 0, unix.EAGAIN, 0, unix.ENOBUFS}, []uint32{0, 1, 2, 3, 4, 5, 6, 7}, 2},
		{1000, []syscall.Errno{unix.EINVAL, unix.EINVAL, 0, unix.EAGAIN, unix.EAGAIN}, []uint32{0, 2, 3, 4, 5, 6, 7}, 1},
		{0, []syscall.Errno{unix.EINVAL, unix.EINVAL, 0, unix.EAGAIN}, []uint32{0, 2, 3, 4, 5, 6, 7}, 0},
	} {
		k := &stubborn{says: inTurn(c.says...), takes: 10}
		q := queueOf(k, 1, GSO)
		q.Allow(c.allow)
		ps := []Packet{one}
		if n := q.Write(ps); n != len(c.sent) || ps[0].Sent != n || !slices.Equal(k.sent, c.sent) || len(k.waits) != c.waits {
			t.Errorf("%v: %d sent: %v, want %v; %d waits, want %d", c.says, n, k.sent, c.sent, len(k.waits), c.waits)
		}
		if (ps[0].Sent < 8) != (ps[0].Reason == frame.TunnelFull) {
			t.Errorf("%v: %d of 8 sent, %v", c.says, ps[0].Sent, ps[0].Reason)
		}
	}
}

// Whatever the kernel says: each packet is sent once or counted, those of a flow
// leave in order, the waits stay within what is allowed, and each is worth it.
func TestAnUnrulyKernelIsNeverSpunOn(t *testing.T) {
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 1))
		sockets, refusing := 1+r.IntN(4), r.IntN(100)
		k := &stubborn{takes: time.Duration(r.IntN(600)), says: func(int) (int, syscall.Errno) {
			if r.IntN(100) >= refusing {
				return 1 + r.IntN(20), 0
			}
			return 0, []syscall.Errno{unix.EAGAIN, unix.ENOBUFS, unix.ENOMEM}[r.IntN(3)]
		}}
		q, ps := queueOf(k, sockets, Offload(r.IntN(2))), numbered(1+r.IntN(150), sockets)
		q.Allow(1000)
		n := q.Write(ps)
		tellsWhatWasSent(t, "unruly", ps, k.sent)
		last := map[uint32]uint32{}
		for _, i := range k.sent {
			flow := i % uint32(sockets)
			if was, ok := last[flow]; ok && i <= was {
				t.Fatalf("seed %d: %d after %d", seed, i, was)
			}
			last[flow] = i
		}
		if n != len(k.sent) || k.waited > 1000 || k.calls > len(ps)+len(k.waits) {
			t.Fatalf("seed %d: %d sent, %d by the kernel; waited %d; %d calls and %d waits for %d packets", seed, n, len(k.sent), k.waited, k.calls, len(k.waits), len(ps))
		}
	}
}
