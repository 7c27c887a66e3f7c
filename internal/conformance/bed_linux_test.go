package conformance

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/uvtep/uvtep/internal/nettest"
	"github.com/uvtep/uvtep/internal/verdict"
)

// subject is a switch under test, as its operator has it in hand.
type subject interface {
	// start has it run in the namespace, with ports to the guests whose
	// interface eth0 is made. All of it ends with the test.
	start(t *testing.T, b *bed)
	// The head-end replication list and the forwarding database, live. A static
	// entry is behind the guest's port, or behind a remote VTEP if port is 0.
	addPeer(netip.Addr)
	removePeer(netip.Addr)
	addStatic(mac net.HardwareAddr, port int, dst netip.Addr)
	remove(mac net.HardwareAddr)
	flush()
	// know tells it who has an address, where it does not find out by itself.
	know(a netip.Addr, mac net.HardwareAddr)
	// patience is how long it may take for something on a machine that has much
	// else to do; what does not come by then does not come.
	patience() time.Duration
}

// bed is a switch, three guests at its ports, and its remote VTEPs.
type bed struct {
	subject
	t  *testing.T
	in *intent
	u  family

	host   *nettest.NS // the switch's
	far    *nettest.NS // of the remote VTEPs
	guests [4]*guest   // 1 to 3
	wire   *nettest.Sniffer
	raw    *nettest.Injector           // puts packets on the wire as they are
	speak  map[netip.Addr]*net.UDPConn // of the remote VTEPs, from a port of their own
	hw     net.HardwareAddr            // the switch's, on the underlay
	farHW  net.HardwareAddr

	serial int // of marks and MACs
}

// guest is one end of a port.
type guest struct {
	ns  *nettest.NS
	ear *nettest.Sniffer
	say *nettest.Injector
}

func (b *bed) udpPort() uint16 {
	if b.in.port != 0 {
		return b.in.port
	}
	return 4789
}

// newBed starts a switch with an intent.
func newBed(t *testing.T, s subject, in *intent, u family) *bed {
	t.Helper()
	b := &bed{subject: s, t: t, in: in, u: u, host: nettest.New(t, "dut"), far: nettest.New(t, "far"), speak: map[netip.Addr]*net.UDPConn{}}
	nettest.Veth(t, b.host, "ul", b.far, "ul")
	b.host.Exec("ethtool", "-K", "ul", "tx", "off") // the checksums are to be in the packets
	b.host.Addr("ul", fmt.Sprintf("%s/%d", u.switchAt, u.bits))
	for _, a := range []netip.Addr{u.b, u.c, u.stranger} {
		b.far.Addr("ul", fmt.Sprintf("%s/%d", a, u.bits))
		b.listen(a)
	}
	b.wire, b.raw = nettest.Sniff(t, b.far, "ul"), nettest.Inject(t, b.far, "ul")
	b.hw, b.farHW = hardware(t, b.host), hardware(t, b.far)
	for i := 1; i < len(b.guests); i++ {
		g := &guest{ns: nettest.New(t, fmt.Sprint("g", i))}
		g.ns.Sysctl("net/ipv6/conf/default/disable_ipv6", "1")
		b.guests[i] = g
	}
	s.start(t, b)
	for _, g := range b.guests[1:] {
		g.ear, g.say = nettest.Sniff(t, g.ns, "eth0"), nettest.Inject(t, g.ns, "eth0")
	}
	b.awake()
	return b
}

// listen takes the tunnel's packets to an address, so that nothing complains of
// them, and opens a socket to send from.
func (b *bed) listen(a netip.Addr) {
	b.far.Do(func() {
		sink, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, b.udpPort())))
		if err != nil {
			b.t.Fatal(err)
		}
		b.t.Cleanup(func() { sink.Close() })
		speak, err := net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, 0)), net.UDPAddrFromAddrPort(netip.AddrPortFrom(b.u.switchAt, b.udpPort())))
		if err != nil {
			b.t.Fatal(err)
		}
		b.t.Cleanup(func() { speak.Close() })
		b.speak[a] = speak
	})
}

func hardware(t *testing.T, ns *nettest.NS) (mac net.HardwareAddr) {
	t.Helper()
	ns.Do(func() {
		i, err := net.InterfaceByName("ul")
		if err != nil {
			t.Fatal(err)
		}
		mac = i.HardwareAddr
	})
	return mac
}

// mac is a station that nobody has heard of.
func (b *bed) mac() net.HardwareAddr {
	b.serial++
	return net.HardwareAddr{2, 0xc0, 0, 0, byte(b.serial >> 8), byte(b.serial)}
}

// mark is a text that no other frame has in it.
func (b *bed) mark() string {
	b.serial++
	return fmt.Sprintf("<mark %d>", b.serial)
}

// from sends a frame from a guest.
func (b *bed) from(g int, frame []byte) { b.guests[g].say.Send(frame) }

// tunnel sends a frame through the tunnel from a remote VTEP.
func (b *bed) tunnel(from netip.Addr, frame []byte) { b.datagram(from, nettest.VXLAN(8, vni, frame)) }

// datagram sends a UDP payload from a remote VTEP.
func (b *bed) datagram(from netip.Addr, payload []byte) {
	if _, err := b.speak[from].Write(payload); err != nil {
		b.t.Fatal(err)
	}
}

// outer is what an IP packet to the switch, or to its group, says of itself
// beside the addresses.
type outer struct {
	tos, proto uint8
	fragment   *layers.IPv4 // its ID, flags and offset; nil: it is whole
	group      bool         // it goes to the group
}

// network are the headers of a packet from a remote VTEP.
func (b *bed) network(from netip.Addr, o outer) (eth *layers.Ethernet, ip gopacket.SerializableLayer) {
	eth = &layers.Ethernet{SrcMAC: b.farHW, DstMAC: b.hw, EthernetType: layers.EthernetTypeIPv4}
	to := b.u.switchAt
	if o.group {
		to = b.u.group
		if g := to.AsSlice(); to.Is4() { // RFC 1112 section 6.4, RFC 2464 section 7
			eth.DstMAC = net.HardwareAddr{1, 0, 0x5e, g[1] & 0x7f, g[2], g[3]}
		} else {
			eth.DstMAC = append(net.HardwareAddr{0x33, 0x33}, g[12:]...)
		}
	}
	if to.Is6() {
		eth.EthernetType = layers.EthernetTypeIPv6
		return eth, &layers.IPv6{Version: 6, HopLimit: 64, TrafficClass: o.tos, NextHeader: layers.IPProtocol(o.proto), SrcIP: from.AsSlice(), DstIP: to.AsSlice()}
	}
	v4 := &layers.IPv4{}
	if o.fragment != nil {
		*v4 = *o.fragment
	}
	v4.Version, v4.TTL, v4.TOS, v4.Protocol, v4.SrcIP, v4.DstIP = 4, 64, o.tos, layers.IPProtocol(o.proto), from.AsSlice(), to.AsSlice()
	return eth, v4
}

// udp sends a packet of the tunnel, from any port, that change may spoil.
func (b *bed) udp(from netip.Addr, port layers.UDPPort, o outer, payload []byte, change func(udp []byte)) {
	o.proto = uint8(layers.IPProtocolUDP)
	eth, ip := b.network(from, o)
	udp := &layers.UDP{SrcPort: port, DstPort: layers.UDPPort(b.udpPort())}
	if err := udp.SetNetworkLayerForChecksum(ip.(gopacket.NetworkLayer)); err != nil {
		b.t.Fatal(err)
	}
	f := nettest.Serialize(b.t, eth, ip, udp, gopacket.Payload(payload))
	if change != nil {
		change(f[14+b.u.ipLen:])
	}
	b.raw.Send(f)
}

// places are where frames with a mark have come out so far: guests, remote VTEPs
// and the group, in order; one that got more than one is named as often.
func (b *bed) places(mark string) string {
	var at []string
	for i, g := range b.guests[1:] {
		for range g.ear.With(mark) {
			at = append(at, fmt.Sprint("guest ", i+1))
		}
	}
	names := map[netip.Addr]string{b.u.b: "peer b", b.u.c: "peer c", b.u.stranger: "a stranger", b.u.group: "the group"}
	for _, o := range b.onWire(mark) {
		at = append(at, names[o.Dst])
	}
	slices.Sort(at)
	return strings.Join(at, ", ")
}

// onWire are the packets with a mark that left through the tunnel.
func (b *bed) onWire(mark string) (out []nettest.Outer) {
	for _, f := range b.wire.With(mark) {
		out = append(out, nettest.ParseOuter(b.t, f.Bytes))
	}
	return out
}

// goes wants frames with a mark to come out at these places and nowhere else.
func (b *bed) goes(mark string, want ...string) {
	slices.Sort(want)
	all := strings.Join(want, ", ")
	for until := time.Now().Add(b.patience()); b.places(mark) != all && time.Now().Before(until); time.Sleep(time.Millisecond) {
	}
	b.calm()
	switch got := b.places(mark); {
	case got == all:
	case got == "":
		verdict.Fail("it goes nowhere")
	default:
		verdict.Fail("it goes to %s", got)
	}
}

// nowhere wants nothing with a mark to come out.
func (b *bed) nowhere(mark string) {
	b.calm()
	if got := b.places(mark); got != "" {
		verdict.Fail("it goes to %s", got)
	}
}

// one waits for the only packet with a mark to each of n remote VTEPs, and
// returns one of them.
func (b *bed) one(mark string, n int) nettest.Outer {
	for until := time.Now().Add(b.patience()); ; time.Sleep(time.Millisecond) {
		if all := b.onWire(mark); len(all) >= n {
			return all[0]
		} else if time.Now().After(until) {
			verdict.Fail("%d of %d packets leave", len(all), n)
		}
	}
}

// at waits for a frame with a mark to come to a guest.
func (b *bed) at(g int, mark string) []byte {
	for until := time.Now().Add(b.patience()); ; time.Sleep(time.Millisecond) {
		if all := b.guests[g].ear.With(mark); len(all) > 0 {
			return all[0].Bytes
		} else if time.Now().After(until) {
			verdict.Fail("it does not come to guest %d", g)
		}
	}
}

// ways are those that calm sends by: from a guest, or a remote VTEP (0), and the
// guest that it has to come to.
var ways = [...]struct{ from, to int }{{1, 3}, {2, 3}, {3, 1}, {0, 3}}

// nod sends a broadcast by one of the ways.
func (b *bed) nod(from int) (mark string) {
	mark = b.mark()
	if f := plain(broadcast, net.HardwareAddr{2, 0xca, 0, 0, 0, byte(from)}, mark); from == 0 {
		b.tunnel(b.u.b, f)
	} else {
		b.from(from, f)
	}
	return mark
}

// awake returns when frames pass by all ways: a kernel has interfaces come up, and
// ports begin to forward, some time after it was told to.
func (b *bed) awake() {
	until := time.Now().Add(20 * time.Second)
	for _, w := range ways {
		for heard := false; !heard; {
			m := b.nod(w.from)
			for again := time.Now().Add(20 * time.Millisecond); !heard && time.Now().Before(again); time.Sleep(time.Millisecond) {
				heard = len(b.guests[w.to].ear.With(m)) > 0
			}
			if time.Now().After(until) {
				b.t.Fatalf("nothing passes from %d to guest %d", w.from, w.to)
			}
		}
	}
}

// calm returns when the switch is done with everything that it was sent before.
// It carries what comes by one way in order, batch by batch: of two frames in a
// row the second is in a later batch, if the first was waited for.
func (b *bed) calm() {
	for range 2 {
		for _, w := range ways {
			b.at(w.to, b.nod(w.from))
		}
	}
}
