package vtep_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/internal/nettest"
	"github.com/uvtep/uvtep/vtep"
)

// Hardware addresses that the two segments have in common.
var (
	mac1 = net.HardwareAddr{2, 0, 0, 0, 0, 1}
	mac2 = net.HardwareAddr{2, 0, 0, 0, 0, 2}
	mac3 = net.HardwareAddr{2, 0, 0, 0, 0, 3}
	all  = net.HardwareAddr{255, 255, 255, 255, 255, 255}
	// Nobody has these.
	macX = net.HardwareAddr{2, 0, 0, 0, 0, 0x99}
	mdns = net.HardwareAddr{1, 0, 0x5e, 0, 0, 0xfb}
)

// station is a guest, and all that reaches it.
type station struct {
	*nettest.NS
	mac  net.HardwareAddr
	ip   string
	seen *nettest.Sniffer
	out  *nettest.Injector
}

// stations gives a segment two guests on a's host and one on b's, which say
// nothing of their own accord: no IPv6, and nobody has been told to them.
func stations(t *testing.T, a, b *host, vni encap.VNI) [3]*station {
	t.Helper()
	sa := a.segment(t, vtep.SegmentConfig{VNI: vni, Peers: []netip.Addr{b.v.Local()}})
	sb := b.segment(t, vtep.SegmentConfig{VNI: vni, Peers: []netip.Addr{a.v.Local()}})
	var out [3]*station
	for i, where := range []struct {
		h   *host
		s   *vtep.Segment
		mac net.HardwareAddr
	}{{a, sa, mac1}, {a, sa, mac2}, {b, sb, mac3}} {
		name := fmt.Sprintf("t%d-%d", vni, i+1)
		g := nettest.New(t, name)
		g.Sysctl("net/ipv6/conf/default/disable_ipv6", "1")
		where.h.attach(t, where.s, g, vtep.PortConfig{Name: name, MAC: where.mac})
		st := &station{NS: g, mac: where.mac, ip: fmt.Sprintf("192.168.100.%d", i+1)}
		g.Addr("eth0", st.ip+"/24")
		st.seen, st.out = nettest.Sniff(t, g, "eth0"), nettest.Inject(t, g, "eth0")
		out[i] = st
	}
	return out
}

// mark is what all payload of a segment contains.
func mark(vni encap.VNI) string { return fmt.Sprintf("<of segment %d>", vni) }

// plainFrame is an Ethernet frame of an experimental type (IEEE 802) with a
// payload.
func plainFrame(dst, src net.HardwareAddr, payload string) []byte {
	b := append(append(append([]byte{}, dst...), src...), 0x88, 0xb5)
	return append(b, payload...)
}

// udpFrame is an Ethernet frame with an IPv4 UDP packet, checksums and all.
func udpFrame(t testing.TB, eth *layers.Ethernet, ip *layers.IPv4, sport, dport uint16, payload []byte) []byte {
	t.Helper()
	eth.EthernetType = layers.EthernetTypeIPv4
	ip.Version, ip.Protocol = 4, layers.IPProtocolUDP
	udp := &layers.UDP{SrcPort: layers.UDPPort(sport), DstPort: layers.UDPPort(dport)}
	if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	return nettest.Serialize(t, eth, ip, udp, gopacket.Payload(payload))
}

// talk makes the guests of a segment say everything that guests say: known and
// unknown unicast, broadcast, multicast, ARP, ICMP, and a TCP stream each way
// between the hosts. All of it but ARP, ICMP and bare TCP headers has the mark.
func talk(t *testing.T, vni encap.VNI, g [3]*station) {
	t.Helper()
	payload := strings.Repeat(mark(vni), 4)
	for _, from := range g {
		for range 50 {
			for _, dst := range []net.HardwareAddr{all, mdns, macX, mac1, mac2, mac3} {
				if !bytes.Equal(dst, from.mac) {
					from.out.Send(plainFrame(dst, from.mac, payload))
				}
			}
			from.out.Send(udpFrame(t, &layers.Ethernet{SrcMAC: from.mac, DstMAC: all},
				&layers.IPv4{TTL: 64, SrcIP: net.ParseIP(from.ip), DstIP: net.IPv4bcast}, 137, 137, []byte(payload)))
		}
	}
	ping(g[0].NS, g[1].ip)
	ping(g[0].NS, g[2].ip, "-p", fmt.Sprintf("%x", mark(vni)))
	for _, way := range [][2]*station{{g[0], g[2]}, {g[2], g[1]}} {
		stream(t, way[0].NS, way[1].NS, way[1].ip, mark(vni), little)
	}
}

// stream sends about n bytes over TCP that are nothing but a mark, again and
// again, and fails the test if anything else arrives.
func stream(t *testing.T, from, to *nettest.NS, ip, mark string, n int) {
	t.Helper()
	l := listen(t, to, ip)
	defer l.Close()
	chunk := []byte(strings.Repeat(mark, 4096))
	done := make(chan error, 1)
	rounds := n / len(chunk)
	go func() {
		c, err := l.Accept()
		if err != nil {
			done <- err
			return
		}
		defer c.Close()
		buf := make([]byte, len(chunk))
		for range rounds {
			if _, err := io.ReadFull(c, buf); err != nil {
				done <- err
				return
			}
			if !bytes.Equal(buf, chunk) {
				done <- fmt.Errorf("something else than %q arrived", mark)
				return
			}
		}
		done <- nil
	}()
	c := dial(t, from, l.Addr().String())
	defer c.Close()
	for range rounds {
		if _, err := c.Write(chunk); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-done; err != nil {
		t.Errorf("the stream to %s: %v", ip, err)
	}
}

func TestSegmentsWithEqualAddressesNeverSeeEachOthersFrames(t *testing.T) {
	nettest.Root(t)
	nettest.Need(t, "ping")
	eachFamily(t, func(t *testing.T, base vtep.Config, u family) {
		na, nb := cable(t, u)
		a, b := pair(t, base, u, na, nb)
		g100, g200 := stations(t, a, b, 100), stations(t, a, b, 200)

		// While one segment talks the other is silent: not one frame arrives in it.
		talk(t, 100, g100)
		for _, g := range g200 {
			if n := len(g.seen.Seen()); n != 0 {
				t.Fatalf("%s of segment 200 saw %d frames while only segment 100 talked; the first: %x", g.Name, n, g.seen.Seen()[0].Bytes)
			}
		}
		talk(t, 200, g200)

		// Both at once.
		done := make(chan struct{})
		go func() {
			defer close(done)
			talk(t, 200, g200)
		}()
		talk(t, 100, g100)
		<-done

		for vni, guests := range map[encap.VNI][3]*station{100: g100, 200: g200} {
			for i, g := range guests {
				own, foreign := 0, 0
				for _, f := range g.seen.Done() {
					switch {
					case bytes.Contains(f.Bytes, []byte(mark(vni))):
						own++
					case bytes.Contains(f.Bytes, []byte(mark(300-vni))):
						foreign++
						t.Errorf("%s of segment %v saw %x", g.Name, vni, f.Bytes)
					}
				}
				// Each of the two others sent it, in two rounds or more, 50
				// times: broadcast, multicast, UDP, unknown and known unicast.
				// All at once, so that a queue of a busy machine may overflow.
				if want := 2 * 2 * 50 * 5 / 2; own < want {
					t.Errorf("%s of segment %v saw %d frames of its own segment, want %d at least", g.Name, vni, own, want)
				}
				t.Logf("segment %v, guest %d: %d frames looked at, %d with the mark of the segment, %d of the other's", vni, i+1, len(g.seen.Done()), own, foreign)
			}
		}
	})
}
