package guardtest

import (
	"encoding/binary"
	"math/rand/v2"
	"net"
	"net/netip"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// Forger makes frames: of a station that is what it says, and of one that is not,
// by every trick there is. Nothing tells which is which.
type Forger struct {
	*rand.Rand
	World
	MACs      []net.HardwareAddr // of stations that there are
	Addresses []netip.Addr       // that they have

	src net.HardwareAddr // of the frame at hand
}

// NewForger makes one for a port of which two stations are: one with addresses of
// both families and a prefix, and one with a link-local address of its own making.
// Others are elsewhere.
func NewForger(seed uint64, open bool) *Forger {
	mac := func(n byte) net.HardwareAddr { return net.HardwareAddr{2, 0, 0, 0, 0, n} }
	ip := netip.MustParseAddr
	one := func(s string) netip.Prefix { return netip.PrefixFrom(ip(s), ip(s).BitLen()) }
	return &Forger{
		Rand: rand.New(rand.NewPCG(seed, 5)),
		World: World{Open: open, Bound: []Pair{
			{mac(1), one("192.168.100.10")}, {mac(1), one("2001:db8:100::10")}, {mac(1), netip.MustParsePrefix("2001:db8:200:100::/56")},
			{mac(2), one("192.168.100.11")}, {mac(2), one("fe80::1:2:3")}, {mac(2), netip.MustParsePrefix("10.7.0.0/16")},
		}},
		MACs: []net.HardwareAddr{mac(1), mac(2), mac(3), mac(4), {0xff, 0xff, 0xff, 0xff, 0xff, 0xff}},
		Addresses: []netip.Addr{
			ip("192.168.100.10"), ip("192.168.100.11"), ip("192.168.100.1"), ip("192.168.100.12"), ip("0.0.0.0"), ip("10.7.9.9"), ip("10.8.0.1"),
			ip("255.255.255.255"), ip("2001:db8:100::10"), ip("2001:db8:100::11"), ip("2001:db8:200:1ff::7"), ip("2001:db8:200:200::7"), ip("::"),
			ip("fe80::1:2:3"), ip("fe80::1"), ip("ff02::1"), ip("ff02::1:2"), ip("ff00::c0a8:640a"), ip("::ffff:192.168.100.10"), madeOf(mac(1)), madeOf(mac(2)), madeOf(mac(3)), ip("febf::9"),
		},
	}
}

func pick[T any](f *Forger, all ...T) T { return all[f.IntN(len(all))] }

// Frame is the next frame. It may be anything.
func (f *Forger) Frame() []byte {
	f.src = pick(f, f.MACs...)
	src := f.src
	eth := &layers.Ethernet{DstMAC: pick(f, f.MACs...), SrcMAC: src}
	var b []byte
	switch n := f.IntN(20); {
	case n < 5:
		eth.EthernetType = layers.EthernetTypeARP
		b = f.arp(src)
	case n < 11:
		eth.EthernetType = layers.EthernetTypeIPv4
		b = f.ipv4(src)
	case n < 18:
		eth.EthernetType = layers.EthernetTypeIPv6
		b = f.ipv6(src)
	case n < 19: // IP behind LLC and SNAP
		b = append(pick(f, []byte{0xaa, 0xaa, 3, 0, 0, 0, 8, 0}, []byte{0xab, 0xaa, 3, 0, 0, 0, 0x86, 0xdd}, []byte{6, 6, 3}, []byte{0x42, 0x42, 3}), f.ipv6(src)...)
		eth.EthernetType = layers.EthernetType(len(b) % 1500)
	default:
		eth.EthernetType = pick(f, layers.EthernetType(0x8035), layers.EthernetTypeMPLSUnicast, layers.EthernetTypePPPoESession, layers.EthernetTypeEAPOL, 0x88b5)
		b = f.ipv4(src)
	}
	typ := eth.EthernetType
	header := append(append([]byte{}, eth.DstMAC...), src...)
	for range pick(f, 0, 0, 0, 0, 0, 0, 0, 1, 2, 8, 9) {
		header = binary.BigEndian.AppendUint16(header, pick(f, uint16(0x8100), 0x88a8))
		header = binary.BigEndian.AppendUint16(header, pick(f, uint16(0), 7))
	}
	header = binary.BigEndian.AppendUint16(header, uint16(typ))
	b = append(header, b...)
	switch f.IntN(12) {
	case 0:
		b = b[:14+f.IntN(len(b)-13)] // cut short
	case 1:
		b[14+f.IntN(len(b)-14)] ^= 1 << f.IntN(8)
	case 2:
		b = append(b, make([]byte, f.IntN(50))...) // padding
	}
	return b
}

// ip is an address of a family: often one that the sender has, if it has any.
func (f *Forger) ip(six bool) netip.Addr {
	if own := pick(f, f.Bound...); f.IntN(2) == 0 && string(own.MAC) == string(f.src) && own.IP.Addr().Is6() == six {
		return own.IP.Addr()
	}
	for {
		if a := pick(f, f.Addresses...); a.Is6() == six {
			return a
		}
	}
}

func (f *Forger) arp(src net.HardwareAddr) []byte {
	a := layers.ARP{
		AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4,
		Operation: pick(f, uint16(1), 1, 1, 2, 2, 3, 8), SourceHwAddress: src, SourceProtAddress: f.ip(false).AsSlice(),
		DstHwAddress: pick(f, f.MACs...), DstProtAddress: f.ip(false).AsSlice(),
	}
	switch f.IntN(8) {
	case 0:
		a.SourceHwAddress = pick(f, f.MACs...)
	case 1:
		a.Protocol = layers.EthernetTypeIPv6
	}
	return Serialize(&a)
}

// Serialize writes layers with lengths and checksums that are right.
func Serialize(ls ...gopacket.SerializableLayer) []byte {
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ls...); err != nil {
		panic(err)
	}
	return buf.Bytes()
}

func (f *Forger) udp(src, dst uint16, body []byte) []byte {
	b := make([]byte, 8, 8+len(body))
	binary.BigEndian.PutUint16(b, src)
	binary.BigEndian.PutUint16(b[2:], dst)
	binary.BigEndian.PutUint16(b[4:], uint16(8+len(body)))
	binary.BigEndian.PutUint16(b[6:], uint16(f.Uint32())) // right or wrong
	return append(b, body...)
}

func (f *Forger) ipv4(src net.HardwareAddr) []byte {
	ip := layers.IPv4{Version: 4, TTL: 64, SrcIP: f.ip(false).AsSlice(), DstIP: f.ip(false).AsSlice()}
	var body []byte
	switch f.IntN(5) {
	case 0:
		ip.Protocol, body = layers.IPProtocolTCP, make([]byte, 20)
	case 1:
		ip.Protocol, body = layers.IPProtocolICMPv4, make([]byte, 8+f.IntN(9))
	case 2:
		ip.Protocol, body = layers.IPProtocolUDP, f.udp(uint16(f.Uint32()), pick(f, uint16(53), 68, 67, 546), []byte{byte(f.IntN(3))})
	default:
		m := layers.DHCPv4{
			Operation: pick(f, layers.DHCPOpRequest, layers.DHCPOpRequest, layers.DHCPOpReply), HardwareType: layers.LinkTypeEthernet, HardwareLen: 6,
			ClientHWAddr: pick(f, src, src, pick(f, f.MACs...)),
		}
		if f.IntN(6) == 0 {
			m.RelayAgentIP = net.IP{192, 168, 100, 1}
		}
		if f.IntN(4) == 0 {
			m.ClientIP, ip.DstIP = pick(f, ip.SrcIP, ip.SrcIP, f.ip(false).AsSlice()), net.IPv4bcast.To4()
		}
		if f.IntN(2) == 0 {
			ip.SrcIP, ip.DstIP = net.IPv4zero.To4(), net.IPv4bcast.To4()
		}
		ip.Protocol = layers.IPProtocolUDP
		body = f.udp(pick(f, uint16(68), 68, 67, 1234), pick(f, uint16(67), 67, 68), Serialize(&m))
		body = body[:len(body)-f.IntN(2)*f.IntN(len(body))]
	}
	switch f.IntN(10) {
	case 0:
		ip.Flags = layers.IPv4MoreFragments
	case 1:
		ip.FragOffset = uint16(1 + f.IntN(9))
	case 2:
		ip.Options = []layers.IPv4Option{{OptionType: 7, OptionLength: 7, OptionData: make([]byte, 5)}, {OptionType: 0, OptionLength: 1}}
	}
	return Serialize(&ip, gopacket.Payload(body))
}

func (f *Forger) ipv6(src net.HardwareAddr) []byte {
	from := f.ip(true)
	if f.IntN(8) == 0 {
		from = netip.IPv6Unspecified()
	}
	proto, body := f.upper6(src)
	headers := pick(f, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 8, 9, 12)
	for i := range headers { // the innermost first
		next := byte(proto)
		h := make([]byte, 8+8*f.IntN(2))
		h[0], h[1] = next, byte(len(h)/8-1)
		kind := pick(f, byte(60), 43, 0)
		if f.IntN(4) == 0 || headers == 1 {
			kind, h = 44, h[:8]
			h[1] = 0
			binary.BigEndian.PutUint16(h[2:], pick(f, uint16(0), 1, 1, 8, 9))
		}
		if i == headers-1 && f.IntN(8) == 0 {
			h = h[:8]
			h[1] = 99 // longer than what there is
		}
		proto, body = layers.IPProtocol(kind), append(h, body...)
	}
	b := make([]byte, 40, 40+len(body))
	b[0], b[6], b[7] = 0x60, byte(proto), 255
	binary.BigEndian.PutUint16(b[4:], uint16(len(body)))
	if f.IntN(40) == 0 {
		binary.BigEndian.PutUint16(b[4:], 0) // a jumbogram, if anybody believes it
	}
	copy(b[8:], from.AsSlice())
	copy(b[24:], f.ip(true).AsSlice())
	return append(b, body...)
}

// upper6 is what an IPv6 packet carries.
func (f *Forger) upper6(src net.HardwareAddr) (layers.IPProtocol, []byte) {
	switch f.IntN(8) {
	case 0:
		return layers.IPProtocolTCP, make([]byte, 20)
	case 1:
		return pick(f, layers.IPProtocolESP, layers.IPProtocolAH, layers.IPProtocolNoNextHeader, layers.IPProtocolIPv4), make([]byte, 24)
	case 2:
		msg := []byte{byte(1 + f.IntN(13)), 0, 0, 1, 0, 0}
		return layers.IPProtocolUDP, f.udp(pick(f, uint16(546), 546, 547, 1234), pick(f, uint16(547), 547, 546, 53), msg[:f.IntN(len(msg)+1)])
	}
	m := make([]byte, 8)
	m[0] = pick(f, byte(128), 131, 132, 133, 134, 135, 135, 135, 136, 136, 137, 143)
	switch m[0] {
	case 134:
		m = append(m, make([]byte, 8)...)
	case 135, 136:
		m = append(m, f.ip(true).AsSlice()...)
	case 137:
		m = append(append(m, f.ip(true).AsSlice()...), f.ip(true).AsSlice()...)
	}
	for range pick(f, 0, 1, 1, 1, 2) {
		option := []byte{pick(f, byte(1), 2, 2, 1, 14), 1}
		m = append(append(m, option...), pick(f, src, src, src, pick(f, f.MACs...))...)
	}
	if f.IntN(12) == 0 {
		m = m[:8+f.IntN(len(m)-7)]
	}
	return layers.IPProtocolICMPv6, m
}
