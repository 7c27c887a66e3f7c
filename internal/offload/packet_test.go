package offload_test

import (
	"bytes"
	"encoding/binary"
	"net"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/nettest"
	"github.com/uvtep/uvtep/internal/offload"
)

// packet describes a frame for gopacket to make.
type packet struct {
	dst, src   byte // last bytes of the MACs
	tags       int
	v6, udp    bool
	tos, ttl   uint8
	label      uint32
	id         uint16
	df, evil   bool
	more       bool // a fragment, and not the last
	options    bool // of IPv4
	extension  bool // of IPv6: destination options
	from, to   byte // last bytes of the addresses
	sport      uint16
	dport      uint16
	seq, ack   uint32
	flags      byte // of TCP
	window     uint16
	urgent     uint16
	timestamp  uint32 // 0: no TCP options
	payload    []byte
	noChecksum bool // UDP without
	padding    int  // Ethernet's
}

const (
	fin = 0x01
	syn = 0x02
	rst = 0x04
	psh = 0x08
	ack = 0x10
	urg = 0x20
	ece = 0x40
	cwr = 0x80
)

// plain is a segment that may begin a super-frame: 1000 bytes of payload.
func plain(v6, udp bool) packet {
	return packet{dst: 1, src: 2, v6: v6, udp: udp, ttl: 64, df: true, from: 1, to: 2, sport: 4000, dport: 5000,
		seq: 1000, ack: 77, flags: ack, window: 500, timestamp: 9, payload: noise(1000, 1)}
}

// noise is n bytes that look random and depend on seed.
func noise(n int, seed uint32) []byte {
	b := make([]byte, n)
	x := seed*2654435761 + 12345
	for i := range b {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		b[i] = byte(x >> 8)
	}
	return b
}

// build serialises the packet, with gopacket's idea of lengths and checksums.
func (p packet) build(t testing.TB) []byte {
	t.Helper()
	inner, proto := layers.EthernetTypeIPv4, layers.IPProtocolTCP
	if p.v6 {
		inner = layers.EthernetTypeIPv6
	}
	if p.udp {
		proto = layers.IPProtocolUDP
	}
	eth := &layers.Ethernet{DstMAC: net.HardwareAddr{2, 0, 0, 0, 0, p.dst}, SrcMAC: net.HardwareAddr{2, 0, 0, 0, 0, p.src}, EthernetType: inner}
	ls := []gopacket.SerializableLayer{eth}
	for k := range p.tags {
		tag := &layers.Dot1Q{VLANIdentifier: uint16(10 + k), Type: inner}
		if k == 0 {
			eth.EthernetType = layers.EthernetTypeDot1Q
		} else {
			ls[k].(*layers.Dot1Q).Type = layers.EthernetTypeDot1Q
		}
		ls = append(ls, tag)
	}
	var network gopacket.NetworkLayer
	if p.v6 {
		ip := &layers.IPv6{Version: 6, TrafficClass: p.tos, FlowLabel: p.label, HopLimit: p.ttl, NextHeader: proto,
			SrcIP: net.ParseIP("fd00::"), DstIP: net.ParseIP("fd00::")}
		ip.SrcIP[15], ip.DstIP[15] = p.from, p.to
		network = ip
		ls = append(ls, ip)
	} else {
		ip := &layers.IPv4{Version: 4, TOS: p.tos, TTL: p.ttl, Id: p.id, Protocol: proto, SrcIP: net.IP{10, 0, 0, p.from}, DstIP: net.IP{10, 0, 0, p.to}}
		if p.df {
			ip.Flags |= layers.IPv4DontFragment
		}
		if p.evil {
			ip.Flags |= layers.IPv4EvilBit
		}
		if p.more {
			ip.Flags |= layers.IPv4MoreFragments
		}
		if p.options {
			ip.Options = []layers.IPv4Option{{OptionType: 1}, {OptionType: 1}, {OptionType: 1}, {OptionType: 1}}
		}
		network = ip
		ls = append(ls, ip)
	}
	if p.udp {
		udp := &layers.UDP{SrcPort: layers.UDPPort(p.sport), DstPort: layers.UDPPort(p.dport)}
		if err := udp.SetNetworkLayerForChecksum(network); err != nil {
			t.Fatal(err)
		}
		ls = append(ls, udp)
	} else {
		has := func(f byte) bool { return p.flags&f != 0 }
		tcp := &layers.TCP{SrcPort: layers.TCPPort(p.sport), DstPort: layers.TCPPort(p.dport), Seq: p.seq, Ack: p.ack, Window: p.window, Urgent: p.urgent,
			FIN: has(fin), SYN: has(syn), RST: has(rst), PSH: has(psh), ACK: has(ack), URG: has(urg), ECE: has(ece), CWR: has(cwr)}
		if p.timestamp != 0 {
			data := binary.BigEndian.AppendUint64(nil, uint64(p.timestamp)<<32|7)
			tcp.Options = []layers.TCPOption{{OptionType: layers.TCPOptionKindNop}, {OptionType: layers.TCPOptionKindNop},
				{OptionType: layers.TCPOptionKindTimestamps, OptionLength: 10, OptionData: data}}
		}
		if err := tcp.SetNetworkLayerForChecksum(network); err != nil {
			t.Fatal(err)
		}
		ls = append(ls, tcp)
	}
	b := nettest.Serialize(t, append(ls, gopacket.Payload(p.payload))...)[:p.base()+len(p.payload)] // gopacket pads to 60 bytes
	l3 := p.l3()
	if p.v6 && p.extension {
		ip := b[l3:]
		binary.BigEndian.PutUint16(ip[4:], binary.BigEndian.Uint16(ip[4:])+8)
		options := []byte{ip[6], 0, 1, 4, 0, 0, 0, 0}
		ip[6] = 60
		b = append(b[:l3+40:l3+40], append(options, b[l3+40:]...)...)
	}
	if p.udp {
		switch sum := b[p.l4()+6:]; {
		case p.noChecksum:
			sum[0], sum[1] = 0, 0
		case sum[0] == 0 && sum[1] == 0:
			sum[0], sum[1] = 0xff, 0xff // gopacket does not know better
		}
	}
	return append(b, make([]byte, p.padding)...)
}

func (p packet) l3() int { return 14 + 4*p.tags }

func (p packet) l4() int {
	switch {
	case p.v6 && p.extension:
		return p.l3() + 48
	case p.v6:
		return p.l3() + 40
	case p.options:
		return p.l3() + 24
	}
	return p.l3() + 20
}

// base is the length of all headers but for the extension, which build adds.
func (p packet) base() int {
	p.extension = false
	return p.header()
}

// header is the length of all headers.
func (p packet) header() int {
	switch {
	case p.udp:
		return p.l4() + 8
	case p.timestamp != 0:
		return p.l4() + 32
	}
	return p.l4() + 20
}

func (p packet) csum() int {
	if p.udp {
		return 6
	}
	return 16
}

// super is the packet as a super-frame of segments of mss bytes, as a device
// hands it over.
func (p packet) super(t testing.TB, mss int) ([]byte, frame.Offload) {
	t.Helper()
	b := p.build(t)
	binary.BigEndian.PutUint16(b[p.l4()+p.csum():], slowPseudo(b, p.l3(), p.l4()))
	o := frame.Offload{Flags: frame.NeedsCsum, GSO: frame.GSOTCPv4, HdrLen: uint16(len(b)), GSOSize: uint16(mss),
		CsumStart: uint16(p.l4()), CsumOffset: uint16(p.csum())}
	switch {
	case p.udp:
		o.GSO = frame.GSOUDPL4
	case p.v6:
		o.GSO = frame.GSOTCPv6
	}
	if p.flags&cwr != 0 && !p.udp {
		o.GSO |= frame.GSOECN
	}
	return b, o
}

// slowSum is RFC 1071's definition, a word at a time.
func slowSum(b []byte) uint16 {
	var sum uint32
	for i, c := range b {
		if i%2 == 0 {
			sum += uint32(c) << 8
		} else {
			sum += uint32(c)
		}
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

// slowPseudo is the sum of the pseudo-header of the transport packet at l4, by
// the addresses, lengths and types of the IP header.
func slowPseudo(b []byte, l3, l4 int) uint16 {
	ip, proto := b[l3:], byte(6)
	var pseudo []byte
	var end int
	if ip[0]>>4 == 4 {
		end = l3 + int(binary.BigEndian.Uint16(ip[2:]))
		pseudo, proto = append(pseudo, ip[12:20]...), ip[9]
	} else {
		end = l3 + 40 + int(binary.BigEndian.Uint16(ip[4:]))
		pseudo, proto = append(pseudo, ip[8:40]...), ip[6]
		if proto == 60 {
			proto = ip[40]
		}
	}
	n := end - l4
	return slowSum(append(pseudo, 0, proto, byte(n>>8), byte(n)))
}

// verify fails unless every checksum and length of a finished frame is right, by
// its own arithmetic and by gopacket's parser.
func verify(t testing.TB, b []byte, l3, l4 int) {
	t.Helper()
	ip := b[l3:]
	if ip[0]>>4 == 4 {
		if slowSum(ip[:l4-l3]) != 0xffff {
			t.Fatalf("the IPv4 header's checksum is wrong: % x", ip[:l4-l3])
		}
		if int(binary.BigEndian.Uint16(ip[2:])) != len(ip) {
			t.Fatalf("IPv4 says %d bytes of %d", binary.BigEndian.Uint16(ip[2:]), len(ip))
		}
	} else if int(binary.BigEndian.Uint16(ip[4:]))+40 != len(ip) {
		t.Fatalf("IPv6 says %d bytes of %d", binary.BigEndian.Uint16(ip[4:])+40, len(ip))
	}
	whole := append(binary.BigEndian.AppendUint16(nil, slowPseudo(b, l3, l4)), b[l4:]...)
	if slowSum(whole) != 0xffff {
		t.Fatalf("the transport checksum is wrong: % x", b[l3:min(len(b), l4+32)])
	}
	p := gopacket.NewPacket(b, layers.LayerTypeEthernet, gopacket.Default)
	if p.TransportLayer() == nil {
		t.Fatalf("gopacket: %v", p.ErrorLayer())
	}
	if u, ok := p.TransportLayer().(*layers.UDP); ok && (u.Checksum == 0 || int(u.Length) != len(b)-l4) {
		t.Fatalf("UDP has checksum %#x, length %d of %d", u.Checksum, u.Length, len(b)-l4)
	}
}

// load makes a parsed frame of b with the offload o.
func load(t testing.TB, b []byte, o frame.Offload) *frame.Frame {
	t.Helper()
	f := &frame.NewBatch(1, frame.MaxLen).Frames[0]
	if !f.Load(b) {
		t.Fatalf("%d bytes do not fit", len(b))
	}
	if !f.Parse() {
		t.Fatal("the frame was not parsed")
	}
	f.Offload = o
	return f
}

// split is all segments of a super-frame, as they go out.
func split(t testing.TB, f *frame.Frame) [][]byte {
	t.Helper()
	var s offload.Splitter
	s.Init(f)
	var all [][]byte
	for k := range s.N() {
		h := bytes.Repeat([]byte{0xee}, s.HeaderLen()) // everything has to be written
		all = append(all, append(h, s.Segment(k, h)...))
	}
	return all
}
