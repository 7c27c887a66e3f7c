package vtep_test

import (
	"fmt"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/internal/nettest"
	"github.com/uvtep/uvtep/vtep"
)

// bench is a VTEP with a segment of two guests, and in place of its peer a plain
// socket and a sniffer: everything about the packets on the wire is seen and
// said by code that is not the switch's.
type bench struct {
	u      family
	a      *host
	s      *vtep.Segment
	g1, g2 *station
	peer   *nettest.NS
	wire   *nettest.Sniffer // at the peer's end of the cable
	socket *net.UDPConn     // the peer's, at the VXLAN port
}

const benchVNI = 77

// newBench starts one. configure, if not nil, changes the configurations.
func newBench(t *testing.T, base vtep.Config, u family, configure func(*vtep.Config, *vtep.SegmentConfig)) *bench {
	t.Helper()
	na, nb := cable(t, u)
	na.Exec("ethtool", "-K", "ul", "tx", "off") // the sums are to be in the packets
	base.Local = u.a
	seg := vtep.SegmentConfig{VNI: benchVNI, Peers: []netip.Addr{u.b}}
	if configure != nil {
		configure(&base, &seg)
	}
	b := &bench{u: u, peer: nb, a: start(t, na, base)}
	nb.Do(func() {
		var err error
		if b.socket, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(u.b, encap.Port))); err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(func() { b.socket.Close() })
	b.wire = nettest.Sniff(t, nb, "ul")
	b.s = b.a.segment(t, seg)
	for i, to := range []**station{&b.g1, &b.g2} {
		name := fmt.Sprintf("t%d", i+1)
		g := nettest.New(t, name)
		g.Sysctl("net/ipv6/conf/default/disable_ipv6", "1")
		mac := []net.HardwareAddr{mac1, mac2}[i]
		b.a.attach(t, b.s, g, vtep.PortConfig{Name: name, MAC: mac})
		*to = &station{NS: g, mac: mac, ip: fmt.Sprintf("192.168.100.%d", i+1), seen: nettest.Sniff(t, g, "eth0"), out: nettest.Inject(t, g, "eth0")}
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the switch counted %+v\nports %+v\npeers %+v\n%s%s", b.a.v.Stats(), b.s.Ports(), b.s.Peers(),
				na.Exec("ip", "-s", "link"), na.Exec("ss", "-uanm"))
		}
	})
	return b
}

// eachBench runs a test with a bench over both underlays, in each setting.
func eachBench(t *testing.T, configure func(*vtep.Config, *vtep.SegmentConfig), body func(t *testing.T, b *bench)) {
	nettest.Root(t)
	nettest.Need(t, "ethtool")
	eachFamily(t, func(t *testing.T, base vtep.Config, u family) {
		body(t, newBench(t, base, u, configure))
	})
}

// onWire waits for n packets with a mark and takes them apart.
func (b *bench) onWire(t testing.TB, mark string, n int) (out []nettest.Outer) {
	t.Helper()
	for _, f := range b.wire.Wait(mark, n) {
		out = append(out, nettest.ParseOuter(t, f.Bytes))
	}
	return out
}

// say sends a VXLAN packet from the peer.
func (b *bench) say(t testing.TB, payload []byte) {
	t.Helper()
	if _, err := b.socket.WriteToUDPAddrPort(payload, netip.AddrPortFrom(b.u.a, encap.Port)); err != nil {
		t.Fatal(err)
	}
}

// setTOS sets the traffic class of what the peer says.
func (b *bench) setTOS(t testing.TB, tos int) {
	t.Helper()
	c, err := b.socket.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	level, name := unix.IPPROTO_IP, unix.IP_TOS
	if b.u.a.Is6() {
		level, name = unix.IPPROTO_IPV6, unix.IPV6_TCLASS
	}
	if ctlErr := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), level, name, tos) }); ctlErr != nil || err != nil {
		t.Fatal(ctlErr, err)
	}
}
