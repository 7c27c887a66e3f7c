package vtep

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/stream"
	"github.com/uvtep/uvtep/internal/tap"
	"github.com/uvtep/uvtep/internal/underlay"
)

// kind is the word for what a port's device is.
func (c PortConfig) kind() string {
	if c.Stream != "" {
		return "stream"
	}
	return "tap"
}

func (c PortConfig) withDefaults() (PortConfig, error) {
	if c.Stream == "" {
		return c, nil
	}
	if c.NetNS != "" || c.Rename != "" || c.Bridge != "" || c.MAC != nil {
		return c, fmt.Errorf("port %s: %w: a stream has no interface that could be moved, renamed, enslaved or addressed", c.Stream, ErrInvalid)
	}
	if c.Name == "" {
		c.Name = stream.Name(c.Stream)
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
	if cfg.Stream != "" {
		return stream.Open(stream.Config{Path: cfg.Stream})
	}
	return s.v.cfg.OpenTAP(tap.Config{
		Name: cfg.Name, NetNS: cfg.NetNS, Rename: cfg.Rename, MAC: cfg.MAC, Bridge: cfg.Bridge, MTU: s.cfg.MTU, Queues: s.v.cfg.Workers,
		Offload: s.v.cfg.offload().ofTAPs(), MaxSegments: maxSegments(s.cfg.MTU),
	})
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
	select {
	case p.seg.v.news.links <- linkNews{p, l, p.link.Swap(l.Up)}:
	default:
	}
}

// tellLink tells of a port's other end. What lived behind a port that has lost it
// may be found elsewhere from now on.
func (v *VTEP) tellLink(n linkNews) {
	s, p := n.port.seg, n.port
	level := slog.LevelInfo
	if n.Fault {
		level = slog.LevelWarn
	}
	v.cfg.Logger.Log(context.Background(), level, n.What, "vni", s.vni, "port", p.cfg.Name)
	switch {
	case n.Up == n.was || p.told.Load():
	case n.Up:
		s.tell(Event{Kind: EventPortUp, Port: p.cfg.Name})
	default:
		s.table.FlushDst(fdb.Local(p.id), false)
		s.tell(Event{Kind: EventPortDown, Port: p.cfg.Name})
	}
}
