package daemon_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/uvtep/uvtep/internal/control"
)

// What changes while a daemon runs, without a reload.

func TestPortsComeAndGoWhileRunning(t *testing.T) {
	w := newWorld(t)
	w.write(oneSegment + "  - {vni: 200}\n")
	d := w.start(w.options())
	a := w.guest("tap1")
	must(a.DHCP(t.Context()))(t)
	mac := a.MAC() + 1
	if err := d.AddPort(t.Context(), 100, control.NewPort{TAP: "tap3", NetNS: "guest", Rename: "eth0", MAC: &mac, Bridge: "br0", Isolated: true}); err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	cfg := w.devices["tap3"].cfg
	w.mu.Unlock()
	if cfg.NetNS != "guest" || cfg.Rename != "eth0" || cfg.Bridge != "br0" || cfg.MAC.String() != mac.String() || cfg.MTU != 1450 {
		t.Errorf("it was opened as %+v", cfg)
	}
	b := w.guest("tap3")
	must(b.DHCP(t.Context()))(t)
	if err := b.Ping(t.Context(), a.IP()); err != nil {
		t.Error(err)
	}
	if p := d.port(t, "tap3"); p.State != "up" || !p.Isolated || p.VNI != 100 {
		t.Errorf("the port is %+v", p)
	}
	for _, tc := range []struct {
		what string
		err  error
		kind error
		says string
	}{
		{"twice", d.AddPort(t.Context(), 100, control.NewPort{TAP: "tap3"}), control.ErrConflict, "segment 100 has a port tap3 already"},
		{"in another segment", d.AddPort(t.Context(), 200, control.NewPort{TAP: "tap3"}), control.ErrConflict, "segment 100 has a port tap3 already"},
		{"in none", d.AddPort(t.Context(), 300, control.NewPort{TAP: "tap9"}), control.ErrNotFound, "no segment 300"},
		{"without a name", d.AddPort(t.Context(), 100, control.NewPort{}), control.ErrInvalid, "one of tap, stream, nic is needed"},
		{"with an impossible name", d.AddPort(t.Context(), 100, control.NewPort{TAP: "a/b"}), control.ErrInvalid, "tap: "},
		{"at a relative path", d.AddPort(t.Context(), 100, control.NewPort{TAP: "tap9", NetNS: "a/b"}), control.ErrInvalid, "netns: "},
		{"gone before", d.DeletePort(t.Context(), 200, "tap3"), control.ErrNotFound, "segment 200 has no port tap3"},
	} {
		if !errors.Is(tc.err, tc.kind) || !strings.Contains(tc.err.Error(), tc.says) {
			t.Errorf("%s: got %v, want that it is %q and says %q", tc.what, tc.err, tc.kind, tc.says)
		}
	}
	if err := d.DeletePort(t.Context(), 100, "tap3"); err != nil {
		t.Error(err)
	}
	if p := d.port(t, "tap3"); p.Name != "" {
		t.Errorf("the port is %+v", p)
	}
	if err := d.DeletePort(t.Context(), 100, "tap3"); !errors.Is(err, control.ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

func TestAReloadKnowsThePortsThatCameWhileRunning(t *testing.T) {
	w := newWorld(t)
	add := func(d *instance, vni uint32, tap string) {
		t.Helper()
		if err := d.AddPort(t.Context(), must(d.Segments(t.Context(), 0))(t)[vni].VNI, control.NewPort{TAP: tap}); err != nil {
			t.Fatal(err)
		}
	}
	const two = "segments: [{vni: 100, ports: [{tap: tap1}]}, {vni: 200}]\n"
	w.write(two)
	d := w.start(w.options())
	add(d, 0, "tap2")
	add(d, 0, "tap3")
	add(d, 0, "tap4")
	add(d, 1, "tap5")
	reload := func(body string, ports ...string) {
		t.Helper()
		w.write(body)
		must(d.Reload(t.Context()))(t)
		var got []string
		for _, p := range must(d.Ports(t.Context(), 0))(t) {
			got = append(got, fmt.Sprint(p.VNI, " ", p.Name, " ", p.State))
		}
		slices.Sort(got)
		if diff := cmp.Diff(ports, got); diff != "" {
			t.Errorf("%s-want +got:\n%s", body, diff)
		}
	}
	reload(two, "100 tap1 up", "100 tap2 up", "100 tap3 up", "100 tap4 up", "200 tap5 up")
	// One is listed as it is, one differently, one elsewhere.
	const listed = "segments: [{vni: 100, ports: [{tap: tap1}, {tap: tap2}, {tap: tap3, isolated: true}]}, {vni: 200, ports: [{tap: tap4}]}]\n"
	reload(listed, "100 tap1 up", "100 tap2 up", "100 tap3 up", "200 tap4 up", "200 tap5 up")
	if w.opened("tap2") != 1 || w.opened("tap3") != 2 || w.opened("tap4") != 2 || w.opened("tap5") != 1 {
		t.Errorf("opened: %v", w.opens)
	}
	// From now on they are the configuration's.
	reload(two, "100 tap1 up", "200 tap5 up")
	// A listed port that was taken away comes back.
	if err := d.DeletePort(t.Context(), 100, "tap1"); err != nil {
		t.Error(err)
	}
	reload(two, "100 tap1 up", "200 tap5 up")
	// So does not one that is listed no more.
	if err := d.DeletePort(t.Context(), 100, "tap1"); err != nil {
		t.Error(err)
	}
	reload("segments: [{vni: 100}, {vni: 200}]\n", "200 tap5 up")
	// A name is free for another segment when its own one goes.
	reload("segments: [{vni: 100, ports: [{tap: tap5}]}]\n", "100 tap5 up")
}

func TestSegmentsComeAndGoWhileRunning(t *testing.T) {
	w := newWorld(t)
	w.write(oneSegment)
	d := w.start(w.options())
	ctx := t.Context()
	if err := d.AddSegment(ctx, 200, control.NewSegment{Name: "red", MTU: 1400, Peers: []string{"10.9.0.7", "10.9.0.8"}, Group: "239.1.1.9", DHCP: "192.168.200.0/24"}); err != nil {
		t.Fatal(err)
	}
	if err := d.AddPort(ctx, 200, control.NewPort{TAP: "tap7"}); err != nil {
		t.Fatal(err)
	}
	s := must(d.Segments(ctx, 200))(t)[0]
	if s.Name != "red" || s.MTU != 1400 || len(s.Peers) != 2 || s.Group == nil || s.DHCP == nil || !s.Learning || len(s.Ports) != 1 {
		t.Errorf("the segment is %+v", s)
	}
	a := w.guest("tap7")
	must(a.DHCP(ctx))(t)
	for _, tc := range []struct {
		what string
		err  error
		kind error
		says string
	}{
		{"twice", d.AddSegment(ctx, 200, control.NewSegment{}), control.ErrConflict, "segment 200 is there already"},
		{"one of the configuration", d.AddSegment(ctx, 100, control.NewSegment{}), control.ErrConflict, "segment 100 is there already"},
		{"with another's name", d.AddSegment(ctx, 300, control.NewSegment{Name: "red"}), control.ErrConflict, "segment 200 is called red already"},
		{"with no name", d.AddSegment(ctx, 300, control.NewSegment{Name: "a b"}), control.ErrInvalid, `name: "a b" is not a name`},
		{"to itself", d.AddSegment(ctx, 300, control.NewSegment{Peers: []string{"10.9.0.2", local.String()}}), control.ErrInvalid, "peers[1]: "},
		{"with half a subnet", d.AddSegment(ctx, 300, control.NewSegment{DHCP: "10.0.0.0"}), control.ErrInvalid, "dhcp.subnet: "},
		{"gone before", d.DeleteSegment(ctx, 300), control.ErrNotFound, "no segment 300"},
	} {
		if !errors.Is(tc.err, tc.kind) || !strings.Contains(tc.err.Error(), tc.says) {
			t.Errorf("%s: got %v, want that it is %q and says %q", tc.what, tc.err, tc.kind, tc.says)
		}
	}
	if err := d.DeleteSegment(ctx, 200); err != nil {
		t.Error(err)
	}
	if all := must(d.Segments(ctx, 0))(t); len(all) != 1 {
		t.Errorf("there are %+v", all)
	}
}

func TestAReloadKnowsTheSegmentsThatCameAndWentWhileRunning(t *testing.T) {
	w := newWorld(t)
	const one = "segments: [{vni: 100, ports: [{tap: tap1}]}]\n"
	w.write(one)
	d := w.start(w.options())
	ctx := t.Context()
	do := func(errs ...error) {
		t.Helper()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
	}
	reload := func(body string, changes, segments []string) {
		t.Helper()
		w.write(body)
		if diff := cmp.Diff(changes, must(d.Reload(ctx))(t).Changes, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%schanges -want +got:\n%s", body, diff)
		}
		var got []string
		for _, s := range must(d.Segments(ctx, 0))(t) {
			got = append(got, fmt.Sprint(s.VNI, " ", s.Name, " ", s.Ports))
		}
		if diff := cmp.Diff(segments, got); diff != "" {
			t.Errorf("%ssegments -want +got:\n%s", body, diff)
		}
	}
	do(d.AddSegment(ctx, 200, control.NewSegment{}), d.AddSegment(ctx, 300, control.NewSegment{}),
		d.AddPort(ctx, 200, control.NewPort{TAP: "tap2"}), d.AddPort(ctx, 300, control.NewPort{TAP: "tap3"}))
	reload(one, nil, []string{"100 vni100 [tap1]", "200 vni200 [tap2]", "300 vni300 [tap3]"})
	// One comes to be listed, and what was added to it stays.
	reload("segments: [{vni: 100, ports: [{tap: tap1}]}, {vni: 200, name: red, ports: [{tap: tap4}]}]\n", []string{"segment 200: name, ports"},
		[]string{"100 vni100 [tap1]", "200 red [tap2 tap4]", "300 vni300 [tap3]"})
	// From now on it is the configuration's.
	reload(one, []string{"segment 200: removed"}, []string{"100 vni100 [tap1]", "300 vni300 [tap3]"})
	// A listed one that was taken away comes back, also where it was added in the
	// meantime as something else.
	do(d.DeleteSegment(ctx, 100))
	reload(one, []string{"segment 100: added"}, []string{"100 vni100 [tap1]", "300 vni300 [tap3]"})
	do(d.DeleteSegment(ctx, 100), d.AddSegment(ctx, 100, control.NewSegment{Name: "else"}))
	reload(one, []string{"segment 100: name, ports"}, []string{"100 vni100 [tap1]", "300 vni300 [tap3]"})
	do(d.DeleteSegment(ctx, 100), d.AddSegment(ctx, 100, control.NewSegment{}))
	reload(one, []string{"segment 100: port tap1 opened again"}, []string{"100 vni100 [tap1]", "300 vni300 [tap3]"})
	// Not so one that is listed no more.
	do(d.DeleteSegment(ctx, 100), d.DeleteSegment(ctx, 300))
	reload("segments: [{vni: 400, ports: [{tap: tap3}]}]\n", []string{"segment 400: added"}, []string{"400 vni400 [tap3]"})
	if w.opened("tap2") != 1 {
		t.Errorf("opened: %v", w.opens)
	}
}

func TestPeersAndEntriesChangeWhileRunning(t *testing.T) {
	w := newWorld(t)
	w.write(oneSegment)
	d := w.start(w.options())
	ctx, far := t.Context(), netip.MustParseAddr("10.9.0.9")
	for _, err := range []error{
		d.AddPeer(ctx, 100, far),
		d.DeletePeer(ctx, 100, netip.MustParseAddr("10.9.0.2")),
		d.AddFDB(ctx, 100, 0x020000000077, control.StaticTarget{Dst: &far}),
		d.AddFDB(ctx, 100, 0x020000000078, control.StaticTarget{Port: "tap1"}),
		d.AddFDB(ctx, 100, 0x020000000079, control.StaticTarget{Port: "tap2"}),
		d.DeleteFDB(ctx, 100, 0x020000000079),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	if peers := must(d.Peers(ctx, 100))(t); len(peers) != 1 || peers[0].Dst != far || peers[0].Origin != "api" || !peers[0].Replicate {
		t.Errorf("the peers are %+v", peers)
	}
	var entries []string
	for _, e := range must(d.FDB(ctx, 100))(t) {
		switch {
		case e.Dst != nil:
			entries = append(entries, fmt.Sprint(e.MAC, " ", e.State, " ", *e.Dst))
		case e.Ifname != nil:
			entries = append(entries, fmt.Sprint(e.MAC, " ", e.State, " ", *e.Ifname))
		default:
			entries = append(entries, e.State)
		}
	}
	slices.Sort(entries)
	if diff := cmp.Diff([]string{"02:00:00:00:00:77 static 10.9.0.9", "02:00:00:00:00:78 static tap1", "self"}, entries); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if n := must(d.FlushFDB(ctx, 100))(t); n != 0 {
		t.Errorf("%d learned entries were flushed", n)
	}
}
