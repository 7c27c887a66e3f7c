package vteptest

import (
	"context"
	"sync"
	"testing"

	"github.com/uvtep/uvtep/dhcpd"
	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/vtep"
)

// Host is a VTEP that runs until its test ends.
type Host struct {
	*vtep.VTEP
	net *Network
}

// NewHost makes a VTEP and runs it, and the DHCP service in cfg with it; without
// one in there it gets one whose leases are in memory. cfg is Config's, and the
// caller's changes. What fails ends the test.
func (n *Network) NewHost(t testing.TB, cfg vtep.Config) *Host {
	t.Helper()
	if cfg.DHCP == nil {
		svc, err := dhcpd.NewService(dhcpd.Config{Store: dhcpd.MemoryStore(), Logger: cfg.Logger, Clock: cfg.Clock})
		if err != nil {
			t.Fatal(err)
		}
		cfg.DHCP = svc
	}
	v, err := vtep.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for _, run := range []func(context.Context) error{cfg.DHCP.Run, v.Run} {
		running.Go(func() {
			if err := run(ctx); err != nil {
				t.Errorf("VTEP %v: %v", v.Local(), err)
			}
		})
	}
	t.Cleanup(func() {
		cancel()
		running.Wait()
		if err := v.Close(); err != nil {
			t.Errorf("VTEP %v: %v", v.Local(), err)
		}
	})
	return &Host{VTEP: v, net: n}
}

// NewSegment adds a segment.
func (h *Host) NewSegment(t testing.TB, cfg vtep.SegmentConfig) *vtep.Segment {
	t.Helper()
	s, err := h.AddSegment(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// NewGuest attaches a port to the segment and plugs a guest into it.
func (h *Host) NewGuest(t testing.TB, vni encap.VNI, port vtep.PortConfig) *Guest {
	t.Helper()
	s, ok := h.Segment(vni)
	if !ok {
		t.Fatalf("guest at %s: VTEP %v has no segment %v", port.Name, h.Local(), vni)
	}
	if _, err := s.AttachPort(port); err != nil {
		t.Fatal(err)
	}
	g, err := h.net.NewGuest(t.Context(), h.Local(), port.Name)
	if err != nil {
		t.Fatal(err)
	}
	return g
}
