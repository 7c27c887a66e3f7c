package config

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

func (s *source) segment(p path, raw *rawSegment, u *Underlay) Segment {
	s.missing(p.key("vni"), "the segment's VXLAN network identifier is needed")
	seg := Segment{
		VNI:      uint32(s.integer(p.key("vni"), raw.VNI, 1, MaxVNI, 0)),
		MTU:      int(s.integer(p.key("mtu"), raw.MTU, 68, 65535, 0)),
		Learning: s.boolean(raw.Learning, true),
		Ageing:   s.duration(p.key("ageing"), raw.Ageing, time.Second, 8760*time.Hour, time.Second, DefaultAgeing),
		MaxMACs:  int(s.integer(p.key("max_macs"), raw.MaxMACs, 1, 1<<24, DefaultMaxMACs)),
		Moves: MACMoves{
			N:      s.macMoves(p.key("mac_moves"), raw.MACMoves),
			Within: s.duration(p.key("mac_moves_within"), raw.MACMovesWithin, time.Second, 24*time.Hour, time.Second, DefaultMovesWithin),
		},
	}
	seg.Name = fmt.Sprintf("vni%d", seg.VNI)
	if s.has(p.key("name")) {
		seg.Name = string(raw.Name)
		if !nameForm.MatchString(seg.Name) {
			s.fault(p.key("name"), "%q is not a name: up to 63 letters, digits, dots, dashes and underscores", seg.Name)
		}
	}
	seg.Peers = s.peers(p.key("peers"), raw.Peers, u)
	if a, ok := s.addr(p.key("group"), string(raw.Group)); ok {
		s.group(p.key("group"), a, u)
		seg.Group = a
	}
	if seg.Device, _ = s.ifname(p.key("device"), raw.Device); seg.Device != "" && !s.has(p.key("group")) {
		s.fault(p.key("device"), "is the interface of a multicast group, and the segment has none: group is needed too")
	}
	for i := range raw.Ports {
		at := p.key("ports").index(i)
		port := s.port(at, &raw.Ports[i])
		s.notUnderlay(at, port, u)
		s.needGBP(at, u)
		seg.Ports = append(seg.Ports, port)
	}
	ports := slices.Clone(s.shared[seg.VNI])
	for i := range seg.Ports {
		ports = append(ports, seg.Ports[i].Name())
	}
	for i := range raw.FDB {
		seg.FDB = append(seg.FDB, s.static(p.key("fdb").index(i), &raw.FDB[i], ports, u))
	}
	for i, v := range raw.Suppress {
		at := p.key("suppress").index(i)
		kind := oneOf(s, at, v, string(v), Suppress(""))
		if slices.Contains(seg.Suppress, kind) {
			s.fault(at, "%s is listed twice", kind)
		} else if kind != "" {
			seg.Suppress = append(seg.Suppress, kind)
		}
	}
	s.withinSegment(p, &seg)
	if raw.DHCP != nil {
		seg.DHCP = s.dhcp(p.key("dhcp"), raw.DHCP, ports)
	}
	if raw.DHCP6 != nil {
		seg.DHCP6 = s.dhcp6(p.key("dhcp6"), raw.DHCP6, ports)
	}
	if raw.RA != nil && !raw.RA.Off {
		seg.RA = s.ra(p.key("ra"), raw.RA, seg.DHCP6, seg.MTU)
	}
	s.guards(p, raw, &seg)
	for _, key := range []path{p.key("dhcp6"), p.key("ra")} {
		if s.has(key) && s.has(p.key("mtu")) && seg.MTU < minMTU6 {
			s.fault(p.key("mtu"), "%d is less than IPv6 needs, which %s is for: %d", seg.MTU, s.other(key), minMTU6)
		}
	}
	return seg
}

// macMoves is a number of which zero has a meaning of its own.
func (s *source) macMoves(p path, raw *int64) int {
	if raw == nil {
		return DefaultMACMoves
	}
	return int(s.integer(p, *raw, 0, 1000, DefaultMACMoves))
}

// minMTU6 is the least that IPv6 runs over (RFC 8200 section 5), bytes.
const minMTU6 = 1280

// remote is the address of another VTEP.
func (s *source) remote(p path, v addrText, u *Underlay) (netip.Addr, bool) {
	a, ok := s.addr(p, string(v))
	if !ok {
		return a, false
	}
	switch {
	case a.IsMulticast():
		s.fault(p, "%s is a multicast address: it belongs in group", a)
	case a.IsUnspecified() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		s.fault(p, "%s is no VTEP's address", a)
	case a == u.Local:
		s.fault(p, "%s is this VTEP's own address, %s", a, s.other("underlay.local"))
	default:
		return a, s.sameFamily(p, a, u)
	}
	return a, false
}

func (s *source) sameFamily(p path, a netip.Addr, u *Underlay) bool {
	if u.Local.IsValid() && a.Is4() != u.Local.Is4() {
		s.fault(p, "%s is %s, but %s is %s", a, family(a.Is6()), s.other("underlay.local"), family(u.Local.Is6()))
		return false
	}
	return true
}

func (s *source) peers(p path, list []addrText, u *Underlay) []netip.Addr {
	var out []netip.Addr
	first := make(map[netip.Addr]path, len(list))
	for i, v := range list {
		at := p.index(i)
		a, ok := s.remote(at, v, u)
		if !ok {
			continue
		}
		if other, twice := first[a]; twice {
			s.fault(at, "%s is listed twice, also as %s", a, s.other(other))
			continue
		}
		first[a] = at
		out = append(out, a)
	}
	return out
}

func (s *source) group(p path, a netip.Addr, u *Underlay) {
	if !a.IsMulticast() {
		s.fault(p, "%s is not a multicast address: a single VTEP belongs in peers", a)
		return
	}
	if !s.sameFamily(p, a, u) {
		return
	}
	if u.Accept != AcceptAny {
		s.fault(p, "a group needs underlay.accept: any, as its senders are not known beforehand; %s is %s",
			s.other("underlay.accept"), u.Accept)
	}
}

func (s *source) port(p path, raw *rawPort) Port {
	port := Port{
		NetNS:    s.nonEmpty(p.key("netns"), raw.NetNS, ""),
		Isolated: raw.Isolated,
		MaxMACs:  int(s.integer(p.key("max_macs"), raw.MaxMACs, 0, 1<<24, 0)),

		MaxLeases:    int(s.integer(p.key("max_leases"), raw.MaxLeases, 0, 1<<24, 0)),
		DHCPRate:     int(s.integer(p.key("dhcp_rate"), raw.DHCPRate, 0, 1_000_000, 0)),
		DHCPCheckMAC: raw.DHCPCheckMAC,
	}
	port.Storm = s.storm(p.key("storm"), raw.Storm)
	port.GBP = uint16(s.integer(p.key("gbp"), raw.GBP, 0, 65535, 0))
	port.GBPAllow = s.groups(p.key("gbp_allow"), raw.GBPAllow)
	s.portDevice(p, raw, &port)
	s.guard(p, raw, &port)
	port.Rename, _ = s.ifname(p.key("rename"), raw.Rename)
	port.MAC, _ = s.mac(p.key("mac"), raw.MAC)
	port.Bridge, _ = s.ifname(p.key("bridge"), raw.Bridge)
	if n := port.NetNS; n == "." || n == ".." || strings.Contains(n, "/") && !strings.HasPrefix(n, "/") {
		s.fault(p.key("netns"), "%q is neither the name of a namespace nor an absolute path", n)
	}
	if port.TAP != "" && port.Bridge == finalName(port) {
		s.fault(p.key("bridge"), "%s is the port's own name", port.Bridge)
	}
	return port
}

// maxStorm is more than any port floods.
const maxStorm = 100_000_000

// storm are the limits of what a port floods.
func (s *source) storm(p path, raw rawStorm) Storm {
	limit := func(p path, n int64) int { return int(s.integer(p, n, 0, maxStorm, 0)) }
	if _, one := raw.short(); one {
		n := limit(p, raw.Broadcast)
		return Storm{n, n, n}
	}
	return Storm{
		Broadcast: limit(p.key("broadcast"), raw.Broadcast),
		Multicast: limit(p.key("multicast"), raw.Multicast),
		Unknown:   limit(p.key("unknown"), raw.Unknown),
	}
}

// groups are group policy ids, of which none may be twice.
func (s *source) groups(p path, list []int64) []uint16 {
	if s.has(p) && len(list) == 0 {
		s.fault(p, "is empty: list the groups whose frames the port gets, or leave the key out")
	}
	var out []uint16
	for i, v := range list {
		id := s.integer(p.index(i), v, 0, 65535, -1)
		if id >= 0 && slices.Contains(out, uint16(id)) {
			s.fault(p.index(i), "%d is listed twice", id)
		} else if id >= 0 {
			out = append(out, uint16(id))
		}
	}
	slices.Sort(out)
	return out
}

// needGBP wants the tags that a port has to do with to be spoken.
func (s *source) needGBP(p path, u *Underlay) {
	if u.GBP {
		return
	}
	for _, key := range []path{p.key("gbp"), p.key("gbp_allow")} {
		if s.has(key) {
			s.fault(key, "group policy needs underlay.gbp: true; %s is false", s.other("underlay.gbp"))
		}
	}
}

// finalName is what the kernel side of a port is called in the end.
func finalName(p Port) string {
	if p.Rename != "" {
		return p.Rename
	}
	return cmp.Or(p.TAP, p.NIC)
}

func (s *source) static(p path, raw *rawStatic, ports []string, u *Underlay) StaticEntry {
	var e StaticEntry
	s.missing(p.key("mac"), "a static entry is for a hardware address")
	e.MAC, _ = s.mac(p.key("mac"), raw.MAC)
	_, dst := s.places[p.key("dst")]
	_, port := s.places[p.key("port")]
	switch {
	case dst && port:
		s.fault(p.key("port"), "an entry is behind a VTEP or a port, not both: %s", s.other(p.key("dst")))
	case dst:
		e.Dst, _ = s.remote(p.key("dst"), raw.Dst, u)
	case port:
		e.Port = s.portName(p.key("port"), raw.Port, ports)
	default:
		s.fault(p, "says not where the address is: dst or port is needed")
	}
	for i, v := range raw.IPs {
		at := p.key("ips").index(i)
		a, ok := s.addr(at, string(v))
		if ok && (a.IsUnspecified() || a.IsMulticast() || a.IsLoopback()) {
			s.fault(at, "%s is no station's address", a)
		} else if ok {
			e.IPs = append(e.IPs, a)
		}
	}
	return e
}
