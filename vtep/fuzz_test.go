package vtep

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/uvtep/uvtep/dhcpd/dhcpdtest"
	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/fdb"
)

// fuzzRig is two segments with the same of everything: ports 100a, 100b, 200a,
// 200b, one peer, one subnet, and some that is known.
func fuzzRig(t testing.TB) *rig {
	r := newRig(t, Config{})
	for _, vni := range []encap.VNI{100, 200} {
		s := r.segment(SegmentConfig{VNI: vni, Peers: []netip.Addr{peer2}, DHCP: probing(9), DHCP6: dhcp6Config(), RA: &RAConfig{}}, vni.String()+"a", vni.String()+"b")
		for _, e := range []StaticEntry{{MAC: mac(1), Port: vni.String() + "a"}, {MAC: mac(2), Dst: peer2}} {
			if err := s.AddStatic(e); err != nil {
				t.Fatal(err)
			}
		}
	}
	return r
}

// fuzzFrames are the frames that the switch looks into, one of each kind.
func fuzzFrames(t testing.TB) [][]byte {
	own := serviceMAC(self, 100)
	guest := ip("192.168.100.77")
	discover := broadcastBOOTP(t, mac(1), (&dhcpdtest.Client{MAC: hw(mac(1))}).Discover())
	six := build(t, ethernet(mac(2), mac(1), layers.EthernetTypeIPv6),
		&layers.IPv6{Version: 6, TrafficClass: 3, HopLimit: 64, NextHeader: layers.IPProtocolUDP, SrcIP: ip("fd00::1").AsSlice(), DstIP: ip("fd00::2").AsSlice()},
		&layers.UDP{SrcPort: 1, DstPort: 4789}, gopacket.Payload(vxlan(100, eth(mac(1), mac(2)))))
	extended := bytes.Clone(six)
	extended[14+6] = 0 // a hop-by-hop header: what follows says it is longer than the packet
	return [][]byte{
		eth(mac(2), mac(1)), eth(fdb.Broadcast, mac(3)), vlan(discover), vlan(vlan(eth(mac(1), mac(2)))),
		arpFor(t, fdb.Broadcast, mac(1), guest, server), // answered
		ping(t, own, mac(1), guest, server, "data"),     // answered
		discover,      // consumed
		discover[:60], // its lengths lie
		six, extended,
		arpAnswer(t, own, mac(1), guest, netip.IPv4Unspecified()), arpFor(t, fdb.Broadcast, mac(1), guest, guest), // heard
		solicit(t, multicastMAC(solicitedNode(server6)), mac(1), guest6, solicitedNode(server6), server6, true), // answered
		solicit(t, own, mac(1), guest6, linkLocal(own), linkLocal(own), false),                                  // by a longer frame
		ping6(t, own, mac(1), guest6, server6, "data"),
		routerSolicitation(t, mac(1), guest6, allRouters, true),
		dhcp6(t, multicastMAC(allDHCPRelays), mac(1), guest6, allDHCPRelays, solicitOf(t, 1).ToBytes()),
		build(t, ethernet(mac(2), mac(1), layers.EthernetTypeIPv4), ipv4(guest, server, layers.IPProtocolTCP), &layers.TCP{SrcPort: 1, DstPort: 2}),
	}
}

// stays checks that nothing has left anywhere but in the segment vni, 0 for none.
func stays(t *testing.T, all []out, vni encap.VNI) {
	t.Helper()
	for _, o := range all {
		if strings.HasPrefix(o.where, "@") && o.vni != vni || !strings.HasPrefix(o.where, "@") && !strings.HasPrefix(o.where, vni.String()) || vni == 0 {
			t.Errorf("what belongs to segment %v went to %s of segment %v: %x", vni, o.where, o.vni, o.bytes)
		}
	}
}

// tidy forgets what an input left behind, so that inputs are alike.
func (r *rig) tidy() {
	for _, s := range r.v.Segments() {
		s.FlushFDB()
		for _, l := range s.DHCP().Leases() {
			_ = s.DHCP().Release(l.IP) // one that ended by itself is gone
		}
	}
}

func FuzzPacketsFromTheTunnelStayInTheirSegment(f *testing.F) {
	for _, b := range fuzzFrames(f) {
		f.Add(uint8(0), vxlan(100, b))
		f.Add(uint8(3), vxlan(200, b)) // congested on the way
	}
	f.Add(uint8(0), []byte{})                        // empty
	f.Add(uint8(0), vxlan(100, nil))                 // a header only
	f.Add(uint8(0), vxlan(101, eth(mac(1), mac(2)))) // a segment that is not there
	r := fuzzRig(f)
	f.Fuzz(func(t *testing.T, tos uint8, payload []byte) {
		r.t = t
		var vni encap.VNI
		if len(payload) >= encap.HeaderLen && payload[0]&8 != 0 {
			vni = encap.VNI(binary.BigEndian.Uint32(payload[4:]) >> 8)
		}
		if vni != 100 && vni != 200 {
			vni = 0
		}
		stays(t, r.datagram(peer2, tos, payload), vni)
		r.tidy()
	})
}

func FuzzFramesFromAPortStayInItsSegment(f *testing.F) {
	for _, b := range fuzzFrames(f) {
		f.Add(b)
	}
	f.Add([]byte{})                       // no frame at all
	f.Add(eth(mac(2), mac(1))[:13])       // one byte short of a header
	f.Add(vlan(eth(mac(2), mac(1)))[:16]) // one that ends in its tag
	r := fuzzRig(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		r.t = t
		got := r.send("100a", b)
		stays(t, got, 100)
		for _, o := range got {
			if o.where == "100a" && !bytes.HasPrefix(o.bytes[6:], hw(serviceMAC(self, 100))) {
				t.Errorf("a frame came back: %x", o.bytes)
			}
		}
		r.tidy()
	})
}
