package conformance

import (
	"bytes"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/uvtep/uvtep/internal/nettest"
	"github.com/uvtep/uvtep/internal/verdict"
)

// arp is a request, or with op 2 a reply. What is behind its fixed fields tells it
// from all others.
func (b *bed) arp(op uint16, dst, src net.HardwareAddr, sender netip.Addr, to net.HardwareAddr, target netip.Addr) (frame []byte, mark string) {
	frame = nettest.Serialize(b.t, &layers.Ethernet{DstMAC: dst, SrcMAC: src, EthernetType: layers.EthernetTypeARP},
		&layers.ARP{AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4, Operation: op,
			SourceHwAddress: src, SourceProtAddress: sender.AsSlice(), DstHwAddress: to, DstProtAddress: target.AsSlice()})
	return frame, string(frame[14+6 : 14+28])
}

// nd is a neighbour solicitation or advertisement.
func (b *bed) nd(dst, src net.HardwareAddr, from, to netip.Addr, typ uint8, body gopacket.SerializableLayer) []byte {
	ip := &layers.IPv6{Version: 6, HopLimit: 255, NextHeader: layers.IPProtocolICMPv6, SrcIP: from.AsSlice(), DstIP: to.AsSlice()}
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(typ, 0)}
	if err := icmp.SetNetworkLayerForChecksum(ip); err != nil {
		b.t.Fatal(err)
	}
	return nettest.Serialize(b.t, &layers.Ethernet{DstMAC: dst, SrcMAC: src, EthernetType: layers.EthernetTypeIPv6}, ip, icmp, body)
}

// address is one of the segment's that no check has had.
func (b *bed) address(six bool) netip.Addr {
	b.serial++
	if six {
		a := netip.MustParseAddr("fd00:100::1:0").As16()
		a[14], a[15] = byte(b.serial>>8), byte(b.serial)
		return netip.AddrFrom16(a)
	}
	return netip.AddrFrom4([4]byte{192, 168, byte(b.serial >> 8), byte(b.serial)})
}

var nobody = make(net.HardwareAddr, 6)

// neighbour is a station behind peer b that has announced an address.
func (b *bed) neighbour(six bool) (net.HardwareAddr, netip.Addr) {
	mac, a := b.mac(), b.address(six)
	b.tunnel(b.u.b, b.announcement(mac, a))
	b.calm()
	b.know(a, mac)
	return mac, a
}

func (b *bed) announcement(mac net.HardwareAddr, a netip.Addr) []byte {
	if a.Is4() {
		f, _ := b.arp(1, broadcast, mac, a, nobody, a)
		return f
	}
	return b.nd(net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}, mac, a, netip.MustParseAddr("ff02::1"), layers.ICMPv6TypeNeighborAdvertisement,
		&layers.ICMPv6NeighborAdvertisement{Flags: 0x20, TargetAddress: a.AsSlice(), Options: layers.ICMPv6Options{{Type: layers.ICMPv6OptTargetAddress, Data: mac}}})
}

// asker is a station at guest 1 that is known.
func (b *bed) asker(six bool) (net.HardwareAddr, netip.Addr) {
	mac, a := b.mac(), b.address(six)
	b.from(1, b.announcement(mac, a))
	b.calm()
	return mac, a
}

// question is who asks for whose MAC, and by what it is recognised.
func (b *bed) question(mac net.HardwareAddr, a, target netip.Addr) (frame []byte, mark string) {
	if a.Is4() {
		return b.arp(1, broadcast, mac, a, nobody, target)
	}
	t := target.As16()
	group := netip.MustParseAddr("ff02::1:ff00:0").As16()
	copy(group[13:], t[13:])
	f := b.nd(append(net.HardwareAddr{0x33, 0x33}, group[12:]...), mac, a, netip.AddrFrom16(group), layers.ICMPv6TypeNeighborSolicitation,
		&layers.ICMPv6NeighborSolicitation{TargetAddress: target.AsSlice(), Options: layers.ICMPv6Options{{Type: layers.ICMPv6OptSourceAddress, Data: mac}}})
	return f, string(append(t[:], 1, 1)) // the target, and the option behind it
}

// answered waits for guest 1 to be told that a station has an address.
func (b *bed) answered(asker net.HardwareAddr, a netip.Addr, mac net.HardwareAddr) {
	says := func(f nettest.Frame) bool {
		if !bytes.Equal(f.Bytes[:6], asker) {
			return false
		}
		p := gopacket.NewPacket(f.Bytes, layers.LayerTypeEthernet, gopacket.Default)
		if r, ok := p.Layer(layers.LayerTypeARP).(*layers.ARP); ok {
			return r.Operation == layers.ARPReply && bytes.Equal(r.SourceProtAddress, a.AsSlice()) && bytes.Equal(r.SourceHwAddress, mac)
		}
		r, ok := p.Layer(layers.LayerTypeICMPv6NeighborAdvertisement).(*layers.ICMPv6NeighborAdvertisement)
		return ok && r.TargetAddress.Equal(a.AsSlice()) && len(r.Options) > 0 && bytes.Equal(r.Options[0].Data, mac)
	}
	for until := time.Now().Add(b.patience()); !slices.ContainsFunc(b.guests[1].ear.Seen(), says); time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			verdict.Fail("nobody answers")
		}
	}
}

func neighbourChecks() (all []check) {
	for _, six := range []bool{false, true} {
		what := "ARP"
		if six {
			what = "neighbour discovery"
		}
		all = append(all,
			check{title: what + ": who asks for a known station is answered, and the tunnel is not asked", run: func(b *bed) {
				mac, a := b.neighbour(six)
				asker, own := b.asker(six)
				f, mark := b.question(asker, own, a)
				b.from(1, f)
				b.answered(asker, a, mac)
				b.calm()
				if len(b.onWire(mark)) > 0 {
					verdict.Fail("the tunnel is asked")
				}
			}},
			check{title: what + ": a question for an unknown station is carried on", run: func(b *bed) {
				asker, own := b.asker(six)
				f, mark := b.question(asker, own, b.address(six))
				b.from(1, f)
				b.one(mark, 2)
			}},
			check{title: what + ": a station that has another MAC is told of by that", run: func(b *bed) {
				_, a := b.neighbour(six)
				mac := b.mac()
				b.tunnel(b.u.c, b.announcement(mac, a))
				b.calm()
				b.know(a, mac)
				asker, own := b.asker(six)
				f, _ := b.question(asker, own, a)
				b.from(1, f)
				b.answered(asker, a, mac)
			}},
		)
	}
	for i := range all {
		all[i].in.suppress = true
	}
	return part("Suppression", all)
}
