package dhcpd

import (
	"sync"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// Server is the DHCP service of one segment. Its methods may be called from
// any goroutine; none waits for the disk.
type Server struct {
	core[*binding]

	cfg     SegmentConfig
	ip      uint32     // server identifier
	nets    []*network // the segment's own subnet first
	stray   *network   // leases outside every subnet, until they end
	classes []class
	live    []Reservation // made by Reserve, on top of the configuration's
	offered list          // oldest first
	probes  probes
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
	return c.m.typ != dhcpv4.MessageTypeDecline && !s.overdue(c.now)
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
	s.watchPool(c.n)
	out := s.dispatch(c)
	s.watchPool(c.n)
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

// watchPool tells that nearly all of a subnet's addresses are in use.
func (s *Server) watchPool(n *network) { s.watch(&n.level, n, n.used(), n.pool()) }

// unlock lets go of the lock, tells what happened and asks what came up under it.
func (s *Server) unlock() {
	asks, ask := s.probes.asks, s.probes.ask
	s.probes.asks = nil
	s.core.unlock()
	for _, ip := range asks {
		ask(ip)
	}
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

// leaves says that the client of b has another lease on its way to the disk.
func (s *Server) leaves(b *binding) bool { return s.home(b.ip).byKey[b.key] != b }

// runOut ends a lease or an offer, or the time for which an address is left alone.
func (s *Server) runOut(b *binding) {
	n := s.home(b.ip)
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
		b, c.fresh = &binding{ip: ip, tenure: tenure{key: string(c.key)}}, true
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
	reserved := ""
	if c.h != nil {
		reserved = c.h.Hostname
	}
	b.call(reserved, hostnameOf(c.m))
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
	l := Lease{IP: toAddr(b.ip), HType: b.htype, ClientID: b.clientID()}
	b.fill(&l, s.svc.zero())
	return l
}
