package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/uvtep/uvtep/internal/nettest"
)

// program is the binary under test, built once.
var program string

func TestMain(m *testing.M) {
	os.Exit(nettest.WithProgram(&program, m.Run, "-ldflags", "-X main.version=1.2.3 -X main.commit=abcdef"))
}

// result is what became of a command line.
type result struct {
	code           int
	stdout, stderr string
}

// uvtep runs the program to its end, in this namespace.
func uvtep(t *testing.T, args ...string) result {
	t.Helper()
	return finish(t, exec.Command(program, args...), nil)
}

// finish runs a command to its end, in a namespace unless that is nil.
func finish(t *testing.T, cmd *exec.Cmd, ns *nettest.NS) result {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	var err error
	if ns == nil {
		err = cmd.Start()
	} else {
		ns.Do(func() { err = cmd.Start() })
	}
	if err != nil {
		t.Fatalf("%s: %v", cmd, err)
	}
	timer := time.AfterFunc(20*time.Second, func() { cmd.Process.Kill() })
	err = cmd.Wait()
	if !timer.Stop() {
		t.Fatalf("%s did not end:\n%s%s", cmd, out.String(), errs.String())
	}
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s: %v", cmd, err)
	}
	return result{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

// ok returns what a command wrote that did what it was asked.
func (r result) ok(t *testing.T) string {
	t.Helper()
	if r.code != 0 || r.stderr != "" {
		t.Fatalf("exit %d: %s", r.code, r.stderr)
	}
	return r.stdout
}

// fails wants a command to have ended with code and one line that has all of
// words, and to have printed nothing.
func (r result) fails(t *testing.T, code int, words ...string) {
	t.Helper()
	line, more, _ := strings.Cut(r.stderr, "\n")
	if r.code != code || line == "" || more != "" || r.stdout != "" {
		t.Errorf("exit %d, stdout %q, stderr %q; want exit %d and one line", r.code, r.stdout, r.stderr, code)
	}
	for _, w := range words {
		if !strings.Contains(line, w) {
			t.Errorf("%q says nothing of %q", line, w)
		}
	}
}

// host is a namespace with an underlay, and where its daemon keeps its files.
type host struct {
	*nettest.NS
	t    *testing.T
	dir  string
	file string
}

const local = "10.9.0.1"

// newHost makes a host that has local on a cable to itself.
func newHost(t *testing.T) *host {
	t.Helper()
	h := &host{NS: nettest.New(t, "d"), t: t, dir: t.TempDir()}
	h.file = filepath.Join(h.dir, "uvtep.yaml")
	h.Exec("ip", "link", "add", "ul", "type", "veth", "peer", "name", "end")
	h.Exec("ip", "link", "set", "end", "up")
	h.Exec("ip", "link", "set", "ul", "up")
	h.Addr("ul", local+"/24")
	return h
}

func (h *host) socket() string { return filepath.Join(h.dir, "run", "uvtep.sock") }

// write makes body, which begins with segments, the rest of a configuration.
func (h *host) write(body string) {
	h.t.Helper()
	text := fmt.Sprintf("underlay: {local: %s}\nstate: %s/state\napi: {socket: %s, http: \"\"}\n%s", local, h.dir, h.socket(), body)
	if err := os.WriteFile(h.file, []byte(text), 0o644); err != nil {
		h.t.Fatal(err)
	}
}

// client asks the host's daemon.
func (h *host) client(args ...string) result {
	h.t.Helper()
	return uvtep(h.t, append(args, "--socket", h.socket())...)
}

// show is what the host's daemon tells as JSON.
func (h *host) show(what string, args ...string) []map[string]any {
	h.t.Helper()
	var all []map[string]any
	out := h.client(append([]string{"show", what, "-j"}, args...)...).ok(h.t)
	if err := json.Unmarshal([]byte(out), &all); err != nil || all == nil {
		h.t.Fatalf("show %s -j printed %s: %v", what, out, err)
	}
	return all
}

// column are the values of one key.
func column(all []map[string]any, key string) []any {
	out := []any{}
	for _, row := range all {
		out = append(out, row[key])
	}
	return out
}

// apart is the program with a /var/lib that is empty and a /run that is the
// host's directory "apart", so that it meets nobody at its default places.
func (h *host) apart(args ...string) *exec.Cmd {
	h.t.Helper()
	run := filepath.Join(h.dir, "apart")
	if err := os.MkdirAll(run, 0o755); err != nil {
		h.t.Fatal(err)
	}
	shell := `mount -t tmpfs none /var/lib && mount --rbind /run/netns "$0/netns" && mount --rbind "$0" /run && exec "$@"`
	if err := os.MkdirAll(filepath.Join(run, "netns"), 0o755); err != nil {
		h.t.Fatal(err)
	}
	return exec.Command("unshare", append([]string{"--mount", "sh", "-c", shell, run, program}, args...)...)
}

// refused runs a daemon that cannot start: it says why in one line, ends with 1
// and leaves nothing.
func (h *host) refused(cmd *exec.Cmd, words ...string) {
	h.t.Helper()
	before := h.Links()
	finish(h.t, cmd, h.NS).fails(h.t, 1, words...)
	h.nothingLeft(before...)
}

// nothingLeft wants the host's links to be these, and its socket to be gone.
func (h *host) nothingLeft(links ...string) {
	h.t.Helper()
	if now := h.Links(); !slices.Equal(now, links) {
		h.t.Errorf("the links are %v; want %v", now, links)
	}
	if _, err := os.Lstat(h.socket()); !errors.Is(err, os.ErrNotExist) {
		h.t.Errorf("the socket is still there: %v", err)
	}
}

// process is a daemon that runs.
type process struct {
	t   *testing.T
	cmd *exec.Cmd
	log *nettest.Log
	end func() error // waits for it
}

// launch starts the program in the host's namespace, and stops it when the test ends.
func (h *host) launch(args ...string) *process {
	h.t.Helper()
	return h.launchCommand(exec.Command(program, args...))
}

func (h *host) launchCommand(cmd *exec.Cmd) *process {
	h.t.Helper()
	p := &process{t: h.t, cmd: cmd, log: &nettest.Log{}}
	cmd.Stdout, cmd.Stderr = p.log, p.log
	var err error
	h.Do(func() { err = cmd.Start() })
	if err != nil {
		h.t.Fatal(err)
	}
	p.end = sync.OnceValue(cmd.Wait)
	h.t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		p.end()
	})
	return p
}

// run runs the daemon with the host's configuration until it is ready.
func (h *host) run(args ...string) *process {
	h.t.Helper()
	return h.launch(append([]string{"run", "-c", h.file}, args...)...).waitReady()
}

// waitReady waits for the line that says so.
func (p *process) waitReady() *process {
	p.t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- p.end() }()
	select {
	case <-p.log.Wrote("ready"):
	case err := <-ended:
		p.t.Fatalf("it ended: %v\n%s", err, p.log)
	case <-time.After(20 * time.Second):
		p.t.Fatalf("it is not ready:\n%s", p.log)
	}
	return p
}

// stop ends it as systemd does, and wants exit 0.
func (p *process) stop() {
	p.t.Helper()
	p.signal(syscall.SIGTERM)
	if err := p.end(); err != nil {
		p.t.Errorf("SIGTERM: %v\n%s", err, p.log)
	}
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// eventually waits for what the program does on its own.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it never came to this: %s", what)
		}
	}
}
