package vtep_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/internal/nettest"
	"github.com/uvtep/uvtep/vtep"
)

// questions are the requests for a neighbour among frames, ARP's and neighbour
// discovery's, by who asks for whom. Those of a new address' owner, who asks for
// himself, are none.
func questions(frames []nettest.Frame, tunnelled bool) (out []string) {
	for _, f := range frames {
		b := f.Bytes
		if tunnelled {
			p := gopacket.NewPacket(b, layers.LayerTypeEthernet, gopacket.Default)
			if udp, ok := p.Layer(layers.LayerTypeUDP).(*layers.UDP); !ok || udp.DstPort != encap.Port || len(udp.Payload) < encap.HeaderLen {
				continue
			} else {
				b = udp.Payload[encap.HeaderLen:]
			}
		}
		p := gopacket.NewPacket(b, layers.LayerTypeEthernet, gopacket.Default)
		if b[0]&1 == 0 {
			continue // to one station: it is looked after
		}
		if a, ok := p.Layer(layers.LayerTypeARP).(*layers.ARP); ok && a.Operation == layers.ARPRequest && !slices.Equal(a.SourceProtAddress, a.DstProtAddress) {
			from, _ := netip.AddrFromSlice(a.SourceProtAddress)
			to, _ := netip.AddrFromSlice(a.DstProtAddress)
			out = append(out, from.String()+" for "+to.String())
		}
		if s, ok := p.Layer(layers.LayerTypeICMPv6NeighborSolicitation).(*layers.ICMPv6NeighborSolicitation); ok {
			if from := p.Layer(layers.LayerTypeIPv6).(*layers.IPv6).SrcIP; !from.IsUnspecified() {
				out = append(out, from.String()+" for "+s.TargetAddress.String())
			}
		}
	}
	return out
}

func TestKnownNeighboursAreNotAskedForAcrossTheTunnel(t *testing.T) {
	nettest.Root(t)
	nettest.Need(t, "ping", "ethtool")
	eachFamily(t, func(t *testing.T, base vtep.Config, u family) {
		na, nb := cable(t, u)
		na.Exec("ethtool", "-K", "ul", "tx", "off")
		a, b := pair(t, base, u, na, nb)
		seg := vtep.SegmentConfig{VNI: 100, Peers: []netip.Addr{u.b}, Suppress: vtep.SuppressARP | vtep.SuppressND}
		sa := a.segment(t, seg)
		seg.Peers = []netip.Addr{u.a}
		sb := b.segment(t, seg)
		ga := a.guest(t, sa, "sa", "192.168.100.1/24", "fd00:100::1/64")
		gb := b.guest(t, sb, "sb", "192.168.100.2/24", "fd00:100::2/64")
		addresses := []string{"192.168.100.2", "fd00:100::2"}
		for _, to := range addresses {
			ping(ga, to)
		}
		// Only what guests ask from now on is looked at.
		wire, far := nettest.Sniff(t, nb, "ul"), nettest.Sniff(t, gb, "eth0")
		again := func() {
			t.Helper()
			ga.Exec("ip", "neigh", "flush", "dev", "eth0")
			for _, to := range addresses {
				ping(ga, to)
			}
		}
		before := sa.NeighbourStats().Answered
		again()
		if n := sa.NeighbourStats().Answered - before; n < 2 {
			t.Errorf("%d requests were answered here, want 2 at least", n)
		}
		asks := func(q string) bool {
			return strings.HasPrefix(q, "192.168.100.1 for") || strings.HasPrefix(q, "fd00:100::1 for")
		}
		for where, q := range map[string][]string{"the underlay": questions(wire.Seen(), true), "the other guest": questions(far.Seen(), false)} {
			if i := slices.IndexFunc(q, asks); i >= 0 {
				t.Errorf("%s was asked: %s", where, q[i])
			}
		}
		// The guest gets another card: as soon as it speaks, everybody knows.
		gb.Exec("ip", "link", "set", "eth0", "down")
		gb.Exec("ip", "link", "set", "eth0", "address", "02:00:00:00:99:99")
		gb.Exec("ip", "link", "set", "eth0", "up")
		gb.Addr("eth0", "fd00:100::2/64") // which went with the link
		for _, to := range []string{"192.168.100.1", "fd00:100::1"} {
			ping(gb, to)
		}
		again()
		if seen := ga.Exec("ip", "neigh", "show", "dev", "eth0"); strings.Count(seen, "02:00:00:00:99:99") < 2 {
			t.Errorf("the other guest is thought to be\n%s", seen)
		}
	})
}
