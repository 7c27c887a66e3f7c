package vtep

import (
	"context"
	"encoding/binary"
	"log/slog"
	"net/netip"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/uvtep/uvtep/dhcpd"
	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/frame"
)

const (
	dhcpQueueLen = 1024 // requests that wait for the DHCP service
	dhcpPayload  = 2048 // bytes of a DHCP request at most

	// UDP ports of servers (RFC 2131 section 4.1).
	dhcpServerPort = 67
)

// family is a version of IP, and so of DHCP.
type family uint8

const (
	inet4 family = 4
	inet6 family = 6
)

// request is a DHCP message on its way from a worker to the service.
type request struct {
	family family
	seg    *Segment
	sv     *service
	from   origin
	passed bool // it also goes on to the server that it names
	req    dhcpd.Request
	buf    [dhcpPayload]byte
}

// handOver gives a DHCP message to the service, which may have to wait for a
// disk. A message for another server goes on to that one, too.
func (w *worker) handOver(s *Segment, vw *view, f *frame.Frame, fam family) {
	b, sv := f.Bytes(), vw.service
	udp := b[f.Info.L4:]
	n := int(binary.BigEndian.Uint16(udp[4:])) - 8
	if n < 0 || n > len(udp)-8 || n > dhcpPayload {
		f.Drop(frame.DHCPMalformed)
		return
	}
	payload := udp[8 : 8+n]
	passed := sv.v4.forOther(payload)
	if !passed {
		f.Verdict.Action = frame.Consumed
	}
	from := originOf(s, vw, fdb.Dst(f.Ingress))
	r, why := w.admitDHCP(s, from, payload, [6]byte(b[6:12]), fam)
	if r == nil {
		if !passed {
			f.Drop(why)
		}
		return
	}
	r.family, r.seg, r.sv, r.from, r.passed = fam, s, sv, from, passed
	ip := b[f.Info.L3:]
	r.req = dhcpd.Request{Payload: append(r.buf[:0], payload...), SrcMAC: [6]byte(b[6:12])}
	r.req.Src, r.req.Dst = netip.AddrFrom4([4]byte(ip[12:16])), netip.AddrFrom4([4]byte(ip[16:20]))
	if p := from.port; p != nil {
		r.req.Port, r.req.MaxLeases = p.cfg.Name, p.cfg.MaxLeases
	} else {
		r.req.VTEP = f.Outer.Src
	}
	w.v.requests <- r // never waits: there are as many places as requests
}

// admitDHCP finds room for a message, or says why it is dropped. So that neither
// a port nor a segment can keep others from being heard, each has a fair share of
// the places: a segment of all, a port or peer of what its segment may have.
func (w *worker) admitDHCP(s *Segment, from origin, msg []byte, src [6]byte, fam family) (*request, frame.Reason) {
	if p := from.port; p != nil {
		if p.cfg.DHCPCheckMAC && spoofed4(msg, src) {
			return nil, frame.DHCPSpoofed
		}
		if n := p.cfg.DHCPRate; n > 0 && !p.dhcp.take(w.v.cfg.Clock().Sub(w.v.start), n) {
			return nil, frame.DHCPRate
		}
	}
	free, has := len(w.v.freeRequests), int(s.waiting.Load())
	if !fair(has, free) || !fair(from.waiting(), free-has) {
		return nil, frame.DHCPQueueFull
	}
	select {
	case r := <-w.v.freeRequests:
		s.waiting.Add(1)
		from.wait(1)
		return r, frame.NotDropped
	default:
		return nil, frame.DHCPQueueFull
	}
}

// serve has the services do what workers have no time for, until ctx is
// cancelled.
func (v *VTEP) serve(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-v.requests:
			v.decide(r)
		case h := <-v.heard:
			h.take()
		}
	}
}

// decide lets the DHCP service take a request, whose place is then free again:
// an answer that waits for the disk comes later.
func (v *VTEP) decide(r *request) {
	seg, sv, from, fam := r.seg, r.sv, r.from, r.family
	seg.waiting.Add(-1)
	from.wait(-1)
	answered := false // looked at only where the answer does not come later
	out := sv.server(fam).Serve(&r.req, func(reply dhcpd.Reply) {
		answered = true
		v.logDHCP("DHCP answer", seg, from, fam, reply.Payload)
		seg.inject(injected{to: from, bytes: sv.composeReply(reply)})
	})
	if out != dhcpd.Pending && out != dhcpd.Probing && !answered {
		v.logDHCP("DHCP request without an answer", seg, from, fam, r.req.Payload, "outcome", out)
	}
	if reason := dhcpReason(out); reason != frame.NotDropped && !r.passed {
		seg.drops[v.cfg.Workers][reason].addShared(1)
	}
	r.seg, r.sv, r.from = nil, nil, origin{}
	v.freeRequests <- r
}

// server is what takes requests of a version.
func (sv *service) server(family) interface {
	Serve(*dhcpd.Request, func(dhcpd.Reply)) dhcpd.Outcome
} {
	return sv.v4.server
}

// composeReply is a reply in a frame. It goes where the request came from, a
// broadcast too: the client is there, and what it is told is nobody else's
// business.
func (sv *service) composeReply(r dhcpd.Reply) []byte {
	src := netip.AddrPortFrom(netip.AddrFrom4(sv.v4.ip), dhcpServerPort)
	return composeUDP(fdb.MACOf(r.DstMAC[:]), sv.mac, src, netip.AddrPortFrom(r.Dst, r.DstPort), r.Payload)
}

// logDHCP tells, where details are logged, what the service was told or says.
func (v *VTEP) logDHCP(what string, s *Segment, at origin, _ family, msg []byte, more ...any) {
	if !v.verbose() {
		return
	}
	if m, err := dhcpv4.FromBytes(msg); err == nil {
		more = append([]any{"type", m.MessageType(), "client", m.ClientHWAddr.String(), "ip", m.YourIPAddr}, more...)
	}
	v.cfg.Logger.Debug(what, append([]any{"vni", s.vni, "at", at.String()}, more...)...)
}

// verbose reports whether details are logged at all.
func (v *VTEP) verbose() bool { return v.cfg.Logger.Enabled(context.Background(), slog.LevelDebug) }

func dhcpReason(o dhcpd.Outcome) frame.Reason {
	switch {
	case o.Served():
		return frame.NotDropped
	case o == dhcpd.Malformed:
		return frame.DHCPMalformed
	case o.Ignored():
		return frame.DHCPIgnored
	case o == dhcpd.Busy:
		return frame.DHCPQueueFull
	}
	return frame.DHCPNoLease
}
