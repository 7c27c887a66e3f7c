package vtep

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/uvtep/uvtep/dhcpd"
	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/frame"
)

const dhcpServerPort = 67 // of servers and relays (RFC 2131 section 4.1)

// service4 is the IPv4 part of a service: the DHCP server, whose address answers
// ARP and ping.
type service4 struct {
	mac     fdb.MAC
	ip      [4]byte
	local   bool // only guests behind the VTEP's own ports are answered
	server  *dhcpd.Server
	probing time.Duration // how long the server waits for the answer to a probe; 0: it sends none
	probes  *probes
}

// start4 starts the DHCPv4 service of a segment; stop4 ends it.
func (s *Segment) start4(sv *service, cfg *DHCPConfig) (*service4, error) {
	if s.v.cfg.DHCP == nil {
		return nil, fmt.Errorf("segment %v: %w", s.vni, errNoDHCPService)
	}
	if err := checkDHCP(s.vni, cfg); err != nil {
		return nil, err
	}
	srv, err := s.v.cfg.DHCP.Add(uint32(s.vni), cfg.Server)
	if err != nil {
		return nil, err // which names the segment
	}
	srv.ProbeWith(s.probe)
	return (&service4{mac: sv.mac, server: srv, probes: new(probes)}).with(cfg), nil
}

// with is the service with another configuration in force.
func (v4 *service4) with(cfg *DHCPConfig) *service4 {
	now := *v4
	now.ip, now.local, now.probing = cfg.Server.Server.As4(), cfg.ServeLocal, cfg.Server.Probe
	return &now
}

// stop4 stops it. No view has it any more; its leases stay in the store.
func (s *Segment) stop4() error { return s.v.cfg.DHCP.Remove(uint32(s.vni)) }

// checkDHCP says what of a segment's DHCP service cannot be.
func checkDHCP(vni encap.VNI, cfg *DHCPConfig) error {
	if !cfg.Server.Server.Is4() {
		return fmt.Errorf("segment %v: %w: the DHCP server address %v is not IPv4", vni, ErrInvalid, cfg.Server.Server)
	}
	return nil
}

// takeARP answers a request for the service's address, and takes the answers to
// its own.
func (w *worker) takeARP(s *Segment, vw *view, f *frame.Frame) {
	sv := vw.service
	p, ok := f.ARP()
	if !ok || sv.v4 == nil {
		return
	}
	if sv.v4.probing > 0 {
		w.hearARP(s, sv.v4, p)
	}
	switch {
	case p.Op() == frame.ARPRequest && [4]byte(p.TargetIP()) == sv.v4.ip && !(sv.v4.local && away(f)):
		sv.answerARP(vw, f, p)
	case p.Op() == frame.ARPReply && [4]byte(p.TargetIP()) == [4]byte{} && fdb.MACOf(f.Bytes()) == sv.mac:
		f.Verdict.Action = frame.Consumed // of a probe
	}
}

// answerARP turns a request into its answer, and sends it back the way it came.
func (sv *service) answerARP(vw *view, f *frame.Frame, p frame.ARP) {
	p.SetOp(frame.ARPReply)
	copy(p.TargetMAC(), p.SenderMAC())
	copy(p.TargetIP(), p.SenderIP())
	sv.mac.Put(p.SenderMAC())
	copy(p.SenderIP(), sv.v4.ip[:])
	vw.reflect(f, sv.mac)
}

// take4 takes DHCP messages, and answers ping.
func (w *worker) take4(s *Segment, vw *view, f *frame.Frame) {
	sv := vw.service
	if sv.v4 == nil || f.Info.L4 == 0 || f.Info.Fragment || sv.v4.local && away(f) {
		return
	}
	switch f.Info.Proto {
	case frame.ProtoUDP:
		if _, port := f.UDPPorts(); port == dhcpServerPort {
			w.handOver(s, vw, f, sv.v4)
		}
	case frame.ProtoICMP:
		if fdb.MACOf(f.Bytes()) == sv.mac {
			sv.answerEcho4(vw, f)
		}
	}
}

// answerEcho4 turns an ICMP echo request (RFC 792) into its reply.
func (sv *service) answerEcho4(vw *view, f *frame.Frame) {
	b := f.Bytes()
	ip, icmp := b[f.Info.L3:], b[f.Info.L4:]
	if icmp[0] != 8 || icmp[1] != 0 || [4]byte(ip[16:20]) != sv.v4.ip {
		return
	}
	icmp[0] = 0
	binary.BigEndian.PutUint16(icmp[2:], frame.Update(binary.BigEndian.Uint16(icmp[2:]), 8<<8, 0))
	copy(ip[16:20], ip[12:16])
	copy(ip[12:16], sv.v4.ip[:])
	binary.BigEndian.PutUint16(ip[10:], frame.Update(binary.BigEndian.Uint16(ip[10:]), uint16(ip[8])<<8|uint16(ip[9]), 64<<8|uint16(ip[9])))
	ip[8] = 64
	vw.reflect(f, sv.mac)
}

func (v4 *service4) serve(req *dhcpd.Request, reply func(dhcpd.Reply)) dhcpd.Outcome {
	return v4.server.Serve(req, reply)
}

func (v4 *service4) tryServe(req *dhcpd.Request, reply func(dhcpd.Reply)) (dhcpd.Outcome, bool) {
	return v4.server.TryServe(req, reply)
}

func (v4 *service4) compose(r dhcpd.Reply) []byte {
	src := netip.AddrPortFrom(netip.AddrFrom4(v4.ip), dhcpServerPort)
	return composeUDP(fdb.MACOf(r.DstMAC[:]), v4.mac, src, netip.AddrPortFrom(r.Dst, r.DstPort), r.Payload)
}

// forOther reads no more of the options than it needs to find the server
// identifier (54).
func (v4 *service4) forOther(msg []byte) bool {
	const options = 240 // behind the fixed fields and the magic cookie
	for i := options; i+1 < len(msg) && msg[i] != 255; {
		if msg[i] == 0 {
			i++
			continue
		}
		n := int(msg[i+1])
		if msg[i] == 54 && n == 4 && i+6 <= len(msg) {
			return [4]byte(msg[i+2:i+6]) != v4.ip
		}
		i += 2 + n
	}
	return false
}

func (v4 *service4) spoofed(msg []byte, source [6]byte) bool {
	const hlen, giaddr, chaddr = 2, 24, 28
	if len(msg) < chaddr+len(source) || [4]byte(msg[giaddr:]) != [4]byte{} {
		return false
	}
	return msg[hlen] != 6 || [6]byte(msg[chaddr:]) != source
}

func (v4 *service4) describe(msg []byte) []any {
	m, err := dhcpv4.FromBytes(msg)
	if err != nil {
		return nil
	}
	return []any{"type", m.MessageType(), "client", m.ClientHWAddr.String(), "ip", m.YourIPAddr}
}
