//go:build linux

package nettest

import (
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netns"
)

func TestANamespaceHasItsOwnInterfacesAndGoesAway(t *testing.T) {
	var path string
	t.Run("inside", func(t *testing.T) {
		a, b := New(t, "a"), New(t, "b")
		path = a.Path
		Veth(t, a, "eth0", b, "eth0")
		a.Addr("eth0", "10.0.0.1/24")
		b.Addr("eth0", "10.0.0.2/24")
		if got := a.Links(); len(got) != 1 || got[0] != "eth0" {
			t.Errorf("links %q, want eth0 alone", got)
		}
		b.Do(func() {
			l, err := net.Listen("tcp", "10.0.0.2:7")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			a.Do(func() {
				c, err := net.DialTimeout("tcp", "10.0.0.2:7", 2*time.Second)
				if err != nil {
					t.Fatal(err)
				}
				c.Close()
			})
		})
	})
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("%s is still there: %v", path, err)
	}
}

func TestTheCallersThreadNeverEntersTheNamespace(t *testing.T) {
	ns := New(t, "a")
	before, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	var inside string
	ns.Do(func() { inside, _ = os.Readlink("/proc/thread-self/ns/net") })
	after, _ := os.Readlink("/proc/thread-self/ns/net")
	if inside == before || after != before {
		t.Errorf("before %s, inside %s, after %s", before, inside, after)
	}
}

// recorder stands in for the test of which the failure is looked for.
type recorder struct {
	testing.TB
	errors []string
}

func (r *recorder) Errorf(format string, args ...any) { r.errors = append(r.errors, format) }

func TestWhatHoldsANamespaceIsReported(t *testing.T) {
	ns := New(t, "a")
	real := ns.t
	defer func() { ns.t = real }()

	for _, tc := range []struct {
		what string
		hold func(t *testing.T) (release func())
	}{
		{"a descriptor", func(t *testing.T) func() {
			h, err := netns.GetFromPath(ns.Path)
			if err != nil {
				t.Fatal(err)
			}
			return func() { h.Close() }
		}},
		{"a process", func(t *testing.T) func() {
			cmd := exec.Command("sleep", "60")
			if err := ns.start(cmd); err != nil {
				t.Fatal(err)
			}
			return func() { cmd.Process.Kill(); cmd.Wait() }
		}},
		{"a thread", func(t *testing.T) func() {
			stop, inside := make(chan struct{}), make(chan struct{})
			go ns.Do(func() { close(inside); <-stop })
			<-inside
			return func() { close(stop) }
		}},
	} {
		t.Run(tc.what, func(t *testing.T) {
			release := tc.hold(t)
			if got := ns.holders(); len(got) == 0 {
				t.Error("nothing was found")
			}
			release()
			for deadline := time.Now().Add(5 * time.Second); len(ns.holders()) > 0; time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("still found after it was released: %q", ns.holders())
				}
			}
		})
	}

	h, err := netns.GetFromPath(ns.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	rec := &recorder{TB: t}
	ns.t = rec
	ns.end()
	if len(rec.errors) != 1 || !strings.HasPrefix(rec.errors[0], "leak: ") {
		t.Errorf("errors %q, want one leak", rec.errors)
	}
}

func TestATestThatEndsInsideDoEndsOutsideToo(t *testing.T) {
	ns := New(t, "a")
	ended := make(chan bool, 1)
	go func() {
		reached := false
		defer func() { ended <- !reached }()
		ns.Do(func() { runtime.Goexit() }) // as t.FailNow and t.SkipNow do
		reached = true
	}()
	if !<-ended {
		t.Error("the caller of Do went on")
	}
}
