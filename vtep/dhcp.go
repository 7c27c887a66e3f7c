package vtep

import (
	"context"
	"encoding/binary"
	"net/netip"

	"github.com/uvtep/uvtep/dhcpd"
	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/frame"
)

const (
	dhcpQueueLen = 1024 // requests that wait for the DHCP service
	dhcpPayload  = 2048 // bytes of a DHCP request at most
	inboxLen     = 4096 // replies that wait for a worker
)

// request is a DHCP message on its way from a worker to the service.
type request struct {
	seg    *Segment
	sv     *service
	from   fdb.Dst // where it came from, and the answer goes
	passed bool    // it also goes on to the server that it names
	req    dhcpd.Request
	buf    [dhcpPayload]byte
}

// handOver gives a DHCP message to the service, which may have to wait for a
// disk. A message for another server (option 54) goes on to that one, too.
func (w *worker) handOver(s *Segment, sv *service, f *frame.Frame) {
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
	in := fdb.Dst(f.Ingress)
	r.seg, r.sv, r.from, r.passed = s, sv, in, passed
	r.req = dhcpd.Request{
		Payload: append(r.buf[:0], payload...),
		Src:     netip.AddrFrom4([4]byte(ip[12:16])),
		Dst:     netip.AddrFrom4([4]byte(ip[16:20])),
		SrcMAC:  [6]byte(b[6:12]),
	}
	if in.IsRemote() {
		r.req.VTEP = f.Outer.Src
	} else if p := s.view.Load().ports[in.Index()]; p != nil {
		r.req.Port = p.cfg.Name
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
	out := sv.server.Serve(&r.req, func(reply dhcpd.Reply) { v.inject(seg, sv, from, reply) })
	if reason := dhcpReason(out); reason != frame.NotDropped && !r.passed {
		seg.drops[v.cfg.Workers][reason].addShared(1)
	}
	r.seg, r.sv = nil, nil
	v.freeRequests <- r
}

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
	to    fdb.Dst
	bytes []byte
}

// inject makes a frame of a DHCP reply and gives it to a worker. It goes where
// the request came from, a broadcast too: the client is there, and what it is
// told is nobody else's business. A reply that finds the inbox full is lost like
// any datagram, and counted; the client asks again.
func (v *VTEP) inject(s *Segment, sv *service, to fdb.Dst, r dhcpd.Reply) {
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

// takeInbox carries what the services of the worker's segments sent.
func (w *worker) takeInbox() {
	if !w.mail.Swap(false) {
		return
	}
	w.inboxMu.Lock()
	mail := w.inbox
	w.inbox = nil
	w.inboxMu.Unlock()
	for _, m := range mail {
		if s, ok := w.v.Segment(m.seg.vni); !ok || s != m.seg {
			continue // removed meanwhile
		}
		w.batch.Clear()
		f := w.batch.Next()
		w.batch.Commit(copy(f.Buffer(), m.bytes))
		f.Ingress = uint32(fdb.Self)
		frames := w.batch.Frames[:1]
		parse(frames)
		vw := m.seg.view.Load()
		vw.send(f, m.to)
		w.write(m.seg, vw, frames)
		w.tally(m.seg.drops, frames)
	}
}
