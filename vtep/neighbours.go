package vtep

import (
	"cmp"
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/uvtep/uvtep/dhcpd"
	"github.com/uvtep/uvtep/fdb"
)

// NeighbourSource says where it is known from which MAC has an address. Of two
// that differ the greater holds.
type NeighbourSource uint8

const (
	NeighbourSnooped NeighbourSource = iota // from ARP and neighbour discovery that passed
	NeighbourLease                          // from a lease of the segment's DHCP server
	NeighbourStatic                         // from the configuration
)

var neighbourSources = [...]string{"snooped", "lease", "static"}

// String is the source's word in tables and JSON.
func (s NeighbourSource) String() string { return neighbourSources[s] }

// maxNeighbours bounds what is snooped in a segment. Leases and what is configured
// have bounds of their own.
const maxNeighbours = 16384

// neighbour is who has an address. All but seen never changes; a change is
// another neighbour.
type neighbour struct {
	ip     netip.Addr
	mac    fdb.MAC
	source NeighbourSource
	router bool    // it says that it is one (RFC 4861 section 4.4)
	in     fdb.Dst // where it was heard; 0 of one that was not
	seen   atomic.Uint32
	next   *neighbour // of the same bucket
}

// neighbours are those of a segment. Workers look them up without a lock, and
// note without one that a known one is still there; what is new or has changed
// takes one.
type neighbours struct {
	key     [2]uint64 // of the hash, random: nobody chooses addresses that collide
	buckets [neighbourBuckets]atomic.Pointer[neighbour]

	mu      sync.Mutex // of all that follows, and of changing the buckets
	n       int
	snooped map[fdb.Dst]int // how many were heard from where
	total   int             // of those

	answered, flooded counter // requests; shared by workers
}

const neighbourBuckets = 1024

func newNeighbours() *neighbours {
	return &neighbours{key: [2]uint64{rand.Uint64(), rand.Uint64() | 1}, snooped: map[fdb.Dst]int{}}
}

func (t *neighbours) bucket(ip netip.Addr) *atomic.Pointer[neighbour] {
	b := ip.As16()
	hi, lo := bits.Mul64(binary.BigEndian.Uint64(b[:])^t.key[0], t.key[1])
	hi, lo = bits.Mul64(hi^lo^binary.BigEndian.Uint64(b[8:]), t.key[1])
	return &t.buckets[(hi^lo)%neighbourBuckets]
}

// lookUp is who has an address, nil if nobody is known to.
func (t *neighbours) lookUp(ip netip.Addr) *neighbour {
	for n := t.bucket(ip).Load(); n != nil; n = n.next {
		if n.ip == ip {
			return n
		}
	}
	return nil
}

// observation is what comes of hearing that a station has an address.
type observation uint8

const (
	asBefore observation = iota // it was known there already
	isNews                      // it was not: others have to hear it, too
	isHeld                      // the address is another's, by a lease or by configuration
)

// observe notes that a station was heard to have an address; without override it
// does not take it from another one.
func (t *neighbours) observe(ip netip.Addr, mac fdb.MAC, in fdb.Dst, router *bool, override bool, now fdb.Seconds) observation {
	was := t.lookUp(ip)
	if was != nil && was.mac == mac && was.in == in && (router == nil || *router == was.router) {
		if was.seen.Load() != uint32(now) {
			was.seen.Store(uint32(now))
		}
		return asBefore
	}
	if was != nil && was.mac != mac {
		if was.source != NeighbourSnooped {
			return isHeld
		}
		if !override {
			return isNews
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch was = t.lookUp(ip); {
	case was == nil && !fair(t.snooped[in], maxNeighbours-t.total):
		return isNews
	case was != nil && was.source != NeighbourSnooped && was.mac != mac:
		return isHeld
	}
	n := &neighbour{ip: ip, mac: mac, in: in}
	if was != nil {
		n.source, n.router = was.source, was.router && was.mac == mac
	}
	if router != nil {
		n.router = *router
	}
	n.seen.Store(uint32(now))
	t.put(was, n)
	return isNews
}

// doubt notes that somebody says who has an address, and it is not he: a proxy, a
// bond of cards, or a liar. It is not learned, and what was snooped and differs is
// forgotten, so that who asks hears it from the owner.
func (t *neighbours) doubt(ip netip.Addr, mac fdb.MAC) observation {
	if was := t.lookUp(ip); was == nil || was.mac == mac {
		return asBefore
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch was := t.lookUp(ip); {
	case was == nil || was.mac == mac:
		return asBefore
	case was.source != NeighbourSnooped:
		return isHeld
	default:
		t.put(was, nil)
		return isNews
	}
}

// put replaces a neighbour, or adds one where was is nil, or takes it away where
// n is nil. It is called with the lock held.
func (t *neighbours) put(was, n *neighbour) {
	if was != nil && was.source == NeighbourSnooped {
		if t.snooped[was.in]--; t.snooped[was.in] == 0 {
			delete(t.snooped, was.in)
		}
		t.total--
	}
	if n != nil && n.source == NeighbourSnooped {
		t.snooped[n.in]++
		t.total++
	}
	switch {
	case was == nil:
		t.n++
	case n == nil:
		t.n--
	}
	b := t.bucket(cmp.Or(was, n).ip)
	// Those behind it stay as they are; those in front are made anew, as somebody
	// may be walking along them.
	var first *neighbour
	last := &first
	for o := b.Load(); o != nil; o = o.next {
		if o == was {
			if n != nil {
				n.next = o.next
				*last = n
			} else {
				*last = o.next
			}
			b.Store(first)
			return
		}
		again := &neighbour{ip: o.ip, mac: o.mac, source: o.source, router: o.router, in: o.in}
		again.seen.Store(o.seen.Load())
		*last, last = again, &again.next
	}
	n.next = b.Load()
	b.Store(n)
}

// bind has a lease or the configuration say who has an address.
func (t *neighbours) bind(ip netip.Addr, mac fdb.MAC, source NeighbourSource) {
	t.mu.Lock()
	defer t.mu.Unlock()
	was := t.lookUp(ip)
	if was != nil && was.source > source {
		return
	}
	n := &neighbour{ip: ip, mac: mac, source: source}
	if was != nil && was.mac == mac {
		n.router, n.in = was.router, was.in
	}
	t.put(was, n)
}

// unbind ends what bind said.
func (t *neighbours) unbind(ip netip.Addr, source NeighbourSource) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if was := t.lookUp(ip); was != nil && was.source == source {
		t.put(was, nil)
	}
}

// forget forgets the neighbours that drop says so of.
func (t *neighbours) forget(drop func(*neighbour) bool) {
	for i := range t.buckets {
		if t.buckets[i].Load() == nil {
			continue
		}
		t.mu.Lock()
		for n := t.buckets[i].Load(); n != nil; {
			if !drop(n) {
				n = n.next
				continue
			}
			t.put(n, nil)
			n = t.buckets[i].Load() // those in front of it are others now
		}
		t.mu.Unlock()
	}
}

// forgetBehind forgets what was snooped from places that are no more.
func (t *neighbours) forgetBehind(gone map[fdb.Dst]bool) {
	t.forget(func(n *neighbour) bool { return n.source == NeighbourSnooped && gone[n.in] })
}

// age forgets what was snooped and has not been heard for longer than age.
func (t *neighbours) age(now, age fdb.Seconds) {
	t.forget(func(n *neighbour) bool { return n.old(now, age) })
}

// old reports whether what was snooped is too old to be true; age 0 is never.
func (n *neighbour) old(now, age fdb.Seconds) bool {
	return n.source == NeighbourSnooped && age != 0 && int32(now)-int32(n.seen.Load()) > int32(age)
}

// lease takes what the segment's DHCP servers tell of an address.
func (t *neighbours) lease(c dhcpd.LeaseChange) {
	ip := c.Prefix.Addr()
	if c.Prefix.Bits() < ip.BitLen() || c.Relayed {
		return
	}
	if mac := fdb.MACOf(c.MAC[:]); c.Bound && !mac.IsZero() {
		t.bind(ip, mac, NeighbourLease)
	} else {
		t.unbind(ip, NeighbourLease)
	}
}

// Neighbour is who is known to have an address in a segment.
type Neighbour struct {
	IP     netip.Addr
	MAC    fdb.MAC
	Source NeighbourSource
	Router bool          // it is a router of IPv6
	Age    time.Duration // since it was last heard; 0 of a lease or an entry of the configuration
	Port   string        // local port that it is behind; "": none, or not known
	Dst    netip.Addr    // remote VTEP that it is behind; the zero Addr: none, or not known
}

// NeighbourStats is what the suppression of ARP and neighbour solicitations did.
type NeighbourStats struct {
	Known             int    // neighbours
	Answered, Flooded uint64 // requests for an address in the segment
}

// Neighbours are those of the segment, by address; none where nothing is
// suppressed.
func (s *Segment) Neighbours() []Neighbour {
	vw, now := s.view.Load(), s.v.seconds()
	if vw.neighbours == nil {
		return nil
	}
	var out []Neighbour
	for i := range vw.neighbours.buckets {
		for n := vw.neighbours.buckets[i].Load(); n != nil; n = n.next {
			r := Neighbour{IP: n.ip, MAC: n.mac, Source: n.source, Router: n.router}
			if n.source == NeighbourSnooped {
				r.Age = time.Duration(max(int32(now)-int32(n.seen.Load()), 0)) * time.Second
			}
			switch d := s.table.Lookup(n.mac); {
			case d.IsLocal():
				if p := vw.port(d); p != nil {
					r.Port = p.cfg.Name
				}
			case d.IsRemote():
				if p := s.peers.ByID(d.Index()); p != nil {
					r.Dst = p.Addr
				}
			}
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b Neighbour) int { return a.IP.Compare(b.IP) })
	return out
}

// NeighbourStats tells how much was suppressed.
func (s *Segment) NeighbourStats() NeighbourStats {
	t := s.view.Load().neighbours
	if t == nil {
		return NeighbourStats{}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return NeighbourStats{Known: t.n, Answered: t.answered.load(), Flooded: t.flooded.load()}
}
