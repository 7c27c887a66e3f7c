package vtep_test

import (
	"fmt"
	"net"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"

	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/nettest"
	"github.com/uvtep/uvtep/vtep"
)

func TestTheOuterDFFlagIsFixedOrInherited(t *testing.T) {
	for _, tc := range []struct {
		name             string
		df               vtep.DF
		set, clear, none bool // of packets with the flag, without it, and of no IPv4
	}{
		{"set", vtep.DFSet, true, true, true},
		{"clear", vtep.DFClear, false, false, false},
		{"inherited", vtep.DFInherit, true, false, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			eachBench(t, func(c *vtep.Config, _ *vtep.SegmentConfig) { c.DF = tc.df }, func(t *testing.T, b *bench) {
				v4 := func(mark string, flags layers.IPv4Flag) {
					b.g1.out.Send(udpFrame(t, &layers.Ethernet{SrcMAC: mac1, DstMAC: mac3},
						&layers.IPv4{TTL: 7, Flags: flags, SrcIP: net.ParseIP("192.168.100.1"), DstIP: net.ParseIP("192.168.100.3")}, 1, 2, []byte(mark)))
				}
				v4("<with>", layers.IPv4DontFragment)
				v4("<without>", 0)
				b.g1.out.Send(nettest.Serialize(t, &layers.Ethernet{SrcMAC: mac1, DstMAC: mac3, EthernetType: layers.EthernetTypeIPv6},
					&layers.IPv6{Version: 6, HopLimit: 7, NextHeader: layers.IPProtocolNoNextHeader, SrcIP: net.ParseIP("fd00::1"), DstIP: net.ParseIP("fd00::3")},
					gopacket.Payload("<six>")))
				b.g1.out.Send(plainFrame(all, mac1, "<no IP>"))
				for mark, want := range map[string]bool{"<with>": tc.set, "<without>": tc.clear, "<six>": tc.none, "<no IP>": tc.none} {
					o := b.onWire(t, mark, 1)[0]
					if o.DF != (want || b.u.a.Is6()) || o.Fragment || o.UDP.SrcPort < 49152 {
						t.Errorf("%s: DF %v, want %v; fragment %v, port %d", mark, o.DF, want, o.Fragment, o.UDP.SrcPort)
					}
				}
			})
		})
	}
}

func TestWhatIsTooBigLeavesInFragmentsAsALastResort(t *testing.T) {
	eachBench(t, func(c *vtep.Config, s *vtep.SegmentConfig) { c.Fragment, s.MTU = true, 3000 }, func(t *testing.T, b *bench) {
		b.g1.out.Send(plainFrame(all, mac1, "<big>"+string(make([]byte, 2500))))
		first := b.wire.Wait("<big>", 1)[0]
		if first.Length > 1514 {
			t.Errorf("a packet of %d bytes on a wire for 1514", first.Length)
		}
		b.g1.out.Send(plainFrame(all, mac1, "<behind>"))
		b.onWire(t, "<behind>", 1)
		if n := b.a.dropped(frame.TooBig); n != 0 {
			t.Errorf("%d were too big", n)
		}
		// The peer's kernel puts them together.
		buf := make([]byte, 4096)
		if n, _, err := b.socket.ReadFromUDPAddrPort(buf); err != nil || n != encap.HeaderLen+14+5+2500 {
			t.Errorf("the peer got %d bytes, %v", n, err)
		}
	})
}

func TestAZeroChecksumOverIPv6IsAcceptedWhereThatIsAskedFor(t *testing.T) {
	for _, accepted := range []bool{false, true} {
		t.Run(fmt.Sprint(accepted), func(t *testing.T) {
			eachBench(t, func(c *vtep.Config, _ *vtep.SegmentConfig) { c.ZeroSum6 = accepted }, func(t *testing.T, b *bench) {
				if b.u.a.Is4() {
					return // where no checksum needs no setting
				}
				say := func(mark string, without int) {
					c, err := b.socket.SyscallConn()
					if err != nil {
						t.Fatal(err)
					}
					const udpNoCheck6TX = 101
					if ctlErr := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, udpNoCheck6TX, without) }); ctlErr != nil || err != nil {
						t.Fatal(ctlErr, err)
					}
					b.say(t, nettest.VXLAN(8, benchVNI, plainFrame(all, mac3, mark)))
				}
				say("<zero>", 1)
				say("<behind>", 0)
				b.g1.seen.Wait("<behind>", 1)
				if n := len(b.g1.seen.With("<zero>")); (n == 1) != accepted {
					t.Errorf("%d without a checksum delivered", n)
				}
			})
		})
	}
}
