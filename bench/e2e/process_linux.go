package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/uvtep/uvtep/internal/netns"
)

const (
	readyTimeout = 10 * time.Second
	readyPoll    = 5 * time.Millisecond
	termTimeout  = 3 * time.Second
)

// process is a program that runs in a namespace and writes into a log.
type process struct {
	name string
	cmd  *exec.Cmd
	log  string        // file
	done chan struct{} // closed when it has ended
	err  error         // how it ended, once done is closed
}

// start starts a program in a namespace, in a session of its own: a Ctrl-C at
// the terminal is for whoever started it, who then ends it in order. Whoever
// starts it calls end, also when it has ended by itself.
func start(ns, log string, env []string, name string, args ...string) (*process, error) {
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
	p := &process{name: filepath.Base(name), cmd: cmd, log: log, done: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// end ends it, kindly first, and waits for it.
func (p *process) end() {
	p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended already
	p.cmd.Process.Signal(syscall.SIGCONT) // or be stopped
	select {
	case <-p.done:
	case <-time.After(termTimeout):
		p.cmd.Process.Kill()
		<-p.done
	}
}

// await waits until ok says so; it fails when the process ends before, or the
// context does, or nothing comes of it.
func (p *process) await(ctx context.Context, ok func() bool) error {
	deadline := time.NewTimer(readyTimeout)
	defer deadline.Stop()
	poll := time.NewTicker(readyPoll)
	defer poll.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-p.done:
			return fmt.Errorf("%s ended before it was ready (%s): %s", p.name, p.cmd.ProcessState, p.lastLine())
		case <-deadline.C:
			return fmt.Errorf("%s was not ready within %s: %s", p.name, readyTimeout, p.lastLine())
		case <-poll.C:
			if ok() {
				return nil
			}
		}
	}
}

// wait waits for it to end. If the context ends first, it is ended.
func (p *process) wait(ctx context.Context) error {
	select {
	case <-p.done:
		if p.err != nil {
			return fmt.Errorf("%s: %w: %s", p.name, p.err, p.lastLine())
		}
		return nil
	case <-ctx.Done():
		p.end()
		return ctx.Err()
	}
}

// says tells whether a whole line of the log has the word.
func (p *process) says(word string) bool {
	b, err := os.ReadFile(p.log)
	return err == nil && bytes.Contains(b[:bytes.LastIndexByte(b, '\n')+1], []byte(word))
}

// lastLine is what its log ends with, for people to read.
func (p *process) lastLine() string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	if last := lines[len(lines)-1]; last != "" {
		return last
	}
	return "it said nothing"
}

// output runs a short program to its end and returns what it wrote. What it
// complained of is part of the error.
func output(ctx context.Context, env []string, name string, args ...string) (string, error) {
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
