package config

import (
	"net/netip"
	"path/filepath"
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

// acrossSegments checks what must differ in the whole configuration.
func (s *source) acrossSegments(segments []Segment) {
	type named struct{ netns, name string }
	vnis, names, ports, finals := registry[uint32]{}, registry[string]{}, registry[string]{}, registry[named]{}
	for i := range segments {
		seg, p := &segments[i], path("segments").index(i)
		if seg.VNI != 0 {
			if first, taken := vnis.claim(seg.VNI, p.key("vni")); taken {
				s.fault(p.key("vni"), "%d is also the VNI of %s", seg.VNI, s.other(first))
			} else if first, taken := names.claim(seg.Name, p.key("name")); taken {
				s.fault(p.key("name"), "%s is also the name of %s", seg.Name, s.other(first))
			}
		}
		for j, port := range seg.Ports {
			at := p.key("ports").index(j)
			if port.Name() == "" {
				continue
			}
			if first, taken := ports.claim(port.Name(), at.key(port.Key())); taken {
				s.fault(at.key(port.Key()), "%s is also the name of %s", port.Name(), s.other(first))
				continue
			}
			if port.Stream != "" {
				continue
			}
			key := port.Key()
			if port.Rename != "" {
				key = "rename"
			}
			if first, taken := finals.claim(named{namespace(port.NetNS), finalName(port)}, at.key(key)); taken {
				s.fault(at.key(key), "%s is also the name of %s in the same namespace", finalName(port), s.other(first))
			}
		}
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
