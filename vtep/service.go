package vtep

import (
	"net/netip"

	"github.com/uvtep/uvtep/dhcpd"
	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/frame"
)

// DHCPConfig asks for a DHCPv4 service in a segment. Its server identifier
// answers ARP and ping there.
type DHCPConfig struct {
	Server     dhcpd.SegmentConfig
	ServeLocal bool // only clients behind this VTEP's own ports are served
}

// DHCP6Config asks for a DHCPv6 service in a segment. Its address answers
// neighbour solicitations and ping there.
type DHCP6Config struct {
	Server     dhcpd.SegmentConfig6
	ServeLocal bool // only clients behind this VTEP's own ports are served
}

// service is a segment's own station: one MAC, and what answers there. It sees
// frames before they are looked up; those with a VLAN tag are the guests' own
// affair. It never changes; a change makes another one.
type service struct {
	mac  fdb.MAC
	link netip.Addr // made of mac; answers where there is any IPv6
	v4   *service4  // nil: no DHCPv4
	v6   *service6  // nil: no DHCPv6

	ra     *advertiser // nil: no router advertisements
	router bool        // as which it advertises itself
}

// newService is the station of a segment, with nothing in it yet.
func newService(local netip.Addr, vni encap.VNI) *service {
	mac := serviceMAC(local, uint32(vni))
	return &service{mac: mac, link: linkLocal(mac)}
}

// served reports whether a segment has a station of its own.
func (c SegmentConfig) served() bool { return c.DHCP != nil || c.DHCP6 != nil || c.RA != nil }

// v4only reports whether there is no IPv6.
func (sv *service) v4only() bool { return sv.v6 == nil && sv.ra == nil }

// serviceMAC is a locally administered address that differs between the VTEPs of
// a segment and between the segments of a VTEP.
func serviceMAC(local netip.Addr, vni uint32) fdb.MAC {
	h := uint64(14695981039346656037) // FNV-1a
	for _, b := range append(local.AsSlice(), byte(vni>>16), byte(vni>>8), byte(vni)) {
		h = (h ^ uint64(b)) * 1099511628211
	}
	return fdb.MAC(0x02)<<40 | fdb.MAC(h>>24&0xffffffffff)
}

// linkLocal is the link-local address of a station (RFC 4291 appendix A).
func linkLocal(m fdb.MAC) netip.Addr {
	b := m.Bytes()
	return netip.AddrFrom16([16]byte{0xfe, 0x80, 8: b[0] ^ 2, b[1], b[2], 0xff, 0xfe, b[3], b[4], b[5]})
}

// answer lets the segment's service see the frames that are not decided yet.
func (w *worker) answer(s *Segment, vw *view, frames []frame.Frame) {
	sv := vw.service
	if sv == nil {
		return
	}
	for i := range frames {
		f := &frames[i]
		if f.Verdict.Action != frame.Undecided {
			continue
		}
		dst := fdb.MACOf(f.Bytes())
		if dst != sv.mac && !dst.IsGroup() || f.Info.Tagged {
			continue
		}
		switch f.Info.EtherType {
		case frame.TypeARP:
			w.takeARP(s, vw, f)
		case frame.TypeIPv4:
			w.take4(s, vw, f)
		case frame.TypeIPv6:
			w.take6(s, vw, f)
		}
	}
}

// away reports whether a frame came from a guest behind a remote VTEP.
func away(f *frame.Frame) bool { return fdb.Dst(f.Ingress).IsRemote() }

// reflect sends a frame back to where it came from, and to the MAC there, from a
// station that it was for.
func (vw *view) reflect(f *frame.Frame, from fdb.MAC) {
	b := f.Bytes()
	copy(b, b[6:12])
	from.Put(b[6:])
	in := fdb.Dst(f.Ingress)
	f.Ingress, f.Outer.Policy = uint32(fdb.Self), 0
	vw.direct(f, in)
}
