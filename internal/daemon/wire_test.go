package daemon_test

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/uvtep/uvtep/internal/control"
)

// What of the tunnel's header and its paths users see and change.

func TestAnMTUThatTheUnderlayDoesNotCarryIsWarnedOf(t *testing.T) {
	w := newWorld(t)
	w.write("segments: [{vni: 1}, {vni: 2, mtu: 1500, peers: [10.9.0.2, 10.9.0.3]}]\n")
	d := w.start(w.options())
	all := must(d.Segments(t.Context(), 0))(t)
	if all[0].UnderlayMTU != 1450 || len(all[0].Warnings) != 0 || all[0].Warnings == nil || len(all[1].Warnings) != 1 {
		t.Errorf("the segments say %+v", all)
	}
	const want = "the MTU 1500 is more than the underlay carries, 1450"
	if !strings.Contains(all[1].Warnings[0], want) || strings.Count(d.log.String(), want) != 1 {
		t.Errorf("told of %q; the log is\n%s", all[1].Warnings, d.log)
	}
	w.net.SetPathMTU(netip.MustParseAddr("10.9.0.3"), 1400)
	var pmtu []int
	for _, p := range must(d.Peers(t.Context(), 2))(t) {
		pmtu = append(pmtu, p.PMTU)
	}
	if !slices.Equal(pmtu, []int{0, 1400}) {
		t.Errorf("path MTUs %v", pmtu)
	}
}

func TestGroupPolicyChangesWhileAPortStays(t *testing.T) {
	w := newWorld(t)
	write := func(gbp bool, port string) {
		w.writeAs(fmt.Sprintf("underlay: {local: %v, gbp: %v}\nworkers: 1\nstate: %s\napi: {socket: %s, http: \"\"}\nsegments: [{vni: 100, ports: [{%s}]}]\n",
			local, gbp, filepath.Join(w.dir, "state"), w.socket(), port))
	}
	write(true, "tap: tap1, gbp: 7, gbp_allow: [8, 7]")
	d := w.start(w.options())
	expect := func(name string, gbp uint16, allow []uint16) {
		t.Helper()
		if p := d.port(t, name); p.GBP != gbp || !slices.Equal(p.GBPAllow, allow) || (p.GBPAllow == nil) != (allow == nil) {
			t.Errorf("%s is of group %d and for %v, want %d and %v", name, p.GBP, p.GBPAllow, gbp, allow)
		}
	}
	expect("tap1", 7, []uint16{7, 8})
	opens := w.opened("tap1")
	write(true, "tap: tap1, gbp: 9")
	must(d.Reload(t.Context()))(t)
	expect("tap1", 9, nil)
	if n := w.opened("tap1"); n != opens {
		t.Errorf("it was opened %d times more", n-opens)
	}
	if err := d.AddPort(t.Context(), 100, control.NewPort{TAP: "tap2", GBP: 5, GBPAllow: []uint16{0}}); err != nil {
		t.Fatal(err)
	}
	expect("tap2", 5, []uint16{0})
	write(false, "tap: tap1")
	if _, err := d.Reload(t.Context()); !errors.Is(err, control.ErrConflict) || !strings.Contains(err.Error(), "underlay.gbp: cannot change while running") {
		t.Errorf("got %v", err)
	}

	plain := newWorld(t)
	plain.write("segments: [{vni: 100}]\n")
	p := plain.start(plain.options())
	if err := p.AddPort(t.Context(), 100, control.NewPort{TAP: "tap2", GBP: 5}); !errors.Is(err, control.ErrInvalid) || !strings.Contains(err.Error(), "underlay.gbp") {
		t.Errorf("got %v", err)
	}
}
