package lab

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/uvtep/uvtep/internal/netns"
)

// script is a program that a lab takes for uvtep.
func script(t *testing.T, body string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "uvtep")
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"+body+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestALabIsShownUsedAndTakenDown(t *testing.T) {
	tr := newTrial(t)
	if out, errOut, code := tr.run("up", tr.vniFlag()); code != 0 || !strings.Contains(out, program+" lab show --name "+tr.name) ||
		!regexp.MustCompile(`(?m)^  g2-v\d+ +h2 +02:00:00:00:00:02  192\.168\.100\.11 `).MatchString(out) {
		t.Fatalf("up: %d, %s%s", code, out, errOut)
	}
	if _, errOut, code := tr.run("up"); code != 1 || !strings.Contains(errOut, "is up already") || !strings.Contains(errOut, program+" lab down --name "+tr.name) {
		t.Errorf("up, a second time: %d, %s", code, errOut)
	}
	out, _, code := tr.run("show", "-j")
	var l Lab
	if err := json.Unmarshal([]byte(out), &l); err != nil || code != 0 || l.State != StateUp || len(l.Guests) != 4 ||
		!l.Hosts[0].Running || l.Guests[3].Lease.Address.String() != "192.168.100.11/24" {
		t.Errorf("show -j: %d, %v, %s", code, err, out)
	}
	g1, g2 := l.Guests[0].Name, l.Guests[1].Name
	file := filepath.Join(t.TempDir(), "lab.svg")
	if out, errOut, code := tr.run("graph", "-o", file); code != 0 || out+errOut != "" {
		t.Errorf("graph: %d, %s%s", code, out, errOut)
	}
	drawn, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if out, _, code := tr.run("graph"); code != 0 || out != string(drawn) || !strings.Contains(out, ">"+g2+"</text>") {
		t.Errorf("graph: %d, %s, but in the file %s", code, out, drawn)
	}
	for _, c := range []struct {
		args []string
		out  string
		code int
	}{
		{[]string{g1, "--", "sh", "-c", "exit 42"}, "", 42},
		{[]string{g1, "--", "sh", "-c", "kill -TERM $$"}, "", -1}, // a signal is passed through too
		{[]string{g1, "sh", "-c", "echo [$UVTEP_SOCKET]"}, "[]\n", 0},
		{[]string{"h2", "--", "sh", "-c", "echo $UVTEP_SOCKET"}, l.Hosts[1].Socket + "\n", 0},
		{[]string{"h1", "--", "sh", "-c", "ls /sys/class/net"}, "eth0\nlo\n", 0},
		{[]string{g2, "--", "cat", "/sys/class/net/eth0/address"}, "02:00:00:00:00:02\n", 0},
		{[]string{"h1", "--", "sh", "-c", "uvtep show peers | grep -c 10.9.0.2"}, "2\n", 0},
	} {
		cmd := tr.command("exec", c.args...)
		cmd.Env = append(cmd.Env, "UVTEP_SOCKET=/of/another")
		if out, errOut, code := run(t, cmd); code != c.code || out != c.out {
			t.Errorf("exec %q: %d, %q, %s", c.args, code, out, errOut)
		}
	}
	for _, c := range []struct {
		args []string
		err  string
		code int
	}{
		{[]string{"g9", "--", "true"}, `"g9": no such host or guest; there are h1, h2, ` + g1, 1},
		{[]string{"h1", "--", "no-such-program"}, `"no-such-program": no such command`, 127},
		{[]string{g1, "--", "/no/such/program"}, `"/no/such/program": no such command`, 127},
		{[]string{"h1"}, "name a host or guest, and a command", 2},
		{[]string{"h1", "--"}, "name a host or guest, and a command", 2},
	} {
		if _, errOut, code := tr.run("exec", c.args...); code != c.code || !strings.Contains(errOut, c.err) || strings.Count(errOut, "\n") != 1 {
			t.Errorf("exec %q: %d, %s", c.args, code, errOut)
		}
	}
	// What a guest started in the background ends with the lab.
	if _, errOut, code := tr.run("exec", g1, "--", "sh", "-c", "sleep 1000 </dev/null >/dev/null 2>&1 &"); code != 0 {
		t.Fatal(errOut)
	}
	if pids, err := netns.PIDs(l.Guests[0].NetNS); err != nil || len(pids) != 1 {
		t.Errorf("in %s: %v, %v", g1, pids, err)
	}
	if out, errOut, code := tr.run("down"); code != 0 || !strings.Contains(out, "2 daemons, 7 namespaces") {
		t.Errorf("down: %d, %s%s", code, out, errOut)
	}
	tr.nothingIsLeft()
	if _, errOut, code := tr.run("down"); code != 1 || !strings.Contains(errOut, "no such lab is up") {
		t.Errorf("down, a second time: %d, %s", code, errOut)
	}
}

// untilStep starts a command and returns once it has said that a step is done.
func untilStep(t *testing.T, cmd *exec.Cmd, step string) (stderr *strings.Builder, drained <-chan struct{}) {
	t.Helper()
	stderr = new(strings.Builder)
	cmd.Stderr = stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if strings.Contains(lines.Text(), step) {
			go func() {
				defer close(done)
				for lines.Scan() {
				}
			}()
			return stderr, done
		}
	}
	cmd.Wait()
	t.Fatalf("it never came to %q: %s", step, stderr)
	return nil, nil
}

func TestASignalInTheMiddleTakesAllOfItDown(t *testing.T) {
	for _, c := range []struct {
		after  string
		signal syscall.Signal
	}{
		{"make hosts and guests", syscall.SIGINT},
		{"start the VTEPs", syscall.SIGTERM},
		{"get addresses by DHCP", syscall.SIGINT},
		{"ping in each segment", syscall.SIGHUP},
		{"ask who is who", syscall.SIGTERM},
	} {
		tr := newTrial(t)
		cmd := tr.command("demo", tr.vniFlag())
		errOut, drained := untilStep(t, cmd, c.after)
		if err := cmd.Process.Signal(c.signal); err != nil {
			t.Fatal(err)
		}
		<-drained
		cmd.Wait() // the exit code says it
		if code := cmd.ProcessState.ExitCode(); code != 1 || !strings.HasSuffix(errOut.String(), ": interrupted\n") {
			t.Errorf("%s after %q: exit code %d, %s", c.signal, c.after, code, errOut)
		}
		tr.nothingIsLeft()
	}
}

func TestAReaderThatGoesAwayTakesAllOfItDown(t *testing.T) {
	tr := newTrial(t)
	cmd := tr.command("demo", tr.vniFlag())
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout = write
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	write.Close()
	read.Close()
	cmd.Wait() // the exit code says it
	if code := cmd.ProcessState.ExitCode(); code != 1 {
		t.Errorf("exit code %d", code)
	}
}

func TestALabWhoseMakerWasKilledIsTakenDownByName(t *testing.T) {
	for _, after := range []string{"make hosts and guests", "start the VTEPs"} {
		tr := newTrial(t)
		cmd := tr.command("up", tr.vniFlag())
		_, drained := untilStep(t, cmd, after)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		<-drained
		cmd.Wait() // it was killed
		if out, errOut, code := tr.run("up"); code != 1 || !strings.Contains(errOut, "a crash left parts of it") {
			t.Errorf("up: %d, %s%s", code, out, errOut)
		}
		if out, errOut, code := tr.run("show"); code != 0 || !strings.Contains(out, "is "+StateStarting) {
			t.Errorf("show: %d, %s%s", code, out, errOut)
		}
		if out, errOut, code := tr.run("down"); code != 0 {
			t.Errorf("down: %d, %s%s", code, out, errOut)
		}
		tr.nothingIsLeft()
	}
}

func TestPartsWithoutARecordAreTakenDownToo(t *testing.T) {
	tr := newTrial(t)
	for _, ns := range []string{"net", "h1", "v100-g1"} {
		if err := netns.Create(prefix(tr.name) + ns); err != nil {
			t.Fatal(err)
		}
	}
	l, err := Load(Options{Name: tr.name})
	if err != nil || l.State != StateBroken {
		t.Fatalf("%+v, %v", l, err)
	}
	if _, err := Up(t.Context(), tr.options()); !errors.Is(err, ErrExists) {
		t.Errorf("Up: %v", err)
	}
	if out, errOut, code := tr.run("graph"); code != 1 || out != "" || !strings.Contains(errOut, "take down what is left: "+program+" lab down --name "+tr.name) {
		t.Errorf("graph: %d, %s%s", code, out, errOut)
	}
	if err := l.Down(t.Context(), nil); err != nil {
		t.Error(err)
	}
}

func TestALabThatCannotBeMadeWholeIsTakenDown(t *testing.T) {
	tr := newTrial(t)
	for what, c := range map[string]struct{ binary, want string }{
		"no program":           {"/no/such/program", "no such file"},
		"one that ends":        {script(t, "echo out of luck >&2; exit 3"), "uvtep ended before it was ready (exit status 3): out of luck"},
		"one that ends on h2":  {script(t, `case "$3" in *h2.yaml) echo out of luck >&2; exit 3;; esac; exec `+program+` "$@"`), "h2: uvtep ended before it was ready (exit status 3): out of luck"},
		"one without a switch": {script(t, "echo ready; exec sleep 1000"), "eth0"},
	} {
		o := tr.options()
		o.Binary = c.binary
		if _, err := Up(t.Context(), o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", what, err, c.want)
		}
		tr.nothingIsLeft()
	}
}

func TestALabWhoseContextEndsIsTakenDown(t *testing.T) {
	tr := newTrial(t)
	o := tr.options()
	ctx, cancel := context.WithCancel(t.Context())
	o.Progress = func(s Step) {
		if s.Name == "start the VTEPs" && !s.Done {
			cancel()
		}
	}
	if _, err := Up(ctx, o); !errors.Is(err, ErrInterrupted) {
		t.Errorf("%v, want ErrInterrupted", err)
	}
}

// In a large lab the hosts' entries for each other would fill the kernel's one
// table of neighbours, were they not permanent.
func TestHostsKnowEachOtherForGood(t *testing.T) {
	tr := newTrial(t)
	o := tr.options()
	o.Hosts = 3
	l, err := Up(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range l.Hosts {
		err := inside(host.NetNS, func(h *netlink.Handle) error {
			found, err := h.NeighList(0, netlink.FAMILY_V4)
			if err != nil {
				return err
			}
			for _, other := range l.Hosts {
				permanent := slices.ContainsFunc(found, func(n netlink.Neigh) bool {
					return n.State == netlink.NUD_PERMANENT && n.IP.String() == other.Underlay.Addr().String()
				})
				if permanent != (other != host) {
					t.Errorf("%s has a permanent entry for %s: %t", host.Name, other.Name, permanent)
				}
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	if err := l.Down(context.Background(), nil); err != nil {
		t.Error(err)
	}
}

func TestADaemonThatHasEndedIsShownAndDoesNotHinderTheEnd(t *testing.T) {
	tr := newTrial(t)
	l := tr.up()
	if err := syscall.Kill(l.Hosts[1].PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		if !l.Hosts[1].alive() {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	again, err := Load(Options{Name: tr.name})
	if err != nil || !again.Hosts[0].Running || again.Hosts[1].Running {
		t.Errorf("%v: %+v, %+v", err, again.Hosts[0], again.Hosts[1])
	}
}

func TestWithoutRootOneLineSaysSo(t *testing.T) {
	tr := newTrial(t)
	for _, sub := range []string{"up", "demo"} {
		cmd := tr.command(sub)
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		if _, errOut, code := run(t, cmd); code != 1 || errOut != fmt.Sprintf("uvtep: lab %s: %s: run it with sudo\n", tr.name, ErrNotRoot) {
			t.Errorf("%s: %d, %s", sub, code, errOut)
		}
	}
}

func TestWrongUsageIsExitCodeTwo(t *testing.T) {
	tr := newTrial(t)
	for _, args := range [][]string{
		{"--hosts=0"}, {"--hosts=100"}, {"--vni=7,7"}, {"--vni=16777216"}, {"--vni="}, {"--subnet=10.0.0.0/31"}, {"--mtu=100"}, {"extra"},
	} {
		if _, errOut, code := tr.run("up", args...); code != 2 || strings.Count(errOut, "\n") != 1 {
			t.Errorf("%q: %d, %s", args, code, errOut)
		}
	}
}
