package daemon_test

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/uvtep/uvtep/internal/control"
)

func TestASocketOfAMachineComesAndGoesAndAReloadLeavesItAlone(t *testing.T) {
	w := newWorld(t)
	path := func(name string) string { return filepath.Join(w.dir, name) }
	one := fmt.Sprintf("segments: [{vni: 100, ports: [{stream: %s, max_macs: 3}]}]\n", path("vm1"))
	w.write(one)
	d := w.start(w.options())
	if p := d.port(t, "vm1"); p.Kind != "stream" || p.State != "down" || p.Queues != 1 || p.VNI != 100 {
		t.Errorf("the port is %+v", p)
	}
	machine, err := net.Dial("unix", path("vm1"))
	if err != nil {
		t.Fatal(err)
	}
	defer machine.Close()
	for deadline := time.Now().Add(10 * time.Second); d.port(t, "vm1").State != "up"; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a machine has connected, and the port is down")
		}
	}
	for _, tc := range []struct {
		what string
		err  error
		kind error
		says string
	}{
		{"twice", d.AddPort(t.Context(), 100, control.NewPort{Stream: "/elsewhere/vm1"}), control.ErrConflict, "segment 100 has a port vm1 already"},
		{"and a TAP", d.AddPort(t.Context(), 100, control.NewPort{TAP: "tap1", Stream: path("vm2")}), control.ErrInvalid, "stream: a port is one of"},
		{"in a bridge", d.AddPort(t.Context(), 100, control.NewPort{Stream: path("vm2"), Bridge: "br0"}), control.ErrInvalid, "bridge: a stream has no interface"},
		{"nowhere", d.AddPort(t.Context(), 100, control.NewPort{Stream: path("none/vm2")}), nil, "mkdir -p " + path("none")},
		{"added", d.AddPort(t.Context(), 100, control.NewPort{Stream: path("vm2")}), nil, ""},
	} {
		switch {
		case tc.says == "" && tc.err != nil,
			tc.kind != nil && !errors.Is(tc.err, tc.kind),
			tc.says != "" && (tc.err == nil || !strings.Contains(tc.err.Error(), tc.says)):
			t.Errorf("%s: got %v, want that it is %v and says %q", tc.what, tc.err, tc.kind, tc.says)
		}
	}
	// Neither a machine that is there nor a socket that waits for one is disturbed.
	w.write(strings.Replace(one, "max_macs: 3", "max_macs: 4", 1))
	must(d.Reload(t.Context()))(t)
	must(d.Reload(t.Context()))(t)
	machine.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	if _, err := machine.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the machine was hung up on: %v", err)
	}
	if p := d.port(t, "vm2"); p.State != "down" || p.Kind != "stream" {
		t.Errorf("the other port is %+v", p)
	}
	// Another socket takes the port's place.
	w.write("segments: [{vni: 100, ports: [{stream: " + path("vm3") + "}]}]\n")
	must(d.Reload(t.Context()))(t)
	if err := d.DeletePort(t.Context(), 100, "vm2"); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"vm1", "vm2"} {
		if _, err := os.Lstat(path(name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still there: %v", name, err)
		}
	}
	if p := d.port(t, "vm3"); p.State != "down" {
		t.Errorf("the new port is %+v", p)
	}
}
