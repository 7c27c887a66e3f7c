package daemon

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/uvtep/uvtep/dhcpd"
)

// leaseStore is the lease store of a state directory. It is opened when the
// first segment with a DHCP server is there, so that a daemon without any needs
// no directory and has no quarrel about it with another.
type leaseStore struct {
	path string

	mu    sync.Mutex
	store dhcpd.Store // nil until it is needed
}

func newLeaseStore(dir string) *leaseStore {
	return &leaseStore{path: filepath.Join(dir, "leases.db")}
}

func (s *leaseStore) open() (dhcpd.Store, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.store != nil {
		return s.store, nil
	}
	dir := filepath.Dir(s.path)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		var p *os.PathError
		if errors.As(err, &p) {
			err = p.Err
		}
		return nil, fmt.Errorf("make the state directory %s: %w; change state in the configuration", dir, err)
	}
	store, err := dhcpd.OpenBolt(s.path)
	if err != nil {
		return nil, err
	}
	s.store = store
	return store, nil
}

// Load and the methods after it implement dhcpd.Store.
func (s *leaseStore) Load(segment uint32, each func(dhcpd.Lease) error) error {
	store, err := s.open()
	if err != nil {
		return err
	}
	return store.Load(segment, each)
}

func (s *leaseStore) Load6(segment uint32, each func(dhcpd.Lease) error) error {
	store, err := s.open()
	if err != nil {
		return err
	}
	return store.Load6(segment, each)
}

func (s *leaseStore) Commit(changes []dhcpd.Change) error {
	store, err := s.open()
	if err != nil {
		return err
	}
	return store.Commit(changes)
}

func (s *leaseStore) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.store == nil {
		return nil
	}
	err := s.store.Close()
	s.store = nil
	return err
}
