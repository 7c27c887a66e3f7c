package vtep

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/uvtep/uvtep/dhcpd"
	"github.com/uvtep/uvtep/dhcpd/dhcpdtest"
	"github.com/uvtep/uvtep/fdb"
)

func TestWhatOtherServersLeaseIsOverheard(t *testing.T) {
	g := newGuarded(t, nil)
	s := g.segment(SegmentConfig{VNI: 100, Peers: []netip.Addr{peer2}}, "server")
	g.attach(s, PortConfig{Name: "a", Bind: BindLease})
	g.attach(s, PortConfig{Name: "c", Bind: BindLease})
	svc, err := dhcpd.NewService(dhcpd.Config{Store: dhcpd.MemoryStore(), Clock: g.clock})
	if err != nil {
		t.Fatal(err)
	}
	cfg := dhcpConfig(9).Server
	cfg.Lease = time.Hour
	cfg.RapidCommit = false
	srv, err := svc.Add(100, cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go svc.Run(ctx)
	ask := func(c *dhcpdtest.Client, msg []byte) []byte {
		t.Helper()
		replies := make(chan []byte, 1)
		srv.Serve(&dhcpd.Request{Payload: msg, Src: netip.IPv4Unspecified(), Dst: broadcast4, SrcMAC: [6]byte(c.MAC)}, func(r dhcpd.Reply) {
			replies <- append([]byte{}, r.Payload...)
		})
		return <-replies
	}
	reply := func(to fdb.MAC, msg []byte) []byte {
		return build(t, ethernet(to, mac(7), layers.EthernetTypeIPv4), ipv4(server, broadcast4, layers.IPProtocolUDP),
			&layers.UDP{SrcPort: 67, DstPort: 68}, gopacket.Payload(msg))
	}
	// dora has a guest get a lease of a server behind a peer or a port.
	dora := func(port string, c *dhcpdtest.Client, peer bool) {
		t.Helper()
		for msg := c.Discover(); msg != nil; {
			if got := g.fromPort(port, broadcastBOOTP(t, fdb.MACOf(c.MAC), msg)); !strings.Contains(got, "@10.9.0.2") {
				t.Fatalf("a request went to %q", got)
			}
			m := ask(c, msg)
			if peer {
				g.fromPeer(peer2, 100, reply(fdb.Broadcast, m))
			} else {
				g.fromPort("server", reply(fdb.Broadcast, m))
			}
			var err error
			if msg, err = c.Receive(m); err != nil {
				t.Fatal(err)
			}
		}
	}
	one, two := &dhcpdtest.Client{MAC: hw(mac(1))}, &dhcpdtest.Client{MAC: hw(mac(2))}
	dora("a", one, true)
	dora("c", two, false)
	sends := func(what, port string, c *dhcpdtest.Client, may bool) {
		t.Helper()
		if got := g.fromPort(port, tcp(t, mac(9), fdb.MACOf(c.MAC), c.IP, server)); (got != "") != may {
			t.Errorf("%s: went to %q", what, got)
		}
	}
	sends("leased behind a peer", "a", one, true)
	sends("leased behind a port", "c", two, true)
	sends("another port's", "c", one, false)
	if n := s.Ports()[1].Bindings; n != 1 {
		t.Errorf("%d bindings", n)
	}
	// A bound port is no server, whoever it says it is.
	forged := edit4(t, ask(one, one.Rebind()), "192.168.100.99")
	g.fromPort("a", broadcastBOOTP(t, mac(1), one.Rebind()))
	g.fromPort("c", reply(fdb.Broadcast, forged))
	expect(t, "what a bound port leased", g.fromPort("a", tcp(t, mac(9), mac(1), ip("192.168.100.99"), server)), "")
	// Nobody is bound by the answer to what another port asked, though he asks the same.
	three := &dhcpdtest.Client{MAC: hw(mac(3))}
	msg := three.Discover()
	g.fromPort("a", broadcastBOOTP(t, mac(3), msg))
	g.pass(10 * time.Millisecond)
	g.fromPort("c", broadcastBOOTP(t, mac(3), msg))
	msg, err = three.Receive(ask(three, msg))
	if err != nil {
		t.Fatal(err)
	}
	g.fromPort("c", broadcastBOOTP(t, mac(3), msg))
	m := ask(three, msg)
	three.Receive(m)
	g.fromPeer(peer2, 100, reply(fdb.Broadcast, m))
	sends("who asked first", "a", three, true)
	sends("who asked the same", "c", three, false)

	g.fromPort("a", bootp(t, mac(7), mac(1), one.IP, server, one.Release()))
	sends("released", "a", one, false)
	g.pass(59 * time.Minute)
	sends("before the lease ends", "c", two, true)
	g.pass(2 * time.Minute)
	sends("after it", "c", two, false)
}

// edit4 is a reply that gives another address.
func edit4(t testing.TB, msg []byte, to string) []byte {
	t.Helper()
	b := slices.Clone(msg)
	a := ip(to).As4()
	copy(b[16:], a[:])
	return b
}

func TestWhatOtherServersLeaseOfIPv6IsOverheard(t *testing.T) {
	g := newGuarded(t, nil)
	s := g.segment(SegmentConfig{VNI: 100, Peers: []netip.Addr{peer2}}, "b")
	g.attach(s, PortConfig{Name: "a", Bind: BindLease})
	me := mac(1)
	g.claim("a", me, linkLocal(me))
	svc, err := dhcpd.NewService(dhcpd.Config{Store: dhcpd.MemoryStore(), Clock: g.clock})
	if err != nil {
		t.Fatal(err)
	}
	srv, err := svc.Add6(100, bothFamilies().DHCP6.Server)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go svc.Run(ctx)
	c := &dhcpdtest.Client6{MAC: hw(me), NA: []uint32{1}, PD: []uint32{2}}
	ask := func(msg []byte) {
		t.Helper()
		for msg != nil {
			g.fromPort("a", dhcp6(t, multicastMAC(allDHCPRelays), me, linkLocal(me), allDHCPRelays, msg))
			replies := make(chan []byte, 1)
			srv.Serve(&dhcpd.Request{Payload: msg, Src: linkLocal(me), Dst: allDHCPRelays, SrcMAC: me.Bytes()}, func(r dhcpd.Reply) {
				replies <- append([]byte{}, r.Payload...)
			})
			m := <-replies
			g.fromPeer(peer2, 100, build(t, ethernet(me, mac(7), layers.EthernetTypeIPv6), ipv6(ip("fe80::7"), linkLocal(me), 64, layers.IPProtocolUDP),
				&layers.UDP{SrcPort: 547, DstPort: 546}, gopacket.Payload(m)))
			if msg, err = c.Receive(m); err != nil {
				t.Fatal(err)
			}
		}
	}
	ask(c.Solicit())
	leases := slices.Clone(c.Leases)
	if len(leases) != 2 {
		t.Fatalf("leased %v", leases)
	}
	for _, l := range leases {
		expect(t, l.Prefix.String(), g.fromPort("a", tcp(t, mac(9), me, l.Prefix.Addr(), server6)), "@10.9.0.2 b")
	}
	ask(c.Release())
	for _, l := range leases {
		expect(t, l.Prefix.String()+", released", g.fromPort("a", tcp(t, mac(9), me, l.Prefix.Addr(), server6)), "")
	}
}
