package config

import (
	"net/netip"
	"slices"
	"time"

	"github.com/uvtep/uvtep/dhcpd"
)

// ra resolves what router advertisements say; dhcp6 is nil where the segment has
// no DHCPv6 server, or one with faults. mtu is the segment's, 0 where it does not
// say.
func (s *source) ra(p path, raw *rawRA, dhcp6 *DHCP6, mtu int) *RA {
	r, before := defaultRA(dhcp6), len(s.faults)
	r.Managed = s.boolean(raw.Managed, r.Managed)
	r.Other = s.boolean(raw.Other, r.Other)
	r.Prefixes = defaultRAPrefixes(dhcp6, r.Managed)
	if raw.Prefixes != nil {
		r.Prefixes = s.raPrefixes(p.key("prefixes"), *raw.Prefixes, r.Managed)
	}
	if raw.DNS != nil {
		r.DNS = hosts(s, p.key("dns"), *raw.DNS, v6)
	}
	if raw.Search != nil {
		r.Search = s.search(p.key("search"), *raw.Search)
	}
	if n, word, ok := s.integerOr(p.key("mtu"), raw.MTU, string(raw.MTU), minMTU6, 65535); ok {
		r.MTU = RAMTU{Off: word, Value: int(n)}
		if mtu > 0 && r.MTU.Value > mtu {
			s.fault(p.key("mtu"), "%d is more than the segment's MTU, %d", n, mtu)
		}
	}
	r.Interval = s.duration(p.key("interval"), raw.Interval, 4*time.Second, 30*time.Minute, time.Second, DefaultRAInterval)
	r.Lifetime = s.duration(p.key("lifetime"), raw.Lifetime, 0, 9000*time.Second, time.Second, 0)
	if r.Lifetime > 0 && r.Lifetime < r.Interval {
		s.fault(p.key("lifetime"), "%s is less than the interval, %s: it would lapse in between", durationString(r.Lifetime), durationString(r.Interval))
	}
	if dhcp6 == nil && len(s.faults) == before && len(r.Prefixes)+len(r.DNS)+len(r.Search) == 0 && r.Lifetime == 0 {
		s.fault(p, "says nothing: give it prefixes, or the segment dhcp6")
	}
	return r
}

// defaultRA follows from the segment's DHCPv6 server, but for its prefixes,
// which depend on what becomes of Managed.
func defaultRA(dhcp6 *DHCP6) *RA {
	r := &RA{Interval: DefaultRAInterval}
	if dhcp6 != nil {
		r.Managed = len(dhcp6.Ranges) > 0 || slices.ContainsFunc(dhcp6.Hosts, func(h Host6) bool { return h.IP.IsValid() })
		r.Other, r.DNS, r.Search = true, dhcp6.DNS, dhcp6.Search
	}
	return r
}

func defaultRAPrefixes(dhcp6 *DHCP6, managed bool) []RAPrefix {
	if dhcp6 == nil || !dhcp6.Subnet.IsValid() {
		return nil
	}
	return []RAPrefix{{
		Prefix: dhcp6.Subnet, OnLink: true, Autonomous: autonomous(dhcp6.Subnet, managed),
		Valid: DefaultRAValid, Preferred: DefaultRAPreferred,
	}}
}

// autonomous is whether hosts make addresses of a prefix where nothing is said:
// they can of a /64 only (RFC 4862, section 5.5.3).
func autonomous(n netip.Prefix, managed bool) bool { return !managed && n.Bits() == 64 }

func (s *source) raPrefixes(p path, raw []rawRAPrefix, managed bool) []RAPrefix {
	const longest = dhcpd.MaxLease
	var out []RAPrefix
	first := registry[netip.Prefix]{}
	for i := range raw {
		at := p.index(i)
		s.missing(at.key("prefix"), "the prefix to advertise is needed")
		before := len(s.faults)
		r := RAPrefix{OnLink: s.boolean(raw[i].OnLink, true)}
		r.Valid = s.duration(at.key("valid"), raw[i].Valid, time.Second, longest, time.Second, DefaultRAValid)
		r.Preferred = s.duration(at.key("preferred"), raw[i].Preferred, time.Second, longest, time.Second, min(DefaultRAPreferred, r.Valid))
		if r.Preferred > r.Valid && len(s.faults) == before {
			s.fault(at.key("preferred"), "%s is more than the valid lifetime, %s", durationString(r.Preferred), durationString(r.Valid))
		}
		var ok bool
		if r.Prefix, ok = s.prefix6(at.key("prefix"), raw[i].Prefix); !ok {
			continue
		}
		if other, taken := first.claim(r.Prefix, at.key("prefix")); taken {
			s.fault(at.key("prefix"), "%s is listed twice, also as %s", r.Prefix, s.other(other))
		}
		r.Autonomous = s.boolean(raw[i].Autonomous, autonomous(r.Prefix, managed))
		if r.Autonomous && r.Prefix.Bits() != 64 {
			s.fault(at.key("autonomous"), "hosts make addresses of a /64 only, not of %s", r.Prefix)
		}
		out = append(out, r)
	}
	return out
}
