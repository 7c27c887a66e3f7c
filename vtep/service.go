package vtep

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"github.com/uvtep/uvtep/dhcpd"
	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/frame"
)

// UDP ports of DHCPv4 (RFC 2131 section 4.1).
const dhcpServerPort = 67

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

// RAConfig asks for router advertisements in a segment (RFC 4861 section 6.2).
type RAConfig struct {
	Managed, Other bool       // the M and the O flag
	Prefixes       []RAPrefix // option 3
	DNS            []netip.Addr
	Search         []string
	MTU            int           // option 5; 0 = the segment's, negative = not sent
	Lifetime       time.Duration // as a default router; 0 = not one
	Interval       time.Duration // longest time between two; 0 = 10 min
}

// RAPrefix is a prefix that is announced.
type RAPrefix struct {
	Prefix             netip.Prefix
	OnLink, Autonomous bool          // the L and the A flag
	Valid, Preferred   time.Duration // 0 = 30 days and 7 days
}

// service is a segment's own station: the server's address, which answers ARP,
// ping and DHCP. It sees frames before they are looked up; those with a VLAN tag
// are the guests' own affair.
type service struct {
	ip     [4]byte
	mac    fdb.MAC
	local  bool
	server *dhcpd.Server
}

// newService starts the DHCP service of a segment; endService ends it.
func (s *Segment) newService(cfg *DHCPConfig) (*service, error) {
	if s.v.cfg.DHCP == nil {
		return nil, fmt.Errorf("segment %v: %w: it asks for DHCP, and the VTEP has no DHCP service", s.vni, ErrInvalid)
	}
	if err := checkDHCP(s.vni, cfg); err != nil {
		return nil, err
	}
	srv, err := s.v.cfg.DHCP.Add(uint32(s.vni), cfg.Server)
	if err != nil {
		return nil, err // which names the segment
	}
	sv := &service{ip: cfg.Server.Server.As4(), mac: serviceMAC(s.v.cfg.Local, uint32(s.vni)), local: cfg.ServeLocal, server: srv}
	s.table.SetSelf(sv.mac)
	return sv, nil
}

// checkDHCP says what of a segment's DHCP service cannot be.
func checkDHCP(vni encap.VNI, cfg *DHCPConfig) error {
	if !cfg.Server.Server.Is4() {
		return fmt.Errorf("segment %v: %w: the DHCP server address %v is not IPv4", vni, ErrInvalid, cfg.Server.Server)
	}
	return nil
}

// endService stops a segment's DHCP service; no view has it any more. Its leases
// stay in the store.
func (s *Segment) endService(sv *service) error {
	s.v.settle()
	s.table.ClearSelf(sv.mac)
	return s.v.cfg.DHCP.Remove(uint32(s.vni))
}

// serviceMAC is a locally administered address that differs between the VTEPs of
// a segment and between the segments of a VTEP.
func serviceMAC(local netip.Addr, vni uint32) fdb.MAC {
	h := uint64(14695981039346656037) // FNV-1a
	for _, b := range append(local.AsSlice(), byte(vni>>16), byte(vni>>8), byte(vni)) {
		h = (h ^ uint64(b)) * 1099511628211
	}
	return fdb.MAC(0x02)<<40 | fdb.MAC(h>>24&0xffffffffff)
}

// answer lets the segment's service see the frames that are not decided yet.
func (w *worker) answer(s *Segment, vw *view, frames []frame.Frame) {
	sv := vw.service
	if sv == nil {
		return
	}
	for i := range frames {
		f := &frames[i]
		if f.Verdict.Action != frame.Undecided || sv.local && fdb.Dst(f.Ingress).IsRemote() {
			continue
		}
		dst := fdb.MACOf(f.Bytes())
		switch {
		case dst != sv.mac && !dst.IsGroup() || f.Info.Tagged:
		case f.Info.EtherType == frame.TypeARP:
			sv.answerARP(vw, f)
		case f.Info.EtherType != frame.TypeIPv4 || f.Info.L4 == 0 || f.Info.Fragment:
		case f.Info.Proto == frame.ProtoUDP:
			if _, port := f.UDPPorts(); port == dhcpServerPort {
				w.handOver(s, vw, sv, f)
			}
		case f.Info.Proto == frame.ProtoICMP && dst == sv.mac:
			sv.answerEcho(vw, f)
		}
	}
}

// answerARP turns a request for the service's address into its answer, and
// sends it back the way it came.
func (sv *service) answerARP(vw *view, f *frame.Frame) {
	p, ok := f.ARP()
	if !ok || p.Op() != frame.ARPRequest || [4]byte(p.TargetIP()) != sv.ip {
		return
	}
	p.SetOp(frame.ARPReply)
	copy(p.TargetMAC(), p.SenderMAC())
	copy(p.TargetIP(), p.SenderIP())
	sv.mac.Put(p.SenderMAC())
	copy(p.SenderIP(), sv.ip[:])
	sv.reflect(vw, f)
}

// answerEcho turns an ICMP echo request (RFC 792) into its reply.
func (sv *service) answerEcho(vw *view, f *frame.Frame) {
	b := f.Bytes()
	ip, icmp := b[f.Info.L3:], b[f.Info.L4:]
	if icmp[0] != 8 || icmp[1] != 0 || [4]byte(ip[16:20]) != sv.ip {
		return
	}
	icmp[0] = 0
	binary.BigEndian.PutUint16(icmp[2:], frame.Update(binary.BigEndian.Uint16(icmp[2:]), 8<<8, 0))
	copy(ip[16:20], ip[12:16])
	copy(ip[12:16], sv.ip[:])
	binary.BigEndian.PutUint16(ip[10:], frame.Update(binary.BigEndian.Uint16(ip[10:]), uint16(ip[8])<<8|uint16(ip[9]), 64<<8|uint16(ip[9])))
	ip[8] = 64
	sv.reflect(vw, f)
}

// reflect sends a frame back to where it came from.
func (sv *service) reflect(vw *view, f *frame.Frame) {
	b := f.Bytes()
	copy(b, b[6:12])
	sv.mac.Put(b[6:])
	in := fdb.Dst(f.Ingress)
	f.Ingress = uint32(fdb.Self)
	vw.direct(f, in)
}
