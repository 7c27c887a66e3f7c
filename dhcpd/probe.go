package dhcpd

import (
	"net"
	"net/netip"
	"slices"
	"time"
)

const (
	// MaxProbe is the longest that an answer to a conflict probe is waited for:
	// clients ask anew after a few seconds.
	MaxProbe = 10 * time.Second

	maxProbes   = 1024 // addresses of a segment that are asked about at once
	maxClaims   = 4    // addresses that are tried for one DISCOVER
	maxDeclined = 1024 // addresses left alone, from which on nobody's word is taken for more
	maxRequest  = 4096 // bytes of a request that can wait: more than a frame carries
)

// probes are the offers of a segment that wait until it is known that nobody
// uses their address (RFC 2131 section 2.2). Those of one configuration wait
// equally long, so a queue and one timer do for all of them.
type probes struct {
	ask   func(ip netip.Addr) // nil: nobody can be asked
	queue []*probe            // by when they are due
	of    map[*binding]*probe // of the offers that are still held
	timer *time.Timer
	asks  []netip.Addr // go out when the lock is let go

	sent, conflicts, skipped uint64
}

// probe is one of them, or, with b nil, a client whose address was claimed and
// that is to be offered another.
type probe struct {
	b     *binding
	due   time.Duration
	tries int // addresses that were claimed
	req   Request
	reply func(Reply)
}

// keep notes the DISCOVER that is to be answered, a copy: the last one counts,
// for it has the number that the client waits for.
func (p *probe) keep(c *call) {
	payload := append(p.req.Payload[:0], c.req.Payload...)
	p.req, p.reply = *c.req, c.reply
	p.req.Payload = payload
}

// ProbeWith gives the server a way to ask the segment whether somebody uses an
// address: ask sends the question and does not wait. Whoever hears an answer
// tells InUse.
func (s *Server) ProbeWith(ask func(ip netip.Addr)) {
	s.mu.Lock()
	s.probes.ask = ask
	s.mu.Unlock()
}

// waiting is the client's offer that waits for its probe, nil if none does.
func (s *Server) waiting(c *call) *probe {
	if len(s.probes.of) == 0 {
		return nil
	}
	return s.probes.of[c.n.offers[string(c.key)]]
}

// probe asks whether somebody uses an address that the client did not have
// before and says whether the offer has to wait for the answer. Only the
// segment's own subnet can be asked: others are behind a relay. Where too many
// answers are waited for already, the offer goes out without.
func (s *Server) probe(c *call, b *binding) bool {
	if !c.fresh || s.cfg.Probe == 0 || s.probes.ask == nil || c.n != s.nets[0] {
		return false
	}
	if len(s.probes.queue) >= maxProbes || len(c.req.Payload) > maxRequest {
		s.probes.skipped++
		return false
	}
	p := &probe{b: b, due: c.now + s.cfg.Probe, tries: c.tries}
	p.keep(c)
	if s.probes.of == nil {
		s.probes.of = map[*binding]*probe{}
	}
	s.probes.of[b] = p
	s.probes.queue = append(s.probes.queue, p)
	s.probes.asks = append(s.probes.asks, toAddr(b.ip))
	s.probes.sent++
	b.expires += s.cfg.Probe // the client has the whole time to take the offer
	s.expiry.set(b)
	if len(s.probes.queue) == 1 {
		s.armProbes()
	}
	return true
}

// unprobe forgets that an offer waits for its probe.
func (s *Server) unprobe(b *binding) {
	if len(s.probes.of) > 0 {
		delete(s.probes.of, b)
	}
}

// minProbeWait keeps a clock that is read coarsely from waking the process in
// vain over and over.
const minProbeWait = time.Millisecond

// armProbes sets the timer to the first of the queue.
func (s *Server) armProbes() {
	if len(s.probes.queue) == 0 || s.closed {
		return
	}
	if s.probes.timer != nil {
		s.probes.timer.Stop()
	}
	s.probes.timer = s.svc.after(max(s.probes.queue[0].due-s.svc.elapsed(), minProbeWait), s.probed)
}

// stopProbes lets nothing that waits be answered any more.
func (s *Server) stopProbes() {
	if s.probes.timer != nil {
		s.probes.timer.Stop()
	}
	s.probes.queue, s.probes.of, s.probes.asks = nil, nil, nil
}

// probed lets the offers go whose time is over and looks for other addresses
// for the clients whose address was claimed.
func (s *Server) probed() {
	for {
		s.mu.Lock()
		p := s.due(s.svc.elapsed())
		if p == nil {
			s.armProbes()
			s.unlock()
			return
		}
		sc := scratches.Get().(*scratch)
		sc.msg.parse(p.req.Payload) // which has been read before
		sc.call = call{
			m: &sc.msg, req: &p.req, key: sc.msg.appendKey(sc.room[:0]), reply: p.reply,
			now: s.svc.elapsed(), tries: p.tries,
		}
		s.serve(&sc.call)
		s.unlock()
		sc.done()
	}
}

// due takes the first of the queue whose time has come, nil if there is none.
// The whole DISCOVER is then decided on again: the configuration may be another
// one by now, and the client finds its offer on record.
func (s *Server) due(now time.Duration) *probe {
	q := s.probes.queue
	for len(q) > 0 && q[0].due <= now {
		p := q[0]
		q[0], q = nil, q[1:]
		held := s.probes.of[p.b] == p
		if held {
			s.unprobe(p.b)
		}
		if p.b == nil || held {
			s.probes.queue = q
			return p
		}
	}
	s.probes.queue = q
	return nil
}

// InUse says that a station without a lease answers for an address, asked or
// not. An address of the segment's own subnet that is nobody's lease is left
// alone for as long as a declined one, and whoever was about to be offered it is
// offered another. That holds for a reserved address, too, which raises an
// alarm: its client would notice the other station and decline, or worse, not
// notice. Unasked, an address that nobody is about to get counts only if it
// belongs to a pool, and so many of them only: a station can claim what it likes.
// A client that answers for its own address, present or past, claims nothing.
func (s *Server) InUse(ip netip.Addr, mac net.HardwareAddr) {
	s.mu.Lock()
	defer s.unlock()
	v, n := toU32(ip), s.nets[0]
	if s.closed || !n.contains(v) || len(mac) != 6 {
		return
	}
	now := s.svc.elapsed()
	s.expire(now)
	b := n.byIP[v]
	switch {
	case b != nil && (b.state == StateBound || b.state == StateDeclined):
		return
	case b != nil && b.htype == htypeEthernet && b.chaddr == string(mac):
		return
	case b == nil || b.state == StateFree:
		if !n.dynamic(v) || s.tally.states[StateDeclined] >= maxDeclined {
			return
		}
	}
	client := ""
	if b != nil && b.state == StateOffered {
		client = net.HardwareAddr(b.chaddr).String()
		if p := s.probes.of[b]; p != nil {
			s.probes.conflicts++
			s.retry(p, now)
		}
		s.lapse(n, b)
	}
	if b = n.byIP[v]; b != nil {
		n.forget(b)
	}
	s.leaveAlone(n, v, mac, now)
	log := s.log.With("ip", ip, "by", mac.String(), "offered_to", client, "for", s.cfg.DeclineHold)
	if h := n.hostIP[v]; h != nil {
		log.Error("a reserved address is in use by somebody else")
		s.event(EventAlarm, n.byIP[v], "reserved for "+h.who())
	} else {
		log.Warn("an address is in use by somebody without a lease")
		s.event(EventConflict, n.byIP[v], "")
	}
}

// retry has the client of a claimed address offered another. That is left to
// the timer, for it may end in a question and an answer, and whoever heard the
// claim must not wait. After a few addresses the client's next DISCOVER has to
// do: its first is too old by then.
func (s *Server) retry(p *probe, now time.Duration) {
	s.unprobe(p.b)
	if p.tries++; p.tries >= maxClaims {
		return
	}
	again := *p
	again.b, again.due = nil, now
	s.probes.queue = slices.Insert(s.probes.queue, 0, &again)
	s.armProbes()
}

// leaveAlone quarantines an address that a station uses, in its name.
func (s *Server) leaveAlone(n *network, ip uint32, mac net.HardwareAddr, now time.Duration) {
	key := string(append([]byte{keyHardware, htypeEthernet}, mac...))
	b := &binding{
		ip: ip, htype: htypeEthernet,
		tenure: tenure{state: StateDeclined, key: key, chaddr: key[2:], start: now, expires: now + s.cfg.DeclineHold},
	}
	n.byIP[ip] = b
	s.tally.add(b)
	s.expiry.set(b)
	s.arm()
	n.settle(ip)
	s.queue(b, Change{Segment: s.segment, Lease: s.leaseOf(b)})
}
