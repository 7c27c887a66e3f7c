package vtep

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/uvtep/uvtep/dhcpd/dhcpdtest"
	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/tap"
	"github.com/uvtep/uvtep/internal/underlay"
)

// brokenTAP refuses what it is given, as the kernel does with what it thinks is
// no frame.
type brokenTAP struct{}

func (brokenTAP) Name() string                   { return "broken" }
func (d brokenTAP) Queues() []tap.Queue          { return []tap.Queue{d} }
func (brokenTAP) SetMTU(int) error               { return nil }
func (brokenTAP) Close() error                   { return nil }
func (brokenTAP) Offload() tap.Offload           { return 0 }
func (brokenTAP) Fd() int                        { return -1 }
func (brokenTAP) Notify(func())                  {}
func (brokenTAP) Read(*frame.Batch) (int, error) { return 0, nil }
func (brokenTAP) Write(frames []*frame.Frame) int {
	for _, f := range frames {
		f.Drop(frame.PortError)
	}
	return 0
}

// brokenTunnel lets nothing out if it is broken.
type brokenTunnel struct {
	underlay.Endpoint
	broken bool
}

type brokenSocket struct{ underlay.Queue }

func (e brokenTunnel) Queues() []underlay.Queue {
	out := e.Endpoint.Queues()
	if e.broken {
		out = []underlay.Queue{brokenSocket{out[0]}}
	}
	return out
}

func (q brokenSocket) Notify(wake func()) { q.Queue.(notifier).Notify(wake) }
func (brokenSocket) Write(ps []underlay.Packet) int {
	for i := range ps {
		ps[i].Sent, ps[i].Reason = 0, frame.TunnelError
	}
	return 0
}

func TestEveryDropIsCountedOnceWithItsReasonUnderItsSegment(t *testing.T) {
	f := eth(fdb.Broadcast, mac(1))
	discover := func(i int) []byte {
		return broadcastBOOTP(t, mac(i), (&dhcpdtest.Client{MAC: hw(mac(i))}).Discover())
	}
	service := serviceMAC(self, 100)
	produced := map[string]bool{frame.BadLength.String(): true} // which a stream alone has, and its own test
	for _, c := range []struct {
		name string
		cfg  Config
		seg  SegmentConfig
		do   func(r *rig, s *Segment)
		want string

		broken bool // the tunnel
	}{
		{"a frame shorter than its header", Config{}, SegmentConfig{}, func(r *rig, s *Segment) {
			r.fromPort("a", f[:13])
		}, "malformed@100", false},
		{"a zero source", Config{}, SegmentConfig{}, func(r *rig, s *Segment) {
			r.fromPort("a", eth(fdb.Broadcast, 0))
		}, "bad_source@100", false},
		{"a group source", Config{}, SegmentConfig{}, func(r *rig, s *Segment) {
			r.fromPeer(peer2, 100, eth(mac(1), 0x010000000001))
		}, "bad_source@100", false},
		{"the segment's own address as source", Config{}, SegmentConfig{DHCP: dhcpConfig(9)}, func(r *rig, s *Segment) {
			r.fromPort("a", eth(fdb.Broadcast, service))
		}, "own_source@100", false},
		{"the same where nothing is learned", Config{}, SegmentConfig{DHCP: dhcpConfig(9), NoLearning: true}, func(r *rig, s *Segment) {
			r.fromPeer(peer2, 100, eth(fdb.Broadcast, service))
		}, "own_source@100", false},
		{"a static address from elsewhere", Config{}, SegmentConfig{FDB: []StaticEntry{{MAC: mac(1), Port: "b"}}}, func(r *rig, s *Segment) {
			r.fromPort("a", f)
		}, "static_source@100", false},
		{"an address that moves too often", Config{}, SegmentConfig{MACMoves: 1}, func(r *rig, s *Segment) {
			r.fromPort("a", f)
			r.fromPeer(peer2, 100, f)
		}, "mac_frozen@100", false},
		{"a group that no bridge relays", Config{}, SegmentConfig{}, func(r *rig, s *Segment) {
			r.fromPort("a", eth(0x0180c200000e, mac(1)))
		}, "link_local@100", false},
		{"isolated to isolated", Config{}, SegmentConfig{}, func(r *rig, s *Segment) {
			for _, name := range []string{"i1", "i2"} {
				r.attach(s, PortConfig{Name: name, Isolated: true})
			}
			r.fromPort("i1", f)
			r.fromPort("i2", eth(mac(1), mac(2)))
		}, "port_isolated@100", false},
		{"an empty datagram", Config{}, SegmentConfig{}, func(r *rig, s *Segment) {
			r.datagram(peer2, 0, nil)
		}, "outer_short@0", false},
		{"a datagram that ends in the inner header", Config{}, SegmentConfig{}, func(r *rig, s *Segment) {
			r.datagram(peer2, 0, vxlan(100, f[:13]))
		}, "outer_short@0", false},
		{"no I flag", Config{}, SegmentConfig{}, func(r *rig, s *Segment) {
			r.datagram(peer2, 0, append(make([]byte, 8), f...))
		}, "outer_no_vni@0", false},
		{"reserved bits", Config{Strict: true}, SegmentConfig{}, func(r *rig, s *Segment) {
			p := vxlan(100, f)
			p[7] = 1
			r.datagram(peer2, 0, p)
		}, "outer_reserved@0", false},
		{"our own address as the sender's", Config{Accept: AcceptAny}, SegmentConfig{}, func(r *rig, s *Segment) {
			r.fromPeer(self, 100, f)
		}, "outer_self@0", false},
		{"an unknown segment", Config{}, SegmentConfig{}, func(r *rig, s *Segment) {
			r.fromPeer(peer2, 101, f)
		}, "unknown_vni@0", false},
		{"VNI 0", Config{}, SegmentConfig{}, func(r *rig, s *Segment) {
			r.fromPeer(peer2, 0, f)
		}, "unknown_vni@0", false},
		{"an unknown peer", Config{}, SegmentConfig{}, func(r *rig, s *Segment) {
			r.fromPeer(peer3, 100, f)
		}, "unknown_peer@100", false},
		{"congestion that cannot be passed on", Config{}, SegmentConfig{}, func(r *rig, s *Segment) {
			r.datagram(peer2, 3, vxlan(100, build(t, ethernet(mac(2), mac(1), layers.EthernetTypeIPv4), ipv4(peer2, peer3, 59))))
		}, "outer_ecn@100", false},
		{"our own packet in a guest's frame", Config{}, SegmentConfig{}, func(r *rig, s *Segment) {
			r.fromPort("a", build(t, ethernet(mac(2), mac(1), layers.EthernetTypeIPv4), ipv4(self, peer2, layers.IPProtocolUDP),
				&layers.UDP{SrcPort: 50000, DstPort: 4789}, gopacket.Payload(vxlan(7, f))))
		}, "too_deep@100", false},
		{"the same over IPv6, from a peer", Config{Local: ip("fd00:9::1"), Accept: AcceptAny}, SegmentConfig{}, func(r *rig, s *Segment) {
			r.fromPeer(ip("fd00:9::2"), 100, build(t, ethernet(mac(2), mac(1), layers.EthernetTypeIPv6),
				&layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolUDP, SrcIP: ip("fd00:9::1").AsSlice(), DstIP: ip("fd00:9::2").AsSlice()},
				&layers.UDP{SrcPort: 50000, DstPort: 4789}, gopacket.Payload(vxlan(7, f))))
		}, "too_deep@100", false},
		{"a guest's packet to our own address and port", Config{}, SegmentConfig{}, func(r *rig, s *Segment) {
			r.fromPort("a", tunnelled(t, peer3, self, 4789))
			expect(t, "to another port of it", r.fromPort("a", tunnelled(t, peer3, self, 4790)), "@10.9.0.2 b")
			expect(t, "to another VTEP", r.fromPort("a", tunnelled(t, peer3, peer2, 4789)), "@10.9.0.2 b")
		}, "too_deep@100", false},
		{"the same from a peer", Config{}, SegmentConfig{}, func(r *rig, s *Segment) {
			r.fromPeer(peer2, 100, tunnelled(t, peer2, self, 4789))
		}, "too_deep@100", false},
		{"the same over IPv6", Config{Local: ip("fd00:9::1"), Accept: AcceptAny}, SegmentConfig{}, func(r *rig, s *Segment) {
			r.fromPeer(ip("fd00:9::2"), 100, tunnelled(t, ip("fd00:9::2"), ip("fd00:9::1"), 4789))
			r.fromPort("a", tunnelled(t, ip("fd00:9::3"), ip("fd00:9::1"), 4789))
			expect(t, "to another VTEP", r.fromPort("a", tunnelled(t, ip("fd00:9::3"), ip("fd00:9::2"), 4789)), "b")
		}, "too_deep@100 too_deep@100", false},
		{"to a neighbour at the same port", Config{}, SegmentConfig{}, func(r *rig, s *Segment) {
			r.fromPort("a", f)
			r.fromPort("a", eth(mac(1), mac(2)))
		}, "hairpin@100", false},
		{"from a peer to what is behind another", Config{}, SegmentConfig{}, func(r *rig, s *Segment) {
			if err := s.AddPeer(peer3); err != nil {
				t.Fatal(err)
			}
			r.fromPeer(peer3, 100, f)
			r.fromPeer(peer2, 100, eth(mac(1), mac(2)))
		}, "hairpin@100", false},
		{"nobody there", Config{}, SegmentConfig{}, func(r *rig, s *Segment) {
			if err := s.DetachPort("b"); err != nil {
				t.Fatal(err)
			}
			if err := s.RemovePeer(peer2); err != nil {
				t.Fatal(err)
			}
			r.fromPort("a", f)
		}, "no_way_out@100", false},
		{"to a vanished port", Config{}, SegmentConfig{}, func(r *rig, s *Segment) {
			r.fromPort("a", f)
			r.taps.Device("a").Vanish()
			r.turn()
			r.fromPort("b", eth(mac(1), mac(2)))
		}, "port_down@100", false},
		{"to a port that is down, in a flood", Config{}, SegmentConfig{}, func(r *rig, s *Segment) {
			r.taps.Device("b").SetDown(true)
			r.fromPort("a", f)
		}, "port_down@100", false},
		{"a virtio header that lies", Config{}, SegmentConfig{}, func(r *rig, s *Segment) {
			r.taps.Device("a").SendSuper(0, f, frame.Offload{GSO: frame.GSOTCPv4, GSOSize: 1400})
			r.turn()
		}, "bad_offload@100", false},
		{"to a full port, in a flood", Config{}, SegmentConfig{}, func(r *rig, s *Segment) {
			r.taps.Device("b").SetCapacity(0)
			r.fromPort("a", f)
		}, "port_full@100", false},
		{"to a port that refuses it", Config{}, SegmentConfig{}, func(r *rig, s *Segment) {
			r.attach(s, PortConfig{Name: "broken", Device: brokenTAP{}})
			r.fromPort("a", f)
		}, "port_error@100", false},
		{"longer than the underlay carries", Config{}, SegmentConfig{}, func(r *rig, s *Segment) {
			r.fromPort("a", append(f, make([]byte, 1500)...))
		}, "too_big@100", false},
		{"longer than a frame can be", Config{}, SegmentConfig{}, func(r *rig, s *Segment) {
			r.fromPort("a", append(f, make([]byte, frame.MaxLen)...))
		}, "too_big@100", false},
		{"a datagram longer than that", Config{}, SegmentConfig{}, func(r *rig, s *Segment) {
			r.datagram(peer2, 0, vxlan(100, append(f, make([]byte, frame.MaxLen)...)))
		}, "too_big@0", false},
		{"the socket is full", Config{}, SegmentConfig{}, func(r *rig, s *Segment) {
			r.net.Endpoint(sources(self, 4789)).SetFull(true)
			r.fromPort("a", f)
		}, "tunnel_full@100", false},
		{"the socket refuses it", Config{}, SegmentConfig{}, func(r *rig, s *Segment) {
			r.fromPort("a", f)
		}, "tunnel_error@100", true},
		{"to the service, not for it", Config{}, SegmentConfig{DHCP: dhcpConfig(9)}, func(r *rig, s *Segment) {
			r.fromPort("a", eth(service, mac(1)))
		}, "not_for_service@100", false},
		{"more requests than there is room for", Config{}, SegmentConfig{DHCP: dhcpConfig(9)}, func(r *rig, s *Segment) {
			for len(r.v.freeRequests) > 0 {
				<-r.v.freeRequests
			}
			r.fromPort("a", discover(1))
		}, "dhcp_queue_full@100", false},
		{"a UDP length that lies", Config{}, SegmentConfig{DHCP: dhcpConfig(9)}, func(r *rig, s *Segment) {
			b := discover(1)
			b[14+20+4] = 0xff
			r.fromPort("a", b)
		}, "dhcp_malformed@100", false},
		{"no DHCP message at all", Config{}, SegmentConfig{DHCP: dhcpConfig(9)}, func(r *rig, s *Segment) {
			r.fromPort("a", broadcastBOOTP(t, mac(1), []byte("nonsense")))
		}, "dhcp_malformed@100", false},
		{"a lease of which there is no record", Config{}, SegmentConfig{DHCP: dhcpConfig(9)}, func(r *rig, s *Segment) {
			c := dhcpdtest.Client{MAC: hw(mac(1)), IP: ip("192.168.100.50")}
			r.fromPort("a", broadcastBOOTP(t, mac(1), c.Reboot()))
		}, "dhcp_ignored@100", false},
		{"an empty pool", Config{}, SegmentConfig{DHCP: dhcpConfig(1)}, func(r *rig, s *Segment) {
			r.fromPort("a", discover(1))
			r.fromPort("a", discover(2))
		}, "dhcp_no_lease@100", false},
		{"more leases than a port may have", Config{}, SegmentConfig{DHCP: dhcpConfig(9)}, func(r *rig, s *Segment) {
			r.attach(s, PortConfig{Name: "small", MaxLeases: 1})
			r.fromPort("small", discover(1))
			r.fromPort("small", discover(2))
		}, "dhcp_port_full@100", false},
		{"more messages a second than a port may send", Config{}, SegmentConfig{DHCP: dhcpConfig(9)}, func(r *rig, s *Segment) {
			r.attach(s, PortConfig{Name: "slow", DHCPRate: 1})
			r.fromPort("slow", discover(1))
			r.fromPort("slow", discover(1))
		}, "dhcp_rate@100", false},
		{"a length that no frame has", Config{}, SegmentConfig{}, func(r *rig, s *Segment) {
			r.attach(s, PortConfig{Name: "garbled", Device: &garbled{}})
		}, "bad_length@100", false},
		{"a group that the port does not get", Config{GBP: true}, SegmentConfig{}, func(r *rig, s *Segment) {
			r.attach(s, PortConfig{Name: "picky", GBPAllow: []uint16{7}})
			r.fromPort("a", f)
		}, "group_policy@100", false},
		{"more floods than a port may send", Config{}, SegmentConfig{}, func(r *rig, s *Segment) {
			r.attach(s, PortConfig{Name: "slow", Storm: Storm{Broadcast: 1}})
			r.fromPort("slow", f)
			r.fromPort("slow", f)
		}, "storm_limit@100", false},
		{"a protected address at a port that is not trusted", Config{}, SegmentConfig{ProtectedMACs: []fdb.MAC{mac(1)}}, func(r *rig, s *Segment) {
			r.fromPort("a", f)
		}, "protected_source@100", false},
		{"what is not bound to a port", Config{}, SegmentConfig{}, func(r *rig, s *Segment) {
			r.attach(s, PortConfig{Name: "bound", Bind: BindLease})
			r.fromPort("bound", arpFor(t, fdb.Broadcast, mac(1), server, server))
		}, "spoofed@100", false},
		{"a DHCP server at a port that is not trusted", Config{}, SegmentConfig{DHCP: dhcpConfig(9)}, func(r *rig, s *Segment) {
			r.fromPort("a", build(t, ethernet(fdb.Broadcast, mac(1), layers.EthernetTypeIPv4), ipv4(server, broadcast4, layers.IPProtocolUDP), &layers.UDP{SrcPort: 67, DstPort: 68}))
		}, "rogue_dhcp@100", false},
		{"a router at a port that is not trusted", Config{}, SegmentConfig{RA: &RAConfig{}}, func(r *rig, s *Segment) {
			r.fromPort("a", icmp6(t, multicastMAC(allNodes), mac(1), ipv6(guest6, allNodes, 255, layers.IPProtocolICMPv6), 134, &layers.ICMPv6RouterAdvertisement{}))
		}, "rogue_ra@100", false},
		{"a VLAN that no segment has", Config{}, SegmentConfig{}, func(r *rig, s *Segment) {
			r.attach(s, PortConfig{Trunk: "t", VLAN: 10})
			r.fromPort("t", inVLAN(11, eth(mac(1), mac(2))))
		}, "vlan_unmapped@0", false},
		{"a ring of pairs", Config{}, SegmentConfig{}, func(r *rig, s *Segment) {
			other, _ := r.v.Segment(200)
			r.join("p", s, 0, other, 0)
			r.join("q", s, 0, other, 0)
			r.fromPort("a", eth(fdb.Broadcast, mac(1)))
		}, "pair_loop@100 pair_loop@100", false},
		{"a message about another client", Config{}, SegmentConfig{DHCP: dhcpConfig(9)}, func(r *rig, s *Segment) {
			r.attach(s, PortConfig{Name: "strict", DHCPCheckMAC: true})
			r.fromPort("strict", broadcastBOOTP(t, mac(1), (&dhcpdtest.Client{MAC: hw(mac(2))}).Discover()))
		}, "dhcp_spoofed@100", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRigOver(t, c.cfg, func(e underlay.Endpoint) underlay.Endpoint { return brokenTunnel{e, c.broken} })
			c.seg.VNI = 100
			if !r.v.cfg.Local.Is6() {
				c.seg.Peers = []netip.Addr{peer2}
			}
			s := r.segment(c.seg, "a", "b")
			r.segment(SegmentConfig{VNI: 200, Peers: c.seg.Peers}, "x")
			c.do(r, s)
			r.turn()
			if got := r.dropped(); got != c.want {
				t.Errorf("drops: %q, want %q", got, c.want)
			}
			for _, d := range strings.Fields(c.want) {
				produced[strings.Split(d, "@")[0]] = true
			}
		})
	}
	for reason := frame.NotDropped + 1; int(reason) < frame.Reasons; reason++ {
		if !produced[reason.String()] {
			t.Errorf("nothing here is dropped as %v", reason)
		}
	}
}

// garbled is a device that loses the thread of what it reads, as the socket of a
// machine does that sends garbage.
type garbled struct{ told bool }

func (*garbled) Name() string             { return "garbled" }
func (g *garbled) Queues() []tap.Queue    { return []tap.Queue{g} }
func (*garbled) SetMTU(int) error         { return nil }
func (*garbled) Offload() tap.Offload     { return 0 }
func (*garbled) Close() error             { return nil }
func (*garbled) Fd() int                  { return -1 }
func (*garbled) Notify(func())            {}
func (*garbled) Write([]*frame.Frame) int { return 0 }
func (g *garbled) Read(b *frame.Batch) (int, error) {
	if g.told {
		return 0, nil
	}
	g.told = true
	f := b.Next()
	b.Commit(0)
	f.Drop(frame.BadLength)
	return 1, nil
}

// tunnelled is a frame with a VXLAN packet in it.
func tunnelled(t testing.TB, from, to netip.Addr, port layers.UDPPort) []byte {
	inner := gopacket.Payload(vxlan(7, eth(fdb.Broadcast, mac(1))))
	udp := &layers.UDP{SrcPort: 50000, DstPort: port}
	if from.Is4() {
		return build(t, ethernet(mac(2), mac(1), layers.EthernetTypeIPv4), ipv4(from, to, layers.IPProtocolUDP), udp, inner)
	}
	return build(t, ethernet(mac(2), mac(1), layers.EthernetTypeIPv6),
		&layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolUDP, SrcIP: from.AsSlice(), DstIP: to.AsSlice()}, udp, inner)
}

func TestWhatIsDroppedIsCountedWithThePeerThatSentIt(t *testing.T) {
	r := newRig(t, Config{})
	s := r.segment(SegmentConfig{VNI: 100, Peers: []netip.Addr{peer2, peer3}}, "a")
	r.fromPeer(peer2, 100, eth(fdb.Broadcast, mac(1)))
	r.fromPeer(peer3, 100, eth(fdb.Broadcast, 0))        // no source
	r.fromPeer(peer3, 100, eth(mac(1), mac(2)))          // for who is behind another
	r.fromPeer(ip("10.9.0.9"), 100, eth(mac(1), mac(2))) // a stranger's
	for i, want := range []Traffic{{RxPackets: 1, RxBytes: 60}, {RxPackets: 2, RxBytes: 120, RxDropped: 2}} {
		if got := s.Peers()[i]; got.Traffic != want {
			t.Errorf("peer %v: %+v, want %+v", got.Addr, got.Traffic, want)
		}
	}
	if d := r.dropped(); d != "bad_source@100 unknown_peer@100 hairpin@100" {
		t.Errorf("drops: %s", d)
	}
}

// One frame of a flood that two of three do not take is two drops and one
// delivery, and none of it touches another frame.
func TestADropAtOnePortOfAFloodIsThatPortsOnly(t *testing.T) {
	r := newRig(t, Config{})
	s := r.segment(SegmentConfig{VNI: 100, Peers: []netip.Addr{peer2, peer3}}, "a", "b", "c", "d")
	r.taps.Device("b").SetDown(true)
	r.taps.Device("c").SetCapacity(0)
	expect(t, "the flood", r.fromPort("a", eth(fdb.Broadcast, mac(1))), "@10.9.0.2 @10.9.0.3 d")
	if got := r.dropped(); got != "port_down@100 port_full@100" {
		t.Errorf("drops: %s", got)
	}
	for i, want := range []Traffic{
		{RxPackets: 1, RxBytes: 60}, {TxDropped: 1}, {TxDropped: 1}, {TxPackets: 1, TxBytes: 60},
	} {
		if got := s.Ports()[i]; got.Traffic != want {
			t.Errorf("port %s: %+v, want %+v", got.Name, got.Traffic, want)
		}
	}
}

func TestASegmentsDropsGoWithIt(t *testing.T) {
	r := newRig(t, Config{})
	r.segment(SegmentConfig{VNI: 100}, "a")
	r.fromPort("a", eth(fdb.Broadcast, 0))
	if err := r.v.RemoveSegment(100); err != nil {
		t.Fatal(err)
	}
	r.datagram(peer2, 0, vxlan(encap.VNI(100), eth(fdb.Broadcast, mac(1))))
	if got := r.dropped(); got != "unknown_vni@0" {
		t.Errorf("drops: %s", got)
	}
}
