package vtep

import (
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/uvtep/uvtep/internal/frame"
)

// counterFD is a source with a descriptor: an eventfd. Each Read takes one.
type counterFD struct{ fd int }

func newCounterFD(t *testing.T) counterFD {
	t.Helper()
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK|unix.EFD_SEMAPHORE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return counterFD{fd}
}

func (c counterFD) Fd() int { return c.fd }

func (c counterFD) Read(*frame.Batch) (int, error) {
	var b [8]byte
	n, err := unix.Read(c.fd, b[:])
	if err != nil {
		return 0, nil // EAGAIN
	}
	return n / 8, nil
}

func (c counterFD) add(t testing.TB) {
	t.Helper()
	if _, err := unix.Write(c.fd, binary.NativeEndian.AppendUint64(nil, 1)); err != nil {
		t.Error(err)
	}
}

// eachBusyPoll runs a test for each way of waiting: none, the usual, and so long
// that every wait is a busy one.
func eachBusyPoll(t *testing.T, body func(t *testing.T, busy time.Duration)) {
	for _, busy := range []time.Duration{-1, DefaultBusyPoll, 50 * time.Millisecond} {
		t.Run(fmt.Sprint(busy), func(t *testing.T) { body(t, busy) })
	}
}

// polling runs a poller until the test ends, on a thread of its own whose number
// it returns.
func polling(t *testing.T, busy time.Duration, serve func(*source)) (p *poller, tid int) {
	t.Helper()
	p, err := newPoller(busy)
	if err != nil {
		t.Fatal(err)
	}
	stop, tids := make(chan struct{}), make(chan int)
	var running sync.WaitGroup
	running.Go(func() {
		runtime.LockOSThread()
		tids <- unix.Gettid()
		for {
			for _, s := range p.wait() {
				serve(s)
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	})
	t.Cleanup(func() {
		close(stop)
		p.wake()
		running.Wait()
		if err := p.close(); err != nil {
			t.Error(err)
		}
	})
	return p, <-tids
}

func TestEveryEventOfADescriptorIsServedHoweverLongItIsLookedFor(t *testing.T) {
	eachBusyPoll(t, func(t *testing.T, busy time.Duration) {
		served := make(chan *source, 1)
		p, _ := polling(t, busy, func(s *source) {
			if n, _ := s.r.Read(nil); n > 0 {
				served <- s
			}
		})
		var sources [3]*source
		for i := range sources {
			sources[i] = &source{r: newCounterFD(t)}
			if err := p.add(sources[i]); err != nil {
				t.Fatal(err)
			}
		}
		for n := range 600 {
			want := sources[n%3]
			if n%7 == 0 {
				time.Sleep(time.Duration(n%5) * 500 * time.Microsecond) // it looks, or it sleeps
			}
			want.r.(counterFD).add(t)
			select {
			case got := <-served:
				if got != want {
					t.Fatalf("event %d: another source was served", n)
				}
			case <-time.After(30 * time.Second):
				t.Fatalf("event %d was lost", n)
			}
		}
		// One that was removed is not served, though it has something.
		p.remove(sources[0])
		sources[0].r.(counterFD).add(t)
		sources[1].r.(counterFD).add(t)
		if got := <-served; got != sources[1] {
			t.Error("a source that was removed was served")
		}
	})
}

func TestAWakeIsSeenHoweverLongItIsLookedFor(t *testing.T) {
	eachBusyPoll(t, func(t *testing.T, busy time.Duration) {
		served := make(chan struct{})
		p, _ := polling(t, busy, func(*source) { served <- struct{}{} })
		src := &source{r: brokenTAP{}}
		if err := p.add(src); err != nil {
			t.Fatal(err)
		}
		<-served
		for n := range 300 {
			if n%7 == 0 {
				time.Sleep(time.Duration(n%5) * 500 * time.Microsecond)
			}
			src.ready.Store(true)
			p.wake()
			select {
			case <-served:
			case <-time.After(30 * time.Second):
				t.Fatalf("wake %d was lost", n)
			}
		}
	})
}

// A worker that has nothing to do is off the processor and stays off it: its
// thread has run for not a nanosecond more when it is looked at again.
func TestAnIdleWorkerSleeps(t *testing.T) {
	eachBusyPoll(t, func(t *testing.T, busy time.Duration) {
		served := make(chan struct{})
		p, tid := polling(t, busy, func(s *source) { s.r.Read(nil); served <- struct{}{} })
		src := &source{r: newCounterFD(t)}
		if err := p.add(src); err != nil {
			t.Fatal(err)
		}
		for range 50 { // quick ones, so that it has reason to look for more
			src.r.(counterFD).add(t)
			<-served
		}
		ran := func() int {
			b, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/schedstat", tid))
			if err != nil {
				t.Skip(err) // a kernel without it
			}
			n, err := strconv.Atoi(strings.Fields(string(b))[0])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		for deadline := time.Now().Add(30 * time.Second); ; {
			before := ran()
			time.Sleep(100 * time.Millisecond)
			if ran() == before {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("it never sleeps")
			}
		}
		src.r.(counterFD).add(t)
		<-served // and is there when it is needed
	})
}

// When a poller is closed its descriptors are free, and the next file gets one
// of them.
func TestAWakeThatComesTooLateWritesToNobodysFile(t *testing.T) {
	p, err := newPoller(DefaultBusyPoll)
	if err != nil {
		t.Fatal(err)
	}
	file := newCounterFD(t)
	if err := p.close(); err != nil {
		t.Fatal(err)
	}
	next, err := unix.FcntlInt(uintptr(file.fd), unix.F_DUPFD_CLOEXEC, p.wakefd)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(next)
	if next != p.wakefd {
		t.Fatalf("somebody else got number %d first", p.wakefd)
	}
	p.wake()
	if n, _ := file.Read(nil); n != 0 {
		t.Error("it was written to")
	}
}

// failing is a descriptor that is always readable and never can be read.
type failing struct {
	counterFD
	reads *int
}

func (f failing) Read(*frame.Batch) (int, error) {
	*f.reads++
	return 0, unix.EIO
}

func TestADescriptorThatCannotBeReadLetsTheWorkerSleep(t *testing.T) {
	r := newRig(t, Config{})
	w, reads := r.v.workers[0], 0
	f := failing{newCounterFD(t), &reads}
	f.add(t)
	if err := w.poll.add(&source{r: f, worker: w}); err != nil {
		t.Fatal(err)
	}
	rounds := func() {
		for n := 0; w.poll.look() > 0 || w.poll.again(); n++ {
			if n > 10*patience {
				t.Fatal("it has something to do all the time")
			}
			for _, s := range w.poll.wait() {
				w.serve(s)
			}
		}
	}
	rounds()
	if reads != patience {
		t.Errorf("it was read %d times, want %d", reads, patience)
	}
	w.retry()
	rounds()
	if reads != patience+1 {
		t.Errorf("it was read %d times when it was tried again, want once", reads-patience)
	}
}
