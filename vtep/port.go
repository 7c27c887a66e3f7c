package vtep

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/tap"
)

// Port is a local port of a segment: what frames enter and leave by.
type Port struct {
	seg     *Segment
	id      uint32 // segment-local
	cfg     PortConfig
	dev     tap.Device
	queues  []tap.Queue
	sources []*source // by worker; nil where a worker reads no queue of it
	state   []portState
	gone    atomic.Bool // the device has vanished
	told    atomic.Bool // and that was logged
	link    atomic.Bool // that somebody is at its other end was noted last
	up      bool        // it came to be attached; under v.mu
	offload tap.Offload // that the device had when it was last looked at; the maintainer's
	limits  atomic.Pointer[limits]
	guard   atomic.Pointer[portGuard] // nil: it may send anything
	dhcp    rate                      // of DHCP messages that are taken
	storms  storms
	tooBig  rate         // of what guests are told of packets that are too big
	waiting atomic.Int32 // DHCP requests that the service has not taken yet
}

// portState is one worker's share of a port.
type portState struct {
	traffic
	out        []*frame.Frame // what the batch at hand sends there
	tooBigTold counter
}

// AttachPort opens a device and makes it a port. The error wraps one of those of
// devices (ErrBusy and so on), ErrExists, ErrInvalid, ErrClosed, or ErrNotFound if
// the segment was removed.
func (s *Segment) AttachPort(cfg PortConfig) (*Port, error) {
	s.v.mu.Lock()
	defer s.v.mu.Unlock()
	err := s.usable()
	if err == nil {
		cfg, err = cfg.withDefaults()
	}
	if err == nil && s.port(cfg.Name) != nil {
		err = fmt.Errorf("segment %v: port %s %w", s.vni, cfg.Name, ErrExists)
	}
	if policy := s.v.cfg.checkPolicy(cfg); err == nil && policy != nil {
		err = fmt.Errorf("segment %v: %w", s.vni, policy)
	}
	if storm := cfg.Storm.check(); err == nil && storm != nil {
		err = fmt.Errorf("segment %v: port %s: %w", s.vni, cfg.Name, storm)
	}
	if err == nil {
		err = cfg.checkBinding()
	}
	switch {
	case err != nil && cfg.Device != nil:
		return nil, errors.Join(err, cfg.Device.Close())
	case err != nil:
		return nil, err
	case cfg.Device == nil:
		if cfg.Device, err = s.openDevice(cfg); err != nil {
			return nil, err
		}
	}
	vw := *s.view.Load()
	vw.ports = slices.Clone(vw.ports)
	id := slices.Index(vw.ports, nil)
	if id < 0 {
		id = len(vw.ports)
		vw.ports = append(vw.ports, nil)
	}
	p := &Port{seg: s, id: uint32(id), cfg: cfg, dev: cfg.Device, queues: cfg.Device.Queues()}
	p.limits.Store(limitsOf(cfg))
	p.state = make([]portState, s.v.cfg.Workers)
	for i := range p.state {
		p.state[i].out = make([]*frame.Frame, 0, frame.BatchLen)
	}
	p.offload = p.dev.Offload()
	up := p.linkUp()
	p.link.Store(up)
	if l, ok := p.dev.(tap.Linked); ok {
		l.Watch(p.noteLink)
	}
	s.bindPort(cfg, &vw)
	p.guard.Store(guardOf(cfg, s.cfg, s.boundOf(cfg.Name)))
	vw.ports[id] = p
	vw.takes |= p.offload.Complete()
	s.table.SetLimit(fdb.Local(p.id), cfg.MaxMACs)
	s.view.Store(&vw)
	if err := p.start(); err != nil {
		return nil, errors.Join(err, s.detach(p))
	}
	own := slices.DeleteFunc(slices.Clone(s.cfg.FDB), func(e StaticEntry) bool { return e.Port != cfg.Name })
	if err := s.addStatics(own, fdb.PeerConfig); err != nil {
		return nil, errors.Join(err, s.detach(p))
	}
	p.up = true
	if up { // else it is told of when somebody comes
		s.tell(Event{Kind: EventPortUp, Port: cfg.Name})
	}
	s.v.cfg.Logger.Debug("port is attached", "vni", s.vni, "port", cfg.Name, "queues", len(p.queues), "offload", p.offload.Names())
	return p, nil
}

// listen gives each queue to a worker. Where there is one for each, they go by
// number, as those of the tunnel do: then a flow meets its answers at one worker.
// Single queues of many ports are spread over the workers. What is read is a
// port's, or a trunk's.
func (v *VTEP) listen(queues []tap.Queue, spread int, p *Port, t *trunk) (all []*source, err error) {
	first := 0
	if len(queues) < len(v.workers) {
		first = spread
	}
	for i, q := range queues {
		w := v.workers[(first+i)%len(v.workers)]
		src := &source{r: q, port: p, trunk: t, worker: w}
		if err := w.poll.add(src); err != nil {
			return all, err
		}
		all = append(all, src)
	}
	return all, nil
}

// start has the port's frames come in.
func (p *Port) start() (err error) {
	if m, ok := p.dev.(*member); ok {
		return m.start(p)
	}
	if p.sources, err = p.seg.v.listen(p.queues, int(p.id)+int(p.seg.vni), p, nil); err != nil {
		return fmt.Errorf("port %s: %w", p.cfg.Name, err)
	}
	return nil
}

// stop lets no more frames come in, but for those that workers hold already.
func (p *Port) stop() {
	if m, ok := p.dev.(*member); ok {
		m.stop()
	}
	for _, src := range p.sources {
		src.worker.poll.remove(src)
	}
}

// DetachPort takes a port away and closes its TAP.
func (s *Segment) DetachPort(name string) error {
	s.v.mu.Lock()
	defer s.v.mu.Unlock()
	p := s.port(name)
	if p == nil {
		return fmt.Errorf("segment %v: port %s %w", s.vni, name, ErrNotFound)
	}
	return s.detach(p)
}

// detach is called under v.mu. The port's number is free again only after no
// worker can hold the port and nothing in the table points to it.
func (s *Segment) detach(p *Port) error {
	p.gone.Store(true)
	if !p.told.Swap(true) && p.up && p.link.Load() {
		s.tell(Event{Kind: EventPortDown, Port: p.cfg.Name})
	}
	p.stop()
	s.v.settle()
	s.table.FlushDst(fdb.Local(p.id), true)
	s.forgetNeighbours(map[fdb.Dst]bool{fdb.Local(p.id): true})
	s.table.SetLimit(fdb.Local(p.id), 0)
	vw := *s.view.Load()
	vw.ports = slices.Clone(vw.ports)
	vw.ports[p.id] = nil
	vw.takes = vw.offload()
	s.unbindPort(p.cfg.Name, &vw)
	s.view.Store(&vw)
	s.v.settle()
	s.v.cfg.Logger.Debug("port is down", "vni", s.vni, "port", p.cfg.Name)
	return p.dev.Close()
}

// offload is what any of the ports does.
func (vw *view) offload() (all tap.Offload) {
	for _, p := range vw.ports {
		if p != nil {
			all |= p.dev.Offload().Complete()
		}
	}
	return all
}

// lostOffloads tells, once, of what the kernel has come to refuse.
func (s *Segment) lostOffloads() {
	var lost tap.Offload
	for _, p := range s.view.Load().ports {
		if p == nil {
			continue
		}
		if gone := p.offload &^ p.dev.Offload(); gone != 0 {
			p.offload &^= gone
			lost |= gone
			s.v.cfg.Logger.Warn("the kernel refuses an offload; going on without it", "vni", s.vni, "port", p.cfg.Name, "offload", gone)
			s.v.lostOffloads.Add(uint64(len(gone.Names())))
		}
	}
	if lost == 0 {
		return
	}
	s.v.mu.Lock()
	defer s.v.mu.Unlock()
	vw := *s.view.Load()
	vw.takes = vw.offload()
	s.view.Store(&vw)
}

func (s *Segment) port(name string) *Port {
	for _, p := range s.view.Load().ports {
		if p != nil && p.cfg.Name == name {
			return p
		}
	}
	return nil
}

// PortStats describes a port.
type PortStats struct {
	ID       uint32
	Name     string
	Kind     string // tap, stream, nic, trunk, pair
	VLAN     uint16 // of a trunk or pair; 0 = none
	State    string // up, down
	Vanished bool   // its device is gone for good: it is down until another one is attached
	Queues   int
	Isolated bool
	MaxMACs  int
	Offload  []string // those in use

	Bind     Bind
	Bindings int // pairs of MAC and address that may send
	Trusted  bool

	MaxLeases, DHCPRate int // 0 = no limit
	DHCPCheckMAC        bool
	Storm               Storm

	GBP      uint16   // of its frames; 0 = none
	GBPAllow []uint16 // whose frames it gets; nil = all

	TooBigTold uint64 // packets too big for the path of which their sender was told

	Traffic
}

// Ports are the segment's local ports, by their numbers; one that is free again
// is given to the next port.
func (s *Segment) Ports() []PortStats {
	var out []PortStats
	for _, p := range s.view.Load().ports {
		if p != nil {
			out = append(out, p.Stats())
		}
	}
	return out
}

// Stats describes the port as it is now.
func (p *Port) Stats() PortStats {
	l, up := p.limits.Load(), p.linkUp()
	st := PortStats{ID: p.id, Name: p.cfg.Name, Kind: p.cfg.kind(), VLAN: p.cfg.VLAN, State: "up", Vanished: p.gone.Load(), Queues: len(p.queues), Isolated: p.cfg.Isolated, MaxMACs: l.macs, Offload: p.dev.Offload().Names(),
		MaxLeases: l.leases, DHCPRate: l.rate, DHCPCheckMAC: l.checkMAC, Storm: l.storm}
	st.GBP, st.GBPAllow = l.policy.Group(), l.groups
	st.Trusted = true
	if g := p.guard.Load(); g != nil {
		if st.Trusted = g.trusted; g.bound != nil {
			st.Bind, st.Bindings = g.bind(), int(g.bound.n.Load())
		}
	}
	if st.Vanished || !up {
		st.State = "down"
	}
	for i := range p.state {
		p.state[i].addTo(&st.Traffic)
		st.TooBigTold += p.state[i].tooBigTold.load()
	}
	return st
}
