package vteptest_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/uvtep/uvtep/dhcpd"
	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/vtep"
	"github.com/uvtep/uvtep/vtep/vteptest"
)

// dhcp6 is a service that gives out 2001:db8:100::1000 and following.
func dhcp6() *vtep.DHCP6Config {
	return &vtep.DHCP6Config{Server: dhcpd.SegmentConfig6{
		Subnet: netip.MustParsePrefix("2001:db8:100::/64"), Server: ip("2001:db8:100::2"),
		DNS: []netip.Addr{ip("2001:db8:100::1"), ip("2001:db8::53")}, Search: []string{"blue.example"},
		Ranges: []dhcpd.Range{{First: ip("2001:db8:100::1000"), Last: ip("2001:db8:100::1fff")}},
		Lease:  2 * time.Hour, Preferred: time.Hour,
	}}
}

func TestGuestsOfBothVTEPsGetRenewAndReleaseIPv6Addresses(t *testing.T) {
	n := vteptest.NewNetwork()
	a, b := n.NewHost(t, n.Config(a1)), n.NewHost(t, n.Config(a2))
	s := a.NewSegment(t, vtep.SegmentConfig{VNI: 100, Peers: []netip.Addr{a2}, DHCP6: dhcp6()})
	b.NewSegment(t, vtep.SegmentConfig{VNI: 100, Peers: []netip.Addr{a1}})
	seen := map[netip.Addr]bool{}
	for i, h := range []*vteptest.Host{a, b} {
		g := h.NewGuest(t, 100, vtep.PortConfig{Name: fmt.Sprint("t", i)})
		l, err := g.DHCP6(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !dhcp6().Server.Subnet.Contains(l.Address) || seen[l.Address] || l.Preferred != time.Hour || l.Valid != 2*time.Hour ||
			!slices.Equal(l.DNS, dhcp6().Server.DNS) || !slices.Equal(l.Search, dhcp6().Server.Search) {
			t.Errorf("got %+v", l)
		}
		seen[l.Address] = true
		got, ok := s.DHCP6().Lookup(l.Address)
		if at := []netip.Addr{{}, a2}[i]; !ok || got.VTEP != at || (got.Port == "") != (i == 1) {
			t.Errorf("the server has %+v, %t; want a client behind %v", got, ok, at)
		}
		if again, err := g.Renew6(t.Context()); err != nil || again.Address != l.Address {
			t.Errorf("renewed to %v, %v", again.Address, err)
		}
		if err := g.Release6(t.Context()); err != nil {
			t.Error(err)
		}
		if l, ok := s.DHCP6().Lookup(l.Address); ok && l.State == dhcpd.StateBound {
			t.Errorf("after its release the server has %+v", l)
		}
	}
}

// The first address of the pool is a guest's by hand.
func TestAnAddressThatAGuestUsesWithoutALeaseIsGivenToNobodyElse(t *testing.T) {
	for _, behind := range []string{"the same VTEP", "a remote VTEP"} {
		n := vteptest.NewNetwork()
		a, b := n.NewHost(t, n.Config(a1)), n.NewHost(t, n.Config(a2))
		cfg := dhcp("192.168.100.2")
		cfg.Server.Ranges = []dhcpd.Range{{First: ip("192.168.100.10"), Last: ip("192.168.100.12")}}
		cfg.Server.Probe = 300 * time.Millisecond
		s := a.NewSegment(t, vtep.SegmentConfig{VNI: 100, Peers: []netip.Addr{a2}, DHCP: cfg})
		b.NewSegment(t, vtep.SegmentConfig{VNI: 100, Peers: []netip.Addr{a1}})
		at := map[string]*vteptest.Host{"the same VTEP": a, "a remote VTEP": b}[behind]
		squatter := guest(t, at, 100, "squatter", "192.168.100.10")
		given := map[netip.Addr]bool{}
		for i := range 2 {
			for _, h := range []*vteptest.Host{a, b}[i : i+1] {
				l, err := h.NewGuest(t, 100, vtep.PortConfig{Name: fmt.Sprint("t", i)}).DHCP(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				given[l.Address.Addr()] = true
			}
		}
		if given[squatter.IP()] || len(given) != 2 {
			t.Errorf("%s: given out: %v", behind, given)
		}
		// There is no other one left.
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if l, err := a.NewGuest(t, 100, vtep.PortConfig{Name: "t9"}).DHCP(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: and then %v, %v", behind, l.Address, err)
		}
		if l, ok := s.DHCP().Lookup(squatter.IP()); !ok || l.State != dhcpd.StateDeclined {
			t.Errorf("%s: the server has %+v, %t", behind, l, ok)
		}
	}
}

// Advertisements reach guests everywhere in the segment, and who asks is
// answered by each VTEP that advertises.
func TestEveryVTEPOfASegmentMayAdvertise(t *testing.T) {
	n := vteptest.NewNetwork()
	a, b := n.NewHost(t, n.Config(a1)), n.NewHost(t, n.Config(a2))
	cfg := vtep.SegmentConfig{VNI: 100, RA: &vtep.RAConfig{Managed: true}}
	cfg.Peers = []netip.Addr{a2}
	a.NewSegment(t, cfg)
	cfg.Peers = []netip.Addr{a1}
	b.NewSegment(t, cfg)
	g := a.NewGuest(t, 100, vtep.PortConfig{Name: "t"})
	from := map[string]bool{}
	m := g.MAC().Bytes()
	solicitation := append([]byte{0x33, 0x33, 0, 0, 0, 2}, m[:]...)
	solicitation = append(solicitation, 0x86, 0xdd, 0x60, 0, 0, 0, 0, 8, frame.ProtoICMPv6, 255)
	src, dst := g.LinkLocal().As16(), ip("ff02::2").As16()
	solicitation = append(append(solicitation, src[:]...), dst[:]...)
	solicitation = append(solicitation, frame.RouterSolicitation, 0, 0, 0, 0, 0, 0, 0)
	sum := ^frame.Fold(frame.Sum(solicitation[54:], frame.Sum(solicitation[22:54], uint64(frame.ProtoICMPv6)+8)))
	solicitation[56], solicitation[57] = byte(sum>>8), byte(sum)
	if err := g.Send(solicitation); err != nil {
		t.Fatal(err)
	}
	for len(from) < 2 {
		f, err := g.Receive(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(f) > 70 && f[54] == frame.RouterAdvertisement && string(f[38:54]) == string(src[:]) {
			from[string(f[6:12])] = true
		}
	}
}
