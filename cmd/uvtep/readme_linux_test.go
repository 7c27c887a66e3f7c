package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/uvtep/uvtep/internal/nettest"
)

// The README's commands are typed into one shell, in their order, as a reader
// does. What they make, they make in namespaces of their own, where /run and
// /var/lib are empty and /etc is a copy, and all of it ends with the shell.
func TestTheCommandsOfTheREADMEDoWhatItSays(t *testing.T) {
	nettest.Root(t)
	nettest.Need(t, "udhcpc", "unshare", "ping")
	text, err := os.ReadFile(filepath.Join(repository, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	var typed strings.Builder
	blocks := 0
	for _, b := range parseDocument("README.md", string(text)).blocks {
		if b.language == "sh" {
			blocks++
			typed.WriteString("echo '== " + b.heading + "'\n" + b.text)
		}
	}
	if blocks < 5 {
		t.Fatalf("only %d blocks are for a shell", blocks)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	etc := filepath.Join(t.TempDir(), "etc")
	if out, err := exec.Command("cp", "-a", "/etc", etc).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	resolver := filepath.Join(etc, "resolv.conf")
	os.Remove(resolver) // where it is a link, it leads out of the copy
	if err := os.WriteFile(resolver, []byte("# the host's\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	const begin = `mount --bind "$1" /etc && mount -t tmpfs none /run && mount -t tmpfs none /var/lib && exec bash -e -c "$0"`
	cmd := exec.CommandContext(ctx, "unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child",
		"sh", "-c", begin, typed.String(), etc)
	cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(program)+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	for want, times := range map[string]int{
		"lease of 192.168.100.2 obtained from 192.168.100.1": 1,
		"lease of 192.168.100.3 obtained from 192.168.100.1": 1,
		"lease of 192.168.100.4 obtained from 192.168.100.1": 1, // the kernel's driver
		"3 received, 0% packet loss":                         2,
		"port tap100":                                        2, // show fdb, show leases
		"msg=stopped":                                        2,
	} {
		if n := strings.Count(string(out), want); n != times {
			t.Errorf("%q stands there %d times, want %d", want, n, times)
		}
	}
	if b, err := os.ReadFile(resolver); err != nil || string(b) != "# the host's\n" {
		t.Errorf("the host's resolv.conf has become %q, %v", b, err)
	}
	if t.Failed() {
		t.Logf("%s", out)
	}
}
