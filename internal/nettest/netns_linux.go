package nettest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// serial tells the namespaces of one process apart.
var serial atomic.Uint32

// NS is a network namespace that ends with the test that made it.
type NS struct {
	Name string // as `ip netns` knows it
	Path string // the file that `nsenter --net=` takes

	t       testing.TB
	removed bool
}

// New makes a namespace whose loopback is up and whose IPv6 addresses are
// usable at once (no duplicate address detection). Its real name is unique on
// this machine and contains name. When the test ends the namespace is removed,
// and a process, a thread or a file descriptor that still holds it fails the
// test. Root is called first.
func New(t testing.TB, name string) *NS {
	t.Helper()
	Root(t)
	ns := &NS{t: t, Name: fmt.Sprintf("uvt-%s-%d-%d", name, os.Getpid(), serial.Add(1))}
	ns.Path = filepath.Join("/run/netns", ns.Name)
	run(t, exec.Command("ip", "netns", "add", ns.Name))
	t.Cleanup(ns.end)
	ns.Do(func() {
		for _, key := range []string{"accept_dad", "router_solicitations"} {
			for _, where := range []string{"default", "all"} {
				ns.Sysctl("net/ipv6/conf/"+where+"/"+key, "0")
			}
		}
	})
	ns.Exec("ip", "link", "set", "lo", "up")
	return ns
}

// Do runs f inside the namespace and waits for it, on a thread that ends with
// it, so that nothing else ever runs there by mistake. Files and sockets that f
// opens stay in the namespace, and commands that it starts run there;
// goroutines that it starts do not. f may end the test, as with t.Fatal.
func (ns *NS) Do(f func()) {
	ns.t.Helper()
	returned, done := false, make(chan error, 1)
	go onThrowawayThread(func() {
		var err error
		defer func() { done <- err }()
		h, err := netns.GetFromPath(ns.Path)
		if err == nil {
			err = netns.Set(h)
			h.Close()
		}
		if err != nil {
			err = fmt.Errorf("enter namespace %s: %w", ns.Name, err)
			return
		}
		f()
		returned = true
	})
	switch err := <-done; {
	case err != nil:
		ns.t.Fatal(err)
	case !returned:
		runtime.Goexit() // f ended the test: so does its caller
	}
}

// onThrowawayThread runs f on a thread that ends with the calling goroutine.
func onThrowawayThread(f func()) {
	runtime.LockOSThread()
	if unix.Gettid() != unix.Getpid() {
		f() // never unlocked: the thread is not used again
		return
	}
	// The main thread cannot end: the runtime would park it where f left it.
	// While it is held here, the next goroutine gets another one.
	defer runtime.UnlockOSThread()
	done := make(chan struct{})
	go func() {
		defer close(done)
		onThrowawayThread(f)
	}()
	<-done
}

func (ns *NS) start(cmd *exec.Cmd) error {
	var err error
	ns.Do(func() { err = cmd.Start() })
	return err
}

// Start starts a command in the namespace. When the test ends it is killed, if
// it still runs, and waited for.
func (ns *NS) Start(cmd *exec.Cmd) {
	ns.t.Helper()
	if err := ns.start(cmd); err != nil {
		ns.t.Fatalf("in %s: %s: %v", ns.Name, cmd, err)
	}
	ns.t.Cleanup(func() {
		if cmd.ProcessState == nil {
			cmd.Process.Kill()
			cmd.Wait()
		}
	})
}

// Exec runs a command in the namespace and returns what it wrote. It ends the
// test if the command fails.
func (ns *NS) Exec(name string, args ...string) string {
	ns.t.Helper()
	out, err := ns.Try(name, args...)
	if err != nil {
		ns.t.Fatalf("in %s: %s %s: %v\n%s", ns.Name, name, strings.Join(args, " "), err, out)
	}
	return out
}

// Try runs a command in the namespace and returns what it wrote.
func (ns *NS) Try(name string, args ...string) (string, error) {
	ns.t.Helper()
	var out []byte
	var err error
	ns.Do(func() { out, err = exec.Command(name, args...).CombinedOutput() })
	return string(out), err
}

// Sysctl sets a value below /proc/sys in the namespace, e.g. "net/ipv4/ip_forward".
func (ns *NS) Sysctl(key, value string) {
	ns.t.Helper()
	ns.Do(func() {
		if err := os.WriteFile("/proc/sys/"+key, []byte(value), 0); err != nil {
			ns.t.Fatalf("in %s: %v", ns.Name, err)
		}
	})
}

// Addr adds an address, with its prefix length, to an interface. It is usable
// when Addr returns: the kernel calls off duplicate address detection a moment
// later only, unless it is told that there shall be none.
func (ns *NS) Addr(dev, prefix string) {
	ns.t.Helper()
	args := []string{"addr", "add", prefix, "dev", dev}
	if strings.Contains(prefix, ":") {
		args = append(args, "nodad")
	}
	ns.Exec("ip", args...)
}

// Links are the names of the namespace's interfaces, sorted, loopback aside.
func (ns *NS) Links() []string {
	ns.t.Helper()
	var names []string
	ns.Do(func() {
		all, err := net.Interfaces()
		if err != nil {
			ns.t.Fatalf("in %s: %v", ns.Name, err)
		}
		for _, i := range all {
			if i.Name != "lo" {
				names = append(names, i.Name)
			}
		}
	})
	slices.Sort(names)
	return names
}

// Delete removes the namespace before the test ends, as `ip netns del` does.
// What is in it vanishes, unless something holds on to the namespace.
func (ns *NS) Delete() {
	ns.t.Helper()
	if !ns.removed {
		ns.removed = true
		run(ns.t, exec.Command("ip", "netns", "del", ns.Name))
	}
}

// Veth makes a pair of interfaces, one in each namespace, both up.
func Veth(t testing.TB, a *NS, aName string, b *NS, bName string) {
	t.Helper()
	run(t, exec.Command("ip", "link", "add", aName, "netns", a.Name, "type", "veth",
		"peer", "name", bName, "netns", b.Name))
	a.Exec("ip", "link", "set", aName, "up")
	b.Exec("ip", "link", "set", bName, "up")
}

func run(t testing.TB, cmd *exec.Cmd) {
	t.Helper()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
}
