package vtep

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/uvtep/uvtep/fdb"
)

// Reconfigure puts another configuration in force, all of it or, on an error,
// nothing; its VNI is the segment's own. Ports stay as they are, and so does
// what was learned, but for what lived behind a peer that goes. Peers and static
// entries that were added while running stay, unless the configuration has been
// holding them: then they go with it. Those that were taken away while running
// come back by Restore.
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
	if err := s.usable(); err != nil {
		return err
	}
	c := change{s: s, old: s.cfg, new: cfg, view: *s.view.Load()}
	for _, step := range []func() error{c.joinGroup, c.startServices, c.setMTU} {
		if err := step(); err != nil {
			return errors.Join(err, c.undo())
		}
	}
	c.finish()
	return nil
}

// change is a reconfiguration under way: first comes all that can fail, and can
// be undone, then what cannot fail.
type change struct {
	s        *Segment
	old, new SegmentConfig
	view     view
	member   membership
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
	if c.member = c.s.member; c.new.Group == c.old.Group && c.new.Device == c.old.Device {
		return nil
	}
	c.member = c.s.enter(c.new.Group, c.new.Device)
	c.did(func() error { return c.s.leave(c.member) })
	c.view.group = c.member.remote
	return nil
}

// startServices starts the services that are new and changes the others;
// stopping them is left to finish.
func (c *change) startServices() error {
	was := c.view.service
	c.view.service = nil
	if !c.new.served() {
		return nil
	}
	now := newService(c.s.v.cfg.Local, c.s.vni)
	if was == nil {
		was = &service{}
		c.s.table.SetSelf(now.mac)
		c.did(func() error { c.s.table.ClearSelf(now.mac); return nil })
	}
	c.view.service = now
	if c.new.RA != nil {
		if now.ra = was.ra; now.ra == nil {
			now.ra = &advertiser{s: c.s, mac: now.mac, link: now.link}
		}
		now.router = c.new.RA.Lifetime > 0
	}
	if err := c.start4(was, now); err != nil {
		return err
	}
	return c.start6(was, now)
}

// start4 is startServices for DHCPv4.
func (c *change) start4(was, now *service) (err error) {
	want := c.new.DHCP
	switch {
	case want == nil:
		return nil
	case was.v4 == nil:
		now.v4, err = c.s.start4(now, want)
		if err == nil {
			c.did(c.s.stop4)
		}
		return err
	}
	if err := checkDHCP(c.s.vni, want); err != nil {
		return err
	}
	if err := was.v4.server.Reconfigure(want.Server); err != nil {
		return err // which names the segment
	}
	c.did(func() error { return was.v4.server.Reconfigure(c.old.DHCP.Server) })
	now.v4 = was.v4.with(want)
	return nil
}

// start6 is startServices for DHCPv6.
func (c *change) start6(was, now *service) (err error) {
	want := c.new.DHCP6
	switch {
	case want == nil:
		return nil
	case was.v6 == nil:
		now.v6, err = c.s.start6(now, want)
		if err == nil {
			c.did(c.s.stop6)
		}
		return err
	}
	if err := checkDHCP6(c.s.vni, want); err != nil {
		return err
	}
	if err := was.v6.server.Reconfigure(want.Server); err != nil {
		return err // which names the segment
	}
	c.did(func() error { return was.v6.server.Reconfigure(c.old.DHCP6.Server) })
	now.v6 = was.v6.with(want)
	return nil
}

// endServices ends what there was and is no more; no view has it any longer.
func (s *Segment) endServices(was, now *service) error {
	if was == nil {
		return nil
	}
	last := now == nil
	if last {
		now = &service{}
	}
	end4, end6 := was.v4 != nil && now.v4 == nil, was.v6 != nil && now.v6 == nil
	if last || end4 || end6 {
		s.v.settle()
	}
	var errs []error
	if was.ra != nil && now.ra == nil {
		was.ra.stop()
	}
	if last {
		s.table.ClearSelf(was.mac)
	}
	if end4 {
		errs = append(errs, s.stop4())
	}
	if end6 {
		errs = append(errs, s.stop6())
	}
	return errors.Join(errs...)
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

// addPeers adds what the new configuration has and the old one had not.
func (c *change) addPeers() error {
	var errs []error
	for _, a := range missing(c.new.Peers, c.old.Peers) {
		_, err := c.s.addPeer(a, fdb.PeerConfig, true)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// missing are the addresses of a that b does not have; both may be thousands.
func missing(a, b []netip.Addr) []netip.Addr {
	in := make(map[netip.Addr]bool, len(b))
	for _, v := range b {
		in[v] = true
	}
	return slices.DeleteFunc(slices.Clone(a), func(v netip.Addr) bool { return in[v] })
}

// addStatics binds the entries that point to remote VTEPs, and those of ports
// that are there; the others are bound when their port comes.
func (c *change) addStatics() error {
	fresh := slices.DeleteFunc(slices.Clone(c.new.FDB), func(e StaticEntry) bool { return slices.Contains(c.old.FDB, e) })
	return c.s.addStatics(c.s.bindable(fresh), fdb.PeerConfig)
}

// deleteStatics ends the bindings that the new configuration does not have, or
// has for a port that is not there yet.
func (c *change) deleteStatics() {
	bindable := c.s.bindable(c.new.FDB)
	for _, e := range c.old.FDB {
		if slices.Contains(c.new.FDB, e) || slices.ContainsFunc(bindable, func(n StaticEntry) bool { return n.MAC == e.MAC }) {
			continue
		}
		if b, ok := c.s.table.LookupEntry(e.MAC, c.s.v.seconds()); ok && b.Origin == fdb.OriginStatic {
			c.s.table.Delete(e.MAC)
		}
	}
}

// finish puts the new configuration in force. What it adds was checked before;
// what the system does not let go of is logged, and changes nothing of that.
func (c *change) finish() {
	s := c.s
	was := s.view.Load().service
	c.view.learn, c.view.mtu = !c.new.NoLearning, c.new.MTU
	c.suppress()
	s.table.Reconfigure(c.new.tableConfig())
	s.cfg = c.new
	s.view.Store(&c.view)
	s.reguard()
	s.advertise()
	if c.new.MTU != c.old.MTU {
		s.warnOfMTU()
	}

	var errs []error
	// First, as its address may be a static entry's from now on.
	errs = append(errs, s.endServices(was, c.view.service))
	errs = append(errs, c.addPeers(), c.addStatics())
	if was := s.member; was.group != c.member.group || was.device != c.member.device {
		errs = append(errs, s.leave(was))
		s.member = c.member
		s.tellMembership()
	}
	c.deleteStatics()
	for _, a := range missing(c.old.Peers, c.new.Peers) {
		s.peers.SetReplicate(a, false)
	}
	s.forgetUnused(append(staticDsts(c.old.FDB), c.old.Peers...))
	for _, err := range errs {
		if err != nil {
			s.v.cfg.Logger.Error("something of a segment's former configuration is left behind", "vni", s.vni, "err", err)
		}
	}
}

func staticDsts(all []StaticEntry) []netip.Addr {
	var out []netip.Addr
	for _, e := range all {
		if e.Dst.IsValid() {
			out = append(out, e.Dst)
		}
	}
	return out
}
