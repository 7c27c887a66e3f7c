package daemon

import (
	"errors"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/internal/config"
	"github.com/uvtep/uvtep/internal/control"
)

// AddSegment adds a segment, without ports, that stays until it is taken away or
// the daemon stops. A configuration that comes to list one of that VNI takes it
// over.
func (d *server) AddSegment(vni encap.VNI, n control.NewSegment) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return errStopping
	}
	s, err := segmentOf(d.cfg, vni, n)
	if err != nil {
		return err
	}
	if _, ok := d.vtep.Segment(vni); ok {
		return control.Errorf(control.ErrConflict, "segment %v is there already; see uvtep show segments", vni)
	}
	for _, o := range d.vtep.Segments() {
		if o.Config().Name == s.Name {
			return control.Errorf(control.ErrConflict, "segment %v is called %s already; choose another name", o.VNI(), s.Name)
		}
	}
	var t transaction
	if err := d.addSegment(&t, s); err != nil {
		return kind(err, "segments")
	}
	// One that the configuration lists, and that was taken away, is back.
	if listed := find(d.cfg.Segments, s.VNI); listed == nil || !sameButPorts(*listed, s) {
		d.live = append(d.live, s)
	}
	d.reserved.apply(d.serverOf, d.log)
	return nil
}

// DeleteSegment takes a segment away, with its ports. One that the configuration
// lists comes back with the next reload.
func (d *server) DeleteSegment(vni encap.VNI) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return errStopping
	}
	if _, err := d.segment(vni); err != nil {
		return err
	}
	d.live = slices.DeleteFunc(d.live, func(s config.Segment) bool { return s.VNI == uint32(vni) })
	d.added = slices.DeleteFunc(d.added, func(q placed) bool { return q.vni == uint32(vni) })
	return d.vtep.RemoveSegment(vni)
}

// segmentOf is the segment that a configuration with the keys of n would have,
// beside the rest of c.
func segmentOf(c *config.Config, vni encap.VNI, n control.NewSegment) (config.Segment, error) {
	keys := yaml.MapSlice{{Key: "vni", Value: uint32(vni)}}
	for _, k := range []struct {
		key   string
		given bool
		value any
	}{
		{"name", n.Name != "", n.Name}, {"mtu", n.MTU != 0, n.MTU}, {"peers", len(n.Peers) > 0, n.Peers},
		{"group", n.Group != "", n.Group}, {"dhcp", n.DHCP != "", n.DHCP}, {"dhcp6", n.DHCP6 != "", n.DHCP6},
	} {
		if k.given {
			keys = append(keys, yaml.MapItem{Key: k.key, Value: k.value})
		}
	}
	text, err := yaml.Marshal(yaml.MapSlice{
		{Key: "underlay", Value: yaml.MapSlice{{Key: "local", Value: c.Underlay.Local.String()}, {Key: "accept", Value: string(c.Underlay.Accept)}}},
		{Key: "segments", Value: []yaml.MapSlice{keys}},
	})
	if err != nil {
		return config.Segment{}, err
	}
	of, err := config.ParseSpelt(text, func(path string) string { return strings.TrimPrefix(path, "segments[0].") })
	var faults config.Faults
	if errors.As(err, &faults) {
		return config.Segment{}, control.Errorf(control.ErrInvalid, "%s: %s", strings.TrimPrefix(faults[0].Path, "segments[0]."), faults[0].Msg)
	}
	if err != nil {
		return config.Segment{}, err
	}
	return of.Segments[0], nil
}

func find(all []config.Segment, vni uint32) *config.Segment {
	if i := slices.IndexFunc(all, func(s config.Segment) bool { return s.VNI == vni }); i >= 0 {
		return &all[i]
	}
	return nil
}

func sameButPorts(a, b config.Segment) bool {
	a.Ports, b.Ports = nil, nil
	return reflect.DeepEqual(a, b)
}

// running is the configuration with the segments that are there: those added
// while running as well, and not those taken away.
func (d *server) running() *config.Config {
	live := map[uint32]bool{}
	for _, s := range d.live {
		live[s.VNI] = true
	}
	c := *d.cfg
	c.Segments = slices.DeleteFunc(slices.Clone(c.Segments), func(s config.Segment) bool {
		_, there := d.vtep.Segment(encap.VNI(s.VNI))
		return !there || live[s.VNI]
	})
	c.Segments = append(c.Segments, d.live...)
	return &c
}

// keeping is a configuration with the segments added while running that it does
// not list, and those by themselves.
func (d *server) keeping(next *config.Config) (all *config.Config, live []config.Segment) {
	listed := map[uint32]bool{}
	for _, s := range next.Segments {
		listed[s.VNI] = true
	}
	for _, s := range d.live {
		if !listed[s.VNI] {
			live = append(live, s)
		}
	}
	c := *next
	c.Segments = slices.Concat(next.Segments, live)
	return &c, live
}
