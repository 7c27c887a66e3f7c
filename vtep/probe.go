package vtep

import (
	"encoding/binary"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/frame"
)

// probes are the addresses that the segment was asked about a moment ago. It is
// written by whoever asks and read by workers, and nobody waits for anybody.
type probes struct {
	last  atomic.Uint32 // the last second in which an answer is waited for
	slots atomic.Pointer[[probesLen]atomic.Uint64]
}

const (
	probesLen  = 1024 // a pool's addresses follow each other: so many of them have places of their own
	probesNear = 8    // places that an address may have
)

// add notes that an answer about an address is waited for until a second. Where
// there is no place an older address gives up its own, and its answer is not
// heard.
func (p *probes) add(ip uint32, until fdb.Seconds) {
	slots := p.slots.Load()
	if slots == nil {
		p.slots.CompareAndSwap(nil, new([probesLen]atomic.Uint64))
		slots = p.slots.Load()
	}
	oldest, entry := &slots[ip%probesLen], uint64(ip)<<32|uint64(until)
	for i := range uint32(probesNear) {
		s := &slots[(ip+i)%probesLen]
		if was := s.Load(); was == 0 || uint32(was>>32) == ip {
			oldest = s
			break
		} else if uint32(was) < uint32(oldest.Load()) {
			oldest = s
		}
	}
	oldest.Store(entry)
	for last := p.last.Load(); last < uint32(until) && !p.last.CompareAndSwap(last, uint32(until)); last = p.last.Load() {
	}
}

// take reports whether an answer about an address is waited for; it then no
// longer is.
func (p *probes) take(ip uint32, now fdb.Seconds) bool {
	if uint32(now) > p.last.Load() {
		return false
	}
	slots := p.slots.Load()
	if slots == nil {
		return false
	}
	for i := range uint32(probesNear) {
		s := &slots[(ip+i)%probesLen]
		if was := s.Load(); uint32(was>>32) == ip && uint32(was) >= uint32(now) {
			return s.CompareAndSwap(was, 0)
		}
	}
	return false
}

// probe asks everybody in the segment whether an address is in use (RFC 5227
// section 2.1.1), and has an answer heard for as long as the server waits for it,
// at least.
func (s *Segment) probe(ip netip.Addr) {
	sv := s.view.Load().service
	if sv == nil || sv.v4 == nil || !ip.Is4() {
		return
	}
	a := ip.As4()
	// Seconds are coarse, and the present one may be over.
	sv.v4.probes.add(binary.BigEndian.Uint32(a[:]), s.v.seconds()+fdb.Seconds(sv.v4.probing/time.Second)+2)
	b := make([]byte, frame.EthernetLen+frame.ARPLen)
	composeEthernet(b, fdb.Broadcast, sv.mac, frame.TypeARP)
	copy(b[frame.EthernetLen:], []byte{0, 1, 8, 0, 6, 4, 0, frame.ARPRequest})
	arp := frame.ARP(b[frame.EthernetLen:])
	sv.mac.Put(arp.SenderMAC())
	copy(arp.TargetIP(), a[:])
	s.inject(injected{to: everybody, bytes: b})
}

// hearARP has the DHCP server told of an address that is in use: one that it
// asked about, or one that a station announces by itself (RFC 5227 section 2.3).
func (w *worker) hearARP(s *Segment, v4 *service4, p frame.ARP) {
	ip := binary.BigEndian.Uint32(p.SenderIP())
	if ip == 0 {
		return
	}
	asked := v4.probes.take(ip, w.v.seconds())
	if asked || ip == binary.BigEndian.Uint32(p.TargetIP()) {
		w.tellService(s, heard{by: v4, ip: netip.AddrFrom4([4]byte(p.SenderIP())), mac: fdb.MACOf(p.SenderMAC()), asked: asked})
	}
}

// hear has the server leave an address alone that somebody else uses.
func (v4 *service4) hear(h heard) {
	mac := h.mac.Bytes()
	v4.server.InUse(h.ip, mac[:])
}
