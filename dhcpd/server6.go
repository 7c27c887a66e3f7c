package dhcpd

import (
	linked "container/list"
	"net/netip"
	"sync"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"
)

// Server6 is the DHCPv6 service of one segment. Its methods may be called from
// any goroutine; none waits for the disk.
type Server6 struct {
	core[*binding6]

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
	strays  strays
}

// call6 is one request on its way through the server.
type call6 struct {
	m   *message6
	req *Request
	h   *host6 // the client's reservation
	hw  [][6]byte
	now time.Duration

	key [5 + maxDUID]byte // room for keyOf

	commits bool // what is given is the client's once it is durable, not only advertised

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
	out, _ := s.handle(req, reply, true)
	return out
}

// TryServe is Serve for who must not even wait for others that are at work on the
// segment, as Server.TryServe is.
func (s *Server6) TryServe(req *Request, reply func(Reply)) (out Outcome, done bool) {
	return s.handle(req, reply, false)
}

func (s *Server6) handle(req *Request, reply func(Reply), wait bool) (Outcome, bool) {
	sc := scratches6.Get().(*scratch6)
	defer sc.done()
	m := &sc.msg
	valid := m.parse(req.Payload) && m.valid(req)
	c := &sc.call6
	c.m, c.req, c.now = m, req, s.svc.elapsed()
	c.reply, c.hw = reply, m.hardware(sc.macs[:0], req.SrcMAC)
	if wait {
		s.mu.Lock()
	} else if !s.mu.TryLock() {
		return 0, false
	} else if !s.quick(c) {
		s.mu.Unlock()
		return 0, false
	}
	out := Malformed
	if valid {
		out = s.serve(c)
	}
	s.outcomes[out]++
	s.unlock()
	if c.out.Payload != nil && out != Pending {
		reply(c.out)
	}
	return out, true
}

// quick is Server.quick.
func (s *Server6) quick(c *call6) bool {
	return c.m.typ != dhcpv6.MessageTypeDecline && !s.overdue(c.now)
}

// done gives the scratch back; nothing of the request is kept.
func (sc *scratch6) done() {
	clear(sc.ias)
	sc.call6 = call6{ias: sc.ias[:0], taken: sc.taken[:0]}
	sc.msg.reset()
	scratches6.Put(sc)
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
