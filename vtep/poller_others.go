//go:build !linux

package vtep

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// poller tells a worker which of its sources have something. Without epoll only
// readers that notify can be waited for, as the doubles do.
type poller struct {
	mu    sync.Mutex
	mem   atomic.Pointer[[]*source]
	woken chan struct{}
	ready []*source
}

func newPoller(time.Duration) (*poller, error) {
	p := &poller{woken: make(chan struct{}, 1)}
	p.mem.Store(new([]*source))
	return p, nil
}

func (p *poller) close() error { return nil }

func (p *poller) add(s *source) error {
	n, ok := s.r.(notifier)
	if !ok {
		return errors.New("this system has no epoll to wait for a device with")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.dead.Load() {
		return nil
	}
	list := append(slices.Clone(*p.mem.Load()), s)
	p.mem.Store(&list)
	n.Notify(func() { s.ready.Store(true); p.wake() })
	s.ready.Store(true)
	p.wake()
	return nil
}

func (p *poller) remove(s *source) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.dead.Store(true)
	p.drop(s)
}

func (p *poller) pause(s *source) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drop(s)
}

func (p *poller) drop(s *source) {
	if n, ok := s.r.(notifier); ok {
		n.Notify(func() {}) // it may outlive the worker
	}
	list := slices.DeleteFunc(slices.Clone(*p.mem.Load()), func(e *source) bool { return e == s })
	p.mem.Store(&list)
}

func (p *poller) calm() {}

func (p *poller) wake() {
	select {
	case p.woken <- struct{}{}:
	default:
	}
}

func (p *poller) wait() []*source {
	p.ready = p.ready[:0]
	if slices.ContainsFunc(*p.mem.Load(), func(s *source) bool { return s.ready.Load() }) {
		select {
		case <-p.woken:
		default:
		}
	} else {
		<-p.woken
	}
	for _, s := range *p.mem.Load() {
		if s.ready.Swap(false) {
			p.ready = append(p.ready, s)
		}
	}
	return p.ready
}
