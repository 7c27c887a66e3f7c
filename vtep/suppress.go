package vtep

import (
	"net/netip"
	"slices"

	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/frame"
)

// suppress answers who asks for the MAC of a known neighbour, in its place, so
// that the request need not be flooded (RFC 9161), and learns from all such
// messages that pass. Those with a VLAN tag are the guests' own affair.
func (w *worker) suppress(s *Segment, vw *view, frames []frame.Frame) {
	for i := range frames {
		f := &frames[i]
		if f.Verdict.Action != frame.Undecided || f.Info.Tagged {
			continue
		}
		switch {
		case f.Info.EtherType == frame.TypeARP && vw.suppressARP:
			w.suppressARP(s, vw, f)
		case f.Info.EtherType == frame.TypeIPv6 && f.Info.Proto == frame.ProtoICMPv6 && vw.suppressND:
			w.suppressND(s, vw, f)
		}
	}
}

// suppressARP does it for ARP (RFC 826).
func (w *worker) suppressARP(s *Segment, vw *view, f *frame.Frame) {
	p, ok := f.ARP()
	if !ok || p.Op() != frame.ARPRequest && p.Op() != frame.ARPReply {
		return
	}
	sender, target := netip.AddrFrom4([4]byte(p.SenderIP())), netip.AddrFrom4([4]byte(p.TargetIP()))
	news := false
	if isStation(sender) {
		news = w.observe(s, vw, f, sender, fdb.MACOf(p.SenderMAC()), nil, true)
	}
	// Whoever probes for an address or announces his own (RFC 5227) is to be heard
	// by its owner. A request to one station is for that station to answer.
	if p.Op() != frame.ARPRequest || sender == target || !isStation(sender) || !fdb.MACOf(f.Bytes()).IsGroup() {
		return
	}
	n := w.known(s, vw, f, target, news)
	if n == nil {
		return
	}
	p.SetOp(frame.ARPReply)
	copy(p.TargetMAC(), p.SenderMAC())
	copy(p.TargetIP(), p.SenderIP())
	n.mac.Put(p.SenderMAC())
	a := n.ip.As4()
	copy(p.SenderIP(), a[:])
	vw.reflect(f, n.mac)
}

// suppressND does it for neighbour discovery (RFC 4861).
func (w *worker) suppressND(s *Segment, vw *view, f *frame.Frame) {
	m, ok := f.ICMPv6()
	if !ok || m.Code() != 0 || f.Info.TTL != ndHops {
		return
	}
	switch m.Type() {
	case frame.NeighbourSolicitation:
		w.suppressSolicitation(s, vw, f, m)
	case frame.NeighbourAdvertisement:
		w.hearAdvertisement(s, vw, f, m)
	case frame.RouterAdvertisement:
		w.hearRouter(s, vw, f, m)
	}
}

func (w *worker) suppressSolicitation(s *Segment, vw *view, f *frame.Frame, m frame.ICMPv6) {
	q, ok := readSolicitation(f, m)
	if !ok || q.src.IsUnspecified() { // who would like to have the address is to be heard by its owner
		return
	}
	own, news := fdb.MACOf(f.Bytes()[6:]), false
	if q.from != nil && isStation(q.src) {
		news = w.observe(s, vw, f, q.src, fdb.MACOf(q.from), nil, true)
	}
	if !fdb.MACOf(f.Bytes()).IsGroup() || q.src == q.target {
		return
	}
	if n := w.known(s, vw, f, q.target, news); n != nil {
		w.advertise(s, vw, f, advert{target: n.ip, of: n.mac, to: q.src, mac: own, router: n.router, solicited: true})
	}
}

// hearAdvertisement learns from a neighbour advertisement (section 7.1.2).
func (w *worker) hearAdvertisement(s *Segment, vw *view, f *frame.Frame, m frame.ICMPv6) {
	const routerFlag, overrideFlag, optionsAt = 0x80, 0x20, 24
	target := m.Target()
	if target == nil || !f.ChecksumHolds() {
		return
	}
	mac, ok := m.Option(optionsAt, frame.OptionTargetMAC)
	if a := netip.AddrFrom16([16]byte(target)); ok && len(mac) == 6 && isStation(a) {
		router := m[4]&routerFlag != 0
		w.observe(s, vw, f, a, fdb.MACOf(mac), &router, m[4]&overrideFlag != 0)
	}
}

// hearRouter learns from a router advertisement that its sender is one (section
// 6.1.2).
func (w *worker) hearRouter(s *Segment, vw *view, f *frame.Frame, m frame.ICMPv6) {
	const optionsAt = 16
	src := netip.AddrFrom16([16]byte(f.Bytes()[f.Info.L3+8:]))
	if len(m) < optionsAt || !src.IsLinkLocalUnicast() || !f.ChecksumHolds() {
		return
	}
	mac, ok := m.Option(optionsAt, frame.OptionSourceMAC)
	if ok && len(mac) == 6 {
		router := true
		w.observe(s, vw, f, src, fdb.MACOf(mac), &router, true)
	}
}

// observe notes that a frame says who has an address, and reports whether that is
// news. Only its sender is believed, and only of himself; what anybody else says
// casts doubt on what is known. The service's own addresses are nobody else's.
func (w *worker) observe(s *Segment, vw *view, f *frame.Frame, ip netip.Addr, mac fdb.MAC, router *bool, override bool) bool {
	if vw.service != nil && vw.service.owns(ip) {
		return false
	}
	in := fdb.Dst(f.Ingress)
	var what observation
	if mac == fdb.MACOf(f.Bytes()[6:]) {
		what = vw.neighbours.observe(ip, mac, in, router, override, w.v.seconds())
	} else if override {
		what = vw.neighbours.doubt(ip, mac)
	}
	if what == isHeld {
		w.tellClaim(claim{s, ip, mac, in})
	}
	return what == isNews
}

// known is the neighbour that a request is answered for, nil if it is flooded:
// nobody is known to have the address, or nobody knows where he is now, or he is
// where the request comes from and answers himself, or may not be reached from
// there, or who asks is news: he has come or moved, and everybody is to hear it.
func (w *worker) known(s *Segment, vw *view, f *frame.Frame, ip netip.Addr, news bool) *neighbour {
	t, in := vw.neighbours, fdb.Dst(f.Ingress)
	n := t.lookUp(ip)
	if n != nil && !news && !n.old(w.v.seconds(), vw.ageing) {
		if d := s.table.Lookup(n.mac); d != 0 && d != in && !(d.IsRemote() && in.IsRemote()) && !(vw.isolated(d) && vw.isolated(in)) {
			if p := vw.port(d); d.IsRemote() || p != nil && !p.gone.Load() {
				t.answered.addShared(1)
				return n
			}
		}
	}
	t.flooded.addShared(1)
	return nil
}

// suppress has the view suppress what the new configuration says.
func (c *change) suppress() {
	vw := &c.view
	vw.suppressARP, vw.suppressND = c.new.Suppress&SuppressARP != 0, c.new.Suppress&SuppressND != 0
	vw.ageing = c.new.tableConfig().Ageing
	if c.new.Suppress == 0 {
		vw.neighbours = nil
		c.s.watchLeases(nil)
		return
	}
	if vw.neighbours == nil {
		vw.neighbours = newNeighbours()
		c.s.watchLeases(vw.neighbours)
	}
	gone := false
	for _, n := range c.old.Neighbours {
		if !slices.ContainsFunc(c.new.Neighbours, func(o StaticNeighbour) bool { return o.IP == n.IP }) {
			vw.neighbours.unbind(n.IP, NeighbourStatic)
			gone = true
		}
	}
	if gone {
		c.s.watchLeases(vw.neighbours) // to be told of leases that were hidden
	}
	for _, n := range c.new.Neighbours {
		vw.neighbours.bind(n.IP, n.MAC, NeighbourStatic)
	}
}

// watchLeases has the segment's DHCP servers tell the neighbours of their leases,
// instead of those that they told before; nil is nobody.
func (s *Segment) watchLeases(t *neighbours) {
	was := s.unwatch
	s.unwatch = nil
	if t != nil && s.v.cfg.DHCP != nil {
		s.unwatch = s.v.cfg.DHCP.Watch(uint32(s.vni), t.lease)
	}
	if was != nil {
		was() // only now: no end of a lease is missed in between
	}
}

// forgetNeighbours forgets who was heard at places that are no more.
func (s *Segment) forgetNeighbours(gone map[fdb.Dst]bool) {
	if t := s.view.Load().neighbours; t != nil {
		t.forgetBehind(gone)
	}
}
