package proc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/uvtep/uvtep/internal/netns"
)

const (
	ReadyTimeout = 10 * time.Second // how long Await waits
	readyPoll    = 5 * time.Millisecond
	termTimeout  = 3 * time.Second
)

// Process is a program that runs in a namespace and writes into a log.
type Process struct {
	Name string
	Log  string // file

	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	err  error         // how it ended, once done is closed
}

// Start starts a program in a namespace, in a session of its own: a Ctrl-C at
// the terminal is for whoever started it, who then ends it in order. Whoever
// starts it calls End, also when it has ended by itself.
func Start(ns, log string, env []string, name string, args ...string) (*Process, error) {
	f, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = f, f
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	// A supervisor that waits for our word must not be told by others.
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(e string) bool { return strings.HasPrefix(e, "NOTIFY_SOCKET=") }), env...)
	if err := netns.Start(ns, cmd); err != nil {
		return nil, err
	}
	p := &Process{Name: filepath.Base(name), Log: log, cmd: cmd, done: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// End ends it, kindly first, and waits for it.
func (p *Process) End() {
	p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended already
	p.cmd.Process.Signal(syscall.SIGCONT) // or be stopped
	select {
	case <-p.done:
	case <-time.After(termTimeout):
		p.cmd.Process.Kill()
		<-p.done
	}
}

// Await waits until ok says so; it fails when the process ends before, or the
// context does, or nothing comes of it.
func (p *Process) Await(ctx context.Context, ok func() bool) error {
	deadline := time.NewTimer(ReadyTimeout)
	defer deadline.Stop()
	poll := time.NewTicker(readyPoll)
	defer poll.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-p.done:
			return fmt.Errorf("%s ended before it was ready (%s): %s", p.Name, p.cmd.ProcessState, p.LastLine())
		case <-deadline.C:
			return fmt.Errorf("%s was not ready within %s: %s", p.Name, ReadyTimeout, p.LastLine())
		case <-poll.C:
			if ok() {
				return nil
			}
		}
	}
}

// Wait waits for it to end. If the context ends first, it is ended.
func (p *Process) Wait(ctx context.Context) error {
	select {
	case <-p.done:
		if p.err != nil {
			return fmt.Errorf("%s: %w: %s", p.Name, p.err, p.LastLine())
		}
		return nil
	case <-ctx.Done():
		p.End()
		return ctx.Err()
	}
}

// Says tells whether a whole line of the log has the word.
func (p *Process) Says(word string) bool {
	b, err := os.ReadFile(p.Log)
	return err == nil && bytes.Contains(b[:bytes.LastIndexByte(b, '\n')+1], []byte(word))
}

// LastLine is what its log ends with, for people to read.
func (p *Process) LastLine() string {
	b, err := os.ReadFile(p.Log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	if last := lines[len(lines)-1]; last != "" {
		return last
	}
	return "it said nothing"
}

// Output runs a short program to its end and returns what it wrote. What it
// complained of is part of the error.
func Output(ctx context.Context, env []string, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && len(exit.Stderr) > 0 {
		return "", fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(string(exit.Stderr)))
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	return string(out), nil
}

// userHZ is the unit of times below /proc, on every processor that Go knows.
const userHZ = 100

// PID is its number, also once it has ended.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Signal sends it a signal. What has ended is found out by whoever asks more of it.
func (p *Process) Signal(s syscall.Signal) { p.cmd.Process.Signal(s) }

// CPU is what it has worked, its kernel's side included: fields 14 and 15 of
// proc(5)'s stat.
func (p *Process) CPU() (time.Duration, error) {
	b, err := p.proc("stat")
	if err != nil {
		return 0, err
	}
	// The name, field 2, is in brackets and may hold brackets and blanks.
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(f) < 13 {
		return 0, fmt.Errorf("%s: stat has %d fields", p.Name, len(f)+2)
	}
	var sum int64
	for _, v := range f[11:13] {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%s: stat: %w", p.Name, err)
		}
		sum += n
	}
	return time.Duration(sum) * time.Second / userHZ, nil
}

// Resident is its memory that is in RAM, in bytes.
func (p *Process) Resident() (uint64, error) {
	b, err := p.proc("statm")
	if err != nil {
		return 0, err
	}
	f := strings.Fields(string(b))
	if len(f) < 2 {
		return 0, fmt.Errorf("%s: statm is %q", p.Name, b)
	}
	pages, err := strconv.ParseUint(f[1], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: statm: %w", p.Name, err)
	}
	return pages * uint64(os.Getpagesize()), nil
}

// proc reads a file that proc(5) has of it.
func (p *Process) proc(file string) ([]byte, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", p.PID(), file))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.Name, err)
	}
	return b, nil
}
