package vtep

import (
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/insomniacslk/dhcp/dhcpv6"

	"github.com/uvtep/uvtep/fdb"
)

func TestServersAndRoutersSpeakAtTrustedPortsOnly(t *testing.T) {
	offer := func(src fdb.MAC) []byte {
		return build(t, ethernet(fdb.Broadcast, src, layers.EthernetTypeIPv4), ipv4(ip("192.168.100.66"), broadcast4, layers.IPProtocolUDP),
			&layers.UDP{SrcPort: 67, DstPort: 68}, gopacket.Payload("\x02\x01\x06\x00"))
	}
	advertise := build(t, ethernet(mac(9), mac(1), layers.EthernetTypeIPv6), ipv6(guest6, guest6, 1, layers.IPProtocolUDP),
		&layers.UDP{SrcPort: 547, DstPort: 546}, gopacket.Payload([]byte{byte(dhcpv6.MessageTypeAdvertise), 1, 2, 3}))
	ra := icmp6(t, multicastMAC(allNodes), mac(1), ipv6(guest6, allNodes, 255, layers.IPProtocolICMPv6), 134, &layers.ICMPv6RouterAdvertisement{RouterLifetime: 9})
	for _, c := range []struct {
		name    string
		seg     SegmentConfig
		port    PortConfig
		trusted bool
	}{
		{"no service", SegmentConfig{}, PortConfig{}, true},
		{"no service, not trusted", SegmentConfig{}, PortConfig{Trust: Untrusted}, false},
		{"DHCP", SegmentConfig{DHCP: dhcpConfig(9)}, PortConfig{}, false},
		{"DHCPv6", SegmentConfig{DHCP6: dhcp6Config()}, PortConfig{}, false},
		{"advertisements", SegmentConfig{RA: &RAConfig{}}, PortConfig{}, false},
		{"protected MACs", SegmentConfig{ProtectedMACs: []fdb.MAC{mac(66)}}, PortConfig{}, false},
		{"DHCP, trusted", SegmentConfig{DHCP: dhcpConfig(9)}, PortConfig{Trust: Trusted}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, Config{})
			c.seg.VNI, c.seg.Peers = 100, []netip.Addr{peer2}
			s := r.segment(c.seg, "b")
			c.port.Name = "a"
			r.attach(s, c.port)
			want := ""
			if c.trusted {
				want = "@10.9.0.2 b"
			}
			expect(t, "an OFFER", r.fromPort("a", offer(mac(1))), want)
			expect(t, "an OFFER with tags", r.fromPort("a", vlan(vlan(offer(mac(1))))), want)
			expect(t, "an ADVERTISE", r.fromPort("a", advertise), want)
			expect(t, "an advertisement", r.fromPort("a", ra), want)
			expect(t, "an OFFER through the tunnel", r.fromPeer(peer2, 100, offer(mac(7))), "a b")
			expect(t, "an advertisement through the tunnel", r.fromPeer(peer2, 100, ra), "a b")
			if st := s.Ports()[1]; st.Trusted != c.trusted {
				t.Errorf("trusted: %t", st.Trusted)
			}
		})
	}
}

func TestAChangeOfTheSegmentChangesWhichPortsAreTrusted(t *testing.T) {
	r := newRig(t, Config{})
	s := r.segment(SegmentConfig{VNI: 100}, "a", "b")
	ra := icmp6(t, multicastMAC(allNodes), mac(1), ipv6(guest6, allNodes, 255, layers.IPProtocolICMPv6), 134, &layers.ICMPv6RouterAdvertisement{RouterLifetime: 9})
	for _, c := range []struct {
		cfg  SegmentConfig
		want string
	}{
		{SegmentConfig{VNI: 100}, "b"}, {SegmentConfig{VNI: 100, RA: &RAConfig{}}, ""}, {SegmentConfig{VNI: 100}, "b"},
		{SegmentConfig{VNI: 100, ProtectedMACs: []fdb.MAC{mac(5)}}, ""}, {SegmentConfig{VNI: 100}, "b"},
	} {
		if err := s.Reconfigure(c.cfg); err != nil {
			t.Fatal(err)
		}
		expect(t, "an advertisement", r.fromPort("a", ra), c.want)
	}
}

func TestAProtectedMACSendsFromTrustedPortsAndTheTunnelOnly(t *testing.T) {
	r := newRig(t, Config{})
	s := r.segment(SegmentConfig{VNI: 100, Peers: []netip.Addr{peer2}, ProtectedMACs: []fdb.MAC{mac(66), mac(65)}}, "a")
	r.attach(s, PortConfig{Name: "gateway", Trust: Trusted})
	expect(t, "the gateway's", r.fromPort("gateway", eth(mac(1), mac(66))), "@10.9.0.2 a")
	expect(t, "a guest's", r.fromPort("a", eth(mac(66), mac(1))), "gateway")
	expect(t, "a guest in the gateway's name", r.fromPort("a", eth(mac(9), mac(66))), "")
	expect(t, "and in the other's", r.fromPort("a", eth(mac(9), mac(65))), "")
	expect(t, "to the gateway, still", r.fromPort("a", eth(mac(66), mac(1))), "gateway")
	expect(t, "through the tunnel", r.fromPeer(peer2, 100, eth(mac(1), mac(65))), "a")
	if d := r.dropped(); d != "protected_source@100 protected_source@100" {
		t.Errorf("drops: %s", d)
	}
	if err := s.Reconfigure(SegmentConfig{VNI: 100, ProtectedMACs: []fdb.MAC{fdb.Broadcast}}); err == nil {
		t.Error("a group is protected")
	}
}
