package vtep

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/uvtep/uvtep/dhcpd"
	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/tap"
	"github.com/uvtep/uvtep/internal/underlay"
)

// maxLearnedPeers bounds what strangers can make a segment remember.
const maxLearnedPeers = 4096

// remote is what a segment keeps of a remote VTEP.
type remote struct {
	addr    *underlay.Remote
	traffic []traffic // one a worker
}

// peer is a remote VTEP of a segment.
type peer = fdb.Peer[*remote]

// view is what workers see of a segment. It never changes; a change makes
// another one.
type view struct {
	ports   []*Port          // by id; nil where a number is free
	group   *underlay.Remote // floods also go there; nil = no group
	learn   bool
	mtu     int
	takes   tap.Offload // what any of the ports takes
	service *service    // nil: the segment has none
}

// Segment is one VNI's broadcast domain.
type Segment struct {
	v      *VTEP
	vni    encap.VNI
	table  *fdb.Table
	peers  *fdb.Peers[*remote]
	drops  dropTable
	view   atomic.Pointer[view]
	cfg    SegmentConfig // changed under v.mu, as what follows
	joined netip.Addr
	closed bool // removed
}

func newSegment(v *VTEP, cfg SegmentConfig) (*Segment, error) {
	s := &Segment{v: v, vni: cfg.VNI, cfg: cfg, table: fdb.New(cfg.tableConfig()), peers: fdb.NewPeers[*remote](maxLearnedPeers), drops: make(dropTable, v.cfg.Workers+1)}
	vw := &view{learn: !cfg.NoLearning, mtu: cfg.MTU}
	if cfg.Group.IsValid() {
		if err := v.ep.Join(cfg.Group); err != nil {
			return nil, fmt.Errorf("segment %v: %w", cfg.VNI, err)
		}
		s.joined = cfg.Group
		vw.group = underlay.NewRemote(cfg.Group, v.cfg.Port)
	}
	s.view.Store(vw)
	if cfg.DHCP != nil {
		sv, err := s.newService(cfg.DHCP)
		if err != nil {
			return nil, errors.Join(err, s.close())
		}
		vw.service = sv
	}
	for _, a := range cfg.Peers {
		if _, err := s.addPeer(a, fdb.PeerConfig, true); err != nil {
			return nil, errors.Join(err, s.close())
		}
	}
	for _, e := range cfg.FDB {
		if e.Port != "" {
			continue // bound when the port comes
		}
		if err := s.addStatic(e, fdb.PeerConfig); err != nil {
			return nil, errors.Join(err, s.close())
		}
	}
	return s, nil
}

// close is called under v.mu, with the segment out of the workers' sight.
func (s *Segment) close() error {
	s.closed = true
	var errs []error
	for _, p := range s.view.Load().ports {
		if p != nil {
			errs = append(errs, s.detach(p))
		}
	}
	if s.joined.IsValid() {
		errs = append(errs, s.v.ep.Leave(s.joined))
		s.joined = netip.Addr{}
	}
	if sv := s.view.Load().service; sv != nil {
		errs = append(errs, s.endService(sv))
	}
	s.v.settle()
	return errors.Join(errs...)
}

// usable says why the segment cannot be changed any more. It is called under
// v.mu.
func (s *Segment) usable() error {
	switch {
	case s.v.closed:
		return ErrClosed
	case s.closed:
		return fmt.Errorf("segment %v %w", s.vni, ErrNotFound)
	}
	return nil
}

// DHCP is the segment's DHCP server, nil if it has none.
func (s *Segment) DHCP() *dhcpd.Server {
	if sv := s.view.Load().service; sv != nil {
		return sv.server
	}
	return nil
}

// VNI is the segment's number.
func (s *Segment) VNI() encap.VNI { return s.vni }

// Config is the segment's configuration, its defaults filled in.
func (s *Segment) Config() SegmentConfig {
	s.v.mu.Lock()
	defer s.v.mu.Unlock()
	return s.cfg
}

// MACs is the number of entries in the forwarding database.
func (s *Segment) MACs() int { return s.table.Len() }

func (s *Segment) addPeer(a netip.Addr, o fdb.PeerOrigin, replicate bool) (*peer, error) {
	p, err := s.peers.Add(a, o, replicate, func(uint32) *remote {
		return &remote{addr: underlay.NewRemote(a.Unmap(), s.v.cfg.Port), traffic: make([]traffic, s.v.cfg.Workers)}
	})
	if err != nil {
		return nil, fmt.Errorf("segment %v: peer %v: %w", s.vni, a, err)
	}
	return p, nil
}

// AddPeer adds a remote VTEP to the replication list.
func (s *Segment) AddPeer(a netip.Addr) error {
	if err := checkPeer(s.v.cfg, a); err != nil {
		return fmt.Errorf("segment %v: %w: %w", s.vni, ErrInvalid, err)
	}
	s.v.mu.Lock()
	defer s.v.mu.Unlock()
	if err := s.usable(); err != nil {
		return err
	}
	if p, ok := s.peers.Lookup(a.Unmap()); ok && p.Replicate() {
		return fmt.Errorf("segment %v: peer %v %w", s.vni, a, ErrExists)
	}
	_, err := s.addPeer(a, fdb.PeerAPI, true)
	return err
}

// RemovePeer takes a remote VTEP away, with all that the forwarding database
// knows behind it.
func (s *Segment) RemovePeer(a netip.Addr) error {
	s.v.mu.Lock()
	defer s.v.mu.Unlock()
	if _, ok := s.peers.Lookup(a.Unmap()); !ok {
		return fmt.Errorf("segment %v: peer %v %w", s.vni, a, ErrNotFound)
	}
	s.forgetAddr(a.Unmap())
	return nil
}

// forgetAddr takes a peer away with all that is known behind it. Its number is
// free again once no worker can learn or look it up.
func (s *Segment) forgetAddr(a netip.Addr) {
	id, ok := s.peers.Remove(a)
	if !ok {
		return
	}
	s.v.settle()
	s.table.FlushDst(fdb.Remote(id), true)
	s.v.settle()
	s.peers.Release(id)
}

// PeerStats describes a remote VTEP.
type PeerStats struct {
	Addr      netip.Addr
	Origin    fdb.PeerOrigin
	Replicate bool
	Traffic
}

// Peers are the remote VTEPs, by address.
func (s *Segment) Peers() []PeerStats {
	var out []PeerStats
	for _, p := range s.peers.All() {
		out = append(out, PeerStats{Addr: p.Addr, Origin: p.Origin(), Replicate: p.Replicate(), Traffic: sum(p.Value.traffic)})
	}
	slices.SortFunc(out, func(a, b PeerStats) int { return a.Addr.Compare(b.Addr) })
	return out
}

// AddStatic binds a MAC for good.
func (s *Segment) AddStatic(e StaticEntry) error {
	s.v.mu.Lock()
	defer s.v.mu.Unlock()
	if err := s.usable(); err != nil {
		return err
	}
	return s.addStatic(e, fdb.PeerAPI)
}

func (s *Segment) addStatic(e StaticEntry, o fdb.PeerOrigin) error {
	var d fdb.Dst
	if e.Port != "" {
		p := s.port(e.Port)
		if p == nil {
			return fmt.Errorf("segment %v: port %s %w", s.vni, e.Port, ErrNotFound)
		}
		d = fdb.Local(p.id)
	} else {
		if err := checkPeer(s.v.cfg, e.Dst); err != nil {
			return fmt.Errorf("segment %v: %v: %w: %w", s.vni, e.MAC, ErrInvalid, err)
		}
		p, err := s.addPeer(e.Dst, o, false)
		if err != nil {
			return err
		}
		d = fdb.Remote(p.ID)
	}
	if err := s.table.AddStatic(e.MAC, d); err != nil {
		return fmt.Errorf("segment %v: %v: %w", s.vni, e.MAC, err)
	}
	return nil
}

// DeleteMAC removes an entry of the forwarding database, of either kind.
func (s *Segment) DeleteMAC(m fdb.MAC) error {
	if !s.table.Delete(m) {
		return fmt.Errorf("segment %v: %v %w", s.vni, m, ErrNotFound)
	}
	return nil
}

// FlushFDB removes what was learned and returns how much that was.
func (s *Segment) FlushFDB() int { return s.table.Flush() }

// FDBEntry is an entry of the forwarding database. Port is set for a local one,
// Dst for a remote one, neither for the segment's own addresses.
type FDBEntry struct {
	MAC   fdb.MAC
	Port  string
	Dst   netip.Addr
	State string // dynamic, static, self
	Age   time.Duration
}

// FDB is the forwarding database, by MAC.
func (s *Segment) FDB() []FDBEntry {
	ports := s.view.Load().ports
	var out []FDBEntry
	for _, e := range s.table.Entries(s.v.seconds()) {
		r := FDBEntry{MAC: e.MAC, State: e.State(), Age: time.Duration(e.Age) * time.Second}
		switch i := int(e.Dst.Index()); {
		case e.Dst.IsLocal() && i < len(ports) && ports[i] != nil:
			r.Port = ports[i].cfg.Name
		case e.Dst.IsRemote():
			if p := s.peers.ByID(e.Dst.Index()); p != nil {
				r.Dst = p.Addr
			}
		}
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b FDBEntry) int { return cmp.Compare(a.MAC, b.MAC) })
	return out
}

// maintain ages what was learned.
func (s *Segment) maintain(ctx context.Context) {
	now := s.v.seconds()
	for ctx.Err() == nil {
		if _, done := s.table.Sweep(now, sweepBudget); done {
			break
		}
		runtime.Gosched()
	}
	s.agePeers(now)
	s.lostOffloads()
	for _, p := range s.view.Load().ports {
		if p != nil && p.gone.Load() && !p.told.Swap(true) {
			s.v.cfg.Logger.Warn("a port has vanished; reload to open it again", "vni", s.vni, "port", p.cfg.Name)
			s.table.FlushDst(fdb.Local(p.id), false)
		}
	}
}

// agePeers forgets the peers that were learned and have been silent for as long
// as a MAC may be.
func (s *Segment) agePeers(now fdb.Seconds) {
	s.v.mu.Lock()
	defer s.v.mu.Unlock()
	age := s.cfg.tableConfig().Ageing
	if age == 0 {
		return
	}
	for _, p := range s.peers.All() {
		if p.Origin() == fdb.PeerLearned && now-p.Seen() > age {
			s.forgetAddr(p.Addr)
		}
	}
}
