package dhcpd

import (
	"log/slog"
	"sync"
	"time"
	"unique"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// Server is the DHCP service of one segment. Its methods may be called from
// any goroutine; none waits for the disk.
type Server struct {
	svc     *Service
	segment uint32
	log     *slog.Logger

	mu      sync.Mutex
	cfg     SegmentConfig
	ip      uint32     // server identifier
	nets    []*network // the segment's own subnet first
	stray   *network   // leases outside every subnet, until they end
	classes []class
	live    []Reservation // made by Reserve, on top of the configuration's
	expiry  expiryHeap
	offered list // oldest first
	tally   tally
	probes  probes
	seq     uint64
	audience[*binding]
	closed  bool
	removed bool // closed, and somebody else may serve the segment by now

	timer *time.Timer
	wakes time.Duration // when the timer fires

	in, out  [MessageTypes]uint64
	outcomes [Outcomes]uint64
	events   []Event // told when the lock is let go
}

// call is one request on its way through the state machine.
type call struct {
	m   *message
	req *Request
	n   *network
	h   *host // the client's reservation
	key []byte
	now time.Duration

	fresh bool // the address that was found is one that the client did not have
	tries int  // addresses that were claimed by others meanwhile

	reply func(Reply)
	out   Reply   // answered at once
	buf   *buffer // holds out's payload
}

// scratch is what a request needs while it is served, reused.
type scratch struct {
	call
	msg  message
	room [260]byte // for the key
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// buffer holds a reply until it was sent.
type buffer [maxPayload]byte

var buffers = sync.Pool{New: func() any { return new(buffer) }}

// done sends an answer that need not wait and gives the scratch back; nothing of
// the request is kept.
func (sc *scratch) done() {
	if sc.buf != nil {
		sc.reply(sc.out)
		buffers.Put(sc.buf)
	}
	sc.call, sc.msg = call{}, message{}
	scratches.Put(sc)
}

// Serve takes one request. It never waits for the disk: reply is called before
// Serve returns (Answered), or later from the commit loop (Pending) or once an
// address was probed (Probing), or not at all.
// An outcome of Answered without a call belongs to a message that has no
// answer. reply must not call into the Service.
func (s *Server) Serve(req *Request, reply func(Reply)) Outcome {
	out, _ := s.handle(req, reply, true)
	return out
}

// TryServe is Serve for who must not even wait for others that are at work on the
// segment: what is quickly decided is, and else it returns false and has done
// nothing.
func (s *Server) TryServe(req *Request, reply func(Reply)) (out Outcome, done bool) {
	return s.handle(req, reply, false)
}

func (s *Server) handle(req *Request, reply func(Reply), wait bool) (Outcome, bool) {
	sc := scratches.Get().(*scratch)
	defer sc.done()
	m := &sc.msg
	out := m.parse(req.Payload)
	if out == Answered {
		sc.call = call{m: m, req: req, key: m.appendKey(sc.room[:0]), reply: reply, now: s.svc.elapsed()}
	}
	switch {
	case wait:
		s.mu.Lock()
	case !s.mu.TryLock():
		return 0, false
	case out == Answered && !s.quick(&sc.call):
		s.mu.Unlock()
		return 0, false
	}
	if out == Answered {
		if int(m.typ) < len(s.in) && !s.closed && (!m.bootp || s.cfg.BOOTP) {
			s.in[m.typ]++
		}
		out = s.serve(&sc.call)
	}
	s.outcomes[out]++
	s.unlock()
	return out, true
}

// quick says that a request is not a DECLINE, each of which is logged, and that
// none of the many leases that there may be is about to end.
func (s *Server) quick(c *call) bool {
	return c.m.typ != dhcpv4.MessageTypeDecline && (len(s.expiry) == 0 || s.expiry[0].expires > c.now)
}

// serve decides on a request; the lock is held.
func (s *Server) serve(c *call) Outcome {
	if s.closed {
		return Stopped
	}
	if c.m.bootp && !s.cfg.BOOTP {
		return IgnoredBOOTP
	}
	s.expire(c.now)
	if c.n = s.netFor(c.m); c.n == nil {
		return IgnoredSubnet
	}
	c.h = c.n.hostOf(c)
	s.watch(c.n)
	out := s.dispatch(c)
	s.watch(c.n)
	return out
}

// dispatch does what the message type asks for.
func (s *Server) dispatch(c *call) Outcome {
	if c.m.bootp {
		return s.bootp(c)
	}
	switch c.m.typ {
	case dhcpv4.MessageTypeDiscover:
		return s.discover(c)
	case dhcpv4.MessageTypeRequest:
		return s.request(c)
	case dhcpv4.MessageTypeDecline:
		return s.decline(c)
	case dhcpv4.MessageTypeRelease:
		return s.release(c)
	case dhcpv4.MessageTypeInform:
		return s.inform(c)
	}
	return IgnoredType
}

// unlock lets go of the lock, asks what came up under it and tells what happened.
func (s *Server) unlock() {
	events, asks, ask := s.events, s.probes.asks, s.probes.ask
	s.events, s.probes.asks = nil, nil
	s.mu.Unlock()
	for _, ip := range asks {
		ask(ip)
	}
	for _, e := range events {
		s.svc.cfg.Events(e)
	}
}

func (s *Server) event(kind EventKind, b *binding, detail string) {
	if s.svc.cfg.Events == nil {
		return
	}
	e := Event{Time: s.svc.wall(), Segment: s.segment, Kind: kind, Detail: detail}
	if b != nil {
		e.Lease = s.leaseOf(b)
	}
	s.events = append(s.events, e)
}

// netFor is the subnet that a client sits in: that of the link that the relay
// names (RFC 3527), that which the client selects (RFC 3011), the relay's own;
// for a client that speaks from an address, that of the address; else the
// segment's.
func (s *Server) netFor(m *message) *network {
	switch {
	case m.giaddr != 0 && m.hasLink:
		return s.netOf(m.link)
	case s.cfg.SubnetSelection && m.hasSubnet:
		return s.netOf(m.subnet)
	case m.giaddr != 0:
		return s.netOf(m.giaddr)
	case m.ciaddr != 0 && m.typ != dhcpv4.MessageTypeDiscover:
		if n := s.netOf(m.ciaddr); n != nil {
			return n
		}
	}
	return s.nets[0]
}

func (s *Server) netOf(ip uint32) *network {
	for _, n := range s.nets {
		if n.contains(ip) {
			return n
		}
	}
	return nil
}

// home is where the bindings of an address are kept.
func (s *Server) home(ip uint32) *network {
	if n := s.netOf(ip); n != nil {
		return n
	}
	return s.stray
}

// current says that a binding is still the address's.
func (s *Server) current(b *binding) bool { return s.home(b.ip).byIP[b.ip] == b }

// expire ends what has run out.
func (s *Server) expire(now time.Duration) {
	for len(s.expiry) > 0 && s.expiry[0].expires <= now {
		b := s.expiry[0]
		n := s.home(b.ip)
		s.expiry.remove(b)
		switch b.state {
		case StateOffered:
			s.lapse(n, b)
		case StateBound:
			s.event(EventExpired, b, "")
			s.tally.become(b, StateFree)
			n.settle(b.ip)
		case StateDeclined:
			n.forget(b)
		}
	}
	s.arm()
}

// lapse ends an offer. Its client is still remembered if it once had the lease.
func (s *Server) lapse(n *network, b *binding) {
	s.unprobe(b)
	s.expiry.remove(b)
	if n.offers[b.key] == b {
		delete(n.offers, b.key)
	}
	if n.byKey[b.key] == b {
		b.unlist()
		s.tally.become(b, StateFree)
		n.settle(b.ip)
		return
	}
	n.forget(b)
}

// minSweep keeps a burst of expiries from waking the process for each.
const minSweep = time.Second

// arm sets the timer to the next expiry. An idle segment has no other wake-up,
// and while leases are only prolonged the timer is left as it is.
func (s *Server) arm() {
	if len(s.expiry) == 0 || s.closed || s.wakes != 0 && s.wakes <= s.expiry[0].expires {
		return
	}
	wait := max(s.expiry[0].expires-s.svc.elapsed(), minSweep)
	s.wakes = s.expiry[0].expires
	if s.timer == nil {
		s.timer = time.AfterFunc(wait, s.sweep)
		return
	}
	s.timer.Reset(wait)
}

func (s *Server) sweep() {
	s.mu.Lock()
	s.wakes = 0
	if !s.closed {
		s.expire(s.svc.elapsed())
	}
	s.unlock()
}

// hold makes the address the client's for as long as an offer is held; the
// caller has checked that the client may have it. A lease that the client has
// on it already stays what it is.
func (s *Server) hold(c *call, ip uint32) *binding {
	n := c.n
	b := n.byIP[ip]
	if b != nil && b.key != string(c.key) {
		if b.state == StateFree {
			n.forget(b)
			b = nil
		} else {
			s.rekey(n, b, string(c.key)) // the same client under another identity
		}
	}
	if b == nil {
		b, c.fresh = &binding{ip: ip, key: string(c.key)}, true
		n.byIP[ip] = b
		s.tally.add(b)
	}
	if b.state == StateBound {
		s.withdraw(n, b)
	} else {
		s.seen(c, b)
		s.offer(n, b, c.now)
	}
	return b
}

// withdraw lapses the offer that the client of b has besides b: a client is
// offered one address at a time.
func (s *Server) withdraw(n *network, b *binding) {
	if old := n.offers[b.key]; old != nil && old != b {
		s.lapse(n, old)
	}
}

// offer puts a binding at the end of the queue of offers.
func (s *Server) offer(n *network, b *binding, now time.Duration) {
	s.withdraw(n, b)
	b.unlist()
	s.tally.become(b, StateOffered)
	b.expires = now + s.cfg.OfferHold
	n.offers[b.key] = b
	s.offered.push(b)
	s.expiry.set(b)
	s.arm()
	n.settle(b.ip)
	if s.offered.n > s.cfg.MaxOffers {
		old := s.offered.head
		s.lapse(s.home(old.ip), old)
	}
}

// rekey gives a binding another owner, both being who one reservation names.
// What the new owner had before is given up as when a client moves.
func (s *Server) rekey(n *network, b *binding, key string) {
	if o := n.offers[key]; o != nil {
		s.lapse(n, o)
	}
	if n.byKey[b.key] == b {
		delete(n.byKey, b.key)
		b.supersede(n.byKey[key])
		n.byKey[key] = b
	}
	if n.offers[b.key] == b {
		delete(n.offers, b.key)
		n.offers[key] = b
	}
	b.key = key
}

// seen notes what a client says of itself and where it is.
func (s *Server) seen(c *call, b *binding) {
	b.htype = c.m.htype
	if hw := c.m.hardware(); b.chaddr != string(hw) {
		b.chaddr = string(hw)
		if b.key[0] == keyHardware {
			b.chaddr = b.key[2:] // the same bytes
		}
	}
	name := hostnameOf(c.m)
	if c.h != nil && c.h.Hostname != "" {
		b.hostname = c.h.Hostname
	} else if b.hostname != string(name) {
		b.hostname = string(name)
	}
	// A client behind a relay renews without it: what the relay said then
	// still holds (circuit identifier).
	if c.m.giaddr != 0 {
		if b.relay != string(c.m.relay) {
			b.relay = string(c.m.relay)
		}
	} else if c.m.ciaddr == 0 {
		b.relay = ""
	}
	s.tally.stay(b, c.req.Port, c.req.VTEP)
}

// leaseOf is a binding as others see it.
func (s *Server) leaseOf(b *binding) Lease {
	zero := s.svc.zero()
	l := Lease{
		IP: toAddr(b.ip), State: b.state, HType: b.htype,
		CHAddr: b.chaddr, ClientID: b.clientID(), Hostname: b.hostname, Relay: b.relay,
		Start: zero.Add(b.start).Truncate(time.Millisecond), Expires: zero.Add(b.expires).Truncate(time.Millisecond),
	}
	if b.place != (unique.Handle[place]{}) {
		p := b.place.Value()
		l.Port, l.VTEP = p.port, p.vtep
	}
	return l
}
