package vtep

import (
	"context"
	"encoding/binary"
	"log/slog"
	"net/netip"
	"slices"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/uvtep/uvtep/dhcpd"
	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/frame"
)

const (
	dhcpQueueLen = 1024 // requests that wait for the DHCP service
	dhcpPayload  = 2048 // bytes of a DHCP request at most
	inboxLen     = 4096 // replies that wait for a worker
)

// origin is where a request came from and its answer goes: a port or a peer. The
// number of one that is gone may be another's when the answer is there.
type origin struct {
	port *Port
	peer *peer
}

// originOf is where in is now.
func originOf(s *Segment, vw *view, in fdb.Dst) origin {
	if in.IsRemote() {
		return origin{peer: s.peers.ByID(in.Index())}
	}
	return origin{port: vw.port(in)}
}

func (o origin) String() string {
	switch {
	case o.port != nil:
		return o.port.cfg.Name
	case o.peer != nil:
		return o.peer.Addr.String()
	}
	return "none"
}

// direct decides that a frame goes there, or is dropped as it is gone.
func (o origin) direct(s *Segment, vw *view, f *frame.Frame) {
	switch {
	case o.peer != nil && s.peers.ByID(o.peer.ID) == o.peer:
		vw.direct(f, fdb.Remote(o.peer.ID))
	case o.peer != nil:
		f.Drop(frame.NoWayOut)
	case o.port != nil && vw.port(fdb.Local(o.port.id)) == o.port:
		vw.direct(f, fdb.Local(o.port.id))
	default:
		f.Drop(frame.PortDown)
	}
}

// request is a DHCP message on its way from a worker to the service.
type request struct {
	seg    *Segment
	sv     *service
	from   origin
	passed bool // it also goes on to the server that it names
	req    dhcpd.Request
	buf    [dhcpPayload]byte
}

// handOver gives a DHCP message to the service, which may have to wait for a
// disk. A message for another server (option 54) goes on to that one, too.
func (w *worker) handOver(s *Segment, vw *view, sv *service, f *frame.Frame) {
	b := f.Bytes()
	udp := b[f.Info.L4:]
	n := int(binary.BigEndian.Uint16(udp[4:])) - 8
	if n < 0 || n > len(udp)-8 || n > dhcpPayload {
		f.Drop(frame.DHCPMalformed)
		return
	}
	payload := udp[8 : 8+n]
	passed := forOther(payload, sv.ip)
	if !passed {
		f.Verdict.Action = frame.Consumed
	}
	var r *request
	select {
	case r = <-w.v.freeRequests:
	default:
		if !passed {
			f.Drop(frame.DHCPQueueFull)
		}
		return
	}
	ip := b[f.Info.L3:]
	r.seg, r.sv, r.from, r.passed = s, sv, originOf(s, vw, fdb.Dst(f.Ingress)), passed
	r.req = dhcpd.Request{
		Payload: append(r.buf[:0], payload...),
		Src:     netip.AddrFrom4([4]byte(ip[12:16])),
		Dst:     netip.AddrFrom4([4]byte(ip[16:20])),
		SrcMAC:  [6]byte(b[6:12]),
	}
	if r.from.port != nil {
		r.req.Port = r.from.port.cfg.Name
	} else {
		r.req.VTEP = f.Outer.Src
	}
	w.v.requests <- r // never waits: there are as many places as requests
}

// forOther reports whether a message names a server (option 54) that is not ip.
// It reads no more of the options than it needs; what it cannot read is ours.
func forOther(msg []byte, ip [4]byte) bool {
	const options = 240 // behind the fixed fields and the magic cookie
	for i := options; i+1 < len(msg) && msg[i] != 255; {
		if msg[i] == 0 {
			i++
			continue
		}
		n := int(msg[i+1])
		if msg[i] == 54 && n == 4 && i+6 <= len(msg) {
			return [4]byte(msg[i+2:i+6]) != ip
		}
		i += 2 + n
	}
	return false
}

// serveDHCP decides on requests until ctx is cancelled.
func (v *VTEP) serveDHCP(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-v.requests:
			v.decide(r)
		}
	}
}

// decide lets the DHCP service take a request, whose place is then free again:
// an answer that waits for the disk comes later.
func (v *VTEP) decide(r *request) {
	seg, sv, from := r.seg, r.sv, r.from
	answered := false // looked at only where the answer does not come later
	out := sv.server.Serve(&r.req, func(reply dhcpd.Reply) {
		answered = true
		v.logDHCP("DHCP answer", seg, from, reply.Payload)
		v.inject(seg, sv, from, reply)
	})
	if out != dhcpd.Pending && !answered {
		v.logDHCP("DHCP request without an answer", seg, from, r.req.Payload, "outcome", out)
	}
	if reason := dhcpReason(out); reason != frame.NotDropped && !r.passed {
		seg.drops[v.cfg.Workers][reason].addShared(1)
	}
	r.seg, r.sv, r.from = nil, nil, origin{}
	v.freeRequests <- r
}

// logDHCP tells, where details are logged, what the service was told or says.
func (v *VTEP) logDHCP(what string, s *Segment, at origin, msg []byte, more ...any) {
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

// injected is a frame of a segment's service that waits for a worker, and where
// it goes.
type injected struct {
	seg   *Segment
	to    origin
	bytes []byte
}

// inject makes a frame of a DHCP reply and gives it to a worker. It goes where
// the request came from, a broadcast too: the client is there, and what it is
// told is nobody else's business. A reply that finds the inbox full is lost like
// any datagram, and counted; the client asks again.
func (v *VTEP) inject(s *Segment, sv *service, to origin, r dhcpd.Reply) {
	const headers = frame.EthernetLen + 20 + 8
	b := make([]byte, headers+len(r.Payload))
	copy(b, r.DstMAC[:])
	sv.mac.Put(b[6:])
	binary.BigEndian.PutUint16(b[12:], frame.TypeIPv4)
	ip := b[frame.EthernetLen:]
	ip[0], ip[8], ip[9] = 0x45, 64, frame.ProtoUDP
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	src, dst := sv.ip, r.Dst.As4()
	copy(ip[12:], src[:])
	copy(ip[16:], dst[:])
	binary.BigEndian.PutUint16(ip[10:], ^frame.Fold(frame.Sum(ip[:20], 0)))
	udp := ip[20:]
	binary.BigEndian.PutUint16(udp, dhcpServerPort)
	binary.BigEndian.PutUint16(udp[2:], r.DstPort)
	binary.BigEndian.PutUint16(udp[4:], uint16(len(udp)))
	copy(udp[8:], r.Payload)
	sum := ^frame.Fold(frame.Sum(udp, frame.Sum(ip[12:20], uint64(frame.ProtoUDP)+uint64(len(udp)))))
	if sum == 0 {
		sum = 0xffff // zero would mean that there is none (RFC 768)
	}
	binary.BigEndian.PutUint16(udp[6:], sum)

	w := v.workers[int(s.vni)%len(v.workers)]
	w.inboxMu.Lock()
	full := len(w.inbox) >= inboxLen
	if !full {
		w.inbox = append(w.inbox, injected{s, to, b})
	}
	w.inboxMu.Unlock()
	if full {
		s.drops[v.cfg.Workers][frame.DHCPQueueFull].addShared(1)
	}
	w.mail.Store(true)
	w.poll.wake()
}

// takeInbox carries what the services of the worker's segments sent: a batch at
// most, so that ports and tunnel have their turn; more of it has the worker come
// back.
func (w *worker) takeInbox() {
	if !w.mail.Swap(false) {
		return
	}
	w.inboxMu.Lock()
	n := min(len(w.inbox), len(w.batch.Frames))
	mail := w.inbox[:n:n]
	w.inbox = w.inbox[n:]
	more := len(w.inbox) > 0
	if !more {
		w.inbox = nil
	}
	w.inboxMu.Unlock()
	if more {
		w.mail.Store(true)
		w.poll.wake()
	}
	slices.SortStableFunc(mail, func(a, b injected) int { return int(a.seg.vni) - int(b.seg.vni) })
	for len(mail) > 0 {
		seg := mail[0].seg
		n := slices.IndexFunc(mail, func(m injected) bool { return m.seg != seg })
		if n < 0 {
			n = len(mail)
		}
		if s, ok := w.v.Segment(seg.vni); ok && s == seg { // else it was removed meanwhile
			w.deliver(seg, mail[:n])
		}
		clear(mail[:n])
		mail = mail[n:]
	}
}

// deliver carries a batch at most of what a segment's service sent.
func (w *worker) deliver(s *Segment, mail []injected) {
	w.batch.Clear()
	vw := s.view.Load()
	for _, m := range mail {
		f := w.batch.Next()
		w.batch.Commit(copy(f.Buffer(), m.bytes))
		f.Ingress = uint32(fdb.Self)
	}
	frames := w.batch.Frames[:w.batch.N]
	parse(frames)
	for i, m := range mail {
		m.to.direct(s, vw, &frames[i])
	}
	w.write(s, vw, frames)
	w.tally(s.drops, frames)
}
