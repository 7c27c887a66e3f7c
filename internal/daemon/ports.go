package daemon

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"

	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/internal/config"
	"github.com/uvtep/uvtep/internal/control"
	"github.com/uvtep/uvtep/vtep"
)

// placed is a port and the segment that it belongs to. A port's name says which
// one it is: no two ports of a host share one.
type placed struct {
	vni  uint32
	port config.Port
	of   shared
}

// shared is what a port belongs to that other segments have ports of, too.
type shared struct {
	name        string // of the port
	trunk, pair string // either; "" in a port of one segment
	vlan        uint16
}

func (q placed) name() string { return cmp.Or(q.of.name, q.port.Name()) }

func (q placed) config() vtep.PortConfig {
	c := portConfig(q.port)
	c.Name, c.Trunk, c.Pair, c.VLAN = q.name(), q.of.trunk, q.of.pair, q.of.vlan
	return c
}

// AddPort adds a port that stays until it is taken away, its segment goes or
// the daemon stops. A configuration that comes to list a port of that name takes
// it over.
func (d *server) AddPort(vni encap.VNI, n control.NewPort) error {
	p := config.Port{TAP: n.TAP, Stream: n.Stream, NIC: n.NIC, NetNS: n.NetNS, Rename: n.Rename, Bridge: n.Bridge, Isolated: n.Isolated, MaxMACs: n.MaxMACs,
		MaxLeases: n.MaxLeases, DHCPRate: n.DHCPRate, DHCPCheckMAC: n.DHCPCheckMAC, Storm: config.Storm(n.Storm), GBP: n.GBP, GBPAllow: n.GBPAllow,
		Bind: cmp.Or(config.Bind(n.Bind), config.BindNone), Trusted: n.Trusted}
	for _, a := range n.Addresses {
		b := a.MAC.Bytes()
		ip, err := addressOrPrefix(a.IP)
		if err != nil {
			return control.Errorf(control.ErrInvalid, "addresses: %q is neither an IP address nor a prefix", a.IP)
		}
		p.Addresses = append(p.Addresses, config.Address{MAC: b[:], IP: ip})
	}
	if n.MAC != nil {
		b := n.MAC.Bytes()
		p.MAC = b[:]
	}
	var faults config.Faults
	if err := p.Check(); errors.As(err, &faults) {
		return control.Errorf(control.ErrInvalid, "%s: %s", cmp.Or(faults[0].Path, "the port"), faults[0].Msg)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return errStopping
	}
	for _, s := range d.vtep.Segments() {
		if i := slices.IndexFunc(s.Ports(), func(q vtep.PortStats) bool { return q.Name == p.Name() }); i >= 0 {
			return control.Errorf(control.ErrConflict, "segment %v has a port %s already; choose another name", s.VNI(), p.Name())
		}
	}
	seg, err := d.segment(vni)
	if err != nil {
		return err
	}
	if _, err := seg.AttachPort(portConfig(p)); err != nil {
		return kind(err, "ports")
	}
	// One that the configuration lists, and that was taken away, is back.
	i := slices.IndexFunc(d.added, func(q placed) bool { return q.name() == p.Name() })
	if i >= 0 {
		d.added = slices.Delete(d.added, i, i+1)
	}
	if now := (placed{vni: uint32(vni), port: p}); !reflect.DeepEqual(d.listed()[p.Name()], now) {
		d.added = append(d.added, now)
	}
	return nil
}

// addressOrPrefix is an address as a prefix of all its bits, or a prefix.
func addressOrPrefix(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	return netip.ParsePrefix(s)
}

// DeletePort takes a port away. One that the configuration lists comes back with
// the next reload.
func (d *server) DeletePort(vni encap.VNI, name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return errStopping
	}
	seg, err := d.segment(vni)
	if err != nil {
		return err
	}
	err = seg.DetachPort(name)
	if errors.Is(err, vtep.ErrNotFound) {
		return control.Errorf(control.ErrNotFound, "segment %v has no port %s; see uvtep show ports", vni, name)
	}
	d.added = slices.DeleteFunc(d.added, func(q placed) bool { return q.vni == uint32(vni) && q.name() == name })
	return err
}

// hasTAP reports whether any port is a TAP.
func hasTAP(c *config.Config) bool {
	for _, q := range portsOf(c) {
		if q.port.TAP != "" {
			return true
		}
	}
	return false
}

// listed are the ports of the configuration, by name.
func (d *server) listed() map[string]placed { return portsOf(d.cfg) }

func portsOf(c *config.Config) map[string]placed {
	all := map[string]placed{}
	for _, s := range c.Segments {
		for _, p := range s.Ports {
			all[p.Name()] = placed{vni: s.VNI, port: p}
		}
	}
	maps.Copy(all, sharedPortsOf(c))
	return all
}

// sharedPortsOf are the ports of trunks and pairs, by name.
func sharedPortsOf(c *config.Config) map[string]placed {
	all := map[string]placed{}
	for i := range c.Trunks {
		t := &c.Trunks[i]
		for _, m := range t.Segments() {
			name := t.PortName(m.VLAN)
			all[name] = placed{m.VNI, t.Port, shared{name: name, trunk: t.TAP, vlan: m.VLAN}}
		}
	}
	for i := range c.Pairs {
		p := &c.Pairs[i]
		a, b := p.PortNames()
		all[a] = placed{vni: p.A.VNI, of: shared{name: a, pair: p.Name, vlan: p.A.VLAN}}
		all[b] = placed{vni: p.B.VNI, of: shared{name: b, pair: p.Name, vlan: p.B.VLAN}}
	}
	return all
}

// limitless is a port without what can change while it is attached.
func (q placed) limitless() placed {
	q.port.MaxMACs, q.port.MaxLeases, q.port.DHCPRate, q.port.DHCPCheckMAC = 0, 0, 0, false
	q.port.Storm, q.port.GBP, q.port.GBPAllow = config.Storm{}, 0, nil
	q.port.Bind, q.port.Addresses, q.port.Trusted = "", nil, nil
	return q
}

// limitChanges are the ports of which nothing but limits differ, before and
// after.
func limitChanges(have, want map[string]placed) (was, now []placed) {
	for _, q := range inOrder(have) {
		if n, ok := want[q.name()]; ok && !reflect.DeepEqual(q, n) && reflect.DeepEqual(q.limitless(), n.limitless()) {
			was, now = append(was, q), append(now, n)
		}
	}
	return was, now
}

// setLimits changes the limits of a port, if it is there.
func (d *server) setLimits(t *transaction, was, now placed) error {
	seg, err := d.segment(encap.VNI(now.vni))
	if err != nil {
		return err
	}
	err = seg.SetLimits(now.config())
	if errors.Is(err, vtep.ErrNotFound) {
		return nil
	}
	t.did(func() error { return seg.SetLimits(was.config()) })
	return err
}

// portChanges are the ports that a configuration has and those that the next one
// has, and those added while running that stay, which both have.
func (d *server) portChanges(next *config.Config) (have, want map[string]placed, stay []placed) {
	have, want = portsOf(d.running()), portsOf(next)
	segments := map[uint32]bool{}
	for _, s := range next.Segments {
		segments[s.VNI] = true
	}
	for _, q := range d.added {
		have[q.name()] = q
		if _, claimed := want[q.name()]; !claimed && segments[q.vni] {
			stay = append(stay, q)
			want[q.name()] = q
		}
	}
	return have, want, stay
}

// missingIn are the ports of a that b does not have just so, limits aside.
func missingIn(a, b map[string]placed) []placed {
	return slices.DeleteFunc(inOrder(a), func(q placed) bool {
		o, ok := b[q.name()]
		return ok && reflect.DeepEqual(o.limitless(), q.limitless())
	})
}

// inOrder are ports by segment and name.
func inOrder(all map[string]placed) []placed {
	return slices.SortedFunc(maps.Values(all), func(a, b placed) int {
		return cmp.Or(cmp.Compare(a.vni, b.vni), cmp.Compare(a.port.Name(), b.port.Name()))
	})
}

func (d *server) attach(t *transaction, q placed) error {
	seg, err := d.segment(encap.VNI(q.vni))
	if err != nil {
		return err
	}
	if _, err := seg.AttachPort(q.config()); err != nil {
		return err
	}
	t.did(func() error { return seg.DetachPort(q.name()) })
	return nil
}

// detach takes a port away, if it is there: it may have been taken away while
// running.
func (d *server) detach(t *transaction, q placed) error {
	seg, err := d.segment(encap.VNI(q.vni))
	if err != nil {
		return err
	}
	err = seg.DetachPort(q.name())
	if errors.Is(err, vtep.ErrNotFound) {
		return nil
	}
	t.did(func() error {
		_, err := seg.AttachPort(q.config())
		return err
	})
	return err
}

// reopen opens the devices of ports whose own has vanished, and attaches those that
// should be there and are not. One that cannot be opened stays as it is: its
// namespace may come back later.
func (d *server) reopen() []string {
	should := d.listed()
	for _, q := range d.added {
		should[q.name()] = q
	}
	there := map[string]bool{}
	for _, s := range d.vtep.Segments() {
		for _, p := range s.Ports() {
			there[p.Name] = !p.Vanished
		}
	}
	var done []string
	for _, q := range inOrder(should) {
		if there[q.name()] {
			continue
		}
		if err := d.reopenPort(q); err != nil {
			d.log.Warn("a port stays down", "vni", q.vni, "port", q.name(), "err", oneLine(err))
			continue
		}
		done = append(done, fmt.Sprintf("segment %d: port %s opened again", q.vni, q.name()))
	}
	return done
}

// reopenPort opens the device before it gives the port up.
func (d *server) reopenPort(q placed) error {
	seg, err := d.segment(encap.VNI(q.vni))
	if err != nil {
		return err
	}
	pc := portConfig(q.port)
	if pc.Device, err = seg.OpenDevice(pc); err != nil {
		return err
	}
	if err := seg.DetachPort(q.name()); err != nil {
		d.log.Debug("the vanished device of a port", "port", q.name(), "err", err)
	}
	_, err = seg.AttachPort(pc)
	return err
}
