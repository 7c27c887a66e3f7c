package daemon_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/uvtep/uvtep/internal/control"
	"github.com/uvtep/uvtep/internal/daemon"
	"github.com/uvtep/uvtep/internal/nettest"
	"github.com/uvtep/uvtep/internal/observe"
	"github.com/uvtep/uvtep/internal/tap"
	"github.com/uvtep/uvtep/internal/underlay"
	"github.com/uvtep/uvtep/vtep/vteptest"
)

var local = netip.MustParseAddr("10.9.0.1")

// world is what a daemon under test runs in: a network in memory, and files in
// a directory of the test's own.
type world struct {
	t    *testing.T
	net  *vteptest.Network
	dir  string
	file string // the configuration

	mu      sync.Mutex
	devices map[string]*device // open ones
	groups  map[netip.Addr]int // joined, how often
	opens   map[string]int     // by TAP, how often
	step    func(what string) error
}

func newWorld(t *testing.T) *world {
	dir := t.TempDir()
	return &world{
		t: t, net: vteptest.NewNetwork(), dir: dir, file: filepath.Join(dir, "uvtep.yaml"),
		devices: map[string]*device{}, groups: map[netip.Addr]int{}, opens: map[string]int{},
	}
}

// socket is the control socket of every daemon of the world that has no other.
func (w *world) socket() string { return filepath.Join(w.dir, "run", "uvtep.sock") }

// write makes body, the part of the configuration that tests are about, the
// whole of it.
func (w *world) write(body string) {
	w.t.Helper()
	w.writeAs(fmt.Sprintf("underlay: {local: %v, accept: any}\nworkers: 1\nstate: %s\napi: {socket: %s, http: \"\"}\n%s",
		local, filepath.Join(w.dir, "state"), w.socket(), body))
}

func (w *world) writeAs(text string) {
	w.t.Helper()
	if err := os.WriteFile(w.file, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// fail calls f before everything that the daemon asks of the operating system;
// where f returns an error, it is not done.
func (w *world) fail(f func(what string) error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.step = f
}

func (w *world) take(what string) error {
	w.mu.Lock()
	step := w.step
	w.mu.Unlock()
	if step == nil {
		return nil
	}
	return step(what)
}

// device is a TAP device that notes what becomes of it.
type device struct {
	tap.Device
	w   *world
	cfg tap.Config
	mtu int
}

func (d *device) SetMTU(mtu int) error {
	if err := d.w.take("set the MTU of " + d.cfg.Name); err != nil {
		return err
	}
	d.w.mu.Lock()
	defer d.w.mu.Unlock()
	d.mtu = mtu
	return d.Device.SetMTU(mtu)
}

func (d *device) Close() error {
	d.w.mu.Lock()
	defer d.w.mu.Unlock()
	if d.w.devices[d.cfg.Name] == d {
		delete(d.w.devices, d.cfg.Name)
	}
	return d.Device.Close()
}

// vanish makes an open device go, as the end of its namespace does.
func (w *world) vanish(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.devices[name].Device.(interface{ Vanish() }).Vanish()
}

// opened is how often a TAP was opened.
func (w *world) opened(name string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.opens[name]
}

// endpoint is an underlay that notes its groups.
type endpoint struct {
	underlay.Endpoint
	w *world
}

func (e *endpoint) Join(g netip.Addr, device string) (*underlay.Remote, error) {
	if err := e.w.take("join " + g.String()); err != nil {
		return nil, err
	}
	e.w.mu.Lock()
	defer e.w.mu.Unlock()
	e.w.groups[g]++
	return e.Endpoint.Join(g, device)
}

func (e *endpoint) Leave(g netip.Addr, device string) error {
	e.w.mu.Lock()
	defer e.w.mu.Unlock()
	if e.w.groups[g]--; e.w.groups[g] == 0 {
		delete(e.w.groups, g)
	}
	return e.Endpoint.Leave(g, device)
}

// options are those of a daemon of this world.
func (w *world) options() daemon.Options {
	doubles := w.net.Config(local)
	return daemon.Options{
		ConfigPath: w.file,
		Build:      observe.Build{Version: "1.2.3"},
		OpenTAP: func(c tap.Config) (tap.Device, error) {
			if err := w.take("open " + c.Name); err != nil {
				return nil, err
			}
			inner, err := doubles.OpenTAP(c)
			if err != nil {
				return nil, err
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			d := &device{Device: inner, w: w, cfg: c, mtu: c.MTU}
			w.devices[c.Name] = d
			w.opens[c.Name]++
			return d, nil
		},
		OpenUnderlay: func(c underlay.Config) (underlay.Endpoint, error) {
			if err := w.take("open the underlay"); err != nil {
				return nil, err
			}
			inner, err := doubles.OpenUnderlay(c)
			if err != nil {
				return nil, err
			}
			return &endpoint{inner, w}, nil
		},
	}
}

// instance is a daemon that runs.
type instance struct {
	*control.Client
	w    *world
	log  *nettest.Log
	stop func() error // cancels it and returns what Run returned
}

// start runs a daemon until the test ends, and waits for it to be ready.
func (w *world) start(o daemon.Options) *instance {
	w.t.Helper()
	log := &nettest.Log{}
	o.Logger = logger(log)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- daemon.Run(ctx, o) }()
	d := &instance{Client: control.NewClient(w.socket()), w: w, log: log}
	d.stop = sync.OnceValue(func() error { cancel(); return <-done })
	w.t.Cleanup(func() {
		if err := d.stop(); err != nil {
			w.t.Error(err)
		}
	})
	select {
	case <-log.Wrote("msg=ready "):
	case err := <-done:
		done <- err
		w.t.Fatalf("the daemon ended: %v\n%s", err, log)
	}
	return d
}

// refuse runs a daemon that cannot start, and returns why.
func (w *world) refuse(o daemon.Options) error {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	log := &nettest.Log{}
	o.Logger = logger(log)
	go func() {
		select {
		case <-log.Wrote("msg=ready "):
			cancel()
		case <-ctx.Done():
		}
	}()
	err := daemon.Run(ctx, o)
	if err == nil {
		w.t.Fatalf("it started:\n%s", log)
	}
	if strings.Contains(err.Error(), "\n") {
		w.t.Errorf("the error is not one line: %q", err)
	}
	return err
}

// leftovers are the TAPs, groups, addresses and sockets of this world.
func (w *world) leftovers() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	left := slices.Sorted(maps.Keys(w.devices))
	for g := range w.groups {
		left = append(left, g.String())
	}
	if _, err := os.Lstat(w.socket()); !errors.Is(err, os.ErrNotExist) {
		left = append(left, w.socket())
	}
	// Nobody else can open the underlay while a daemon has it.
	if ep, err := w.net.Config(local).OpenUnderlay(underlay.Config{Local: local, Port: 4789, Queues: 1}); err != nil {
		left = append(left, err.Error())
	} else if err := ep.Close(); err != nil {
		left = append(left, err.Error())
	}
	return left
}

func (w *world) nothingLeft() {
	w.t.Helper()
	if left := w.leftovers(); len(left) > 0 {
		w.t.Errorf("left behind: %v", left)
	}
}

// guest plugs a guest into a TAP.
func (w *world) guest(name string) *vteptest.Guest {
	w.t.Helper()
	g, err := w.net.NewGuest(w.t.Context(), local, name)
	if err != nil {
		w.t.Fatal(err)
	}
	return g
}

// must is v, where there is no error.
func must[T any](v T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// eventually waits for what a goroutine of the daemon does on its own.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it never came to this: %s", what)
		}
	}
}

func logger(l *nettest.Log) *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }
