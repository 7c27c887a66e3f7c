package vtep

import (
	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/underlay"
)

// lookUp decides where each frame goes. What came through the tunnel never
// leaves through the tunnel.
func lookUp(s *Segment, vw *view, frames []frame.Frame) {
	for i := range frames {
		f := &frames[i]
		if f.Verdict.Action != frame.Undecided {
			continue
		}
		mac, in := fdb.MACOf(f.Bytes()), fdb.Dst(f.Ingress)
		if mac.IsGroup() {
			f.Verdict.Action = frame.Flood
			continue
		}
		switch d := s.table.Lookup(mac); {
		case d == 0:
			f.Verdict.Action = frame.Flood
		case d == fdb.Self:
			f.Drop(frame.NotForService)
		case d == in || d.IsRemote() && in.IsRemote():
			f.Drop(frame.Hairpin)
		case d.IsLocal():
			var out *Port
			if i := d.Index(); int(i) < len(vw.ports) { // else attached after vw was made
				out = vw.ports[i]
			}
			switch {
			case out == nil || out.gone.Load():
				f.Drop(frame.PortDown)
			case out.cfg.Isolated && isolated(vw, in):
				f.Drop(frame.PortIsolated)
			default:
				f.Verdict = frame.Verdict{Action: frame.ToPort, Dst: d.Index()}
			}
		default:
			f.Verdict = frame.Verdict{Action: frame.ToPeer, Dst: d.Index()}
		}
	}
}

func isolated(vw *view, in fdb.Dst) bool {
	return in.IsLocal() && vw.ports[in.Index()] != nil && vw.ports[in.Index()].cfg.Isolated
}

// write sends each frame where it was decided to go: first everything is given
// to the ports and peers it belongs to, then each port is written to once.
func (w *worker) write(s *Segment, vw *view, frames []frame.Frame) {
	for i := range frames {
		f := &frames[i]
		switch f.Verdict.Action {
		case frame.ToPort:
			w.toPort(vw.ports[f.Verdict.Dst], f)
		case frame.ToPeer:
			if p := s.peers.ByID(f.Verdict.Dst); p != nil {
				encap.PutHeader(f.Room(encap.HeaderLen), s.vni)
				w.toPeer(s, f, p.Value.addr, p.Value)
			} else {
				f.Drop(frame.NoWayOut)
			}
		case frame.Flood:
			if !w.flood(s, vw, f) {
				f.Drop(frame.NoWayOut)
			}
		}
	}
	w.flushPorts(s)
	w.flushTunnel(s)
}

// flood gives a frame to every port but its own and, unless it came from there,
// to the tunnel. It reports whether there was anybody.
func (w *worker) flood(s *Segment, vw *view, f *frame.Frame) (any bool) {
	in := fdb.Dst(f.Ingress)
	apart := isolated(vw, in)
	for _, p := range vw.ports {
		if p == nil || fdb.Local(p.id) == in || p.gone.Load() || apart && p.cfg.Isolated {
			continue
		}
		w.toPort(p, f)
		any = true
	}
	if in.IsRemote() {
		return any
	}
	peers := s.peers.Replication()
	if len(peers) == 0 && vw.group == nil {
		return any
	}
	encap.PutHeader(f.Room(encap.HeaderLen), s.vni)
	for _, p := range peers {
		w.toPeer(s, f, p.Value.addr, p.Value)
	}
	if vw.group != nil {
		w.toPeer(s, f, vw.group, nil)
	}
	return true
}

func (w *worker) toPort(p *Port, f *frame.Frame) {
	st := &p.state[w.id]
	if len(st.out) == 0 {
		w.touched = append(w.touched, p)
	}
	st.out = append(st.out, f)
}

// flushPorts writes what toPort gathered. A verdict that a port gave stands for
// that port only, so it is counted here and taken back.
func (w *worker) flushPorts(s *Segment) {
	for _, p := range w.touched {
		st := &p.state[w.id]
		var bytes uint64
		for _, f := range st.out {
			f.FinishChecksum()
			bytes += uint64(f.Len())
		}
		sent := p.queues[w.id%len(p.queues)].Write(st.out)
		w.tx.add(uint64(sent))
		if sent < len(st.out) {
			for _, f := range st.out {
				if f.Verdict.Action == frame.Dropped {
					s.drops[w.id][f.Verdict.Reason].add(1)
					bytes -= uint64(f.Len())
					f.Verdict = frame.Verdict{Action: frame.ToPort, Dst: p.id}
				}
			}
			st.txDropped.add(uint64(len(st.out) - sent))
		}
		st.txPackets.add(uint64(sent))
		st.txBytes.add(bytes)
		st.out = st.out[:0]
	}
	w.touched = w.touched[:0]
}

// toPeer gathers a datagram; the VXLAN header stands in front of the frame
// already, and floods share it. to is nil for a group.
func (w *worker) toPeer(s *Segment, f *frame.Frame, dst *underlay.Remote, to *remote) {
	if len(w.packets) == cap(w.packets) {
		w.flushTunnel(s)
	}
	f.FinishChecksum()
	dscp := -1
	if w.v.cfg.TOS != nil {
		dscp = int(*w.v.cfg.TOS)
	}
	var ttl uint8
	if w.v.cfg.InheritTTL {
		ttl = f.Info.TTL
	}
	w.packets = append(w.packets, underlay.Packet{
		Frame: f, Head: encap.HeaderLen, TOS: encap.OuterTOS(f.Info.TOS, dscp), TTL: ttl, Entropy: f.Info.Hash, Dst: dst,
	})
	w.remotes = append(w.remotes, to)
}

// flushTunnel sends what toPeer gathered.
func (w *worker) flushTunnel(s *Segment) {
	if len(w.packets) == 0 {
		return
	}
	w.tx.add(uint64(w.tunnel.Write(w.packets)))
	for i := range w.packets {
		p, to := &w.packets[i], w.remotes[i]
		if p.Reason != frame.NotDropped {
			s.drops[w.id][p.Reason].add(1)
		}
		if to == nil {
			continue
		}
		t := &to.traffic[w.id]
		if p.Reason != frame.NotDropped {
			t.txDropped.add(1)
			continue
		}
		t.txPackets.add(1)
		t.txBytes.add(uint64(p.Frame.Len()))
	}
	w.packets, w.remotes = w.packets[:0], w.remotes[:0]
}
