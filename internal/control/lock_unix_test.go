//go:build unix

package control_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/uvtep/uvtep/internal/control"
)

func TestADirectoryThatSomebodyHoldsLockedIsRefusedInTheEnd(t *testing.T) {
	dir := t.TempDir()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_SH); err != nil {
		t.Fatal(err)
	}
	l, err := control.Listen(filepath.Join(dir, "uvtep.sock"))
	if err == nil {
		l.Close()
		t.Fatal("it was taken")
	}
	if !strings.Contains(err.Error(), "choose --socket") {
		t.Errorf("got %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
