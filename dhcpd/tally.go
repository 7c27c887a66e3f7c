package dhcpd

import (
	"fmt"
	"net/netip"
	"unique"
)

// tally counts a segment's addresses by state, and those that the clients of
// each port hold, so that neither a request nor a scrape has to walk over them.
type tally struct {
	states [StateReserved + 1]int
	ports  map[string]*portUse
	ended  func(*binding) // told of those that are no longer bound
}

// portUse is what the clients of one port hold.
type portUse struct {
	held int  // leases and offers
	full bool // said so already
}

// port is the port at which a binding counts, none if it does not: it is not
// held, or its client is not at a port of this VTEP.
func (b *binding) port() string {
	if b.state != StateBound && b.state != StateOffered || b.place == (unique.Handle[place]{}) {
		return ""
	}
	return b.place.Value().port
}

func (t *tally) hold(port string, n int) {
	if port == "" {
		return
	}
	u := t.ports[port]
	if u == nil {
		u = &portUse{}
		t.ports[port] = u
	}
	if u.held += n; u.held == 0 {
		delete(t.ports, port)
	}
}

// add counts a binding that is new, remove one that goes.
func (t *tally) add(b *binding) {
	t.states[b.state]++
	t.hold(b.port(), 1)
}

func (t *tally) remove(b *binding) {
	t.states[b.state]--
	t.hold(b.port(), -1)
	t.ended(b)
}

// become changes the state of a binding that is counted.
func (t *tally) become(b *binding, to State) {
	t.states[b.state]--
	t.states[to]++
	was := b.port()
	b.state = to
	if now := b.port(); now != was {
		t.hold(was, -1)
		t.hold(now, 1)
	}
	if to != StateBound {
		t.ended(b)
	}
}

// stay notes where the client of a counted binding is.
func (t *tally) stay(b *binding, port string, vtep netip.Addr) {
	p := place{port, vtep}
	if b.place != (unique.Handle[place]{}) && b.place.Value() == p {
		return
	}
	t.hold(b.port(), -1)
	b.place = unique.Make(p)
	t.hold(b.port(), 1)
}

// holds says that the client has a lease or an offer.
func (n *network) holds(key []byte) bool {
	b := n.byKey[string(key)]
	return b != nil && b.state == StateBound || n.offers[string(key)] != nil
}

// full says that the client may not have a lease: it has none, and those of its
// port are all that the port may have. Whoever holds one keeps it, wherever it
// moves.
func (s *Server) full(c *call) bool {
	if c.req.MaxLeases <= 0 || c.req.Port == "" {
		return false
	}
	u := s.tally.ports[c.req.Port]
	if u == nil {
		return false
	}
	if u.held < c.req.MaxLeases {
		u.full = false
		return false
	}
	if c.n.holds(c.key) {
		return false
	}
	if !u.full {
		u.full = true
		s.log.Warn("the clients of a port have all the leases that they may", "port", c.req.Port, "leases", u.held)
		s.event(EventPortFull, nil, fmt.Sprintf("port %s: %d leases", c.req.Port, u.held))
	}
	return true
}

// pool is how many addresses any client may get, used how many of those are
// held or left alone.
func (n *network) pool() int { return n.total - n.kept }
func (n *network) used() int { return n.pool() - n.fresh.count - n.free.n }

// watch tells that nearly all of a subnet's addresses are in use: at nine
// tenths, and again once it was below eight.
func (s *Server) watch(n *network) {
	pool, used := n.pool(), n.used()
	switch {
	case used*10 < pool*8:
		n.high = false
	case used*10 >= pool*9 && pool > 0 && !n.high:
		n.high = true
		s.log.Warn("nine tenths of a pool are in use", "subnet", n.subnet, "used", used, "of", pool)
		s.event(EventPoolHigh, nil, fmt.Sprintf("%s: %d of %d addresses", n.subnet, used, pool))
	}
}
