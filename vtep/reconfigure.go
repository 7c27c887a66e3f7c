package vtep

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/underlay"
)

// Reconfigure puts another configuration in force, all of it or, on an error,
// nothing; its VNI is the segment's own. Ports stay as they are, and so does
// what was learned, but for what lived behind a peer that goes. Peers and static
// entries that were added while running stay, unless the configuration has been
// holding them: then they go with it.
func (s *Segment) Reconfigure(cfg SegmentConfig) error {
	if cfg.VNI != s.vni {
		return fmt.Errorf("segment %v: %w: a segment's VNI cannot become %v", s.vni, ErrInvalid, cfg.VNI)
	}
	cfg, err := cfg.check(s.v.cfg, s.v.mtu)
	if err != nil {
		return err
	}
	s.v.mu.Lock()
	defer s.v.mu.Unlock()
	if s.v.closed {
		return ErrClosed
	}
	c := change{s: s, old: s.cfg, new: cfg, view: *s.view.Load()}
	for _, step := range []func() error{c.joinGroup, c.startDHCP, c.setMTU, c.addPeers, c.addStatics} {
		if err := step(); err != nil {
			return errors.Join(err, c.undo())
		}
	}
	return c.finish()
}

// change is a reconfiguration under way: first comes all that can fail, and can
// be undone, then what cannot fail.
type change struct {
	s        *Segment
	old, new SegmentConfig
	view     view
	undos    []func() error
}

func (c *change) undo() error {
	var errs []error
	for _, f := range slices.Backward(c.undos) {
		errs = append(errs, f())
	}
	return errors.Join(errs...)
}

func (c *change) did(undo func() error) { c.undos = append(c.undos, undo) }

func (c *change) joinGroup() error {
	g := c.new.Group
	if g == c.old.Group {
		return nil
	}
	if !g.IsValid() {
		c.view.group = nil
		return nil
	}
	if err := c.s.v.ep.Join(g); err != nil {
		return fmt.Errorf("segment %v: %w", c.s.vni, err)
	}
	c.did(func() error { return c.s.v.ep.Leave(g) })
	c.view.group = underlay.NewRemote(g, c.s.v.cfg.Port)
	return nil
}

// startDHCP starts the DHCP service or changes it; stopping it is left to
// finish.
func (c *change) startDHCP() error {
	was, want := c.view.service, c.new.DHCP
	switch {
	case want == nil:
		c.view.service = nil
		return nil
	case was == nil:
		sv, err := c.s.newService(want)
		if err != nil {
			return err
		}
		c.did(func() error { return c.s.endService(sv) })
		c.view.service = sv
		return nil
	}
	if err := checkDHCP(c.s.vni, want); err != nil {
		return err
	}
	if err := was.server.Reconfigure(want.Server); err != nil {
		return fmt.Errorf("segment %v: %w", c.s.vni, err)
	}
	c.did(func() error { return was.server.Reconfigure(c.old.DHCP.Server) })
	sv := *was
	sv.ip, sv.local = want.Server.Server.As4(), want.ServeLocal
	c.view.service = &sv
	return nil
}

func (c *change) setMTU() error {
	if c.new.MTU == c.old.MTU {
		return nil
	}
	for _, p := range c.view.ports {
		if p == nil || p.gone.Load() {
			continue
		}
		// Undone even where it failed: some of it may have happened.
		c.did(func() error { return p.dev.SetMTU(c.old.MTU) })
		if err := p.dev.SetMTU(c.new.MTU); err != nil {
			return fmt.Errorf("segment %v: port %s: %w", c.s.vni, p.cfg.Name, err)
		}
	}
	return nil
}

func (c *change) addPeers() error {
	for _, a := range c.new.Peers {
		if slices.Contains(c.old.Peers, a) {
			continue
		}
		p, known := c.s.peers.Lookup(a)
		replicated := known && p.Replicate()
		if _, err := c.s.addPeer(a, fdb.PeerConfig, true); err != nil {
			return err
		}
		c.did(func() error {
			if !known {
				c.s.forgetAddr(a)
			} else if !replicated {
				c.s.peers.SetReplicate(a, false)
			}
			return nil
		})
	}
	return nil
}

// addStatics binds the entries that point to remote VTEPs; those of ports are
// bound here if the port is there, else when it comes.
func (c *change) addStatics() error {
	now := c.s.v.seconds()
	for _, e := range c.new.FDB {
		if slices.Contains(c.old.FDB, e) || e.Port != "" && c.s.port(e.Port) == nil {
			continue
		}
		before, had := c.s.table.LookupEntry(e.MAC, now)
		if err := c.s.addStatic(e, fdb.PeerConfig); err != nil {
			return err
		}
		c.did(func() error {
			if had && before.Origin == fdb.OriginStatic {
				return c.s.table.AddStatic(e.MAC, before.Dst)
			}
			c.s.table.Delete(e.MAC)
			return nil
		})
	}
	return nil
}

// finish takes away what the new configuration no longer has.
func (c *change) finish() error {
	s := c.s
	was := s.view.Load().service
	c.view.learn, c.view.mtu = !c.new.NoLearning, c.new.MTU
	s.table.Reconfigure(c.new.tableConfig())
	s.cfg = c.new
	s.view.Store(&c.view)

	var errs []error
	if was != nil && c.view.service == nil {
		errs = append(errs, s.endService(was))
	}
	if g := c.old.Group; g.IsValid() && g != c.new.Group {
		errs = append(errs, s.v.ep.Leave(g))
	}
	s.joined = c.new.Group
	for _, e := range c.old.FDB {
		if !slices.ContainsFunc(c.new.FDB, func(n StaticEntry) bool { return n.MAC == e.MAC }) {
			s.table.Delete(e.MAC)
		}
	}
	for _, a := range c.old.Peers {
		if !slices.Contains(c.new.Peers, a) {
			s.peers.SetReplicate(a, false)
		}
	}
	s.dropUnused(append(staticDsts(c.old.FDB), c.old.Peers...))
	return errors.Join(errs...)
}

func staticDsts(all []StaticEntry) []netip.Addr {
	var out []netip.Addr
	for _, e := range all {
		if e.Dst.IsValid() {
			out = append(out, e.Dst.Unmap())
		}
	}
	return out
}

// dropUnused forgets those of the peers that floods no longer go to and no
// static entry points to.
func (s *Segment) dropUnused(peers []netip.Addr) {
	used := map[uint32]bool{}
	for _, e := range s.table.Entries(s.v.seconds()) {
		if e.Dst.IsRemote() && e.Origin == fdb.OriginStatic {
			used[e.Dst.Index()] = true
		}
	}
	for _, a := range peers {
		if p, ok := s.peers.Lookup(a); ok && !p.Replicate() && !used[p.ID] {
			s.forgetAddr(a)
		}
	}
}
