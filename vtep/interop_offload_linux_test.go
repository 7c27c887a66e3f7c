package vtep_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/uvtep/uvtep/internal/nettest"
	"github.com/uvtep/uvtep/vtep"
)

// mixes are all offloads, none, each one off, and each one alone.
func mixes() []setting {
	all := append([]setting{}, settings...)
	for _, o := range []setting{
		{"tun-gso", vtep.Config{NoOffload: vtep.OffloadTUNGSO}}, {"tun-gro", vtep.Config{NoOffload: vtep.OffloadTUNGRO}},
		{"udp-gso", vtep.Config{NoOffload: vtep.OffloadUDPGSO}}, {"udp-gro", vtep.Config{NoOffload: vtep.OffloadUDPGRO}},
	} {
		all = append(all, setting{"without " + o.name, o.base},
			setting{o.name + " alone", vtep.Config{NoOffload: vtep.OffloadAll &^ o.base.NoOffload}})
	}
	return all
}

// offloadCase is one way in which two hosts may be set up.
type offloadCase struct {
	a, b setting // b of the name "kernel": the kernel's driver
	u    family
	link string // "wire": no packet is longer than the MTU
	tx   string // "off": no checksum is left to the other end
}

func (c offloadCase) String() string {
	return fmt.Sprintf("%s to %s/%s/%s/tx %s", c.a.name, c.b.name, c.u.name, c.link, c.tx)
}

// offloadCases are all pairs of values of any two of: a mix, what the other side
// is, the underlay's family, the kind of link, what is left to the other end. With
// UVTEP_TEST=full they are all there are.
func offloadCases() (all []offloadCase) {
	kernel := setting{name: "kernel"}
	links, txs := []string{"virt", "wire"}, []string{"on", "off"}
	if full() {
		for _, a := range mixes() {
			for _, b := range append(mixes(), kernel) {
				for _, u := range families {
					for _, link := range links {
						for _, tx := range txs {
							all = append(all, offloadCase{a, b, u, link, tx})
						}
					}
				}
			}
		}
		return all
	}
	for i, a := range mixes() {
		for j, b := range []setting{kernel, settings[0], a, settings[1]} {
			all = append(all, offloadCase{a, b, families[(i+j)%2], links[(i+j/2)%2], txs[(i/2+j/3+j)%2]})
		}
	}
	return all
}

func TestEveryMixOfOffloadsCarriesEverything(t *testing.T) {
	nettest.Root(t)
	nettest.Need(t, "ping", "ethtool")
	for _, c := range offloadCases() {
		t.Run(c.String(), func(t *testing.T) {
			na, nb := cable(t, c.u)
			if c.link == "wire" {
				wire(na, nb)
			}
			na.Exec("ethtool", "-K", "ul", "tx", c.tx)
			nb.Exec("ethtool", "-K", "ul", "tx", c.tx)
			cfg := c.a.base
			cfg.Local = c.u.a
			a := start(t, na, cfg)
			sa := a.segment(t, vtep.SegmentConfig{VNI: 300, Peers: []netip.Addr{c.u.b}})
			mtu := sa.Config().MTU
			ga := a.guest(t, sa, "ta", "192.168.100.1/24", "fd00:100::1/64")
			gb := nb
			if c.b.name == "kernel" {
				kernelPeer(nb, c.u, 300, 4789, []string{"remote", c.u.a.String()}, "192.168.100.2/24", "fd00:100::2/64")
			} else {
				cfg := c.b.base
				cfg.Local = c.u.b
				b := start(t, nb, cfg)
				gb = b.guest(t, b.segment(t, vtep.SegmentConfig{VNI: 300, Peers: []netip.Addr{c.u.a}}), "tb", "192.168.100.2/24", "fd00:100::2/64")
			}
			converse(t, ga, gb, mtu)
			if n := a.v.Stats().LostOffloads; n != 0 {
				t.Errorf("%d offloads were lost", n)
			}
		})
	}
}

// converse has two guests, 192.168.100.1 and .2 and fd00:100::1 and ::2, say to
// each other all that there is to say.
func converse(t *testing.T, a, b *nettest.NS, mtu int) {
	t.Helper()
	for _, way := range []struct {
		from, to *nettest.NS
		v4, v6   string
	}{{a, b, "192.168.100.2", "fd00:100::2"}, {b, a, "192.168.100.1", "fd00:100::1"}} {
		ping(way.from, way.v4, "-M", "do", "-s", fmt.Sprint(mtu-28))
		ping(way.from, way.v6, "-M", "do", "-s", fmt.Sprint(mtu-48))
		exchange(t, way.from, way.to, way.v4, mtu-28)
		exchange(t, way.from, way.to, way.v6, mtu-48)
		burst(t, way.from, way.to, way.v4)
		burst(t, way.from, way.to, way.v6)
		carry(t, way.from, way.to, way.v4, little)
		carry(t, way.from, way.to, way.v6, little)
	}
}

// Behind a bridge nothing ends at the guest's TAP: what a kernel peer sends whole
// over a virtual link has to be forwarded, and a bridge drops what is longer than
// the MTU of its port.
func TestAKernelPeersSuperFramesReachAGuestBehindABridge(t *testing.T) {
	nettest.Root(t)
	nettest.Need(t, "ping")
	eachFamily(t, func(t *testing.T, base vtep.Config, u family) {
		na, nk := cable(t, u)
		kernelPeer(nk, u, 300, 4789, []string{"remote", u.a.String()}, "192.168.100.2/24", "fd00:100::2/64")
		base.Local = u.a
		a := start(t, na, base)
		s := a.segment(t, vtep.SegmentConfig{VNI: 300, Peers: []netip.Addr{u.b}})
		mtu := s.Config().MTU
		g := a.guest(t, s, "tk")
		g.Exec("ip", "link", "add", "br0", "up", "type", "bridge")
		g.Exec("ip", "link", "set", "eth0", "master", "br0")
		vm := nettest.New(t, "vm")
		nettest.Veth(t, g, "v0", vm, "eth0")
		vm.Exec("ip", "link", "set", "eth0", "mtu", fmt.Sprint(mtu))
		g.Exec("ip", "link", "set", "v0", "mtu", fmt.Sprint(mtu), "master", "br0")
		vm.Addr("eth0", "192.168.100.1/24")
		vm.Addr("eth0", "fd00:100::1/64")
		converse(t, vm, nk, mtu)
	})
}
