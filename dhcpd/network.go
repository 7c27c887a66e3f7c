package dhcpd

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// subnetTimes are options 51, 58 and 59 as they go on the wire.
type subnetTimes struct{ lease, t1, t2 [4]byte }

// host is a compiled reservation.
type host struct {
	Reservation
	live bool // made by Reserve, not the configuration's
	ip   uint32
	opts optionList
	boot boot
}

// byName says that the client is told by its host name.
func (r *Reservation) byName() bool { return len(r.ClientID) == 0 && len(r.MAC) == 0 && r.Port == "" }

// network is one subnet of a segment: its settings, its pool and its bindings.
// Every address of it has one home, told by settle: bound or held addresses
// are only in byIP, remembered ones also in free, never used ones in fresh.
type network struct {
	// Settings, replaced as a whole when the configuration changes.
	subnet netip.Prefix
	net    uint32
	mask   uint32
	server uint32
	gw     uint32
	lease  time.Duration
	times  subnetTimes
	table  *optionTable
	domain string
	mtu    int

	ranges []span
	size   int // addresses in ranges
	total  int // those of them that can be given out
	kept   int // those that are reserved

	hostIP   map[uint32]*host
	hostMAC  map[[6]byte]*host
	hostID   map[string]*host
	hostPort map[string]*host
	hostName map[string]*host // by the name in lower case

	// State.
	byIP   map[uint32]*binding
	byKey  map[string]*binding // a client's lease, present or past
	offers map[string]*binding // what a client was offered and has not taken
	fresh  *bitmap             // never used, or forgotten
	free   list                // remembered, longest unused first

	tally *tally[*binding] // the segment's

	exhausted bool // said so already
	level     level
}

// span is a range of addresses; at is the index of its first in fresh.
type span struct {
	first, last uint32
	at          int
}

func newNetwork(r *RelaySubnet, server netip.Addr, t *tally[*binding]) *network {
	n := &network{
		subnet: r.Subnet, net: toU32(r.Subnet.Addr()), mask: maskOf(r.Subnet),
		server: toU32(server), gw: toU32(r.Gateway),
		lease:  r.Lease.Truncate(time.Second),
		times:  subnetTimes{seconds(r.Lease), seconds(r.T1), seconds(r.T2)},
		table:  newOptionTable(r),
		domain: r.Domain, mtu: int(r.MTU),
		hostIP: map[uint32]*host{}, hostMAC: map[[6]byte]*host{},
		hostID: map[string]*host{}, hostPort: map[string]*host{}, hostName: map[string]*host{},
		byIP: map[uint32]*binding{}, byKey: map[string]*binding{}, offers: map[string]*binding{},
		tally: t,
	}
	size := 0
	for _, g := range r.Ranges {
		s := span{first: toU32(g.First), last: toU32(g.Last), at: size}
		size += int(s.last-s.first) + 1
		n.ranges = append(n.ranges, s)
	}
	n.fresh, n.size = newBitmap(size), size
	n.total = size
	for _, ip := range []uint32{n.net, n.net | ^n.mask, n.server, n.gw} {
		if n.index(ip) >= 0 {
			n.total--
		}
	}
	return n
}

// newStray is the home of leases that no subnet of the configuration holds.
func newStray(t *tally[*binding]) *network {
	return &network{
		fresh: newBitmap(0), table: &optionTable{},
		hostIP: map[uint32]*host{}, hostMAC: map[[6]byte]*host{},
		hostID: map[string]*host{}, hostPort: map[string]*host{}, hostName: map[string]*host{},
		byIP: map[uint32]*binding{}, byKey: map[string]*binding{}, offers: map[string]*binding{},
		tally: t,
	}
}

// open makes every address of the ranges available, but those that are never
// given to any client who asks. It runs before bindings are put in.
func (n *network) open() {
	n.fresh.fill(n.size)
	for _, ip := range []uint32{n.net, n.net | ^n.mask, n.server, n.gw} {
		n.settle(ip)
	}
	for ip := range n.hostIP {
		n.settle(ip)
	}
}

// String names the subnet in events.
func (n *network) String() string { return n.subnet.String() }

func (n *network) contains(ip uint32) bool { return ip&n.mask == n.net && n.mask != 0 }

// index is the address's number within the ranges, -1 outside them.
func (n *network) index(ip uint32) int {
	for _, s := range n.ranges {
		if ip >= s.first && ip <= s.last {
			return s.at + int(ip-s.first)
		}
	}
	return -1
}

// address is the reverse of index.
func (n *network) address(i int) uint32 {
	for _, s := range n.ranges {
		if d := i - s.at; d >= 0 && d <= int(s.last-s.first) {
			return s.first + uint32(d)
		}
	}
	return 0
}

// dynamic says that the address may be given to any client.
func (n *network) dynamic(ip uint32) bool {
	return n.index(ip) >= 0 && ip != n.net && ip != n.net|^n.mask && ip != n.server && ip != n.gw && n.hostIP[ip] == nil
}

// addHost puts a reservation where the subnet's clients find it.
func (n *network) addHost(h *host) {
	if h.ip != 0 {
		n.hostIP[h.ip] = h
		if n.index(h.ip) >= 0 {
			n.kept++
		}
	}
	switch {
	case len(h.ClientID) > 0:
		n.hostID[string(h.ClientID)] = h
	case len(h.MAC) == 6:
		n.hostMAC[[6]byte(h.MAC)] = h
	case h.Port != "":
		n.hostPort[h.Port] = h
	default:
		n.hostName[strings.ToLower(h.Hostname)] = h
	}
}

// rival is a reservation of h's address or of its client, nil if there is none.
func (n *network) rival(h *host) *host {
	if o := n.hostIP[h.ip]; o != nil {
		return o
	}
	switch {
	case len(h.ClientID) > 0:
		return n.hostID[string(h.ClientID)]
	case len(h.MAC) == 6:
		return n.hostMAC[[6]byte(h.MAC)]
	case h.Port != "":
		return n.hostPort[h.Port]
	}
	return n.hostName[strings.ToLower(h.Hostname)]
}

// hostOf is the client's reservation, nil if it has none. A reservation by MAC
// holds whatever client identifier comes with the MAC.
func (n *network) hostOf(c *call) *host {
	m, port := c.m, c.req.Port
	if len(n.hostID) > 0 && m.clientID != nil {
		if h := n.hostID[string(m.clientID)]; h != nil {
			return h
		}
	}
	if len(n.hostMAC) > 0 && m.htype == htypeEthernet && m.hlen == 6 {
		if h := n.hostMAC[[6]byte(m.chaddr[:6])]; h != nil {
			return h
		}
	}
	if len(n.hostPort) > 0 && port != "" {
		if h := n.hostPort[port]; h != nil {
			return h
		}
	}
	if len(n.hostName) > 0 {
		return n.hostNamed(c)
	}
	return nil
}

// hostNamed is the reservation of the client's host name: of option 12, else of
// the first label of option 81. A client that does not say its name again is who
// it was when it got its address.
func (n *network) hostNamed(c *call) *host {
	for _, name := range [...][]byte{bytes.TrimRight(c.m.hostname, "\x00"), firstLabel(c.m.fqdn)} {
		if len(name) > 0 {
			if h := n.hostName[string(bytes.ToLower(name))]; h != nil {
				return h
			}
		}
	}
	if c.m.hostname != nil || c.m.fqdn != nil {
		return nil
	}
	for _, b := range [...]*binding{n.offers[string(c.key)], n.byKey[string(c.key)]} {
		if b != nil && b.hostname != "" {
			return n.hostName[strings.ToLower(b.hostname)]
		}
	}
	return nil
}

// shares says that a binding's client and the one that asks, whom the
// reservation names, are one. For a reservation by port or by name that takes
// the same hardware, too: there may be two machines on a port, or of a name.
func (h *host) shares(b *binding, m *message) bool {
	switch {
	case len(h.ClientID) > 0:
		return b.clientID() == string(h.ClientID)
	case len(h.MAC) > 0:
		return b.htype == htypeEthernet && b.chaddr == string(h.MAC)
	}
	return b.htype == m.htype && b.chaddr == string(m.hardware())
}

// allowed says that the configuration lets this client have this address.
func (n *network) allowed(ip uint32, h *host) bool {
	if r := n.hostIP[ip]; r != nil {
		return r == h
	}
	return n.dynamic(ip)
}

// available says that the client may have the address and can have it now.
func (n *network) available(ip uint32, c *call) bool {
	return n.contains(ip) && n.allowed(ip, c.h) && n.takeable(ip, c)
}

// takeable says that no other client has the address now. A client may take it
// over from another identity of its own: both are who the reservation names.
// The caller has checked that the client is allowed the address.
func (n *network) takeable(ip uint32, c *call) bool {
	b := n.byIP[ip]
	if b == nil || b.state == StateFree || b.key == string(c.key) && b.state != StateDeclined {
		return true
	}
	h := n.hostIP[ip]
	return h != nil && b.state != StateDeclined && h.shares(b, c.m)
}

// next is the address for a client that has none: one never used, else the one
// that has been unused for longest; 0 when all are taken.
func (n *network) next() uint32 {
	if i := n.fresh.first(); i >= 0 {
		return n.address(i)
	}
	if n.free.head != nil {
		return n.free.head.ip
	}
	return 0
}

// settle puts an address where its state says it belongs. Whoever changes a
// binding's state, or what the configuration says of an address, calls it.
func (n *network) settle(ip uint32) {
	b := n.byIP[ip]
	if i := n.index(ip); i >= 0 {
		if b == nil && n.dynamic(ip) {
			n.fresh.add(i)
		} else {
			n.fresh.remove(i)
		}
	}
	if b == nil {
		return
	}
	switch {
	case b.state == StateOffered:
		// in the segment's queue of offers
	case b.state == StateFree && n.dynamic(ip):
		if b.listed == nil {
			n.free.push(b)
		}
	case b.state == StateFree && n.hostIP[ip] == nil:
		n.forget(b) // nobody can get it any more, so there is nothing to remember
	default:
		b.unlist()
	}
}

// forget removes a binding altogether.
func (n *network) forget(b *binding) {
	b.unlist()
	if n.byKey[b.key] == b {
		delete(n.byKey, b.key)
	}
	if n.offers[b.key] == b {
		delete(n.offers, b.key)
	}
	if n.byIP[b.ip] == b {
		delete(n.byIP, b.ip)
		n.tally.remove(b)
		n.settle(b.ip)
	}
}

func put4(v uint32) (b [4]byte) {
	binary.BigEndian.PutUint32(b[:], v)
	return b
}

// sameAddresses says that a new network hands out the same addresses, so that
// the state can stay as it is.
func (n *network) sameAddresses(o *network) bool {
	return n.subnet == o.subnet && n.server == o.server && n.gw == o.gw && slices.Equal(n.ranges, o.ranges)
}

// adopt takes over the settings of a network of the same addresses. Only what
// was or is reserved can change its place.
func (n *network) adopt(o *network) {
	was := n.hostIP
	n.lease, n.times, n.table, n.domain, n.mtu, n.kept = o.lease, o.times, o.table, o.domain, o.mtu, o.kept
	n.hostIP, n.hostMAC, n.hostID, n.hostPort, n.hostName = o.hostIP, o.hostMAC, o.hostID, o.hostPort, o.hostName
	for ip := range was {
		n.settle(ip)
	}
	for ip := range n.hostIP {
		n.settle(ip)
	}
}
