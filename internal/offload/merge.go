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
	open  [maxOpen]*run             // those that may still grow; nil where there is none
	last  *run                      // the one that grew last, or began last
	turn  int                       // of open, who goes when it is full
}

// run is a super-frame in the making.
type run struct {
	f       *frame.Frame
	head    []byte // its first segment
	owner   uint64 // what tells apart equal flows of different origin
	hdr     int    // length of the headers
	l3, l4  int
	v6, udp bool
	psh     bool
	slot    int // in open

	mss   int    // payload of every segment but the last
	size  int    // payload so far
	next  uint32 // sequence number
	id    uint16 // IPv4 identification of the first
	parts [][]byte

	ipSum  uint64 // of the IPv4 header without length, identification and checksum
	pseudo uint64 // of the pseudo-header without the length
}

// Reset forgets all runs; Finish was called and the frames have been written.
func (m *Merger) Reset() {
	m.n, m.last = 0, nil
	m.open = [maxOpen]*run{}
}

// Extend takes a segment into the super-frame that it continues, if there is one,
// and reports whether it did. p is the frame from its destination MAC on, owner
// that of Start. The caller keeps p as it is until the frames were written.
func (m *Merger) Extend(p []byte, owner uint64) bool {
	if r := m.last; r != nil && r.follows(p, owner) {
		m.take(r, p)
		return true
	}
	for _, r := range m.open {
		if r != nil && r != m.last && r.follows(p, owner) {
			m.take(r, p)
			return true
		}
	}
	return false
}

func (m *Merger) take(r *run, p []byte) {
	data := p[r.hdr:]
	r.parts = append(r.parts, data)
	r.size += len(data)
	r.next += uint32(len(data))
	m.last = r
	if !r.udp && p[r.l4+tcpFlags]&flagPSH != 0 {
		r.psh = true
	}
	if len(data) < r.mss || r.psh || len(r.parts) == MaxParts {
		m.close(r)
	}
}

// close ends a run: nothing follows it any more.
func (m *Merger) close(r *run) {
	m.open[r.slot] = nil
	if m.last == r {
		m.last = nil
	}
}

// follows reports whether p is the next segment of the run.
func (r *run) follows(p []byte, owner uint64) bool {
	h := r.head
	size := len(p) - r.hdr
	if owner != r.owner || size <= 0 || size > r.mss || r.hdr-r.l3+r.size+size > maxIPLen {
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
// ends those of its flow that are under way. The frame has been parsed and its
// checksum is not partial; owner is a number that differs for flows that must not
// be merged however equal they look.
func (m *Merger) Start(f *frame.Frame, owner uint64) {
	i, b := &f.Info, f.Bytes()
	ported := i.Proto == frame.ProtoTCP || i.Proto == frame.ProtoUDP
	switch {
	case i.L3 == 0 || i.EtherType != frame.TypeIPv4 && i.EtherType != frame.TypeIPv6:
		return
	case i.L4 == 0 || i.Fragment:
		// Of a flow that cannot be told, but for IPv4 of other protocols: let nobody
		// pass it.
		if ported || i.EtherType == frame.TypeIPv6 {
			for _, r := range m.open {
				if r != nil {
					m.close(r)
				}
			}
		}
		return
	case !ported:
		return
	}
	ports := binary.BigEndian.Uint32(b[i.L4:])
	for _, r := range m.open {
		if r != nil && binary.BigEndian.Uint32(r.head[r.l4:]) == ports {
			m.close(r) // of this flow, or of one that looks alike: no harm
		}
	}
	if m.n == maxRuns || f.Offload != (frame.Offload{}) {
		return
	}
	r := &m.runs[m.n]
	*r = run{f: f, head: b, owner: owner, l3: int(i.L3), l4: int(i.L4),
		v6: i.EtherType == frame.TypeIPv6, udp: i.Proto == frame.ProtoUDP, parts: m.parts[m.n][:0]}
	if !r.begins() {
		return
	}
	m.n++
	slot := -1
	for k, o := range m.open {
		if o == nil {
			slot = k
			break
		}
	}
	if slot < 0 {
		slot = m.turn
		m.turn = (m.turn + 1) % maxOpen
	}
	r.slot = slot
	m.open[slot], m.last = r, r
}

// begins reports whether the run's frame can be the first of several segments.
func (r *run) begins() bool {
	b, proto := r.head, frame.ProtoTCP
	n := len(b) - r.l4
	th := b[r.l4:]
	if r.udp {
		proto = frame.ProtoUDP
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
	// A super-frame has to fit where others fit, however many tags it has.
	r.mss = len(b) - r.hdr
	if r.mss < minSegment || r.l3 > frame.MaxLen-maxIPLen {
		return false
	}
	if r.v6 {
		if r.l4-r.l3 != ip6Hdr || int(binary.BigEndian.Uint16(b[r.l3+ip6Len:])) != n {
			return false
		}
		r.pseudo = frame.Sum(b[r.l3+ip6Src:r.l4], uint64(proto))
	} else {
		ip := b[r.l3:]
		if r.l4-r.l3 != ip4Hdr || int(binary.BigEndian.Uint16(ip[ip4Len:])) != ip4Hdr+n {
			return false
		}
		r.id = binary.BigEndian.Uint16(ip[ip4ID:])
		r.ipSum = fold32(frame.Sum(ip[ip4Frag:ip4Csum], frame.Sum(ip[:ip4Len], frame.Sum(ip[ip4Src:ip4Hdr], 0))))
		if frame.Fold(r.ipSum+uint64(ip4Hdr+n)+uint64(r.id)+uint64(binary.BigEndian.Uint16(ip[ip4Csum:]))) != 0xffff {
			return false
		}
		r.pseudo = frame.Sum(ip[ip4Src:ip4Hdr], uint64(proto))
	}
	r.pseudo = fold32(r.pseudo)
	r.size = r.mss
	r.next = binary.BigEndian.Uint32(th[tcpSeq:]) + uint32(r.mss)
	return frame.Fold(frame.Sum(th, r.pseudo+uint64(n))) == 0xffff
}

// Finish completes every super-frame of the batch: lengths, checksums, Parts and
// Offload of its frame. A frame that nothing followed stays as it was, but its
// checksum is known to be right.
func (m *Merger) Finish() {
	for k := range m.n {
		m.runs[k].finish()
	}
}

func (r *run) finish() {
	f := r.f
	if len(r.parts) == 0 {
		f.Offload.Flags |= frame.DataValid
		return
	}
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
