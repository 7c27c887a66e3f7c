package offload

import (
	"bytes"
	"encoding/binary"

	"github.com/uvtep/uvtep/internal/frame"
)

const (
	// MaxParts is how many segments a super-frame takes behind its first one.
	MaxParts = 63

	maxRuns  = 64    // super-frames that a Merger makes at once
	maxOpen  = 8     // of those, how many are looked at for a segment to follow
	maxIPLen = 65535 // of a super-frame's IP packet, bytes
)

// Merger makes super-frames of the segments of a batch. Segments of one flow are
// merged only if a receiver could not tell the difference from a sender that had
// made the super-frame itself:
//
//   - TCP: consecutive sequence numbers, and equal in everything else but the
//     payload, the checksums and PSH; only ACK and PSH are set. PSH ends a
//     super-frame.
//   - UDP: equal in everything but the payload and the checksums; a zero
//     checksum is never merged.
//   - IPv4's identification counts up, as it will again when the super-frame is
//     split, or DF is set and it has no meaning (RFC 6864, section 4.1).
//   - All segments have payloads of equal length but the last, which may be
//     shorter.
//   - No IPv4 options, IPv6 extension headers, fragments or Ethernet padding, and
//     two tags at most.
//   - Every checksum is right: what is merged gets new ones, and they must not
//     cover up a fault.
//
// A segment that does not fit ends the super-frame of its flow, so that no flow
// is ever reordered. The payload stays where it is; the first segment's headers
// are rewritten in place.
type Merger struct {
	runs  [maxRuns]run
	parts [maxRuns][MaxParts][]byte // of the runs
	n     int                       // runs in use

	// Those that may still grow: what tells their flows, 0 where there is none,
	// and themselves.
	keys [maxOpen]uint64
	open [maxOpen]*run
	turn int // who goes when all are taken
}

// run is a super-frame in the making.
type run struct {
	f       *frame.Frame // its first segment
	head    []byte       // likewise, as bytes
	owner   uint64       // what tells apart equal flows of different origin
	slot    int          // in open
	l3, l4  int
	hdr     int // length of the headers
	v6, udp bool
	psh     bool
	sum     uint8 // unknown, right or wrong

	mss   int    // payload of every segment but the last
	size  int    // payload so far
	next  uint32 // sequence number
	parts [][]byte

	// Set once the checksums are known to be right.
	id     uint16 // IPv4 identification of the first
	ipSum  uint64 // of the IPv4 header without length, identification and checksum
	pseudo uint64 // of the pseudo-header without the length
}

// Reset forgets all runs; Finish was called and the frames have been written.
func (m *Merger) Reset() {
	if m.n > 0 {
		m.n, m.keys = 0, [maxOpen]uint64{}
	}
}

// key tells the flow of a frame well enough to choose whom to compare it with:
// ports above, and what differs between hosts below. It is 0 for what cannot be
// merged: neither TCP nor UDP directly behind an IP header of normal length, and
// two tags at most.
func key(p []byte) uint64 {
	var src, l4 int // the ends of both addresses lie as far apart as the addresses are long
	proto := uint8(0)
	at := frame.EthernetLen
	for range 3 {
		if len(p) < at+ip4Hdr+udpLen {
			return 0
		}
		switch binary.BigEndian.Uint16(p[at-2:]) {
		case frame.TypeVLAN, frame.TypeQinQ:
			at += 4
			continue
		case frame.TypeIPv4:
			if p[at] != 0x45 {
				return 0
			}
			src, l4, proto = at+ip4Src, at+ip4Hdr, p[at+ip4Proto]
		case frame.TypeIPv6:
			if len(p) < at+ip6Hdr+udpLen {
				return 0
			}
			src, l4, proto = at+ip6Src+12, at+ip6Hdr, p[at+ip6Next]
		}
		break
	}
	if proto != frame.ProtoTCP && proto != frame.ProtoUDP {
		return 0
	}
	hosts := binary.BigEndian.Uint32(p[src:])*0x9e3779b1 + binary.BigEndian.Uint32(p[l4-4:])
	return uint64(binary.BigEndian.Uint32(p[l4:]))<<32 | uint64(hosts|1)
}

// Extend takes a segment into the super-frame that it continues, if there is one,
// and reports whether it did. p is the frame from its destination MAC on, owner
// that of Start. The caller keeps p as it is until the frames were written.
func (m *Merger) Extend(p []byte, owner uint64) bool {
	if m.n == 0 {
		return false
	}
	k := key(p)
	if k == 0 {
		return false
	}
	for i := range m.keys {
		if m.keys[i] != k {
			continue
		}
		r := m.open[i]
		if r.owner != owner || !r.checked() || !r.follows(p) {
			continue
		}
		m.take(r, p)
		return true
	}
	return false
}

func (m *Merger) take(r *run, p []byte) {
	data := p[r.hdr:]
	r.parts = append(r.parts, data)
	r.size += len(data)
	r.next += uint32(len(data))
	if !r.udp && p[r.l4+tcpFlags]&flagPSH != 0 {
		r.psh = true
	}
	if len(data) < r.mss || r.psh || len(r.parts) == MaxParts {
		m.close(r)
	}
}

// close ends a run: nothing follows it any more.
func (m *Merger) close(r *run) { m.keys[r.slot] = 0 }

// follows reports whether p is the next segment of the run.
func (r *run) follows(p []byte) bool {
	h := r.head
	size := len(p) - r.hdr
	if size <= 0 || size > r.mss || r.hdr-r.l3+r.size+size > maxIPLen {
		return false
	}
	// What is most likely to differ comes first: ports and sequence number.
	a, b := h[r.l4:r.hdr], p[r.l4:r.hdr]
	if binary.BigEndian.Uint32(a) != binary.BigEndian.Uint32(b) {
		return false
	}
	n := len(p) - r.l4 // of the transport packet
	if r.udp {
		if int(binary.BigEndian.Uint16(b[udpSize:])) != n || binary.BigEndian.Uint16(b[udpCsum:]) == 0 {
			return false
		}
	} else {
		flags := b[tcpFlags]
		if binary.BigEndian.Uint32(b[tcpSeq:]) != r.next || flags&^flagPSH != flagACK ||
			binary.BigEndian.Uint32(a[tcpAck:]) != binary.BigEndian.Uint32(b[tcpAck:]) ||
			a[tcpOff] != b[tcpOff] || binary.BigEndian.Uint16(a[tcpWindow:]) != binary.BigEndian.Uint16(b[tcpWindow:]) ||
			!bytes.Equal(a[tcpCsum+2:], b[tcpCsum+2:]) {
			return false
		}
	}
	if !bytes.Equal(h[:r.l3], p[:r.l3]) {
		return false
	}
	x, y := h[r.l3:r.l4], p[r.l3:r.l4]
	if r.v6 {
		// All but the length.
		if binary.BigEndian.Uint32(x) != binary.BigEndian.Uint32(y) || int(binary.BigEndian.Uint16(y[ip6Len:])) != n ||
			!bytes.Equal(x[ip6Next:], y[ip6Next:]) {
			return false
		}
	} else {
		id := binary.BigEndian.Uint16(y[ip4ID:])
		if binary.BigEndian.Uint16(x) != binary.BigEndian.Uint16(y) || int(binary.BigEndian.Uint16(y[ip4Len:])) != ip4Hdr+n ||
			binary.BigEndian.Uint32(x[ip4Frag:]) != binary.BigEndian.Uint32(y[ip4Frag:]) || // and TTL, protocol
			binary.BigEndian.Uint64(x[ip4Src:]) != binary.BigEndian.Uint64(y[ip4Src:]) ||
			y[ip4Frag]&ip4DF == 0 && id != r.id+uint16(len(r.parts)+1) ||
			frame.Fold(r.ipSum+uint64(ip4Hdr+n)+uint64(id)+uint64(binary.BigEndian.Uint16(y[ip4Csum:]))) != 0xffff {
			return false
		}
	}
	return frame.Fold(frame.Sum(p[r.l4:], r.pseudo+uint64(n))) == 0xffff
}

// Start makes a frame the first segment of a super-frame, if it can be one, and
// ends those of its flow that are under way. The frame has been parsed; owner is
// a number that differs for flows that must not be merged however equal they
// look.
func (m *Merger) Start(f *frame.Frame, owner uint64) {
	i := &f.Info
	ported := i.Proto == frame.ProtoTCP || i.Proto == frame.ProtoUDP
	switch {
	case i.L3 == 0 || i.EtherType != frame.TypeIPv4 && i.EtherType != frame.TypeIPv6:
		return
	case i.L4 == 0 || i.Fragment:
		// Of a flow that cannot be told, but for IPv4 of other protocols: let nobody
		// pass it.
		if ported || i.EtherType == frame.TypeIPv6 {
			m.keys = [maxOpen]uint64{}
		}
		return
	case !ported:
		return
	}
	b := f.Bytes()
	ports := uint64(binary.BigEndian.Uint32(b[i.L4:]))
	slot := -1
	for n, k := range m.keys {
		if k>>32 == ports {
			m.keys[n], k = 0, 0 // of this flow, or of one that looks alike: no harm
		}
		if k == 0 && slot < 0 {
			slot = n
		}
	}
	if m.n == maxRuns || f.Offload != (frame.Offload{}) {
		return
	}
	r := &m.runs[m.n]
	k := key(b)
	if k == 0 || !r.begin(f) {
		return
	}
	if slot < 0 {
		slot = m.turn
		m.turn = (m.turn + 1) % maxOpen
	}
	r.owner, r.slot, r.parts = owner, slot, m.parts[m.n][:0]
	m.n++
	m.keys[slot], m.open[slot] = k, r
}

// begin makes f the first segment, if it can be one but for its checksums. There
// is a key for it, so that no header is longer than it must be.
func (r *run) begin(f *frame.Frame) bool {
	i, b := &f.Info, f.Bytes()
	r.f, r.head, r.l3, r.l4 = f, b, int(i.L3), int(i.L4)
	r.v6, r.udp = i.EtherType == frame.TypeIPv6, i.Proto == frame.ProtoUDP
	r.sum, r.psh = unknown, false
	n := len(b) - r.l4
	ip, th := b[r.l3:], b[r.l4:]
	if r.v6 && int(binary.BigEndian.Uint16(ip[ip6Len:])) != n || !r.v6 && int(binary.BigEndian.Uint16(ip[ip4Len:])) != ip4Hdr+n {
		return false // padding
	}
	if r.udp {
		r.hdr = r.l4 + udpLen
		if int(binary.BigEndian.Uint16(th[udpSize:])) != n || binary.BigEndian.Uint16(th[udpCsum:]) == 0 {
			return false
		}
	} else {
		r.hdr = r.l4 + int(th[tcpOff]>>4)*4
		if r.hdr < r.l4+tcpMin || th[tcpFlags] != flagACK {
			return false
		}
	}
	r.mss = len(b) - r.hdr
	r.size = r.mss
	r.next = binary.BigEndian.Uint32(th[tcpSeq:]) + uint32(r.mss)
	return r.mss >= minSegment
}

// Whether the checksums of a run's first segment are right. It is looked at when
// something seems to follow: most frames come alone.
const (
	unknown uint8 = iota
	right
	wrong
)

func (r *run) checked() bool {
	if r.sum == unknown {
		r.sum = r.check()
	}
	return r.sum == right
}

func (r *run) check() uint8 {
	b, n, proto := r.head, len(r.head)-r.l4, frame.ProtoTCP
	if r.udp {
		proto = frame.ProtoUDP
	}
	ip := b[r.l3:r.l4]
	if r.v6 {
		r.pseudo = frame.Sum(ip[ip6Src:], uint64(proto))
	} else {
		r.id = binary.BigEndian.Uint16(ip[ip4ID:])
		r.ipSum = fold32(frame.Sum(ip[ip4Frag:ip4Csum], frame.Sum(ip[:ip4Len], frame.Sum(ip[ip4Src:], 0))))
		if frame.Fold(r.ipSum+uint64(ip4Hdr+n)+uint64(r.id)+uint64(binary.BigEndian.Uint16(ip[ip4Csum:]))) != 0xffff {
			return wrong
		}
		r.pseudo = frame.Sum(ip[ip4Src:], uint64(proto))
	}
	r.pseudo = fold32(r.pseudo)
	if frame.Fold(frame.Sum(b[r.l4:], r.pseudo+uint64(n))) != 0xffff {
		return wrong
	}
	return right
}

// Finish completes every super-frame of the batch: lengths, checksums, Parts and
// Offload of its frame. A frame that nothing followed stays as it was. It returns
// how many segments were merged into others.
func (m *Merger) Finish() (merged int) {
	for k := range m.n {
		if r := &m.runs[k]; len(r.parts) > 0 {
			merged += len(r.parts)
			r.finish()
		}
	}
	return merged
}

func (r *run) finish() {
	f := r.f
	n := r.hdr - r.l4 + r.size
	ip, th := r.head[r.l3:r.l4], r.head[r.l4:r.hdr]
	if r.v6 {
		binary.BigEndian.PutUint16(ip[ip6Len:], uint16(n))
	} else {
		binary.BigEndian.PutUint16(ip[ip4Len:], uint16(ip4Hdr+n))
		binary.BigEndian.PutUint16(ip[ip4Csum:], ^frame.Fold(r.ipSum+uint64(ip4Hdr+n)+uint64(r.id)))
	}
	o := frame.Offload{
		Flags: frame.NeedsCsum, GSO: frame.GSOTCPv4, HdrLen: uint16(r.hdr), GSOSize: uint16(r.mss),
		CsumStart: uint16(r.l4), CsumOffset: tcpCsum,
	}
	switch {
	case r.udp:
		o.GSO, o.CsumOffset = frame.GSOUDPL4, udpCsum
		binary.BigEndian.PutUint16(th[udpSize:], uint16(n))
	case r.v6:
		o.GSO = frame.GSOTCPv6
	}
	if r.psh {
		th[tcpFlags] |= flagPSH
	}
	binary.BigEndian.PutUint16(th[o.CsumOffset:], frame.Fold(r.pseudo+uint64(n)))
	f.Offload = o
	f.SetParts(r.parts, r.size-r.mss)
}
