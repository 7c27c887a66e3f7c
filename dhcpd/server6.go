package dhcpd

import (
	linked "container/list"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"
	"unique"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"
)

// Server6 is the DHCPv6 service of one segment. Its methods may be called from
// any goroutine; none waits for the disk.
type Server6 struct {
	svc     *Service
	segment uint32
	log     *slog.Logger

	mu    sync.Mutex
	cfg   SegmentConfig6
	duid  []byte // server identifier
	times lifetimes
	opts  []Option6 // the segment's, DNS servers and search list included
	hosts hosts6
	live  []Reservation6 // made by Reserve, on top of the configuration's
	pools []*pool6       // ranges, then delegations

	all     map[netip.Prefix]*binding6
	clients map[string]*binding6 // a client's lease, present or past
	offers  map[string]*binding6 // what a client was advertised and has not taken
	offered linked.List          // *binding6, oldest first
	expiry  expiryHeap6
	strays  strays
	ports   map[string]int  // leases and offers of the clients of a port
	crowded map[string]bool // ports of which it was said that they have all that they may
	seq     uint64
	closed  bool
	removed bool // closed, and somebody else may serve the segment by now

	timer *time.Timer
	wakes time.Duration // when the timer fires

	in, out  [MessageTypes]uint64
	outcomes [Outcomes]uint64
	events   []Event // told when the lock is let go
}

// call6 is one request on its way through the server.
type call6 struct {
	m   *message6
	req *Request
	h   *host6 // the client's reservation
	hw  [][6]byte
	now time.Duration

	key [5 + maxDUID]byte // room for keyOf

	ias   []iaReply
	taken []netip.Prefix // by identity associations of this message
	parts []part6        // changes to make durable before the reply leaves
	bad   Outcome        // why an identity association has no lease

	reply func(Reply)
	out   Reply // its payload is nil where there is none
}

// scratch6 is what a request needs while it is served, reused.
type scratch6 struct {
	call6
	msg  message6
	macs [2][6]byte
}

var scratches6 = sync.Pool{New: func() any { return new(scratch6) }}

// Serve takes one request. It never waits: reply is called before Serve returns
// (Answered, NoLease, PortFull), or later from the commit loop (Pending), or not
// at all. reply must not call into the Service.
//
// Request.Payload is the message of a client or of a relay, Reply.Payload the
// one to send back. Reply.Src is zero: any address of the service in the segment
// will do, for a client on the link its link-local one.
func (s *Server6) Serve(req *Request, reply func(Reply)) Outcome {
	sc := scratches6.Get().(*scratch6)
	defer func() {
		// Nothing of the request is kept.
		clear(sc.ias)
		sc.call6 = call6{ias: sc.ias[:0], taken: sc.taken[:0]}
		sc.msg.reset()
		scratches6.Put(sc)
	}()
	m := &sc.msg
	valid := m.parse(req.Payload) && m.valid(req)
	c := &sc.call6
	c.m, c.req, c.reply, c.now = m, req, reply, s.svc.elapsed()
	c.hw = m.hardware(sc.macs[:0], req.SrcMAC)

	s.mu.Lock()
	out := Malformed
	if valid {
		out = s.serve(c)
	}
	s.outcomes[out]++
	s.unlock()
	if c.out.Payload != nil && out != Pending {
		reply(c.out)
	}
	return out
}

// valid says that a server may take the message at all (RFC 8415 section 16).
func (m *message6) valid(req *Request) bool {
	if !req.Src.Is6() || req.Src.IsUnspecified() || req.Src.IsMulticast() {
		return false // an answer would go nowhere
	}
	unicast := len(m.relays) == 0 && !req.Dst.IsMulticast()
	switch m.typ {
	case dhcpv6.MessageTypeSolicit, dhcpv6.MessageTypeConfirm, dhcpv6.MessageTypeRebind:
		return !unicast && m.clientID != nil && m.serverID == nil
	case dhcpv6.MessageTypeRequest, dhcpv6.MessageTypeRenew, dhcpv6.MessageTypeRelease, dhcpv6.MessageTypeDecline:
		return m.clientID != nil && m.serverID != nil
	case dhcpv6.MessageTypeInformationRequest:
		return !unicast && !m.hasIA()
	}
	return true
}

func (s *Server6) serve(c *call6) Outcome {
	m := c.m
	if s.closed {
		return Stopped
	}
	if int(m.typ) < len(s.in) {
		s.in[m.typ]++
	}
	s.expire(c.now)
	if m.serverID != nil && string(m.serverID) != string(s.duid) {
		return IgnoredOtherServer
	}
	// A relay that tells no link is a switch on the segment itself (RFC 6221).
	if link := m.link(); link.IsValid() && !s.cfg.Subnet.Contains(link) {
		return IgnoredSubnet
	}
	c.h = s.hosts.of(m, c.hw, c.req.Port)
	switch m.typ {
	case dhcpv6.MessageTypeSolicit:
		return s.solicit(c)
	case dhcpv6.MessageTypeConfirm:
		return s.confirm(c)
	case dhcpv6.MessageTypeRebind:
		return s.extend(c)
	case dhcpv6.MessageTypeInformationRequest:
		return s.answer(c, dhcpv6.MessageTypeReply, nil)
	case dhcpv6.MessageTypeRequest, dhcpv6.MessageTypeRenew, dhcpv6.MessageTypeRelease, dhcpv6.MessageTypeDecline:
	default:
		return IgnoredType
	}
	if len(m.relays) == 0 && !c.req.Dst.IsMulticast() {
		// No client was allowed that (RFC 8415 sections 18.3.2, 18.3.4, 18.3.7, 18.3.8).
		return s.answer(c, dhcpv6.MessageTypeReply, &status6{code: iana.StatusUseMulticast, text: "send it to the multicast address"})
	}
	switch m.typ {
	case dhcpv6.MessageTypeRequest:
		return s.request(c)
	case dhcpv6.MessageTypeRenew:
		return s.extend(c)
	case dhcpv6.MessageTypeRelease:
		return s.release(c)
	}
	return s.decline(c)
}

// unlock lets go of the lock and tells what happened under it.
func (s *Server6) unlock() {
	events := s.events
	s.events = nil
	s.mu.Unlock()
	for _, e := range events {
		s.svc.cfg.Events(e)
	}
}

func (s *Server6) event(kind EventKind, b *binding6, detail string) {
	if s.svc.cfg.Events == nil {
		return
	}
	e := Event{Time: s.svc.wall(), Segment: s.segment, Kind: kind, Detail: detail}
	if b != nil {
		e.Lease = s.leaseOf(b)
	}
	s.events = append(s.events, e)
}

// current says that a binding is still the address's.
func (s *Server6) current(b *binding6) bool { return s.all[b.prefix] == b }

// expire ends what has run out.
func (s *Server6) expire(now time.Duration) {
	for len(s.expiry) > 0 && s.expiry[0].expires <= now {
		b := s.expiry[0]
		s.expiry.remove(b)
		switch b.state {
		case StateOffered:
			s.lapse(b)
		case StateBound:
			s.event(EventExpired, b, "")
			b.state = StateFree
			s.settle(b)
		case StateDeclined:
			s.forget(b)
		}
	}
	s.arm()
}

// lapse ends an offer. Its client is still remembered if it once had the lease.
func (s *Server6) lapse(b *binding6) {
	s.expiry.remove(b)
	if s.offers[b.key] == b {
		delete(s.offers, b.key)
	}
	if s.clients[b.key] == b {
		b.state = StateFree
		s.settle(b)
		return
	}
	s.forget(b)
}

// arm sets the timer to the next expiry, as Server.arm does.
func (s *Server6) arm() {
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

func (s *Server6) sweep() {
	s.mu.Lock()
	s.wakes = 0
	if !s.closed {
		s.expire(s.svc.elapsed())
	}
	s.unlock()
}

// settle puts a binding where its state says it belongs. Whoever changes the
// state calls it.
func (s *Server6) settle(b *binding6) {
	s.count(b)
	if b.offer != nil && b.state != StateOffered {
		s.offered.Remove(b.offer)
		b.offer = nil
	}
	if b.unused != nil && (b.state != StateFree || b.pool == nil) {
		b.pool.unused.Remove(b.unused)
		b.unused = nil
	}
	switch {
	case b.state != StateFree:
	case b.pool != nil:
		if b.unused == nil {
			b.unused = b.pool.unused.PushBack(b)
			s.remember(b.pool)
		}
	case s.hosts.at[b.prefix] == nil:
		s.forget(b) // nobody can get it any more, so there is nothing to remember
	}
	if b.pool != nil {
		s.watch(b.pool)
	}
}

// MaxUnused is how many ended leases a pool remembers. A pool may be too large
// ever to run out, and clients that were here once are many; one that is
// forgotten gets the same address again, from the hash, as a rule.
const MaxUnused = 16384

// remember forgets the longest unused of a pool's ended leases beyond MaxUnused.
func (s *Server6) remember(p *pool6) {
	for p.unused.Len() > MaxUnused {
		b := p.unused.Front().Value.(*binding6)
		if b.stored {
			s.queue(b, Change{Segment: s.segment, Delete: true, Lease: s.leaseOf(b)})
		}
		s.forget(b)
	}
}

// forget removes a binding altogether.
func (s *Server6) forget(b *binding6) {
	s.expiry.remove(b)
	if s.clients[b.key] == b {
		delete(s.clients, b.key)
	}
	if s.offers[b.key] == b {
		delete(s.offers, b.key)
	}
	if !s.current(b) {
		return
	}
	delete(s.all, b.prefix)
	b.state = StateFree
	s.count(b)
	if b.offer != nil {
		s.offered.Remove(b.offer)
		b.offer = nil
	}
	if b.unused != nil {
		b.pool.unused.Remove(b.unused)
		b.unused = nil
	}
	if b.pool != nil {
		p := b.pool
		p.held--
		b.pool = nil
		s.watch(p)
	}
	if b.stray {
		s.strays.mark(b.prefix, -1)
		b.stray = false
	}
}

// count keeps the number of leases and offers of each port.
func (s *Server6) count(b *binding6) {
	port := ""
	if (b.state == StateBound || b.state == StateOffered) && b.place != (unique.Handle[place]{}) {
		port = b.place.Value().port
	}
	if port == b.counted {
		return
	}
	if b.counted != "" {
		if s.ports[b.counted]--; s.ports[b.counted] == 0 {
			delete(s.ports, b.counted)
			delete(s.crowded, b.counted)
		}
	}
	if port != "" {
		s.ports[port]++
	}
	b.counted = port
}

// portFull says that the client, which has no lease, may not have one: those of
// its port are all that the port may have.
func (s *Server6) portFull(c *call6) bool {
	port, most := c.req.Port, c.req.MaxLeases
	if most <= 0 || port == "" {
		return false
	}
	held := s.ports[port]
	if held < most {
		delete(s.crowded, port)
		return false
	}
	if !s.crowded[port] {
		s.crowded[port] = true
		s.log.Warn("the clients of a port have all the leases of DHCPv6 that they may", "port", port, "leases", held)
		s.event(EventPortFull, nil, fmt.Sprintf("port %s: %d leases of DHCPv6", port, held))
	}
	return true
}

// watch tells that nearly all of a pool is in use: at nine tenths, and again
// once it was below eight.
func (s *Server6) watch(p *pool6) {
	in, of := p.level()
	switch {
	case of > highFrom || in*10 < of*8:
		p.high = false
	case in*10 >= of*9 && of > 0 && !p.high:
		p.high = true
		s.log.Warn("nine tenths of a pool are in use", "pool", p.name, "used", in, "of", of)
		s.event(EventPoolHigh, nil, fmt.Sprintf("%s: %d of %d", p.name, in, of))
	}
}

// hold makes the address the client's for as long as an offer is held; the
// caller has checked that the client may have it. A lease that the client has
// on it already stays what it is.
func (s *Server6) hold(c *call6, key []byte, p netip.Prefix) *binding6 {
	b := s.all[p]
	if b != nil && b.key != string(key) {
		if b.state == StateFree {
			s.forget(b)
			b = nil
		} else {
			s.rekey(b, string(key)) // the same client under another identity
		}
	}
	if b == nil {
		b = &binding6{prefix: p, key: string(key)}
		s.all[p] = b
		s.join(b)
	}
	if b.state != StateBound {
		s.seen(c, b)
		s.offer(b, c.now)
		return b
	}
	s.withdraw(b)
	return b
}

// join tells a binding which pool it takes an address of.
func (s *Server6) join(b *binding6) {
	if p := s.poolOf(b.prefix); p != nil && s.hosts.at[b.prefix] == nil {
		b.pool = p
		p.held++
	}
}

// withdraw lapses the offer that the client of b has besides b: a client is
// offered one address at a time.
func (s *Server6) withdraw(b *binding6) {
	if old := s.offers[b.key]; old != nil && old != b {
		s.lapse(old)
	}
}

// offer puts a binding at the end of the queue of offers.
func (s *Server6) offer(b *binding6, now time.Duration) {
	s.withdraw(b)
	b.state = StateOffered
	b.expires = now + s.cfg.OfferHold
	s.offers[b.key] = b
	if b.offer == nil {
		b.offer = s.offered.PushBack(b)
	} else {
		s.offered.MoveToBack(b.offer)
	}
	s.expiry.set(b)
	s.arm()
	s.settle(b)
	if s.offered.Len() > s.cfg.MaxOffers {
		s.lapse(s.offered.Front().Value.(*binding6))
	}
}

// rekey gives a binding another owner, both being who one reservation names.
// What the new owner had before is given up as when a client moves.
func (s *Server6) rekey(b *binding6, key string) {
	if o := s.offers[key]; o != nil {
		s.lapse(o)
	}
	if s.clients[b.key] == b {
		delete(s.clients, b.key)
		b.supersede(s.clients[key])
		s.clients[key] = b
	}
	if s.offers[b.key] == b {
		delete(s.offers, b.key)
		s.offers[key] = b
	}
	b.key = key
}

// seen notes what a client says of itself and where it is.
func (s *Server6) seen(c *call6, b *binding6) {
	if len(c.hw) > 0 && b.chaddr != string(c.hw[0][:]) {
		b.chaddr = string(c.hw[0][:])
	}
	name := c.m.hostname()
	if c.h != nil && c.h.Hostname != "" {
		b.hostname = c.h.Hostname
	} else if b.hostname != string(name) {
		b.hostname = string(name)
	}
	var relay []byte
	if n := len(c.m.relays); n > 0 {
		relay = findOption(c.m.relays[n-1].options, dhcpv6.OptionInterfaceID)
	}
	if b.relay != string(relay) {
		b.relay = string(relay)
	}
	b.stay(place{c.req.Port, c.req.VTEP})
	s.count(b)
}

// leaseOf is a binding as others see it.
func (s *Server6) leaseOf(b *binding6) Lease {
	zero := s.svc.zero()
	l := Lease{
		IP: b.prefix.Addr(), State: b.state, CHAddr: b.chaddr, ClientID: duidOf(b.key), IAID: iaidOf(b.key),
		Hostname: b.hostname, Relay: b.relay,
		Start: zero.Add(b.start).Truncate(time.Millisecond), Expires: zero.Add(b.expires).Truncate(time.Millisecond),
	}
	if b.prefix.Bits() < 128 {
		l.PrefixLen = uint8(b.prefix.Bits())
	}
	if b.chaddr != "" {
		l.HType = htypeEthernet
	}
	if b.place != (unique.Handle[place]{}) {
		p := b.place.Value()
		l.Port, l.VTEP = p.port, p.vtep
	}
	return l
}
