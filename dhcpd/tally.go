package dhcpd

import (
	"net/netip"
	"unique"
)

// tally counts a segment's addresses by state, and those that the clients of
// each port hold, so that neither a request nor a scrape has to walk over them.
type tally[B tenancy] struct {
	states [StateReserved + 1]int
	ports  map[string]*portUse
	ended  func(B) // told of those that are no longer bound
}

// portUse is what the clients of one port hold.
type portUse struct {
	held int  // leases and offers
	full bool // said so already
}

func (t *tally[B]) hold(port string, n int) {
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
func (t *tally[B]) add(b B) {
	h := b.held()
	t.states[h.state]++
	t.hold(h.port(), 1)
}

func (t *tally[B]) remove(b B) {
	h := b.held()
	t.states[h.state]--
	t.hold(h.port(), -1)
	t.ended(b)
}

// become changes the state of a binding that is counted.
func (t *tally[B]) become(b B, to State) {
	h := b.held()
	t.states[h.state]--
	t.states[to]++
	was := h.port()
	h.state = to
	if now := h.port(); now != was {
		t.hold(was, -1)
		t.hold(now, 1)
	}
	if to != StateBound {
		t.ended(b)
	}
}

// stay notes where the client of a counted binding is.
func (t *tally[B]) stay(b B, port string, vtep netip.Addr) {
	p := place{port, vtep}
	h := b.held()
	if h.place != (unique.Handle[place]{}) && h.place.Value() == p {
		return
	}
	t.hold(h.port(), -1)
	h.place = unique.Make(p)
	t.hold(h.port(), 1)
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
	return c.req.MaxLeases > 0 && !c.n.holds(c.key) && s.portFull(c.req.Port, c.req.MaxLeases)
}

// pool is how many addresses any client may get, used how many of those are
// held or left alone.
func (n *network) pool() int { return n.total - n.kept }
func (n *network) used() int { return n.pool() - n.fresh.count - n.free.n }
