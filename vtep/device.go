package vtep

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"

	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/nic"
	"github.com/uvtep/uvtep/internal/pair"
	"github.com/uvtep/uvtep/internal/stream"
	"github.com/uvtep/uvtep/internal/tap"
	"github.com/uvtep/uvtep/internal/underlay"
)

// kind is the word for what a port's device is.
func (c PortConfig) kind() string {
	switch {
	case c.Stream != "":
		return "stream"
	case c.NIC != "":
		return "nic"
	case c.Trunk != "":
		return "trunk"
	case c.Pair != "":
		return "pair"
	}
	return "tap"
}

func (c PortConfig) withDefaults() (PortConfig, error) {
	if c.VLAN > frame.MaxVLAN || c.VLAN != 0 && c.Trunk == "" && c.Pair == "" {
		return c, fmt.Errorf("port %s: %w: VLAN %d: only a trunk or a pair has one, from 1 to %d", c.Name, ErrInvalid, c.VLAN, frame.MaxVLAN)
	}
	if c.Trunk != "" && c.Name == "" {
		c.Name = trunkPort(c.Trunk, c.VLAN)
	}
	bad := func(what string) (PortConfig, error) {
		return c, fmt.Errorf("port %s: %w: %s", cmp.Or(c.Name, c.Stream, c.NIC), ErrInvalid, what)
	}
	switch {
	case c.Stream != "" && c.NIC != "":
		return bad("it is a stream or a NIC, not both")
	case c.Stream != "" && (c.NetNS != "" || c.Rename != "" || c.Bridge != "" || c.MAC != nil):
		return bad("a stream has no interface that could be moved, renamed, enslaved or addressed")
	case c.NIC != "" && (c.Rename != "" || c.Bridge != "" || c.MAC != nil):
		return bad("a NIC is taken as it is, not renamed, enslaved or addressed")
	case c.Name == "" && c.Stream != "":
		c.Name = stream.Name(c.Stream)
	case c.Name == "":
		c.Name = c.NIC
	}
	return c, nil
}

// OpenDevice opens what AttachPort would, for who wants to know that it can be
// opened before he gives something up for it. It becomes PortConfig.Device.
func (s *Segment) OpenDevice(cfg PortConfig) (Device, error) {
	s.v.mu.Lock()
	defer s.v.mu.Unlock()
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	return s.openDevice(cfg)
}

func (s *Segment) openDevice(cfg PortConfig) (Device, error) {
	switch cfg.kind() {
	case "stream":
		return stream.Open(stream.Config{Path: cfg.Stream})
	case "nic":
		return nic.Open(nic.Config{Name: cfg.NIC, NetNS: cfg.NetNS, Queues: s.v.cfg.Workers, Offload: s.v.cfg.offload().ofTAPs(), Not: s.v.cfg.Local})
	case "trunk":
		return s.joinTrunk(cfg)
	case "pair":
		return s.plugPair(cfg)
	}
	return s.v.cfg.OpenTAP(s.tapConfig(cfg))
}

func (s *Segment) tapConfig(cfg PortConfig) tap.Config {
	return tap.Config{
		Name: cfg.Name, NetNS: cfg.NetNS, Rename: cfg.Rename, MAC: cfg.MAC, Bridge: cfg.Bridge, MTU: s.cfg.MTU, Queues: s.v.cfg.Workers,
		Offload: s.v.cfg.offload().ofTAPs(), MaxSegments: maxSegments(s.cfg.MTU),
	}
}

// plugPair takes an end of a pair; the first that comes makes the pair. It is
// called under v.mu.
func (s *Segment) plugPair(cfg PortConfig) (tap.Device, error) {
	v := s.v
	maps.DeleteFunc(v.pairs, func(_ string, p *pair.Pair) bool { return p.Unplugged() })
	p := v.pairs[cfg.Pair]
	if p == nil {
		p = pair.New(v.cfg.Workers)
	}
	end, err := p.Plug(cfg.Name, cfg.VLAN, s.cfg.MTU)
	if err != nil {
		return nil, fmt.Errorf("pair %s: %w", cfg.Pair, err)
	}
	v.pairs[cfg.Pair] = p
	return end, nil
}

// maxSegments is how many segments of a super-frame make one train.
func maxSegments(mtu int) int {
	return max(1, min(underlay.MaxTrain, underlay.MaxTrainLen/(mtu+frame.EthernetLen+encap.HeaderLen)))
}

// linkUp reports whether somebody is at the other end, where that can be told.
func (p *Port) linkUp() bool {
	l, ok := p.dev.(tap.Linked)
	return !ok || l.Up()
}

// linkNews is what a port's device has to tell of its other end.
type linkNews struct {
	port *Port
	tap.Link
	was bool // what Up was before
}

// noteLink leaves what a device tells to the maintainer, or nowhere if that has
// too much to tell already.
func (p *Port) noteLink(l tap.Link) {
	was := p.link.Load()
	if l.Gone {
		p.gone.Store(true)
	} else {
		p.link.Store(l.Up)
	}
	select {
	case p.seg.v.news.links <- linkNews{p, l, was}:
	default:
	}
}

// tellLink tells of a port's other end. What lived behind a port that has lost it
// may be found elsewhere from now on.
func (v *VTEP) tellLink(n linkNews) {
	s, p := n.port.seg, n.port
	switch {
	case n.Gone:
		p.leaveAlone()
		return
	case p.told.Load():
		return // it has gone meanwhile
	}
	level := slog.LevelInfo
	if n.Fault {
		level = slog.LevelWarn
	}
	v.cfg.Logger.Log(context.Background(), level, n.What, "vni", s.vni, "port", p.cfg.Name)
	switch {
	case n.Up == n.was:
	case n.Up:
		s.tell(Event{Kind: EventPortUp, Port: p.cfg.Name})
	default:
		s.table.FlushDst(fdb.Local(p.id), false)
		s.tell(Event{Kind: EventPortDown, Port: p.cfg.Name})
	}
}

// leaveAlone has nobody read any more from a port whose device has vanished.
func (p *Port) leaveAlone() {
	p.seg.v.mu.Lock()
	defer p.seg.v.mu.Unlock()
	for _, src := range p.sources {
		src.worker.poll.remove(src)
	}
}
