package daemon_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/uvtep/uvtep/internal/control"
)

func TestWhatIsDamagedIsMovedAsideWhereThatIsAskedForAndNothingElse(t *testing.T) {
	w := newWorld(t)
	w.write(oneSegment)
	d := w.start(w.options())
	lease := must(w.guest("tap1").DHCP(t.Context()))(t)
	must(d.ReserveLease(t.Context(), 100, lease.Address.Addr().Next(), control.Reservation{Hostname: "web1"}))(t)
	if err := d.stop(); err != nil {
		t.Fatal(err)
	}
	state := filepath.Join(w.dir, "state")
	o := w.options()
	o.MoveDamaged = true

	// Sound files stay.
	d = w.start(o)
	if all := must(d.Leases(t.Context(), 100))(t); len(all) != 2 {
		t.Errorf("the leases are %+v", all)
	}
	if err := d.stop(); err != nil {
		t.Fatal(err)
	}
	// Half of the lease store need not lack anything: the database makes its file
	// larger than what it has in use.
	for file, cut := range map[string]func(text []byte) int{
		"leases.db":         func([]byte) int { return 2 * os.Getpagesize() }, // its headers, and nothing else
		"reservations.json": func(text []byte) int { return len(text) / 2 },
	} {
		text, err := os.ReadFile(filepath.Join(state, file))
		if err != nil {
			t.Fatal(err)
		}
		torn := text[:cut(text)]
		if err := os.WriteFile(filepath.Join(state, file), torn, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := w.refuse(w.options()); !strings.Contains(err.Error(), "mv "+filepath.Join(state, file)) || !strings.HasSuffix(err.Error(), "; uvtep run --move-damaged-leases does so") {
			t.Errorf("%s: got %v", file, err)
		}
		if again, err := os.ReadFile(filepath.Join(state, file)); err != nil || len(again) != len(torn) {
			t.Errorf("%s was touched: %d bytes, %v", file, len(again), err)
		}
		d = w.start(o)
		if !strings.Contains(d.log.String(), "moved aside") {
			t.Errorf("the log is\n%s", d.log)
		}
		moved, err := filepath.Glob(filepath.Join(state, file+".damaged-*Z"))
		if err != nil || len(moved) != 1 {
			t.Fatalf("%s: moved to %v, %v", file, moved, err)
		}
		if kept, err := os.ReadFile(moved[0]); err != nil || len(kept) != len(torn) {
			t.Errorf("%s: %d bytes are kept, %v", file, len(kept), err)
		}
		must(w.guest("tap2").DHCP(t.Context()))(t)
		if err := d.stop(); err != nil {
			t.Fatal(err)
		}
		w.nothingLeft()
	}
}
