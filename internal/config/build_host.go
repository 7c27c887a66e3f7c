package config

import (
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/uvtep/uvtep/dhcpd"
)

func (s *source) hosts(p path, raw []rawHost, d *DHCP, ports []string) []Host {
	var out []Host
	owners, ips := owners{s: s, ports: ports}, registry[netip.Addr]{}
	for i := range raw {
		at := p.index(i)
		h := Host{
			Options:  s.options(at.key("options"), raw[i].Options, forClient),
			Hostname: s.domain(at.key("hostname"), raw[i].Hostname),
			BootFile: s.bootFile(at.key("boot_file"), raw[i].BootFile),
		}
		h.NextServer, _ = s.host4(at.key("next_server"), raw[i].NextServer)
		_, named := s.places[at.key("hostname")]
		switch alone := owners.one(at, "mac", "client_id", "port"); {
		case alone && !named:
			s.fault(at, "says not whose it is: mac, client_id, port or hostname is needed")
		case alone && h.Hostname != "":
			owners.claim(at.key("hostname"), strings.ToLower(h.Hostname), h.Hostname)
		}
		h.MAC = owners.mac(at.key("mac"), raw[i].MAC)
		h.ClientID = owners.id(at.key("client_id"), raw[i].ClientID, "a client id has %d..%d bytes, its type first, not %d", 2, 255)
		h.Port = owners.port(at.key("port"), raw[i].Port)
		s.missing(at.key("ip"), "the address that is kept is needed")
		var ok bool
		if h.IP, ok = s.ipv4(at.key("ip"), raw[i].IP); ok {
			s.reservation(at.key("ip"), h.IP, d)
			if first, taken := ips.claim(h.IP, at.key("ip")); taken {
				s.fault(at.key("ip"), "%s is reserved already, %s", h.IP, s.other(first))
			}
		}
		out = append(out, h)
	}
	return out
}

// owners are the clients that reservations are for: each has one of them.
type owners struct {
	s     *source
	ports []string
	seen  registry[string] // a kind of owner and its bytes
}

// one checks that at most one of the keys is there; none tells whether there is
// no owner at all.
func (o *owners) one(p path, keys ...string) (none bool) {
	var at path
	for _, k := range keys {
		here := p.key(k)
		if _, there := o.s.places[here]; !there {
			continue
		}
		if at != "" {
			o.s.fault(here, "a reservation is for one client, and %s names it already", o.s.other(at))
			continue
		}
		at = here
	}
	return at == ""
}

// claim notes that the owner at p has its reservation.
func (o *owners) claim(p path, owner, shown string) {
	if o.seen == nil {
		o.seen = registry[string]{}
	}
	kind := string(p[len(p.parent()):])
	if first, taken := o.seen.claim(kind+" "+owner, p); taken {
		o.s.fault(p, "%s has a reservation already, %s", shown, o.s.other(first))
	}
}

func (o *owners) mac(p path, v macText) net.HardwareAddr {
	m, ok := o.s.mac(p, v)
	if ok {
		o.claim(p, string(m), m.String())
	}
	return m
}

// id is an identifier of lo..hi bytes; words say so.
func (o *owners) id(p path, v hexText, words string, lo, hi int) []byte {
	id, ok := o.s.hex(p, v)
	if !ok {
		return nil
	}
	if n := len(id); n < lo || n > hi {
		o.s.fault(p, words, lo, hi, n)
		return nil
	}
	o.claim(p, string(id), hex.EncodeToString(id))
	return id
}

func (o *owners) port(p path, v portNameText) string {
	name := o.s.portName(p, v, o.ports)
	if name != "" {
		o.claim(p, name, name)
	}
	return name
}

// reservation checks that the address belongs to one of the subnets that are
// served, and to no router.
func (s *source) reservation(p path, a netip.Addr, d *DHCP) {
	subnet, gateway := d.Subnet, d.Gateway
	for _, r := range d.Relays {
		if r.Subnet.IsValid() && r.Subnet.Contains(a) {
			subnet, gateway = r.Subnet, r.Gateway
		}
	}
	if !d.Subnet.IsValid() || !s.inSubnet(p, a, subnet) {
		return
	}
	if a == gateway {
		s.fault(p, "%s is the gateway's address", a)
	}
}

func (s *source) classes(p path, raw []rawClass) []Class {
	var out []Class
	first := registry[string]{}
	for i := range raw {
		r, at := &raw[i], p.index(i)
		var c Class
		for _, by := range []struct {
			key  Matcher
			text string
		}{{ByVendor, r.Vendor}, {ByUser, r.User}, {ByHostname, r.Hostname}, {ByCircuitID, r.CircuitID}, {ByArch, ""}} {
			here := at.key(string(by.key))
			if _, there := s.places[here]; !there {
				continue
			}
			if c.By != "" {
				s.fault(here, "a class has one matcher: %s is there already", s.other(at.key(string(c.By))))
				continue
			}
			c.By = by.key
			if by.key == ByArch {
				if r.Arch != nil {
					c.Arch = uint16(s.integer(here, *r.Arch, 0, 65535, 0))
				}
				continue
			}
			c.Match = s.nonEmpty(here, by.text, "")
			if digits, isHex := strings.CutPrefix(c.Match, "0x"); isHex && by.key == ByCircuitID {
				data, ok := s.hexAfter(here, "0x", digits)
				if ok && len(data) == 0 {
					s.fault(here, "is empty: 0x and no byte")
				}
				c.Match = string(data)
			}
			if len(c.Match) > 255 {
				s.fault(here, "has %d bytes; an option has at most 255", len(c.Match))
			}
		}
		if c.By == "" {
			s.fault(at, "has no matcher: vendor, user, hostname, circuit_id or arch is needed")
		} else if other, taken := first.claim(fmt.Sprintf("%s %d %q", c.By, c.Arch, c.Match), at.key(string(c.By))); taken {
			s.fault(at.key(string(c.By)), "is also the matcher of %s", s.other(other))
		}
		c.Options = s.options(at.key("options"), r.Options, forClient)
		c.NextServer, _ = s.host4(at.key("next_server"), r.NextServer)
		c.BootFile = s.bootFile(at.key("boot_file"), r.BootFile)
		_, server := s.places[at.key("next_server")]
		_, file := s.places[at.key("boot_file")]
		if len(r.Options) == 0 && !server && !file {
			s.fault(at.key("options"), "are missing: the class would change nothing")
		}
		out = append(out, c)
	}
	if len(raw) > dhcpd.MaxClasses {
		s.fault(p, "%d classes are more than %d", len(raw), dhcpd.MaxClasses)
	}
	return out
}
