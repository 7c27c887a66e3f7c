package config

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/uvtep/uvtep/dhcpd"
)

func (s *source) dhcp6(p path, raw *rawDHCP6, ports []string) *DHCP6 {
	d := &DHCP6{
		DNS:         hosts(s, p.key("dns"), raw.DNS, v6),
		Search:      s.search(p.key("search"), raw.Search),
		RapidCommit: raw.RapidCommit,
		Serve:       oneOf(s, p.key("serve"), raw.Serve, string(raw.Serve), ServeSegment),
	}
	s.missing(p.key("subnet"), "the addresses to serve are needed, such as 2001:db8:100::/64")
	s.times6(p, raw, d)
	d.OfferHold, d.DeclineHold = s.holds(p, raw.OfferHold, raw.DeclineHold)
	d.Subnet, _ = s.subnet6(p.key("subnet"), raw.Subnet)
	explicit := ranges(s, p.key("ranges"), raw.Ranges, d.Subnet, v6)
	d.Prefixes = s.delegations(p.key("prefixes"), raw.Prefixes, d.Subnet)
	d.Hosts = s.reservations6(p.key("hosts"), raw.Hosts, d, ports)
	s.server6(p.key("server"), raw, d, explicit)
	d.Options = s.options6(p.key("options"), raw.Options)
	if d.Subnet.IsValid() {
		d.Ranges = usable6(d.Subnet)
		if raw.Ranges != nil {
			d.Ranges = explicit
		}
		d.Ranges = without(d.Ranges, d.Server)
		if len(explicit) > 0 && len(d.Ranges) == 0 {
			s.fault(p.key("ranges"), "no address is left to give but the server's own; [] is for options only")
		}
	}
	return d
}

// times6 resolves the lifetimes and timers: T1 < T2 <= preferred <= valid (RFC
// 8415, sections 14.2 and 21.6).
func (s *source) times6(p path, raw *rawDHCP6, d *DHCP6) {
	const longest = dhcpd.MaxLease
	before := len(s.faults)
	d.Lease = s.duration(p.key("lease"), raw.Lease, dhcpd.MinLease, longest, time.Second, DefaultLease)
	d.Preferred = s.duration(p.key("preferred"), raw.Preferred, time.Second, longest, time.Second, defaultPreferred(d.Lease))
	t1, t2 := defaultTimers6(d.Preferred)
	d.T1 = s.duration(p.key("t1"), raw.T1, time.Second, longest, time.Second, t1)
	d.T2 = s.duration(p.key("t2"), raw.T2, time.Second, longest, time.Second, t2)
	if len(s.faults) > before {
		return
	}
	switch {
	case d.Preferred > d.Lease:
		s.fault(p.key("preferred"), "%s is more than the lease, %s", durationString(d.Preferred), durationString(d.Lease))
	case d.T2 > d.Preferred:
		at := p.key("t2")
		if !s.has(at) {
			at = p.key("preferred")
			s.fault(at, "%s leaves no time to renew", durationString(d.Preferred))
			return
		}
		s.fault(at, "%s is more than the preferred lifetime, %s", durationString(d.T2), durationString(d.Preferred))
	case d.T1 >= d.T2 && s.has(p.key("t1")):
		s.fault(p.key("t1"), "%s is not less than t2, %s", durationString(d.T1), durationString(d.T2))
	case d.T1 >= d.T2 && s.has(p.key("t2")):
		s.fault(p.key("t2"), "%s is not more than t1, %s", durationString(d.T2), durationString(d.T1))
	case d.T1 >= d.T2:
		s.fault(p.key("preferred"), "%s leaves no time to renew", durationString(d.Preferred))
	}
}

func defaultPreferred(lease time.Duration) time.Duration {
	return (lease / 8 * 5).Truncate(time.Second)
}

// defaultTimers6 are at least a second and two, whatever is left of the rest.
func defaultTimers6(preferred time.Duration) (t1, t2 time.Duration) {
	return max((preferred / 2).Truncate(time.Second), time.Second), max((preferred / 5 * 4).Truncate(time.Second), 2*time.Second)
}

// subnet6 parses the prefix of guests, which leaves room for two of them.
func (s *source) subnet6(p path, v prefix6Text) (netip.Prefix, bool) {
	n, ok := s.prefix6(p, v)
	switch {
	case !ok:
	case n.Bits() < 16:
		s.fault(p, "%s is too large: /16 is the largest", n)
	case n.Bits() > 126:
		s.fault(p, "%s is too small: /126 is the smallest", n)
	default:
		return n, true
	}
	return netip.Prefix{}, false
}

func (s *source) delegations(p path, raw []rawDelegation, subnet netip.Prefix) []Delegation {
	var out []Delegation
	taken, at := []netip.Prefix{}, []path{}
	if subnet.IsValid() {
		taken, at = append(taken, subnet), append(at, p.parent().key("subnet"))
	}
	for i := range raw {
		here := p.index(i)
		s.missing(here.key("prefix"), "the prefix to delegate from is needed")
		s.missing(here.key("length"), "the length of what is delegated is needed")
		prefix, ok := s.prefix6(here.key("prefix"), raw[i].Prefix)
		length := int(s.integer(here.key("length"), raw[i].Length, 1, 127, 0))
		if !ok {
			continue
		}
		if j := slices.IndexFunc(taken, prefix.Overlaps); j >= 0 {
			s.fault(here.key("prefix"), "%s overlaps %s of %s", prefix, taken[j], s.other(at[j]))
			continue
		}
		taken, at = append(taken, prefix), append(at, here.key("prefix"))
		switch {
		case length == 0:
		case length < prefix.Bits():
			s.fault(here.key("length"), "%d is less than the prefix itself has, %s", length, prefix)
		default:
			out = append(out, Delegation{prefix, length})
		}
	}
	return out
}

func (s *source) reservations6(p path, raw []rawHost6, d *DHCP6, ports []string) []Host6 {
	var out []Host6
	owners, ips := owners{s: s, ports: ports}, registry[netip.Addr]{}
	for i := range raw {
		at := p.index(i)
		h := Host6{
			Options:  s.options6(at.key("options"), raw[i].Options),
			Hostname: s.domain(at.key("hostname"), raw[i].Hostname),
		}
		if owners.one(at, "mac", "duid", "port") {
			s.fault(at, "says not whose it is: mac, duid or port is needed")
		}
		h.MAC = owners.mac(at.key("mac"), raw[i].MAC)
		h.DUID = owners.id(at.key("duid"), raw[i].DUID, "a DUID has %d..%d bytes, its type first, not %d", 3, 130)
		h.Port = owners.port(at.key("port"), raw[i].Port)
		_, ip := s.places[at.key("ip")]
		_, prefix := s.places[at.key("prefix")]
		if !ip && !prefix && len(raw[i].Options) == 0 {
			s.fault(at, "keeps nothing: ip, prefix or options is needed")
		}
		var ok bool
		if h.IP, ok = s.ipv6(at.key("ip"), raw[i].IP); ok && s.inSubnet(at.key("ip"), h.IP, d.Subnet) {
			if first, taken := ips.claim(h.IP, at.key("ip")); taken {
				s.fault(at.key("ip"), "%s is reserved already, %s", h.IP, s.other(first))
			}
		}
		if h.Prefix, ok = s.prefix6(at.key("prefix"), raw[i].Prefix); ok {
			s.reservedPrefix(at.key("prefix"), h.Prefix, d)
			if j := slices.IndexFunc(out, func(o Host6) bool { return o.Prefix.Overlaps(h.Prefix) }); j >= 0 {
				s.fault(at.key("prefix"), "%s is reserved already, %s", h.Prefix, s.other(p.index(j).key("prefix")))
			}
		}
		out = append(out, h)
	}
	return out
}

// reservedPrefix checks that a prefix is one that can be delegated, and that
// nobody else gets addresses or another prefix of it.
func (s *source) reservedPrefix(p path, n netip.Prefix, d *DHCP6) {
	if n.Bits() > 127 {
		s.fault(p, "%s is an address: it belongs in ip", n)
	}
	if d.Subnet.IsValid() && n.Overlaps(d.Subnet) {
		s.fault(p, "%s overlaps the subnet, %s", n, d.Subnet)
	}
	for _, e := range d.Prefixes {
		if e.Prefix.Overlaps(n) && e.Length != n.Bits() {
			s.fault(p, "%s is not a /%d, as what is delegated of %s", n, e.Length, e.Prefix)
		}
	}
}

// server6 resolves the server's own address, explicit or not.
func (s *source) server6(p path, raw *rawDHCP6, d *DHCP6, explicit []Range) {
	if _, there := s.places[p]; !there {
		if d.Subnet.IsValid() {
			if d.Server = defaultServer6(d, explicit); !d.Server.IsValid() {
				s.fault(p, "no address of %s is free for the server: name one, which the ranges then leave out", d.Subnet)
			}
		}
		return
	}
	a, ok := s.ipv6(p, raw.Server)
	if !ok || !s.inSubnet(p, a, d.Subnet) {
		return
	}
	for i, h := range d.Hosts {
		if h.IP == a {
			at := p.parent().key("hosts").index(i).key("ip")
			s.fault(at, "%s is the server's address, %s", a, s.other(p))
		}
	}
	d.Server = a
}

// defaultServer6 is the first address of the subnet, from ::2 on, that the
// configuration gives to nobody else; the zero Addr if there is none. ::1 is the
// router's by custom.
func defaultServer6(d *DHCP6, ranges []Range) netip.Addr {
	taken := map[netip.Addr]bool{}
	for _, a := range d.DNS {
		taken[a] = true
	}
	for _, h := range d.Hosts {
		taken[h.IP] = true
	}
	return firstFree(Range{plus(d.Subnet.Addr(), 2), last(d.Subnet)}, ranges, taken)
}

// search parses a list of domains, which fit in one option (RFC 3646, section 4).
func (s *source) search(p path, list []domainText) []string {
	var out []string
	size := 0
	for i, v := range list {
		name := s.domain(p.index(i), v)
		if name == "" {
			continue
		}
		if slices.ContainsFunc(out, func(o string) bool { return strings.EqualFold(o, name) }) {
			s.fault(p.index(i), "%s is listed twice", name)
			continue
		}
		size += len(name) + 2
		out = append(out, name)
	}
	if size > maxOption {
		s.fault(p, "take %d bytes; an option has at most %d", size, maxOption)
	}
	return out
}
