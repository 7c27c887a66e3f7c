package vtep_test

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/uvtep/uvtep/internal/nettest"
	"github.com/uvtep/uvtep/vtep"
)

// flood keeps sending frames of all kinds from a guest, its own address in them,
// until the function that it returns is called; a guest whose interface vanishes
// is no error.
func flood(t *testing.T, g *nettest.NS, own, other net.HardwareAddr) (stop func()) {
	t.Helper()
	out := nettest.Inject(t, g, "eth0")
	ending, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		frames := [][]byte{plainFrame(all, own, "<flood>"), plainFrame(other, own, "<flood>"), plainFrame(macX, own, "<flood>"), plainFrame(mdns, own, "<flood>")}
		for i := 0; ; i++ {
			select {
			case <-ending:
				return
			default:
				out.TrySend(frames[i%len(frames)])
			}
		}
	}()
	return func() { close(ending); <-ended }
}

func TestAVTEPThatIsRestartedUnderLoadLeavesNothingBehind(t *testing.T) {
	nettest.Root(t)
	rounds := 6
	if testing.Short() {
		rounds = 3
	}
	eachFamily(t, func(t *testing.T, base vtep.Config, u family) {
		na, nb := cable(t, u)
		// One of the TAPs was there before, and stays as it was.
		na.Exec("ip", "tuntap", "add", "kept", "mode", "tap")
		ga, gk, gb := nettest.New(t, "ga"), nettest.New(t, "gk"), nettest.New(t, "gb")
		base.Accept = vtep.AcceptAny
		segment := func(h *host, peer netip.Addr) *vtep.Segment {
			return h.segment(t, vtep.SegmentConfig{VNI: 100, Peers: []netip.Addr{peer}, Group: u.group})
		}
		base.Local = u.b
		b := start(t, nb, base)
		sb := segment(b, u.a)
		b.attach(t, sb, gb, vtep.PortConfig{Name: "tb", MAC: mac3})
		defer flood(t, gb, mac3, mac1)() // over all of the restarts

		base.Local = u.a
		var open, goroutines int
		for i := range rounds {
			a := start(t, na, base)
			sa := segment(a, u.b)
			a.attach(t, sa, ga, vtep.PortConfig{Name: "ta", MAC: mac1})
			a.attach(t, sa, gk, vtep.PortConfig{Name: "kept", MAC: mac2})
			stop := flood(t, ga, mac1, mac3)
			// It is at work in both directions.
			eventually(t, "frames go both ways", func() bool {
				p := sa.Peers()
				return len(p) > 0 && p[0].RxPackets > 1000 && p[0].TxPackets > 1000
			})
			switch i % 3 {
			case 1: // a port goes first
				if err := sa.DetachPort("ta"); err != nil {
					t.Error(err)
				}
			case 2: // the segment goes first
				if err := a.v.RemoveSegment(100); err != nil {
					t.Error(err)
				}
			}
			a.stop()
			stop()
			if l := na.Links(); !slices.Equal(l, []string{"kept", "ul"}) {
				t.Errorf("round %d: links of the host: %q", i, l)
			}
			if l := slices.Concat(ga.Links(), gk.Links()); len(l) != 0 {
				t.Errorf("round %d: links of the guests: %q", i, l)
			}
			if s := na.Exec("ss", "-Huan"); s != "" {
				t.Errorf("round %d: sockets are left:\n%s", i, s)
			}
			if i == 0 {
				open, goroutines = descriptors(t), runtime.NumGoroutine()
				continue
			}
			// What ends may take a moment to have ended; the flood's own
			// descriptors are closed with the test.
			eventually(t, fmt.Sprintf("no more descriptors than %d and goroutines than %d, as after the first round", open, goroutines), func() bool {
				return descriptors(t) <= open+i && runtime.NumGoroutine() <= goroutines
			})
		}
	})
}

// descriptors is how many files the process has open.
func descriptors(t *testing.T) int {
	t.Helper()
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

func TestAConnectionOutlivesARestartOfTheSwitch(t *testing.T) {
	nettest.Root(t)
	eachSetting(t, func(t *testing.T, base vtep.Config) {
		u := families[0]
		na, nb := cable(t, u)
		ga, gb := nettest.New(t, "ga"), nettest.New(t, "gb")
		bring := func(ns *nettest.NS, g *nettest.NS, local, peer netip.Addr, name string, mac net.HardwareAddr, addr string) *host {
			base.Local = local
			h := start(t, ns, base)
			h.attach(t, h.segment(t, vtep.SegmentConfig{VNI: 100, Peers: []netip.Addr{peer}}), g, vtep.PortConfig{Name: name, MAC: mac})
			g.Addr("eth0", addr)
			return h
		}
		bring(nb, gb, u.b, u.a, "tb", mac3, "192.168.100.2/24")
		a := bring(na, ga, u.a, u.b, "ta", mac1, "192.168.100.1/24")
		l := listen(t, gb, "192.168.100.2")
		defer l.Close()
		c := dial(t, ga, l.Addr().String())
		defer c.Close()
		s, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		for i := range 3 {
			if i > 0 {
				a.stop()
				a = bring(na, ga, u.a, u.b, "ta", mac1, "192.168.100.1/24")
			}
			said := fmt.Sprintf("round %d", i)
			if _, err := s.Write([]byte(said)); err != nil {
				t.Fatal(err)
			}
			buf := make([]byte, 64)
			c.SetReadDeadline(time.Now().Add(20 * time.Second))
			n, err := c.Read(buf)
			if err != nil || string(buf[:n]) != said {
				t.Fatalf("%q arrived, want %q: %v", buf[:n], said, err)
			}
		}
	})
}
