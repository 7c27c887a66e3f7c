package vtep

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// poller tells a worker which of its sources have something: one epoll, level
// triggered, so that a source that was not drained is told again, after the
// others had their turn.
type poller struct {
	epfd, wakefd int
	events       [64]unix.EpollEvent
	ready        []*source
	busy         time.Duration // how long to look again before sleeping
	brisk        bool          // the last sleep was short: the next event may be near

	mu      sync.Mutex // add and remove; the worker takes it only when the set changed
	byIndex atomic.Pointer[[]*source]
	mem     atomic.Pointer[[]*source] // sources without a descriptor
	woken   atomic.Bool

	wakeMu sync.Mutex // of wakefd, which may be closed when the last wake comes
	closed bool
}

func newPoller(busy time.Duration) (*poller, error) {
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	wakefd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		unix.Close(epfd)
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	p := &poller{epfd: epfd, wakefd: wakefd, busy: busy}
	p.byIndex.Store(new([]*source))
	p.mem.Store(new([]*source))
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: -1}
	if err := unix.EpollCtl(epfd, unix.EPOLL_CTL_ADD, wakefd, &ev); err != nil {
		p.close()
		return nil, fmt.Errorf("epoll_ctl: %w", err)
	}
	return p, nil
}

// close ends the poller; wake does nothing from then on.
func (p *poller) close() error {
	p.wakeMu.Lock()
	defer p.wakeMu.Unlock()
	p.closed = true
	return errors.Join(unix.Close(p.epfd), unix.Close(p.wakefd))
}

// with is a copy of list with s in the first free place, and that place.
func with(list []*source, s *source) ([]*source, int) {
	list = append([]*source(nil), list...)
	for i, e := range list {
		if e == nil {
			list[i] = s
			return list, i
		}
	}
	return append(list, s), len(list)
}

func without(list []*source, s *source) []*source {
	list = append([]*source(nil), list...)
	for i, e := range list {
		if e == s {
			list[i] = nil
		}
	}
	return list
}

// add has the worker serve s, unless it was removed meanwhile.
func (p *poller) add(s *source) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.dead.Load() {
		return nil
	}
	fd := s.r.Fd()
	if fd < 0 {
		list, _ := with(*p.mem.Load(), s)
		p.mem.Store(&list)
		if n, ok := s.r.(notifier); ok {
			n.Notify(func() { s.ready.Store(true); p.wake() })
		}
		s.ready.Store(true)
		p.wake()
		return nil
	}
	list, i := with(*p.byIndex.Load(), s)
	p.byIndex.Store(&list)
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(i)}
	if err := unix.EpollCtl(p.epfd, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
		list := without(list, s)
		p.byIndex.Store(&list)
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	return nil
}

// remove makes the worker forget s for good. Its index may be used again at
// once: a worker that still holds an event of it finds s dead, or reads a source
// that has nothing, and neither does harm.
func (p *poller) remove(s *source) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.dead.Store(true)
	p.drop(s)
}

// pause makes the worker forget s until it is added again.
func (p *poller) pause(s *source) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drop(s)
}

// drop is called under mu.
func (p *poller) drop(s *source) {
	if fd := s.r.Fd(); fd >= 0 {
		// The descriptor of a device that has vanished may already be out.
		_ = unix.EpollCtl(p.epfd, unix.EPOLL_CTL_DEL, fd, nil)
		list := without(*p.byIndex.Load(), s)
		p.byIndex.Store(&list)
		return
	}
	if n, ok := s.r.(notifier); ok {
		n.Notify(func() {}) // it may outlive the worker
	}
	list := without(*p.mem.Load(), s)
	p.mem.Store(&list)
}

// briskSleep is how short a sleep is after which it pays to look again for a while
// before the next one.
const briskSleep = time.Millisecond

// look is a wait that does not.
func (p *poller) look() int {
	// Raw, as it never blocks: the scheduler need not be told.
	n, _, errno := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(p.epfd),
		uintptr(unsafe.Pointer(&p.events[0])), uintptr(len(p.events)), 0, 0, 0)
	if errno != 0 {
		return 0 // EINTR
	}
	return int(n)
}

// again reports whether a source without a descriptor has more.
func (p *poller) again() bool {
	return slices.ContainsFunc(*p.mem.Load(), func(s *source) bool { return s != nil && s.ready.Load() })
}

// sleep waits. If the last wait was short it looks for a while first, and lets
// others run in between: to be woken takes longer than many an answer does to
// come, and the processor that would go idle takes longest.
func (p *poller) sleep() int {
	start := time.Now()
	for p.brisk && time.Since(start) < p.busy {
		syscall.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0)
		if n := p.look(); n > 0 {
			return n
		}
	}
	n, err := unix.EpollWait(p.epfd, p.events[:], -1)
	if err != nil {
		n = 0 // EINTR
	}
	p.brisk = time.Since(start) < briskSleep
	return n
}

// calm has the next sleep begin at once: what came last is nothing that the next
// event answers.
func (p *poller) calm() { p.brisk = false }

// wake ends the worker's wait, at once or the next time it waits.
func (p *poller) wake() {
	if p.woken.Swap(true) {
		return
	}
	p.wakeMu.Lock()
	defer p.wakeMu.Unlock()
	if p.closed {
		return // the number may be another file's by now
	}
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	// A full counter means that the worker is to be woken anyway.
	_, _ = unix.Write(p.wakefd, one[:])
}

// wait blocks until wake was called or a source has something, and returns those
// that have. The slice is good until the next call.
func (p *poller) wait() []*source {
	p.ready = p.ready[:0]
	n := p.look()
	if n == 0 && !p.again() {
		n = p.sleep()
	}
	list := *p.byIndex.Load()
	for _, e := range p.events[:n] {
		if e.Fd < 0 {
			// In this order: a wake that comes in between finds woken set and
			// writes nothing, and what it wakes for is looked at below.
			var b [8]byte
			_, _ = unix.Read(p.wakefd, b[:])
			p.woken.Store(false)
			continue
		}
		if s := list[e.Fd]; s != nil {
			p.ready = append(p.ready, s)
		}
	}
	for _, s := range *p.mem.Load() {
		if s != nil && s.ready.Swap(false) {
			p.ready = append(p.ready, s)
		}
	}
	return p.ready
}
