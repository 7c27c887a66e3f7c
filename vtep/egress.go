package vtep

import (
	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/tap"
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
			if linkLocalGroup(mac) {
				f.Drop(frame.LinkLocal)
			} else {
				f.Verdict.Action = frame.Flood
			}
			continue
		}
		switch d := s.table.Lookup(mac); {
		case d == 0:
			f.Verdict.Action = frame.Flood
		case d == fdb.Self:
			f.Drop(frame.NotForService)
		case d == in || d.IsRemote() && in.IsRemote():
			f.Drop(frame.Hairpin)
		default:
			vw.direct(f, d)
		}
	}
}

// linkLocalGroup reports whether a group is for the stations of one link only:
// no bridge relays what is sent to 01:80:c2:00:00:01 to 0f (IEEE 802.1Q table
// 8-1). Zero at the end is the spanning tree's, and passes as it does by a bridge
// without one, so that guests with bridges of their own find their loops.
func linkLocalGroup(m fdb.MAC) bool {
	const spanningTree = 0x0180c2000000
	return m&^0xf == spanningTree && m != spanningTree
}

// direct decides that a frame goes to d, a port or a peer.
func (vw *view) direct(f *frame.Frame, d fdb.Dst) {
	if d.IsRemote() {
		f.Verdict = frame.Verdict{Action: frame.ToPeer, Dst: d.Index()}
		return
	}
	switch out := vw.port(d); {
	case out == nil || out.gone.Load():
		f.Drop(frame.PortDown)
	case out.cfg.Isolated && vw.isolated(fdb.Dst(f.Ingress)):
		f.Drop(frame.PortIsolated)
	default:
		f.Verdict = frame.Verdict{Action: frame.ToPort, Dst: d.Index()}
	}
}

// port is the port d, nil if it is none, or was attached after the view was made.
func (vw *view) port(d fdb.Dst) *Port {
	if i := d.Index(); d.IsLocal() && int(i) < len(vw.ports) {
		return vw.ports[i]
	}
	return nil
}

func (vw *view) isolated(d fdb.Dst) bool {
	p := vw.port(d)
	return p != nil && p.cfg.Isolated
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
	w.flushPorts()
	w.flushTunnel(s)
}

// flood gives a frame to every port but its own and, unless it came from there,
// to the tunnel. It reports whether there was anybody.
func (w *worker) flood(s *Segment, vw *view, f *frame.Frame) (anybody bool) {
	in := fdb.Dst(f.Ingress)
	apart := vw.isolated(in)
	for _, p := range vw.ports {
		if p == nil || fdb.Local(p.id) == in || p.gone.Load() || apart && p.cfg.Isolated {
			continue
		}
		w.toPort(p, f)
		anybody = true
	}
	if in.IsRemote() {
		return anybody
	}
	peers := s.peers.Replication()
	if len(peers) == 0 && vw.group == nil {
		return anybody
	}
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
	if len(st.out) == cap(st.out) {
		w.flushPort(p)
	}
	if len(st.out) == 0 {
		w.touched = append(w.touched, p)
	}
	st.out = append(st.out, f)
}

// flushPorts writes what toPort gathered.
func (w *worker) flushPorts() {
	for _, p := range w.touched {
		w.flushPort(p)
	}
	w.touched = w.touched[:0]
}

func (w *worker) flushPort(p *Port) {
	st := &p.state[w.id]
	if allow := p.limits.Load().allow; allow != nil {
		w.police(p, allow)
	}
	can := p.dev.Offload().Complete()
	from := 0
	for i, f := range st.out {
		if !takes(can, f) {
			w.writePort(p, st.out[from:i])
			w.writeSplit(p, f)
			from = i + 1
		} else if can&tap.Checksum == 0 {
			f.FinishChecksum()
		}
	}
	w.writePort(p, st.out[from:])
	st.out = st.out[:0]
}

// takes reports whether a port takes a frame as it is, but for its checksum.
func takes(can tap.Offload, f *frame.Frame) bool {
	switch f.Offload.GSO &^ frame.GSOECN {
	case frame.GSONone:
		return true
	case frame.GSOUDPL4:
		return can&tap.WriteUSO != 0
	}
	return can&tap.WriteTSO != 0
}

// writePort writes frames to a port. A verdict that the port gave stands for
// that port only, so it is counted here and taken back.
func (w *worker) writePort(p *Port, frames []*frame.Frame) {
	if len(frames) == 0 {
		return
	}
	st := &p.state[w.id]
	var bytes uint64
	for _, f := range frames {
		bytes += uint64(f.Size())
	}
	sent := p.queues[w.id%len(p.queues)].Write(frames)
	w.tx.add(uint64(sent))
	if sent < len(frames) {
		for _, f := range frames {
			if f.Verdict.Action == frame.Dropped {
				p.seg.drops[w.id][f.Verdict.Reason].add(1)
				bytes -= uint64(f.Size())
				f.Verdict = frame.Verdict{Action: frame.ToPort, Dst: p.id}
			}
		}
		st.txDropped.add(uint64(len(frames) - sent))
	}
	st.txPackets.add(uint64(sent))
	st.txBytes.add(bytes)
}

// writeSplit writes the segments of a super-frame to a port that takes none.
func (w *worker) writeSplit(p *Port, f *frame.Frame) {
	if w.split == nil {
		w.split = frame.NewBatch(splitLen+1, frame.MaxLen)
	}
	// The last frame of the batch is where a merged one is put together.
	whole := &w.split.Frames[splitLen]
	if f.Parts != nil {
		whole.Reset()
		whole.SetLen(len(f.AppendTo(whole.Buffer()[:0])))
		whole.Info, whole.Offload = f.Info, f.Offload
		f = whole
	}
	w.splitter.Init(f)
	var out [splitLen]*frame.Frame
	n, header := 0, w.splitter.HeaderLen()
	for k := range w.splitter.N() {
		s := &w.split.Frames[n]
		s.Reset()
		b := s.Buffer()
		s.SetLen(header + copy(b[header:], w.splitter.Segment(k, b[:header])))
		out[n] = s
		if n++; n == splitLen {
			w.writePort(p, out[:n])
			n = 0
		}
	}
	w.writePort(p, out[:n])
}

// toPeer gathers what goes to a remote VTEP or a group. to is nil for a group.
// A super-frame has no Parts here: those come by the tunnel only, and never
// leave by it.
func (w *worker) toPeer(s *Segment, f *frame.Frame, dst *underlay.Remote, to *remote) {
	if f.Offload.GSO != frame.GSONone {
		w.trainToPeer(s, f, dst, to)
		return
	}
	if len(w.packets) == cap(w.packets) || len(w.pieces) == cap(w.pieces) {
		w.flushTunnel(s)
	}
	f.FinishChecksum()
	encap.PutPolicyHeader(f.Room(encap.HeaderLen), s.vni, encap.Policy(f.Outer.Policy))
	n := len(w.pieces)
	w.pieces = append(w.pieces, f.WithRoom(encap.HeaderLen))
	w.gather(f, dst, to, underlay.Packet{Data: w.pieces[n : n+1 : n+1], Count: 1})
}

// trainToPeer is toPeer for a super-frame. Its headers are made once, however
// many peers it goes to.
func (w *worker) trainToPeer(s *Segment, f *frame.Frame, dst *underlay.Remote, to *remote) {
	if t := w.train; t.of == f && len(w.packets)+t.to-t.from <= cap(w.packets) {
		for i := t.from; i < t.to; i++ {
			p := &w.packets[i]
			w.gather(f, dst, to, underlay.Packet{Data: p.Data, Segment: p.Segment, Count: p.Count})
		}
		return
	}
	g := &w.splitter
	g.Init(f)
	header, size, n := encap.HeaderLen+g.HeaderLen(), encap.HeaderLen+g.Size(), g.N()
	most := max(1, min(underlay.MaxTrain, underlay.MaxTrainLen/size))
	w.train.of, w.train.from = f, len(w.packets)
	for k := 0; k < n; {
		count := min(most, n-k)
		if len(w.packets) == cap(w.packets) || len(w.pieces)+2*count > cap(w.pieces) || len(w.headers)+header*count > cap(w.headers) {
			w.flushTunnel(s)
		}
		from := len(w.pieces)
		for range count {
			at := len(w.headers)
			h := w.headers[at : at+header]
			w.headers = w.headers[:at+header]
			encap.PutPolicyHeader(h, s.vni, encap.Policy(f.Outer.Policy))
			w.pieces = append(w.pieces, h, g.Segment(k, h[encap.HeaderLen:]))
			k++
		}
		p := underlay.Packet{Data: w.pieces[from:len(w.pieces):len(w.pieces)], Segment: size, Count: count}
		if count == 1 {
			p.Segment = 0
		}
		w.gather(f, dst, to, p)
	}
	w.train.to = len(w.packets)
}

// gather notes one packet of f, for flushTunnel to send.
func (w *worker) gather(f *frame.Frame, dst *underlay.Remote, to *remote, p underlay.Packet) {
	dscp := -1
	if w.v.cfg.TOS != nil {
		dscp = int(*w.v.cfg.TOS)
	}
	if w.v.cfg.InheritTTL {
		p.TTL = f.Info.TTL
	}
	if w.v.cfg.DF == DFInherit {
		p.NoDF = f.Info.EtherType == frame.TypeIPv4 && f.Info.L3 != 0 && !f.DontFragment()
	}
	p.TOS, p.Entropy, p.Dst = encap.OuterTOS(f.Info.TOS, dscp), f.Hash(), dst
	w.packets = append(w.packets, p)
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
		lost := uint64(p.Count - p.Sent)
		if lost > 0 {
			s.drops[w.id][p.Reason].add(lost)
			if p.Reason == frame.TooBig && w.from != nil {
				w.tellTooBig(s, w.from, p)
			}
		}
		if to == nil {
			continue
		}
		t := &to.traffic[w.id]
		if lost > 0 {
			t.txDropped.add(lost)
		}
		if p.Sent > 0 {
			t.txPackets.add(uint64(p.Sent))
			t.txBytes.add(uint64(sentBytes(p)))
		}
	}
	w.packets, w.remotes, w.pieces, w.headers = w.packets[:0], w.remotes[:0], w.pieces[:0], w.headers[:0]
	w.train.of = nil
}

// sentBytes is how many bytes of inner frames were sent: of a train, all
// datagrams count as long as the first where not all were.
func sentBytes(p *underlay.Packet) int {
	if p.Sent < p.Count {
		return p.Sent * (p.Segment - encap.HeaderLen)
	}
	n := 0
	for _, d := range p.Data {
		n += len(d)
	}
	return n - p.Count*encap.HeaderLen
}
