package config

import (
	"strconv"

	"github.com/uvtep/uvtep/internal/frame"
)

// PortName is what the port is called that a segment has of the trunk.
func (t *Trunk) PortName(vlan uint16) string {
	if vlan == 0 {
		return t.TAP
	}
	return t.TAP + "." + strconv.Itoa(int(vlan))
}

// Segments are all places on the trunk; that of untagged frames comes first.
func (t *Trunk) Segments() []VLAN {
	if t.Native == 0 {
		return t.VLANs
	}
	return append([]VLAN{{VNI: t.Native}}, t.VLANs...)
}

// PortNames are what the ports of the two ends are called.
func (p *Pair) PortNames() (a, b string) { return p.Name + ".a", p.Name + ".b" }

// sharedPorts are the names of the ports that segments have of trunks and pairs,
// by VNI.
func sharedPorts(c *Config) map[uint32][]string {
	all := map[uint32][]string{}
	for i := range c.Trunks {
		for _, m := range c.Trunks[i].Segments() {
			all[m.VNI] = append(all[m.VNI], c.Trunks[i].PortName(m.VLAN))
		}
	}
	for i := range c.Pairs {
		p := &c.Pairs[i]
		a, b := p.PortNames()
		all[p.A.VNI] = append(all[p.A.VNI], a)
		all[p.B.VNI] = append(all[p.B.VNI], b)
	}
	return all
}

func (s *source) trunk(p path, raw *rawTrunk) Trunk {
	var t Trunk
	s.missing(p.key("tap"), "the trunk's TAP device is needed")
	if _, there := s.places[p.key("tap")]; there {
		t.Port = s.port(p, raw.port())
	}
	_, native := s.places[p.key("native")]
	_, vlans := s.places[p.key("vlans")]
	if !native && (!vlans || s.has(p.key("vlans")) && len(raw.VLANs) == 0) {
		s.fault(p, "carries nothing: vlans or native is needed")
	}
	t.Native = uint32(s.integer(p.key("native"), raw.Native, 1, MaxVNI, 0))
	for _, key := range raw.VLANs.order() {
		at := p.key("vlans").key(key)
		vlan, ok := s.vlanKey(at, key)
		if vni := uint32(s.integer(at, raw.VLANs[key], 1, MaxVNI, 0)); ok && vni != 0 {
			t.VLANs = append(t.VLANs, VLAN{vlan, vni})
		}
	}
	return t
}

// vlanKey parses a VLAN that is a key.
func (s *source) vlanKey(p path, key string) (uint16, bool) {
	n, err := strconv.Atoi(key)
	switch {
	case err != nil || !decimal.MatchString(key):
		s.fault(p, "%q is not the number of a VLAN, 1..%d", key, frame.MaxVLAN)
	case n < 1 || n > frame.MaxVLAN:
		s.fault(p, "VLAN %d is outside 1..%d", n, frame.MaxVLAN)
	default:
		return uint16(n), true
	}
	return 0, false
}

func (s *source) pair(p path, raw *rawPair) Pair {
	var pair Pair
	s.missing(p.key("name"), "the pair needs a name, which its ports are called by")
	if s.has(p.key("name")) {
		if pair.Name = string(raw.Name); !nameForm.MatchString(pair.Name) {
			s.fault(p.key("name"), "%q is not a name: up to 63 letters, digits, dots, dashes and underscores", pair.Name)
		}
	}
	pair.A = s.end(p.key("a"), &raw.A)
	pair.B = s.end(p.key("b"), &raw.B)
	if pair.A.VNI != 0 && pair.A.VNI == pair.B.VNI {
		s.fault(p.key("b").key("vni"), "%d is also the VNI of %s: a pair joins two segments", pair.B.VNI, s.other(p.key("a").key("vni")))
	}
	return pair
}

func (s *source) end(p path, raw *rawEnd) End {
	s.missing(p, "a pair has two ends, a and b")
	if s.has(p) {
		s.missing(p.key("vni"), "the segment that this end is in is needed")
	}
	return End{
		VNI:  uint32(s.integer(p.key("vni"), raw.VNI, 1, MaxVNI, 0)),
		VLAN: uint16(s.integer(p.key("vlan"), raw.VLAN, 1, frame.MaxVLAN, 0)),
	}
}
