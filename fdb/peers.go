package fdb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
)

// What Peers.Add refuses.
var (
	ErrTooManyPeers = errors.New("too many learned peers")
	ErrBadPeer      = errors.New("not the address of one host")
)

// PeerOrigin says how a remote VTEP came to be known. A greater one has
// precedence.
type PeerOrigin uint8

const (
	PeerLearned PeerOrigin = iota // it sent something
	PeerAPI                       // added while running
	PeerConfig                    // configured
)

// String is the word that users see: learned, api, config.
func (o PeerOrigin) String() string {
	switch o {
	case PeerLearned:
		return "learned"
	case PeerAPI:
		return "api"
	case PeerConfig:
		return "config"
	}
	return "origin " + strconv.Itoa(int(o))
}

// Peer is a remote VTEP of one segment.
type Peer[T any] struct {
	Addr  netip.Addr // as Peers keeps it: never an IPv4-mapped IPv6 address
	ID    uint32     // the number for Remote
	Value T          // the owner's: what value returned in Peers.Add

	origin    atomic.Uint32
	replicate atomic.Bool
	seen      atomic.Uint32
}

// Origin says how the peer came to be known.
func (p *Peer[T]) Origin() PeerOrigin { return PeerOrigin(p.origin.Load()) }

// Replicate tells whether floods go to the peer.
func (p *Peer[T]) Replicate() bool { return p.replicate.Load() }

// Touch notes that the peer was heard of at the time now. It writes only when
// the second has changed.
func (p *Peer[T]) Touch(now Seconds) {
	if p.seen.Load() != uint32(now) {
		p.seen.Store(uint32(now))
	}
}

// Seen is when the peer was last heard of; 0 if never.
func (p *Peer[T]) Seen() Seconds { return Seconds(p.seen.Load()) }

// Peers is the set of remote VTEPs of one segment: found by address or by
// number without locks, and changed under one. A T is kept with each.
//
// An IPv4-mapped IPv6 address is the IPv4 address in it, in every method.
type Peers[T any] struct {
	seed   [3]uint64
	byAddr index[netip.Addr, *Peer[T]]
	byID   atomic.Pointer[[]*peerPage[T]]
	flood  atomic.Pointer[[]*Peer[T]]

	mu         sync.Mutex
	n, learned atomic.Int64 // findable ones; the learned among them
	maxLearned int
	free       []uint32 // numbers that were released
	next       uint32   // the least number never used
}

// peerPage holds 64 peers: a set of a few stays small, one of many is extended
// without copying it.
type peerPage[T any] [64]atomic.Pointer[Peer[T]]

// NewPeers makes an empty set that takes at most maxLearned learned peers; 0 is
// no limit.
func NewPeers[T any](maxLearned int) *Peers[T] {
	s := &Peers[T]{seed: newHashKey(), maxLearned: maxLearned}
	s.byAddr.init()
	s.byID.Store(&[]*peerPage[T]{})
	s.flood.Store(&[]*Peer[T]{})
	return s
}

func (s *Peers[T]) hash(a netip.Addr) uint64 {
	b := a.As16()
	hi, lo := bits.Mul64(binary.LittleEndian.Uint64(b[:8])^s.seed[0], binary.LittleEndian.Uint64(b[8:])^s.seed[1])
	hi, lo = bits.Mul64(hi^lo^s.seed[0], s.seed[2])
	return hi ^ lo
}

// Lookup finds a peer by its address. It takes no lock.
func (s *Peers[T]) Lookup(addr netip.Addr) (*Peer[T], bool) {
	addr = addr.Unmap()
	return s.byAddr.get(s.hash(addr), addr)
}

// ByID finds a peer by its number; nil if nobody has it. One that was removed
// is found until its number is released. It takes no lock.
func (s *Peers[T]) ByID(id uint32) *Peer[T] {
	pages := *s.byID.Load()
	if i := int(id / 64); i < len(pages) {
		return pages[i][id%64].Load()
	}
	return nil
}

// Add makes sure that addr is a peer and returns it. One that is there already
// gets the origin if that has precedence, never a lesser one, and replicate if
// it is true: a peer that was configured twice is one peer. Learned ones are
// never replicated to. For a new one value is called, with the number it is going
// to have and the set locked; it may be nil.
//
// The error is ErrTooManyPeers if the limit of learned ones is reached, or
// ErrBadPeer if addr is not a unicast address.
func (s *Peers[T]) Add(addr netip.Addr, origin PeerOrigin, replicate bool, value func(id uint32) T) (*Peer[T], error) {
	addr = addr.Unmap()
	if !addr.IsValid() || addr.IsUnspecified() || addr.IsMulticast() || addr == broadcast4 {
		return nil, fmt.Errorf("peer %v: %w: give a unicast address", addr, ErrBadPeer)
	}
	replicate = replicate && origin != PeerLearned
	h := s.hash(addr)
	s.mu.Lock()
	defer s.mu.Unlock()
	if p, ok := s.byAddr.get(h, addr); ok {
		if origin > p.Origin() {
			if p.Origin() == PeerLearned {
				s.learned.Add(-1)
			}
			p.origin.Store(uint32(origin))
		}
		if replicate {
			s.setReplicate(p, true)
		}
		return p, nil
	}
	if origin == PeerLearned {
		if s.maxLearned > 0 && s.learned.Load() >= int64(s.maxLearned) {
			return nil, fmt.Errorf("peer %v: %w: %d are known", addr, ErrTooManyPeers, s.maxLearned)
		}
		s.learned.Add(1)
	}
	p := &Peer[T]{Addr: addr, ID: s.number()}
	p.origin.Store(uint32(origin))
	if value != nil {
		p.Value = value(p.ID)
	}
	(*s.byID.Load())[p.ID/64][p.ID%64].Store(p)
	s.byAddr.put(h, addr, p)
	s.n.Add(1)
	s.setReplicate(p, replicate)
	return p, nil
}

var broadcast4 = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// number takes a number, of those released the one released last, and makes
// sure that there is a page for it.
func (s *Peers[T]) number() uint32 {
	if n := len(s.free); n > 0 {
		id := s.free[n-1]
		s.free = s.free[:n-1]
		return id
	}
	id := s.next
	s.next++
	if pages := *s.byID.Load(); int(id/64) == len(pages) {
		more := append(slices.Clip(pages), new(peerPage[T]))
		s.byID.Store(&more)
	}
	return id
}

// Remove takes the peer out of the set: it is no longer found by its address,
// and not replicated to. Its number stays taken, and ByID goes on finding it,
// until Release: entries of a table may still point to it, and a worker may be
// sending to it this moment.
func (s *Peers[T]) Remove(addr netip.Addr) (id uint32, ok bool) {
	addr = addr.Unmap()
	h := s.hash(addr)
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.byAddr.get(h, addr)
	if !ok {
		return 0, false
	}
	s.byAddr.del(h, addr)
	s.n.Add(-1)
	if p.Origin() == PeerLearned {
		s.learned.Add(-1)
	}
	s.setReplicate(p, false)
	return p.ID, true
}

// Release gives the number of a peer that was removed free for another one. Call
// it when no table has an entry with it and no worker can still hold one. It
// reports false, and does nothing, for a number that is not a removed peer's.
func (s *Peers[T]) Release(id uint32) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.ByID(id)
	if p == nil {
		return false
	}
	if now, ok := s.byAddr.get(s.hash(p.Addr), p.Addr); ok && now == p {
		return false
	}
	(*s.byID.Load())[id/64][id%64].Store(nil)
	s.free = append(s.free, id)
	return true
}

// Replication is those that floods go to, in the order they were added. The
// slice is a snapshot: nobody changes its elements, the caller included. It takes
// no lock.
func (s *Peers[T]) Replication() []*Peer[T] { return slices.Clip(*s.flood.Load()) }

// SetReplicate says whether floods go to the peer addr. It reports false if
// there is none, or if it is learned and floods were to go to it.
func (s *Peers[T]) SetReplicate(addr netip.Addr, on bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.Lookup(addr)
	if !ok || on && p.Origin() == PeerLearned {
		return false
	}
	s.setReplicate(p, on)
	return true
}

// setReplicate keeps the snapshot. A peer is appended behind the end of the
// slices that readers hold, where they do not look, so that n of them are
// added with O(n) copies in all.
func (s *Peers[T]) setReplicate(p *Peer[T], on bool) {
	if p.replicate.Load() == on {
		return
	}
	p.replicate.Store(on)
	list := *s.flood.Load()
	if on {
		list = append(list, p)
	} else {
		i := slices.Index(list, p)
		list = slices.Concat(list[:i], list[i+1:])
	}
	s.flood.Store(&list)
}

// All is every peer that can be found by its address, in the order of their
// numbers.
func (s *Peers[T]) All() []*Peer[T] {
	all := make([]*Peer[T], 0, s.Len())
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, page := range *s.byID.Load() {
		for i := range page {
			p := page[i].Load()
			if p == nil {
				continue
			}
			if now, ok := s.byAddr.get(s.hash(p.Addr), p.Addr); ok && now == p {
				all = append(all, p)
			}
		}
	}
	return all
}

// Len is the number of peers that can be found by their address.
func (s *Peers[T]) Len() int { return int(s.n.Load()) }
