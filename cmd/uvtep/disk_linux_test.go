package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"github.com/uvtep/uvtep/internal/lab/guest"
	"github.com/uvtep/uvtep/internal/nettest"
)

// onSmallDisk is the daemon with a state directory of its own: a tmpfs of 256 KiB.
func (h *host) onSmallDisk() *process {
	h.t.Helper()
	const shell = `mkdir -p "$0" && mount -t tmpfs -o size=256k none "$0" && exec "$@"`
	return h.launchCommand(exec.Command("unshare", "--mount", "sh", "-c", shell, h.state(), program, "run", "-c", h.file)).waitReady()
}

func (h *host) state() string { return filepath.Join(h.dir, "state") }

// fill leaves no room on the disk of a daemon, not even within the lease store:
// pages of it that are free would do for a while. It returns what makes room again.
func (p *process) fill(state string) (empty func()) {
	p.t.Helper()
	dir := fmt.Sprintf("/proc/%d/root%s", p.cmd.Process.Pid, state)
	store, err := os.OpenFile(filepath.Join(dir, "leases.db"), os.O_RDWR, 0)
	if err != nil {
		p.t.Fatal(err)
	}
	defer store.Close()
	copied := filepath.Join(p.t.TempDir(), "copy.db")
	text, err := os.ReadFile(store.Name())
	if err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(copied, text, 0o600); err != nil {
		p.t.Fatal(err)
	}
	db, err := bolt.Open(copied, 0o600, &bolt.Options{ReadOnly: true, PreLoadFreelist: true})
	if err != nil {
		p.t.Fatal(err)
	}
	defer db.Close()
	size := int64(db.Info().PageSize)
	if err := db.View(func(tx *bolt.Tx) error {
		for i := int64(2); i < int64(len(text))/size; i++ {
			page, err := tx.Page(int(i))
			if err != nil {
				return err
			}
			if page != nil && page.Type != "free" {
				continue
			}
			if err := unix.Fallocate(int(store.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, i*size, size); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		p.t.Fatal(err)
	}
	filler := filepath.Join(dir, "filler")
	f, err := os.Create(filler)
	if err != nil {
		p.t.Fatal(err)
	}
	defer f.Close()
	for block := make([]byte, 4096); err == nil; {
		_, err = f.Write(block)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		p.t.Fatal(err)
	}
	return func() {
		if err := os.Remove(filler); err != nil {
			p.t.Fatal(err)
		}
	}
}

// monitor is what "uvtep monitor" prints about a daemon, until the test ends.
func (h *host) monitor(args ...string) *process {
	h.t.Helper()
	p := h.launch(append([]string{"monitor", "--socket", h.socket()}, args...)...)
	return p
}

// kinds are the kinds of the events that were printed, each line of which must
// be JSON.
func (p *process) kinds() (out []string) {
	p.t.Helper()
	for line := range strings.Lines(p.log.String()) {
		if !strings.HasSuffix(line, "\n") {
			break
		}
		var e struct{ Time, Kind string }
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.Time == "" || e.Kind == "" {
			p.t.Fatalf("the line %q: %v", line, err)
		}
		out = append(out, e.Kind)
	}
	return out
}

func (p *process) awaitKind(kind string) {
	p.t.Helper()
	eventually(p.t, "the event "+kind, func() bool { return slices.Contains(p.kinds(), kind) })
}

func TestAFullDiskGivesNoLeasesAndStopsNoFrames(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	a, b := nettest.New(t, "a"), nettest.New(t, "b")
	h.write(fmt.Sprintf(`segments:
  - vni: 100
    ports: [{tap: tapa, netns: %s, rename: eth0}, {tap: tapb, netns: %s, rename: eth0}]
    dhcp: {subnet: 192.168.100.0/24, probe: off}
`, a.Name, b.Name))
	p := h.onSmallDisk()
	first := acquire(t, a, "a")
	b.Addr("eth0", "192.168.100.200/24")
	far := netip.MustParseAddr("192.168.100.200")
	ping(t, a, far)
	m := h.monitor("--kind", "store", "--kind", "lease")
	// It listens once it hears of something.
	eventually(t, "the monitor listens", func() bool {
		acquire(t, a, "a")
		return len(m.kinds()) > 0
	})

	empty := p.fill(h.state())
	failed := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		_, err := guest.Acquire(ctx, b.Name, "eth0", guest.Identity{Hostname: "b"})
		failed <- err
	}()
	m.awaitKind("store_failed")
	for range 3 {
		ping(t, a, far)
	}
	if err := <-failed; err == nil {
		t.Error("somebody was given a lease that no disk has")
	}
	if all := h.show("leases"); len(slices.DeleteFunc(all, func(l map[string]any) bool { return l["state"] != "bound" })) != 1 {
		t.Errorf("the leases are %v", all)
	}
	ping(t, a, far)

	empty()
	if got := acquire(t, b, "b"); got == first {
		t.Errorf("both have %v", got)
	}
	m.awaitKind("store_recovered")
	ping(t, a, far)
	p.stop()
}
