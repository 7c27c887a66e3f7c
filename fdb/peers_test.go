package fdb

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
)

func mustAdd(t *testing.T, s *Peers[int], addr netip.Addr, o PeerOrigin, replicate bool) *Peer[int] {
	t.Helper()
	p, err := s.Add(addr, o, replicate, func(id uint32) int { return int(id) * 10 })
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestAPeerIsFoundByAddressAndByNumber(t *testing.T) {
	s := NewPeers[int](0)
	addrs := []netip.Addr{
		netip.MustParseAddr("10.9.0.2"), netip.MustParseAddr("2001:db8::2"),
		netip.MustParseAddr("fe80::2%eth0"), netip.MustParseAddr("fe80::2%eth1"),
	}
	for _, a := range addrs {
		p := mustAdd(t, s, a, PeerConfig, true)
		if again := mustAdd(t, s, a, PeerConfig, true); again != p {
			t.Errorf("%v was added twice", a)
		}
		if p.Addr != a || p.Value != int(p.ID)*10 {
			t.Errorf("%v is %+v", a, p)
		}
		if got, ok := s.Lookup(a); !ok || got != p || s.ByID(p.ID) != p {
			t.Errorf("%v is not found", a)
		}
	}
	mapped := netip.MustParseAddr("::ffff:10.9.0.2")
	if p, ok := s.Lookup(mapped); !ok || p.Addr != addrs[0] {
		t.Error("an IPv4-mapped address is not the IPv4 address")
	}
	if _, ok := s.Lookup(netip.Addr{}); ok {
		t.Error("the zero address is found")
	}
	if s.Len() != 4 || len(s.Replication()) != 4 || len(s.All()) != 4 || s.ByID(4) != nil || s.ByID(1<<31) != nil {
		t.Errorf("%d peers", s.Len())
	}
	for _, a := range []string{"0.0.0.0", "::", "239.1.1.1", "ff02::1", "255.255.255.255"} {
		if _, err := s.Add(netip.MustParseAddr(a), PeerConfig, true, nil); !errors.Is(err, ErrBadPeer) {
			t.Errorf("%s: %v", a, err)
		}
	}
	if _, err := s.Add(netip.Addr{}, PeerConfig, true, nil); !errors.Is(err, ErrBadPeer) {
		t.Errorf("zero address: %v", err)
	}
}

func TestALearnedPeerIsNeverFloodedTo(t *testing.T) {
	s := NewPeers[int](2)
	a := mustAdd(t, s, peerAddr(1), PeerLearned, true)
	if a.Replicate() || len(s.Replication()) != 0 || s.SetReplicate(peerAddr(1), true) {
		t.Error("floods go to a learned peer")
	}
	mustAdd(t, s, peerAddr(2), PeerLearned, false)
	if _, err := s.Add(peerAddr(3), PeerLearned, false, nil); !errors.Is(err, ErrTooManyPeers) {
		t.Errorf("a third learned peer: %v", err)
	}
	if _, err := s.Add(peerAddr(2), PeerLearned, false, nil); err != nil {
		t.Errorf("a known one: %v", err)
	}
	// An order of the operator's makes a learned one his, and makes room.
	if p := mustAdd(t, s, peerAddr(1), PeerAPI, true); p != a || p.Origin() != PeerAPI || !slices.Equal(s.Replication(), []*Peer[int]{a}) {
		t.Errorf("added by the API: %v, replicate %v", p.Origin(), p.Replicate())
	}
	if p := mustAdd(t, s, peerAddr(1), PeerConfig, false); p.Origin() != PeerConfig || !p.Replicate() {
		t.Errorf("configured: %v, replicate %v", p.Origin(), p.Replicate())
	}
	if p := mustAdd(t, s, peerAddr(1), PeerLearned, false); p.Origin() != PeerConfig || !p.Replicate() {
		t.Errorf("heard of: %v, replicate %v", p.Origin(), p.Replicate())
	}
	mustAdd(t, s, peerAddr(3), PeerLearned, false)
	s.Remove(peerAddr(3))
	mustAdd(t, s, peerAddr(4), PeerLearned, false)
}

func TestANumberIsNotGivenAgainUntilItIsReleased(t *testing.T) {
	s := NewPeers[int](0)
	a := mustAdd(t, s, peerAddr(1), PeerConfig, true)
	if s.Release(a.ID) || s.Release(77) {
		t.Error("the number of a peer, or of none, was released")
	}
	id, ok := s.Remove(peerAddr(1))
	if !ok || id != a.ID {
		t.Fatalf("removed %d, %v", id, ok)
	}
	if _, ok := s.Lookup(peerAddr(1)); ok || s.Len() != 0 || len(s.All()) != 0 || len(s.Replication()) != 0 {
		t.Error("a removed peer is found")
	}
	if s.ByID(id) != a {
		t.Error("a removed peer is not found by its number")
	}
	if _, ok := s.Remove(peerAddr(1)); ok {
		t.Error("removed twice")
	}
	b := mustAdd(t, s, peerAddr(1), PeerConfig, true)
	if b.ID == id {
		t.Error("a number was given again that a worker may hold")
	}
	if !s.Release(id) || s.Release(id) || s.ByID(id) != nil || s.ByID(b.ID) != b {
		t.Error("release")
	}
	if c := mustAdd(t, s, peerAddr(2), PeerConfig, true); c.ID != id {
		t.Errorf("number %d, want the released %d", c.ID, id)
	}
}

func TestTheReplicationListIsASnapshot(t *testing.T) {
	s := NewPeers[int](0)
	var want []*Peer[int]
	for i := range 10 {
		want = append(want, mustAdd(t, s, peerAddr(i), PeerConfig, true))
	}
	before := s.Replication()
	more := mustAdd(t, s, peerAddr(10), PeerAPI, true)
	_ = append(before, nil) // must not be seen by others
	if !slices.Equal(s.Replication(), append(slices.Clone(want), more)) {
		t.Error("after adding one")
	}
	s.Remove(peerAddr(3))
	if !s.SetReplicate(peerAddr(5), false) || s.SetReplicate(peerAddr(99), true) {
		t.Error("SetReplicate")
	}
	if !slices.Equal(before, want) {
		t.Error("a snapshot has changed")
	}
	left := append(slices.Clone(want[:3]), want[4], want[6], want[7], want[8], want[9], more)
	if !slices.Equal(s.Replication(), left) {
		t.Error("after removing two")
	}
	s.SetReplicate(peerAddr(5), true)
	s.SetReplicate(peerAddr(5), true)
	if !slices.Equal(s.Replication(), append(left, want[5])) {
		t.Error("after adding one again")
	}
}

func TestATouchTellsWhenAPeerWasSeen(t *testing.T) {
	p := mustAdd(t, NewPeers[int](0), peerAddr(1), PeerLearned, false)
	if p.Seen() != 0 {
		t.Errorf("seen at %d", p.Seen())
	}
	p.Touch(7)
	p.Touch(7)
	if p.Seen() != 7 {
		t.Errorf("seen at %d", p.Seen())
	}
}

func TestRandomOperationsOnPeersDoWhatAMapDoes(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 3))
		s := NewPeers[int](0)
		model := map[netip.Addr]*Peer[int]{}
		var removed []*Peer[int]
		taken := map[uint32]bool{}
		space := 4 << (seed % 10)
		for range 3000 {
			a := peerAddr(r.IntN(space))
			switch r.IntN(5) {
			case 0, 1:
				p := mustAdd(t, s, a, PeerConfig, r.IntN(2) == 0)
				if old := model[a]; old != nil && old != p || old == nil && taken[p.ID] {
					t.Fatalf("seed %d: added %v as %d", seed, a, p.ID)
				}
				model[a] = p
				taken[p.ID] = true
			case 2:
				id, ok := s.Remove(a)
				if p := model[a]; ok != (p != nil) || ok && p.ID != id {
					t.Fatalf("seed %d: removed %v as %d, %v", seed, a, id, ok)
				} else if ok {
					removed = append(removed, p)
					delete(model, a)
				}
			case 3:
				if n := len(removed); n > 0 {
					p := removed[n-1]
					removed = removed[:n-1]
					if s.ByID(p.ID) != p || !s.Release(p.ID) {
						t.Fatalf("seed %d: %d is not held", seed, p.ID)
					}
					delete(taken, p.ID)
				}
			default:
				if p, ok := s.Lookup(a); ok != (model[a] != nil) || p != model[a] {
					t.Fatalf("seed %d: %v is %v, %v", seed, a, p, ok)
				}
			}
			if s.Len() != len(model) {
				t.Fatalf("seed %d: %d peers, want %d", seed, s.Len(), len(model))
			}
		}
		flooded := 0
		for a, p := range model {
			if got, _ := s.Lookup(a); got != p || s.ByID(p.ID) != p {
				t.Fatalf("seed %d: %v is not found", seed, a)
			}
			if p.Replicate() {
				flooded++
			}
		}
		if len(s.All()) != len(model) || len(s.Replication()) != flooded {
			t.Fatalf("seed %d: %d listed, %d flooded to; want %d, %d", seed, len(s.All()), len(s.Replication()), len(model), flooded)
		}
	}
}

func TestPeersAreReadWhileTheyChange(t *testing.T) {
	s := NewPeers[int](0)
	for i := range 100 {
		mustAdd(t, s, peerAddr(i), PeerConfig, true)
	}
	var end atomic.Bool
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			r := rand.New(rand.NewPCG(8, 8))
			for !end.Load() {
				i := r.IntN(3000)
				p, ok := s.Lookup(peerAddr(i))
				if i < 100 && !ok || ok && (p.Addr != peerAddr(i) || p.Value != int(p.ID)*10) {
					t.Errorf("%v is %+v", peerAddr(i), p)
					return
				}
				if ok {
					p.Touch(Seconds(i))
				}
				if p := s.ByID(uint32(i)); p != nil && p.ID != uint32(i) {
					t.Errorf("number %d is %+v", i, p)
					return
				}
				if i%50 == 0 {
					n := 0
					for _, p := range s.Replication() {
						if p.Origin() != PeerConfig {
							t.Errorf("floods go to %+v", p)
						}
						if p.ID < 100 {
							n++
						}
					}
					if n != 100 || len(s.All()) < 100 {
						t.Errorf("floods go to %d of 100", n)
						return
					}
				}
			}
		})
	}
	together(2, func(worker int, r *rand.Rand) {
		for range 20 {
			for i := range 500 {
				if _, err := s.Add(peerAddr(1000+1000*worker+i), PeerConfig, true, func(id uint32) int { return int(id) * 10 }); err != nil {
					t.Error(err)
				}
			}
			for i := range 500 {
				if id, ok := s.Remove(peerAddr(1000 + 1000*worker + i)); !ok || !s.Release(id) {
					t.Errorf("number %d, %v", id, ok)
				}
			}
		}
	})
	end.Store(true)
	readers.Wait()
	if s.Len() != 100 {
		t.Errorf("%d peers", s.Len())
	}
}

func TestTenThousandPeersAreFound(t *testing.T) {
	s := NewPeers[int](0)
	const n = 10_000
	for i := range n {
		mustAdd(t, s, peerAddr(i), PeerConfig, true)
	}
	for i, p := range s.All() {
		if got, ok := s.Lookup(peerAddr(i)); !ok || got != p || s.ByID(uint32(i)) != p {
			t.Fatalf("peer %d", i)
		}
	}
	if len(s.Replication()) != n {
		t.Fatalf("floods go to %d", len(s.Replication()))
	}
	addr := peerAddr(77)
	if allocs := testing.AllocsPerRun(100, func() {
		p, _ := s.Lookup(addr)
		s.ByID(p.ID).Touch(3)
		s.Replication()
	}); allocs != 0 {
		t.Errorf("%v allocations a lookup", allocs)
	}
	for i := range n {
		if id, ok := s.Remove(peerAddr(i)); !ok || !s.Release(id) {
			t.Fatalf("peer %d was not removed", i)
		}
	}
	if slots := len(s.byAddr.tab.Load().slots); slots > 64 || s.Len() != 0 {
		t.Errorf("%d peers left, in %d slots", s.Len(), slots)
	}
}
