package config

import (
	"reflect"
	"slices"
	"strings"
)

// Changes are what a reload has to do. A port may move from one segment to
// another, so what is removed goes before what is added comes.
type Changes struct {
	// NeedsRestart has one line a key that cannot change while running, such as
	// "underlay.port: cannot change while running; restart". While it is not
	// empty nothing may be applied.
	NeedsRestart []string
	Added        []Segment // in the order of the new configuration
	Removed      []Segment // in the order of the old one
	Changed      []SegmentChange
	MaxMACs      bool           // of all segments together
	Shared       []SharedChange // trunks, then pairs, by name
}

// SharedChange is a trunk or pair of which something differs.
type SharedChange struct {
	Name string // such as "trunk trunk0"
	What string // added, removed, changed
}

// SegmentChange is a segment of which something differs; its VNI does not.
type SegmentChange struct {
	Old, New Segment

	Name, MTU, Peers, Group, FDB, Ports, Suppress, DHCP, DHCP6, RA bool
	Limits                                                         bool // learning, ageing, max_macs, mac_moves
	Protected                                                      bool
}

// Diff compares two configurations. Neither is changed, and the result shares
// their memory.
func Diff(from, to *Config) Changes {
	c := Changes{NeedsRestart: needsRestart(from, to), MaxMACs: from.MaxMACs != to.MaxMACs}
	was, is := byVNI(from.Segments), byVNI(to.Segments)
	for i := range from.Segments {
		if is[from.Segments[i].VNI] == nil {
			c.Removed = append(c.Removed, from.Segments[i])
		}
	}
	for i := range to.Segments {
		now := &to.Segments[i]
		before := was[now.VNI]
		if before == nil {
			c.Added = append(c.Added, *now)
			continue
		}
		if change := compare(before, now); change.any() {
			c.Changed = append(c.Changed, change)
		}
	}
	c.Shared = append(c.Shared, sharedChanges("trunk ", from.Trunks, to.Trunks, func(t Trunk) string { return t.TAP })...)
	c.Shared = append(c.Shared, sharedChanges("pair ", from.Pairs, to.Pairs, func(p Pair) string { return p.Name })...)
	return c
}

func byVNI(list []Segment) map[uint32]*Segment {
	all := make(map[uint32]*Segment, len(list))
	for i := range list {
		all[list[i].VNI] = &list[i]
	}
	return all
}

func sharedChanges[T any](what string, from, to []T, name func(T) string) (out []SharedChange) {
	before, now := map[string]T{}, map[string]T{}
	for _, v := range from {
		before[name(v)] = v
	}
	for _, v := range to {
		now[name(v)] = v
		if was, there := before[name(v)]; !there {
			out = append(out, SharedChange{what + name(v), "added"})
		} else if !reflect.DeepEqual(was, v) {
			out = append(out, SharedChange{what + name(v), "changed"})
		}
	}
	for n := range before {
		if _, there := now[n]; !there {
			out = append(out, SharedChange{what + n, "removed"})
		}
	}
	slices.SortFunc(out, func(a, b SharedChange) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func compare(a, b *Segment) SegmentChange {
	return SegmentChange{
		Old: *a, New: *b,
		Name:     a.Name != b.Name,
		MTU:      a.MTU != b.MTU,
		Peers:    !sameSet(a.Peers, b.Peers),
		Group:    a.Group != b.Group || a.Device != b.Device,
		Suppress: !sameSet(a.Suppress, b.Suppress),
		FDB:      !reflect.DeepEqual(a.FDB, b.FDB),
		Ports:    !reflect.DeepEqual(a.Ports, b.Ports),
		DHCP:     !reflect.DeepEqual(a.DHCP, b.DHCP),
		DHCP6:    !reflect.DeepEqual(a.DHCP6, b.DHCP6),
		RA:       !reflect.DeepEqual(a.RA, b.RA),
		Limits:   a.Learning != b.Learning || a.Ageing != b.Ageing || a.MaxMACs != b.MaxMACs || a.Moves != b.Moves,

		Protected: !reflect.DeepEqual(a.ProtectedMACs, b.ProtectedMACs),
	}
}

func (c *SegmentChange) any() bool {
	return c.Name || c.MTU || c.Peers || c.Group || c.FDB || c.Ports || c.Suppress || c.DHCP || c.DHCP6 || c.RA || c.Protected || c.Limits
}

// sameSet compares lists without repetitions, whose order has no meaning.
func sameSet[T comparable](a, b []T) bool {
	if len(a) != len(b) {
		return false
	}
	if slices.Equal(a, b) {
		return true
	}
	in := make(map[T]bool, len(a))
	for _, v := range a {
		in[v] = true
	}
	return !slices.ContainsFunc(b, func(v T) bool { return !in[v] })
}

func needsRestart(a, b *Config) []string {
	var out []string
	for _, k := range []struct {
		path    string
		differs bool
	}{
		{"underlay.local", a.Underlay.Local != b.Underlay.Local},
		{"underlay.port", a.Underlay.Port != b.Underlay.Port},
		{"underlay.device", a.Underlay.Device != b.Underlay.Device},
		{"underlay.accept", a.Underlay.Accept != b.Underlay.Accept},
		{"underlay.checksum", a.Underlay.Checksum != b.Underlay.Checksum},
		{"underlay.ttl", a.Underlay.TTL != b.Underlay.TTL},
		{"underlay.tos", a.Underlay.TOS != b.Underlay.TOS},
		{"underlay.df", a.Underlay.DF != b.Underlay.DF && a.Underlay.Fragment == b.Underlay.Fragment},
		{"underlay.fragment", a.Underlay.Fragment != b.Underlay.Fragment},
		{"underlay.zero_checksum6", a.Underlay.ZeroSum6 != b.Underlay.ZeroSum6},
		{"underlay.gbp", a.Underlay.GBP != b.Underlay.GBP},
		{"underlay.strict", a.Underlay.Strict != b.Underlay.Strict},
		{"underlay.source_ports", a.Underlay.SourcePorts != b.Underlay.SourcePorts},
		{"workers", a.Workers != b.Workers},
		{"offload", a.Offload != b.Offload},
		{"busy_poll", a.BusyPoll != b.BusyPoll},
		{"state", a.State != b.State},
		{"api.socket", a.API.Socket != b.API.Socket},
		{"api.http", a.API.HTTP != b.API.HTTP},
	} {
		if k.differs {
			out = append(out, k.path+": cannot change while running; restart")
		}
	}
	return out
}
