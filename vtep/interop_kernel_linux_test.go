package vtep_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/internal/nettest"
	"github.com/uvtep/uvtep/vtep"
)

// kernelPeer makes the kernel's own VTEP in a namespace: a vxlan device in a
// bridge that has the addresses. flood says where its broadcasts go.
func kernelPeer(ns *nettest.NS, u family, vni encap.VNI, port uint16, flood []string, addrs ...string) {
	ns.Exec("ip", append([]string{"link", "add", "vx", "type", "vxlan", "id", vni.String(), "local", u.b.String(),
		"dstport", fmt.Sprint(port)}, flood...)...)
	ns.Exec("ip", "link", "add", "br0", "type", "bridge")
	ns.Exec("ip", "link", "set", "vx", "mtu", fmt.Sprint(1500-encap.Overhead(u.a)), "master", "br0", "up")
	ns.Exec("ip", "link", "set", "br0", "up")
	for _, a := range addrs {
		ns.Addr("br0", a)
	}
}

func TestAKernelPeerAndAGuestReachEachOther(t *testing.T) {
	nettest.Root(t)
	nettest.Need(t, "ping", "ethtool")
	eachFamily(t, func(t *testing.T, base vtep.Config, u family) {
		for _, flood := range []string{"head-end", "group"} {
			for _, port := range []uint16{encap.Port, encap.PortLegacy} {
				for _, tx := range []string{"on", "off"} {
					t.Run(fmt.Sprintf("%s/%d/tx %s", flood, port, tx), func(t *testing.T) {
						// Each value of each setting is in one of these.
						representative := u.a.Is4() == (flood == "head-end") && u.a.Is4() == (port == encap.Port) && u.a.Is4() == (tx == "on")
						withKernelPeer(t, base, u, flood, port, tx, amount(representative))
					})
				}
			}
		}
	})
}

func withKernelPeer(t *testing.T, base vtep.Config, u family, flood string, port uint16, tx string, n int64) {
	na, nk := cable(t, u)
	// A sender that leaves checksums to its card sends them unfinished over a
	// link that has no card, inner ones included.
	nk.Exec("ethtool", "-K", "ul", "tx", tx)
	base.Local, base.Port = u.a, port
	seg := vtep.SegmentConfig{VNI: 300}
	toUs := []string{"remote", u.a.String()}
	if flood == "group" {
		base.Accept, seg.Group = vtep.AcceptAny, u.group
		toUs = []string{"group", u.group.String(), "dev", "ul"}
	} else {
		seg.Peers = []netip.Addr{u.b}
	}
	kernelPeer(nk, u, seg.VNI, port, toUs, "192.168.100.9/24", "fd00:100::9/64")
	a := start(t, na, base)
	s := a.segment(t, seg)
	g := a.guest(t, s, "tk", "192.168.100.1/24", "fd00:100::1/64")
	mtu := s.Config().MTU

	ping(g, "192.168.100.9")
	ping(nk, "192.168.100.1")
	ping(g, "192.168.100.9", "-M", "do", "-s", fmt.Sprint(mtu-28))
	ping(nk, "192.168.100.1", "-M", "do", "-s", fmt.Sprint(mtu-28))
	ping(g, "fd00:100::9", "-M", "do", "-s", fmt.Sprint(mtu-48))
	ping(nk, "fd00:100::1", "-M", "do", "-s", fmt.Sprint(mtu-48))

	exchange(t, g, nk, "192.168.100.9", mtu-28)
	exchange(t, nk, g, "192.168.100.1", mtu-28)
	exchange(t, g, nk, "fd00:100::9", mtu-48)
	exchange(t, nk, g, "fd00:100::1", mtu-48)

	carry(t, g, nk, "192.168.100.9", n)
	carry(t, nk, g, "192.168.100.1", n)
	carry(t, g, nk, "fd00:100::9", little)
	carry(t, nk, g, "fd00:100::1", little)
}
