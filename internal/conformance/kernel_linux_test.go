package conformance

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/uvtep/uvtep/internal/verdict"
)

// kernel is Linux's bridge with its vxlan driver as one of the ports.
type kernel struct{ b *bed }

// ip runs the command in the switch's namespace.
func (k *kernel) ip(format string, args ...any) { k.do("ip", format, args...) }

func (k *kernel) bridge(format string, args ...any) { k.do("bridge", format, args...) }

func (k *kernel) do(name, format string, args ...any) {
	k.b.host.Exec(name, strings.Fields(fmt.Sprintf(format, args...))...)
}

func (k *kernel) start(t *testing.T, b *bed) {
	k.b = b
	in := b.in
	if !in.suppress { // which has a table of neighbours of IPv6 only where there is any
		b.host.Sysctl("net/ipv6/conf/default/disable_ipv6", "1")
	}
	snoop := 0
	if in.snooping {
		snoop = 1
	}
	k.ip("link add br0 type bridge mcast_snooping %d", snoop)
	k.ip("link add vx0 type vxlan %s", k.options())
	k.ip("link set vx0 master br0")
	for i, g := range b.guests[1:] {
		k.ip("link add p%d type veth peer name eth0 netns %s", i+1, g.ns.Name)
		k.ip("link set p%d master br0 up", i+1)
		g.ns.Exec("ip", "link", "set", "eth0", "up")
	}
	if in.ageing != 0 {
		k.ip("link set br0 type bridge ageing_time %d", int(in.ageing.Seconds()*100))
	}
	if in.isolated {
		k.bridge("link set dev p1 isolated on")
		k.bridge("link set dev p2 isolated on")
	}
	if in.noLearning {
		for _, dev := range []string{"vx0", "p1", "p2", "p3"} {
			k.bridge("link set dev %s learning off", dev)
		}
	}
	if in.suppress {
		k.bridge("link set dev vx0 neigh_suppress on")
	}
	if in.jumbo {
		for _, dev := range []string{"p1", "p2", "p3", "vx0", "br0"} {
			k.ip("link set %s mtu 9000", dev)
		}
		for _, g := range b.guests[1:] {
			g.ns.Exec("ip", "link", "set", "eth0", "mtu", "9000")
		}
	}
	k.ip("link set br0 up")
	k.ip("link set vx0 up")
	if !in.noPeers && !in.group {
		k.addPeer(b.u.b)
		k.addPeer(b.u.c)
	}
}

// options are those of the vxlan device.
func (k *kernel) options() string {
	in, u := k.b.in, k.b.u
	o := []string{"id", fmt.Sprint(vni), "local", u.switchAt.String(), "dstport", fmt.Sprint(k.b.udpPort())}
	add := func(words ...string) { o = append(o, words...) }
	if in.peersOnly {
		verdict.Cannot("it takes from everybody")
	}
	if in.ttl != "" {
		add("ttl", in.ttl)
	}
	if in.tos == 0 {
		add("tos", "inherit")
	} else {
		add("tos", fmt.Sprintf("%#x", in.tos))
	}
	if u.switchAt.Is4() {
		add("df", cmp.Or(in.df, "set"))
	}
	if in.noChecksum {
		add("noudpcsum", "udp6zerocsumtx")
	} else {
		add("udpcsum")
	}
	if in.zeroSum6 {
		add("udp6zerocsumrx")
	}
	if in.noLearning {
		add("nolearning")
	}
	if in.ageing != 0 {
		add("ageing", fmt.Sprint(int(in.ageing.Seconds())))
	}
	if in.maxMACs != 0 {
		add("maxaddress", fmt.Sprint(in.maxMACs))
	}
	if in.gbp {
		add("gbp")
	}
	if in.group {
		add("group", u.group.String(), "dev", "ul")
	}
	return strings.Join(o, " ")
}

// The bridge answers for what its own neighbour table has.
func (k *kernel) know(a netip.Addr, mac net.HardwareAddr) {
	k.ip("neigh replace %s lladdr %s dev br0 nud permanent", a, mac)
}

// The kernel carries a frame on before the call that sends it returns.
func (*kernel) patience() time.Duration { return time.Second }

func (k *kernel) addPeer(a netip.Addr) {
	k.bridge("fdb append 00:00:00:00:00:00 dev vx0 dst %s self permanent", a)
}

func (k *kernel) removePeer(a netip.Addr) {
	k.bridge("fdb del 00:00:00:00:00:00 dev vx0 dst %s self permanent", a)
}

func (k *kernel) addStatic(mac net.HardwareAddr, port int, dst netip.Addr) {
	if port != 0 {
		k.bridge("fdb replace %s dev p%d master static sticky", mac, port)
		return
	}
	k.bridge("fdb replace %s dev vx0 dst %s self static", mac, dst)
	k.bridge("fdb replace %s dev vx0 master static sticky", mac)
}

func (k *kernel) remove(mac net.HardwareAddr) {
	for line := range strings.Lines(k.b.host.Exec("bridge", "fdb", "show")) {
		f := strings.Fields(line)
		if len(f) > 2 && f[0] == mac.String() {
			owner := "self"
			if strings.Contains(line, " master ") {
				owner = "master"
			}
			k.bridge("fdb del %s dev %s %s", mac, f[2], owner)
		}
	}
}

func (k *kernel) flush() {
	k.ip("link set br0 type bridge fdb_flush")
	k.bridge("fdb flush dev vx0 self dynamic")
}
