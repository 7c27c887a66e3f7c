package stream_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/uvtep/uvtep/internal/stream"
)

func TestTheFileOfTheSocket(t *testing.T) {
	old := unix.Umask(0o077)
	p := open(t)
	unix.Umask(old)
	info, err := os.Lstat(p.path)
	if err != nil {
		t.Fatal(err)
	}
	if m := info.Mode(); m.Type() != os.ModeSocket || m.Perm() != 0o660 {
		t.Errorf("mode %v, want a socket's, 0660", m)
	}
	if p.Name() != "vm1.sock" || len(p.Queues()) != 1 || p.Offload() != 0 || p.SetMTU(1400) != nil {
		t.Errorf("it is called %s and has %d queues and %v", p.Name(), len(p.Queues()), p.Offload())
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "vm2.sock")
	q, err := stream.Open(stream.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	if err := q.Close(); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("it left %v: %v", left, err)
	}
}

func TestASocketThatSomebodyElsePutThereStays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "vm1.sock")
	dev, err := stream.Open(stream.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path, path+".old"); err != nil {
		t.Fatal(err)
	}
	other, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := dev.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the other one's socket: %v", err)
	}
}

func TestASocketOfAProgramThatIsGoneIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "vm1.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	openAt(t, path).joined()
}

func TestWhatCannotBeOpenedSaysWhy(t *testing.T) {
	dir := t.TempDir()
	taken := filepath.Join(dir, "taken")
	openAt(t, taken)
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	long := "/" + strings.Repeat("x", stream.MaxPath)
	for _, tc := range []struct {
		path string
		want error
		word string
	}{
		{taken, stream.ErrInUse, "stop that program"},
		{file, stream.ErrNotSocket, "move it away"},
		{filepath.Join(dir, "none", "vm1.sock"), stream.ErrNoDirectory, "mkdir -p " + filepath.Join(dir, "none")},
		{filepath.Join(file, "vm1.sock"), stream.ErrNoDirectory, "mkdir -p " + file},
		{long, nil, "at most 107 bytes"},
	} {
		_, err := stream.Open(stream.Config{Path: tc.path})
		if err == nil || tc.want != nil && !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.word) || !strings.Contains(err.Error(), tc.path) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v; want %v and the words %q in one line", tc.path, err, tc.want, tc.word)
		}
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "precious" {
		t.Errorf("the file holds %q: %v", b, err)
	}
}
