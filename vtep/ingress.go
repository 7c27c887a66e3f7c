package vtep

import (
	"encoding/binary"

	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/frame"
)

// decapsulate takes the VXLAN headers off: who sent it, and which segment is it
// for? w.segments[i] is nil where that is not known.
func (w *worker) decapsulate(frames []frame.Frame) {
	v := w.v
	segments := *v.segments.Load()
	var s *Segment
	var from *peer
	for i := range frames {
		f := &frames[i]
		w.segments[i] = nil
		if f.Verdict.Action != frame.Undecided {
			continue // it did not fit into its frame
		}
		vni, fault := encap.ParseHeader(f.Bytes(), v.cfg.Strict)
		switch fault {
		case encap.Short:
			f.Drop(frame.OuterShort)
			continue
		case encap.NoVNI:
			f.Drop(frame.OuterNoVNI)
			continue
		case encap.Reserved:
			f.Drop(frame.OuterReserved)
			continue
		}
		if f.Len() < encap.HeaderLen+frame.EthernetLen {
			f.Drop(frame.OuterShort)
			continue
		}
		if f.Outer.Src == v.cfg.Local {
			f.Drop(frame.OuterSelf)
			continue
		}
		if s == nil || s.vni != vni {
			s, from = segments[vni], nil
			if s == nil {
				f.Drop(frame.UnknownVNI)
				continue
			}
		}
		w.segments[i] = s
		if from == nil || from.Addr != f.Outer.Src {
			if from = w.sender(s, f); from == nil {
				f.Drop(frame.UnknownPeer)
				continue
			}
			from.Touch(v.seconds())
		}
		f.Trim(encap.HeaderLen)
		f.Ingress = uint32(fdb.Remote(from.ID))
		t := &from.Value.traffic[w.id]
		t.rxPackets.add(1)
		t.rxBytes.add(uint64(f.Len()))
	}
}

// sender is the VTEP that sent f, nil if it may not send to s.
func (w *worker) sender(s *Segment, f *frame.Frame) *peer {
	if p, ok := s.peers.Lookup(f.Outer.Src); ok {
		return p
	}
	if w.v.cfg.Accept != AcceptAny {
		return nil
	}
	p, err := s.addPeer(f.Outer.Src, fdb.PeerLearned, false)
	if err != nil {
		return nil
	}
	return p
}

// parse reads the headers of every frame that was not dropped.
func parse(frames []frame.Frame) {
	for i := range frames {
		f := &frames[i]
		if f.Verdict.Action == frame.Undecided && !f.Parse() {
			f.Drop(frame.Malformed)
		}
	}
}

// unmark brings the outer header's congestion mark into the inner one, and
// notes the checksums that the sending host left for its card to finish.
func (w *worker) unmark(frames []frame.Frame) {
	for i := range frames {
		f := &frames[i]
		if f.Verdict.Action != frame.Undecided {
			continue
		}
		f.NotePartialChecksum()
		if f.Outer.TOS&3 == 0 || !isIP(f) {
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
	for i := range frames {
		f := &frames[i]
		if f.Verdict.Action != frame.Undecided {
			continue
		}
		if src := fdb.MACOf(f.Bytes()[6:]); src.IsZero() || src.IsGroup() {
			f.Drop(frame.BadSource)
		} else if f.Info.Proto == frame.ProtoUDP && f.Info.L4 != 0 && w.own(f) {
			f.Drop(frame.TooDeep)
		}
	}
}

// own reports whether a frame is one of this VTEP's own packets: the underlay is
// then routed through the overlay, and every turn would make it longer.
func (w *worker) own(f *frame.Frame) bool {
	if _, dst := f.UDPPorts(); dst != w.v.cfg.Port {
		return false
	}
	h := f.Bytes()[f.Info.L3:]
	if f.Info.EtherType == frame.TypeIPv4 {
		return w.v.cfg.Local.Is4() && w.v.local4 == binary.BigEndian.Uint32(h[12:])
	}
	return w.v.cfg.Local.Is6() && w.v.cfg.Local.As16() == [16]byte(h[8:24])
}

// learn binds source addresses to where they came from.
func learn(s *Segment, vw *view, frames []frame.Frame, now fdb.Seconds) {
	for i := range frames {
		f := &frames[i]
		if f.Verdict.Action != frame.Undecided {
			continue
		}
		src, in := fdb.MACOf(f.Bytes()[6:]), fdb.Dst(f.Ingress)
		if !vw.learn {
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
