package conformance

import (
	"net"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/uvtep/uvtep/internal/nettest"
)

// marked sends a frame through the tunnel with an outer ECN field.
func (b *bed) marked(ecn uint8, frame []byte) {
	b.udp(b.u.b, 50000, outer{tos: ecn}, nettest.VXLAN(8, vni, frame), nil)
}

// spoilt sends a broadcast whose UDP header is changed after it was made.
func (b *bed) spoilt(mark string, change func(udp []byte)) {
	b.udp(b.u.b, 50000, outer{}, nettest.VXLAN(8, vni, plain(broadcast, b.mac(), mark)), change)
}

func withoutSum(udp []byte) { udp[6], udp[7] = 0, 0 }

// everybody are the places that a broadcast from a remote VTEP goes to.
var everybody = []string{"guest 1", "guest 2", "guest 3"}

func entryChecks() []check {
	enters := func(payload func(b *bed, frame []byte) []byte) func(*bed) {
		return func(b *bed) {
			m := b.mark()
			b.datagram(b.u.b, payload(b, plain(broadcast, b.mac(), m)))
			b.goes(m, everybody...)
		}
	}
	stays := func(payload func(b *bed, frame []byte) []byte) func(*bed) {
		return func(b *bed) {
			m := b.mark()
			b.datagram(b.u.b, payload(b, plain(broadcast, b.mac(), m)))
			b.nowhere(m)
		}
	}
	source := func(src net.HardwareAddr) func(*bed) {
		return func(b *bed) {
			m := b.mark()
			b.tunnel(b.u.b, plain(broadcast, src, m))
			b.nowhere(m)
			m = b.mark()
			b.from(1, plain(broadcast, src, m))
			b.nowhere(m)
		}
	}
	all := []check{
		{title: "a frame of the segment enters", run: enters(func(_ *bed, f []byte) []byte { return nettest.VXLAN(8, vni, f) })},
		{title: "a frame of another VNI does not", run: stays(func(_ *bed, f []byte) []byte { return nettest.VXLAN(8, vni+1, f) })},
		{title: "a frame without the I flag does not", run: stays(func(_ *bed, f []byte) []byte { return nettest.VXLAN(0, vni, f) })},
		{title: "reserved flags are ignored, as RFC 7348 says", run: enters(func(_ *bed, f []byte) []byte { return nettest.VXLAN(0x48, vni, f) }),
			because: "RFC 7348 section 5 has receivers ignore them; Linux drops such packets, as `strict: true` does here"},
		{title: "the reserved last byte is ignored, as RFC 7348 says", run: enters(func(_ *bed, f []byte) []byte {
			p := nettest.VXLAN(8, vni, f)
			p[7] = 0x55
			return p
		}), because: "as above"},
		{title: "reserved bits are refused where that was asked for", in: intent{strict: true}, run: stays(func(_ *bed, f []byte) []byte { return nettest.VXLAN(0x48, vni, f) })},
		{title: "half a VXLAN header is refused", run: func(b *bed) {
			b.datagram(b.u.b, []byte{8, 0, 0, 0})
			b.datagram(b.u.b, nil)
			b.calm()
		}},
		{title: "half an Ethernet header is refused", run: func(b *bed) {
			const m = "halved~" // with the address in front one byte short of a header
			b.datagram(b.u.b, nettest.VXLAN(8, vni, append(append([]byte{}, broadcast...), m...)))
			b.nowhere(m)
		}},
		{title: "the source port of a peer may be any", run: func(b *bed) {
			for _, port := range []layers.UDPPort{1, 4789, 65535} {
				m := b.mark()
				b.udp(b.u.b, port, outer{}, nettest.VXLAN(8, vni, plain(broadcast, b.mac(), m)), nil)
				b.goes(m, everybody...)
			}
		}},
		{title: "a wrong UDP checksum is refused", run: func(b *bed) {
			m := b.mark()
			b.spoilt(m, func(udp []byte) { udp[6] ^= 0x55 })
			b.nowhere(m)
		}},
		{title: "no UDP checksum is taken", only: "IPv4", run: func(b *bed) {
			m := b.mark()
			b.spoilt(m, withoutSum)
			b.goes(m, everybody...)
		}},
		{title: "no UDP checksum is refused", only: "IPv6", run: func(b *bed) {
			m := b.mark()
			b.spoilt(m, withoutSum)
			b.nowhere(m)
		}},
		{title: "no UDP checksum is taken over IPv6 where that was asked for", only: "IPv6", in: intent{zeroSum6: true}, run: func(b *bed) {
			m := b.mark()
			b.spoilt(m, withoutSum)
			b.goes(m, everybody...)
		}},
		{title: "outer fragments are put together", only: "IPv4", run: func(b *bed) {
			m := b.mark()
			udp := nettest.VXLAN(8, vni, plain(broadcast, b.mac(), m))
			whole := append([]byte{50000 >> 8, 50000 & 0xff, 4789 >> 8, 4789 & 0xff, 0, byte(8 + len(udp)), 0, 0}, udp...)
			for _, part := range []struct {
				ip      layers.IPv4
				payload []byte
			}{{layers.IPv4{Id: 7, Flags: layers.IPv4MoreFragments}, whole[:24]}, {layers.IPv4{Id: 7, FragOffset: 3}, whole[24:]}} {
				eth, ip := b.network(b.u.b, outer{proto: uint8(layers.IPProtocolUDP), fragment: &part.ip})
				b.raw.Send(nettest.Serialize(b.t, eth, ip, gopacket.Payload(part.payload)))
			}
			b.goes(m, everybody...)
		}},
		{title: "a source address of zero does not enter, by tunnel or port", run: source(make(net.HardwareAddr, 6))},
		{title: "the broadcast address as a source does not enter", run: source(broadcast)},
		{title: "a group address as a source does not enter", run: source(net.HardwareAddr{1, 0, 0x5e, 0, 0, 1})},
		{title: "whoever is not a peer is taken and learned where everybody is", run: func(b *bed) {
			m, src := b.mark(), b.mac()
			b.tunnel(b.u.stranger, plain(broadcast, src, m))
			b.goes(m, everybody...)
			m = b.mark()
			b.from(1, plain(src, b.mac(), m))
			b.goes(m, "a stranger")
		}},
		{title: "whoever is not a peer is refused where only peers are taken", in: intent{peersOnly: true}, because: "Linux has no such setting: whoever reaches its port can put a frame into a segment", run: func(b *bed) {
			m := b.mark()
			b.tunnel(b.u.stranger, plain(broadcast, b.mac(), m))
			b.nowhere(m)
			m = b.mark()
			b.tunnel(b.u.b, plain(broadcast, b.mac(), m))
			b.goes(m, everybody...)
		}},
		{title: "the tunnel inside the tunnel does not go round", run: func(b *bed) {
			m := b.mark()
			ip := layers.IPv4{SrcIP: b.u.b.AsSlice(), DstIP: b.u.switchAt.AsSlice()}
			b.tunnel(b.u.b, tunnelIn4(b.t, broadcast, b.mac(), ip, nettest.VXLAN(8, vni, plain(broadcast, b.mac(), m))))
			b.nowhere(m)
		}, only: "IPv4", because: "no packet of a VTEP's own tunnel belongs into one of its segments: it would come round longer each time; Linux carries it to the guests and decapsulates it once more"},
	}
	return part("What enters by the tunnel", all)
}
