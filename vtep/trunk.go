package vtep

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync/atomic"

	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/tap"
)

// trunk is a TAP that is a port of several segments: the 802.1Q tag of a frame
// says of which. The device is open while any of them has it.
type trunk struct {
	v       *VTEP
	cfg     PortConfig // the device is open as this says; the rest is one port's
	dev     tap.Device
	sources []*source
	members []*member   // under v.mu
	mtu     int         // of the device; likewise
	gone    atomic.Bool // the device has vanished

	// ports are who has which VLAN, as workers see them. Untagged frames are
	// those of VLAN 0.
	ports [frame.MaxVLAN + 1]atomic.Pointer[Port]
}

// member is a trunk as the device of one of its ports: it tags what is written,
// and is not read from.
type member struct {
	t      *trunk
	vlan   uint16 // 0: untagged
	mtu    int    // of the segment
	queues []tap.Queue
}

// trunkPort is what the port of a VLAN of a trunk is called.
func trunkPort(name string, vlan uint16) string {
	if vlan == 0 {
		return name
	}
	return name + "." + strconv.Itoa(int(vlan))
}

// joinTrunk makes a segment's part of a trunk, whose device it opens if none is
// open. It is called under v.mu.
func (s *Segment) joinTrunk(cfg PortConfig) (tap.Device, error) {
	v := s.v
	t := v.trunks[cfg.Trunk]
	if t != nil && len(t.members) == 0 && !t.sameDevice(cfg) { // it was kept for others
		if err := t.close(); err != nil {
			return nil, err
		}
		t = nil
	}
	if t == nil || t.gone.Load() { // what has vanished goes when its last port does
		var err error
		if t, err = s.openTrunk(cfg); err != nil {
			return nil, err
		}
		v.trunks[cfg.Trunk] = t
	}
	m := &member{t: t, vlan: cfg.VLAN, mtu: s.cfg.MTU}
	switch {
	case slices.ContainsFunc(t.members, func(o *member) bool { return o.vlan == m.vlan }):
		return nil, fmt.Errorf("trunk %s: a port for VLAN %d %w", cfg.Trunk, m.vlan, ErrExists)
	case !t.sameDevice(cfg):
		return nil, fmt.Errorf("trunk %s: %w: its ports differ in where the TAP belongs", cfg.Trunk, ErrInvalid)
	}
	for _, q := range t.dev.Queues() {
		m.queues = append(m.queues, &trunkQueue{Queue: q, vlan: m.vlan})
	}
	t.members = append(t.members, m)
	if err := t.setMTU(); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

func (s *Segment) openTrunk(cfg PortConfig) (*trunk, error) {
	c := s.tapConfig(cfg)
	c.Name = cfg.Trunk
	dev, err := s.v.cfg.OpenTAP(c)
	if err != nil {
		return nil, err
	}
	return &trunk{v: s.v, cfg: cfg, dev: dev, mtu: c.MTU}, nil
}

// sameDevice reports whether a port wants the device as it is open.
func (t *trunk) sameDevice(cfg PortConfig) bool {
	return t.cfg.NetNS == cfg.NetNS && t.cfg.Rename == cfg.Rename && t.cfg.Bridge == cfg.Bridge && slices.Equal(t.cfg.MAC, cfg.MAC)
}

// start lets frames of the member's VLAN come in by p, and has the device read
// if that was not done before.
func (m *member) start(p *Port) error {
	t := m.t
	t.ports[m.vlan].Store(p)
	if t.gone.Load() {
		p.gone.Store(true)
	}
	if t.sources != nil {
		return nil
	}
	var err error
	t.sources, err = t.v.listen(t.dev.Queues(), int(p.id)+int(p.seg.vni), nil, t)
	if err != nil {
		return fmt.Errorf("trunk %s: %w", t.cfg.Trunk, err)
	}
	return nil
}

// stop lets no more frames come in. Workers may still hold the port.
func (m *member) stop() { m.t.ports[m.vlan].Store(nil) }

// vanish takes all ports of a device down that has vanished.
func (t *trunk) vanish() {
	t.gone.Store(true)
	for i := range t.ports {
		if p := t.ports[i].Load(); p != nil {
			p.gone.Store(true)
		}
	}
}

// setMTU gives the device the largest MTU of its segments; a tag does not count.
func (t *trunk) setMTU() error {
	mtu := 0
	for _, m := range t.members {
		mtu = max(mtu, m.mtu)
	}
	if mtu == t.mtu || t.gone.Load() {
		return nil
	}
	if err := t.dev.SetMTU(mtu); err != nil {
		return err
	}
	t.mtu = mtu
	return nil
}

// close is called under v.mu, when no port has the trunk any more.
func (t *trunk) close() error {
	if t.v.trunks[t.cfg.Trunk] == t {
		delete(t.v.trunks, t.cfg.Trunk)
	}
	for _, src := range t.sources {
		src.worker.poll.remove(src)
	}
	t.v.settle()
	return t.dev.Close()
}

// KeepTrunks keeps the devices of trunks open until the function that it returns
// is called, though all their ports be detached: for changes in which one port
// follows another.
func (v *VTEP) KeepTrunks() (release func() error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.trunksKept++
	return func() error {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.trunksKept--
		return v.closeUnusedTrunks()
	}
}

// closeUnusedTrunks is called under v.mu.
func (v *VTEP) closeUnusedTrunks() error {
	if v.trunksKept > 0 && !v.closed {
		return nil
	}
	var errs []error
	for _, t := range v.trunks {
		if len(t.members) == 0 {
			errs = append(errs, t.close())
		}
	}
	return errors.Join(errs...)
}

// Name, Queues, SetMTU, Offload and Close implement tap.Device. SetMTU and Close
// are called under v.mu.
func (m *member) Name() string         { return m.t.dev.Name() }
func (m *member) Queues() []tap.Queue  { return m.queues }
func (m *member) Offload() tap.Offload { return m.t.dev.Offload() }

func (m *member) SetMTU(mtu int) error {
	m.mtu = mtu
	return m.t.setMTU()
}

func (m *member) Close() error {
	t := m.t
	t.members = slices.DeleteFunc(t.members, func(o *member) bool { return o == m })
	switch {
	case len(t.members) > 0:
		return t.setMTU()
	case t.v.trunks[t.cfg.Trunk] != t: // another one has its place
		return t.close()
	}
	return t.v.closeUnusedTrunks()
}

// trunkQueue is a queue of a trunk for what leaves in one VLAN.
type trunkQueue struct {
	tap.Queue
	vlan uint16
}

// Write implements tap.Queue.
func (q *trunkQueue) Write(frames []*frame.Frame) (sent int) {
	if q.vlan == 0 {
		return q.writeUntagged(frames)
	}
	var was [frame.BatchLen]frame.Untagged
	for len(frames) > 0 {
		n := min(len(frames), len(was))
		for i, f := range frames[:n] {
			was[i] = f.PushTag(q.vlan)
		}
		sent += q.Queue.Write(frames[:n])
		for i, f := range frames[:n] {
			f.Untag(was[i])
		}
		frames = frames[n:]
	}
	return sent
}

// writeUntagged writes all but what has a tag already: that would be in another
// VLAN at the other end.
func (q *trunkQueue) writeUntagged(frames []*frame.Frame) (sent int) {
	from := 0
	for i, f := range frames {
		if vid, _, _ := f.VLAN(); vid != 0 {
			f.Drop(frame.VLANUnmapped)
			sent += q.Queue.Write(frames[from:i])
			from = i + 1
		}
	}
	return sent + q.Queue.Write(frames[from:])
}

// take finds the port of a frame that came in by the trunk, and takes the tag out
// that said so. A frame that is no port's is dropped.
func (t *trunk) take(f *frame.Frame) *Port {
	switch {
	case f.Verdict.Action != frame.Undecided: // it was cut off
		return nil
	case f.Len() < frame.EthernetLen:
		f.Drop(frame.Malformed)
		return nil
	}
	vid, tagged, whole := f.VLAN()
	if !whole {
		f.Drop(frame.Malformed)
		return nil
	}
	var p *Port
	if int(vid) < len(t.ports) {
		p = t.ports[vid].Load()
	}
	if p == nil {
		f.Drop(frame.VLANUnmapped)
	} else if tagged {
		f.PopTag()
	}
	return p
}

// fromTrunk carries a batch that came in by a trunk, in runs of frames of one
// VLAN.
func (w *worker) fromTrunk(t *trunk, frames []frame.Frame) {
	var of *Port
	from := 0
	for i := range frames {
		if p := t.take(&frames[i]); p != of {
			w.fromTrunkPort(of, frames[from:i])
			of, from = p, i
		}
	}
	w.fromTrunkPort(of, frames[from:])
}

// fromTrunkPort is fromPort for frames of which no port may be known.
func (w *worker) fromTrunkPort(p *Port, frames []frame.Frame) {
	switch {
	case len(frames) == 0:
	case p == nil:
		w.tally(w.v.unknown, frames)
	default:
		w.fromPort(p, frames)
	}
}
