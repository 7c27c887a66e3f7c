package vtep

import (
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/uvtep/uvtep/dhcpd"
	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/guard"
)

// keeper keeps what is bound to the ports of a segment. There is one while any
// port is bound. Its lock is held for moments only: by who was told of a lease,
// which nobody is for each frame, and by workers only where an address is leased
// or claimed.
type keeper struct {
	s    *Segment
	stop func() // hearing of leases; nil: there is no DHCP service to hear of them from

	mu     sync.Mutex
	ports  map[string]*bound
	leases map[netip.Prefix]tenancy // of the segment's own server, at any port of its own
	heard  map[netip.Prefix]tenancy // of other servers, at bound ports
	claims claims
}

// tenancy is a lease, and which station has it at which port.
type tenancy struct {
	port  string
	mac   guard.MAC
	until time.Duration // since the VTEP's start, of those that were overheard
}

// bound is what is bound to one port.
type bound struct {
	keeper *keeper
	name   string
	table  *guard.Table
	n      atomic.Int64 // pairs in it
	cfg    PortConfig   // under v.mu

	lease  bool // under keeper.mu, as what follows and the table's writing
	claims map[guard.MAC][]*localClaim

	asks asks
	rate rate // of claims that are looked at
}

// boundOf is what is bound to a port, nil if it is not bound.
func (s *Segment) boundOf(port string) *bound {
	k := s.keeper
	if k == nil {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.ports[port]
}

// bindPort makes what is bound to a port what its configuration and the leases
// say. It is called under v.mu, before the port carries frames; the view that a
// change is to make is given.
func (s *Segment) bindPort(cfg PortConfig, vw *view) {
	k := s.keeper
	if cfg.Bind == BindNone {
		s.unbindPort(cfg.Name, vw)
		return
	}
	fresh := k == nil
	if fresh {
		k = &keeper{s: s, ports: map[string]*bound{}, leases: map[netip.Prefix]tenancy{}, heard: map[netip.Prefix]tenancy{}}
		k.claims.held, k.claims.trials = map[netip.Addr]*localClaim{}, map[netip.Addr]*localClaim{}
		s.keeper = k
	}
	k.bind(cfg)
	if fresh && s.v.cfg.DHCP != nil {
		k.stop = s.v.cfg.DHCP.Watch(uint32(s.vni), k.leased)
	}
	vw.keeper = k
}

// bind is bindPort for a keeper.
func (k *keeper) bind(cfg PortConfig) {
	k.mu.Lock()
	defer k.mu.Unlock()
	b := k.ports[cfg.Name]
	if b == nil {
		b = &bound{keeper: k, name: cfg.Name, table: guard.NewTable(), claims: map[guard.MAC][]*localClaim{}}
		k.ports[cfg.Name] = b
	}
	for _, a := range cfg.Addresses {
		b.table.Bind(guard.MAC(a.MAC), a.IP, guard.Configured)
	}
	for _, a := range b.cfg.Addresses {
		if !slices.Contains(cfg.Addresses, a) {
			b.table.Unbind(guard.MAC(a.MAC), a.IP, guard.Configured)
		}
	}
	b.cfg = cfg
	if lease := cfg.Bind == BindLease; lease != b.lease {
		b.lease = lease
		for by, all := range map[guard.Source]map[netip.Prefix]tenancy{guard.Leased: k.leases, guard.Snooped: k.heard} {
			for p, t := range all {
				switch {
				case t.port != cfg.Name:
				case lease:
					b.table.Bind(t.mac, p, by)
				default:
					b.table.Unbind(t.mac, p, by)
				}
			}
		}
	}
	b.n.Store(int64(b.table.Len()))
}

// unbindPort ends that a port is bound, after which any station may send from it,
// or the port goes. It is called under v.mu.
func (s *Segment) unbindPort(name string, vw *view) {
	k := s.keeper
	if k == nil {
		return
	}
	k.mu.Lock()
	if b := k.ports[name]; b != nil {
		for mac := range b.claims {
			k.leave(b, mac)
		}
		delete(k.ports, name)
		for p, t := range k.heard {
			if t.port == name {
				delete(k.heard, p)
			}
		}
	}
	last := len(k.ports) == 0
	k.mu.Unlock()
	if last {
		if k.stop != nil {
			k.stop()
		}
		s.keeper, vw.keeper = nil, nil
	}
}

// leased is told of the leases of the segment's own server.
func (k *keeper) leased(c dhcpd.LeaseChange) {
	t := tenancy{port: c.Port, mac: guard.MAC(fdb.MACOf(c.MAC[:]))}
	if !c.Bound || c.Relayed || t.mac == 0 {
		t = tenancy{}
	}
	k.mu.Lock()
	k.move(k.leases, guard.Leased, c.Prefix, t)
	k.mu.Unlock()
}

// move has an address be a station's at a port from now on, or nobody's at none.
// The lock is held.
func (k *keeper) move(all map[netip.Prefix]tenancy, by guard.Source, p netip.Prefix, t tenancy) {
	was, had := all[p]
	if t.port != "" {
		all[p] = t
		if was.port == t.port && was.mac == t.mac {
			return
		}
		if b := k.ports[t.port]; b != nil && b.lease {
			b.table.Bind(t.mac, p, by)
			b.n.Store(int64(b.table.Len()))
		}
	} else {
		delete(all, p)
	}
	if b := k.ports[was.port]; had && b != nil && b.lease {
		b.table.Unbind(was.mac, p, by)
		b.n.Store(int64(b.table.Len()))
		k.forsake(b, was.mac)
	}
}

// expire ends what has run out.
func (k *keeper) expire(now time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for p, t := range k.heard {
		if t.until <= now {
			k.move(k.heard, guard.Snooped, p, tenancy{})
		}
	}
	k.age(now)
}

// overhear takes from frames what other DHCP servers lease to stations at bound
// ports, and which link-local addresses are in use where. They are on their way,
// and nothing answers them here.
func (w *worker) overhear(s *Segment, vw *view, frames []frame.Frame) {
	k := vw.keeper
	for i := range frames {
		f := &frames[i]
		if f.Verdict.Action != frame.Undecided || f.Info.L4 == 0 {
			continue
		}
		switch f.Info.Proto {
		case frame.ProtoUDP:
			if m := guard.Overhear(f); m.Kind != guard.Nothing {
				k.hear(w.v.since(), vw.boundAt(fdb.Dst(f.Ingress)), &m)
			}
		case frame.ProtoICMPv6:
			k.hearNeighbour(w, vw.boundAt(fdb.Dst(f.Ingress)), f)
		}
	}
}

// boundAt is what is bound to the port d, nil if it is no port or not bound.
func (vw *view) boundAt(d fdb.Dst) *bound {
	if p := vw.port(d); p != nil {
		if g := p.guard.Load(); g != nil {
			return g.bound
		}
	}
	return nil
}

// hear takes a DHCP message that came from a bound port, or from elsewhere if that
// is nil. Servers are heard wherever they may speak: what a port that is not
// trusted says in their name does not come this far.
func (k *keeper) hear(now time.Duration, from *bound, m *guard.Message) {
	switch m.Kind {
	case guard.Request:
		if from != nil {
			from.asks.note(m, now)
		}
	case guard.Ends:
		if from != nil {
			k.mu.Lock()
			m.Each(func(p netip.Prefix, _ time.Duration) {
				if t := k.heard[p]; t.port == from.name && t.mac == m.MAC {
					k.move(k.heard, guard.Snooped, p, tenancy{})
				}
			})
			k.mu.Unlock()
		}
	case guard.Leases, guard.Refused:
		k.mu.Lock()
		defer k.mu.Unlock()
		b := k.asked(m, now)
		switch {
		case b == nil:
		case m.Kind == guard.Refused:
			for p, t := range k.heard {
				if t.port == b.name && t.mac == m.MAC && p.Addr().Is4() {
					k.move(k.heard, guard.Snooped, p, tenancy{})
				}
			}
		default:
			m.Each(func(p netip.Prefix, lease time.Duration) { k.overheard(b, m.MAC, p, now, lease) })
		}
	}
}

// overheard binds what another server leases. The lock is held.
func (k *keeper) overheard(b *bound, mac guard.MAC, p netip.Prefix, now, lease time.Duration) {
	was, had := k.heard[p]
	switch {
	case lease == 0 && had && was.port == b.name && was.mac == mac:
		k.move(k.heard, guard.Snooped, p, tenancy{})
	case lease > 0 && (had || len(k.heard) < maxHeard):
		k.move(k.heard, guard.Snooped, p, tenancy{port: b.name, mac: mac, until: now + lease})
	}
}

const (
	maxHeard = 1 << 16          // leases of other servers that a segment remembers
	asksLen  = 256              // clients of a port whose exchange is under way
	patient  = 64 * time.Second // for which a client asks with one number (RFC 2131 section 4.1, RFC 8415 section 15)
)

// asked is the bound port that asked first what a server answers: who sees what
// another one asks and does the same comes too late. The lock is held.
func (k *keeper) asked(m *guard.Message, now time.Duration) (first *bound) {
	oldest := now + 1
	for _, b := range k.ports {
		if at, ok := b.asks.find(m, now); ok && b.lease && at < oldest {
			first, oldest = b, at
		}
	}
	return first
}

// asks are the DHCP exchanges that clients of a port began a while ago, by their
// MAC. A worker writes, and others read, without a lock; of two clients of one
// place the later is remembered.
type asks [asksLen]struct{ who, what atomic.Uint64 }

func (a *asks) of(m *guard.Message) (slot *struct{ who, what atomic.Uint64 }, who uint64) {
	who = uint64(m.MAC)<<1 | 1
	if m.Six {
		who |= 1 << 60
	}
	return &a[(who^who>>8^who>>16)%asksLen], who
}

func (a *asks) note(m *guard.Message, now time.Duration) {
	if _, ok := a.find(m, now); ok {
		return
	}
	slot, who := a.of(m)
	slot.who.Store(0)
	slot.what.Store(uint64(m.XID)<<32 | uint64(uint32(now/time.Millisecond)))
	slot.who.Store(who)
}

// find is when the exchange was begun.
func (a *asks) find(m *guard.Message, now time.Duration) (at time.Duration, ok bool) {
	slot, who := a.of(m)
	if slot.who.Load() != who {
		return 0, false
	}
	what := slot.what.Load()
	if uint32(what>>32) != m.XID {
		return 0, false
	}
	ago := time.Duration(uint32(now/time.Millisecond)-uint32(what)) * time.Millisecond
	return now - ago, ago <= patient
}
