package vtep

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/guard"
)

// Bind says which stations may send from a port.
type Bind uint8

const (
	BindNone   Bind = iota // any
	BindLease              // those with a lease, by the address that was leased, and those of PortConfig.Addresses
	BindStatic             // those of PortConfig.Addresses
)

var bindNames = [...]string{"none", "lease", "static"}

// String is the word of the configuration.
func (b Bind) String() string {
	if int(b) < len(bindNames) {
		return bindNames[b]
	}
	return "unknown"
}

// Trust says whether a port may send what only servers and routers do: messages of
// DHCP servers, router advertisements and redirects, and frames from the segment's
// protected MACs.
type Trust uint8

const (
	// TrustDefault does not trust a port that is bound, nor any in a segment that
	// has a DHCP service or router advertisements of its own, or protected MACs.
	TrustDefault Trust = iota
	Trusted
	Untrusted
)

// Address is a station and an address, or prefix, that it may send from.
type Address struct {
	MAC fdb.MAC
	IP  netip.Prefix
}

// portGuard is what a port may not send. It never changes, but for what is bound
// in its table; a change makes another one.
type portGuard struct {
	bound     *bound // nil: any station may send
	lease     bool   // stations without an address may ask for one
	trusted   bool
	protected []fdb.MAC // in order; nil where the port is trusted
}

// checkBinding says what of a port's guard cannot be.
func (c PortConfig) checkBinding() error {
	for _, a := range c.Addresses {
		switch ip := a.IP.Addr(); {
		case a.MAC.IsZero() || a.MAC.IsGroup() || a.MAC > fdb.Broadcast:
			return fmt.Errorf("port %s: %w: %v is no station's MAC", c.Name, ErrInvalid, a.MAC)
		case !a.IP.IsValid() || ip.Is4In6() || ip.IsMulticast() || a.IP.Bits() < 8:
			return fmt.Errorf("port %s: %w: no station can have %v", c.Name, ErrInvalid, a.IP)
		}
	}
	return nil
}

// guardOf is the guard that a port needs in a segment, nil if it needs none.
func guardOf(port PortConfig, seg SegmentConfig, b *bound) *portGuard {
	g := &portGuard{bound: b, lease: port.Bind == BindLease, trusted: port.trusted(seg)}
	if !g.trusted && len(seg.ProtectedMACs) > 0 {
		g.protected = slices.Sorted(slices.Values(seg.ProtectedMACs))
	}
	if b == nil && g.trusted {
		return nil
	}
	return g
}

func (c PortConfig) trusted(seg SegmentConfig) bool {
	if c.Trust == TrustDefault {
		return c.Bind == BindNone && !seg.served() && len(seg.ProtectedMACs) == 0
	}
	return c.Trust == Trusted
}

// bind says which stations may send.
func (g *portGuard) bind() Bind {
	switch {
	case g.bound == nil:
		return BindNone
	case g.lease:
		return BindLease
	}
	return BindStatic
}

// rebind puts what a port's configuration says of its guard in force. It is called
// under v.mu.
func (s *Segment) rebind(p *Port) {
	vw := *s.view.Load()
	s.bindPort(p.cfg, &vw)
	s.view.Store(&vw)
	p.guard.Store(guardOf(p.cfg, s.cfg, s.boundOf(p.cfg.Name)))
}

// reguard gives every port the guard that it needs now; it is called under v.mu.
func (s *Segment) reguard() {
	for _, p := range s.view.Load().ports {
		if p != nil {
			p.guard.Store(guardOf(p.cfg, s.cfg, s.boundOf(p.cfg.Name)))
		}
	}
}

// check drops what the port may not send.
func (g *portGuard) check(w *worker, p *Port, frames []frame.Frame) {
	for i := range frames {
		f := &frames[i]
		if f.Verdict.Action != frame.Undecided {
			continue
		}
		if g.protected != nil {
			if _, found := slices.BinarySearch(g.protected, fdb.MACOf(f.Bytes()[6:])); found {
				f.Drop(frame.ProtectedSource)
				continue
			}
		}
		if !g.trusted {
			if why := guard.Rogue(f); why != frame.NotDropped {
				f.Drop(why)
				continue
			}
		}
		if g.bound == nil {
			continue
		}
		switch v, pair := g.bound.table.Judge(f, g.lease); v {
		case guard.Bound:
		case guard.Asks:
			f.Unlearned = true
		case guard.Claims:
			if g.bound.claim(w, p, f) {
				f.Unlearned = true
			} else {
				f.Drop(frame.Spoofed)
			}
		case guard.Tries:
			g.bound.try(w, p, f)
			f.Drop(frame.Spoofed)
		case guard.Unsure:
			if !g.bound.settle(w, pair) {
				f.Drop(frame.Spoofed)
			}
		default:
			f.Drop(frame.Spoofed)
		}
	}
}
