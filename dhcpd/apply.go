package dhcpd

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
)

// apply puts a configuration in force; the lock is held or the server not yet
// known to anybody. Subnets whose addresses do not change keep their state as
// it is, whatever the number of leases; the others are filled anew.
func (s *Server) apply(cfg SegmentConfig) error {
	if f := cfg.Validate(); len(f) > 0 {
		return fmt.Errorf("dhcp of segment %d: %w", s.segment, f[0])
	}
	cfg = cfg.withDefaults()
	var nets []*network
	for _, r := range append([]RelaySubnet{cfg.own()}, cfg.Relays...) {
		nets = append(nets, newNetwork(&r, cfg.Server, &s.tally))
	}
	for _, r := range cfg.Hosts {
		addReservation(nets, newHost(r))
	}
	// One made live gives way to what the configuration says of its address or
	// its client, and is back once that is gone.
	for _, r := range s.live {
		if h := newHost(r); cfg.hasRoomFor(r) && rivalOf(nets, h) == nil {
			h.live = true
			addReservation(nets, h)
		}
	}
	old := append(slices.Clone(s.nets), s.stray)
	s.cfg, s.ip, s.nets, s.stray = cfg, toU32(cfg.Server), nets, newStray(&s.tally)
	s.classes = newClasses(cfg.Classes)
	for i, n := range nets {
		n.open()
		for j, o := range old {
			if o != nil && o.sameAddresses(n) {
				o.adopt(n)
				nets[i], old[j] = o, nil
				break
			}
		}
	}
	var moved []*binding
	for _, o := range old {
		if o != nil {
			moved = slices.AppendSeq(moved, maps.Values(o.byIP))
		}
	}
	s.insertAll(moved)
	return nil
}

// insertAll inserts many bindings, those that ended first in front, so that the
// longest unused address is the next to be given out.
func (s *Server) insertAll(bs []*binding) {
	slices.SortFunc(bs, func(a, b *binding) int { return cmp.Compare(a.expires, b.expires) })
	for _, b := range bs {
		s.insert(b)
	}
}

// insert puts a binding where the configuration now wants it.
func (s *Server) insert(b *binding) {
	n := s.home(b.ip)
	if b.state != StateOffered {
		b.unlist()
	}
	n.byIP[b.ip] = b
	switch b.state {
	case StateOffered:
		n.offers[b.key] = b
	case StateDeclined:
	default:
		// One client has one lease in a subnet; should there be two, the one that it
		// was given last counts, then the one that lasts, or ended last.
		o := n.byKey[b.key]
		switch {
		case o == nil, b.state == StateBound && o.state == StateFree, b.state == o.state && newer(b, o) > 0:
			n.byKey[b.key] = b
		}
	}
	n.settle(b.ip)
}

// newer compares two leases of a client.
func newer(a, b *binding) int {
	if a.state == StateFree {
		return cmp.Compare(a.expires, b.expires)
	}
	return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(a.expires, b.expires))
}

// addReservation puts a reservation into the subnet of its address, one without
// an address into all.
func addReservation(nets []*network, h *host) {
	for _, n := range nets {
		if h.ip == 0 || n.contains(h.ip) {
			n.addHost(h)
		}
	}
}

// rivalOf is a reservation that keeps h from being added, nil if there is none.
func rivalOf(nets []*network, h *host) *host {
	for _, n := range nets {
		if h.ip == 0 || n.contains(h.ip) {
			if o := n.rival(h); o != nil {
				return o
			}
		}
	}
	return nil
}

func newHost(r Reservation) *host {
	h := &host{Reservation: r, ip: toU32(r.IP)}
	h.opts, h.boot = newBoot(newOptionList(r.Options), r.NextServer, r.BootFile)
	if _, given := h.opts.get(optHostname); r.Hostname != "" && !given {
		h.opts = append(h.opts, Option{Code: optHostname, Data: []byte(r.Hostname)})
	}
	return h
}
