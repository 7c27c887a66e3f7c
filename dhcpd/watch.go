package dhcpd

import (
	"net/netip"
	"slices"
	"sync"
)

// LeaseChange says that an address or a delegated prefix is its client's, or no
// longer is. One that says so takes the place of all that was said of the same
// Prefix before: the client may have moved to another port, or be another.
type LeaseChange struct {
	Prefix netip.Prefix // an address is a prefix of all its bits
	Bound  bool         // else the lease has ended, and the rest is what was known of it
	MAC    [6]byte      // the client's Ethernet address; zero: not known

	// Port is the local port that the client was last seen on, VTEP the remote
	// one that it was last seen behind. Both are zero where it is not known: VTEP
	// is not stored, so after a restart until the client is heard again.
	Port string
	VTEP netip.Addr

	// Relayed: the address is of another subnet than the segment's own, behind a
	// relay. Nobody on the segment has it as his own.
	Relayed bool
}

// watcher is one who is told of a segment's leases.
type watcher struct{ fn func(LeaseChange) }

// audience are the watchers of a segment, as one of its servers knows them, under
// its lock. B is what the server has of a lease.
type audience[B tenancy] struct {
	watchers []*watcher // nil, as a rule; never changed, only replaced
	about    func(B) LeaseChange
}

// note says that a lease has become its client's or was renewed, durably, or that
// it no longer is. Whatever takes a lease from its client comes by here.
func (a *audience[B]) note(b B, now bool) {
	h := b.held()
	if !now && !h.told {
		return
	}
	h.told = now
	if a.watchers != nil {
		c := a.about(b)
		c.Bound = now
		for _, w := range a.watchers {
			w.fn(c)
		}
	}
}

// observe puts the segment's watchers in place. One that is new, if not nil, is
// told of every lease among held.
func (a *audience[B]) observe(all []*watcher, fresh *watcher, held []B) {
	a.watchers = all
	if fresh == nil {
		return
	}
	for _, b := range held {
		if b.held().told {
			c := a.about(b)
			c.Bound = true
			fresh.fn(c)
		}
	}
}

// close says that no lease is its client's any more.
func (a *audience[B]) close(held []B) {
	for _, b := range held {
		a.note(b, false)
	}
	a.watchers = nil
}

// Watch has fn told of the leases of a segment, of both families: at once of all
// that there are, then of each that begins, is renewed or ends. A lease begins,
// and is renewed, once it is durable and before its client is told. The segment
// need not be there: when it comes its leases begin, and when it is removed they
// end. Nothing is told of the end of the Service.
//
// fn is called by whichever goroutine caused the change, with the segment locked:
// for one address in the order of the changes, for addresses of the two families
// possibly at the same time. It must not wait and may not call into the Service.
// Once stop has returned it is not called again; who calls Watch or stop may hold
// no lock that fn takes.
func (s *Service) Watch(segment uint32, fn func(LeaseChange)) (stop func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := &watcher{fn}
	s.setWatchers(segment, append(slices.Clone(s.watchers[segment]), w), w)
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		rest := slices.DeleteFunc(slices.Clone(s.watchers[segment]), func(o *watcher) bool { return o == w })
		s.setWatchers(segment, rest, nil)
	})
}

// setWatchers replaces the watchers of a segment; s.mu is held.
func (s *Service) setWatchers(segment uint32, all []*watcher, fresh *watcher) {
	if len(all) == 0 {
		all = nil
		delete(s.watchers, segment)
	} else {
		s.watchers[segment] = all
	}
	if srv := s.servers[segment]; srv != nil {
		srv.observe(all, fresh)
	}
	if srv := s.servers6[segment]; srv != nil {
		srv.observe(all, fresh)
	}
}

// about is what can be told of a lease, whatever its family.
func (h *tenure) about(p netip.Prefix) LeaseChange {
	at := h.where()
	c := LeaseChange{Prefix: p, Port: at.port, VTEP: at.vtep}
	if len(h.chaddr) == len(c.MAC) {
		copy(c.MAC[:], h.chaddr)
	}
	return c
}

func (s *Server) aboutLease(b *binding) LeaseChange {
	n := s.home(b.ip)
	c := b.about(netip.PrefixFrom(toAddr(b.ip), 32))
	if b.htype != htypeEthernet {
		c.MAC = [6]byte{}
	}
	c.Relayed = n != s.nets[0] && n != s.stray
	return c
}

func (s *Server6) aboutLease(b *binding6) LeaseChange { return b.about(b.prefix) }
