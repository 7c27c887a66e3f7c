package config

import (
	"cmp"
	"path/filepath"
	"slices"
	"strings"
)

// MaxSocketPath is the longest path that a Unix socket can have, bytes (unix(7)).
const MaxSocketPath = 107

// kinds are the keys that say what a port is, and that name it. A port has one.
var kinds = [...]string{"tap", "stream", "nic"}

// notOf are the keys that are about an interface of uvtep's own, by the key of
// ports that have none, and why.
var notOf = map[string]struct {
	keys []string
	why  string
}{
	"stream": {[]string{"netns", "rename", "mac", "bridge"}, "a stream has no interface here"},
	"nic":    {[]string{"rename", "mac", "bridge"}, "a NIC is taken as it is"},
}

// Key is the key that says what the port is.
func (p Port) Key() string {
	switch {
	case p.Stream != "":
		return "stream"
	case p.NIC != "":
		return "nic"
	}
	return "tap"
}

// Name is what the port is called, in this file and everywhere else.
func (p Port) Name() string {
	if p.Stream != "" {
		return filepath.Base(p.Stream)
	}
	return cmp.Or(p.TAP, p.NIC)
}

// portDevice reads what a port is.
func (s *source) portDevice(p path, raw *rawPort, port *Port) {
	var first path
	var kind string
	for _, k := range kinds {
		switch _, there := s.places[p.key(k)]; {
		case !there:
		case first != "":
			s.fault(p.key(k), "a port is one of %s, not several: %s", strings.Join(kinds[:], ", "), s.other(first))
			return
		default:
			first, kind = p.key(k), k
		}
	}
	if first == "" {
		s.fault(p, "says not what it is: one of %s is needed", strings.Join(kinds[:], ", "))
		return
	}
	port.TAP, _ = s.ifname(p.key("tap"), raw.TAP)
	port.Stream = s.socketPath(p.key("stream"), raw.Stream)
	port.NIC, _ = s.ifname(p.key("nic"), raw.NIC)
	for _, k := range notOf[kind].keys {
		if s.has(p.key(k)) {
			s.fault(p.key(k), "%s: %s", notOf[kind].why, s.other(first))
		}
	}
}

// socketPath parses the path of a machine's socket, whose last element is the
// port's name.
func (s *source) socketPath(p path, v string) string {
	if !s.has(p) {
		return ""
	}
	switch base := filepath.Base(v); {
	case v == "":
		s.fault(p, "is empty")
	case !strings.HasPrefix(v, "/"):
		s.fault(p, "%q is not an absolute path", v)
	case len(v) > MaxSocketPath:
		s.fault(p, "%q has %d bytes; the path of a socket has at most %d", v, len(v), MaxSocketPath)
	case filepath.Clean(v) != v:
		s.fault(p, "%q is not in its shortest form, %s", v, filepath.Clean(v))
	case !nameForm.MatchString(base):
		s.fault(p, "%q cannot be a port's name: up to 63 letters, digits, dots, dashes and underscores", base)
	default:
		return v
	}
	return ""
}

// portName parses the name of one of the segment's ports.
func (s *source) portName(p path, v portNameText, ports []string) string {
	if !s.has(p) {
		return ""
	}
	name := string(v)
	if name == "" || !slices.Contains(ports, name) {
		s.fault(p, "the segment has no port %q", name)
		return ""
	}
	return name
}

// notUnderlay refuses the interface of the tunnel as a port: its packets would go
// round in circles.
func (s *source) notUnderlay(p path, port Port, u *Underlay) {
	if port.NIC != "" && port.NIC == u.Device && port.NetNS == "" {
		s.fault(p.key("nic"), "%s is the tunnel's own interface, %s", port.NIC, s.other("underlay.device"))
	}
}
