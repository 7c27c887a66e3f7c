package daemon

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/internal/config"
	"github.com/uvtep/uvtep/internal/control"
	"github.com/uvtep/uvtep/internal/tap"
	"github.com/uvtep/uvtep/vtep"
)

// Reload reads the configuration again and applies all of it or nothing. What
// did not change keeps running. Ports whose device has vanished are opened
// again, if they can be.
func (d *server) Reload(context.Context) ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, errors.New("uvtep is stopping")
	}
	d.notify(reloading())
	defer d.notify(ready)

	changes, err := d.reload()
	if err != nil {
		d.log.Error("reload failed; everything is as it was", "err", oneLine(err))
		return nil, err
	}
	d.log.Info("reloaded", "changes", len(changes))
	for _, c := range changes {
		d.log.Info("changed", "what", c)
	}
	return changes, nil
}

func (d *server) reload() ([]string, error) {
	next, err := d.opts.load()
	if faults := (config.Faults)(nil); errors.As(err, &faults) {
		return nil, &control.InvalidConfig{Faults: strings.Split(faults.Error(), "\n")}
	}
	if err != nil {
		return nil, control.Errorf(control.ErrInvalid, "%v", err)
	}
	diff := config.Diff(d.cfg, next)
	if len(diff.NeedsRestart) > 0 {
		return nil, control.Errorf(control.ErrConflict, "%s; nothing was changed", strings.Join(diff.NeedsRestart, "; "))
	}
	var t transaction
	if err := d.apply(&t, diff); err != nil {
		t.rollback(d.log)
		return nil, fmt.Errorf("%w; nothing was changed", err)
	}
	for _, s := range diff.Removed {
		if err := d.vtep.RemoveSegment(encap.VNI(s.VNI)); err != nil {
			d.log.Error("a segment could not be taken down in full", "vni", s.VNI, "err", err)
		}
	}
	d.cfg = next
	return append(describe(diff), d.reopen()...), nil
}

// apply does everything that may fail. Ports go before ports come, as a name or
// a place may pass from one to the other; a segment that goes is kept, empty,
// until nothing can fail any more.
func (d *server) apply(t *transaction, diff config.Changes) error {
	var kept []config.SegmentChange
	for _, s := range diff.Removed {
		kept = append(kept, config.SegmentChange{Old: s, New: config.Segment{VNI: s.VNI}})
	}
	kept = append(kept, diff.Changed...)
	for _, c := range kept {
		for _, p := range missingIn(c.Old.Ports, c.New.Ports) {
			if err := d.detach(t, c.Old.VNI, p); err != nil {
				return err
			}
		}
	}
	for _, c := range diff.Changed {
		if err := d.reconfigure(t, c); err != nil {
			return err
		}
	}
	for _, s := range diff.Added {
		if err := d.addSegment(t, s); err != nil {
			return err
		}
	}
	for _, c := range diff.Changed {
		for _, p := range missingIn(c.New.Ports, c.Old.Ports) {
			if err := d.attach(t, c.New.VNI, p); err != nil {
				return err
			}
		}
	}
	for _, s := range diff.Added {
		for _, p := range s.Ports {
			if err := d.attach(t, s.VNI, p); err != nil {
				return err
			}
		}
	}
	return nil
}

// missingIn are the ports of a that b does not have just so.
func missingIn(a, b []config.Port) []config.Port {
	var out []config.Port
next:
	for _, p := range a {
		for _, q := range b {
			if reflect.DeepEqual(p, q) {
				continue next
			}
		}
		out = append(out, p)
	}
	return out
}

func (d *server) addSegment(t *transaction, s config.Segment) error {
	if _, err := d.vtep.AddSegment(segmentConfig(s, d.vtep.DefaultMTU())); err != nil {
		return err
	}
	t.did(func() error { return d.vtep.RemoveSegment(encap.VNI(s.VNI)) })
	return nil
}

func (d *server) reconfigure(t *transaction, c config.SegmentChange) error {
	set := func(s config.Segment) error {
		seg, err := d.segment(encap.VNI(s.VNI))
		if err != nil {
			return err
		}
		return seg.Reconfigure(segmentConfig(s, d.vtep.DefaultMTU()))
	}
	if err := set(c.New); err != nil {
		return err
	}
	t.did(func() error { return set(c.Old) })
	return nil
}

func (d *server) attach(t *transaction, vni uint32, p config.Port) error {
	seg, err := d.segment(encap.VNI(vni))
	if err != nil {
		return err
	}
	if _, err := seg.AttachPort(portConfig(p)); err != nil {
		return err
	}
	t.did(func() error { return seg.DetachPort(p.TAP) })
	return nil
}

func (d *server) detach(t *transaction, vni uint32, p config.Port) error {
	seg, err := d.segment(encap.VNI(vni))
	if err != nil {
		return err
	}
	if err := seg.DetachPort(p.TAP); err != nil {
		return err
	}
	t.did(func() error {
		_, err := seg.AttachPort(portConfig(p))
		return err
	})
	return nil
}

// reopen opens the devices of ports that are down. One that cannot be opened
// stays down: its namespace may come back later.
func (d *server) reopen() []string {
	var done []string
	for _, s := range d.cfg.Segments {
		seg, ok := d.vtep.Segment(encap.VNI(s.VNI))
		if !ok {
			continue
		}
		down := map[string]bool{}
		for _, p := range seg.Ports() {
			down[p.Name] = p.State != stateUp
		}
		for _, p := range s.Ports {
			if !down[p.TAP] {
				continue
			}
			if err := d.reopenPort(seg, p); err != nil {
				d.log.Warn("a port stays down", "vni", s.VNI, "port", p.TAP, "err", err)
				continue
			}
			done = append(done, fmt.Sprintf("segment %d: port %s opened again", s.VNI, p.TAP))
		}
	}
	return done
}

// reopenPort opens the device before it gives the port up.
func (d *server) reopenPort(seg *vtep.Segment, p config.Port) error {
	open := d.opts.OpenTAP
	if open == nil {
		open = tap.Open
	}
	pc := portConfig(p)
	dev, err := open(tap.Config{
		Name: pc.Name, NetNS: pc.NetNS, Rename: pc.Rename, MAC: pc.MAC, Bridge: pc.Bridge,
		MTU: seg.Config().MTU, Queues: len(d.vtep.Stats().Workers),
	})
	if err != nil {
		return err
	}
	pc.Device = dev
	if err := seg.DetachPort(p.TAP); err != nil {
		d.log.Debug("the vanished device of a port", "port", p.TAP, "err", err)
	}
	if _, err = seg.AttachPort(pc); err != nil {
		return errors.Join(err, dev.Close())
	}
	return nil
}

// describe says what a reload changes, one line each.
func describe(c config.Changes) []string {
	var out []string
	for _, s := range c.Removed {
		out = append(out, fmt.Sprintf("segment %d: removed", s.VNI))
	}
	for _, s := range c.Added {
		out = append(out, fmt.Sprintf("segment %d: added", s.VNI))
	}
	for _, s := range c.Changed {
		var what []string
		for _, k := range []struct {
			differs bool
			word    string
		}{
			{s.Name, "name"}, {s.MTU, "mtu"}, {s.Peers, "peers"}, {s.Group, "group"}, {s.Limits, "limits"},
			{s.FDB, "fdb"}, {s.Ports, "ports"}, {s.DHCP, "dhcp"},
		} {
			if k.differs {
				what = append(what, k.word)
			}
		}
		out = append(out, fmt.Sprintf("segment %d: %s", s.New.VNI, strings.Join(what, ", ")))
	}
	return out
}
