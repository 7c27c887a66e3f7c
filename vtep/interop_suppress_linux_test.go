package vtep_test

import (
	"net"
	"net/netip"
	"path/filepath"
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

// unasked fails the test where one of the questions was asked.
func unasked(t *testing.T, where string, asked []string, is func(string) bool) {
	t.Helper()
	if i := slices.IndexFunc(asked, is); i >= 0 {
		t.Errorf("%s was asked: %s", where, asked[i])
	}
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
		unasked(t, "the underlay", questions(wire.Seen(), true), asks)
		unasked(t, "the other guest", questions(far.Seen(), false), asks)
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

// A guest that has leased its address is known before it has said anything of it,
// behind another VTEP, too, and is the one that has it now.
func TestAGuestIsKnownByItsLeaseAlone(t *testing.T) {
	nettest.Root(t)
	nettest.Need(t, "ping", "udhcpc")
	u := families[0]
	na, nb := cable(t, u)
	base := settings[0].base
	base.Local = u.b
	b := start(t, nb, base)
	sb := b.segment(t, vtep.SegmentConfig{VNI: 100, Peers: []netip.Addr{u.a}, Suppress: vtep.SuppressARP})
	base.Local = u.a
	a := serve(t, na, base, filepath.Join(t.TempDir(), "leases.db"), vtep.SegmentConfig{
		VNI: 100, MTU: 1400, Peers: []netip.Addr{u.b}, Suppress: vtep.SuppressARP, DHCP: clientNet("192.168.100.0/24", "192.168.100.2")})
	ga, gb := a.guest(t, a.seg, "la"), b.guest(t, sb, "lb")
	// Its identifier keeps a client's address for it whatever card it has.
	lease := func(g *nettest.NS, mac, id string) netip.Addr {
		t.Helper()
		g.Exec("ip", "link", "set", "eth0", "down")
		g.Exec("ip", "link", "set", "eth0", "address", mac)
		g.Exec("ip", "link", "set", "eth0", "up")
		g.Exec("udhcpc", "-n", "-q", "-f", "-i", "eth0", "-t", "20", "-T", "1", "-C", "-x", "0x3d:"+id, "-s", "/bin/true")
		hw, _ := net.ParseMAC(mac)
		l, ok := a.lease(hw)
		if !ok {
			t.Fatalf("%s has no lease", mac)
		}
		return l.IP
	}
	ipA, ipB := lease(ga, "02:00:00:00:0a:01", "ff01"), lease(gb, "02:00:00:00:0b:01", "ff02")
	ga.Addr("eth0", ipA.String()+"/24")
	gb.Addr("eth0", ipB.String()+"/24")
	wire, far := nettest.Sniff(t, nb, "ul"), nettest.Sniff(t, gb, "eth0")
	// Where it has come to is what its first question tells everybody.
	nobody := ipA.String() + " for 192.168.100.200"
	ga.Try("ping", "-c", "1", "-W", "0.1", "192.168.100.200")
	eventually(t, "the first question is heard", func() bool { return slices.Contains(questions(far.Seen(), false), nobody) })
	reached := func(mac string) {
		t.Helper()
		before := a.seg.NeighbourStats().Answered
		ga.Exec("ip", "neigh", "flush", "dev", "eth0")
		ping(ga, ipB.String())
		if a.seg.NeighbourStats().Answered == before {
			t.Error("no request was answered here")
		}
		asks := func(q string) bool { return q == ipA.String()+" for "+ipB.String() }
		unasked(t, "the underlay", questions(wire.Seen(), true), asks)
		unasked(t, "the other guest", questions(far.Seen(), false), asks)
		if seen := ga.Exec("ip", "neigh", "show", ipB.String(), "dev", "eth0"); !strings.Contains(seen, mac) {
			t.Errorf("%s is thought to be %q, want %s", ipB, seen, mac)
		}
	}
	reached("02:00:00:00:0b:01")
	if again := lease(gb, "02:00:00:00:0b:02", "ff02"); again != ipB {
		t.Fatalf("leased %v, then %v", ipB, again)
	}
	reached("02:00:00:00:0b:02")
}

func TestAKernelPeersGuestsAreAnsweredForAndAnswered(t *testing.T) {
	nettest.Root(t)
	nettest.Need(t, "ping", "ethtool")
	eachFamily(t, func(t *testing.T, base vtep.Config, u family) {
		na, nk := cable(t, u)
		nk.Exec("ethtool", "-K", "ul", "tx", "off")
		kernelPeer(nk, u, 300, encap.Port, []string{"remote", u.a.String()}, "192.168.100.9/24", "fd00:100::9/64")
		base.Local = u.a
		a := start(t, na, base)
		s := a.segment(t, vtep.SegmentConfig{VNI: 300, Peers: []netip.Addr{u.b}, Suppress: vtep.SuppressARP | vtep.SuppressND})
		g := a.guest(t, s, "sk", "192.168.100.1/24", "fd00:100::1/64")
		theirs, ours := []string{"192.168.100.9", "fd00:100::9"}, []string{"192.168.100.1", "fd00:100::1"}
		// resolves has one side find the other's addresses anew, and returns how
		// many questions were answered in the other's place.
		resolves := func(from *nettest.NS, dev string, all []string) uint64 {
			t.Helper()
			before := s.NeighbourStats().Answered
			from.Exec("ip", "neigh", "flush", "dev", dev)
			for _, to := range all {
				ping(from, to)
			}
			return s.NeighbourStats().Answered - before
		}
		resolves(g, "eth0", theirs)
		resolves(nk, "br0", ours)
		wire, guest := nettest.Sniff(t, nk, "ul"), nettest.Sniff(t, g, "eth0")
		asks := func(own []string) func(string) bool {
			return func(q string) bool {
				return slices.ContainsFunc(own, func(ip string) bool { return strings.HasPrefix(q, ip+" for ") })
			}
		}
		if n := resolves(g, "eth0", theirs); n < 2 {
			t.Errorf("%d requests of the guest were answered here, want 2 at least", n)
		}
		unasked(t, "the underlay", questions(wire.Seen(), true), asks(ours))
		if n := resolves(nk, "br0", ours); n < 2 {
			t.Errorf("%d requests of the kernel's were answered here, want 2 at least", n)
		}
		unasked(t, "the guest", questions(guest.Seen(), false), asks(theirs))
		// Another card there: as soon as it speaks, it is known here.
		nk.Exec("ip", "link", "set", "br0", "address", "02:00:00:00:99:99")
		resolves(nk, "br0", ours)
		resolves(g, "eth0", theirs)
		if seen := g.Exec("ip", "neigh", "show", "dev", "eth0"); strings.Count(seen, "02:00:00:00:99:99") < 2 {
			t.Errorf("the kernel's guest is thought to be\n%s", seen)
		}
	})
}
