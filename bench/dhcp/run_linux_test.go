package dhcp

import (
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/uvtep/uvtep/internal/nettest"
)

// A trial with the real programs, as short as perfdhcp can be.
func TestATrialHasAServerAnswer(t *testing.T) {
	nettest.Root(t)
	nettest.Need(t, "perfdhcp")
	dir := t.TempDir()
	binary := filepath.Join(dir, "uvtep")
	if err := nettest.Build(dir); err != nil {
		t.Fatal(err)
	}
	o := Options{Binary: binary, Time: 1e9}
	if err := o.fill(); err != nil {
		t.Fatal(err)
	}
	r := &run{o: o, generator: "perfdhcp", dir: dir}
	for _, s := range systems {
		if s.name == "uvtep-probe" || s.name == "kea-persist" {
			continue // as the one before
		}
		if s.program != "" {
			if _, err := exec.LookPath(s.program); err != nil {
				t.Logf("%s is left out: %v", s.title, err)
				continue
			}
		}
		tr, rss, err := r.trial(t.Context(), s.name, 50, true)
		if err != nil {
			t.Errorf("%s: %v", s.title, err)
			continue
		}
		// A machine that has other things to do answers some too late.
		if tr.Begun < 20 || tr.ACKs < tr.Begun/2 || len(tr.acks) < int(tr.Begun/2) || rss < 1<<20 {
			t.Errorf("%s: %+v, %d times, %d bytes", s.title, tr, len(tr.acks), rss)
		}
	}
	left, err := filepath.Glob(filepath.Join(dir, "trial-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("files are left: %v, %v", left, err)
	}
}
