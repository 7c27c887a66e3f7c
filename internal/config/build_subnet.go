package config

import (
	"net/netip"
	"slices"
	"strings"
)

// A family tells the functions of both which one is meant.
type family bool

const (
	v4 family = false
	v6 family = true
)

func (f family) String() string { return f.of("IPv4", "IPv6") }

// of is the text of the family.
func (f family) of(four, six string) string {
	if f == v6 {
		return six
	}
	return four
}

// inSubnet tells whether a can be a machine of the subnet; it is true where the
// subnet itself is at fault.
func (s *source) inSubnet(p path, a netip.Addr, subnet netip.Prefix) bool {
	switch {
	case !subnet.IsValid():
		return true
	case !subnet.Contains(a):
		s.fault(p, "%s is outside %s", a, subnet)
	case a == subnet.Addr() && a.Is6():
		s.fault(p, "%s is the subnet's anycast address, all its routers'", a)
	case a == subnet.Addr():
		s.fault(p, "%s is the subnet's own address", a)
	case a == last(subnet) && a.Is4():
		s.fault(p, "%s is the subnet's broadcast address", a)
	default:
		return true
	}
	return false
}

func (s *source) gateway(p path, v ipv4Text, subnet netip.Prefix) netip.Addr {
	a, ok := s.ipv4(p, v)
	if !ok || !s.inSubnet(p, a, subnet) {
		return netip.Addr{}
	}
	return a
}

func ranges[T ~string](s *source, p path, raw *[]T, subnet netip.Prefix, f family) []Range {
	if raw == nil {
		return nil
	}
	var out []Range
	var at []path
	for i, v := range *raw {
		here := p.index(i)
		r, ok := s.addrRange(here, string(v), subnet, f)
		if !ok {
			continue
		}
		if j := slices.IndexFunc(out, func(o Range) bool { return o.Contains(r.First) || r.Contains(o.First) }); j >= 0 {
			s.fault(here, "%s overlaps %s of %s", r, out[j], s.other(at[j]))
			continue
		}
		out, at = append(out, r), append(at, here)
	}
	return out
}

func (s *source) addrRange(p path, v string, subnet netip.Prefix, f family) (Range, bool) {
	if !s.has(p) {
		return Range{}, false
	}
	from, to, pair := strings.Cut(v, "-")
	if !pair {
		to = from
	}
	first, err1 := netip.ParseAddr(from)
	last, err2 := netip.ParseAddr(to)
	isOne := func(a netip.Addr) bool { return a.Is6() == bool(f) && !a.Is4In6() && a.Zone() == "" }
	if err1 != nil || err2 != nil || !isOne(first) || !isOne(last) {
		s.fault(p, "%q is not a range such as %s", v, f.of("192.168.100.10-192.168.100.250", "2001:db8:100::1000-2001:db8:100::ffff"))
		return Range{}, false
	}
	if last.Less(first) {
		s.fault(p, "%s ends before it begins", v)
		return Range{}, false
	}
	return Range{first, last}, s.inSubnet(p, first, subnet) && s.inSubnet(p, last, subnet)
}

func (s *source) routes(p path, raw []rawRoute, subnet netip.Prefix) []Route {
	var out []Route
	first := registry[netip.Prefix]{}
	size := 0
	for i := range raw {
		at := p.index(i)
		s.missing(at.key("to"), "a route needs its destination")
		s.missing(at.key("via"), "a route needs its next hop; 0.0.0.0 is on the link")
		to, ok1 := s.prefix4(at.key("to"), raw[i].To)
		via, ok2 := s.ipv4(at.key("via"), raw[i].Via)
		if ok2 && !via.IsUnspecified() {
			ok2 = s.inSubnet(at.key("via"), via, subnet)
		}
		if !ok1 || !ok2 {
			continue
		}
		if other, taken := first.claim(to, at.key("to")); taken {
			s.fault(at.key("to"), "%s is also the destination of %s", to, s.other(other))
		}
		size += 5 + (to.Bits()+7)/8
		out = append(out, Route{To: to, Via: via})
	}
	if size > maxOption {
		s.fault(p, "take %d bytes; a reply has room for %d", size, maxOption)
	}
	return out
}

func (s *source) relays(p path, raw []rawRelay, main *DHCP) []Relay {
	var out []Relay
	subnets, at := []netip.Prefix{main.Subnet}, []path{p.parent().key("subnet")}
	for i := range raw {
		here := p.index(i)
		s.missing(here.key("subnet"), "the addresses behind the relay are needed")
		r := Relay{
			DNS:    hosts(s, here.key("dns"), raw[i].DNS, v4),
			Domain: s.domain(here.key("domain"), raw[i].Domain),
			MTU:    uint16(s.integer(here.key("mtu"), raw[i].MTU, 68, 65535, 0)),

			BootFile: s.bootFile(here.key("boot_file"), raw[i].BootFile),
		}
		r.NextServer, _ = s.host4(here.key("next_server"), raw[i].NextServer)
		subnet, ok := s.subnet(here.key("subnet"), raw[i].Subnet)
		r.Gateway = s.gateway(here.key("gateway"), raw[i].Gateway, subnet)
		explicit := ranges(s, here.key("ranges"), raw[i].Ranges, subnet, v4)
		r.Routes = s.routes(here.key("routes"), raw[i].Routes, subnet)
		of := s.times(here, raw[i].Lease, raw[i].T1, raw[i].T2, timers{main.Lease, main.T1, main.T2})
		r.Lease, r.T1, r.T2 = of.lease, of.t1, of.t2
		r.Options = s.options(here.key("options"), raw[i].Options, forRelay)
		s.notTwice(here, raw[i].Options)
		if ok {
			r.Subnet = subnet
			r.Ranges = usable(subnet)
			if raw[i].Ranges != nil {
				r.Ranges = explicit
			}
			r.Ranges = without(r.Ranges, r.Gateway)
			if j := slices.IndexFunc(subnets, subnet.Overlaps); j >= 0 {
				s.fault(here.key("subnet"), "%s overlaps %s of %s", subnet, subnets[j], s.other(at[j]))
			}
			subnets, at = append(subnets, subnet), append(at, here.key("subnet"))
		}
		out = append(out, r)
	}
	return out
}

// notTwice checks that no option of a relay subnet is given by a key as well.
func (s *source) notTwice(p path, options []rawOption) {
	for i, o := range options {
		key, also := map[int64]string{15: "domain", 26: "mtu", 121: "routes"}[o.Code]
		if at := p.key("options").index(i).key("code"); also && s.has(p.key(key)) {
			s.fault(at, "option %d is given twice, also as %s", o.Code, s.other(p.key(key)))
		}
	}
}

// relayRoom checks that each subnet behind a relay has something to give.
func (s *source) relayRoom(p path, raw []rawRelay, d *DHCP) {
	for i, r := range d.Relays {
		hosts := slices.ContainsFunc(d.Hosts, func(h Host) bool { return r.Subnet.IsValid() && r.Subnet.Contains(h.IP) })
		faulty := !r.Subnet.IsValid() || raw[i].Ranges != nil && slices.ContainsFunc(s.faults, func(f Fault) bool {
			return strings.HasPrefix(f.Path, string(p.index(i).key("ranges")))
		})
		if len(r.Ranges) == 0 && !hosts && !faulty {
			s.fault(p.index(i).key("ranges"), "no address is left to give, and no host is of this subnet")
		}
	}
}
