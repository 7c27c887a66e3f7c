package daemon_test

import (
	"context"
	"encoding/json"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"github.com/uvtep/uvtep/internal/control"
)

// heard are the events that a client has heard.
type heard struct {
	mu     sync.Mutex
	events []control.Event
}

// listen hears events of a daemon until the test ends; it returns once it does.
func listen(t *testing.T, d *instance, f control.EventFilter) *heard {
	t.Helper()
	h, begun, done := &heard{}, make(chan struct{}), make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		done <- d.Events(ctx, f, func() { close(begun) }, func(line []byte) error {
			var e control.Event
			if err := json.Unmarshal(line, &e); err != nil {
				return err
			}
			h.mu.Lock()
			defer h.mu.Unlock()
			h.events = append(h.events, e)
			return nil
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the events ended: %v", err)
		}
	})
	select {
	case <-begun:
	case err := <-done:
		done <- nil
		t.Fatalf("no events: %v", err)
	}
	return h
}

// find is the first event of a kind.
func (h *heard) find(kind string) (control.Event, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if i := slices.IndexFunc(h.events, func(e control.Event) bool { return e.Kind == kind }); i >= 0 {
		return h.events[i], true
	}
	return control.Event{}, false
}

func (h *heard) kinds() (out []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range h.events {
		out = append(out, e.Kind)
	}
	return out
}

// await waits for an event of a kind.
func (h *heard) await(t *testing.T, kind string) control.Event {
	t.Helper()
	eventually(t, kind, func() bool { _, ok := h.find(kind); return ok })
	e, _ := h.find(kind)
	if e.Time.IsZero() {
		t.Errorf("%s has no time", kind)
	}
	return e
}

func TestWhatHappensIsHeardAsItHappens(t *testing.T) {
	w := newWorld(t)
	w.write(oneSegment + "  - {vni: 200}\n")
	d := w.start(w.options())
	all, ports, other := listen(t, d, control.EventFilter{}), listen(t, d, control.EventFilter{Kinds: []string{"port"}}), listen(t, d, control.EventFilter{VNI: 200})
	far := netip.MustParseAddr("10.9.0.9")

	g := w.guest("tap1")
	lease := must(g.DHCP(t.Context()))(t)
	e := all.await(t, "lease_bound")
	if e.VNI != 100 || *e.IP != lease.Address.Addr() || e.MAC != g.MAC().String() || e.Port != "tap1" || e.Expires == nil || e.VTEP != nil || e.IAID != nil {
		t.Errorf("bound: %+v", e)
	}
	if err := d.ReleaseLease(t.Context(), 100, lease.Address.Addr()); err != nil {
		t.Fatal(err)
	}
	if e = all.await(t, "lease_released"); *e.IP != lease.Address.Addr() {
		t.Errorf("released: %+v", e)
	}
	for _, err := range []error{
		d.AddPeer(t.Context(), 100, far), d.DeletePeer(t.Context(), 100, far),
		d.AddPort(t.Context(), 200, control.NewPort{TAP: "tap9"}), d.DeletePort(t.Context(), 200, "tap9"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, kind := range []string{"peer_added", "peer_removed"} {
		if e = all.await(t, kind); *e.Dst != far || e.VNI != 100 {
			t.Errorf("%s: %+v", kind, e)
		}
	}
	for _, kind := range []string{"port_up", "port_down"} {
		if e = other.await(t, kind); e.Port != "tap9" || e.VNI != 200 {
			t.Errorf("%s: %+v", kind, e)
		}
	}
	w.vanish("tap2")
	eventually(t, "the port that has vanished", func() bool {
		ports.mu.Lock()
		defer ports.mu.Unlock()
		return slices.ContainsFunc(ports.events, func(e control.Event) bool { return e.Kind == "port_down" && e.Port == "tap2" && e.VNI == 100 })
	})
	w.write("nonsense")
	if _, err := d.Reload(t.Context()); err == nil {
		t.Error("nonsense was loaded")
	}
	w.write(oneSegment)
	must(d.Reload(t.Context()))(t)
	if e = all.await(t, "reload_failed"); e.Detail == "" {
		t.Errorf("refused: %+v", e)
	}
	if e = all.await(t, "reloaded"); !slices.Contains(e.Changes, "segment 200: removed") {
		t.Errorf("reloaded: %+v", e)
	}
	for _, kind := range ports.kinds() {
		if kind != "port_up" && kind != "port_down" {
			t.Errorf("who wants events of ports hears %s", kind)
		}
	}
	other.mu.Lock()
	defer other.mu.Unlock()
	for _, e := range other.events {
		if e.VNI != 200 {
			t.Errorf("who wants events of segment 200 hears %+v", e)
		}
	}
}
