package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/internal/config"
	"github.com/uvtep/uvtep/internal/control"
)

// errStopping is what comes too late gets.
var errStopping = errors.New("uvtep is stopping")

// Reload reads the configuration again and applies all of it or nothing. What
// did not change keeps running. Ports whose device has vanished are opened
// again, if they can be; peers and static entries that were taken away while
// running, and are still listed, are back.
func (d *server) Reload(context.Context) ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, errStopping
	}
	d.notify(reloading())
	defer d.notify(ready)

	changes, err := d.reload()
	d.reserved.apply(d.serverOf, d.log) // also where servers came back with what was undone
	d.tellReload(changes, err)
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
	whole, live := d.keeping(next)
	diff := config.Diff(d.running(), whole)
	if len(diff.NeedsRestart) > 0 {
		return nil, control.Errorf(control.ErrConflict, "%s; nothing was changed", strings.Join(diff.NeedsRestart, "; "))
	}
	// A VLAN may come to the place of the last one that goes.
	defer d.releaseTrunks(d.vtep.KeepTrunks())
	var t transaction
	stay, err := d.apply(&t, diff, whole)
	if err != nil {
		t.rollback(d.log)
		return nil, fmt.Errorf("%w; nothing was changed", err)
	}
	for _, s := range diff.Removed {
		if err := d.vtep.RemoveSegment(encap.VNI(s.VNI)); err != nil {
			d.log.Error("a segment could not be taken down in full", "vni", s.VNI, "err", err)
		}
	}
	d.cfg, d.added, d.live = next, stay, live
	return slices.Concat(describe(diff), d.reopen(), d.restore()), nil
}

// releaseTrunks closes the trunks that have no port any more.
func (d *server) releaseTrunks(release func() error) {
	if err := release(); err != nil {
		d.log.Error("a trunk could not be closed in full", "err", oneLine(err))
	}
}

// restore brings back what the configuration lists and what was taken away
// while running, but for ports, which are reopen's.
func (d *server) restore() []string {
	var done []string
	for _, s := range d.vtep.Segments() {
		peers, statics, err := s.Restore()
		if err != nil {
			d.log.Error("something that was taken away could not be brought back", "vni", s.VNI(), "err", oneLine(err))
		}
		for _, a := range peers {
			done = append(done, fmt.Sprintf("segment %v: peer %v added again", s.VNI(), a))
		}
		for _, e := range statics {
			done = append(done, fmt.Sprintf("segment %v: static entry %v added again", s.VNI(), e.MAC))
		}
	}
	return done
}

// apply does everything that may fail, and returns the ports added while running
// that stay. Ports go before ports come, as a name or a place may pass from one
// to the other; a segment that goes is kept, empty, until nothing can fail any
// more.
func (d *server) apply(t *transaction, diff config.Changes, next *config.Config) ([]placed, error) {
	have, want, stay := d.portChanges(next)
	for _, q := range missingIn(have, want) {
		if err := d.detach(t, q); err != nil {
			return nil, err
		}
	}
	for _, c := range diff.Changed {
		if err := d.reconfigure(t, c); err != nil {
			return nil, err
		}
	}
	for _, s := range diff.Added {
		if err := d.addSegment(t, s); err != nil {
			return nil, err
		}
	}
	for _, q := range missingIn(want, have) {
		if err := d.attach(t, q); err != nil {
			return nil, err
		}
	}
	if diff.MaxMACs {
		before := d.cfg.MaxMACs
		d.vtep.SetMaxMACs(next.MaxMACs)
		t.did(func() error { d.vtep.SetMaxMACs(before); return nil })
	}
	was, now := limitChanges(have, want)
	for i := range was {
		if err := d.setLimits(t, was[i], now[i]); err != nil {
			return nil, err
		}
	}
	return stay, nil
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

// describe says what a reload changes, one line each.
func describe(c config.Changes) []string {
	var out []string
	if c.MaxMACs {
		out = append(out, "max_macs")
	}
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
			{s.FDB, "fdb"}, {s.Ports, "ports"}, {s.Suppress, "suppress"}, {s.DHCP, "dhcp"}, {s.DHCP6, "dhcp6"}, {s.RA, "ra"}, {s.Protected, "protected_macs"},
		} {
			if k.differs {
				what = append(what, k.word)
			}
		}
		out = append(out, fmt.Sprintf("segment %d: %s", s.New.VNI, strings.Join(what, ", ")))
	}
	for _, s := range c.Shared {
		out = append(out, fmt.Sprintf("%s: %s", s.Name, s.What))
	}
	return out
}
