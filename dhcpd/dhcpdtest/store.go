package dhcpdtest

import (
	"sync"

	"github.com/uvtep/uvtep/dhcpd"
)

// Store is a lease store that fails or stands still on command. What it
// committed is kept by Under, which a test can look into or hand to the next
// service as after a restart.
type Store struct {
	Under dhcpd.Store

	mu      sync.Mutex
	cond    *sync.Cond
	err     error
	once    bool
	blocked bool
	waiting int
	commits int
}

// NewStore makes a store on top of another; nil is a new MemoryStore.
func NewStore(under dhcpd.Store) *Store {
	if under == nil {
		under = dhcpd.MemoryStore()
	}
	s := &Store{Under: under}
	s.cond = sync.NewCond(&s.mu)
	return s
}

// Fail makes every Commit from now on return err, nothing being stored; nil
// ends that.
func (s *Store) Fail(err error) { s.fail(err, false) }

// FailOnce makes one Commit, the next to return, fail with err.
func (s *Store) FailOnce(err error) { s.fail(err, true) }

func (s *Store) fail(err error, once bool) {
	s.mu.Lock()
	s.err, s.once = err, once
	s.mu.Unlock()
}

// Block makes every Commit wait for Unblock.
func (s *Store) Block() {
	s.mu.Lock()
	s.blocked = true
	s.mu.Unlock()
}

// Unblock lets the waiting Commit go on.
func (s *Store) Unblock() {
	s.mu.Lock()
	s.blocked = false
	s.mu.Unlock()
	s.cond.Broadcast()
}

// AwaitCommit returns once a Commit waits in a blocked store.
func (s *Store) AwaitCommit() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.waiting == 0 {
		s.cond.Wait()
	}
}

// Commits is how many commits succeeded.
func (s *Store) Commits() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.commits
}

// Load implements dhcpd.Store.
func (s *Store) Load(segment uint32, each func(dhcpd.Lease) error) error {
	return s.Under.Load(segment, each)
}

// Load6 implements dhcpd.Store.
func (s *Store) Load6(segment uint32, each func(dhcpd.Lease) error) error {
	return s.Under.Load6(segment, each)
}

// Commit implements dhcpd.Store.
func (s *Store) Commit(changes []dhcpd.Change) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting++
	s.cond.Broadcast()
	for s.blocked {
		s.cond.Wait()
	}
	s.waiting--
	if err := s.err; err != nil {
		if s.once {
			s.err = nil
		}
		return err
	}
	if err := s.Under.Commit(changes); err != nil {
		return err
	}
	s.commits++
	return nil
}

// Close implements dhcpd.Store.
func (s *Store) Close() error { return s.Under.Close() }
