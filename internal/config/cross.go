package config

import (
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
)

// A registry remembers what was seen first where, to name both places of a
// conflict.
type registry[K comparable] map[K]path

// claim notes that p has k, and returns who had it before.
func (r registry[K]) claim(k K, p path) (path, bool) {
	if first, taken := r[k]; taken {
		return first, true
	}
	r[k] = p
	return "", false
}

// withinSegment checks what must differ within one segment.
func (s *source) withinSegment(p path, seg *Segment) {
	entries, guests, ips := registry[string]{}, registry[string]{}, registry[netip.Addr]{}
	for i, e := range seg.FDB {
		for j, a := range e.IPs {
			at := p.key("fdb").index(i).key("ips").index(j)
			if first, taken := ips.claim(a, at); taken {
				s.fault(at, "%s is listed twice, also as %s", a, s.other(first))
			}
		}
		at := p.key("fdb").index(i).key("mac")
		if e.MAC == nil {
			continue
		}
		if first, taken := entries.claim(string(e.MAC), at); taken {
			s.fault(at, "%s has an entry already, %s", e.MAC, s.other(first))
		}
	}
	for i, port := range seg.Ports {
		at := p.key("ports").index(i).key("mac")
		if port.MAC == nil {
			continue
		}
		if first, taken := guests.claim(string(port.MAC), at); taken {
			s.fault(at, "%s is also the address of %s", port.MAC, s.other(first))
		}
	}
}

// across checks what must differ in the whole configuration, and what must be
// somewhere in it.
func (s *source) across(c *Config) {
	vnis, names, ports := registry[uint32]{}, registry[string]{}, newPortNames(s)
	for i := range c.Segments {
		seg, p := &c.Segments[i], path("segments").index(i)
		if seg.VNI != 0 {
			if first, taken := vnis.claim(seg.VNI, p.key("vni")); taken {
				s.fault(p.key("vni"), "%d is also the VNI of %s", seg.VNI, s.other(first))
			} else if first, taken := names.claim(seg.Name, p.key("name")); taken {
				s.fault(p.key("name"), "%s is also the name of %s", seg.Name, s.other(first))
			}
		}
		for j, port := range seg.Ports {
			at := p.key("ports").index(j)
			if ports.claim(at.key(port.Key()), port.Name()) {
				ports.claimInterface(at, port)
			}
		}
	}
	for i := range c.Trunks {
		s.acrossTrunk(path("trunks").index(i), &c.Trunks[i], vnis, ports)
	}
	type joint [2]End
	joints := registry[joint]{}
	for i := range c.Pairs {
		pair, p := &c.Pairs[i], path("pairs").index(i)
		a, b := pair.PortNames()
		if pair.Name != "" && ports.claim(p.key("name"), a) {
			ports.claim(p.key("name"), b)
		}
		s.segmentOf(p.key("a").key("vni"), pair.A.VNI, vnis)
		s.segmentOf(p.key("b").key("vni"), pair.B.VNI, vnis)
		of := joint{pair.A, pair.B}
		if of[0].VNI > of[1].VNI {
			of[0], of[1] = of[1], of[0]
		}
		if first, taken := joints.claim(of, p); taken && of[0].VNI != 0 {
			s.fault(p, "joins the same as %s: frames would go round", s.other(first))
		}
	}
}

// acrossTrunk is across for a trunk.
func (s *source) acrossTrunk(p path, t *Trunk, vnis registry[uint32], ports portNames) {
	if !ports.claim(p.key("tap"), t.TAP) {
		return
	}
	ports.claimInterface(p, t.Port)
	here := registry[uint32]{}
	for _, m := range t.Segments() {
		at := p.key("native")
		if m.VLAN != 0 {
			at = p.key("vlans").key(strconv.Itoa(int(m.VLAN)))
			ports.claim(at, t.PortName(m.VLAN))
		}
		if first, taken := here.claim(m.VNI, at); taken {
			s.fault(at, "%d is also the VNI of %s: a segment is on a trunk once", m.VNI, s.other(first))
			continue
		}
		s.segmentOf(at, m.VNI, vnis)
	}
}

// segmentOf checks that a segment is there that something belongs to.
func (s *source) segmentOf(p path, vni uint32, vnis registry[uint32]) {
	if _, there := vnis[vni]; !there && vni != 0 {
		s.fault(p, "there is no segment %d", vni)
	}
}

// portNames are the names that ports have, and their interfaces.
type portNames struct {
	s      *source
	names  registry[string]
	finals registry[interfaceName]
}

// interfaceName is what an interface is called, and where.
type interfaceName struct{ netns, name string }

func newPortNames(s *source) portNames {
	return portNames{s, registry[string]{}, registry[interfaceName]{}}
}

// claim notes the name of a port, unless it is another's.
func (n portNames) claim(p path, name string) bool {
	if name == "" {
		return false
	}
	first, taken := n.names.claim(name, p)
	if taken {
		n.s.fault(p, "%s is also the name of %s", name, n.s.other(first))
	}
	return !taken
}

// claimInterface notes what the interface of a port is called.
func (n portNames) claimInterface(p path, port Port) {
	if port.Stream != "" {
		return
	}
	at := p.key(port.Key())
	if port.Rename != "" {
		at = p.key("rename")
	}
	if first, taken := n.finals.claim(interfaceName{namespace(port.NetNS), finalName(port)}, at); taken {
		n.s.fault(at, "%s is also the name of %s in the same namespace", finalName(port), n.s.other(first))
	}
}

// namespace gives a network namespace one spelling, whether it was written as a
// name or as the path that the name stands for.
func namespace(n string) string {
	if !strings.HasPrefix(n, "/") {
		return n
	}
	n = filepath.Clean(n)
	for _, dir := range []string{"/run/netns/", "/var/run/netns/"} {
		if name, ok := strings.CutPrefix(n, dir); ok && !strings.Contains(name, "/") {
			return name
		}
	}
	return n
}
