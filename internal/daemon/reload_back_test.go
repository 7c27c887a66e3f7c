package daemon_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/control"
)

func TestAPortThatHasVanishedIsOpenedAgainByAReload(t *testing.T) {
	t.Run("listed", func(t *testing.T) {
		w := newWorld(t)
		w.write(oneSegment)
		vanishes(t, w, w.start(w.options()))
	})
	t.Run("added while running", func(t *testing.T) {
		w := newWorld(t)
		w.write(strings.Replace(oneSegment, ", {tap: tap2}", "", 1))
		d := w.start(w.options())
		if err := d.AddPort(t.Context(), 100, control.NewPort{TAP: "tap2"}); err != nil {
			t.Fatal(err)
		}
		vanishes(t, w, d)
	})
}

func vanishes(t *testing.T, w *world, d *instance) {
	t.Helper()
	a := w.guest("tap1")
	must(a.DHCP(t.Context()))(t)
	w.vanish("tap2")
	eventually(t, "the port is down", func() bool { return d.port(t, "tap2").State == "down" })
	if d.port(t, "tap1").State != "up" {
		t.Error("the other port is down too")
	}

	// What it was in is not there yet.
	w.fail(func(what string) error {
		if what == "open tap2" {
			return errors.New("no such network namespace")
		}
		return nil
	})
	if done := must(d.Reload(t.Context()))(t); len(done.Changes) != 0 {
		t.Errorf("it says %q", done.Changes)
	}
	if d.port(t, "tap2").State != "down" || !strings.Contains(d.log.String(), `msg="a port stays down"`) {
		t.Errorf("the port is %+v, the log\n%s", d.port(t, "tap2"), d.log)
	}

	// In memory a vanished device keeps its name until it is closed, which the
	// kernel's does not.
	w.fail(func(what string) error {
		if what == "open tap2" {
			w.mu.Lock()
			gone := w.devices["tap2"]
			w.mu.Unlock()
			return gone.Close()
		}
		return nil
	})
	done := must(d.Reload(t.Context()))(t)
	if diff := cmp.Diff([]string{"segment 100: port tap2 opened again"}, done.Changes); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	b := w.guest("tap2")
	must(b.DHCP(t.Context()))(t)
	if err := b.Ping(t.Context(), a.IP()); err != nil {
		t.Error(err)
	}
}

func TestWhatIsListedAndWasTakenAwayIsBackAfterAReload(t *testing.T) {
	w := newWorld(t)
	w.write(before)
	d := w.start(w.options())
	was := d.state(t)
	mac := func(s string) fdb.MAC {
		m, err := fdb.ParseMAC(s)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	remote, local := mac("02:00:00:00:00:99"), mac("02:00:00:00:00:98")
	for _, err := range []error{
		d.DeletePeer(t.Context(), 100, netip.MustParseAddr("10.9.0.2")),
		d.DeletePeer(t.Context(), 100, netip.MustParseAddr("10.9.0.4")), // with the entry that names it
		d.DeleteFDB(t.Context(), 100, local),
		d.DeletePort(t.Context(), 100, "tap2"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	// A reload that fails brings nothing back.
	gone := d.state(t)
	w.write(before + "  - {vni: 500, ports: [{tap: tap9}]}\n")
	w.fail(func(what string) error {
		if what == "open tap9" {
			return errors.New("it is broken")
		}
		return nil
	})
	if _, err := d.Reload(t.Context()); err == nil {
		t.Fatal("it was reloaded")
	}
	w.fail(nil)
	if diff := cmp.Diff(gone, d.state(t)); diff != "" {
		t.Errorf("a failed reload: -before +after:\n%s", diff)
	}
	w.write(before)
	done := must(d.Reload(t.Context()))(t)
	if diff := cmp.Diff([]string{
		"segment 100: port tap2 opened again", "segment 100: peer 10.9.0.2 added again",
		"segment 100: static entry " + remote.String() + " added again", "segment 100: static entry " + local.String() + " added again",
	}, done.Changes); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if diff := cmp.Diff(was, d.state(t)); diff != "" {
		t.Errorf("-before +after:\n%s", diff)
	}
	if done := must(d.Reload(t.Context()))(t); len(done.Changes) != 0 {
		t.Errorf("nothing is missing, and it says %q", done.Changes)
	}
}

func TestAPortThatAFailedReloadLostIsBackAfterTheNext(t *testing.T) {
	w := newWorld(t)
	w.write("segments: [{vni: 100, ports: [{tap: tap1}]}]\n")
	d := w.start(w.options())
	w.write("segments: [{vni: 100, ports: [{tap: tap1, netns: x}]}]\n")
	w.fail(func(what string) error {
		if what == "open tap1" {
			return errors.New("it is broken") // also when it is to be put back
		}
		return nil
	})
	if _, err := d.Reload(t.Context()); err == nil {
		t.Fatal("it was reloaded")
	}
	if d.port(t, "tap1").Name != "" || !strings.Contains(d.log.String(), "could not be undone in full") {
		t.Errorf("the log is\n%s", d.log)
	}
	w.fail(nil)
	w.write("segments: [{vni: 100, ports: [{tap: tap1}]}]\n")
	if done := must(d.Reload(t.Context()))(t); len(done.Changes) != 1 || d.port(t, "tap1").State != "up" {
		t.Errorf("it says %q, the port is %+v", done.Changes, d.port(t, "tap1"))
	}
}
