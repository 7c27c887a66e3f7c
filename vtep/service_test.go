package vtep

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/uvtep/uvtep/dhcpd/dhcpdtest"
	"github.com/uvtep/uvtep/fdb"
)

// serving is a VTEP with DHCP in segment 100 at ports a and b, and peer2.
func serving(t testing.TB, cfg DHCPConfig) (*rig, *Segment, fdb.MAC) {
	t.Helper()
	r := newRig(t, Config{})
	s := r.segment(SegmentConfig{VNI: 100, Peers: []netip.Addr{peer2}, DHCP: &cfg}, "a", "b")
	return r, s, serviceMAC(self, 100)
}

func arpFor(t testing.TB, dst, src fdb.MAC, from, who netip.Addr) []byte {
	return build(t, ethernet(dst, src, layers.EthernetTypeARP), &layers.ARP{
		AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4, Operation: layers.ARPRequest,
		SourceHwAddress: hw(src), SourceProtAddress: from.AsSlice(), DstHwAddress: make([]byte, 6), DstProtAddress: who.AsSlice(),
	})
}

func ping(t testing.TB, dst, src fdb.MAC, from, to netip.Addr, data string) []byte {
	return build(t, ethernet(dst, src, layers.EthernetTypeIPv4), ipv4(from, to, layers.IPProtocolICMPv4),
		&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeEchoRequest, 0), Id: 7, Seq: 9}, gopacket.Payload(data))
}

// vlan puts an 802.1Q tag into a frame.
func vlan(b []byte) []byte {
	return bytes.Join([][]byte{b[:12], {0x81, 0, 0, 5}, b[12:]}, nil)
}

// each does something for a guest at a port and for one behind a peer, whose
// answers come back the way that the question came.
func each(t *testing.T, r *rig, do func(t *testing.T, back string, ask func([]byte) []out)) {
	t.Run("from a port", func(t *testing.T) {
		do(t, "a", func(b []byte) []out { return r.send("a", b) })
	})
	t.Run("from a peer", func(t *testing.T) {
		do(t, "@10.9.0.2", func(b []byte) []out { return r.datagram(peer2, 0, vxlan(100, b)) })
	})
}

// only is the one frame that has left, to where it had to go.
func only(t *testing.T, got []out, where string) gopacket.Packet {
	t.Helper()
	if len(got) != 1 || got[0].where != where {
		t.Fatalf("left: %+v, want one frame to %s", got, where)
	}
	return honest(t, got[0].bytes)
}

func TestTheServersAddressAnswersARPAndPingOnItsOwn(t *testing.T) {
	r, _, own := serving(t, *dhcpConfig(9))
	guest := ip("192.168.100.77")
	each(t, r, func(t *testing.T, back string, ask func([]byte) []out) {
		for _, dst := range []fdb.MAC{fdb.Broadcast, own} {
			p := only(t, ask(arpFor(t, dst, mac(1), guest, server)), back)
			a := p.Layer(layers.LayerTypeARP).(*layers.ARP)
			e := p.Layer(layers.LayerTypeEthernet).(*layers.Ethernet)
			if a.Operation != layers.ARPReply || !bytes.Equal(a.SourceHwAddress, hw(own)) || !bytes.Equal(a.SourceProtAddress, server.AsSlice()) ||
				!bytes.Equal(a.DstHwAddress, hw(mac(1))) || !bytes.Equal(a.DstProtAddress, guest.AsSlice()) ||
				!bytes.Equal(e.SrcMAC, hw(own)) || !bytes.Equal(e.DstMAC, hw(mac(1))) {
				t.Errorf("ARP answer: %v", p)
			}
		}
		for _, data := range []string{"", "x", strings.Repeat("abc", 100)} {
			p := only(t, ask(ping(t, own, mac(1), guest, server, data)), back)
			h := p.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
			i := p.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4)
			if i.TypeCode.Type() != layers.ICMPv4TypeEchoReply || i.Id != 7 || i.Seq != 9 || string(i.Payload) != data || h.TTL != 64 ||
				!h.SrcIP.Equal(server.AsSlice()) || !h.DstIP.Equal(guest.AsSlice()) {
				t.Errorf("ping answer: %v", p)
			}
		}
	})
	if d := r.dropped(); d != "" {
		t.Errorf("drops: %s", d)
	}
}

func TestWhatIsNotForTheServiceIsSwitchedAsEver(t *testing.T) {
	r, _, own := serving(t, *dhcpConfig(9))
	guest, everybody := ip("192.168.100.77"), "@10.9.0.2 b"
	answer := arpFor(t, fdb.Broadcast, mac(1), guest, server)
	answer[14+7] = 2
	renewal := (&dhcpdtest.Client{MAC: hw(mac(1)), IP: guest}).Renew()
	for _, c := range []struct {
		name  string
		frame []byte
		want  string
	}{
		{"ARP for somebody else", arpFor(t, fdb.Broadcast, mac(1), guest, ip("192.168.100.3")), everybody},
		{"an ARP answer", answer, everybody},
		{"ARP in a VLAN", vlan(arpFor(t, fdb.Broadcast, mac(1), guest, server)), everybody},
		{"DISCOVER in a VLAN", vlan(broadcastBOOTP(t, mac(1), (&dhcpdtest.Client{MAC: hw(mac(1))}).Discover())), everybody},
		{"ping to everyone", ping(t, fdb.Broadcast, mac(1), guest, broadcast4, "x"), everybody},
		{"ping to the service's MAC for another address", ping(t, own, mac(1), guest, ip("192.168.100.3"), "x"), ""},
		{"DHCP to another server's MAC", bootp(t, mac(50), mac(1), guest, ip("192.168.100.3"), renewal), everybody},
	} {
		expect(t, c.name, r.fromPort("a", c.frame), c.want)
	}
	if d := r.dropped(); d != "not_for_service@100" {
		t.Errorf("drops: %s", d)
	}
}

func TestADiscoverThatIsServedHereGoesNowhereElse(t *testing.T) {
	r, _, own := serving(t, *dhcpConfig(9))
	n := 0
	each(t, r, func(t *testing.T, back string, ask func([]byte) []out) {
		n++
		c := dhcpdtest.Client{MAC: hw(mac(n))}
		p := only(t, ask(broadcastBOOTP(t, mac(n), c.Discover())), back)
		u := p.Layer(layers.LayerTypeUDP).(*layers.UDP)
		e := p.Layer(layers.LayerTypeEthernet).(*layers.Ethernet)
		if u.SrcPort != 67 || u.DstPort != 68 || !bytes.Equal(e.SrcMAC, hw(own)) || !bytes.Equal(e.DstMAC, hw(mac(n))) {
			t.Errorf("the OFFER's headers: %v", p)
		}
		if _, err := c.Receive(u.Payload); err != nil || c.Offer == nil {
			t.Errorf("the client has %v, %v", c.Offer, err)
		}
	})
	// The answer to one that cannot take a unicast is a broadcast, and goes only
	// where the client is.
	c := dhcpdtest.Client{MAC: hw(mac(9)), Broadcast: true}
	got := r.send("a", broadcastBOOTP(t, mac(9), c.Discover()))
	if len(got) != 1 || got[0].where != "a" || fdb.MACOf(got[0].bytes) != fdb.Broadcast {
		t.Errorf("left: %+v", got)
	}
}

func TestLocalServiceLeavesGuestsBehindRemoteVTEPsAlone(t *testing.T) {
	cfg := *dhcpConfig(9)
	cfg.ServeLocal = true
	r, _, own := serving(t, cfg)
	discover := broadcastBOOTP(t, mac(1), (&dhcpdtest.Client{MAC: hw(mac(1))}).Discover())
	expect(t, "DISCOVER from afar", r.fromPeer(peer2, 100, discover), "a b")
	arp := arpFor(t, fdb.Broadcast, mac(1), ip("192.168.100.77"), server)
	expect(t, "ARP from afar", r.fromPeer(peer2, 100, arp), "a b")
	expect(t, "ping from afar", r.fromPeer(peer2, 100, ping(t, own, mac(1), ip("192.168.100.77"), server, "")), "")
	only(t, r.send("b", broadcastBOOTP(t, mac(2), (&dhcpdtest.Client{MAC: hw(mac(2))}).Discover())), "b")
}

func TestASegmentThatIsServedElsewhereJustFloods(t *testing.T) {
	r := newRig(t, Config{})
	r.segment(SegmentConfig{VNI: 100, Peers: []netip.Addr{peer2}, MACMoves: -1}, "a", "b")
	r.segment(SegmentConfig{VNI: 200, Peers: []netip.Addr{peer2}, DHCP: dhcpConfig(9), DHCP6: dhcp6Config(), RA: &RAConfig{}}, "x")
	for name, b := range map[string][]byte{
		"a DISCOVER": discoverOf(t, 1), "a SOLICIT": dhcp6(t, multicastMAC(allDHCPRelays), mac(1), guest6, allDHCPRelays, solicitOf(t, 1).ToBytes()),
		"ARP for the server": arpFor(t, fdb.Broadcast, mac(1), ip("192.168.100.77"), server),
	} {
		expect(t, name, r.fromPort("a", b), "@10.9.0.2 b")
		expect(t, name+" from afar", r.fromPeer(peer2, 100, b), "a b")
	}
	if d := r.dropped(); d != "" {
		t.Errorf("drops: %s", d)
	}
}

func TestAMessageForAnotherServerPassesOnEvenIfThisOneIsBusy(t *testing.T) {
	r, s, _ := serving(t, *dhcpConfig(9))
	c := dhcpdtest.Client{MAC: hw(mac(1))}
	p := only(t, r.send("a", broadcastBOOTP(t, mac(1), c.Discover())), "a")
	if _, err := c.Receive(p.Layer(layers.LayerTypeUDP).(*layers.UDP).Payload); err != nil {
		t.Fatal(err)
	}
	c.Offer.UpdateOption(dhcpv4.OptServerIdentifier(ip("192.168.100.3").AsSlice()))
	other := broadcastBOOTP(t, mac(1), c.Request())
	expect(t, "the REQUEST for another", r.fromPort("a", other), "@10.9.0.2 b")
	if l := s.DHCP().Leases(); len(l) != 0 {
		t.Errorf("the address that was not taken is still held: %+v", l)
	}
	for len(r.v.freeRequests) > 0 {
		<-r.v.freeRequests
	}
	expect(t, "while there is no room here", r.fromPort("a", other), "@10.9.0.2 b")
	if d := r.dropped(); d != "" {
		t.Errorf("drops of what went on: %s", d)
	}
}

func TestTheServerIdentifierIsFoundInWhateverOptionsThereAre(t *testing.T) {
	v4 := service4{ip: server.As4()}
	fixed := make([]byte, 240)
	for _, c := range []struct {
		name    string
		options []byte
		other   bool
	}{
		{"none", nil, false},
		{"the end only", []byte{255}, false},
		{"ours", []byte{53, 1, 3, 54, 4, 192, 168, 100, 2, 255}, false},
		{"another's", []byte{0, 0, 53, 1, 3, 54, 4, 192, 168, 100, 3, 255}, true},
		{"another's behind the end", []byte{255, 54, 4, 192, 168, 100, 3}, false},
		{"one that is cut off", []byte{54, 4, 192, 168, 100}, false},
		{"one of another length", []byte{54, 5, 192, 168, 100, 3, 0}, false},
		{"a length that leads out", []byte{12, 200, 1}, false},
	} {
		if got := v4.forOther(append(fixed[:240:240], c.options...)); got != c.other {
			t.Errorf("%s: for another is %t", c.name, got)
		}
	}
	for n := range 240 {
		if v4.forOther(fixed[:n]) {
			t.Errorf("%d bytes are for another", n)
		}
	}
}

func TestAnswersThatFindTheInboxFullAreCounted(t *testing.T) {
	r, _, _ := serving(t, *dhcpConfig(9))
	w := r.v.workers[0]
	s, _ := r.v.Segment(100)
	w.inbox = make([]injected, inboxLen)
	for i := range w.inbox {
		w.inbox[i].seg = &Segment{vni: 100} // of a segment that was removed meanwhile
	}
	discover := broadcastBOOTP(t, mac(1), (&dhcpdtest.Client{MAC: hw(mac(1))}).Discover())
	if got := r.send("a", discover); len(got) != 0 {
		t.Errorf("left: %+v", got)
	}
	if d := r.dropped(); d != "dhcp_queue_full@100" {
		t.Errorf("drops: %s", d)
	}
	only(t, r.send("a", discover), "a") // there is room again
	if len(s.DHCP().Leases()) != 1 {
		t.Errorf("leases: %+v", s.DHCP().Leases())
	}
}

func TestEveryVTEPAndSegmentHasAServiceMACOfItsOwn(t *testing.T) {
	seen := map[fdb.MAC]bool{}
	for _, local := range []netip.Addr{self, peer2, ip("fd00:9::1"), ip("fd00:9::2")} {
		for vni := range uint32(1000) {
			m := serviceMAC(local, vni+1)
			if m.IsGroup() || m>>40 != 2 || seen[m] {
				t.Fatalf("%v, segment %d: %v", local, vni+1, m)
			}
			seen[m] = true
		}
	}
}
