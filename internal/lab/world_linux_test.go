package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/uvtep/uvtep/internal/nettest"
)

// program is the real uvtep, built once for all tests that run it.
var program string

func TestMain(m *testing.M) {
	if os.Geteuid() != 0 {
		os.Exit(m.Run()) // whoever needs the program needs root, and says so
	}
	os.Exit(nettest.WithProgram(&program, m.Run))
}

var serial atomic.Uint32

// trial is a lab of a test: its name is its own, and so are its VNIs, by which
// its links are told from those of others.
type trial struct {
	t    *testing.T
	name string
	vnis []uint32
}

// newTrial makes the name of a lab. When the test ends nothing may be left of it.
func newTrial(t *testing.T) *trial {
	t.Helper()
	nettest.Root(t)
	n := serial.Add(1)
	tr := &trial{t: t, name: fmt.Sprintf("t%dx%d", os.Getpid(), n), vnis: []uint32{710000 + 2*n, 710001 + 2*n}}
	t.Cleanup(func() {
		tr.nothingIsLeft()
		if l, err := Load(Options{Name: tr.name}); err == nil { // the test has failed: leave others in peace
			l.Down(context.Background(), nil)
		}
	})
	return tr
}

func (tr *trial) options() Options {
	return Options{Name: tr.name, VNIs: tr.vnis, Binary: program}
}

// nothingIsLeft looks for namespaces, files, processes and links of the lab.
func (tr *trial) nothingIsLeft() {
	tr.t.Helper()
	if names, err := leftovers(tr.name); err != nil || len(names) > 0 {
		tr.t.Errorf("namespaces are left: %v, %v", names, err)
	}
	dir := dirOf("", tr.name)
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		tr.t.Errorf("%s is left: %v", dir, err)
	}
	commands, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		tr.t.Fatal(err)
	}
	for _, file := range commands {
		if b, err := os.ReadFile(file); err == nil && bytes.Contains(b, []byte(dir)) {
			tr.t.Errorf("a process is left: %s: %q", file, b)
		}
	}
	links, err := netlink.LinkList()
	if err != nil {
		tr.t.Fatal(err)
	}
	for _, l := range links {
		for _, vni := range tr.vnis {
			if strings.HasPrefix(l.Attrs().Name, fmt.Sprintf("v%dg", vni)) {
				tr.t.Errorf("the link %s is left", l.Attrs().Name)
			}
		}
	}
}

// command is "uvtep lab SUB --name …" of this lab.
func (tr *trial) command(sub string, args ...string) *exec.Cmd {
	cmd := exec.Command(program, append([]string{"lab", sub, "--name", tr.name}, args...)...)
	cmd.Env = append(os.Environ(), "TERM=dumb")
	return cmd
}

// vniFlag names the lab's VNIs.
func (tr *trial) vniFlag() string { return fmt.Sprintf("--vni=%d,%d", tr.vnis[0], tr.vnis[1]) }

// run runs a command and returns what it wrote and how it ended.
func (tr *trial) run(sub string, args ...string) (stdout, stderr string, code int) {
	tr.t.Helper()
	return run(tr.t, tr.command(sub, args...))
}

func run(t *testing.T, cmd *exec.Cmd) (stdout, stderr string, code int) {
	t.Helper()
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(time.Minute, func() { cmd.Process.Kill() })
	defer timer.Stop()
	cmd.Wait() // the exit code says it
	return out.String(), errOut.String(), cmd.ProcessState.ExitCode()
}

// up makes the lab in this process.
func (tr *trial) up() *Lab {
	tr.t.Helper()
	l, err := Up(tr.t.Context(), tr.options())
	if err != nil {
		tr.t.Fatal(err)
	}
	tr.t.Cleanup(func() { // before nothingIsLeft
		if err := l.Down(context.Background(), nil); err != nil {
			tr.t.Error(err)
		}
	})
	return l
}
