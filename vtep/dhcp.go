package vtep

import (
	"context"
	"encoding/binary"
	"log/slog"
	"net/netip"
	"slices"

	"github.com/uvtep/uvtep/dhcpd"
	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/frame"
)

const (
	dhcpQueueLen = 1024 // requests that wait for the DHCP service
	dhcpPayload  = 2048 // bytes of a DHCP request at most
)

// responder is the DHCP service of a segment, for one family of addresses.
type responder interface {
	serve(*dhcpd.Request, func(dhcpd.Reply)) dhcpd.Outcome
	tryServe(*dhcpd.Request, func(dhcpd.Reply)) (dhcpd.Outcome, bool) // serve, unless that takes waiting
	compose(dhcpd.Reply) []byte                                       // a reply in a frame
	forOther(msg []byte) bool                                         // it names another server; what cannot be read does not
	spoofed(msg []byte, source [6]byte) bool                          // it came from no relay, and is about a client other than source
	describe(msg []byte) []any                                        // for a log
}

// request is a DHCP message on its way from a worker to the service.
type request struct {
	seg    *Segment
	by     responder
	from   origin
	passed bool // it also goes on to the server that it names
	req    dhcpd.Request
	buf    [dhcpPayload]byte
}

// handOver gives a DHCP message to the service, which may have to wait for a
// disk. A message for another server goes on to that one, too.
func (w *worker) handOver(s *Segment, vw *view, f *frame.Frame, by responder) {
	b := f.Bytes()
	udp := b[f.Info.L4:]
	n := int(binary.BigEndian.Uint16(udp[4:])) - 8
	if n < 0 || n > len(udp)-8 || n > dhcpPayload {
		f.Drop(frame.DHCPMalformed)
		return
	}
	payload := udp[8 : 8+n]
	passed := by.forOther(payload)
	if !passed {
		f.Verdict.Action = frame.Consumed
	}
	from := originOf(s, vw, fdb.Dst(f.Ingress))
	source := [6]byte(b[6:12])
	r, why := w.admitDHCP(s, from, by, payload, source)
	if r == nil {
		if !passed {
			f.Drop(why)
		}
		return
	}
	r.seg, r.by, r.from, r.passed = s, by, from, passed
	r.req = dhcpd.Request{Payload: append(r.buf[:0], payload...), SrcMAC: source}
	if ip := b[f.Info.L3:]; f.Info.EtherType == frame.TypeIPv4 {
		r.req.Src, r.req.Dst = netip.AddrFrom4([4]byte(ip[12:])), netip.AddrFrom4([4]byte(ip[16:]))
	} else {
		r.req.Src, r.req.Dst = netip.AddrFrom16([16]byte(ip[8:])), netip.AddrFrom16([16]byte(ip[24:]))
	}
	if p := from.port; p != nil {
		r.req.Port, r.req.MaxLeases = p.cfg.Name, p.limits.Load().leases
	} else {
		r.req.VTEP = f.Outer.Src
	}
	w.v.requests <- r // never waits: there are as many places as requests
	w.poll.calm()
}

// admitDHCP finds room for a message, or says why it is dropped. So that neither
// a port nor a segment can keep others from being heard, each has a fair share of
// the places: a segment of all, a port or peer of what its segment may have.
func (w *worker) admitDHCP(s *Segment, from origin, by responder, msg []byte, source [6]byte) (*request, frame.Reason) {
	if p := from.port; p != nil {
		l := p.limits.Load()
		if l.checkMAC && by.spoofed(msg, source) {
			return nil, frame.DHCPSpoofed
		}
		if l.rate > 0 && !p.dhcp.take(w.v.since(), l.rate, 1) {
			return nil, frame.DHCPRate
		}
	}
	free, has := len(w.v.freeRequests), int(s.waiting.Load())
	if !fair(from.waiting(), free-has) { // which is never so where the segment has more than is free
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
		case <-v.called:
			if v.decideNext() {
				v.call() // there may be more
			}
		case h := <-v.heard:
			h.take()
		}
	}
}

// call has serve look for requests.
func (v *VTEP) call() {
	select {
	case v.called <- struct{}{}:
	default:
	}
}

// decideSome decides on requests at the end of a worker's round. Most are decided
// sooner than somebody else would be awake to do it; the others are left to serve,
// and with them all that came later, so that a client is heard in order.
func (w *worker) decideSome() {
	const most = 16
	v := w.v
	if len(v.requests) == 0 {
		return
	}
	if !v.deciding.TryLock() {
		v.call()
		return
	}
	defer v.deciding.Unlock()
	for range most {
		if v.held != nil {
			break
		}
		select {
		case r := <-v.requests:
			if !v.decideNow(r) {
				v.held = r
			}
		default:
			return
		}
	}
	v.call()
}

// decideNext decides on the request whose turn it is, and reports whether there
// was one.
func (v *VTEP) decideNext() bool {
	v.deciding.Lock()
	defer v.deciding.Unlock()
	r := v.held
	v.held = nil
	if r == nil {
		select {
		case r = <-v.requests:
		default:
			return false
		}
	}
	v.decide(r)
	return true
}

// decide lets the DHCP service take a request, whose place is then free again:
// an answer that waits for the disk comes later.
func (v *VTEP) decide(r *request) {
	serve := r.by.serve
	v.decideBy(r, func(req *dhcpd.Request, reply func(dhcpd.Reply)) (dhcpd.Outcome, bool) {
		return serve(req, reply), true
	})
}

// decideNow is decide for a worker, which cannot wait: it reports whether the
// service was at leisure.
func (v *VTEP) decideNow(r *request) bool {
	return !v.verbose() && v.decideBy(r, r.by.tryServe) // to log may take its time
}

func (v *VTEP) decideBy(r *request, serve func(*dhcpd.Request, func(dhcpd.Reply)) (dhcpd.Outcome, bool)) bool {
	seg, by, from := r.seg, r.by, r.from
	answered := false // looked at only where the answer does not come later
	out, done := serve(&r.req, func(reply dhcpd.Reply) {
		answered = true
		v.logDHCP("DHCP answer", seg, from, by, reply.Payload)
		// Where the request came from, a broadcast too: the client is there, and
		// what it is told is nobody else's business.
		seg.inject(injected{to: from, bytes: by.compose(reply)})
	})
	if !done {
		return false
	}
	seg.waiting.Add(-1)
	from.wait(-1)
	if out != dhcpd.Pending && out != dhcpd.Probing && out != dhcpd.Duplicate && !answered {
		v.logDHCP("DHCP request without an answer", seg, from, by, r.req.Payload, "outcome", out)
	}
	if reason := dhcpReason(out); reason != frame.NotDropped && !answered && !r.passed {
		seg.drops[v.cfg.Workers][reason].addShared(1)
	}
	r.seg, r.by, r.from = nil, nil, origin{}
	v.freeRequests <- r
	return true
}

// logDHCP tells, where details are logged, what the service was told or says.
func (v *VTEP) logDHCP(what string, s *Segment, at origin, by responder, msg []byte, more ...any) {
	if v.verbose() {
		v.cfg.Logger.Debug(what, slices.Concat([]any{"vni", s.vni, "at", at.String()}, by.describe(msg), more)...)
	}
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
	case o == dhcpd.PortFull:
		return frame.DHCPPortFull
	}
	return frame.DHCPNoLease
}
