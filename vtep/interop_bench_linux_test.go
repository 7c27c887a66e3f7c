package vtep_test

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"

	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/internal/nettest"
	"github.com/uvtep/uvtep/vtep"
)

// bench is a VTEP with a segment of two guests, and in place of its peer a plain
// socket and a sniffer: everything about the packets on the wire is seen and
// said by code that is not the switch's.
type bench struct {
	u      family
	a      *host
	s      *vtep.Segment
	g1, g2 *station
	peer   *nettest.NS
	wire   *sniffer     // at the peer's end of the cable
	socket *net.UDPConn // the peer's, at the VXLAN port
}

const benchVNI = 77

// newBench starts one. configure, if not nil, changes the configurations.
func newBench(t *testing.T, base vtep.Config, u family, configure func(*vtep.Config, *vtep.SegmentConfig)) *bench {
	t.Helper()
	na, nb := cable(t, u)
	na.Exec("ethtool", "-K", "ul", "tx", "off") // the sums are to be in the packets
	base.Local = u.a
	seg := vtep.SegmentConfig{VNI: benchVNI, Peers: []netip.Addr{u.b}}
	if configure != nil {
		configure(&base, &seg)
	}
	b := &bench{u: u, peer: nb, a: start(t, na, base)}
	nb.Do(func() {
		var err error
		if b.socket, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(u.b, encap.Port))); err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(func() { b.socket.Close() })
	b.wire = sniff(t, nb, "ul")
	b.s = b.a.segment(t, seg)
	for i, to := range []**station{&b.g1, &b.g2} {
		name := fmt.Sprintf("t%d", i+1)
		g := nettest.New(t, name)
		g.Sysctl("net/ipv6/conf/default/disable_ipv6", "1")
		mac := []net.HardwareAddr{mac1, mac2}[i]
		b.a.attach(t, b.s, g, vtep.PortConfig{Name: name, MAC: mac})
		*to = &station{NS: g, mac: mac, ip: fmt.Sprintf("192.168.100.%d", i+1), seen: sniff(t, g, "eth0"), out: inject(t, g, "eth0")}
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the switch counted %+v\nports %+v\npeers %+v\n%s%s", b.a.v.Stats(), b.s.Ports(), b.s.Peers(),
				na.Exec("ip", "-s", "link"), na.Exec("ss", "-uanm"))
		}
	})
	return b
}

// eachBench runs a test with a bench over both underlays, in each setting.
func eachBench(t *testing.T, configure func(*vtep.Config, *vtep.SegmentConfig), body func(t *testing.T, b *bench)) {
	nettest.Root(t)
	nettest.Need(t, "ethtool")
	eachFamily(t, func(t *testing.T, base vtep.Config, u family) {
		body(t, newBench(t, base, u, configure))
	})
}

// outer is an encapsulated frame as an independent parser reads it.
type outer struct {
	src, dst  netip.Addr
	ttl, tos  uint8
	df, frag  bool
	udp       *layers.UDP
	vxlan     *layers.VXLAN
	inner     []byte
	sum, want uint16 // the UDP checksum that is there, and the right one
}

// parseOuter takes a captured packet apart.
func parseOuter(t testing.TB, b []byte) outer {
	t.Helper()
	p := gopacket.NewPacket(b, layers.LayerTypeEthernet, gopacket.Default)
	var o outer
	var network gopacket.NetworkLayer
	var again gopacket.SerializableLayer
	switch ip := p.Layers()[1].(type) { // the inner packet may be of either kind
	case *layers.IPv4:
		o.ttl, o.tos = ip.TTL, ip.TOS
		o.df = ip.Flags&layers.IPv4DontFragment != 0
		o.frag = ip.Flags&layers.IPv4MoreFragments != 0 || ip.FragOffset != 0
		o.src, _ = netip.AddrFromSlice(ip.SrcIP.To4())
		o.dst, _ = netip.AddrFromSlice(ip.DstIP.To4())
		network, again = ip, ip
	case *layers.IPv6:
		o.ttl, o.tos, o.df = ip.HopLimit, ip.TrafficClass, true
		o.frag = ip.NextHeader != layers.IPProtocolUDP
		o.src, _ = netip.AddrFromSlice(ip.SrcIP)
		o.dst, _ = netip.AddrFromSlice(ip.DstIP)
		network, again = ip, ip
	default:
		t.Fatalf("no IP packet: %x", b)
	}
	o.udp, _ = p.Layer(layers.LayerTypeUDP).(*layers.UDP)
	o.vxlan, _ = p.Layer(layers.LayerTypeVXLAN).(*layers.VXLAN)
	if o.udp == nil || o.vxlan == nil {
		t.Fatalf("no VXLAN packet: %x", b)
	}
	o.inner = o.vxlan.Payload
	fresh := &layers.UDP{SrcPort: o.udp.SrcPort, DstPort: o.udp.DstPort}
	if err := fresh.SetNetworkLayerForChecksum(network); err != nil {
		t.Fatal(err)
	}
	serialize(t, again, fresh, gopacket.Payload(o.udp.Payload))
	o.sum, o.want = o.udp.Checksum, fresh.Checksum
	if o.want == 0 {
		o.want = 0xffff // RFC 768: no packet says by a sum of zero that it has one
	}
	return o
}

// onWire waits for n packets with a mark and takes them apart.
func (b *bench) onWire(t testing.TB, mark string, n int) (out []outer) {
	t.Helper()
	for _, f := range b.wire.wait(mark, n) {
		out = append(out, parseOuter(t, f.bytes))
	}
	return out
}

// vxlanOf is the payload of a VXLAN packet; flags is the header's first byte.
func vxlanOf(flags byte, vni encap.VNI, inner []byte) []byte {
	h := make([]byte, 8, 8+len(inner))
	h[0] = flags
	binary.BigEndian.PutUint32(h[4:], uint32(vni)<<8)
	return append(h, inner...)
}

// say sends a VXLAN packet from the peer.
func (b *bench) say(t testing.TB, payload []byte) {
	t.Helper()
	if _, err := b.socket.WriteToUDPAddrPort(payload, netip.AddrPortFrom(b.u.a, encap.Port)); err != nil {
		t.Fatal(err)
	}
}

// setTOS sets the traffic class of what the peer says.
func (b *bench) setTOS(t testing.TB, tos int) {
	t.Helper()
	c, err := b.socket.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	level, name := unix.IPPROTO_IP, unix.IP_TOS
	if b.u.a.Is6() {
		level, name = unix.IPPROTO_IPV6, unix.IPV6_TCLASS
	}
	if ctlErr := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), level, name, tos) }); ctlErr != nil || err != nil {
		t.Fatal(ctlErr, err)
	}
}
