package vtep_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/nettest"
	"github.com/uvtep/uvtep/internal/underlay"
	"github.com/uvtep/uvtep/vtep"
)

func TestFlowsAreSpreadOverSourcePortsAndEachKeepsItsOwn(t *testing.T) {
	eachBench(t, nil, func(t *testing.T, b *bench) {
		const flows, each = 256, 4
		for range each {
			for f := range flows {
				b.g1.out.Send(udpFrame(t, &layers.Ethernet{SrcMAC: mac1, DstMAC: mac3},
					&layers.IPv4{TTL: 64, SrcIP: net.ParseIP("192.168.100.1"), DstIP: net.ParseIP("192.168.100.3")},
					uint16(10000+f), 9, fmt.Appendf(nil, "<flow %d>", f)))
			}
		}
		of, per := map[string]layers.UDPPort{}, map[layers.UDPPort]int{}
		for _, o := range b.onWire(t, "<flow ", flows*each) {
			flow := string(o.Inner[14+28:])
			if p, ok := of[flow]; ok && p != o.UDP.SrcPort {
				t.Errorf("%s has source ports %d and %d", flow, p, o.UDP.SrcPort)
			}
			of[flow] = o.UDP.SrcPort
			per[o.UDP.SrcPort]++
			if o.UDP.SrcPort < 49152 || o.UDP.DstPort != encap.Port {
				t.Errorf("%s goes from port %d to port %d", flow, o.UDP.SrcPort, o.UDP.DstPort)
			}
		}
		if len(of) != flows || len(per) < 16 {
			t.Errorf("%d flows by %d source ports, want %d by 16 at least", len(of), len(per), flows)
		}
		for p, n := range per {
			if n > flows*each/4 {
				t.Errorf("port %d has %d of %d packets", p, n, flows*each)
			}
		}
	})
}

func TestAnEncapsulatedFrameIsWhatTheGuestSentBehindHeadersThatAreRight(t *testing.T) {
	eachBench(t, nil, func(t *testing.T, b *bench) {
		longest := b.s.Config().MTU
		sent := map[string]bool{}
		for _, size := range []int{46, 47, 100, 999, longest - 1, longest} {
			for i := range 8 { // different checksums
				f := plainFrame(all, mac1, fmt.Sprintf("<whole>%*d", size-7, i))
				sent[string(f)] = true
				b.g1.out.Send(f)
			}
		}
		tag := append(append(append([]byte{}, all...), mac1...), 0x81, 0, 0x60, 5, 0x88, 0xb5) // priority 3, VLAN 5
		tag = append(tag, "<whole> and tagged, with padding to sixty bytes"...)
		sent[string(tag)] = true
		b.g1.out.Send(tag)
		for _, o := range b.onWire(t, "<whole>", len(sent)) {
			if !sent[string(o.Inner)] {
				t.Errorf("sent twice, or never by the guest: %x", o.Inner)
			}
			delete(sent, string(o.Inner))
			if o.Src != b.u.a || o.Dst != b.u.b || o.TTL != 64 || o.TOS != 0 || !o.DF || o.Fragment || o.Sum != o.Want {
				t.Errorf("outer header %+v", o)
			}
			if !o.VXLAN.ValidIDFlag || o.VXLAN.VNI != benchVNI || o.UDP.Payload[0] != 8 ||
				!bytes.Equal(o.UDP.Payload[1:4], []byte{0, 0, 0}) || o.UDP.Payload[7] != 0 {
				t.Errorf("VXLAN header %x", o.UDP.Payload[:8])
			}
		}
	})
}

func TestOuterChecksumsCanBeLeftOut(t *testing.T) {
	eachBench(t, func(c *vtep.Config, _ *vtep.SegmentConfig) { c.NoChecksum = true }, func(t *testing.T, b *bench) {
		b.g1.out.Send(plainFrame(all, mac1, "<no sum>"))
		if o := b.onWire(t, "<no sum>", 1)[0]; o.UDP.Checksum != 0 {
			t.Errorf("the checksum is %#x", o.UDP.Checksum)
		}
	})
}

func TestTheOuterTTLAndTrafficClassAreInheritedOrFixed(t *testing.T) {
	const tos = 0xa2 // AF43 would be 0x98; any DSCP, and an ECN field that fixed ones do not replace
	for _, tc := range []struct {
		name     string
		set      func(*vtep.Config, *vtep.SegmentConfig)
		ttl      uint8 // of packets with TTL 7
		tosFixed bool
		ttlNonIP uint8
	}{
		{"as they are unless set", nil, 64, false, 64},
		{"fixed", func(c *vtep.Config, _ *vtep.SegmentConfig) { c.TTL, c.TOS = 33, new(uint8(tos)) }, 33, true, 33},
		{"inherited", func(c *vtep.Config, _ *vtep.SegmentConfig) { c.TTL, c.InheritTTL = 33, true }, 7, false, 33},
	} {
		t.Run(tc.name, func(t *testing.T) {
			eachBench(t, tc.set, func(t *testing.T, b *bench) {
				for _, inner := range []uint8{0, 1, 2, 3, 0xb8, 0xb9, 0x4b} {
					v4 := fmt.Sprintf("<v4 %#x>", inner)
					b.g1.out.Send(udpFrame(t, &layers.Ethernet{SrcMAC: mac1, DstMAC: mac3},
						&layers.IPv4{TTL: 7, TOS: inner, SrcIP: net.ParseIP("192.168.100.1"), DstIP: net.ParseIP("192.168.100.3")}, 1, 2, []byte(v4)))
					v6 := fmt.Sprintf("<v6 %#x>", inner)
					ip6 := &layers.IPv6{Version: 6, HopLimit: 7, TrafficClass: inner, NextHeader: layers.IPProtocolNoNextHeader,
						SrcIP: net.ParseIP("fd00::1"), DstIP: net.ParseIP("fd00::3")}
					b.g1.out.Send(nettest.Serialize(t, &layers.Ethernet{SrcMAC: mac1, DstMAC: mac3, EthernetType: layers.EthernetTypeIPv6}, ip6, gopacket.Payload(v6)))
					want := inner
					if tc.tosFixed {
						want = tos&^3 | inner&3
					}
					for _, m := range []string{v4, v6} {
						if o := b.onWire(t, m, 1)[0]; o.TOS != want || o.TTL != tc.ttl {
							t.Errorf("%s: outer traffic class %#x and TTL %d, want %#x and %d", m, o.TOS, o.TTL, want, tc.ttl)
						}
					}
				}
				b.g1.out.Send(plainFrame(all, mac1, "<no IP>"))
				if o := b.onWire(t, "<no IP>", 1)[0]; o.TTL != tc.ttlNonIP {
					t.Errorf("TTL %d where there is no inner one, want %d", o.TTL, tc.ttlNonIP)
				}
			})
		})
	}
}

func TestCongestionMarksLeaveTheTunnelAsRFC6040Says(t *testing.T) {
	const notECT, ect1, ect0, ce, drop = 0, 1, 2, 3, 4
	// RFC 6040, figure 4: by inner and outer ECN field, what is forwarded.
	table := [4][4]int{
		notECT: {notECT: notECT, ect1: notECT, ect0: notECT, ce: drop},
		ect1:   {notECT: ect1, ect1: ect1, ect0: ect1, ce: ce},
		ect0:   {notECT: ect0, ect1: ect1, ect0: ect0, ce: ce},
		ce:     {notECT: ce, ect1: ce, ect0: ce, ce: ce},
	}
	eachBench(t, nil, func(t *testing.T, b *bench) {
		drops := 0
		for inner, row := range table {
			for outer, want := range row {
				b.setTOS(t, 0x40|outer)
				m := fmt.Sprintf("<ECN %d in %d>", inner, outer)
				b.say(t, nettest.VXLAN(8, benchVNI, udpFrame(t, &layers.Ethernet{SrcMAC: mac3, DstMAC: mac1},
					&layers.IPv4{TTL: 64, TOS: 0xb8 | uint8(inner), SrcIP: net.ParseIP("192.168.100.3"), DstIP: net.ParseIP("192.168.100.1")}, 1, 2, []byte(m))))
				m6 := "v6 " + m
				b.say(t, nettest.VXLAN(8, benchVNI, nettest.Serialize(t, &layers.Ethernet{SrcMAC: mac3, DstMAC: mac1, EthernetType: layers.EthernetTypeIPv6},
					&layers.IPv6{Version: 6, HopLimit: 7, TrafficClass: 0xb8 | uint8(inner), FlowLabel: 0x54321, NextHeader: layers.IPProtocolNoNextHeader,
						SrcIP: net.ParseIP("fd00::3"), DstIP: net.ParseIP("fd00::1")}, gopacket.Payload(m6))))
				if want == drop {
					drops += 2
					eventually(t, m+" is dropped", func() bool { return b.a.dropped(frame.OuterECN) == uint64(drops) })
					continue
				}
				b.g1.seen.Wait(m, 2)
				for _, f := range b.g1.seen.With(m) {
					p := gopacket.NewPacket(f.Bytes, layers.LayerTypeEthernet, gopacket.Default)
					if ip, ok := p.NetworkLayer().(*layers.IPv6); ok {
						if ip.TrafficClass != 0xb8|uint8(want) || ip.FlowLabel != 0x54321 {
							t.Errorf("v6 %s: traffic class %#x, flow label %#x", m, ip.TrafficClass, ip.FlowLabel)
						}
						continue
					}
					ip := p.NetworkLayer().(*layers.IPv4)
					sum := ip.Checksum
					nettest.Serialize(t, ip, gopacket.Payload(ip.Payload))
					if ip.TOS != 0xb8|uint8(want) || ip.Checksum != sum {
						t.Errorf("%s: TOS %#x, want %#x; checksum %#x, want %#x", m, ip.TOS, 0xb8|want, sum, ip.Checksum)
					}
				}
			}
		}
	})
}

func TestAFrameTooBigForThePathIsCountedAndNeverFragmented(t *testing.T) {
	eachBench(t, func(_ *vtep.Config, s *vtep.SegmentConfig) { s.MTU = 9000 }, func(t *testing.T, b *bench) {
		fits := 1500 - encap.Overhead(b.u.a)
		pad := func(n int) string { return "<big>" + strings.Repeat(".", n-5) }
		b.g1.out.Send(plainFrame(all, mac1, pad(fits+1)))
		b.g1.out.Send(plainFrame(all, mac1, pad(8000)))
		b.g1.out.Send(plainFrame(all, mac1, pad(fits))) // comes last, by the same way
		out := b.onWire(t, "<big>", 1)
		if len(out) != 1 || out[0].Fragment || len(out[0].Inner) != fits+14 {
			t.Errorf("%d packets on the wire, want the last of three alone", len(out))
		}
		if n := b.a.dropped(frame.TooBig); n != 2 {
			t.Errorf("%d dropped as too big, want 2", n)
		}
		b.g2.seen.Wait("<big>", 3) // the other port of the host takes them all

		// A smaller MTU further on is told by the network, and learnt.
		b.peer.Exec("ip", "link", "set", "ul", "mtu", "1400")
		b.a.ns.Exec("ip", "link", "set", "ul", "mtu", "1400")
		before := b.a.dropped(frame.TooBig)
		b.g1.out.Send(plainFrame(all, mac1, pad(fits)))
		eventually(t, "the frame is too big", func() bool { return b.a.dropped(frame.TooBig) == before+1 })
		b.g1.out.Send(plainFrame(all, mac1, pad(fits-100)))
		for _, o := range b.onWire(t, "<big>", 2) {
			if o.Fragment {
				t.Errorf("a fragment: %x", o.Inner[:40])
			}
		}
	})
}

func TestWhatMustNotEnterIsCountedAndGoesNowhere(t *testing.T) {
	inner := plainFrame(all, mac3, "<enter>")
	with := func(src net.HardwareAddr) []byte { return nettest.VXLAN(8, benchVNI, plainFrame(all, src, "<enter>")) }
	for _, tc := range []struct {
		name    string
		payload []byte
		reason  frame.Reason
	}{
		{"an unknown VNI", nettest.VXLAN(8, 78, inner), frame.UnknownVNI},
		{"no I flag", nettest.VXLAN(0, benchVNI, inner), frame.OuterNoVNI},
		{"half a header", nettest.VXLAN(8, benchVNI, nil)[:5], frame.OuterShort},
		{"nothing", nil, frame.OuterShort},
		{"a header alone", nettest.VXLAN(8, benchVNI, nil), frame.OuterShort},
		{"half an inner header", nettest.VXLAN(8, benchVNI, inner[:13]), frame.OuterShort},
		{"a zero source MAC", with(net.HardwareAddr{0, 0, 0, 0, 0, 0}), frame.BadSource},
		{"the broadcast address as its source", with(all), frame.BadSource},
		{"a group address as its source", with(mdns), frame.BadSource},
		{"a source that is bound elsewhere", with(mac2), frame.StaticSource},
	} {
		t.Run(tc.name, func(t *testing.T) {
			eachBench(t, func(_ *vtep.Config, s *vtep.SegmentConfig) {
				s.FDB = []vtep.StaticEntry{{MAC: fdb.MACOf(mac2), Port: "t2"}}
			}, func(t *testing.T, b *bench) {
				b.say(t, tc.payload)
				b.say(t, nettest.VXLAN(8, benchVNI, plainFrame(all, mac3, "<behind>")))
				b.g1.seen.Wait("<behind>", 1)
				// A batch is counted after it was written.
				eventually(t, "one is dropped for "+tc.reason.String(), func() bool { return b.a.dropped(tc.reason) == 1 })
				for _, g := range []*station{b.g1, b.g2} {
					if got := g.seen.With("<enter>"); len(got) != 0 {
						t.Errorf("a guest saw %x", got[0].Bytes)
					}
				}
				for _, e := range b.s.FDB() {
					if e.MAC != fdb.MACOf(mac2) && e.MAC != fdb.MACOf(mac3) {
						t.Errorf("learned: %+v", e)
					}
				}
			})
		})
	}
}

func TestReservedBitsAreIgnoredUnlessStrict(t *testing.T) {
	reserved := func(i int) []byte {
		b := nettest.VXLAN(8, benchVNI, plainFrame(all, mac3, "<reserved>"))
		b[i] |= 1
		return b
	}
	for _, strict := range []bool{false, true} {
		t.Run(fmt.Sprintf("strict %v", strict), func(t *testing.T) {
			eachBench(t, func(c *vtep.Config, _ *vtep.SegmentConfig) { c.Strict = strict }, func(t *testing.T, b *bench) {
				for _, i := range []int{0, 1, 2, 3, 7} {
					b.say(t, reserved(i))
				}
				b.say(t, nettest.VXLAN(8, benchVNI, plainFrame(all, mac3, "<behind>")))
				b.g1.seen.Wait("<behind>", 1)
				want := map[bool]int{false: 5, true: 0}[strict]
				if n := len(b.g1.seen.With("<reserved>")); n != want {
					t.Errorf("%d delivered, want %d", n, want)
				}
				eventually(t, "the others are dropped", func() bool { return b.a.dropped(frame.OuterReserved) == uint64(5-want) })
			})
		})
	}
}

// stranger is a socket of another address of the peer's host.
func (b *bench) stranger(t *testing.T) *net.UDPConn {
	t.Helper()
	ip := b.u.b.Next()
	b.peer.Addr("ul", fmt.Sprintf("%s/%d", ip, b.u.bits))
	var c *net.UDPConn
	b.peer.Do(func() {
		var err error
		if c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(ip, 0))); err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(func() { c.Close() })
	return c
}

func TestAStrangerIsHeardOnlyWhereEveryoneIsAccepted(t *testing.T) {
	for _, accept := range []vtep.Accept{vtep.AcceptPeers, vtep.AcceptAny} {
		t.Run(map[vtep.Accept]string{vtep.AcceptPeers: "peers", vtep.AcceptAny: "any"}[accept], func(t *testing.T) {
			eachBench(t, func(c *vtep.Config, _ *vtep.SegmentConfig) { c.Accept = accept }, func(t *testing.T, b *bench) {
				c := b.stranger(t)
				for range 100 {
					if _, err := c.WriteToUDPAddrPort(nettest.VXLAN(8, benchVNI, plainFrame(all, mac3, "<stranger>")), netip.AddrPortFrom(b.u.a, encap.Port)); err != nil {
						t.Fatal(err)
					}
				}
				learned := func() bool {
					return slices.ContainsFunc(b.s.FDB(), func(e vtep.FDBEntry) bool { return e.MAC == fdb.MACOf(mac3) })
				}
				if accept == vtep.AcceptPeers {
					eventually(t, "all are dropped", func() bool { return b.a.dropped(frame.UnknownPeer) == 100 })
					if n := len(b.g1.seen.With("<stranger>")); n != 0 || learned() {
						t.Errorf("%d delivered, learned %v", n, learned())
					}
					return
				}
				b.g1.seen.Wait("<stranger>", 100)
				// What is for the MAC goes to the stranger's address, at the
				// VXLAN port: its source port is not kept.
				b.g1.out.Send(plainFrame(mac3, mac1, "<answer>"))
				if o := b.onWire(t, "<answer>", 1)[0]; o.Dst != b.u.b.Next() || o.UDP.DstPort != encap.Port {
					t.Errorf("the answer went to %s port %d", o.Dst, o.UDP.DstPort)
				}
				// Floods do not go to it.
				b.g1.out.Send(plainFrame(all, mac1, "<flood>"))
				if o := b.onWire(t, "<flood>", 1); len(o) != 1 || o[0].Dst != b.u.b {
					t.Errorf("%d copies of a flood, the first to %s", len(o), o[0].Dst)
				}
			})
		})
	}
}

func TestFloodsGoOnceToEveryPeerAndNothingGoesBackIntoTheTunnel(t *testing.T) {
	eachBench(t, func(c *vtep.Config, s *vtep.SegmentConfig) {
		third := s.Peers[0].Next()
		s.Peers = append(s.Peers, third, third.Next())
	}, func(t *testing.T, b *bench) {
		for _, extra := range []netip.Addr{b.u.b.Next(), b.u.b.Next().Next()} {
			b.peer.Addr("ul", fmt.Sprintf("%s/%d", extra, b.u.bits))
		}
		for name, dst := range map[string]net.HardwareAddr{"<broadcast>": all, "<multicast>": mdns, "<unknown>": macX} {
			// From a guest: to every peer and the other guest, once each.
			b.g1.out.Send(plainFrame(dst, mac1, name+" out"))
			b.g2.seen.Wait(name+" out", 1)
			to := map[netip.Addr]int{}
			for _, o := range b.onWire(t, name+" out", 3) {
				to[o.Dst]++
			}
			if len(to) != 3 || to[b.u.b] != 1 || to[b.u.b.Next()] != 1 || to[b.u.b.Next().Next()] != 1 {
				t.Errorf("%s went to %v", name, to)
			}
			// From a peer: to the guests, never to another peer.
			b.say(t, nettest.VXLAN(8, benchVNI, plainFrame(dst, mac3, name+" in")))
			b.g1.seen.Wait(name+" in", 1)
			b.g2.seen.Wait(name+" in", 1)
		}
		// Known behind the peer it comes from, or behind another one.
		b.say(t, nettest.VXLAN(8, benchVNI, plainFrame(mac3, macX, "<back> in")))
		eventually(t, "it is dropped", func() bool { return b.a.dropped(frame.Hairpin) == 1 })
		b.g1.out.Send(plainFrame(all, mac1, "<last>"))
		b.onWire(t, "<last>", 3)
		for _, f := range b.wire.With(" in") {
			t.Errorf("it went back into the tunnel: %x", f.Bytes)
		}
	})
}

func TestGroupsAreJoinedAndLeftOnTheDevice(t *testing.T) {
	nettest.Root(t)
	eachFamily(t, func(t *testing.T, base vtep.Config, u family) {
		na, _ := cable(t, u)
		base.Local, base.Accept = u.a, vtep.AcceptAny
		a := start(t, na, base)
		joined := func(g netip.Addr) bool { return strings.Contains(memberships(na, g), entryOf(g)) }
		other := u.group.Next()
		a.segment(t, vtep.SegmentConfig{VNI: 100, Group: u.group})
		a.segment(t, vtep.SegmentConfig{VNI: 200, Group: u.group})
		a.segment(t, vtep.SegmentConfig{VNI: 300, Group: other})
		for i, step := range []struct {
			do           func() error
			group, other bool
		}{
			{func() error { return nil }, true, true},
			{func() error { return a.v.RemoveSegment(100) }, true, true},
			{func() error { return a.v.RemoveSegment(300) }, true, false},
			{func() error { return a.v.RemoveSegment(200) }, false, false},
		} {
			if err := step.do(); err != nil {
				t.Fatal(err)
			}
			if joined(u.group) != step.group || joined(other) != step.other {
				t.Errorf("step %d: %s joined %v, %s joined %v:\n%s", i, u.group, joined(u.group), other, joined(other), memberships(na, u.group))
			}
		}
		a.segment(t, vtep.SegmentConfig{VNI: 100, Group: u.group})
		if !joined(u.group) {
			t.Errorf("%s was not joined again", u.group)
		}
		a.stop()
		if joined(u.group) {
			t.Errorf("%s is still joined after Close", u.group)
		}
	})
}

// memberships is what the kernel knows of the groups joined on ul.
func memberships(ns *nettest.NS, g netip.Addr) string {
	if g.Is4() {
		return ns.Exec("cat", "/proc/thread-self/net/igmp")
	}
	return ns.Exec("cat", "/proc/thread-self/net/igmp6")
}

// entryOf is how /proc/net/igmp and igmp6 write a group.
func entryOf(g netip.Addr) string {
	b := g.AsSlice()
	if g.Is4() {
		return fmt.Sprintf("%08X", binary.NativeEndian.Uint32(b))
	}
	return fmt.Sprintf("%x", b)
}

func TestAPortThatTheKernelHoldsIsOneClearError(t *testing.T) {
	nettest.Root(t)
	eachFamily(t, func(t *testing.T, base vtep.Config, u family) {
		na, _ := cable(t, u)
		vx := []string{"link", "add", "vx", "up", "type", "vxlan", "id", "7", "local", u.a.String(), "remote", u.b.String(), "dstport", "4789"}
		na.Exec("ip", vx...)
		base.Local = u.a
		na.Do(func() {
			v, err := vtep.New(base)
			if err == nil {
				v.Close()
			}
			oneLine(t, err, underlay.ErrPortInUse, "4789", "vxlan", "underlay.port")
		})
		na.Exec("ip", "link", "del", "vx")
		a := start(t, na, base)
		if out, err := na.Try("ip", vx...); err == nil {
			t.Errorf("the kernel made a device on a port that is ours: %s", out)
		}
		a.stop()
		if l := na.Links(); slices.Contains(l, "vx") {
			na.Exec("ip", "link", "del", "vx")
		}
		na.Exec("ip", vx...) // nothing of ours is left
	})
}

// oneLine fails the test unless err is want and a single line that says what
// it has to.
func oneLine(t testing.TB, err, want error, says ...string) {
	t.Helper()
	if err == nil || !errors.Is(err, want) {
		t.Errorf("error %v, want %v", err, want)
		return
	}
	for _, s := range append(says, "") {
		if strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), s) {
			t.Errorf("error %q, want one line that says %q", err, s)
		}
	}
}
