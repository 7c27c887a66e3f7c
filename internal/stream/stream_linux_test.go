package stream_test

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/stream"
)

func TestFramesCrossBothWays(t *testing.T) {
	p := open(t)
	m := p.joined()
	var in [][]byte
	for i := range 200 {
		in = append(in, numbered(i, 60+7*i))
	}
	in = append(in, numbered(200, stream.MaxLen))
	go m.trySend(in...) // what fails does not come
	var got [][]byte
	for len(got) < len(in) {
		more, dropped := p.read()
		if got = append(got, more...); len(dropped) > 0 {
			t.Fatalf("dropped %v", dropped)
		}
	}
	if !slices.EqualFunc(got, in, bytes.Equal) {
		t.Error("what came is not what the machine sent")
	}
	out := frames(in[:150]...)
	if n := p.Queues()[0].Write(out); n != len(out) {
		t.Fatalf("%d of %d frames were taken", n, len(out))
	}
	for i, f := range out {
		if b := m.recv(); !bytes.Equal(b, f.Bytes()) {
			t.Fatalf("frame %d is another one, of %d bytes", i, len(b))
		}
	}
}

// A batch is smaller than what one read yields: the rest must wake the worker,
// though the kernel has nothing more.
func TestFramesThatTheBatchHasNoRoomForStayReadable(t *testing.T) {
	p := open(t)
	m := p.joined()
	p.batch = frame.NewBatch(3, 2048)
	var in [][]byte
	for i := range 100 {
		in = append(in, numbered(i, 60))
	}
	m.send(in...)
	got, _ := p.read() // all of it is in the socket already
	if !slices.EqualFunc(got, in, bytes.Equal) {
		t.Errorf("%d frames came, want %d", len(got), len(in))
	}
	if p.readable() {
		t.Error("the worker is woken for nothing")
	}
}

func TestOneMachineLeavesAndAnotherComes(t *testing.T) {
	p := open(t)
	if p.up() {
		t.Error("it is up before anybody came")
	}
	out := frames(numbered(1, 60), numbered(2, 60))
	if n := p.Queues()[0].Write(out); n != 0 || out[0].Verdict.Reason != frame.PortDown || out[1].Verdict.Reason != frame.PortDown {
		t.Errorf("nobody is there, and %d frames were taken; verdict %+v", n, out[0].Verdict)
	}
	first := p.joined()
	first.send(numbered(1, 60))
	first.Write([]byte{0, 0, 1}) // its last frame is never whole
	first.Close()
	got, dropped := p.eventually("it is down", func() bool { return !p.up() })
	if len(got) != 1 || len(dropped) != 0 {
		t.Errorf("%d frames, %v dropped; want what it had sent", len(got), dropped)
	}
	second := p.joined()
	second.send(numbered(2, 60))
	var more [][]byte
	for len(more) == 0 {
		more, _ = p.read()
	}
	if !bytes.Equal(more[0], numbered(2, 60)) {
		t.Errorf("the second machine's frame came as %x", more[0])
	}
	want := "up: a machine has connected; down: the machine has hung up; up: a machine has connected"
	if got := p.links(); got != want {
		t.Errorf("it told %q; want %q", got, want)
	}
}

func TestAMachineThatSendsGarbageIsHungUpOnAndTheNextIsServed(t *testing.T) {
	for _, length := range []uint32{0, stream.MaxLen + 1, 1<<32 - 1} {
		p := open(t)
		m := p.joined()
		m.send(numbered(1, 60))
		m.Write(append(binary.BigEndian.AppendUint32(nil, length), numbered(2, 60)...))
		got, dropped := p.eventually("it is down", func() bool { return !p.up() })
		if len(got) != 1 || !slices.Equal(dropped, []frame.Reason{frame.BadLength}) {
			t.Errorf("length %d: %d frames, dropped %v; want the frame before it, and one bad_length", length, len(got), dropped)
		}
		if !m.hungUp() {
			t.Errorf("length %d: the connection goes on", length)
		}
		if !strings.Contains(p.links(), "down: the machine sent a frame of ") {
			t.Errorf("length %d: it told %q", length, p.links())
		}
		p.joined().send(numbered(3, 60))
		for got = nil; len(got) == 0; {
			got, _ = p.read()
		}
	}
}

func TestASecondMachineIsRefusedAndTheFirstOneStays(t *testing.T) {
	p := open(t)
	first := p.joined()
	second := connect(t, p.path)
	p.eventually("the second one is refused", func() bool { return strings.Contains(p.links(), "up: a second machine was refused") })
	if !second.hungUp() {
		t.Error("the second one was let in")
	}
	first.send(numbered(1, 60))
	var got [][]byte
	for len(got) == 0 {
		got, _ = p.read()
	}
	if p.Queues()[0].Write(frames(numbered(2, 60))) != 1 || !bytes.Equal(first.recv(), numbered(2, 60)) {
		t.Error("the first one is not served any more")
	}
	first.Close()
	p.eventually("it is down", func() bool { return !p.up() })
	p.joined()
}

// fill writes until a machine that does not read has no room, and returns the
// frames that were taken.
func (p *port) fill(size int) (taken [][]byte) {
	p.t.Helper()
	for i := 0; ; {
		var bs [][]byte
		for range frame.BatchLen {
			bs = append(bs, numbered(i, size))
			i++
		}
		out := frames(bs...)
		n := p.Queues()[0].Write(out)
		taken = append(taken, bs[:n]...)
		for j, f := range out {
			if (f.Verdict.Action == frame.Dropped) != (j >= n) || j >= n && f.Verdict.Reason != frame.PortFull {
				p.t.Fatalf("frame %d of a batch of which %d were taken: %+v", j, n, f.Verdict)
			}
		}
		if n < len(out) {
			return taken
		}
	}
}

// Whatever the kernel took of the last frame, the machine gets it whole, and then
// what is written next.
func TestAMachineThatDoesNotKeepUpLosesWholeFramesOnly(t *testing.T) {
	for _, size := range []int{61, 1514, 9000, stream.MaxLen} {
		p := open(t)
		m := p.joined()
		want := p.fill(size)
		for range 3 { // it stays full
			if n := p.Queues()[0].Write(frames(numbered(9, size))); n != 0 {
				want = append(want, numbered(9, size))
			}
		}
		done := make(chan [][]byte)
		go func() {
			var got [][]byte
			for range len(want) {
				f, err := m.tryRecv()
				if err != nil {
					t.Error(err)
					break
				}
				got = append(got, f)
			}
			done <- got
		}()
		var got [][]byte
		p.eventually("the rest has left, though nothing more is written", func() bool {
			select {
			case got = <-done:
				return true
			default:
				return false
			}
		})
		if !slices.EqualFunc(got, want, bytes.Equal) {
			t.Errorf("frames of %d bytes: what came is not what was taken", size)
		}
		if n := p.Queues()[0].Write(frames(numbered(1, size))); n != 1 || !bytes.Equal(m.recv(), numbered(1, size)) {
			t.Errorf("frames of %d bytes: nothing is taken any more", size)
		}
		if p.readable() {
			t.Errorf("frames of %d bytes: the worker is woken for nothing", size)
		}
	}
}

func TestMachinesComeAndGoUnderLoad(t *testing.T) {
	p := open(t)
	ended, machines, writers := make(chan struct{}), sync.WaitGroup{}, sync.WaitGroup{}
	for range 2 {
		writers.Go(func() {
			out := frames(numbered(1, 60), numbered(2, 1514), numbered(3, 9000))
			for {
				select {
				case <-ended:
					return
				default:
					p.Queues()[0].Write(out)
					for _, f := range out {
						f.Verdict = frame.Verdict{}
					}
				}
			}
		})
	}
	for i := range 40 {
		machines.Go(func() {
			c, err := dial(p.path)
			if err != nil {
				t.Error(err)
				return
			}
			m := &machine{c, t}
			for range 20 { // until it is refused, or has had enough
				if _, err := m.Write(append([]byte{0, 0, 0, 60}, numbered(i, 60)...)); err != nil {
					break
				}
				if _, err := m.tryRecv(); err != nil {
					break
				}
			}
			m.Close()
		})
	}
	gone := make(chan struct{})
	go func() { machines.Wait(); close(gone) }()
	p.eventually("all machines have been there", func() bool {
		select {
		case <-gone:
			return true
		default:
			return false
		}
	})
	close(ended)
	writers.Wait()
	p.eventually("it is down", func() bool { return !p.up() })
	p.joined()
}

func TestNothingIsAllocatedForAFrame(t *testing.T) {
	p := open(t)
	m := p.joined()
	in := make([]byte, 0, 64*64)
	for i := range 40 {
		in = append(append(in, 0, 0, 0, 60), numbered(i, 60)...)
	}
	var bs [][]byte
	for i := range 40 {
		bs = append(bs, numbered(i, 60))
	}
	out, back := frames(bs...), make([]byte, 1<<16)
	q := p.Queues()[0]
	if n := testing.AllocsPerRun(100, func() {
		if _, err := m.Write(in); err != nil {
			t.Fatal(err)
		}
		for n := 0; n < 40; {
			p.batch.Clear()
			k, _ := q.Read(p.batch)
			n += k
		}
		if q.Write(out) != 40 {
			t.Fatal("frames were dropped")
		}
		for n := 0; n < 40*64; {
			k, err := m.Read(back)
			if err != nil {
				t.Fatal(err)
			}
			n += k
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
