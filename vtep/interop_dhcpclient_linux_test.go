package vtep_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/uvtep/uvtep/internal/nettest"
)

// dhcpClient is a client program of a distribution. In its arguments and in the
// names of its files %T stands for a directory of its own, %A for the address
// that it had before it was started again.
type dhcpClient struct {
	name    string
	command []string
	again   []string // more arguments where it is started again
	// Renewing: a signal, or none where only time makes it renew.
	renew syscall.Signal
	// Releasing: a signal, SIGTERM if there is no other, or a command, and files
	// with and without which it is to be started once more before.
	release          syscall.Signal
	releaseBy        []string
	releasingWith    map[string]string
	releasingWithout string
	ends             bool // it ends by itself once it has released
	keepsAddress     bool // it knows its lease by the address that the interface still has
	asksAnew         bool // it remembers the address alone, and begins with a DISCOVER for it
	takesMTU         bool // its script sets the MTU (26)
	routes121        bool // its script sets the routes (121), and so it asks for them
	files            map[string]string
}

// running is a client program at work in a guest.
type running struct {
	dhcpClient
	t    *testing.T
	ns   *nettest.NS
	mac  net.HardwareAddr
	dir  string
	cmd  *exec.Cmd
	out  nettest.Log
	done chan struct{} // closed when it has ended
}

// run starts a client program in a guest. What it and its scripts write below
// /etc, /run and /var/lib, and the name that it gives the host, is seen by it
// alone, and is there still when it is started again.
func (c dhcpClient) run(t *testing.T, ns *nettest.NS, mac net.HardwareAddr) *running {
	t.Helper()
	r := &running{dhcpClient: c, t: t, ns: ns, mac: mac, dir: t.TempDir()}
	if out, err := exec.Command("cp", "-a", "/etc", filepath.Join(r.dir, "etc")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, d := range []string{"run", "var/dhcp", "var/dhcpcd"} {
		if err := os.MkdirAll(filepath.Join(r.dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// A link would lead out of the copy.
	os.Remove(r.resolvConf())
	r.write(map[string]string{
		"%T/etc/resolv.conf": "",
		"%T/etc/machine-id":  fmt.Sprintf("%032x\n", []byte(mac)), // DUIDs are made from it
	})
	r.write(c.files)
	r.start(nil)
	t.Cleanup(r.end)
	return r
}

func (r *running) write(files map[string]string) {
	r.t.Helper()
	for name, content := range files {
		name = r.fill([]string{name})[0]
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			r.t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			r.t.Fatal(err)
		}
	}
}

// start starts the program in namespaces of its own.
func (r *running) start(more []string) {
	r.t.Helper()
	const script = `mount --bind "$0/etc" /etc && mount --bind "$0/run" /run && mount --bind "$0/var" /var/lib &&
mount --bind /sys /sys && mount -o remount,ro,bind /sys && hostname "$1" || exit
shift; exec "$@"`
	args := append([]string{"-c", script, r.dir, r.name}, r.fill(r.command)...)
	r.cmd = exec.Command("sh", append(args, more...)...)
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS, Setpgid: true}
	r.cmd.Stdout, r.cmd.Stderr = &r.out, &r.out
	r.cmd.WaitDelay = 2 * time.Second
	var err error
	r.ns.Do(func() { err = r.cmd.Start() })
	if err != nil {
		r.t.Fatal(err)
	}
	cmd, done := r.cmd, make(chan struct{})
	r.done = done
	go func() {
		defer close(done) // what it printed tells the rest
		fmt.Fprintf(&r.out, "ended: %v\n", cmd.Wait())
	}()
}

// ended waits until the program has ended by itself.
func (r *running) ended(patience time.Duration) bool {
	select {
	case <-r.done:
		return true
	case <-time.After(patience):
		return false
	}
}

// end ends the program if it still runs.
func (r *running) end() {
	if !r.ended(0) {
		_ = r.cmd.Process.Signal(syscall.SIGTERM)
		if !r.ended(5 * time.Second) {
			r.kill()
		}
	}
	if r.t.Failed() {
		r.t.Logf("%s printed:\n%s", r.name, &r.out)
	}
}

// kill ends the program, and those that it started, without a word to anybody.
func (r *running) kill() {
	_ = syscall.Kill(-r.cmd.Process.Pid, syscall.SIGKILL)
	<-r.done
}

func (r *running) fill(args []string) []string {
	out := slices.Clone(args)
	for i := range out {
		out[i] = strings.ReplaceAll(out[i], "%T", r.dir)
	}
	return out
}

func (r *running) resolvConf() string { return filepath.Join(r.dir, "etc/resolv.conf") }

func (r *running) signal(s syscall.Signal) {
	r.t.Helper()
	if err := r.cmd.Process.Signal(s); err != nil {
		r.t.Fatalf("%s: %v", r.name, err)
	}
}

// releaseUntil has the client give back what it has, until done says that it
// has.
func (r *running) releaseUntil(done func() bool) {
	r.t.Helper()
	var asked time.Time
	eventually(r.t, r.name+" has given back what it had", func() bool {
		if done() {
			return true
		}
		// Asked once more if need be: on a machine with very much to do dhcpcd
		// has been seen to miss a signal.
		if time.Since(asked) > 5*time.Second {
			asked = time.Now()
			switch {
			case r.releaseBy != nil:
				r.releaseWith(r.releaseBy)
			case r.release != 0:
				r.signal(r.release)
			default:
				r.signal(syscall.SIGTERM)
			}
		}
		return false
	})
}

// releaseWith runs a command that makes the client give its address back, where
// the client sees its files.
func (r *running) releaseWith(command []string) {
	r.t.Helper()
	enter := []string{"--mount", "--target", fmt.Sprint(r.cmd.Process.Pid), "--net=" + r.ns.Path, "--"}
	out, err := exec.Command("nsenter", append(enter, r.fill(command)...)...).CombinedOutput()
	if err != nil {
		r.t.Errorf("%s: %v\n%s", strings.Join(command, " "), err, out)
	}
}

// applied is what the client made of its lease: addresses, routes, MTU, and
// what it wrote for the resolver.
func (r *running) applied() string {
	var resolv []byte
	links, err := filepath.Glob(filepath.Join(r.dir, "run/systemd/netif/links/*")) // networkd's
	if err != nil {
		r.t.Fatal(err)
	}
	for _, name := range append(links, r.resolvConf()) {
		b, err := os.ReadFile(name)
		if err != nil && !os.IsNotExist(err) {
			r.t.Fatal(err)
		}
		resolv = append(resolv, b...)
	}
	return r.ns.Exec("ip", "-o", "-4", "addr", "show", "dev", "eth0") + r.ns.Exec("ip", "-4", "route") +
		r.ns.Exec("ip", "-o", "link", "show", "dev", "eth0") + string(resolv)
}

// wantApplied waits until the client has applied all of it.
func (r *running) wantApplied(want ...string) {
	r.t.Helper()
	missing := func() []string {
		got := r.applied()
		return slices.DeleteFunc(slices.Clone(want), func(w string) bool { return strings.Contains(got, w) })
	}
	for deadline := time.Now().Add(10 * time.Second); len(missing()) > 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Errorf("%s did not apply %q:\n%s", r.name, missing(), r.applied())
			return
		}
	}
}

// hostFiles is what clients write to where nobody keeps them from it.
func hostFiles(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	for _, name := range []string{"/etc/resolv.conf", "/etc/hostname", "/proc/sys/kernel/hostname"} {
		b, err := os.ReadFile(name)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		all.Write(b)
	}
	for _, pattern := range []string{"/run/dhc*", "/run/udhcpc*", "/run/systemd/netif/*", "/var/lib/dhcp/*", "/var/lib/dhcpcd/*"} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(&all, names)
	}
	return all.String()
}
