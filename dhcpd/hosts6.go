package dhcpd

import "net/netip"

// host6 is a compiled reservation. Either of its address and its prefix may be
// zero: any of the pools.
type host6 struct {
	Reservation6
	live bool // made by Reserve, not the configuration's
	addr netip.Prefix
	pd   netip.Prefix
}

func newHost6(r Reservation6) *host6 {
	h := &host6{Reservation6: r, pd: r.Prefix}
	if r.IP.IsValid() {
		h.addr = address6(r.IP)
	}
	return h
}

// reserved is what the reservation keeps.
func (h *host6) reserved() (out []netip.Prefix) {
	for _, p := range []netip.Prefix{h.addr, h.pd} {
		if p.IsValid() {
			out = append(out, p)
		}
	}
	return out
}

// who names the reservation's client in logs.
func (h *host6) who() string {
	switch {
	case len(h.DUID) > 0:
		return "duid " + hexString(h.DUID)
	case len(h.MAC) > 0:
		return h.MAC.String()
	}
	return "port " + h.Port
}

// Names says whether the lease is that of the reservation's client.
func (r Reservation6) Names(l Lease) bool {
	switch {
	case len(r.DUID) > 0:
		return l.ClientID == string(r.DUID)
	case len(r.MAC) > 0:
		return l.CHAddr == string(r.MAC) || hardwareOf(l.ClientID) == string(r.MAC)
	}
	return l.Port == r.Port && !l.VTEP.IsValid()
}

// hosts6 are the reservations of a segment.
type hosts6 struct {
	at   map[netip.Prefix]*host6
	duid map[string]*host6
	mac  map[[6]byte]*host6
	port map[string]*host6
}

func newHosts6() hosts6 {
	return hosts6{map[netip.Prefix]*host6{}, map[string]*host6{}, map[[6]byte]*host6{}, map[string]*host6{}}
}

func (s *hosts6) add(h *host6) {
	for _, p := range h.reserved() {
		s.at[p] = h
	}
	switch {
	case len(h.DUID) > 0:
		s.duid[string(h.DUID)] = h
	case len(h.MAC) == 6:
		s.mac[[6]byte(h.MAC)] = h
	default:
		s.port[h.Port] = h
	}
}

// rival is a reservation of h's client, or of what h keeps; nil if there is none.
func (s *hosts6) rival(h *host6) *host6 {
	if o := s.at[h.addr]; o != nil { // no prefix overlaps the subnet
		return o
	}
	if h.pd.IsValid() {
		for q, o := range s.at {
			if h.pd.Overlaps(q) {
				return o
			}
		}
	}
	switch {
	case len(h.DUID) > 0:
		return s.duid[string(h.DUID)]
	case len(h.MAC) == 6:
		return s.mac[[6]byte(h.MAC)]
	}
	return s.port[h.Port]
}

// of is the client's reservation, nil if it has none.
func (s *hosts6) of(m *message6, hw [][6]byte, port string) *host6 {
	if h := s.duid[string(m.clientID)]; h != nil {
		return h
	}
	for _, mac := range hw {
		if h := s.mac[mac]; h != nil {
			return h
		}
	}
	if port != "" {
		return s.port[port]
	}
	return nil
}

// shares says that a binding's client and the one that asks, whom the
// reservation names, are one, which goes by another DUID now or by another IAID:
// firmware and system of a machine do. For a reservation by port that takes the
// same hardware, too: there may be two machines on a port.
func (h *host6) shares(b *binding6, c *call6) bool {
	if duidOf(b.key) == string(c.m.clientID) {
		return true
	}
	switch {
	case len(h.DUID) > 0:
		return false
	case len(h.MAC) > 0:
		return b.chaddr == string(h.MAC) || hardwareOf(duidOf(b.key)) == string(h.MAC)
	}
	return len(c.hw) > 0 && b.chaddr == string(c.hw[0][:])
}

// strays are what clients hold and the configuration knows no more: while they
// last, nothing that overlaps them can be given out.
type strays struct {
	n        int
	lengths  []int                // of what is given out
	within   map[netip.Prefix]int // that of a length which contains a stray, and how many
	around   map[netip.Prefix]int // strays themselves
	ofLength [129]int             // how many strays have a length
}

func newStrays(lengths []int) strays {
	return strays{lengths: lengths, within: map[netip.Prefix]int{}, around: map[netip.Prefix]int{}}
}

// mark adds a stray (d 1) or takes it away (d -1).
func (s *strays) mark(p netip.Prefix, d int) {
	bump := func(m map[netip.Prefix]int, p netip.Prefix) {
		if m[p] += d; m[p] == 0 {
			delete(m, p)
		}
	}
	s.n += d
	s.ofLength[p.Bits()] += d
	bump(s.around, p)
	for _, n := range s.lengths {
		if n <= p.Bits() {
			bump(s.within, cutOf(p, n))
		}
	}
}

// clash says that a stray overlaps p.
func (s *strays) clash(p netip.Prefix) bool {
	if s.n == 0 {
		return false
	}
	if s.within[p] > 0 {
		return true
	}
	for n := range p.Bits() {
		if s.ofLength[n] > 0 && s.around[cutOf(p, n)] > 0 {
			return true
		}
	}
	return false
}
