package vtep

import (
	"fmt"
	"net/netip"

	"github.com/uvtep/uvtep/encap"
)

// CarriedMTU is the longest packet of a guest that the underlay's interface
// carries now, bytes: its MTU less the overhead; 0 where there is no interface any
// more.
func (v *VTEP) CarriedMTU() int {
	mtu, err := v.ep.MTU()
	if err != nil {
		return 0
	}
	return max(mtu-encap.Overhead(v.cfg.Local), 0)
}

// PathMTUs are the MTUs of the paths to those remote VTEPs of which is known that
// they are less than the underlay's interface's, bytes. The kernel learns them
// from routers and forgets them after ten minutes (RFC 1191, RFC 8201).
func (s *Segment) PathMTUs() map[netip.Addr]int {
	out := map[netip.Addr]int{}
	own, err := s.v.ep.MTU()
	if err != nil {
		return out
	}
	for _, p := range s.peers.All() {
		if mtu, err := s.v.ep.PathMTU(p.Value.addr); err == nil && mtu < own {
			out[p.Addr] = mtu
		}
	}
	return out
}

// Warnings are what an operator should know of the segment, a line each.
func (s *Segment) Warnings() []string {
	s.v.mu.Lock()
	mtu := s.cfg.MTU
	s.v.mu.Unlock()
	if w := s.v.mtuWarning(mtu); w != "" {
		return []string{w}
	}
	return nil
}

// mtuWarning says what is wrong with a segment's MTU, "" if nothing is.
func (v *VTEP) mtuWarning(mtu int) string {
	carried := v.CarriedMTU()
	switch {
	case carried == 0 || mtu <= carried:
		return ""
	case v.cfg.Fragment:
		return fmt.Sprintf("the MTU %d is more than the underlay carries, %d: longer packets leave in fragments", mtu, carried)
	}
	return fmt.Sprintf("the MTU %d is more than the underlay carries, %d: longer packets are dropped; lower it, or raise that of the underlay's interface by %d",
		mtu, carried, mtu-carried)
}

// warnOfMTU logs the warning, if there is one. It is called under v.mu.
func (s *Segment) warnOfMTU() {
	if w := s.v.mtuWarning(s.cfg.MTU); w != "" {
		s.v.cfg.Logger.Warn(w, "vni", s.vni, "name", s.cfg.Name)
	}
}
