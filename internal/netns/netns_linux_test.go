package netns

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/uvtep/uvtep/internal/nettest"
)

// create makes a namespace that ends with the test.
func create(t *testing.T, name string) string {
	t.Helper()
	nettest.Root(t)
	name = fmt.Sprintf("uvns-%s-%d", name, os.Getpid())
	if err := Create(name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := Delete(name); err != nil && !errors.Is(err, ErrNotExist) {
			t.Error(err)
		}
	})
	return name
}

// inode is the namespace that the calling thread is in.
func inode(t *testing.T) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

func TestANamespaceIsListedUntilItIsDeleted(t *testing.T) {
	name := create(t, "listed")
	if err := Create(name); !errors.Is(err, ErrExists) {
		t.Errorf("a second Create = %v, want ErrExists", err)
	}
	names, err := List()
	if err != nil || !slices.Contains(names, name) {
		t.Errorf("List = %v, %v: lacks %s", names, err, name)
	}
	if err := Delete(name); err != nil {
		t.Fatal(err)
	}
	if err := Delete(name); !errors.Is(err, ErrNotExist) {
		t.Errorf("a second Delete = %v, want ErrNotExist", err)
	}
	if names, _ := List(); slices.Contains(names, name) {
		t.Errorf("%s is still listed", name)
	}
	if _, err := Open(name); !errors.Is(err, ErrNotExist) {
		t.Errorf("Open of what is gone = %v, want ErrNotExist", err)
	}
}

func TestIproute2KnowsWhatCreateMade(t *testing.T) {
	name := create(t, "iproute")
	out, err := exec.Command("ip", "netns", "exec", name, "cat", "/proc/net/dev").CombinedOutput()
	if err != nil {
		t.Fatalf("ip netns exec: %v: %s", err, out)
	}
	if lines := strings.Count(strings.TrimSpace(string(out)), "\n"); lines != 2 { // two of heading, then lo
		t.Errorf("a fresh namespace has more than a loopback:\n%s", out)
	}
	if out, err := exec.Command("ip", "netns", "del", name).CombinedOutput(); err != nil {
		t.Fatalf("ip netns del: %v: %s", err, out)
	}
}

func TestDirIsASharedMount(t *testing.T) {
	create(t, "shared")
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	dirs := 0
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); f[4] == Dir {
			dirs++
			if !strings.HasPrefix(f[6], "shared:") {
				t.Errorf("not shared: %s", line)
			}
		}
	}
	if dirs != 1 {
		t.Errorf("%s is mounted %d times", Dir, dirs)
	}
}

func TestManyAreMadeAtOnce(t *testing.T) {
	nettest.Root(t)
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			name := fmt.Sprintf("uvns-many%d-%d", i, os.Getpid())
			if err := Create(name); err != nil {
				t.Error(err)
				return
			}
			if err := Do(name, func() error { return nil }); err != nil {
				t.Error(err)
			}
			if err := Delete(name); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestDoRunsInsideAndNobodyElseDoes(t *testing.T) {
	name := create(t, "do")
	home := inode(t)
	var inside uint64
	fail := errors.New("from inside")
	err := Do(name, func() error {
		inside = inode(t)
		if links, err := net.Interfaces(); err != nil || len(links) != 1 {
			t.Errorf("interfaces inside: %v, %v", links, err)
		}
		return fail
	})
	if !errors.Is(err, fail) {
		t.Errorf("Do = %v, want what the function returned", err)
	}
	if inside == home {
		t.Error("the function ran outside")
	}
	var st unix.Stat_t
	tasks, err := filepath.Glob("/proc/self/task/*/ns/net")
	if err != nil || len(tasks) == 0 {
		t.Fatal(tasks, err)
	}
	for _, task := range tasks {
		if unix.Stat(task, &st) == nil && st.Ino != home {
			t.Errorf("%s was left in a foreign namespace", task)
		}
	}
}

func TestDoReturnsWhenTheFunctionEndsItsGoroutine(t *testing.T) {
	name := create(t, "goexit")
	if err := Do(name, func() error { runtime.Goexit(); return nil }); !errors.Is(err, errExited) {
		t.Errorf("Do = %v", err)
	}
}

func TestDoNestsAndKeepsTheSocketsOfEach(t *testing.T) {
	a, b := create(t, "outer"), create(t, "inner")
	var first, second net.PacketConn
	err := Do(a, func() (err error) {
		outer := inode(t)
		if first, err = net.ListenPacket("udp4", "0.0.0.0:4789"); err != nil {
			return err
		}
		err = Do(b, func() (err error) {
			second, err = net.ListenPacket("udp4", "0.0.0.0:4789") // the port is free here only
			return err
		})
		if inode(t) != outer {
			t.Error("the outer function was moved by the inner one")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	first.Close()
	second.Close()
}

func TestAFileThatIsNoNamespaceIsRefused(t *testing.T) {
	nettest.Root(t)
	file := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]error{
		file:                  ErrNotNamespace,
		"/proc/self/ns/mnt":   ErrNotNamespace,
		"/no/such/file":       ErrNotExist,
		"uvns-never-was-made": ErrNotExist,
		"":                    ErrName,
	} {
		if f, err := Open(path); !errors.Is(err, want) {
			f.Close()
			t.Errorf("Open(%q) = %v, want %v", path, err, want)
		}
		if err := Do(path, func() error { t.Error("called"); return nil }); !errors.Is(err, want) {
			t.Errorf("Do(%q) = %v, want %v", path, err, want)
		}
	}
}

func TestDeleteRemovesWhatACrashLeftUnmounted(t *testing.T) {
	create(t, "dir") // so that the directory is there
	name := fmt.Sprintf("uvns-stale-%d", os.Getpid())
	if err := os.WriteFile(Path(name), nil, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(name); !errors.Is(err, ErrNotNamespace) {
		t.Errorf("Open = %v, want ErrNotNamespace", err)
	}
	if err := Delete(name); err != nil {
		t.Error(err)
	}
}

func TestAStartedProgramLivesInsideWithASysOfItsOwn(t *testing.T) {
	name := create(t, "start")
	cmd := exec.Command("sh", "-c", "ls /sys/class/net; readlink /proc/self/ns/net; echo ready; read end")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := Start(name, cmd); err != nil {
		t.Fatal(err)
	}
	buf, n := make([]byte, 256), 0
	for strings.Count(string(buf[:n]), "\n") < 3 { // the shell has waited for its children by then
		k, err := out.Read(buf[n:])
		if n += k; err != nil {
			t.Fatalf("%v after %q", err, buf[:n])
		}
	}
	var st unix.Stat_t
	if err := unix.Stat(Path(name), &st); err != nil {
		t.Fatal(err)
	}
	if got, want := string(buf[:n]), fmt.Sprintf("lo\nnet:[%d]\nready\n", st.Ino); got != want {
		t.Errorf("inside: %q, want %q", got, want)
	}
	if pids, err := PIDs(name); err != nil || !slices.Equal(pids, []int{cmd.Process.Pid}) {
		t.Errorf("PIDs = %v, %v, want %d alone", pids, err, cmd.Process.Pid)
	}
	// The name must be free while a program that was started with it runs: its
	// mounts follow those of the outside.
	if err := Delete(name); err != nil {
		t.Error(err)
	}
	in.Close()
	if err := cmd.Wait(); err == nil {
		t.Error("read at the end of its input should have failed")
	}
}

func TestStartSaysWhichProgramIsMissing(t *testing.T) {
	name := create(t, "missing")
	err := Start(name, exec.Command("/no/such/program"))
	if err == nil || !strings.Contains(err.Error(), "/no/such/program") {
		t.Errorf("Start = %v", err)
	}
	if err := Start("uvns-never-was-made", exec.Command("true")); !errors.Is(err, ErrNotExist) {
		t.Errorf("Start = %v, want ErrNotExist", err)
	}
}

func BenchmarkDo(b *testing.B) {
	nettest.Root(b)
	for b.Loop() {
		if err := Do("/proc/self/ns/net", func() error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}
