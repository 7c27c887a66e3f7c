package vtep

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"

	"github.com/uvtep/uvtep/dhcpd"
	"github.com/uvtep/uvtep/dhcpd/dhcpdtest"
	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/frame"
)

var (
	server6 = ip("2001:db8:100::2")
	guest6  = ip("fe80::77")
)

// dhcp6Config is a service in 2001:db8:100::/64 with the addresses from ::1000 on.
func dhcp6Config() *DHCP6Config {
	return &DHCP6Config{Server: dhcpd.SegmentConfig6{
		Subnet: netip.MustParsePrefix("2001:db8:100::/64"), Server: server6,
		Ranges: []dhcpd.Range{{First: ip("2001:db8:100::1000"), Last: ip("2001:db8:100::10ff")}},
	}}
}

// serving6 is serving with DHCPv6 instead.
func serving6(t testing.TB, cfg DHCP6Config) (r *rig, own fdb.MAC, link netip.Addr) {
	t.Helper()
	r = newRig(t, Config{})
	r.segment(SegmentConfig{VNI: 100, Peers: []netip.Addr{peer2}, DHCP6: &cfg}, "a", "b")
	own = serviceMAC(self, 100)
	return r, own, linkLocal(own)
}

func ipv6(src, dst netip.Addr, hops uint8, proto layers.IPProtocol) *layers.IPv6 {
	return &layers.IPv6{Version: 6, HopLimit: hops, NextHeader: proto, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
}

// multicastMAC is the MAC of a multicast address (RFC 2464 section 7).
func multicastMAC(a netip.Addr) fdb.MAC {
	b := a.As16()
	return 0x333300000000 | fdb.MAC(b[12])<<24 | fdb.MAC(b[13])<<16 | fdb.MAC(b[14])<<8 | fdb.MAC(b[15])
}

// solicitedNode is the group that an address is asked for in (RFC 4291 section
// 2.7.1).
func solicitedNode(a netip.Addr) netip.Addr {
	b, group := a.As16(), ip("ff02::1:ff00:0").As16()
	copy(group[13:], b[13:])
	return netip.AddrFrom16(group)
}

func icmp6(t testing.TB, dst, src fdb.MAC, ip *layers.IPv6, typ uint8, body gopacket.SerializableLayer) []byte {
	return build(t, ethernet(dst, src, layers.EthernetTypeIPv6), ip, &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(typ, 0)}, body)
}

// solicit is a neighbour solicitation of guest6, with its MAC as option unless
// source is false.
func solicit(t testing.TB, dst fdb.MAC, src fdb.MAC, from, to, target netip.Addr, source bool) []byte {
	ns := &layers.ICMPv6NeighborSolicitation{TargetAddress: target.AsSlice()}
	if source {
		ns.Options = layers.ICMPv6Options{{Type: layers.ICMPv6OptSourceAddress, Data: hw(src)}}
	}
	return icmp6(t, dst, src, ipv6(from, to, 255, layers.IPProtocolICMPv6), layers.ICMPv6TypeNeighborSolicitation, ns)
}

func ping6(t testing.TB, dst, src fdb.MAC, from, to netip.Addr, data string) []byte {
	return icmp6(t, dst, src, ipv6(from, to, 17, layers.IPProtocolICMPv6), layers.ICMPv6TypeEchoRequest, gopacket.Payload("\x00\x07\x00\x09"+data))
}

func TestTheAddressesOfTheIPv6ServiceAnswerNeighboursAndPing(t *testing.T) {
	r, own, link := serving6(t, *dhcp6Config())
	if want := ip("fe80::" + hex.EncodeToString([]byte{own.Bytes()[0] ^ 2, own.Bytes()[1]}) + ":" + hex.EncodeToString([]byte{own.Bytes()[2], 0xff}) + ":" +
		hex.EncodeToString([]byte{0xfe, own.Bytes()[3]}) + ":" + hex.EncodeToString([]byte{own.Bytes()[4], own.Bytes()[5]})); link != want {
		t.Errorf("link-local address %v, want %v", link, want)
	}
	each(t, r, func(t *testing.T, back string, ask func([]byte) []out) {
		for _, target := range []netip.Addr{link, server6} {
			group := solicitedNode(target)
			for _, c := range []struct {
				name   string
				dst    fdb.MAC
				to     netip.Addr
				from   netip.Addr
				source bool

				answerTo  netip.Addr
				answerMAC fdb.MAC
				flags     uint8
			}{
				{"multicast", multicastMAC(group), group, guest6, true, guest6, mac(1), 0x60},
				{"unicast", own, target, guest6, true, guest6, mac(1), 0x60},
				{"unicast without the source's MAC", own, target, guest6, false, guest6, mac(1), 0x60},
				{"duplicate address detection", multicastMAC(group), group, netip.IPv6Unspecified(), false, allNodes, allNodesMAC, 0x20},
			} {
				p := only(t, ask(solicit(t, c.dst, mac(1), c.from, c.to, target, c.source)), back)
				e, h := p.Layer(layers.LayerTypeEthernet).(*layers.Ethernet), p.Layer(layers.LayerTypeIPv6).(*layers.IPv6)
				a, ok := p.Layer(layers.LayerTypeICMPv6NeighborAdvertisement).(*layers.ICMPv6NeighborAdvertisement)
				if !ok {
					t.Fatalf("%s: answer %v", c.name, p)
				}
				got := fmt.Sprint(e.SrcMAC, e.DstMAC, h.HopLimit, h.SrcIP, h.DstIP, a.Flags, a.TargetAddress, a.Options)
				want := fmt.Sprint(hw(own), hw(c.answerMAC), 255, target, c.answerTo, c.flags, target,
					layers.ICMPv6Options{{Type: layers.ICMPv6OptTargetAddress, Data: hw(own)}})
				if got != want {
					t.Errorf("%s for %v:\n got %s\nwant %s", c.name, target, got, want)
				}
			}
			for _, data := range []string{"", "x", strings.Repeat("abc", 100)} {
				p := only(t, ask(ping6(t, own, mac(1), guest6, target, data)), back)
				h := p.Layer(layers.LayerTypeIPv6).(*layers.IPv6)
				m := p.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6)
				if m.TypeCode.Type() != layers.ICMPv6TypeEchoReply || string(m.Payload) != "\x00\x07\x00\x09"+data || h.HopLimit != 64 ||
					!h.SrcIP.Equal(target.AsSlice()) || !h.DstIP.Equal(guest6.AsSlice()) {
					t.Errorf("ping answer: %v", p)
				}
			}
		}
	})
	if d := r.dropped(); d != "" {
		t.Errorf("drops: %s", d)
	}
}

// Two solicitations in one receive of the kernel's: the answer to the first is
// longer than it.
func TestAnAnswerThatIsLongerThanItsQuestionLeavesTheNextFrameAlone(t *testing.T) {
	r, own, link := serving6(t, *dhcp6Config())
	r.net.Offload = 0
	w := r.v.workers[0]
	ask := vxlan(100, solicit(t, own, mac(1), guest6, link, link, false))
	in := frame.NewBatch(1, 4096)
	f := in.Next()
	in.Commit(copy(f.Buffer(), append(bytes.Clone(ask), ask...)))
	f.Outer.Src, f.Outer.Segment = peer2, uint16(len(ask))
	w.round.Add(1)
	w.fromTunnel(in.Frames[:1])
	w.round.Add(1)
	r.turn()
	got := r.outs()
	if len(got) != 2 || !bytes.Equal(got[0].bytes, got[1].bytes) {
		t.Fatalf("left: %+v", got)
	}
	for _, o := range got {
		if p := honest(t, o.bytes); p.Layer(layers.LayerTypeICMPv6NeighborAdvertisement) == nil {
			t.Errorf("answer: %v", p)
		}
	}
}

func TestAnAnswerClaimsNothingOfWhatItsSolicitationDid(t *testing.T) {
	r := newOffloadRig(t, Config{})
	r.segment(SegmentConfig{VNI: 100, DHCP6: dhcp6Config()}, "a")
	group := solicitedNode(server6)
	ask := append(solicit(t, multicastMAC(group), mac(1), guest6, group, server6, true), make([]byte, 100)...)
	if !r.taps.Device("a").SendSuper(0, ask, frame.Offload{Flags: frame.NeedsCsum, CsumStart: 150}) {
		t.Fatal("the port takes no frame")
	}
	r.turn()
	b, o, ok := r.taps.Device("a").TryRecvSuper()
	if !ok || len(b) != advertLen || o.Flags&frame.NeedsCsum != 0 {
		t.Errorf("answer %x, %+v, there %t", b, o, ok)
	}
}

func TestNeighbourSolicitationsThatCannotBeRightAreNotAnswered(t *testing.T) {
	r, own, link := serving6(t, *dhcp6Config())
	group := solicitedNode(link)
	right := solicit(t, multicastMAC(group), mac(1), guest6, group, link, true)
	everybody := "@10.9.0.2 b"
	edit := func(at int, v byte) []byte {
		b := bytes.Clone(right)
		b[at] = v
		return b
	}
	for _, c := range []struct {
		name  string
		frame []byte
		want  string
	}{
		{"for somebody else", solicit(t, multicastMAC(group), mac(1), guest6, group, guest6, true), everybody},
		{"behind a router", icmp6(t, multicastMAC(group), mac(1), ipv6(guest6, group, 254, layers.IPProtocolICMPv6),
			layers.ICMPv6TypeNeighborSolicitation, &layers.ICMPv6NeighborSolicitation{TargetAddress: link.AsSlice()}), everybody},
		{"with a wrong checksum", edit(56, right[56]^1), everybody},
		{"with a code", edit(55, 1), everybody},
		{"with an option without a length", edit(79, 0), everybody},
		{"from a group", solicit(t, multicastMAC(group), mac(1), allNodes, group, link, true), everybody},
		{"from nobody, with a MAC", solicit(t, multicastMAC(group), mac(1), netip.IPv6Unspecified(), group, link, true), everybody},
		{"from nobody, to one", solicit(t, multicastMAC(group), mac(1), netip.IPv6Unspecified(), link, link, false), everybody},
		{"cut off", icmp6(t, multicastMAC(group), mac(1), ipv6(guest6, group, 255, layers.IPProtocolICMPv6),
			layers.ICMPv6TypeNeighborSolicitation, gopacket.Payload(make([]byte, 19))), everybody},
		{"in a VLAN", vlan(right), everybody},
		{"ping to everyone", ping6(t, allNodesMAC, mac(1), guest6, allNodes, "x"), everybody},
		{"ping of its address, to everyone's MAC", ping6(t, allNodesMAC, mac(1), guest6, link, "x"), everybody},
		{"ping from a group", ping6(t, own, mac(1), allNodes, link, "x"), ""},
		{"ping from nobody", ping6(t, own, mac(1), netip.IPv6Unspecified(), link, "x"), ""},
		{"ping to the service's MAC for another address", ping6(t, own, mac(1), guest6, ip("fe80::3"), "x"), ""},
	} {
		expect(t, c.name, r.fromPort("a", c.frame), c.want)
	}
	if d := r.dropped(); d != "not_for_service@100 not_for_service@100 not_for_service@100" {
		t.Errorf("drops: %s", d)
	}
	only(t, r.send("a", right), "a") // or else all this shows nothing
}

func TestASegmentWithDHCPv4OnlyHasNoIPv6(t *testing.T) {
	r, _, own := serving(t, *dhcpConfig(9))
	link := linkLocal(own)
	group := solicitedNode(link)
	expect(t, "a solicitation", r.fromPort("a", solicit(t, multicastMAC(group), mac(1), guest6, group, link, true)), "@10.9.0.2 b")
	r6, own, _ := serving6(t, *dhcp6Config())
	expect(t, "ARP where there is DHCPv6 only", r6.fromPort("a", arpFor(t, fdb.Broadcast, mac(1), ip("192.168.100.77"), server)), "@10.9.0.2 b")
	expect(t, "ping, likewise", r6.fromPort("a", ping(t, own, mac(1), ip("192.168.100.77"), server, "")), "")
	discover := discoverOf(t, 1)
	expect(t, "DISCOVER, likewise", r6.fromPort("a", discover), "@10.9.0.2 b")
}

// solicitOf is a DHCPv6 SOLICIT of a guest.
func solicitOf(t testing.TB, i int, edits ...dhcpv6.Modifier) *dhcpv6.Message {
	m, err := dhcpv6.NewSolicit(hw(mac(i)), append([]dhcpv6.Modifier{dhcpv6.WithClientID(&dhcpv6.DUIDLL{HWType: iana.HWTypeEthernet, LinkLayerAddr: hw(mac(i))})}, edits...)...)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// dhcp6 is a DHCPv6 message in a frame.
func dhcp6(t testing.TB, dst, src fdb.MAC, from, to netip.Addr, msg []byte) []byte {
	return build(t, ethernet(dst, src, layers.EthernetTypeIPv6), ipv6(from, to, 1, layers.IPProtocolUDP),
		&layers.UDP{SrcPort: 546, DstPort: 547}, gopacket.Payload(msg))
}

// handed is what is about to be decided on, nil if there is nothing.
func (r *rig) handed() *request {
	r.read()
	select {
	case q := <-r.v.requests:
		return q
	default:
		return nil
	}
}

func TestDHCPv6MessagesReachTheServiceAtItsAddressesAndGroups(t *testing.T) {
	cfg := dhcp6Config()
	r, own, link := serving6(t, *cfg)
	msg := solicitOf(t, 1).ToBytes()
	relayed := append([]byte{relayForward}, make([]byte, 60)...)
	from := func(id dhcpv6.DUID) []byte { return solicitOf(t, 1, dhcpv6.WithServerID(id)).ToBytes() }
	ours := from(&dhcpv6.DUIDOpaque{Type: dhcpv6.DUIDType(cfg.Server.ServerDUID()[1]), Data: cfg.Server.ServerDUID()[2:]})
	other := from(&dhcpv6.DUIDLL{HWType: iana.HWTypeEthernet, LinkLayerAddr: hw(mac(9))})
	for _, c := range []struct {
		name  string
		dst   fdb.MAC
		to    netip.Addr
		msg   []byte
		taken bool
		goes  string // besides
	}{
		{"to all servers and relays", multicastMAC(allDHCPRelays), allDHCPRelays, msg, true, ""},
		{"to all servers", multicastMAC(allDHCPServers), allDHCPServers, relayed, true, ""},
		{"to its address", own, server6, msg, true, ""},
		{"to its link-local address", own, link, msg, true, ""},
		{"to another address", own, ip("2001:db8:100::3"), msg, false, ""},
		{"to another group", multicastMAC(allNodes), allNodes, msg, false, "flood"},
		{"to another station", mac(50), server6, msg, false, "flood"},
		{"for this server", multicastMAC(allDHCPRelays), allDHCPRelays, ours, true, ""},
		{"for another server", multicastMAC(allDHCPRelays), allDHCPRelays, other, true, "flood"},
	} {
		b := dhcp6(t, c.dst, mac(1), guest6, c.to, c.msg)
		r.taps.Device("a").Send(b)
		q := r.handed()
		if (q != nil) != c.taken {
			t.Errorf("%s: handed over %t", c.name, q != nil)
		}
		if q != nil {
			if q.req.Src != guest6 || q.req.Dst != c.to || q.req.SrcMAC != mac(1).Bytes() || q.req.Port != "a" || q.req.VTEP.IsValid() ||
				!bytes.Equal(q.req.Payload, c.msg) || q.passed != (c.goes == "flood") {
				t.Errorf("%s: %+v", c.name, q.req)
			}
			r.v.decide(q)
		}
		expect(t, c.name, whereTo(r.outs(), b), map[string]string{"flood": "@10.9.0.2 b"}[c.goes])
	}
	r.inject(peer2, 0, vxlan(100, dhcp6(t, multicastMAC(allDHCPRelays), mac(2), guest6, allDHCPRelays, msg)))
	if q := r.handed(); q == nil || q.req.VTEP != peer2 || q.req.Port != "" {
		t.Errorf("from a peer: %+v", q)
	}
}

func TestASolicitThatIsServedHereGoesNowhereElse(t *testing.T) {
	r, own, link := serving6(t, *dhcp6Config())
	n := 0
	each(t, r, func(t *testing.T, back string, ask func([]byte) []out) {
		n++
		c := dhcpdtest.Client6{MAC: hw(mac(n))}
		p := only(t, ask(dhcp6(t, multicastMAC(allDHCPRelays), mac(n), guest6, allDHCPRelays, c.Solicit())), back)
		e, h, u := p.Layer(layers.LayerTypeEthernet).(*layers.Ethernet), p.Layer(layers.LayerTypeIPv6).(*layers.IPv6), p.Layer(layers.LayerTypeUDP).(*layers.UDP)
		got := fmt.Sprint(e.SrcMAC, e.DstMAC, h.SrcIP, h.DstIP, uint16(u.SrcPort), uint16(u.DstPort))
		if want := fmt.Sprint(hw(own), hw(mac(n)), link, guest6, 547, 546); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if request, err := c.Receive(u.Payload); err != nil || request == nil || len(c.Offer) != 1 {
			t.Errorf("the client has %v, %v", c.Offer, err)
		}
	})
	if d := r.dropped(); d != "" {
		t.Errorf("drops: %s", d)
	}
}

func TestAReplyThatSaysNoIsNoDrop(t *testing.T) {
	cfg := *dhcp6Config()
	cfg.Server.Ranges = nil
	r, _, _ := serving6(t, cfg)
	c := dhcpdtest.Client6{MAC: hw(mac(1))}
	p := only(t, r.send("a", dhcp6(t, multicastMAC(allDHCPRelays), mac(1), guest6, allDHCPRelays, c.Solicit())), "a")
	if request, err := c.Receive(p.Layer(layers.LayerTypeUDP).(*layers.UDP).Payload); err != nil || request != nil || len(c.Offer) != 0 {
		t.Errorf("the client has %v, %v", c.Offer, err)
	}
	if d := r.dropped(); d != "" {
		t.Errorf("drops: %s", d)
	}
}

func TestLocalDHCPv6LeavesGuestsBehindRemoteVTEPsAlone(t *testing.T) {
	cfg := *dhcp6Config()
	cfg.ServeLocal = true
	r, own, link := serving6(t, cfg)
	expect(t, "SOLICIT from afar", r.fromPeer(peer2, 100, dhcp6(t, multicastMAC(allDHCPRelays), mac(1), guest6, allDHCPRelays, solicitOf(t, 1).ToBytes())), "a b")
	group := solicitedNode(server6)
	expect(t, "who has the server's address", r.fromPeer(peer2, 100, solicit(t, multicastMAC(group), mac(1), guest6, group, server6, true)), "a b")
	expect(t, "ping of it", r.fromPeer(peer2, 100, ping6(t, own, mac(1), guest6, server6, "")), "")
	// The link-local address is this VTEP's only.
	only(t, r.datagram(peer2, 0, vxlan(100, ping6(t, own, mac(1), guest6, link, ""))), "@10.9.0.2")
}

func TestDHCPv6RepliesComeFromTheLinkOrFromTheServersAddress(t *testing.T) {
	r, own, link := serving6(t, *dhcp6Config())
	s, _ := r.v.Segment(100)
	v6 := s.view.Load().service.v6
	for _, c := range []struct {
		to, src netip.Addr
		port    uint16
	}{
		{guest6, link, 546},
		{ip("2001:db8:9::1"), server6, 547},
	} {
		for _, payload := range []string{"", "x", strings.Repeat("reply", 100)} {
			p := honest(t, v6.compose(dhcpd.Reply{Dst: c.to, DstPort: c.port, DstMAC: mac(1).Bytes(), Payload: []byte(payload)}))
			e, h, u := p.Layer(layers.LayerTypeEthernet).(*layers.Ethernet), p.Layer(layers.LayerTypeIPv6).(*layers.IPv6), p.Layer(layers.LayerTypeUDP).(*layers.UDP)
			got := fmt.Sprint(e.SrcMAC, e.DstMAC, h.SrcIP, h.DstIP, h.HopLimit, uint16(u.SrcPort), uint16(u.DstPort), len(u.Payload))
			if want := fmt.Sprint(hw(own), hw(mac(1)), c.src, c.to, 64, 547, c.port, len(payload)); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		}
	}
}

func TestAPortThatChecksTheClientHoldsTheMACInItsIdentifierAgainstTheFrame(t *testing.T) {
	v6 := &service6{}
	source := [6]byte(hw(mac(1)))
	id := func(d dhcpv6.DUID) []byte { return solicitOf(t, 1, dhcpv6.WithClientID(d)).ToBytes() }
	for _, c := range []struct {
		name    string
		msg     []byte
		spoofed bool
	}{
		{"its own", solicitOf(t, 1).ToBytes(), false},
		{"another's", solicitOf(t, 2).ToBytes(), true},
		{"its own with a time", id(&dhcpv6.DUIDLLT{HWType: iana.HWTypeEthernet, Time: 7, LinkLayerAddr: hw(mac(1))}), false},
		{"another's with a time", id(&dhcpv6.DUIDLLT{HWType: iana.HWTypeEthernet, Time: 7, LinkLayerAddr: hw(mac(2))}), true},
		{"of another hardware", id(&dhcpv6.DUIDLL{HWType: 27, LinkLayerAddr: make([]byte, 8)}), false},
		{"one that is cut off", append([]byte{1, 0, 0, 0, 0, 1, 0, 6}, 0, 1, 0, 1, 9, 9), false},
		{"another that is cut off", append([]byte{1, 0, 0, 0, 0, 1, 0, 6}, 0, 3, 0, 1, 9, 9), false},
		{"a UUID", id(&dhcpv6.DUIDUUID{UUID: [16]byte{1}}), false},
		{"a relay's", append([]byte{relayForward}, solicitOf(t, 2).ToBytes()...), false},
		{"none", []byte{1, 0, 0, 0}, false},
		{"nothing at all", nil, false},
	} {
		if got := v6.spoofed(c.msg, source); got != c.spoofed {
			t.Errorf("%s: spoofed %t", c.name, got)
		}
	}
	whole := solicitOf(t, 2).ToBytes()
	for n := range whole { // no panic
		v6.spoofed(whole[:n], source)
		v6.forOther(whole[:n])
	}
}
