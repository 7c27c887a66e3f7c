package dhcpd

import (
	"time"
	"unique"
)

// tenancy is a binding of either family.
type tenancy interface {
	comparable
	held() *tenure
}

// tenure is what a binding of either family knows beside what it is of: whose it
// is, since when and until when. The times are of the service's own running clock,
// which no step of the wall clock moves.
type tenure struct {
	state   State
	told    bool   // it is its client's, and the store and all watchers know
	inHeap  int32  // its place in the heap plus one; 0: not there
	awaited int32  // its leases on the way to the disk, each with a reply that waits
	seq     uint64 // the last of its changes

	key      string
	chaddr   string // hardware address, empty if not known
	hostname string
	relay    string
	place    unique.Handle[place] // the zero Handle: not known

	start, expires time.Duration

	// What the disk has of it; a commit that failed goes back to this.
	stored                     bool
	durable                    State
	durableStart, durableUntil time.Duration
}

func (h *tenure) held() *tenure { return h }

// where is the place, zero if it is not known.
func (h *tenure) where() place {
	if h.place == (unique.Handle[place]{}) {
		return place{}
	}
	return h.place.Value()
}

// port is the port at which a lease counts, none if it does not: it is not held,
// or its client is not at a port of this VTEP.
func (h *tenure) port() string {
	if h.state != StateBound && h.state != StateOffered {
		return ""
	}
	return h.where().port
}

// call notes the name of the client: that of its reservation, if it has one, else
// what it calls itself.
func (h *tenure) call(reserved string, own []byte) {
	if reserved != "" {
		h.hostname = reserved
	} else if h.hostname != string(own) {
		h.hostname = string(own)
	}
}

// wrote notes that a change of the lease is durable.
func (h *tenure) wrote(state State, start, until time.Duration) {
	h.stored, h.durable, h.durableStart, h.durableUntil = true, state, start, until
}

// fill adds to a lease, as others see it, what does not depend on its family.
func (h *tenure) fill(l *Lease, zero time.Time) {
	l.State, l.CHAddr, l.Hostname, l.Relay = h.state, h.chaddr, h.hostname, h.relay
	l.Start, l.Expires = zero.Add(h.start).Truncate(time.Millisecond), zero.Add(h.expires).Truncate(time.Millisecond)
	at := h.where()
	l.Port, l.VTEP = at.port, at.vtep
}
