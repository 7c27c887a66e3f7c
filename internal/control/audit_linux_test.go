package control_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/uvtep/uvtep/internal/control"
)

func TestWhoAsksForAChangeIsLogged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "uvtep.sock")
	l, err := control.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	f := &fake{}
	go func() {
		done <- control.Serve(ctx, l, control.Handler(f, "1.2.3"), slog.New(slog.NewTextHandler(&log, nil)))
	}()
	c := control.NewClient(path)
	if _, err := c.Segments(ctx, 0); err != nil {
		t.Error(err)
	}
	if err := c.AddPeer(ctx, 100, dst); err != nil {
		t.Error(err)
	}
	f.err = control.Errorf(control.ErrNotFound, "no peer")
	if err := c.DeletePeer(ctx, 100, dst); err == nil {
		t.Error("it was deleted")
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	who := fmt.Sprintf("uid=%d pid=%d", os.Geteuid(), os.Getpid())
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	if len(lines) != 2 ||
		!strings.HasSuffix(lines[0], who+" method=PUT path=/v1/segments/100/peers/10.9.0.2 status=204") ||
		!strings.HasSuffix(lines[1], who+" method=DELETE path=/v1/segments/100/peers/10.9.0.2 status=404") {
		t.Errorf("the log is\n%s", &log)
	}
}

func TestTheSocketIsNeverOpenToOthers(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	path := filepath.Join(t.TempDir(), "uvtep.sock")
	l, err := control.Bind(path) // the mode is not set yet
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("mode %v, %v; want 0660", info.Mode(), err)
	}
}
