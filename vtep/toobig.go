package vtep

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/underlay"
)

const (
	tooBigRate = 100 // messages a second that the guests of a port are told, at most

	minMTU6 = 1280 // of IPv6 (RFC 8200 section 5); no message may be longer (RFC 4443 section 2.4)
	maxMsg4 = 576  // bytes of an ICMP message (RFC 1812 section 4.3.2.3)
)

// tooBig is what a worker needs to tell guests that a packet of theirs does not
// fit. It is made once that happens.
type tooBig struct {
	scratch *frame.Batch // the packet, and the message about it
	last    *byte        // where the frame begins that was told of last: a flood is told of once
}

// tellTooBig tells the guest behind a port that a packet of its frame is too big
// for the way to a remote VTEP, and how big one may be, if that may be told.
func (w *worker) tellTooBig(s *Segment, from *Port, p *underlay.Packet) {
	t := &w.tooBig
	if &p.Data[0][0] == t.last {
		return
	}
	t.last = &p.Data[0][0]
	if t.scratch == nil {
		t.scratch = frame.NewBatch(2, frame.MaxLen)
	}
	f, m := &t.scratch.Frames[0], &t.scratch.Frames[1]
	f.Reset()
	f.SetLen(innerFrame(f.Buffer(), p))
	if !f.Parse() || !mayTellTooBig(f) {
		return
	}
	if !from.tooBig.take(w.v.cfg.Clock().Sub(w.v.start), tooBigRate, 1) {
		return
	}
	mtu, err := w.v.ep.PathMTU(p.Dst)
	if err != nil {
		return
	}
	msg := tooBigMessage(f, mtu-encap.Overhead(w.v.cfg.Local), s.view.Load().mtu, serviceMAC(w.v.cfg.Local, uint32(s.vni)))
	if msg == nil || !m.Load(msg) || !m.Parse() {
		return
	}
	m.Ingress = uint32(fdb.Self)
	m.Verdict = frame.Verdict{Action: frame.ToPort, Dst: from.id}
	from.state[w.id].tooBigTold.add(1)
	w.writePort(from, []*frame.Frame{m})
}

// innerFrame puts the frame in the first datagram of a packet together in buf,
// which is long enough, and returns its length.
func innerFrame(buf []byte, p *underlay.Packet) int {
	n := copy(buf, p.Data[0][encap.HeaderLen:])
	for _, d := range p.Data[1:] {
		if p.Segment > 0 && n+encap.HeaderLen >= p.Segment {
			break
		}
		n += copy(buf[n:], d)
	}
	return n
}

// mayTellTooBig reports whether the sender of a packet may be told that it is too
// big. Errors are not told of errors, nor of what has no single sender
// (RFC 1122 section 3.2.2, RFC 4443 section 2.4(e)); an IPv4 packet without DF is
// one of which nobody is to be told (RFC 1191 section 4).
func mayTellTooBig(f *frame.Frame) bool {
	if !isIP(f) || fdb.MACOf(f.Bytes()[6:]).IsGroup() {
		return false
	}
	src, dst := addresses(f)
	if !isStation(src) {
		return false
	}
	l4 := f.Bytes()[f.Info.L4:]
	if f.Info.EtherType == frame.TypeIPv6 {
		// A multicast packet's sender is told (exception 1).
		if !isStation(dst) && !dst.IsMulticast() {
			return false
		}
		return f.Info.Proto != frame.ProtoICMPv6 || f.Info.L4 != 0 && l4[0] >= 128 && l4[0] != 137 // a redirect
	}
	if !f.DontFragment() || !isStation(dst) || fdb.MACOf(f.Bytes()).IsGroup() {
		return false
	}
	if binary.BigEndian.Uint16(f.Bytes()[f.Info.L3+6:])&0x1fff != 0 {
		return false // not the first fragment
	}
	if f.Info.Proto != frame.ProtoICMP {
		return true
	}
	return f.Info.L4 != 0 && !slices.Contains([]uint8{3, 4, 5, 11, 12}, l4[0])
}

// isStation reports whether an address is one host's.
func isStation(a netip.Addr) bool { return a.IsGlobalUnicast() || a.IsLinkLocalUnicast() }

// addresses are source and destination of the IP header at Info.L3.
func addresses(f *frame.Frame) (src, dst netip.Addr) {
	h := f.Bytes()[f.Info.L3:]
	if f.Info.EtherType == frame.TypeIPv4 {
		return netip.AddrFrom4([4]byte(h[12:16])), netip.AddrFrom4([4]byte(h[16:20]))
	}
	return netip.AddrFrom16([16]byte(h[8:24])), netip.AddrFrom16([16]byte(h[24:40]))
}

// tooBigMessage is a frame that tells the sender of f, for which mayTellTooBig
// holds, how long its packets may be: as ICMP's "fragmentation needed" (RFC 1191
// section 4) or ICMPv6's "packet too big" (RFC 4443 section 3.2). room is what the
// path carries of an untagged packet, bytes, mtu is the segment's. It is nil where
// the packet fits, or where the sender can do nothing about it.
//
// It comes from whom the packet was for: a switch has no address of its own in
// the guests' network, and that one they take such news from, whatever they filter
// by, as Linux's tunnels do it. What was for a group comes from the segment's
// own station, whose MAC is own.
func tooBigMessage(f *frame.Frame, room, mtu int, own fdb.MAC) []byte {
	at := int(f.Info.L3)
	h := f.Bytes()[at:]
	room -= at - frame.EthernetLen // tags are carried, too
	src, dst := addresses(f)
	to, from := fdb.MACOf(f.Bytes()[6:]), fdb.MACOf(f.Bytes())
	var b, msg []byte
	if src.Is4() {
		total := int(binary.BigEndian.Uint16(h[2:]))
		if total <= room || room < 68 {
			return nil
		}
		const headers = 20 + 8
		n := min(total, max(min(maxMsg4, mtu)-headers, 28))
		b, msg = composeIP(to, from, dst, src, frame.ProtoICMP, 64, 8+n)
		msg[0], msg[1] = 3, 4
		binary.BigEndian.PutUint16(msg[6:], uint16(min(room, 65535)))
		copy(msg[8:], h[:n])
		binary.BigEndian.PutUint16(msg[2:], ^frame.Fold(frame.Sum(msg, 0)))
	} else {
		total := ipv6Len + int(binary.BigEndian.Uint16(h[4:]))
		if room = max(room, minMTU6); total <= room { // nobody sends less in one (RFC 8201 section 4)
			return nil
		}
		if dst.IsMulticast() {
			dst, from = linkLocal(own), own
		}
		n := min(total, minMTU6-ipv6Len-8)
		b, msg = composeIP(to, from, dst, src, frame.ProtoICMPv6, 64, 8+n)
		msg[0] = 2
		binary.BigEndian.PutUint32(msg[4:], uint32(room))
		copy(msg[8:], h[:n])
		binary.BigEndian.PutUint16(msg[2:], checksum(dst, src, frame.ProtoICMPv6, msg))
	}
	return slices.Insert(b, 12, f.Bytes()[12:at-2]...) // the tags
}
