package vtep_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/internal/nettest"
	"github.com/uvtep/uvtep/vtep"
)

// host is a namespace on the underlay, and the VTEP in it.
type host struct {
	ns *nettest.NS
	v  *vtep.VTEP
}

// start makes a VTEP in a namespace and runs it until the test ends.
func start(t *testing.T, ns *nettest.NS, cfg vtep.Config) *host {
	t.Helper()
	h := &host{ns: ns}
	ns.Do(func() {
		v, err := vtep.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		h.v = v
	})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := h.v.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		wg.Wait()
		if err := h.v.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// segment adds a segment to a host's VTEP.
func (h *host) segment(t *testing.T, cfg vtep.SegmentConfig) *vtep.Segment {
	t.Helper()
	s, err := h.v.AddSegment(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// guest gives a namespace a TAP of the segment, as eth0 with an address.
func (h *host) guest(t *testing.T, s *vtep.Segment, tapName, addr string) *nettest.NS {
	t.Helper()
	g := nettest.New(t, "g-"+tapName)
	h.ns.Do(func() {
		if _, err := s.AttachPort(vtep.PortConfig{Name: tapName, NetNS: g.Path, Rename: "eth0"}); err != nil {
			t.Fatal(err)
		}
	})
	g.Addr("eth0", addr)
	return g
}

// underlays are the two families that a tunnel runs over.
var underlays = []struct {
	name string
	a, b string
	bits int
}{
	{"IPv4", "10.9.0.1", "10.9.0.2", 24},
	{"IPv6", "fd00:9::1", "fd00:9::2", 64},
}

func TestGuestsOfASegmentReachEachOtherAndNobodyElse(t *testing.T) {
	nettest.Root(t)
	nettest.Need(t, "ping")
	for _, u := range underlays {
		t.Run(u.name, func(t *testing.T) {
			na, nb := nettest.New(t, "a"), nettest.New(t, "b")
			nettest.Veth(t, na, "ul", nb, "ul")
			na.Addr("ul", fmt.Sprintf("%s/%d", u.a, u.bits))
			nb.Addr("ul", fmt.Sprintf("%s/%d", u.b, u.bits))
			a := start(t, na, vtep.Config{Local: netip.MustParseAddr(u.a)})
			b := start(t, nb, vtep.Config{Local: netip.MustParseAddr(u.b)})
			for _, vni := range []encap.VNI{100, 200} {
				sa := a.segment(t, vtep.SegmentConfig{VNI: vni, Peers: []netip.Addr{netip.MustParseAddr(u.b)}})
				sb := b.segment(t, vtep.SegmentConfig{VNI: vni, Peers: []netip.Addr{netip.MustParseAddr(u.a)}})
				ga := a.guest(t, sa, fmt.Sprintf("ta%d", vni), "192.168.100.1/24")
				b.guest(t, sb, fmt.Sprintf("tb%d", vni), fmt.Sprintf("192.168.100.%d/24", vni/100+1))
				ga.Exec("ping", "-c", "3", "-i", "0.05", "-W", "2", fmt.Sprintf("192.168.100.%d", vni/100+1))
				// Whole packets of the segment's MTU fit the underlay.
				ga.Exec("ping", "-c", "1", "-M", "do", "-s", fmt.Sprint(sa.Config().MTU-28), "-W", "2", fmt.Sprintf("192.168.100.%d", vni/100+1))
				// The other segment's guest has this address, and stays unseen.
				if out, err := ga.Try("ping", "-c", "1", "-W", "1", fmt.Sprintf("192.168.100.%d", 4-vni/100)); err == nil {
					t.Errorf("VNI %v reached the other segment:\n%s", vni, out)
				}
				var remote int
				for _, e := range sa.FDB() {
					if e.Dst == netip.MustParseAddr(u.b) && e.State == "dynamic" {
						remote++
					}
				}
				if remote != 1 {
					t.Errorf("VNI %v: %d MACs learned behind %s, want 1: %+v", vni, remote, u.b, sa.FDB())
				}
			}
		})
	}
}

// transfer is how much a TCP connection carries in a test, bytes.
func transfer() int64 {
	if testing.Short() {
		return 8 << 20
	}
	return 200 << 20
}

// carry sends n bytes over TCP from one namespace to an address in another, and
// compares what arrived with what was sent.
func carry(t *testing.T, from, to *nettest.NS, addr string, n int64) {
	t.Helper()
	var l net.Listener
	var err error
	to.Do(func() { l, err = net.Listen("tcp", addr) })
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	got := make(chan string, 1)
	go func() {
		defer close(got)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		h := sha256.New()
		if _, err := io.Copy(h, c); err == nil {
			got <- fmt.Sprintf("%x", h.Sum(nil))
		}
	}()
	var c net.Conn
	from.Do(func() { c, err = net.DialTimeout("tcp", addr, 5*time.Second) })
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	h := sha256.New()
	began := time.Now()
	if _, err := io.Copy(io.MultiWriter(c, h), io.LimitReader(rand.NewChaCha8([32]byte{1}), n)); err != nil {
		t.Fatal(err)
	}
	c.Close()
	if sum := <-got; sum != fmt.Sprintf("%x", h.Sum(nil)) {
		t.Errorf("%d bytes arrived as %q, were sent as %x", n, sum, h.Sum(nil))
	}
	t.Logf("%.2f Gbit/s", float64(n)*8/time.Since(began).Seconds()/1e9)
}

func TestAKernelPeerAndAGuestReachEachOther(t *testing.T) {
	nettest.Root(t)
	nettest.Need(t, "ping", "ethtool")
	for _, u := range underlays {
		for _, port := range []uint16{4789, 8472} {
			for _, offload := range []string{"on", "off"} {
				t.Run(fmt.Sprintf("%s/%d/tx %s", u.name, port, offload), func(t *testing.T) {
					na, nk := nettest.New(t, "a"), nettest.New(t, "k")
					nettest.Veth(t, na, "ul", nk, "ul")
					na.Addr("ul", fmt.Sprintf("%s/%d", u.a, u.bits))
					nk.Addr("ul", fmt.Sprintf("%s/%d", u.b, u.bits))
					nk.Exec("ethtool", "-K", "ul", "tx", offload)
					nk.Exec("ip", "link", "add", "vx", "type", "vxlan", "id", "300", "local", u.b, "remote", u.a, "dstport", fmt.Sprint(port))
					nk.Exec("ip", "link", "add", "br0", "type", "bridge")
					nk.Exec("ip", "link", "set", "vx", "master", "br0", "up")
					nk.Exec("ip", "link", "set", "vx", "mtu", fmt.Sprint(1500-encap.Overhead(netip.MustParseAddr(u.a))))
					nk.Exec("ip", "link", "set", "br0", "up")
					nk.Addr("br0", "192.168.100.9/24")
					a := start(t, na, vtep.Config{Local: netip.MustParseAddr(u.a), Port: port})
					s := a.segment(t, vtep.SegmentConfig{VNI: 300, Peers: []netip.Addr{netip.MustParseAddr(u.b)}})
					g := a.guest(t, s, "tk", "192.168.100.1/24")
					g.Exec("ping", "-c", "3", "-i", "0.05", "-W", "2", "192.168.100.9")
					nk.Exec("ping", "-c", "3", "-i", "0.05", "-W", "2", "192.168.100.1")
					carry(t, g, nk, "192.168.100.9:5001", transfer())
					carry(t, nk, g, "192.168.100.1:5001", transfer())
				})
			}
		}
	}
}

func TestANamespaceThatVanishesTakesItsPortDownAndNoOther(t *testing.T) {
	nettest.Root(t)
	nettest.Need(t, "ping")
	na := nettest.New(t, "a")
	na.Addr("lo", "10.9.0.1/32")
	a := start(t, na, vtep.Config{Local: netip.MustParseAddr("10.9.0.1")})
	s := a.segment(t, vtep.SegmentConfig{VNI: 100})
	g1 := a.guest(t, s, "t1", "192.168.100.1/24")
	a.guest(t, s, "t2", "192.168.100.2/24")
	doomed := a.guest(t, s, "t3", "192.168.100.3/24")
	g1.Exec("ping", "-c", "1", "-W", "2", "192.168.100.3")
	doomed.Delete()
	for {
		var states []string
		for _, p := range s.Ports() {
			states = append(states, p.State)
		}
		if strings.Join(states, " ") == "up up down" {
			break
		}
		if t.Context().Err() != nil {
			t.Fatal(states)
		}
	}
	g1.Exec("ping", "-c", "2", "-i", "0.05", "-W", "2", "192.168.100.2")
}
