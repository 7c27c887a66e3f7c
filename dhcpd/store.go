package dhcpd

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
)

// Change is one thing to make durable: a lease put in place of what the store
// has for its address, or, with Delete, the address forgotten.
type Change struct {
	Segment uint32
	Delete  bool
	Lease   Lease // of a deletion only IP and PrefixLen count
}

// Store keeps leases over restarts, those of DHCPv4 and those of DHCPv6 apart.
// A service calls Commit from one goroutine; Load and Load6 may run beside it.
type Store interface {
	// Load calls each for every lease of IPv4 that a segment has, in any order,
	// until each returns an error, which Load returns. Lease.VTEP need not be
	// kept.
	Load(segment uint32, each func(Lease) error) error
	// Load6 is Load for the leases of IPv6. An address and a prefix that begins
	// with it are two leases.
	Load6(segment uint32, each func(Lease) error) error
	// Commit makes all changes durable, in their order, or none: when it
	// returns nil they survive the loss of power. It may not keep the slice.
	Commit(changes []Change) error
	// Close lets go of the store.
	Close() error
}

// Errors of stores; a StoreError is one of these.
var (
	// ErrStoreBusy: another program has the store open.
	ErrStoreBusy = errors.New("held by another program; stop that one, or give this one its own state directory")
	// ErrStoreDamaged: the file is torn, or it is something else.
	ErrStoreDamaged = errors.New("is damaged or not a lease store; move it aside to begin without leases")
	// ErrStoreNewer: the file is of a later version of the program.
	ErrStoreNewer = errors.New("was written by a newer version of this program; run that one")
)

// StoreError says which file cannot be used, what kind of trouble it is (one of
// the errors above) and what was found.
type StoreError struct {
	Path string
	Kind error
	Err  error // may be nil
}

func (e *StoreError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("lease store %s: %v", e.Path, e.Kind)
	}
	if errors.Is(e.Kind, ErrStoreDamaged) {
		return fmt.Sprintf("lease store %s: %v (mv %s %s.damaged): %v", e.Path, e.Kind, e.Path, e.Path, e.Err)
	}
	return fmt.Sprintf("lease store %s: %v: %v", e.Path, e.Kind, e.Err)
}

// Unwrap gives errors.Is both the kind and the cause.
func (e *StoreError) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Err}
}

// MemoryStore is a store that lasts as long as the process, for a segment
// without a state directory and for tests.
func MemoryStore() Store {
	return &memoryStore{four: map[uint32]map[uint32]Lease{}, six: map[uint32]map[netip.Prefix]Lease{}}
}

type memoryStore struct {
	mu   sync.Mutex
	four map[uint32]map[uint32]Lease
	six  map[uint32]map[netip.Prefix]Lease
}

func (m *memoryStore) Load(segment uint32, each func(Lease) error) error {
	m.mu.Lock()
	all := slices.Collect(maps.Values(m.four[segment]))
	m.mu.Unlock()
	return forEach(all, each)
}

func (m *memoryStore) Load6(segment uint32, each func(Lease) error) error {
	m.mu.Lock()
	all := slices.Collect(maps.Values(m.six[segment]))
	m.mu.Unlock()
	return forEach(all, each)
}

func forEach(all []Lease, each func(Lease) error) error {
	for _, l := range all {
		if err := each(l); err != nil {
			return err
		}
	}
	return nil
}

func (m *memoryStore) Commit(changes []Change) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range changes {
		c := &changes[i]
		if c.Lease.IP.Is4() {
			change(m.four, c, toU32(c.Lease.IP))
		} else {
			change(m.six, c, c.Lease.prefix())
		}
	}
	return nil
}

// change makes one change to the leases of a family.
func change[K comparable](segments map[uint32]map[K]Lease, c *Change, key K) {
	if c.Delete {
		delete(segments[c.Segment], key)
		return
	}
	if segments[c.Segment] == nil {
		segments[c.Segment] = map[K]Lease{}
	}
	segments[c.Segment][key] = c.Lease
}

func (m *memoryStore) Close() error { return nil }
