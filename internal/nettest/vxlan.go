package nettest

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// Outer is an encapsulated frame as an independent parser reads it.
type Outer struct {
	Src, Dst     netip.Addr
	TTL, TOS     uint8
	DF, Fragment bool
	UDP          *layers.UDP
	VXLAN        *layers.VXLAN
	Inner        []byte
	Sum, Want    uint16 // the UDP checksum that is there, and the right one
}

// ParseOuter takes a captured packet apart.
func ParseOuter(t testing.TB, b []byte) Outer {
	t.Helper()
	p := gopacket.NewPacket(b, layers.LayerTypeEthernet, gopacket.Default)
	var o Outer
	var network gopacket.NetworkLayer
	var again gopacket.SerializableLayer
	switch ip := p.Layers()[1].(type) { // the inner packet may be of either kind
	case *layers.IPv4:
		o.TTL, o.TOS = ip.TTL, ip.TOS
		o.DF = ip.Flags&layers.IPv4DontFragment != 0
		o.Fragment = ip.Flags&layers.IPv4MoreFragments != 0 || ip.FragOffset != 0
		o.Src, _ = netip.AddrFromSlice(ip.SrcIP.To4())
		o.Dst, _ = netip.AddrFromSlice(ip.DstIP.To4())
		network, again = ip, ip
	case *layers.IPv6:
		o.TTL, o.TOS, o.DF = ip.HopLimit, ip.TrafficClass, true
		o.Fragment = ip.NextHeader != layers.IPProtocolUDP
		o.Src, _ = netip.AddrFromSlice(ip.SrcIP)
		o.Dst, _ = netip.AddrFromSlice(ip.DstIP)
		network, again = ip, ip
	default:
		t.Fatalf("no IP packet: %x", b)
	}
	o.UDP, _ = p.Layer(layers.LayerTypeUDP).(*layers.UDP)
	o.VXLAN = new(layers.VXLAN) // gopacket looks for it at one port only
	if o.UDP == nil || o.VXLAN.DecodeFromBytes(o.UDP.Payload, gopacket.NilDecodeFeedback) != nil {
		t.Fatalf("no VXLAN packet: %x", b)
	}
	o.Inner = o.VXLAN.Payload
	fresh := &layers.UDP{SrcPort: o.UDP.SrcPort, DstPort: o.UDP.DstPort}
	if err := fresh.SetNetworkLayerForChecksum(network); err != nil {
		t.Fatal(err)
	}
	Serialize(t, again, fresh, gopacket.Payload(o.UDP.Payload))
	o.Sum, o.Want = o.UDP.Checksum, fresh.Checksum
	return o
}

// VXLAN is the payload of a VXLAN packet; flags is the header's first byte.
func VXLAN(flags byte, vni uint32, inner []byte) []byte {
	h := make([]byte, 8, 8+len(inner))
	h[0] = flags
	binary.BigEndian.PutUint32(h[4:], vni<<8)
	return append(h, inner...)
}
