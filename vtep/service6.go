package vtep

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/insomniacslk/dhcp/dhcpv6"

	"github.com/uvtep/uvtep/dhcpd"
	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/frame"
)

const dhcp6ServerPort = 547 // of servers and relays (RFC 8415 section 7.2)

var (
	allDHCPServers = netip.MustParseAddr("ff05::1:3") // RFC 8415 section 7.1
	allDHCPRelays  = netip.MustParseAddr("ff02::1:2") // and servers
	allNodes       = netip.MustParseAddr("ff02::1")   // RFC 4291 section 2.7.1
	allRouters     = netip.MustParseAddr("ff02::2")

	errNoDHCPService = fmt.Errorf("%w: it asks for DHCP, and the VTEP has no DHCP service", ErrInvalid)
)

const allNodesMAC = fdb.MAC(0x333300000001) // RFC 2464 section 7

// service6 is the DHCPv6 part of a service.
type service6 struct {
	mac    fdb.MAC
	link   netip.Addr
	ip     netip.Addr
	duid   []byte
	local  bool // only guests behind the VTEP's own ports are answered
	server *dhcpd.Server6
}

// start6 starts the DHCPv6 service of a segment; stop6 ends it.
func (s *Segment) start6(sv *service, cfg *DHCP6Config) (*service6, error) {
	if s.v.cfg.DHCP == nil {
		return nil, fmt.Errorf("segment %v: %w", s.vni, errNoDHCPService)
	}
	if err := checkDHCP6(s.vni, cfg); err != nil {
		return nil, err
	}
	srv, err := s.v.cfg.DHCP.Add6(uint32(s.vni), cfg.Server)
	if err != nil {
		return nil, err // which names the segment
	}
	return (&service6{mac: sv.mac, link: sv.link, server: srv}).with(cfg), nil
}

// with is the service with another configuration in force.
func (v6 *service6) with(cfg *DHCP6Config) *service6 {
	now := *v6
	now.ip, now.duid, now.local = cfg.Server.Server, cfg.Server.ServerDUID(), cfg.ServeLocal
	return &now
}

// stop6 stops it. No view has it any more; its leases stay in the store.
func (s *Segment) stop6() error { return s.v.cfg.DHCP.Remove6(uint32(s.vni)) }

// checkDHCP6 says what of a segment's DHCPv6 service cannot be.
func checkDHCP6(vni encap.VNI, cfg *DHCP6Config) error {
	if a := cfg.Server.Server; !a.Is6() || a.Is4In6() || a.IsMulticast() || a.IsUnspecified() || a.Zone() != "" {
		return fmt.Errorf("segment %v: %w: the DHCPv6 server address %v is not a unicast IPv6 address", vni, ErrInvalid, a)
	}
	return nil
}

// has reports whether an IPv6 address is the service's, for a guest that is away
// or not. The link-local one differs between VTEPs, so that everybody may have
// it answered; the server's may be the same at each.
func (sv *service) has(ip []byte, away bool) bool {
	a := netip.AddrFrom16([16]byte(ip))
	return a == sv.link || sv.v6 != nil && a == sv.v6.ip && !(sv.v6.local && away)
}

// owns reports whether an address is the service's, in the segment at all.
func (sv *service) owns(a netip.Addr) bool {
	if a.Is4() {
		return sv.v4 != nil && a == netip.AddrFrom4(sv.v4.ip)
	}
	b := a.As16()
	return !sv.v4only() && sv.has(b[:], false)
}

// take6 takes DHCPv6 messages, and answers neighbours and ping.
func (w *worker) take6(s *Segment, vw *view, f *frame.Frame) {
	sv := vw.service
	if sv.v4only() || f.Info.L4 == 0 || f.Info.Fragment {
		return
	}
	switch f.Info.Proto {
	case frame.ProtoUDP:
		if _, port := f.UDPPorts(); port != dhcp6ServerPort || sv.v6 == nil || sv.v6.local && away(f) {
			return
		}
		dst := f.Bytes()[f.Info.L3+24:][:16]
		if a := netip.AddrFrom16([16]byte(dst)); a == allDHCPRelays || a == allDHCPServers || sv.has(dst, away(f)) {
			w.handOver(s, vw, f, sv.v6)
		}
	case frame.ProtoICMPv6:
		m, ok := f.ICMPv6()
		if !ok || m.Code() != 0 {
			return
		}
		switch m.Type() {
		case frame.NeighbourSolicitation:
			w.answerNeighbour(s, vw, f, m)
		case frame.RouterSolicitation:
			w.answerSolicitation(s, vw, f, m)
		case frame.EchoRequest6:
			sv.answerEcho6(vw, f, m)
		}
	}
}

// answerEcho6 turns an ICMPv6 echo request (RFC 4443 section 4.1) into its reply.
func (sv *service) answerEcho6(vw *view, f *frame.Frame, m frame.ICMPv6) {
	ip := f.Bytes()[f.Info.L3:]
	src, dst := ip[8:24], ip[24:40]
	if fdb.MACOf(f.Bytes()) != sv.mac || !sv.has(dst, away(f)) || src[0] == 0xff || [16]byte(src) == [16]byte{} {
		return
	}
	m[0] = frame.EchoReply6
	binary.BigEndian.PutUint16(m[2:], frame.Update(binary.BigEndian.Uint16(m[2:]), frame.EchoRequest6<<8, frame.EchoReply6<<8))
	was := [16]byte(src)
	copy(src, dst)
	copy(dst, was[:])
	ip[7] = 64
	vw.reflect(f, sv.mac)
}

const ndHops = 255 // of whatever belongs to neighbour discovery: no router has touched it

// answerNeighbour answers a neighbour solicitation for one of the service's
// addresses (RFC 4861 sections 7.1.1 and 7.2.4).
func (w *worker) answerNeighbour(s *Segment, vw *view, f *frame.Frame, m frame.ICMPv6) {
	sv := vw.service
	if target := m.Target(); target == nil || f.Info.TTL != ndHops || !sv.has(target, away(f)) {
		return
	}
	q, ok := readSolicitation(f, m)
	if !ok {
		return
	}
	a := advert{target: q.target, of: sv.mac, to: q.src, mac: fdb.MACOf(f.Bytes()[6:]), router: sv.router, solicited: true}
	if q.src.IsUnspecified() { // somebody would like to have the address himself
		a.to, a.mac, a.solicited = allNodes, allNodesMAC, false
	}
	w.advertise(s, vw, f, a)
}

// solicitation is what somebody asks who looks for a neighbour.
type solicitation struct {
	target netip.Addr
	src    netip.Addr
	from   []byte // the MAC that he says to have; nil if he does not say
}

// readSolicitation reads a neighbour solicitation whose hop limit is right; ok is
// false where it is to be ignored (RFC 4861 section 7.1.1).
func readSolicitation(f *frame.Frame, m frame.ICMPv6) (q solicitation, ok bool) {
	const optionsAt = 24
	target := m.Target()
	if target == nil || !f.ChecksumHolds() {
		return q, false
	}
	ip := f.Bytes()[f.Info.L3:]
	q.target = netip.AddrFrom16([16]byte(target))
	q.src = netip.AddrFrom16([16]byte(ip[8:]))
	q.from, ok = m.Option(optionsAt, frame.OptionSourceMAC)
	if len(q.from) != 6 && q.from != nil || q.src.IsMulticast() || q.src.IsUnspecified() && (q.from != nil || ip[24] != 0xff) {
		return q, false
	}
	return q, ok
}

// advertise turns a solicitation into its answer, and sends it back the way it
// came.
func (w *worker) advertise(s *Segment, vw *view, f *frame.Frame, a advert) {
	in := fdb.Dst(f.Ingress)
	if room := f.Len() >= advertLen; !room && in.IsRemote() {
		// What follows in the buffer may be another frame.
		b := make([]byte, advertLen)
		a.put(b)
		s.inject(injected{to: originOf(s, vw, in), bytes: b})
		f.Verdict.Action = frame.Consumed
		return
	}
	f.SetLen(advertLen)
	f.Offload = frame.Offload{} // which was the solicitation's
	a.put(f.Bytes())
	f.Parse()
	f.Ingress = uint32(fdb.Self)
	vw.direct(f, in)
}

// advert is a neighbour advertisement.
type advert struct {
	target    netip.Addr
	of        fdb.MAC // of target
	to        netip.Addr
	mac       fdb.MAC // of to
	router    bool    // target is one
	solicited bool
}

const advertLen = frame.EthernetLen + ipv6Len + 32 // with target's MAC as option

// put makes a frame of it (RFC 4861 section 4.4) in b, advertLen bytes.
func (a advert) put(b []byte) {
	clear(b)
	m := putIPv6(b, a.mac, a.of, a.target, a.to, frame.ProtoICMPv6, ndHops)
	const router, solicited, override = 0x80, 0x40, 0x20
	m[0], m[4] = frame.NeighbourAdvertisement, override
	if a.router {
		m[4] |= router
	}
	if a.solicited {
		m[4] |= solicited
	}
	target := a.target.As16()
	copy(m[8:], target[:])
	m[24], m[25] = frame.OptionTargetMAC, 1
	a.of.Put(m[26:])
	binary.BigEndian.PutUint16(m[2:], checksum(a.target, a.to, frame.ProtoICMPv6, m))
}

func (v6 *service6) serve(req *dhcpd.Request, reply func(dhcpd.Reply)) dhcpd.Outcome {
	return v6.server.Serve(req, reply)
}

func (v6 *service6) tryServe(req *dhcpd.Request, reply func(dhcpd.Reply)) (dhcpd.Outcome, bool) {
	return v6.server.TryServe(req, reply)
}

// compose has the service's address on the link as the source, or the server's
// where a reply goes beyond it, to a relay.
func (v6 *service6) compose(r dhcpd.Reply) []byte {
	src := v6.link
	if !r.Dst.IsLinkLocalUnicast() {
		src = v6.ip
	}
	return composeUDP(fdb.MACOf(r.DstMAC[:]), v6.mac, netip.AddrPortFrom(src, dhcp6ServerPort), netip.AddrPortFrom(r.Dst, r.DstPort), r.Payload)
}

// DHCPv6 messages (RFC 8415 section 8) of relays, options and kinds of DUID that
// name a station of Ethernet (section 11).
const (
	relayForward, relayReply = 12, 13

	optionClientID6, optionServerID6 = 1, 2

	duidLLT, duidLL = 1, 3
)

// option6 is the first option of a code in a client's message, nil if there is
// none that can be read.
func option6(msg []byte, code uint16) []byte {
	const options = 4 // behind the type and the transaction
	if len(msg) < options || msg[0] == relayForward || msg[0] == relayReply {
		return nil
	}
	for msg = msg[options:]; len(msg) >= 4; {
		n := 4 + int(binary.BigEndian.Uint16(msg[2:]))
		if n > len(msg) {
			return nil
		}
		if binary.BigEndian.Uint16(msg) == code {
			return msg[4:n]
		}
		msg = msg[n:]
	}
	return nil
}

func (v6 *service6) forOther(msg []byte) bool {
	id := option6(msg, optionServerID6)
	return id != nil && !bytes.Equal(id, v6.duid)
}

// spoofed holds the MAC in the client's identifier against the frame's, where
// there is one of Ethernet in it.
func (v6 *service6) spoofed(msg []byte, source [6]byte) bool {
	const ethernet = 1
	id := option6(msg, optionClientID6)
	if len(id) < 4 || binary.BigEndian.Uint16(id[2:]) != ethernet {
		return false
	}
	switch typ := binary.BigEndian.Uint16(id); {
	case typ == duidLLT && len(id) == 14:
		return [6]byte(id[8:]) != source
	case typ == duidLL && len(id) == 10:
		return [6]byte(id[4:]) != source
	}
	return false
}

func (v6 *service6) describe(msg []byte) []any {
	m, err := dhcpv6.FromBytes(msg)
	if err != nil {
		return nil
	}
	inner, err := m.GetInnerMessage()
	if err != nil {
		return []any{"type", m.Type()}
	}
	return []any{"type", inner.Type(), "client", fmt.Sprint(inner.Options.ClientID())}
}
