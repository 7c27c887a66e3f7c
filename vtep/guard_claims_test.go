package vtep

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket/layers"

	"github.com/uvtep/uvtep/fdb"
)

func TestALinkLocalAddressIsHisWhoComesFirst(t *testing.T) {
	g := newGuarded(t, nil)
	s := g.segment(bothFamilies(), "b")
	g.attach(s, PortConfig{Name: "a", Bind: BindLease})
	g.attach(s, PortConfig{Name: "c", Bind: BindLease})
	private := ip("fe80::abcd:1")
	sends := func(what, port string, m fdb.MAC, a netip.Addr, may bool) {
		t.Helper()
		got := g.fromPort(port, tcp(t, mac(9), m, a, guest6))
		if ok := strings.Contains(got, "b") && !strings.Contains(got, "changed"); ok != may {
			t.Errorf("%s: went to %q", what, got)
		}
		g.outs()
	}
	expect(t, "DAD", g.fromPort("a", probe6(t, mac(1), private)), "@10.9.0.2 b c")
	if n := len(s.FDB()); n != 1 { // the service's
		t.Errorf("who only asks was learned: %+v", s.FDB())
	}
	sends("at once", "a", mac(1), private, false)
	g.pass(time.Second)
	sends("a second later", "a", mac(1), private, true)
	sends("another of its own, unasked", "a", mac(1), ip("fe80::abcd:2"), false)
	// Others may neither have it nor say that they do.
	expect(t, "another's DAD", g.fromPort("c", probe6(t, mac(2), private)), "")
	expect(t, "with its MAC", g.fromPort("c", probe6(t, mac(1), ip("fe80::abcd:3"))), "")
	g.pass(2 * time.Second)
	sends("another", "c", mac(2), private, false)
	sends("another with its MAC", "c", mac(1), ip("fe80::abcd:3"), false)

	// A router's address is never a guest's.
	router := ip("fe80::1")
	ra := icmp6(t, multicastMAC(allNodes), mac(7), ipv6(router, allNodes, 255, layers.IPProtocolICMPv6), 134,
		&layers.ICMPv6RouterAdvertisement{HopLimit: 64, RouterLifetime: 1800})
	g.fromPeer(peer2, 100, ra)
	expect(t, "DAD for a router's address", g.fromPort("a", probe6(t, mac(1), router)), "")

	// A defence ends a claim that does not count yet, wherever it comes from.
	for i, from := range []func(b []byte){
		func(b []byte) { g.fromPeer(peer2, 100, b) },
		func(b []byte) { g.fromPort("b", b) },
	} {
		taken := netip.AddrFrom16([16]byte{0xfe, 0x80, 15: byte(0x50 + i)})
		g.fromPort("c", probe6(t, mac(2), taken))
		from(icmp6(t, multicastMAC(allNodes), mac(5), ipv6(taken, allNodes, 255, layers.IPProtocolICMPv6), 136,
			&layers.ICMPv6NeighborAdvertisement{Flags: 0x20, TargetAddress: taken.AsSlice(), Options: layers.ICMPv6Options{{Type: layers.ICMPv6OptTargetAddress, Data: hw(mac(5))}}}))
		g.pass(2 * time.Second)
		sends("an address that was defended", "c", mac(2), taken, false)
	}
}

func TestAStationThatMovesTakesItsLinkLocalAddressWithItUnlessItIsStillThere(t *testing.T) {
	g := newGuarded(t, nil)
	s := g.segment(bothFamilies(), "b")
	g.attach(s, PortConfig{Name: "a", Bind: BindLease})
	g.attach(s, PortConfig{Name: "c", Bind: BindLease})
	a := linkLocal(mac(1))
	defence := icmp6(t, multicastMAC(allNodes), mac(1), ipv6(a, allNodes, 255, layers.IPProtocolICMPv6), 136,
		&layers.ICMPv6NeighborAdvertisement{Flags: 0x20, TargetAddress: a.AsSlice(), Options: layers.ICMPv6Options{{Type: layers.ICMPv6OptTargetAddress, Data: hw(mac(1))}}})
	g.claim("a", mac(1), a)
	sent := tcp(t, mac(9), mac(1), a, guest6)
	expect(t, "claimed", g.fromPort("a", sent), "@10.9.0.2 b c")
	expect(t, "somebody with its MAC asks", g.fromPort("c", probe6(t, mac(1), a)), "@10.9.0.2 a a b") // who had it is asked once more
	expect(t, "it is still there", g.fromPort("a", defence), "@10.9.0.2 b c")
	g.pass(2 * time.Second)
	expect(t, "an impostor has it asked for", g.fromPort("c", sent), "@10.9.0.2 (changed) a (changed) a (changed) b (changed)")
	g.pass(2 * time.Second)
	g.fromPort("a", defence)
	g.pass(2 * time.Second)
	expect(t, "and stays", g.fromPort("a", sent), "@10.9.0.2 b c")
	g.claim("c", mac(1), a)
	expect(t, "moved", g.fromPort("c", sent), "@10.9.0.2 a b")
	if got := g.fromPort("a", sent); strings.Contains(got, " b") && !strings.Contains(got, "changed") {
		t.Errorf("at its former place it went to %q", got)
	}
}

func TestClaimsOfAPortAreBounded(t *testing.T) {
	g := newGuarded(t, nil)
	s := g.segment(bothFamilies(), "b")
	g.attach(s, PortConfig{Name: "a", Bind: BindLease})
	for i := range 500 {
		g.fromPort("a", probe6(t, mac(100+i), linkLocal(mac(100+i))))
		g.fromPort("a", probe6(t, mac(1), linkLocal(mac(1000+i))))
		if i%40 == 0 {
			g.pass(time.Second)
		}
	}
	if n := s.Ports()[1].Bindings; n > claimsAPort+claimsAMAC {
		t.Errorf("%d bindings of one port", n)
	}
}
