package conformance

import (
	"net"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/uvtep/uvtep/internal/nettest"
)

var broadcast = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// plain is a frame of the experimental EtherType.
func plain(dst, src net.HardwareAddr, payload string) []byte {
	b := append(append(append([]byte{}, dst...), src...), 0x88, 0xb5)
	return append(b, payload...)
}

// tagged puts tags in front of a frame's EtherType: pairs of a type and what
// follows it.
func tagged(frame []byte, tags ...uint16) []byte {
	b := append([]byte{}, frame[:12]...)
	for _, t := range tags {
		b = append(b, byte(t>>8), byte(t))
	}
	return append(b, frame[12:]...)
}

// in4 is an IPv4 packet in a frame.
func in4(t testing.TB, dst, src net.HardwareAddr, ip layers.IPv4, payload string) []byte {
	return udp4(t, dst, src, ip, 9, []byte(payload))
}

// tunnelIn4 is a packet of the tunnel in a frame.
func tunnelIn4(t testing.TB, dst, src net.HardwareAddr, ip layers.IPv4, vxlan []byte) []byte {
	return udp4(t, dst, src, ip, 4789, vxlan)
}

func udp4(t testing.TB, dst, src net.HardwareAddr, ip layers.IPv4, port layers.UDPPort, payload []byte) []byte {
	ip.Version, ip.Protocol = 4, layers.IPProtocolUDP
	if ip.TTL == 0 {
		ip.TTL = 64
	}
	if ip.SrcIP == nil {
		ip.SrcIP, ip.DstIP = net.IP{192, 168, 100, 1}, net.IP{192, 168, 100, 3}
	}
	udp := &layers.UDP{SrcPort: 1000, DstPort: port}
	if err := udp.SetNetworkLayerForChecksum(&ip); err != nil {
		t.Fatal(err)
	}
	return nettest.Serialize(t, &layers.Ethernet{DstMAC: dst, SrcMAC: src, EthernetType: layers.EthernetTypeIPv4}, &ip, udp, gopacket.Payload(payload))
}

// in6 is an IPv6 packet in a frame.
func in6(t testing.TB, dst, src net.HardwareAddr, ip layers.IPv6, payload string) []byte {
	ip.Version, ip.NextHeader = 6, layers.IPProtocolUDP
	if ip.HopLimit == 0 {
		ip.HopLimit = 64
	}
	ip.SrcIP, ip.DstIP = net.ParseIP("fd00:100::1"), net.ParseIP("fd00:100::3")
	udp := &layers.UDP{SrcPort: 1000, DstPort: 9}
	if err := udp.SetNetworkLayerForChecksum(&ip); err != nil {
		t.Fatal(err)
	}
	return nettest.Serialize(t, &layers.Ethernet{DstMAC: dst, SrcMAC: src, EthernetType: layers.EthernetTypeIPv6}, &ip, udp, gopacket.Payload(payload))
}
