package offload

import (
	"encoding/binary"

	"github.com/uvtep/uvtep/internal/frame"
)

// Splitter tells the segments of a super-frame one by one. The payload stays
// where it is; only headers are written.
type Splitter struct {
	head    []byte // the super-frame's headers
	payload []byte
	mss     int
	l3, l4  int
	v6, udp bool

	seq    uint32
	id     uint16
	ipSum  uint64 // of the IPv4 header without length, identification and checksum
	sum    uint64 // of the pseudo-header without the length, and of the transport header without what differs
	flags  byte
	header int
}

// Init prepares the segments of f, for which Check has held and which has no
// Parts. They are told from f's bytes, which must not change meanwhile.
func (s *Splitter) Init(f *frame.Frame) {
	b, o := f.Bytes(), &f.Offload
	*s = Splitter{
		head: b[:o.HdrLen], payload: b[o.HdrLen:], mss: int(o.GSOSize), header: int(o.HdrLen),
		l3: int(f.Info.L3), l4: int(f.Info.L4),
		v6: f.Info.EtherType == frame.TypeIPv6, udp: f.Info.Proto == frame.ProtoUDP,
	}
	ip, th := s.head[s.l3:s.l4], s.head[s.l4:]
	if !s.v6 {
		s.id = binary.BigEndian.Uint16(ip[ip4ID:])
		s.ipSum = fold32(frame.Sum(ip[ip4Frag:ip4Csum], frame.Sum(ip[:ip4Len], frame.Sum(ip[ip4Src:], 0))))
	}
	// The partial checksum is the sum of the pseudo-header, which is not for us to
	// make: a routing header or a source route puts other addresses into it (RFC
	// 8200, section 8.1). Its length is taken back out.
	if s.udp {
		s.sum = uint64(binary.BigEndian.Uint16(th[udpCsum:])) + uint64(^binary.BigEndian.Uint16(th[udpSize:]))
		s.sum = frame.Sum(th[:udpSize], s.sum)
	} else {
		s.seq = binary.BigEndian.Uint32(th[tcpSeq:])
		s.flags = th[tcpFlags]
		s.sum = uint64(binary.BigEndian.Uint16(th[tcpCsum:])) + uint64(^uint16(len(b)-s.l4))
		s.sum = frame.Sum(th[:tcpSeq], frame.Sum(th[tcpAck:tcpOff], frame.Sum(th[tcpWindow:tcpCsum], frame.Sum(th[tcpCsum+2:], s.sum))))
	}
	s.sum = fold32(s.sum)
}

// HeaderLen is the length of a segment's headers, from its Ethernet header on.
func (s *Splitter) HeaderLen() int { return s.header }

// N is how many segments there are.
func (s *Splitter) N() int { return (len(s.payload) + s.mss - 1) / s.mss }

// Size is the length of every segment but the last, headers included.
func (s *Splitter) Size() int { return s.header + s.mss }

// Segment writes the headers of segment k, counted from 0, to dst, which has
// HeaderLen bytes, with all checksums complete, and returns its payload. FIN and
// PSH go with the last segment, CWR with the first (RFC 3168, section 6.1.2);
// IPv4 identifications count up.
func (s *Splitter) Segment(k int, dst []byte) []byte {
	from := k * s.mss
	data := s.payload[from:min(from+s.mss, len(s.payload))]
	copy(dst, s.head)
	n := s.header - s.l4 + len(data) // of the transport packet
	ip, th := dst[s.l3:], dst[s.l4:s.header]
	if s.v6 {
		binary.BigEndian.PutUint16(ip[ip6Len:], uint16(s.l4-s.l3-ip6Hdr+n))
	} else {
		total, id := uint16(s.l4-s.l3+n), s.id+uint16(k)
		binary.BigEndian.PutUint16(ip[ip4Len:], total)
		binary.BigEndian.PutUint16(ip[ip4ID:], id)
		binary.BigEndian.PutUint16(ip[ip4Csum:], ^frame.Fold(s.ipSum+uint64(total)+uint64(id)))
	}
	sum := s.sum + uint64(n)
	if s.udp {
		binary.BigEndian.PutUint16(th[udpSize:], uint16(n))
		c := ^frame.Fold(frame.Sum(data, sum+uint64(n)))
		if c == 0 {
			c = 0xffff // zero would mean that there is none (RFC 768)
		}
		binary.BigEndian.PutUint16(th[udpCsum:], c)
		return data
	}
	seq, flags := s.seq+uint32(from), s.flags
	if k > 0 {
		flags &^= flagCWR
	}
	if from+s.mss < len(s.payload) {
		flags &^= flagFIN | flagPSH
	}
	binary.BigEndian.PutUint32(th[tcpSeq:], seq)
	th[tcpFlags] = flags
	sum += uint64(seq) + uint64(th[tcpOff])<<8 + uint64(flags)
	binary.BigEndian.PutUint16(th[tcpCsum:], ^frame.Fold(frame.Sum(data, sum)))
	return data
}

// fold32 makes room above a sum, so that small numbers can be added without a
// carry.
func fold32(sum uint64) uint64 { return sum>>32 + sum&0xffffffff }
