package config

import (
	"net/netip"
	"strings"
)

// guard is what a port says of who may send from it.
func (s *source) guard(p path, raw *rawPort, port *Port) {
	port.Bind = oneOf(s, p.key("bind"), raw.Bind, string(raw.Bind), BindNone)
	port.Trusted = raw.Trusted
	for i := range raw.Addresses {
		if a, ok := s.address(p.key("addresses").index(i), &raw.Addresses[i]); ok {
			port.Addresses = append(port.Addresses, a)
		}
	}
	first := registry[string]{}
	for i := range port.Addresses {
		a, at := port.Addresses[i], p.key("addresses").index(i)
		if other, twice := first.claim(a.MAC.String()+" "+a.IP.String(), at); twice {
			s.fault(at, "%s and %s are listed twice, also as %s", a.MAC, short(a.IP), s.other(other))
		}
	}
	switch {
	case port.Bind == BindNone && s.has(p.key("addresses")):
		s.fault(p.key("addresses"), "say nothing to a port that is not bound: it takes bind: lease or static")
	case port.Bind == BindStatic && len(raw.Addresses) == 0:
		s.fault(p.key("bind"), "static without addresses: nobody could send")
	}
}

// address is a station and an address, or prefix, of its own.
func (s *source) address(p path, raw *rawAddress) (a Address, ok bool) {
	s.missing(p.key("mac"), "an address is bound to a hardware address")
	s.missing(p.key("ip"), "a hardware address is bound to an IP address or a prefix")
	mac, hasMAC := s.mac(p.key("mac"), raw.MAC)
	ip, hasIP := s.addressOrPrefix(p.key("ip"), string(raw.IP))
	return Address{mac, ip}, hasMAC && hasIP
}

// shortest is the least length of a prefix that a station may have.
const shortest = 8

func (s *source) addressOrPrefix(p path, v string) (netip.Prefix, bool) {
	if !strings.Contains(v, "/") {
		a, ok := s.addr(p, v)
		if !ok || !s.isHost(p, a) {
			return netip.Prefix{}, false
		}
		return netip.PrefixFrom(a, a.BitLen()), true
	}
	n, err := netip.ParsePrefix(v)
	if err != nil {
		s.fault(p, "%q is neither an IP address nor a prefix", v)
		return netip.Prefix{}, false
	}
	if n, ok := s.prefix(p, v, family(n.Addr().Is6())); !ok || !s.isHost(p, n.Addr()) {
		return netip.Prefix{}, false
	}
	if n.Bits() < shortest {
		s.fault(p, "%s is no station's: at least %d bits are needed", n, shortest)
		return netip.Prefix{}, false
	}
	return n, true
}

// short is a prefix, or the address that it is.
func short(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// guards checks what the guards of a segment's ports have to do with each other
// and with the rest of the segment.
func (s *source) guards(p path, raw *rawSegment, seg *Segment) {
	first := registry[string]{}
	for i := range raw.ProtectedMACs {
		at := p.key("protected_macs").index(i)
		m, ok := s.mac(at, raw.ProtectedMACs[i])
		if !ok {
			continue
		}
		if other, twice := first.claim(string(m), at); twice {
			s.fault(at, "%s is listed twice, also as %s", m, s.other(other))
			continue
		}
		seg.ProtectedMACs = append(seg.ProtectedMACs, m)
	}
	for i := range seg.Ports {
		port, at := &seg.Ports[i], p.key("ports").index(i)
		if port.Bind == BindLease && len(port.Addresses) == 0 && !seg.leasesTo(i) {
			s.fault(at.key("bind"), "lease, but nobody could lease anything to it: the segment has no dhcp or dhcp6, no peers or group, and no other port that is trusted")
		}
		if port.trusted(seg) {
			continue
		}
		for j, a := range port.Addresses {
			if other, protected := first[string(a.MAC)]; protected {
				s.fault(at.key("addresses").index(j).key("mac"), "%s is protected, %s, and the port is not trusted", a.MAC, s.other(other))
			}
		}
	}
}

// trusted says whether a port is trusted where it does not say so itself.
func (p *Port) trusted(seg *Segment) bool {
	if p.Trusted != nil {
		return *p.Trusted
	}
	return p.Bind == BindNone && seg.DHCP == nil && seg.DHCP6 == nil && seg.RA == nil && len(seg.ProtectedMACs) == 0
}

// leasesTo says whether there is anybody from whom a station at the port could
// have a lease.
func (seg *Segment) leasesTo(port int) bool {
	if seg.DHCP != nil || seg.DHCP6 != nil || len(seg.Peers) > 0 || seg.Group.IsValid() {
		return true
	}
	for i := range seg.Ports {
		if i != port && seg.Ports[i].trusted(seg) {
			return true
		}
	}
	return false
}
