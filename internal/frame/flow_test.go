package frame_test

import (
	"net"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/nettest"
)

// udpHash is the hash of a flow of datagrams, of which one has n bytes.
func udpHash(t *testing.T, src, dst netip.AddrPort, n int, tagged bool) uint32 {
	t.Helper()
	kind := layers.EthernetTypeIPv4
	if src.Addr().Is6() {
		kind = layers.EthernetTypeIPv6
	}
	eth := &layers.Ethernet{DstMAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, SrcMAC: net.HardwareAddr{2, 0, 0, 0, 0, 2}, EthernetType: kind}
	ls := []gopacket.SerializableLayer{eth}
	if tagged {
		eth.EthernetType = layers.EthernetTypeDot1Q
		ls = append(ls, &layers.Dot1Q{VLANIdentifier: 7, Type: kind})
	}
	udp := &layers.UDP{SrcPort: layers.UDPPort(src.Port()), DstPort: layers.UDPPort(dst.Port())}
	v4 := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: src.Addr().AsSlice(), DstIP: dst.Addr().AsSlice()}
	v6 := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolUDP, SrcIP: src.Addr().AsSlice(), DstIP: dst.Addr().AsSlice()}
	var network gopacket.NetworkLayer = v4
	if src.Addr().Is6() {
		network = v6
	}
	if err := udp.SetNetworkLayerForChecksum(network); err != nil {
		t.Fatal(err)
	}
	f := load(t, nettest.Serialize(t, append(ls, network.(gopacket.SerializableLayer), udp, gopacket.Payload(make([]byte, n)))...))
	if !f.Parse() {
		t.Fatal("not parsed")
	}
	return f.Hash()
}

func TestAFlowAndItsAnswersHaveOneHashAndFlowsSpread(t *testing.T) {
	const flows = 1600
	next := func(a netip.Addr, by int) netip.Addr {
		for range by {
			a = a.Next()
		}
		return a
	}
	for _, c := range []struct {
		name string
		flow func(i int) (src, dst netip.AddrPort)
	}{
		{"ports of one host", func(i int) (src, dst netip.AddrPort) {
			return netip.AddrPortFrom(netip.MustParseAddr("10.0.0.1"), uint16(1+i)), netip.MustParseAddrPort("10.0.0.2:53")
		}},
		{"ports of one host, over IPv6", func(i int) (src, dst netip.AddrPort) {
			return netip.AddrPortFrom(netip.MustParseAddr("fd00::1"), uint16(1+i)), netip.MustParseAddrPort("[fd00::2]:53")
		}},
		{"hosts that use one port", func(i int) (src, dst netip.AddrPort) {
			return netip.AddrPortFrom(next(netip.MustParseAddr("10.0.0.1"), i%40), 9), netip.AddrPortFrom(next(netip.MustParseAddr("10.0.1.1"), i/40), 9)
		}},
		{"hosts that use one port, over IPv6", func(i int) (src, dst netip.AddrPort) {
			return netip.AddrPortFrom(next(netip.MustParseAddr("fd00::1"), i%40), 9), netip.AddrPortFrom(next(netip.MustParseAddr("fd00:1::1"), i/40), 9)
		}},
	} {
		var hashes [flows]uint32
		for i := range hashes {
			src, dst := c.flow(i)
			h := udpHash(t, src, dst, 0, false)
			hashes[i] = h
			if i >= 50 {
				continue
			}
			for _, other := range []uint32{udpHash(t, dst, src, 0, false), udpHash(t, src, dst, 100, false), udpHash(t, src, dst, 0, true)} {
				if other != h {
					t.Fatalf("%s: %v to %v: hashes %#x and %#x", c.name, src, dst, h, other)
				}
			}
		}
		for _, queues := range []int{2, 3, 16, 40} {
			seen := make([]int, queues)
			for _, h := range hashes {
				seen[frame.QueueOf(h, queues)]++
			}
			for q, n := range seen {
				if mean := flows / queues; n < mean/2 || n > 2*mean {
					t.Errorf("%s: queue %d of %d has %d of %d flows", c.name, q, queues, n, flows)
				}
			}
		}
	}
}

// A client renews and releases from the address that it has, and discovers from
// none; what it said first has to be heard first.
func TestADHCPClientIsOneFlowWhateverItsAddress(t *testing.T) {
	client := func(src, dst string) uint32 {
		return udpHash(t, netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst), 300, false)
	}
	want := client("0.0.0.0:68", "255.255.255.255:67")
	for _, c := range [][2]string{{"10.0.0.7:68", "10.0.0.1:67"}, {"10.0.0.7:68", "255.255.255.255:67"}, {"10.0.0.9:68", "10.0.0.1:67"}} {
		if h := client(c[0], c[1]); h != want {
			t.Errorf("%s to %s: %#x, want %#x", c[0], c[1], h, want)
		}
	}
	if h := client("10.0.0.7:67", "10.0.0.1:67"); h == want {
		t.Error("a relay is taken for a client")
	}
	answers := client("10.0.0.1:67", "10.0.0.7:68")
	if h := client("10.0.0.1:67", "255.255.255.255:68"); h != answers {
		t.Errorf("answers to a client: %#x and %#x", answers, h)
	}
}

// Hosts meet only if all of them have the same hash, of other versions as well:
// these were computed apart.
func TestTheHashOfAFlowIsTheSameEverywhere(t *testing.T) {
	for _, c := range []struct {
		src, dst string
		want     uint32
	}{
		{"10.0.0.1:40000", "10.0.0.2:53", 0xdc6866fc},
		{"[fd00::1]:40000", "[fd00::2]:53", 0xf401707a},
	} {
		if h := udpHash(t, netip.MustParseAddrPort(c.src), netip.MustParseAddrPort(c.dst), 10, false); h != c.want {
			t.Errorf("%s to %s: %#x, want %#x", c.src, c.dst, h, c.want)
		}
	}
	f := load(t, []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5, 1, 2, 3})
	if f.Parse(); f.Hash() != 0x3f1cbb67 {
		t.Errorf("no IP: %#x, want %#x", f.Hash(), uint32(0x3f1cbb67))
	}
}
