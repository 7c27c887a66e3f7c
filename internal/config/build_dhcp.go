package config

import (
	"net/netip"
	"time"

	"github.com/uvtep/uvtep/dhcpd"
)

func (s *source) dhcp(p path, raw *rawDHCP, ports []string) *DHCP {
	d := &DHCP{
		Domain:          s.domain(p.key("domain"), raw.Domain),
		Authoritative:   raw.Authoritative,
		SubnetSelection: raw.SubnetSelection,
		RapidCommit:     raw.RapidCommit,
		BOOTP:           raw.BOOTP,
		Probe:           s.probe(p.key("probe"), raw.Probe),
		BootFile:        s.bootFile(p.key("boot_file"), raw.BootFile),
		Serve:           oneOf(s, p.key("serve"), raw.Serve, string(raw.Serve), ServeSegment),
		DNS:             hosts(s, p.key("dns"), raw.DNS, v4),
	}
	s.missing(p.key("subnet"), "the addresses to serve are needed, such as 192.168.100.0/24")
	d.NextServer, _ = s.host4(p.key("next_server"), raw.NextServer)
	d.OfferHold, d.DeclineHold = s.holds(p, raw.OfferHold, raw.DeclineHold)
	of := s.times(p, raw.Lease, raw.T1, raw.T2, defaultTimers(DefaultLease))
	d.Lease, d.T1, d.T2 = of.lease, of.t1, of.t2
	if n, word, ok := s.integerOr(p.key("mtu"), raw.MTU, string(raw.MTU), 68, 65535); ok {
		d.MTU = DHCPMTU{Off: word, Value: uint16(n)}
	}
	d.Subnet, _ = s.subnet(p.key("subnet"), raw.Subnet)
	d.Gateway = s.gateway(p.key("gateway"), raw.Gateway, d.Subnet)
	explicit := ranges(s, p.key("ranges"), raw.Ranges, d.Subnet, v4)
	d.Routes = s.routes(p.key("routes"), raw.Routes, d.Subnet)
	d.Relays = s.relays(p.key("relays"), raw.Relays, d)
	d.Hosts = s.hosts(p.key("hosts"), raw.Hosts, d, ports)
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

// timers are how long a lease lasts, and when its client renews and rebinds.
type timers struct{ lease, t1, t2 time.Duration }

// times resolves a lease and its timers: 0 < T1 < T2 < lease (RFC 2131, section
// 4.4.5). What is not there is as in byDefault or, where the lease is, follows
// from that.
func (s *source) times(p path, lease, t1, t2 durationText, byDefault timers) timers {
	const longest = dhcpd.MaxLease
	before, of := len(s.faults), byDefault
	if s.has(p.key("lease")) {
		of = defaultTimers(s.duration(p.key("lease"), lease, dhcpd.MinLease, longest, time.Second, byDefault.lease))
	}
	of.t1 = s.duration(p.key("t1"), t1, time.Second, longest, time.Second, of.t1)
	of.t2 = s.duration(p.key("t2"), t2, time.Second, longest, time.Second, of.t2)
	if len(s.faults) > before {
		return of
	}
	if of.t2 >= of.lease {
		s.fault(p.key("t2"), "%s is not less than the lease, %s", durationString(of.t2), durationString(of.lease))
	}
	if of.t1 < of.t2 {
		return of
	}
	at := p.key("t1") // the one that was written is the one at fault
	if !s.has(at) {
		s.fault(p.key("t2"), "%s is not more than t1, %s", durationString(of.t2), durationString(of.t1))
		return of
	}
	s.fault(at, "%s is not less than t2, %s", durationString(of.t1), durationString(of.t2))
	return of
}

func defaultTimers(lease time.Duration) timers {
	return timers{lease, (lease / 2).Truncate(time.Second), (lease - lease/8).Truncate(time.Second)}
}

// holds resolves how long an offer is held and a declined address left alone.
func (s *source) holds(p path, offer, decline durationText) (time.Duration, time.Duration) {
	return s.duration(p.key("offer_hold"), offer, time.Second, time.Hour, time.Second, dhcpd.DefaultOfferHold),
		s.duration(p.key("decline_hold"), decline, time.Second, dhcpd.MaxLease, time.Second, dhcpd.DefaultDeclineHold)
}

// probe resolves how long a probe is given; 0 is no probing. More than a few
// seconds outlast the patience of clients.
func (s *source) probe(p path, v probeText) time.Duration {
	if v == off && s.has(p) {
		return 0
	}
	if s.has(p) && !durationForm.MatchString(string(v)) {
		s.fault(p, "%q is neither a duration such as 200ms nor off", string(v))
	}
	return s.duration(p, durationText(v), 10*time.Millisecond, 5*time.Second, time.Millisecond, DefaultProbe)
}

// bootFile is a name that goes into the file field, where it fits (RFC 2131,
// section 2), and into option 67.
func (s *source) bootFile(p path, v string) string {
	v = s.nonEmpty(p, v, "")
	if len(v) > maxOption {
		s.fault(p, "has %d bytes; an option has at most %d", len(v), maxOption)
	}
	return v
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
	return firstFree(usable(d.Subnet)[0], ranges, taken)
}

// firstFree is the first address within all that is in none of the ranges and not
// taken; the zero Addr if there is none.
func firstFree(all Range, ranges []Range, taken map[netip.Addr]bool) netip.Addr {
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
