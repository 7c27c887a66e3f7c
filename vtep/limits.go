package vtep

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/fdb"
)

// limits are what of a port's configuration changes while frames pass.
type limits struct {
	macs, leases, rate int // as in PortConfig
	checkMAC           bool
	storm              Storm

	policy encap.Policy // tag of its frames
	groups []uint16     // whose frames it gets; nil: everybody's
	allow  *groups      // the same, to look up
}

func limitsOf(c PortConfig) *limits {
	return &limits{macs: c.MaxMACs, leases: c.MaxLeases, rate: c.DHCPRate, checkMAC: c.DHCPCheckMAC, storm: c.Storm,
		policy: encap.GroupPolicy(c.GBP), groups: c.GBPAllow, allow: groupsOf(c.GBPAllow)}
}

// SetLimits gives the port that cfg names the limits of cfg: of MACs, of leases,
// of DHCP messages, and whose they may be, of floods, and its group policy; which
// stations may send, and whether it is trusted. Nothing else of the port changes,
// and nobody loses what he has.
func (s *Segment) SetLimits(cfg PortConfig) error {
	s.v.mu.Lock()
	defer s.v.mu.Unlock()
	p := s.port(cfg.Name)
	if p == nil {
		return fmt.Errorf("segment %v: port %s %w", s.vni, cfg.Name, ErrNotFound)
	}
	if err := s.v.cfg.checkPolicy(cfg); err != nil {
		return fmt.Errorf("segment %v: %w", s.vni, err)
	}
	if err := cfg.Storm.check(); err != nil {
		return fmt.Errorf("segment %v: port %s: %w", s.vni, cfg.Name, err)
	}
	if err := cfg.checkBinding(); err != nil {
		return err
	}
	p.limits.Store(limitsOf(cfg))
	p.cfg.Bind, p.cfg.Addresses, p.cfg.Trust = cfg.Bind, cfg.Addresses, cfg.Trust
	s.rebind(p)
	s.table.SetLimit(fdb.Local(p.id), cfg.MaxMACs)
	return nil
}

// rate lets so many events a second through, and a second's worth at once. The
// zero value lets none through; it is used by several workers.
//
// It keeps the time at which the bucket would be full again (the generic cell
// rate algorithm, ITU-T I.371): one word, so no lock.
type rate struct {
	full atomic.Int64 // nanoseconds on the caller's clock
}

// take takes n of perSecond at the time now, and reports whether there was one:
// where there were less than n, the others are owed.
func (r *rate) take(now time.Duration, perSecond, n int) bool {
	each := time.Second / time.Duration(perSecond)
	for {
		was := r.full.Load()
		full := max(time.Duration(was), now)
		if full+each-now > time.Second {
			return false
		}
		if r.full.CompareAndSwap(was, int64(full+time.Duration(n)*each)) {
			return true
		}
	}
}

// fair reports whether one of several users of something that they share may
// have another piece, who has some of it: nobody may have more than he leaves to
// others. Alone he gets a half, one of three a quarter; there is always some left
// for whoever has nothing yet.
func fair(has, free int) bool { return has < free }
