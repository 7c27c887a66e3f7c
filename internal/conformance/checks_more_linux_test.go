package conformance

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/uvtep/uvtep/internal/nettest"
	"github.com/uvtep/uvtep/internal/verdict"
)

func groupChecks() []check {
	in := intent{group: true}
	all := []check{
		{title: "the group is joined on the underlay (IGMP, MLD)", in: in, run: func(b *bed) {
			group := b.u.group.AsSlice()
			joins := func(f nettest.Frame) bool {
				p := gopacket.NewPacket(f.Bytes, layers.LayerTypeEthernet, gopacket.Default)
				return (p.Layer(layers.LayerTypeIGMP) != nil || p.Layer(layers.LayerTypeMLDv2MulticastListenerReport) != nil) && bytes.Contains(f.Bytes, group)
			}
			for until := time.Now().Add(b.patience()); !slices.ContainsFunc(b.wire.Seen(), joins); time.Sleep(10 * time.Millisecond) {
				if time.Now().After(until) {
					verdict.Fail("nobody is told")
				}
			}
		}},
		{title: "a broadcast goes to the group once", in: in, run: func(b *bed) { b.asks(broadcast, "guest 2", "guest 3", "the group") }},
		{title: "so does what is for an unknown station", in: in, run: func(b *bed) { b.asks(b.mac(), "guest 2", "guest 3", "the group") }},
		{title: "what somebody sends to the group enters, and he is learned", in: in, run: func(b *bed) {
			m, src := b.mark(), b.mac()
			b.udp(b.u.c, 50000, outer{group: true}, nettest.VXLAN(8, vni, plain(broadcast, src, m)), nil)
			b.goes(m, everybody...)
			b.asks(src, "peer c")
		}},
	}
	return part("Multicast underlay", all)
}

// part says which part of the table checks belong to.
func part(about string, all []check) []check {
	for i := range all {
		all[i].about = about
	}
	return all
}

// big is an IP packet that no path here carries, from guest 1.
func (b *bed) big(six bool, m string) []byte {
	if six {
		return in6(b.t, b.mac(), b.mac(), layers.IPv6{}, m+strings.Repeat("x", 3000))
	}
	return in4(b.t, b.mac(), b.mac(), layers.IPv4{Flags: layers.IPv4DontFragment}, m+strings.Repeat("x", 3000))
}

// tellsMTU wants guest 1 to be told what the path carries.
func (b *bed) tellsMTU(six bool) {
	m := b.mark()
	b.from(1, b.big(six, m))
	mtu := func(f nettest.Frame) int {
		p := gopacket.NewPacket(f.Bytes, layers.LayerTypeEthernet, gopacket.Default)
		if icmp, ok := p.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4); ok && icmp.TypeCode == layers.CreateICMPv4TypeCode(3, 4) {
			return int(icmp.Seq)
		}
		if icmp, ok := p.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6); ok && icmp.TypeCode.Type() == layers.ICMPv6TypePacketTooBig {
			return int(binary.BigEndian.Uint32(icmp.Payload))
		}
		return 0
	}
	for until := time.Now().Add(b.patience()); ; time.Sleep(time.Millisecond) {
		for _, f := range b.guests[1].ear.With(m) {
			if got, want := mtu(f), underlayMTU-b.u.overhead; got == want {
				return
			} else if got != 0 {
				verdict.Fail("it is told %d, not %d", got, want)
			}
		}
		if time.Now().After(until) {
			verdict.Fail("it is told nothing")
		}
	}
}

func mtuChecks() []check {
	return part("MTU", []check{
		{title: "the guests' interfaces have what the underlay carries less the overhead, 1450 or 1430", run: func(b *bed) {
			if out := b.guests[1].ns.Exec("ip", "link", "show", "eth0"); !strings.Contains(out, fmt.Sprintf(" mtu %d ", underlayMTU-b.u.overhead)) {
				verdict.Fail("they have not")
			}
		}, because: "uvtep makes the guest's interface; with Linux that is left to whoever makes it"},
		{title: "what the path does not carry is not sent, and no fragments either", in: intent{jumbo: true}, run: func(b *bed) {
			m := b.mark()
			b.from(1, b.big(false, m))
			b.calm()
			if all := b.wire.With("xxxxxxxx"); len(all) > 0 {
				verdict.Fail("%d packets leave", len(all))
			}
			b.at(2, m)
		}},
		{title: "who sends it is told what does fit, by ICMP", in: intent{jumbo: true}, run: func(b *bed) { b.tellsMTU(false) }},
		{title: "who sends it is told what does fit, by ICMPv6", in: intent{jumbo: true}, run: func(b *bed) { b.tellsMTU(true) }},
	})
}

func policyChecks() []check {
	const g, dontLearn = 0x88, 0x40 // draft-smith-vxlan-group-policy section 2.1
	policy := func(b *bed, second byte, frame []byte) []byte {
		p := nettest.VXLAN(g, vni, frame)
		p[1], p[2], p[3] = second, 0x12, 0x34
		return p
	}
	return part("Group policy", []check{
		{title: "a packet with a group policy id is taken where that was asked for", in: intent{gbp: true}, run: func(b *bed) {
			m := b.mark()
			b.datagram(b.u.b, policy(b, 0, plain(broadcast, b.mac(), m)))
			b.goes(m, everybody...)
		}},
		{title: "its don't-learn bit is heeded", in: intent{gbp: true}, because: "the draft's section 2.1 has the receiver not learn from it; Linux reads the bit, and learns", run: func(b *bed) {
			m, src := b.mark(), b.mac()
			b.datagram(b.u.b, policy(b, dontLearn, plain(broadcast, src, m)))
			b.at(1, m)
			b.asks(src, flooded...)
		}},
	})
}
