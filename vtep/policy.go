package vtep

import (
	"fmt"

	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/frame"
)

// groups is a set of group policy ids. 0 stands for frames without a tag.
type groups [(1 << 16) / 64]uint64

// groupsOf is the set of some ids, nil where there is no list of them.
func groupsOf(ids []uint16) *groups {
	if ids == nil {
		return nil
	}
	g := new(groups)
	for _, id := range ids {
		g[id/64] |= 1 << (id % 64)
	}
	return g
}

func (g *groups) has(id uint16) bool { return g[id/64]&(1<<(id%64)) != 0 }

// lets reports whether a frame may leave by a port that these groups' frames are
// for. What the segment itself says is for everybody, and to what a policy was
// applied already none is again (draft-smith-vxlan-group-policy, the A flag).
func (g *groups) lets(f *frame.Frame) bool {
	p := encap.Policy(f.Outer.Policy)
	return g.has(p.Group()) || p&encap.PolicyApplied != 0 || f.Ingress == uint32(fdb.Self)
}

// police takes what a port must not get out of what it is about to be given.
func (w *worker) police(p *Port, allow *groups) {
	st := &p.state[w.id]
	kept := st.out[:0]
	for _, f := range st.out {
		if allow.lets(f) {
			kept = append(kept, f)
		}
	}
	if lost := uint64(len(st.out) - len(kept)); lost > 0 {
		p.seg.drops[w.id][frame.GroupPolicy].add(lost)
		st.txDropped.add(lost)
	}
	st.out = kept
}

// tag gives the frames of a port their group's tag.
func tag(frames []frame.Frame, p encap.Policy) {
	for i := range frames {
		frames[i].Outer.Policy = uint32(p)
	}
}

// checkPolicy says why a port cannot have its group policy.
func (c Config) checkPolicy(p PortConfig) error {
	if !c.GBP && (p.GBP != 0 || p.GBPAllow != nil) {
		return fmt.Errorf("port %s: %w: group policy needs its extension of VXLAN (underlay.gbp)", p.Name, ErrInvalid)
	}
	return nil
}
