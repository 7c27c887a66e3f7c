package vtep

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/uvtep/uvtep/dhcpd"
	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/frame"
)

// service4 is the IPv4 part of a service: the DHCP server, whose address answers
// ARP and ping.
type service4 struct {
	ip      [4]byte
	local   bool // only guests behind the VTEP's own ports are answered
	server  *dhcpd.Server
	probing time.Duration // how long the server waits for the answer to a probe; 0: it sends none
	probes  *probes
}

// start4 starts the DHCPv4 service of a segment; stop4 ends it.
func (s *Segment) start4(cfg *DHCPConfig) (*service4, error) {
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
	srv.ProbeWith(s.probe)
	return (&service4{server: srv, probes: new(probes)}).with(cfg), nil
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
	sv.reflect(vw, f)
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
			w.handOver(s, vw, f, inet4)
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
	f.FinishChecksum()
	icmp[0] = 0
	binary.BigEndian.PutUint16(icmp[2:], frame.Update(binary.BigEndian.Uint16(icmp[2:]), 8<<8, 0))
	copy(ip[16:20], ip[12:16])
	copy(ip[12:16], sv.v4.ip[:])
	binary.BigEndian.PutUint16(ip[10:], frame.Update(binary.BigEndian.Uint16(ip[10:]), uint16(ip[8])<<8|uint16(ip[9]), 64<<8|uint16(ip[9])))
	ip[8] = 64
	sv.reflect(vw, f)
}

// forOther reports whether a message names a server (option 54) that is not this
// one. It reads no more of the options than it needs; what it cannot read is ours.
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

// spoofed4 reports whether a message that came from no relay is about a client
// other than the frame's source.
func spoofed4(msg []byte, src [6]byte) bool {
	const hlen, giaddr, chaddr = 2, 24, 28
	if len(msg) < chaddr+len(src) {
		return false // not to be read: the service says so
	}
	if [4]byte(msg[giaddr:]) != [4]byte{} {
		return false
	}
	return msg[hlen] != 6 || [6]byte(msg[chaddr:]) != src
}
