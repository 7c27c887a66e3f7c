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
	traffic []traffic    // one a worker
	waiting atomic.Int32 // DHCP requests that the service has not taken yet
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
	keeper  *keeper     // nil: no port is bound

	neighbours              *neighbours // nil: nothing is suppressed
	suppressARP, suppressND bool
	ageing                  fdb.Seconds // of what was learned; 0: never
}

// Segment is one VNI's broadcast domain.
type Segment struct {
	v     *VTEP
	vni   encap.VNI
	table *fdb.Table
	peers *fdb.Peers[*remote]
	drops dropTable
	view  atomic.Pointer[view]

	waiting atomic.Int32 // DHCP requests that the service has not taken yet
	heard   atomic.Int32 // of what workers heard for the services, likewise

	cfg     SegmentConfig // changed under v.mu, as what follows
	keeper  *keeper
	member  membership
	unwatch func() // ends what the DHCP servers tell the neighbours; nil: they do not
	closed  bool   // removed
}

func newSegment(v *VTEP, cfg SegmentConfig) (*Segment, error) {
	table := cfg.tableConfig()
	table.Total = v.macs
	s := &Segment{v: v, vni: cfg.VNI, cfg: cfg, table: fdb.New(table), peers: fdb.NewPeers[*remote](maxLearnedPeers), drops: make(dropTable, v.cfg.Workers+1)}
	vw := &view{learn: !cfg.NoLearning, mtu: cfg.MTU}
	s.member = s.enter(cfg.Group, cfg.Device)
	vw.group = s.member.remote
	s.view.Store(vw)
	c := change{s: s, new: cfg, view: *vw}
	if err := c.startServices(); err != nil {
		return nil, errors.Join(err, c.undo(), s.close())
	}
	c.suppress()
	s.view.Store(&c.view)
	for _, a := range cfg.Peers {
		if _, err := s.addPeer(a, fdb.PeerConfig, true); err != nil {
			return nil, errors.Join(err, s.close())
		}
	}
	// Those of ports are bound when the port comes.
	if err := s.addStatics(s.bindable(cfg.FDB), fdb.PeerConfig); err != nil {
		return nil, errors.Join(err, s.close())
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
	errs = append(errs, s.leave(s.member))
	s.member = membership{}
	s.watchLeases(nil)
	errs = append(errs, s.endServices(s.view.Load().service, nil))
	s.v.settle()
	s.table.Leave()
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
	if sv := s.view.Load().service; sv != nil && sv.v4 != nil {
		return sv.v4.server
	}
	return nil
}

// DHCP6 is the segment's DHCPv6 server, nil if it has none.
func (s *Segment) DHCP6() *dhcpd.Server6 {
	if sv := s.view.Load().service; sv != nil && sv.v6 != nil {
		return sv.v6.server
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
	fresh := false
	p, err := s.peers.Add(a, o, replicate, func(uint32) *remote {
		fresh = true
		return &remote{addr: underlay.NewRemote(a.Unmap(), s.v.cfg.Port), traffic: make([]traffic, s.v.cfg.Workers)}
	})
	if err != nil {
		return nil, fmt.Errorf("segment %v: peer %v: %w", s.vni, a, err)
	}
	if fresh {
		s.tellPeer(p.Addr, o)
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
	s.forget([]netip.Addr{a.Unmap()})
	return nil
}

// forget takes peers away with all that is known behind them, however many in
// two rounds of the workers. Their numbers are free again once no worker can
// learn or look them up.
func (s *Segment) forget(peers []netip.Addr) {
	of := map[fdb.Dst]bool{}
	for _, a := range peers {
		if id, ok := s.peers.Remove(a); ok {
			of[fdb.Remote(id)] = true
			s.tell(Event{Kind: EventPeerRemoved, Peer: a})
		}
	}
	if len(of) == 0 {
		return
	}
	s.v.settle()
	s.table.FlushDsts(of, true)
	s.forgetNeighbours(of)
	s.v.settle()
	for d := range of {
		s.peers.Release(d.Index())
	}
}

// forgetUnused forgets those of the peers that floods do not go to and that no
// static entry names.
func (s *Segment) forgetUnused(peers []netip.Addr) {
	if len(peers) == 0 {
		return
	}
	used := map[uint32]bool{}
	for _, e := range s.table.Entries(s.v.seconds()) {
		if e.Dst.IsRemote() && e.Origin == fdb.OriginStatic {
			used[e.Dst.Index()] = true
		}
	}
	s.forget(slices.DeleteFunc(peers, func(a netip.Addr) bool {
		p, ok := s.peers.Lookup(a)
		return !ok || p.Replicate() || used[p.ID]
	}))
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

// AddStatic binds a MAC for good, instead of where it was bound before. The
// remote VTEP that it names is heard from then on, and one that nothing names any
// more no longer is.
func (s *Segment) AddStatic(e StaticEntry) error {
	s.v.mu.Lock()
	defer s.v.mu.Unlock()
	if err := s.usable(); err != nil {
		return err
	}
	if err := e.check(s.v.cfg, s.cfg); err != nil {
		return fmt.Errorf("segment %v: %w: static entry %v: %w", s.vni, ErrInvalid, e.MAC, err)
	}
	return s.addStatics([]StaticEntry{e}, fdb.PeerAPI)
}

// bindable are the entries whose port is there, if they name one.
func (s *Segment) bindable(all []StaticEntry) (out []StaticEntry) {
	for _, e := range all {
		if e.Port == "" || s.port(e.Port) != nil {
			out = append(out, e)
		}
	}
	return out
}

// addStatics binds MACs, whose entries were checked, and forgets the peers that
// nothing names any more.
func (s *Segment) addStatics(all []StaticEntry, o fdb.PeerOrigin) error {
	var errs []error
	var loose []netip.Addr
	for _, e := range all {
		was, bound := s.staticPeer(e.MAC)
		if err := s.addStatic(e, o); err != nil {
			errs = append(errs, err)
			was, bound = e.Dst, e.Dst.IsValid()
		}
		if bound {
			loose = append(loose, was)
		}
	}
	s.forgetUnused(loose)
	return errors.Join(errs...)
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
		p, err := s.addPeer(e.Dst, o, false)
		if err != nil {
			return err
		}
		d = fdb.Remote(p.ID)
	}
	if err := s.table.AddStatic(e.MAC, d); err != nil {
		return fmt.Errorf("segment %v: %w", s.vni, err) // which names the MAC
	}
	return nil
}

// staticPeer is the remote VTEP that a MAC is bound to.
func (s *Segment) staticPeer(m fdb.MAC) (netip.Addr, bool) {
	e, ok := s.table.LookupEntry(m, s.v.seconds())
	if !ok || e.Origin != fdb.OriginStatic || !e.Dst.IsRemote() {
		return netip.Addr{}, false
	}
	p := s.peers.ByID(e.Dst.Index())
	if p == nil {
		return netip.Addr{}, false
	}
	return p.Addr, true
}

// DeleteMAC removes an entry of the forwarding database, of either kind. A
// remote VTEP that only this static entry named is no longer heard.
func (s *Segment) DeleteMAC(m fdb.MAC) error {
	s.v.mu.Lock()
	defer s.v.mu.Unlock()
	if err := s.usable(); err != nil {
		return err
	}
	was, bound := s.staticPeer(m)
	if !s.table.Delete(m) {
		return fmt.Errorf("segment %v: %v %w", s.vni, m, ErrNotFound)
	}
	if bound {
		s.forgetUnused([]netip.Addr{was})
	}
	return nil
}

// Restore brings back what the configuration has and what was taken away while
// running: peers, and static entries, but for those of ports that are not there.
// A MAC that was bound elsewhere meanwhile stays there. It returns what came back.
func (s *Segment) Restore() (peers []netip.Addr, statics []StaticEntry, err error) {
	s.v.mu.Lock()
	defer s.v.mu.Unlock()
	if err := s.usable(); err != nil {
		return nil, nil, err
	}
	var errs []error
	for _, a := range s.cfg.Peers {
		if p, ok := s.peers.Lookup(a); ok && p.Replicate() {
			continue
		}
		if _, err := s.addPeer(a, fdb.PeerConfig, true); err != nil {
			errs = append(errs, err)
			continue
		}
		peers = append(peers, a)
	}
	for _, e := range s.bindable(s.cfg.FDB) {
		if b, ok := s.table.LookupEntry(e.MAC, s.v.seconds()); !ok || b.Origin == fdb.OriginDynamic {
			statics = append(statics, e)
		}
	}
	errs = append(errs, s.addStatics(statics, fdb.PeerConfig))
	return peers, statics, errors.Join(errs...)
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

	Frozen bool // it moved too often, and is held there for a while
}

// FDB is the forwarding database, by MAC.
func (s *Segment) FDB() []FDBEntry {
	ports := s.view.Load().ports
	var out []FDBEntry
	for _, e := range s.table.Entries(s.v.seconds()) {
		r := FDBEntry{MAC: e.MAC, State: e.State(), Age: time.Duration(e.Age) * time.Second, Frozen: e.Frozen}
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
	if vw := s.view.Load(); vw.neighbours != nil {
		vw.neighbours.age(now, vw.ageing)
	}
	s.rejoin(now)
	s.agePeers(now)
	s.tellFrozen(s.table.Damp(now))
	if k := s.view.Load().keeper; k != nil {
		k.expire(s.v.since())
	}
	s.lostOffloads()
	for _, p := range s.view.Load().ports {
		if p == nil {
			continue
		}
		p.linkUp() // a device that nobody tells of its link finds out
		if p.gone.Load() && !p.told.Swap(true) {
			s.v.cfg.Logger.Warn("a port has vanished; reload to open it again", "vni", s.vni, "port", p.cfg.Name)
			s.table.FlushDst(fdb.Local(p.id), false)
			if p.link.Load() {
				s.tell(Event{Kind: EventPortDown, Port: p.cfg.Name})
			}
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
	var silent []netip.Addr
	for _, p := range s.peers.All() {
		if p.Origin() == fdb.PeerLearned && now-p.Seen() > age {
			silent = append(silent, p.Addr)
		}
	}
	s.forget(silent)
}
