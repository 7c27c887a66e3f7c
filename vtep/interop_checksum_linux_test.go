package vtep_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"

	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/nettest"
	"github.com/uvtep/uvtep/internal/offload"
	"github.com/uvtep/uvtep/vtep"
)

// What a guest leaves to a card that never comes is all done before a packet is on
// the wire: gopacket reads each one, and would write it the same.
func TestEveryChecksumOnTheWireIsRight(t *testing.T) {
	nettest.Root(t)
	nettest.Need(t, "ping", "ethtool")
	eachFamily(t, func(t *testing.T, base vtep.Config, u family) {
		na, nb := cable(t, u)
		na.Exec("ethtool", "-K", "ul", "tx", "off") // the outer sums are to be in the packets, too
		a, b := pair(t, base, u, na, nb)
		ga := a.guest(t, a.segment(t, vtep.SegmentConfig{VNI: 100, Peers: []netip.Addr{u.b}}), "ta")
		gb := b.guest(t, b.segment(t, vtep.SegmentConfig{VNI: 100, Peers: []netip.Addr{u.a}}), "tb")
		v4, v6 := []string{"192.168.100.1", "192.168.100.2"}, []string{"fd00:100::1", "fd00:100::2"}
		for i, g := range []*nettest.NS{ga, gb} {
			g.Addr("eth0", v4[i]+"/24")
			g.Addr("eth0", v6[i]+"/64")
		}
		seen := nettest.Sniff(t, nb, "ul")
		exchange(t, ga, gb, v4[1], 1300)
		exchange(t, ga, gb, v6[1], 1300)
		burst(t, ga, gb, v4[1])
		burst(t, ga, gb, v6[1])
		carry(t, ga, gb, v4[1], 1<<20)
		carry(t, ga, gb, v6[1], 1<<20)
		// As tagged guests and guests of guests send it: this kernel may have no
		// devices for tags.
		fd := nettest.PacketSocket(t, ga, "eth0", 0)
		defer unix.Close(fd)
		if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1); err != nil {
			t.Fatal(err)
		}
		kinds := 0
		for tags := 1; tags < 3; tags++ {
			for _, ip := range []layers.EthernetType{layers.EthernetTypeIPv4, layers.EthernetTypeIPv6} {
				for _, proto := range []layers.IPProtocol{layers.IPProtocolTCP, layers.IPProtocolUDP} {
					for n, size := range []int{20000, 20001, 20500, 500} {
						if _, err := unix.Write(fd, taggedSuper(t, tags, ip, proto, size, n)); err != nil {
							t.Fatalf("a super-frame of %s with %d tags: %v", proto, tags, err)
						}
					}
					kinds++
					seen.Wait("<last>", kinds) // before a queue overflows
				}
			}
		}
		found := map[string]int{}
		for _, f := range seen.Done() {
			if f.Length > 1514 {
				t.Fatalf("a packet of %d bytes", f.Length)
			}
			if kind := rightOnWire(t, u, f.Bytes); kind != "" {
				found[kind]++
			}
		}
		for tags := range 3 {
			for _, ip := range []string{"IPv4", "IPv6"} {
				for _, proto := range []string{"TCP", "UDP"} {
					if kind := fmt.Sprint(tags, " tags ", ip, " ", proto); found[kind] < 40 {
						t.Errorf("%d packets of %s were looked at", found[kind], kind)
					}
				}
			}
		}
	})
}

// taggedSuper is a super-frame of a guest with its virtio header, of segments of
// 1000 bytes. size is its payload; where that is 500 there is "<last>" in it.
func taggedSuper(t testing.TB, tags int, ip layers.EthernetType, proto layers.IPProtocol, size, n int) []byte {
	t.Helper()
	types := append([]layers.EthernetType{layers.EthernetTypeDot1Q, layers.EthernetTypeDot1Q}[:tags], ip)
	ls := []gopacket.SerializableLayer{&layers.Ethernet{SrcMAC: mac1, DstMAC: macX, EthernetType: types[0]}}
	for i := range tags {
		ls = append(ls, &layers.Dot1Q{VLANIdentifier: uint16(7 + i), Type: types[i+1]})
	}
	l3 := 14 + 4*tags
	o := frame.Offload{Flags: frame.NeedsCsum, CsumStart: uint16(l3 + 20), CsumOffset: 16}
	var network interface {
		gopacket.NetworkLayer
		gopacket.SerializableLayer
	} = &layers.IPv4{Version: 4, TTL: 9, Id: uint16(n * 100), Protocol: proto, SrcIP: net.ParseIP("10.1.0.1"), DstIP: net.ParseIP("10.1.0.2")}
	addrs := 12
	if ip == layers.EthernetTypeIPv6 {
		network = &layers.IPv6{Version: 6, HopLimit: 9, NextHeader: proto, SrcIP: net.ParseIP("fd00::1"), DstIP: net.ParseIP("fd00::2")}
		o.CsumStart += 20
		addrs = 8
	}
	ls = append(ls, network)
	gso := map[layers.EthernetType]uint8{layers.EthernetTypeIPv4: frame.GSOTCPv4, layers.EthernetTypeIPv6: frame.GSOTCPv6}[ip]
	o.HdrLen = o.CsumStart + 20
	if proto == layers.IPProtocolTCP {
		tcp := &layers.TCP{SrcPort: 1000, DstPort: 2000, Seq: uint32(n) << 16, ACK: true, PSH: true, Window: 99}
		if err := tcp.SetNetworkLayerForChecksum(network); err != nil {
			t.Fatal(err)
		}
		ls = append(ls, tcp)
	} else {
		udp := &layers.UDP{SrcPort: 1000, DstPort: 2000}
		if err := udp.SetNetworkLayerForChecksum(network); err != nil {
			t.Fatal(err)
		}
		ls = append(ls, udp)
		gso, o.HdrLen, o.CsumOffset = frame.GSOUDPL4, o.CsumStart+8, 6
	}
	payload := make([]byte, size)
	for i := range payload {
		payload[i] = byte(i * n)
	}
	if size > 1000 {
		o.GSO, o.GSOSize = gso, 1000
	} else {
		copy(payload, "<last>")
	}
	b := nettest.Serialize(t, append(ls, gopacket.Payload(payload))...)
	sum := frame.Fold(frame.Sum(b[l3+addrs:o.CsumStart], uint64(proto)+uint64(len(b)-int(o.CsumStart))))
	binary.BigEndian.PutUint16(b[o.CsumStart+o.CsumOffset:], sum)
	with := make([]byte, offload.HeaderLen, offload.HeaderLen+len(b))
	offload.Put(with, o)
	return append(with, b...)
}

// rightOnWire fails the test unless all checksums of a captured packet are right,
// and says what the inner one is; "" for what is no VXLAN packet of TCP or UDP.
func rightOnWire(t testing.TB, u family, b []byte) string {
	t.Helper()
	p := gopacket.NewPacket(b, layers.LayerTypeEthernet, gopacket.Default)
	if udp, ok := p.Layer(layers.LayerTypeUDP).(*layers.UDP); !ok || udp.DstPort != encap.Port {
		return ""
	}
	o := nettest.ParseOuter(t, b)
	if o.Sum != o.Want || o.Dst != u.b {
		t.Fatalf("the outer checksum to %s is %#x: %x", o.Dst, o.UDP.Checksum, b)
	}
	in := gopacket.NewPacket(o.Inner, layers.LayerTypeEthernet, gopacket.Default)
	tags, ip, proto := 0, "", ""
	var again []gopacket.SerializableLayer
	var network gopacket.NetworkLayer
headers:
	for _, l := range in.Layers() {
		again = append(again, l.(gopacket.SerializableLayer))
		var err error
		switch l := l.(type) {
		case *layers.Dot1Q:
			tags++
		case *layers.IPv4:
			ip, network = "IPv4", l
		case *layers.IPv6:
			ip, network = "IPv6", l
		case *layers.TCP:
			proto, err = "TCP", l.SetNetworkLayerForChecksum(network)
		case *layers.UDP:
			proto, err = "UDP", l.SetNetworkLayerForChecksum(network)
			if l.Checksum == 0 {
				t.Fatalf("an inner UDP packet without a checksum: %x", o.Inner)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		if proto != "" {
			break headers
		}
	}
	if proto == "" {
		return ""
	}
	again = append(again, gopacket.Payload(in.TransportLayer().LayerPayload()))
	// gopacket pads short frames.
	if fresh := nettest.Serialize(t, again...); !bytes.HasPrefix(fresh, o.Inner) || len(fresh) != max(len(o.Inner), 60) {
		t.Fatalf("the inner frame is\n%x, with its checksums right it is\n%x", o.Inner, fresh)
	}
	return fmt.Sprint(tags, " tags ", ip, " ", proto)
}
