package conformance

import (
	"bytes"
	"fmt"
	"net"
	"strings"

	"github.com/google/gopacket/layers"

	"github.com/uvtep/uvtep/internal/nettest"
	"github.com/uvtep/uvtep/internal/verdict"
)

// check is one behaviour.
type check struct {
	about string // the part of the table
	title string
	in    intent
	only  string // a family, where there is nothing to ask of the other; "" is both
	run   func(b *bed)

	// Why this program does otherwise than Linux, where it does so on purpose.
	because string
}

// sent sends frames from guest 1 to a station that nobody knows, and returns the
// packet that carried each of them to a peer.
func (b *bed) sent(frames func(dst, src net.HardwareAddr, mark string) []byte) nettest.Outer {
	m := b.mark()
	b.from(1, frames(b.mac(), b.mac(), m))
	return b.one(m, 2)
}

func plainTo(dst, src net.HardwareAddr, mark string) []byte { return plain(dst, src, mark) }

func outerChecks() []check {
	all := []check{
		{title: "the destination port is 4789", run: func(b *bed) {
			if o := b.sent(plainTo); o.UDP.DstPort != 4789 {
				verdict.Fail("it is %d", o.UDP.DstPort)
			}
		}},
		{title: "the destination port is another one where that was asked for, and is listened on", in: intent{port: 8472}, run: func(b *bed) {
			if o := b.sent(plainTo); o.UDP.DstPort != 8472 {
				verdict.Fail("it is %d", o.UDP.DstPort)
			}
			m := b.mark()
			b.tunnel(b.u.b, plain(broadcast, b.mac(), m))
			b.goes(m, "guest 1", "guest 2", "guest 3")
		}},
		{title: "source ports are those of RFC 7348, 49152 to 65535", run: func(b *bed) {
			for range 16 {
				o := b.sent(func(dst, src net.HardwareAddr, m string) []byte { return in4(b.t, dst, src, layers.IPv4{}, m) })
				if o.UDP.SrcPort < 49152 {
					verdict.Fail("they are others")
				}
			}
		}, because: "RFC 7348 recommends this range; Linux uses its own local ports unless it is told a range"},
		{title: "a flow keeps its source port, to every peer", run: func(b *bed) {
			dst, src, m := b.mac(), b.mac(), b.mark()
			for range 8 {
				b.from(1, in4(b.t, dst, src, layers.IPv4{}, m))
			}
			b.one(m, 16)
			ports := map[layers.UDPPort]bool{}
			for _, o := range b.onWire(m) {
				ports[o.UDP.SrcPort] = true
			}
			if len(ports) != 1 {
				verdict.Fail("%d ports", len(ports))
			}
		}},
		{title: "flows are spread over 16 source ports at least", run: func(b *bed) {
			dst, src, m := b.mac(), b.mac(), b.mark()
			for i := range 200 {
				b.from(1, in4(b.t, dst, src, layers.IPv4{SrcIP: net.IP{10, 1, 0, byte(i)}, DstIP: net.IP{10, 2, 0, 1}}, m))
			}
			b.one(m, 400)
			ports := map[layers.UDPPort]bool{}
			for _, o := range b.onWire(m) {
				ports[o.UDP.SrcPort] = true
			}
			if len(ports) < 16 {
				verdict.Fail("over %d", len(ports))
			}
		}},
		{title: "the VXLAN header has the I flag, the VNI and nothing else", run: func(b *bed) {
			if h := b.sent(plainTo).UDP.Payload[:8]; !bytes.Equal(h, nettest.VXLAN(8, vni, nil)) {
				verdict.Fail("it is %x", h)
			}
		}},
		{title: "the UDP checksum is right", run: func(b *bed) {
			for _, n := range []int{0, 1, 100, 1001} {
				if o := b.sent(func(dst, src net.HardwareAddr, m string) []byte { return plain(dst, src, m+strings.Repeat("x", n)) }); o.Sum != o.Want {
					verdict.Fail("it is %#x, not %#x", o.Sum, o.Want)
				}
			}
		}},
		{title: "the UDP checksum is zero where that was asked for", in: intent{noChecksum: true}, run: func(b *bed) {
			if o := b.sent(plainTo); o.Sum != 0 {
				verdict.Fail("it is %#x", o.Sum)
			}
		}},
		{title: "the frame inside is what the guest sent, byte for byte", run: func(b *bed) {
			for _, n := range []int{0, 1, 60, 1300} {
				f := plain(b.mac(), b.mac(), b.mark()+strings.Repeat("x", n))
				b.from(1, f)
				if o := b.one(string(f[14:]), 2); !bytes.Equal(o.Inner, f) {
					verdict.Fail("of %d bytes %d arrive", len(f), len(o.Inner))
				}
			}
		}},
		{title: "an 802.1Q tag stays as it is", run: func(b *bed) {
			f := tagged(plain(b.mac(), b.mac(), b.mark()), 0x8100, 0x6005)
			b.from(1, f)
			if o := b.one(string(f[18:]), 2); !bytes.Equal(o.Inner, f) {
				verdict.Fail("%x arrives", o.Inner)
			}
		}},
		{title: "two tags (QinQ) stay as they are", run: func(b *bed) {
			f := tagged(plain(b.mac(), b.mac(), b.mark()), 0x88a8, 100, 0x8100, 7)
			b.from(1, f)
			if o := b.one(string(f[22:]), 2); !bytes.Equal(o.Inner, f) {
				verdict.Fail("%x arrives", o.Inner)
			}
		}},
		{title: "the TTL is 64", run: func(b *bed) { b.wantTTL(64) }},
		{title: "the TTL is what was asked for", in: intent{ttl: "33"}, run: func(b *bed) { b.wantTTL(33) }},
		{title: "the TTL is the inner one where that was asked for", in: intent{ttl: "inherit"}, run: func(b *bed) { b.wantTTL(7) }},
		{title: "the DSCP is the inner one", run: func(b *bed) { b.wantTOS(0xb8, 0xb8) }},
		{title: "the DSCP is what was asked for", in: intent{tos: 0x48}, run: func(b *bed) { b.wantTOS(0xb8, 0x48) }},
		{title: "DF is set", only: "IPv4", run: func(b *bed) { b.wantDF(false, true); b.wantDF(true, true) }},
		{title: "DF is not set where that was asked for", in: intent{df: "unset"}, only: "IPv4", run: func(b *bed) { b.wantDF(false, false); b.wantDF(true, false) }},
		{title: "DF is the inner one where that was asked for", in: intent{df: "inherit"}, only: "IPv4", run: func(b *bed) { b.wantDF(false, false); b.wantDF(true, true) }},
	}
	for ecn, name := range ecnNames {
		because := ""
		if ecn == 3 {
			because = "RFC 6040 section 4.1, normal mode, copies the field; Linux still does as RFC 3168 section 9.1.1 has it, and begins anew with ECT(0)"
		}
		all = append(all, check{title: "ECN: " + name + " inside is " + name + " outside", because: because, run: func(b *bed) { b.wantTOS(uint8(ecn), uint8(ecn)) }},
			check{title: "ECN: " + name + " inside is " + name + " outside a fixed DSCP", because: because, in: intent{tos: 0x48}, run: func(b *bed) { b.wantTOS(0xb8|uint8(ecn), 0x48|uint8(ecn)) }})
	}
	return part("Outer header", all)
}

// ecnNames are by value (RFC 3168 section 5).
var ecnNames = [4]string{"Not-ECT", "ECT(1)", "ECT(0)", "CE"}

// wantTTL sends packets with a TTL of 7.
func (b *bed) wantTTL(want uint8) {
	if o := b.sent(func(dst, src net.HardwareAddr, m string) []byte { return in4(b.t, dst, src, layers.IPv4{TTL: 7}, m) }); o.TTL != want {
		verdict.Fail("of IPv4 it is %d", o.TTL)
	}
	if o := b.sent(func(dst, src net.HardwareAddr, m string) []byte {
		return in6(b.t, dst, src, layers.IPv6{HopLimit: 7}, m)
	}); o.TTL != want {
		verdict.Fail("of IPv6 it is %d", o.TTL)
	}
}

func (b *bed) wantTOS(inner, want uint8) {
	if o := b.sent(func(dst, src net.HardwareAddr, m string) []byte {
		return in4(b.t, dst, src, layers.IPv4{TOS: inner}, m)
	}); o.TOS != want {
		verdict.Fail("of IPv4 %#x is %#x outside", inner, o.TOS)
	}
	if o := b.sent(func(dst, src net.HardwareAddr, m string) []byte {
		return in6(b.t, dst, src, layers.IPv6{TrafficClass: inner}, m)
	}); o.TOS != want {
		verdict.Fail("of IPv6 %#x is %#x outside", inner, o.TOS)
	}
}

func (b *bed) wantDF(inner, want bool) {
	var ip layers.IPv4
	if inner {
		ip.Flags = layers.IPv4DontFragment
	}
	if o := b.sent(func(dst, src net.HardwareAddr, m string) []byte { return in4(b.t, dst, src, ip, m) }); o.DF != want {
		verdict.Fail("inner %t, outer %t", inner, o.DF)
	}
}

func ecnChecks() (all []check) {
	const drop = -1
	// RFC 6040, figure 4: by inner and outer field.
	table := [4][4]int{{0, 0, 0, drop}, {1, 1, 1, 3}, {2, 1, 2, 3}, {3, 3, 3, 3}}
	for inner, row := range table {
		for outer, want := range row {
			become := "dropped"
			if want != drop {
				become = ecnNames[want]
			}
			all = append(all, check{title: fmt.Sprintf("%s in %s is %s", ecnNames[inner], ecnNames[outer], become), run: func(b *bed) {
				v4, v6 := b.mark(), b.mark()
				dst, src := b.mac(), b.mac()
				b.marked(uint8(outer), in4(b.t, dst, src, layers.IPv4{TOS: 0xb8 | uint8(inner)}, v4))
				b.marked(uint8(outer), in6(b.t, dst, src, layers.IPv6{TrafficClass: 0xb8 | uint8(inner)}, v6))
				if want == drop {
					b.nowhere(v4)
					b.nowhere(v6)
					return
				}
				if got := b.at(1, v4)[15]; got != 0xb8|uint8(want) {
					verdict.Fail("of IPv4 it is %s", ecnNames[got&3])
				}
				f := b.at(1, v6)
				if got := f[14]<<4 | f[15]>>4; got != 0xb8|uint8(want) {
					verdict.Fail("of IPv6 it is %s", ecnNames[got&3])
				}
			}})
		}
	}
	return part("ECN at the tunnel's end", all)
}
