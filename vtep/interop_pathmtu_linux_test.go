package vtep_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/nettest"
	"github.com/uvtep/uvtep/vtep"
)

// narrowPath is two hosts at the ends of a path of two routers, the link between
// which carries 1400 bytes, and all others 1500.
func narrowPath(t *testing.T, u family) (a, b *nettest.NS) {
	t.Helper()
	a, b = nettest.New(t, "a"), nettest.New(t, "b")
	r1, r2 := nettest.New(t, "r1"), nettest.New(t, "r2")
	nettest.Veth(t, a, "ul", r1, "near")
	nettest.Veth(t, r1, "mid", r2, "mid")
	nettest.Veth(t, r2, "near", b, "ul")
	of := func(format4, format6 string) string {
		if u.a.Is4() {
			return format4
		}
		return format6
	}
	bits, everybody := of("/24", "/64"), of("0.0.0.0/0", "::/0")
	gwA, gwB := of("10.77.1.1", "fd77:1::1"), of("10.77.2.1", "fd77:2::1")
	mid1, mid2 := of("10.77.9.1", "fd77:9::1"), of("10.77.9.2", "fd77:9::2")
	host := of("/32", "/128")
	a.Addr("ul", of("10.77.1.2", "fd77:1::2")+bits)
	b.Addr("ul", of("10.77.2.2", "fd77:2::2")+bits)
	a.Addr("ul", u.a.String()+host)
	b.Addr("ul", u.b.String()+host)
	r1.Addr("near", gwA+bits)
	r2.Addr("near", gwB+bits)
	r1.Addr("mid", mid1+bits)
	r2.Addr("mid", mid2+bits)
	for _, r := range []*nettest.NS{r1, r2} {
		r.Sysctl("net/ipv4/ip_forward", "1")
		r.Sysctl("net/ipv6/conf/all/forwarding", "1")
		r.Exec("ip", "link", "set", "mid", "mtu", "1400")
	}
	a.Exec("ip", "route", "add", everybody, "via", gwA)
	b.Exec("ip", "route", "add", everybody, "via", gwB)
	r1.Exec("ip", "route", "add", everybody, "via", mid2)
	r2.Exec("ip", "route", "add", everybody, "via", mid1)
	r1.Exec("ip", "route", "add", u.a.String()+host, "via", of("10.77.1.2", "fd77:1::2"))
	r2.Exec("ip", "route", "add", u.b.String()+host, "via", of("10.77.2.2", "fd77:2::2"))
	wire(a, b)
	return a, b
}

// A guest's TCP finds that the path is narrower than its link, and how much.
func TestAConnectionOverANarrowPathRecovers(t *testing.T) {
	nettest.Root(t)
	nettest.Need(t, "ping", "ethtool")
	eachFamily(t, func(t *testing.T, base vtep.Config, u family) {
		na, nb := narrowPath(t, u)
		a, b := pair(t, base, u, na, nb)
		sa := a.segment(t, vtep.SegmentConfig{VNI: 100, Peers: []netip.Addr{u.b}})
		sb := b.segment(t, vtep.SegmentConfig{VNI: 100, Peers: []netip.Addr{u.a}})
		ga := a.guest(t, sa, "ta", "192.168.100.1/24", "fd00:100::1/64")
		gb := b.guest(t, sb, "tb", "192.168.100.2/24", "fd00:100::2/64")
		ping(ga, "192.168.100.2")
		ping(ga, "fd00:100::2")
		room := 1400 - encap.Overhead(u.a)
		if len(sa.PathMTUs()) != 0 {
			t.Fatalf("known before anything was too big: %v", sa.PathMTUs())
		}
		for _, ip := range []string{"192.168.100.2", "fd00:100::2"} {
			began := time.Now()
			carry(t, ga, gb, ip, little)
			t.Logf("%d MB to %s took %v", little>>20, ip, time.Since(began).Round(time.Millisecond))
			if got, want := ga.Exec("ip", "route", "get", ip), fmt.Sprintf("mtu %d", room); !strings.Contains(got, want) {
				t.Errorf("the guest knows the route %q, want %q in it", got, want)
			}
		}
		for _, ip := range []string{"192.168.100.1", "fd00:100::1"} {
			carry(t, gb, ga, ip, 1<<20)
		}
		// The way back has no need of that: by now the guest says in its SYN what
		// it takes.
		told := sa.Ports()[0].TooBigTold
		if got := sa.PathMTUs()[u.b]; got != 1400 || told == 0 || a.dropped(frame.TooBig) < told {
			t.Errorf("a path MTU of %d, %d told of %d that were too big", got, told, a.dropped(frame.TooBig))
		}
		// What fits the path arrives, to the byte, and what does not is told.
		ping(ga, "192.168.100.2", "-M", "do", "-s", fmt.Sprint(room-28))
		if out, err := ga.Try("ping", "-c", "1", "-W", "2", "-M", "do", "-s", fmt.Sprint(room-27), "192.168.100.2"); err == nil {
			t.Errorf("a byte more arrived: %s", out)
		}
	})
}

// The last resort carries it all, without a word to the guests.
func TestANarrowPathCarriesFragmentsAsALastResort(t *testing.T) {
	nettest.Root(t)
	nettest.Need(t, "ping", "ethtool")
	eachFamily(t, func(t *testing.T, base vtep.Config, u family) {
		na, nb := narrowPath(t, u)
		base.Fragment = true
		a, b := pair(t, base, u, na, nb)
		sa := a.segment(t, vtep.SegmentConfig{VNI: 100, Peers: []netip.Addr{u.b}})
		sb := b.segment(t, vtep.SegmentConfig{VNI: 100, Peers: []netip.Addr{u.a}})
		ga := a.guest(t, sa, "ta", "192.168.100.1/24", "fd00:100::1/64")
		gb := b.guest(t, sb, "tb", "192.168.100.2/24", "fd00:100::2/64")
		ping(ga, "192.168.100.2")
		carry(t, ga, gb, "192.168.100.2", 1<<20)
		carry(t, ga, gb, "fd00:100::2", 1<<20)
		ping(ga, "192.168.100.2", "-M", "do", "-s", fmt.Sprint(sa.Config().MTU-28))
		if n := a.dropped(frame.TooBig) + b.dropped(frame.TooBig); n != 0 {
			t.Errorf("%d were too big", n)
		}
	})
}
