package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/uvtep/uvtep/internal/netns"
	"github.com/uvtep/uvtep/internal/nettest"
)

func TestBenchTellsPeopleAndProgramsTheSame(t *testing.T) {
	args := []string{"bench", "--run", "^parse-UDP", "--for", "20ms"}
	if out := uvtep(t, args...).ok(t); !strings.Contains(out, "parse UDP in IPv4") || strings.Count(out, "\n") != 4 {
		t.Errorf("it printed\n%s", out)
	}
	var r benchReport
	if out := uvtep(t, append(args, "-j")...).ok(t); json.Unmarshal([]byte(out), &r) != nil {
		t.Fatalf("it printed %s", out)
	}
	if r.Version != "1.2.3" || r.Machine == "" || len(r.Results) != 1 || r.Results[0].NS <= 0 {
		t.Errorf("%+v", r)
	}
}

func TestBenchRefusesWhatCannotBeMeasured(t *testing.T) {
	uvtep(t, "bench", "--run", "(").fails(t, 2, "--run", "missing closing )")
	uvtep(t, "bench", "--run", "teapot", "-j").fails(t, 2, "teapot", "matches nothing")
	uvtep(t, "bench", "--for", "0s").fails(t, 2, "--for 0s")
	uvtep(t, "bench", "e2e", "--rounds", "-1").fails(t, 2, "-1 rounds")
	uvtep(t, "bench", "e2e", "--systems", "kernel,netware").fails(t, 2, `"netware"`, "uvtep-offload-off")
	uvtep(t, "bench", "e2e", "--modes", "wire,wire").fails(t, 2, "twice")
	uvtep(t, "bench", "e2e", "here").fails(t, 2, "here")
	uvtep(t, "bench", "dhcp", "--rounds", "-1").fails(t, 2, "-1 rounds")
	uvtep(t, "bench", "dhcp", "--systems", "kea,netware").fails(t, 2, `"netware"`, "dnsmasq")
	uvtep(t, "bench", "dhcp", "--time", "1500ms").fails(t, 2, "1.5s")
}

func TestBenchE2EWantsRoot(t *testing.T) {
	nettest.Root(t)
	cmd := exec.Command(program, "bench", "e2e")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	finish(t, cmd, nil).fails(t, 1, "root", "sudo")
}

// tinyE2E is an end to end run that is over soon. What is left of it is an error.
func tinyE2E(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	nettest.Root(t)
	cmd := exec.Command(program, append([]string{
		"bench", "e2e", "--systems", "kernel,uvtep", "--generator", "builtin", "--quick", "--time", "400ms", "--trial", "10ms",
	}, args...)...)
	t.Cleanup(func() {
		names, err := netns.List()
		ours := fmt.Sprintf("uvbench-%d-", cmd.Process.Pid)
		names = slices.DeleteFunc(names, func(s string) bool { return !strings.HasPrefix(s, ours) })
		if err != nil || len(names) > 0 {
			t.Errorf("namespaces are left: %v, error %v", names, err)
		}
		dir := fmt.Sprintf("/run/uvtep-bench-%d-", cmd.Process.Pid)
		if files, err := filepath.Glob(dir + "*"); err != nil || len(files) > 0 {
			t.Errorf("files are left: %v, error %v", files, err)
		}
		commands, err := filepath.Glob("/proc/[0-9]*/cmdline")
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range commands {
			if b, err := os.ReadFile(file); err == nil && bytes.Contains(b, []byte(dir)) {
				t.Errorf("a process is left: %s: %q", file, b)
			}
		}
	})
	return cmd
}

func TestBenchE2EWritesATableAndFiles(t *testing.T) {
	dir := t.TempDir()
	out := finish(t, tinyE2E(t, "--out", dir), nil).ok(t)
	for _, want := range []string{"\nvirt 1/1  round trip", "\nwire  every packet", "uvtep 1.2.3: ", "the built-in generator, 400ms", "✓ in " + dir + ": e2e.json, "} {
		if !strings.Contains(out, want) {
			t.Errorf("it says nothing of %q:\n%s", want, out)
		}
	}
	if files, err := filepath.Glob(dir + "/*.svg"); err != nil || len(files) < 5 {
		t.Errorf("pictures: %v, error %v", files, err)
	}
}

func TestBenchE2EPrintsNothingButJSONForPrograms(t *testing.T) {
	out := finish(t, tinyE2E(t, "-j", "--modes", "wire"), nil).ok(t)
	var r struct {
		Version string
		Values  []struct {
			Mode, System, Measure string
			Median                float64
			Samples               []float64
		}
	}
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("%v: it printed %s", err, out)
	}
	if r.Version != "1.2.3" || len(r.Values) < 10 {
		t.Errorf("%+v", r)
	}
	for _, v := range r.Values {
		if v.Mode != "wire" || len(v.Samples) != 1 {
			t.Errorf("%+v", v)
		}
	}
}

func TestBenchE2EThatIsStoppedLeavesNothing(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		t.Run(sig.String(), func(t *testing.T) {
			cmd := tinyE2E(t, "--time", "1m")
			var errs bytes.Buffer
			cmd.Stderr = &errs
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			kill := time.AfterFunc(30*time.Second, func() { cmd.Process.Kill() })
			defer kill.Stop()
			eventually(t, "the run begins", func() bool {
				names, err := netns.List()
				return err == nil && slices.Contains(names, fmt.Sprintf("uvbench-%d-uvtep-g2", cmd.Process.Pid))
			})
			cmd.Process.Signal(sig)
			cmd.Wait() // the exit code says it
			if code := cmd.ProcessState.ExitCode(); code != 1 || errs.String() != "uvtep: interrupted\n" {
				t.Errorf("exit %d, %q", code, errs.String())
			}
		})
	}
}
