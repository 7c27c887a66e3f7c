package vtep

import (
	"bytes"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/uvtep/uvtep/dhcpd"
	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/nettest"
	"github.com/uvtep/uvtep/internal/tap"
	"github.com/uvtep/uvtep/internal/tap/taptest"
	"github.com/uvtep/uvtep/internal/underlay"
	"github.com/uvtep/uvtep/internal/underlay/underlaytest"
)

var (
	ip      = netip.MustParseAddr
	self    = ip("10.9.0.1")
	peer2   = ip("10.9.0.2")
	peer3   = ip("10.9.0.3")
	server  = ip("192.168.100.2")
	sources = netip.AddrPortFrom // of a tunnel packet: address and entropy
)

// rig is a VTEP between doubles that does not run: the test turns it, so that
// everything that a frame causes has happened when the call returns.
type rig struct {
	t    testing.TB
	net  *underlaytest.Network
	taps *taptest.Host
	v    *VTEP
	sent []underlaytest.Packet // by the VTEP, since they were last looked at

	injecting bool // what passes on the network is the test's own
}

// newRig makes a VTEP at 10.9.0.1 with one worker, unless cfg says otherwise.
func newRig(t testing.TB, cfg Config) *rig {
	t.Helper()
	return newRigOver(t, cfg, func(e underlay.Endpoint) underlay.Endpoint { return e })
}

// newRigOver is newRig over an underlay that a test changes.
func newRigOver(t testing.TB, cfg Config, change func(underlay.Endpoint) underlay.Endpoint) *rig {
	t.Helper()
	return newRigWith(t, cfg, 0, 0, change)
}

// newOffloadRig is newRig between doubles that do all offloads.
func newOffloadRig(t testing.TB, cfg Config) *rig {
	t.Helper()
	return newRigWith(t, cfg, tap.All, underlay.All, func(e underlay.Endpoint) underlay.Endpoint { return e })
}

func newRigWith(t testing.TB, cfg Config, taps tap.Offload, tunnel underlay.Offload, change func(underlay.Endpoint) underlay.Endpoint) *rig {
	t.Helper()
	r := &rig{t: t, net: underlaytest.NewNetwork(), taps: taptest.NewHost()}
	r.taps.Offload, r.net.Offload = taps, tunnel
	if !cfg.Local.IsValid() {
		cfg.Local = self
	}
	if cfg.Workers == 0 {
		cfg.Workers = 1
	}
	cfg.OpenUnderlay = func(c underlay.Config) (underlay.Endpoint, error) {
		e, err := r.net.Open(c)
		if err != nil {
			return nil, err
		}
		return change(e), nil
	}
	cfg.OpenTAP = r.taps.Open
	if cfg.DHCP == nil {
		svc, err := dhcpd.NewService(dhcpd.Config{Store: dhcpd.MemoryStore()})
		if err != nil {
			t.Fatal(err)
		}
		cfg.DHCP = svc
	}
	v, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r.v = v
	r.net.OnPacket(func(p underlaytest.Packet) {
		if !r.injecting {
			p.Payload = bytes.Clone(p.Payload)
			r.sent = append(r.sent, p)
		}
	})
	t.Cleanup(func() {
		if err := v.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// segment adds a segment with ports.
func (r *rig) segment(cfg SegmentConfig, ports ...string) *Segment {
	r.t.Helper()
	s, err := r.v.AddSegment(cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, name := range ports {
		r.attach(s, PortConfig{Name: name})
	}
	return s
}

func (r *rig) attach(s *Segment, cfg PortConfig) *Port {
	r.t.Helper()
	p, err := s.AttachPort(cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	return p
}

// turn lets every worker, and the DHCP service, do what there is to do.
func (r *rig) turn() {
	for busy := true; busy; {
		busy = false
		for _, w := range r.v.workers {
			busy = busy || w.mail.Load()
			var ready []*source
			for _, s := range *w.poll.mem.Load() {
				if s != nil && s.ready.Swap(false) && !s.dead.Load() {
					busy = true
					ready = append(ready, s)
				}
			}
			w.turn(ready)
		}
		for r.v.decideNext() {
			busy = true
		}
		for len(r.v.heard) > 0 {
			busy = true
			(<-r.v.heard).take()
		}
	}
}

// out is what has left a VTEP: who got it, and what. A remote VTEP is named by
// @ and its address.
type out struct {
	where string
	bytes []byte
	vni   encap.VNI // of a packet
	tos   uint8
	ttl   uint8
	flow  uint16 // the outer source port
	port  uint16 // and the destination's
}

// outs is everything that has left since the last call, ports first.
func (r *rig) outs() []out {
	var all []out
	for _, name := range r.taps.Names() {
		for {
			b, ok := r.taps.Device(name).TryRecv()
			if !ok {
				break
			}
			all = append(all, out{where: name, bytes: b})
		}
	}
	for _, p := range r.sent {
		vni, fault := encap.ParseHeader(p.Payload, true)
		if fault != encap.OK {
			r.t.Errorf("a packet left with a bad VXLAN header: %x", p.Payload[:min(len(p.Payload), encap.HeaderLen)])
			continue
		}
		all = append(all, out{"@" + p.Dst.Addr().String(), p.Payload[encap.HeaderLen:], vni, p.TOS, p.TTL, p.Src.Port(), p.Dst.Port()})
	}
	r.sent = nil
	return all
}

// fromPort has a guest send a frame, and returns who got it as it was sent, in
// order and by one space each; what left changed is marked.
func (r *rig) fromPort(name string, b []byte) string {
	r.t.Helper()
	return whereTo(r.send(name, b), b)
}

// send has a guest send a frame, and returns what left.
func (r *rig) send(name string, b []byte) []out {
	r.t.Helper()
	if !r.taps.Device(name).Send(b) {
		r.t.Fatalf("%s does not take a frame", name)
	}
	r.turn()
	return r.outs()
}

// fromPeer is fromPort for a frame that a remote VTEP sends.
func (r *rig) fromPeer(peer netip.Addr, vni encap.VNI, b []byte) string {
	r.t.Helper()
	return whereTo(r.datagram(peer, 0, vxlan(vni, b)), b)
}

// datagram has somebody send a UDP payload to the VTEP, and returns what left.
func (r *rig) datagram(from netip.Addr, tos uint8, payload []byte) []out {
	r.t.Helper()
	r.inject(from, tos, payload)
	r.turn()
	return r.outs()
}

// inject has a datagram wait for the VTEP.
func (r *rig) inject(from netip.Addr, tos uint8, payload []byte) {
	r.t.Helper()
	r.injecting = true
	defer func() { r.injecting = false }()
	if r.net.Inject(underlaytest.Packet{Src: sources(from, 50000), Dst: sources(r.v.cfg.Local, r.v.cfg.Port), TOS: tos, TTL: 64, Payload: payload}) == 0 {
		r.t.Fatal("the datagram did not arrive")
	}
}

func whereTo(all []out, sent []byte) string {
	var got []string
	for _, o := range all {
		if !bytes.Equal(o.bytes, sent) {
			o.where += " (changed)"
		}
		got = append(got, o.where)
	}
	slices.Sort(got)
	return strings.Join(got, " ")
}

// expect compares who got a frame with who should.
func expect(t testing.TB, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: went to %q, want %q", what, got, want)
	}
}

// dropped is every drop so far, as reason@vni, with one space between.
func (r *rig) dropped() string {
	var all []string
	for _, d := range r.v.Stats().Drops {
		s := d.Reason.String() + "@" + d.VNI.String()
		for range d.Count {
			all = append(all, s)
		}
	}
	return strings.Join(all, " ")
}

func vxlan(vni encap.VNI, b []byte) []byte {
	h := make([]byte, encap.HeaderLen)
	encap.PutHeader(h, vni)
	return append(h, b...)
}

// mac is a station's address.
func mac(i int) fdb.MAC { return fdb.MAC(0x020000000000 + i) }

// eth is a frame of an experimental EtherType (IEEE 802, 88b5).
func eth(dst, src fdb.MAC) []byte {
	b := make([]byte, 60)
	dst.Put(b)
	src.Put(b[6:])
	b[12], b[13], b[14] = 0x88, 0xb5, byte(src)
	return b
}

// hw is a MAC as gopacket has it.
func hw(m fdb.MAC) net.HardwareAddr {
	b := m.Bytes()
	return b[:]
}

// build serialises layers, with lengths and checksums that are right.
func build(t testing.TB, ls ...gopacket.SerializableLayer) []byte {
	t.Helper()
	for i, l := range ls {
		switch l := l.(type) {
		case *layers.UDP:
			l.SetNetworkLayerForChecksum(ls[i-1].(gopacket.NetworkLayer))
		case *layers.TCP:
			l.SetNetworkLayerForChecksum(ls[i-1].(gopacket.NetworkLayer))
		case *layers.ICMPv6:
			l.SetNetworkLayerForChecksum(ls[i-1].(gopacket.NetworkLayer))
		}
	}
	return nettest.Serialize(t, ls...)
}

func ethernet(dst, src fdb.MAC, typ layers.EthernetType) *layers.Ethernet {
	return &layers.Ethernet{DstMAC: hw(dst), SrcMAC: hw(src), EthernetType: typ}
}

func ipv4(src, dst netip.Addr, proto layers.IPProtocol) *layers.IPv4 {
	return &layers.IPv4{Version: 4, TTL: 17, Protocol: proto, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
}

// honest has gopacket read a frame and write it anew: every length and checksum
// in it is right if nothing changes.
func honest(t testing.TB, b []byte) gopacket.Packet {
	t.Helper()
	p := gopacket.NewPacket(b, layers.LayerTypeEthernet, gopacket.Default)
	u, _ := p.Layer(layers.LayerTypeUDP).(*layers.UDP)
	six := u != nil && u.SrcPort == dhcp6ServerPort // of which gopacket knows little
	if e := p.ErrorLayer(); e != nil && !six {
		t.Fatalf("%x cannot be read: %v", b, e.Error())
	}
	var ls []gopacket.SerializableLayer
	for _, l := range p.Layers() {
		if l.LayerType() == layers.LayerTypeDHCPv4 {
			ls = append(ls, gopacket.Payload(l.LayerContents()))
			continue
		}
		if l.LayerType() == layers.LayerTypeICMPv6 || six && l.LayerType() == layers.LayerTypeUDP {
			ls = append(ls, l.(gopacket.SerializableLayer), gopacket.Payload(l.LayerPayload()))
			break
		}
		ls = append(ls, l.(gopacket.SerializableLayer))
	}
	again := build(t, ls...)
	if !bytes.Equal(bytes.TrimRight(again, "\x00"), bytes.TrimRight(b, "\x00")) {
		t.Errorf("a length or a checksum is wrong:\n got %x\nwant %x", b, again)
	}
	return p
}

// dhcpConfig is a service in 192.168.100.0/24 with n addresses from .10 on.
func dhcpConfig(n int) *DHCPConfig {
	last := netip.AddrFrom4([4]byte{192, 168, 100, byte(9 + n)})
	return &DHCPConfig{Server: dhcpd.SegmentConfig{
		Subnet: netip.MustParsePrefix("192.168.100.0/24"), Server: server, Ranges: []dhcpd.Range{{First: ip("192.168.100.10"), Last: last}},
	}}
}

// bootp is a DHCP message of a guest in a frame.
func bootp(t testing.TB, dst, src fdb.MAC, from, to netip.Addr, msg []byte) []byte {
	t.Helper()
	return build(t, ethernet(dst, src, layers.EthernetTypeIPv4), ipv4(from, to, layers.IPProtocolUDP),
		&layers.UDP{SrcPort: 68, DstPort: 67}, gopacket.Payload(msg))
}

// broadcastBOOTP is bootp of a guest that has no address.
func broadcastBOOTP(t testing.TB, src fdb.MAC, msg []byte) []byte {
	return bootp(t, fdb.Broadcast, src, netip.IPv4Unspecified(), broadcast4, msg)
}
