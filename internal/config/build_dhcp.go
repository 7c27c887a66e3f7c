package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/uvtep/uvtep/dhcpd"
)

func (s *source) dhcp(p path, raw *rawDHCP) *DHCP {
	d := &DHCP{
		Domain:          s.domain(p.key("domain"), raw.Domain),
		Authoritative:   raw.Authoritative,
		SubnetSelection: raw.SubnetSelection,
		Serve:           oneOf(s, p.key("serve"), raw.Serve, string(raw.Serve), ServeSegment),
		DNS:             s.hosts4(p.key("dns"), raw.DNS),
	}
	s.missing(p.key("subnet"), "the addresses to serve are needed, such as 192.168.100.0/24")
	s.times(p, raw, d)
	if n, word, ok := s.integerOr(p.key("mtu"), raw.MTU, string(raw.MTU), 68, 65535); ok {
		d.MTU = DHCPMTU{Off: word, Value: uint16(n)}
	}
	d.Subnet, _ = s.subnet(p.key("subnet"), raw.Subnet)
	d.Gateway = s.gateway(p.key("gateway"), raw.Gateway, d.Subnet)
	explicit := s.ranges(p.key("ranges"), raw.Ranges, d.Subnet)
	d.Routes = s.routes(p.key("routes"), raw.Routes, d.Subnet)
	d.Relays = s.relays(p.key("relays"), raw.Relays, d.Subnet)
	d.Hosts = s.hosts(p.key("hosts"), raw.Hosts, d)
	s.server(p.key("server"), raw, d, explicit)
	s.relayRoom(p.key("relays"), raw.Relays, d)
	d.Options = s.options(p.key("options"), raw.Options, forServer)
	d.Classes = s.classes(p.key("classes"), raw.Classes)
	if d.Subnet.IsValid() {
		d.Ranges = usable(d.Subnet)
		if raw.Ranges != nil {
			d.Ranges = explicit
		}
		d.Ranges = without(without(d.Ranges, d.Server), d.Gateway)
		faulty := raw.Ranges != nil && len(explicit) < len(*raw.Ranges)
		if len(d.Ranges) == 0 && len(raw.Hosts) == 0 && !faulty {
			s.fault(p.key("ranges"), "no address is left to give, and there are no hosts")
		}
	}
	return d
}

// times resolves the lease and its timers: 0 < T1 < T2 < lease (RFC 2131,
// section 4.4.5).
func (s *source) times(p path, raw *rawDHCP, d *DHCP) {
	const longest = dhcpd.MaxLease
	before := len(s.faults)
	d.Lease = s.duration(p.key("lease"), raw.Lease, dhcpd.MinLease, longest, time.Second, DefaultLease)
	t1, t2 := defaultTimers(d.Lease)
	d.T1 = s.duration(p.key("t1"), raw.T1, time.Second, longest, time.Second, t1)
	d.T2 = s.duration(p.key("t2"), raw.T2, time.Second, longest, time.Second, t2)
	if len(s.faults) > before {
		return
	}
	if d.T2 >= d.Lease {
		s.fault(p.key("t2"), "%s is not less than the lease, %s", durationString(d.T2), durationString(d.Lease))
	}
	if d.T1 < d.T2 {
		return
	}
	at := p.key("t1") // the one that was written is the one at fault
	if !s.has(at) {
		s.fault(p.key("t2"), "%s is not more than t1, %s", durationString(d.T2), durationString(d.T1))
		return
	}
	s.fault(at, "%s is not less than t2, %s", durationString(d.T1), durationString(d.T2))
}

func defaultTimers(lease time.Duration) (t1, t2 time.Duration) {
	return (lease / 2).Truncate(time.Second), (lease - lease/8).Truncate(time.Second)
}

// subnet parses the prefix of guests, which leaves room for two of them.
func (s *source) subnet(p path, v prefixText) (netip.Prefix, bool) {
	n, ok := s.prefix4(p, v)
	if !ok {
		return n, false
	}
	a := n.Addr()
	switch {
	case n.Bits() < 8:
		s.fault(p, "%s is too large: /8 is the largest", n)
	case n.Bits() > 30:
		s.fault(p, "%s is too small: /30 is the smallest", n)
	case a.IsMulticast() || a.IsLoopback() || a.As4()[0] == 0 || a.As4()[0] >= 224:
		s.fault(p, "%s is not for machines", n)
	default:
		return n, true
	}
	return netip.Prefix{}, false
}

// inSubnet tells whether a can be a machine of the subnet; it is true where the
// subnet itself is at fault.
func (s *source) inSubnet(p path, a netip.Addr, subnet netip.Prefix) bool {
	switch {
	case !subnet.IsValid():
		return true
	case !subnet.Contains(a):
		s.fault(p, "%s is outside %s", a, subnet)
	case a == subnet.Addr():
		s.fault(p, "%s is the subnet's own address", a)
	case a == broadcast(subnet):
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

func (s *source) ranges(p path, raw *[]rangeText, subnet netip.Prefix) []Range {
	if raw == nil {
		return nil
	}
	var out []Range
	var at []path
	for i, v := range *raw {
		here := p.index(i)
		r, ok := s.addrRange(here, v, subnet)
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

func (s *source) addrRange(p path, v rangeText, subnet netip.Prefix) (Range, bool) {
	if !s.has(p) {
		return Range{}, false
	}
	from, to, pair := strings.Cut(string(v), "-")
	if !pair {
		to = from
	}
	first, err1 := netip.ParseAddr(from)
	last, err2 := netip.ParseAddr(to)
	if err1 != nil || err2 != nil || !first.Is4() || !last.Is4() {
		s.fault(p, "%q is not a range such as 192.168.100.10-192.168.100.250", string(v))
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

func (s *source) relays(p path, raw []rawRelay, main netip.Prefix) []Relay {
	var out []Relay
	subnets, at := []netip.Prefix{main}, []path{p.parent().key("subnet")}
	for i := range raw {
		here := p.index(i)
		s.missing(here.key("subnet"), "the addresses behind the relay are needed")
		r := Relay{DNS: s.hosts4(here.key("dns"), raw[i].DNS)}
		subnet, ok := s.subnet(here.key("subnet"), raw[i].Subnet)
		r.Gateway = s.gateway(here.key("gateway"), raw[i].Gateway, subnet)
		explicit := s.ranges(here.key("ranges"), raw[i].Ranges, subnet)
		r.Options = s.options(here.key("options"), raw[i].Options, forRelay)
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

func (s *source) hosts(p path, raw []rawHost, d *DHCP) []Host {
	var out []Host
	macs, ids, ips := registry[string]{}, registry[string]{}, registry[netip.Addr]{}
	for i := range raw {
		at := p.index(i)
		h := Host{Options: s.options(at.key("options"), raw[i].Options, forClient)}
		_, byMAC := s.places[at.key("mac")]
		_, byID := s.places[at.key("client_id")]
		switch {
		case byMAC && byID:
			s.fault(at.key("client_id"), "a reservation is for a mac or a client_id, not both: %s", s.other(at.key("mac")))
		case !byMAC && !byID:
			s.fault(at, "says not whose it is: mac or client_id is needed")
		}
		var ok bool
		if h.MAC, ok = s.mac(at.key("mac"), raw[i].MAC); ok {
			if first, taken := macs.claim(string(h.MAC), at.key("mac")); taken {
				s.fault(at.key("mac"), "%s has a reservation already, %s", h.MAC, s.other(first))
			}
		}
		if h.ClientID, ok = s.hex(at.key("client_id"), raw[i].ClientID); ok {
			if n := len(h.ClientID); n < 2 || n > 255 {
				s.fault(at.key("client_id"), "a client id has 2..255 bytes, its type first, not %d", n)
			} else if first, taken := ids.claim(string(h.ClientID), at.key("client_id")); taken {
				s.fault(at.key("client_id"), "%x has a reservation already, %s", h.ClientID, s.other(first))
			}
		}
		h.Hostname = s.domain(at.key("hostname"), raw[i].Hostname)
		s.missing(at.key("ip"), "the address that is kept is needed")
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

// server resolves the server's own address, explicit or not.
func (s *source) server(p path, raw *rawDHCP, d *DHCP, explicit []Range) {
	if _, there := s.places[p]; !there {
		if d.Subnet.IsValid() {
			if d.Server = defaultServer(d, explicit); !d.Server.IsValid() {
				s.fault(p, "no address of %s is free for the server: name one, which the ranges then leave out", d.Subnet)
			}
		}
		return
	}
	a, ok := s.ipv4(p, raw.Server)
	if !ok || !s.inSubnet(p, a, d.Subnet) {
		return
	}
	if a == d.Gateway {
		s.fault(p, "%s is the gateway's address, %s: the server answers ARP for its own", a, s.other(p.parent().key("gateway")))
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

// defaultServer is the first address of the subnet that the configuration gives
// to nobody else; the zero Addr if there is none.
func defaultServer(d *DHCP, ranges []Range) netip.Addr {
	taken := map[netip.Addr]bool{d.Gateway: true}
	for _, a := range d.DNS {
		taken[a] = true
	}
	for _, r := range d.Routes {
		taken[r.Via] = true
	}
	for _, h := range d.Hosts {
		taken[h.IP] = true
	}
	all := usable(d.Subnet)[0]
next:
	for a := all.First; a.IsValid() && all.Contains(a); a = a.Next() {
		for _, r := range ranges {
			if r.Contains(a) {
				a = r.Last
				continue next
			}
		}
		if !taken[a] {
			return a
		}
	}
	return netip.Addr{}
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
				data, ok := s.hex(here, hexText(digits))
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
		if len(r.Options) == 0 {
			s.fault(at.key("options"), "are missing: the class would change nothing")
		}
		out = append(out, c)
	}
	if len(raw) > dhcpd.MaxClasses {
		s.fault(p, "%d classes are more than %d", len(raw), dhcpd.MaxClasses)
	}
	return out
}
