package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/uvtep/uvtep/internal/netns"
)

const (
	readyTimeout = 10 * time.Second
	readyPoll    = 2 * time.Millisecond
	termTimeout  = 5 * time.Second
	killTimeout  = 2 * time.Second
)

// readyWord is what the daemon logs once every port is up and every socket bound.
var readyWord = regexp.MustCompile(`\bready\b`)

// start runs the host's daemon in its namespace and returns once it is ready.
// The daemon outlives this process, and a Ctrl-C at its terminal.
func (h *Host) start(ctx context.Context, binary string) error {
	log, err := os.OpenFile(h.Log, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(binary, "run", "-c", h.Config, "--socket", h.Socket)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	// A supervisor that waits for our word must not be told by the daemon.
	cmd.Env = slices.DeleteFunc(os.Environ(), func(e string) bool {
		return strings.HasPrefix(e, "NOTIFY_SOCKET=") || strings.HasPrefix(e, "UVTEP_SOCKET=")
	})
	if err := netns.Start(h.NetNS, cmd); err != nil {
		return fmt.Errorf("%s: %w", h.Name, err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	h.PID = cmd.Process.Pid
	if h.Started, err = startTime(h.PID); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s: %w", h.Name, err)
	}
	return h.waitReady(ctx, exited)
}

func (h *Host) waitReady(ctx context.Context, exited <-chan error) error {
	deadline := time.NewTimer(readyTimeout)
	defer deadline.Stop()
	poll := time.NewTicker(readyPoll)
	defer poll.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-exited:
			if err == nil {
				err = errors.New("exit status 0")
			}
			return fmt.Errorf("%s: uvtep ended before it was ready (%w): %s", h.Name, err, lastLine(h.Log))
		case <-deadline.C:
			return fmt.Errorf("%s: uvtep was not ready within %s: %s", h.Name, readyTimeout, lastLine(h.Log))
		case <-poll.C:
			b, err := os.ReadFile(h.Log)
			if err != nil {
				return err
			}
			// Whole lines only: one that is being written may yet say "ready
			// to be told otherwise".
			if readyWord.Match(b[:bytes.LastIndexByte(b, '\n')+1]) {
				h.Running = true
				return nil
			}
		}
	}
}

// lastLine is what a log ends with, for people to read.
func lastLine(file string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	if last := lines[len(lines)-1]; last != "" {
		return last
	}
	return "its log is empty"
}

// startTime is when a process was started, in clock ticks since boot: field 22
// of proc(5)'s stat. No two processes share a number and a start.
func startTime(pid int) (uint64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The name, field 2, is in brackets and may hold brackets and blanks.
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < 20 {
		return 0, fmt.Errorf("/proc/%d/stat: %d fields", pid, len(fields)+2)
	}
	return strconv.ParseUint(fields[19], 10, 64)
}

// alive says whether the host's daemon runs.
func (h *Host) alive() bool {
	p, err := h.open()
	if err != nil || p < 0 {
		return false
	}
	defer unix.Close(p)
	return !ended(p, 0)
}

// open returns a descriptor of the host's daemon, -1 if it is gone. What has
// its number now, but not its start time, is somebody else.
func (h *Host) open() (pidfd int, err error) {
	if h.PID == 0 {
		return -1, nil
	}
	return openProcess(h.PID, func() bool {
		started, err := startTime(h.PID)
		return err == nil && started == h.Started
	})
}

// openProcess returns a descriptor of a process, -1 if there is none or if it
// is not the right one. What is asked after it is open is asked of the process
// that it stands for, or of nobody.
func openProcess(pid int, right func() bool) (int, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return -1, nil
	}
	if err != nil {
		return -1, fmt.Errorf("process %d: %w", pid, err)
	}
	if !right() {
		unix.Close(fd)
		return -1, nil
	}
	return fd, nil
}

// end stops a process, kindly first, and closes its descriptor.
func end(ctx context.Context, pidfd int) error {
	defer unix.Close(pidfd)
	for _, try := range []struct {
		signal unix.Signal
		wait   time.Duration
	}{{unix.SIGTERM, termTimeout}, {unix.SIGKILL, killTimeout}} {
		if ctx.Err() != nil && try.signal == unix.SIGTERM {
			continue
		}
		err := unix.PidfdSendSignal(pidfd, try.signal, nil, 0)
		if errors.Is(err, unix.ESRCH) {
			return nil
		}
		if err != nil {
			return err
		}
		if ended(pidfd, try.wait) {
			return nil
		}
	}
	return errors.New("it does not end, not even by SIGKILL")
}

// ended waits for a process to end.
func ended(pidfd int, wait time.Duration) bool {
	for deadline := time.Now().Add(wait); ; {
		fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, int(max(0, time.Until(deadline).Milliseconds())))
		if !errors.Is(err, unix.EINTR) {
			return n > 0
		}
	}
}
