package vtep

import (
	"encoding/binary"
	"net/netip"

	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/offload"
	"github.com/uvtep/uvtep/internal/tap"
)

// sender is who sent the packet before, and into which segment: most often the
// same holds for the next one.
type sender struct {
	s    *Segment
	vw   *view
	peer *peer

	packets, bytes uint64 // from this peer, not counted yet
}

// count counts what came from the sender so far.
func (from *sender) count(w *worker) {
	if from.packets > 0 {
		t := &from.peer.Value.traffic[w.id]
		t.rxPackets.add(from.packets)
		t.rxBytes.add(from.bytes)
		from.packets, from.bytes = 0, 0
	}
}

// decapsulate takes the VXLAN headers off what was read in one go, one datagram
// or several: who sent it, and which segment is it for? It adds the frames to
// w.inner, but for those that continue a super-frame that is there already.
func (w *worker) decapsulate(from *sender, d *frame.Frame) {
	size := d.Len()
	step, inner := int(d.Outer.Segment), 0
	if step == 0 || innerSuper(d) {
		step, inner = size, step
	}
	for at := 0; ; at += step {
		w.packet(from, d, at, min(at+step, size), inner)
		if at+step >= size {
			return
		}
	}
}

// innerSuper reports whether what the kernel calls several datagrams is one: a
// UDP super-frame in the tunnel of a kernel on the other side of a virtual link
// looks like that. The length in its inner IP header tells.
func innerSuper(d *frame.Frame) bool {
	if d.Outer.Segment == 0 || d.Len() < encap.HeaderLen+frame.EthernetLen {
		return false
	}
	var f frame.Frame
	f.Slice(d, encap.HeaderLen, d.Len())
	if !f.Parse() || f.Info.L3 == 0 || f.Info.Proto != frame.ProtoUDP {
		return false
	}
	return offload.PacketEnd(&f) == f.Len()
}

// packet is decapsulate for the datagram start:end of d. inner is the payload of
// an inner UDP super-frame's segments, else 0.
func (w *worker) packet(from *sender, d *frame.Frame, start, end, inner int) {
	if w.n == len(w.inner) {
		w.carry()
	}
	b := d.Bytes()[start:end]
	vni, policy, why := w.header(b)
	if why == frame.NotDropped && (from.peer == nil || from.s.vni != vni || from.peer.Addr != d.Outer.Src) {
		why = w.identify(from, vni, d.Outer.Src)
	}
	if d.Verdict.Action == frame.Dropped {
		why = d.Verdict.Reason
	}
	if why != frame.NotDropped {
		f := w.next(nil, d, start, end)
		if why == frame.UnknownPeer {
			w.segments[w.n-1] = from.s
		}
		f.Drop(why)
		return
	}
	if policy != w.policy { // frames of different groups are never merged
		w.carry()
		w.policy = policy
	}
	from.packets++
	from.bytes += uint64(len(b) - encap.HeaderLen)

	var owner uint64
	if w.fallow == 0 {
		// Equal flows of other segments or peers, or with another mark, are others.
		owner = uint64(vni)<<40 | uint64(from.peer.ID)<<8 | uint64(d.Outer.TOS)
		if w.merger.Extend(b[encap.HeaderLen:], owner) {
			return
		}
	}
	f := w.next(from.s, d, start+encap.HeaderLen, end)
	f.Ingress, f.Outer.Policy = uint32(fdb.Remote(from.peer.ID)), uint32(policy)
	if !f.Parse() {
		f.Drop(frame.Malformed)
		return
	}
	f.NotePartialChecksum()
	if f.Offload.Flags != 0 {
		offload.Guess(f, from.vw.mtu, inner)
	}
	// Also for a frame that cannot be merged: it ends what is under way of its
	// flow.
	if w.fallow == 0 && mergeable(f, from.vw.takes) {
		w.merger.Start(f, owner)
		w.tried++
	}
}

// identify finds the segment of a packet and the VTEP that sent it, or says why
// it is dropped; from.peer is nil then.
func (w *worker) identify(from *sender, vni encap.VNI, src netip.Addr) frame.Reason {
	from.count(w)
	from.peer = nil
	if src == w.v.cfg.Local {
		return frame.OuterSelf
	}
	if from.s == nil || from.s.vni != vni {
		from.s = (*w.v.segments.Load())[vni]
		if from.s == nil {
			return frame.UnknownVNI
		}
		from.vw = from.s.view.Load()
	}
	if from.peer = w.sender(from.s, src); from.peer == nil {
		w.tellStranger(from.s, src)
		return frame.UnknownPeer
	}
	from.peer.Touch(w.v.seconds())
	return frame.NotDropped
}

// next makes the bytes start:end of d the next frame from the tunnel.
func (w *worker) next(s *Segment, d *frame.Frame, start, end int) *frame.Frame {
	f := &w.inner[w.n]
	f.Slice(d, start, end)
	w.segments[w.n] = s
	w.n++
	return f
}

// header reads a VXLAN header, in front of an Ethernet header at least.
func (w *worker) header(b []byte) (vni encap.VNI, policy encap.Policy, why frame.Reason) {
	var fault encap.Fault
	if w.v.cfg.GBP {
		vni, policy, fault = encap.ParsePolicyHeader(b, w.v.cfg.Strict)
	} else {
		vni, fault = encap.ParseHeader(b, w.v.cfg.Strict)
	}
	switch {
	case fault == encap.Short, fault == encap.OK && len(b) < encap.HeaderLen+frame.EthernetLen:
		return 0, 0, frame.OuterShort
	case fault == encap.NoVNI:
		return 0, 0, frame.OuterNoVNI
	case fault == encap.Reserved:
		return 0, 0, frame.OuterReserved
	}
	return vni, policy, frame.NotDropped
}

// mergeable reports whether a frame may become part of a super-frame, where the
// segment's ports take those of takes: what goes to everybody, or to a responder,
// is looked at one by one.
func mergeable(f *frame.Frame, takes tap.Offload) bool {
	switch f.Info.Proto {
	case frame.ProtoTCP:
		return takes&tap.WriteTSO != 0 && !fdb.MACOf(f.Bytes()).IsGroup()
	case frame.ProtoUDP:
		if takes&tap.WriteUSO == 0 || f.Info.L4 == 0 || fdb.MACOf(f.Bytes()).IsGroup() {
			return false
		}
		_, port := f.UDPPorts()
		return port != dhcpServerPort && port != dhcp6ServerPort
	}
	return false
}

// sender is the VTEP at an address, nil if it may not send to s.
func (w *worker) sender(s *Segment, a netip.Addr) *peer {
	if p, ok := s.peers.Lookup(a); ok {
		return p
	}
	if w.v.cfg.Accept != AcceptAny {
		return nil
	}
	p, err := s.addPeer(a, fdb.PeerLearned, false)
	if err != nil {
		return nil
	}
	return p
}

// parse reads the headers of every frame that was not dropped, and holds what
// its port says of it against them.
func parse(frames []frame.Frame) {
	for i := range frames {
		f := &frames[i]
		switch {
		case f.Verdict.Action != frame.Undecided:
		case !f.Parse():
			f.Drop(frame.Malformed)
		case f.Offload != (frame.Offload{}) && !offload.Check(f):
			f.Drop(frame.BadOffload)
		}
	}
}

// unmark brings the outer header's congestion mark into the inner one.
func unmark(frames []frame.Frame) {
	for i := range frames {
		f := &frames[i]
		if f.Outer.TOS&3 == 0 || f.Verdict.Action != frame.Undecided || !isIP(f) {
			continue
		}
		ecn, drop := encap.InnerECN(f.Outer.TOS, f.Info.TOS)
		if drop {
			f.Drop(frame.OuterECN)
		} else if ecn != f.Info.TOS&3 {
			f.SetECN(ecn)
		}
	}
}

func isIP(f *frame.Frame) bool {
	return f.Info.L3 != 0 && (f.Info.EtherType == frame.TypeIPv4 || f.Info.EtherType == frame.TypeIPv6)
}

// admit drops frames that must not enter a segment.
func (w *worker) admit(frames []frame.Frame) {
	port := w.v.cfg.Port
	for i := range frames {
		f := &frames[i]
		if f.Verdict.Action != frame.Undecided {
			continue
		}
		if src := fdb.MACOf(f.Bytes()[6:]); src.IsZero() || src.IsGroup() {
			f.Drop(frame.BadSource)
		} else if f.Info.Proto == frame.ProtoUDP && f.Info.L4 != 0 {
			if _, dst := f.UDPPorts(); dst == port && w.own(f) {
				f.Drop(frame.TooDeep)
			}
		}
	}
}

// own reports whether a frame to the tunnel's port is one of the packets of this
// VTEP, from it or to it: the underlay is then routed through the overlay, and
// every turn would make it longer.
func (w *worker) own(f *frame.Frame) bool {
	h := f.Bytes()[f.Info.L3:]
	if f.Info.EtherType == frame.TypeIPv4 {
		own := w.v.local4
		return w.v.cfg.Local.Is4() && (binary.BigEndian.Uint32(h[12:]) == own || binary.BigEndian.Uint32(h[16:]) == own)
	}
	own := w.v.cfg.Local.As16()
	return w.v.cfg.Local.Is6() && ([16]byte(h[8:24]) == own || [16]byte(h[24:40]) == own)
}

// learn binds source addresses to where they came from.
func (w *worker) learn(s *Segment, vw *view, frames []frame.Frame) {
	now := w.v.seconds()
	var last fdb.MAC // learned to be behind lastIn a moment ago
	var lastIn fdb.Dst
	for i := range frames {
		f := &frames[i]
		if f.Verdict.Action != frame.Undecided {
			continue
		}
		src, in := fdb.MACOf(f.Bytes()[6:]), fdb.Dst(f.Ingress)
		if src == last && in == lastIn {
			continue
		}
		if !vw.learn || f.Unlearned || f.Outer.Policy&uint32(encap.PolicyDontLearn) != 0 {
			if e, ok := s.table.LookupEntry(src, now); ok {
				refuse(f, e.Origin == fdb.OriginSelf, e.Origin == fdb.OriginStatic && e.Dst != in)
			}
			continue
		}
		switch s.table.Learn(src, in, now) {
		case fdb.Static:
			refuse(f, false, true)
		case fdb.Own:
			refuse(f, true, false)
		case fdb.Frozen:
			f.Drop(frame.MACFrozen)
		case fdb.Moved:
			w.tellMove(s, src, in)
			last, lastIn = src, in
		default:
			last, lastIn = src, in
		}
	}
}

// warmLen is from how many entries on a table outgrows the caches near the core.
const warmLen = 4096

// warm lets the processor fetch what a batch will look up in a large table, all
// of it at once instead of one after the other.
func warm(s *Segment, frames []frame.Frame) {
	if len(frames) < 4 || s.table.Len() < warmLen {
		return
	}
	for i := range frames {
		if b := frames[i].Bytes(); len(b) >= frame.EthernetLen {
			s.table.Warm(fdb.MACOf(b))
			s.table.Warm(fdb.MACOf(b[6:]))
		}
	}
}

func refuse(f *frame.Frame, own, static bool) {
	switch {
	case own:
		f.Drop(frame.OwnSource)
	case static:
		f.Drop(frame.StaticSource)
	}
}
