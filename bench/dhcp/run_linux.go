package dhcp

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/uvtep/uvtep/bench"
	"github.com/uvtep/uvtep/bench/proc"
)

// Run measures the systems in turn, and takes everything away again, also when
// the context ends. A system that is not installed, or fails, is left out, and
// the result says why.
func Run(ctx context.Context, o Options) (*Result, error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("%w: run it with sudo", ErrNotRoot)
	}
	generator, err := exec.LookPath("perfdhcp")
	if err != nil {
		return nil, ErrMissing
	}
	if o.Binary == "" {
		if o.Binary, err = os.Executable(); err != nil {
			return nil, err
		}
	}
	if o.Dir == "" {
		o.Dir = "/var/lib"
	}
	dir, err := os.MkdirTemp(o.Dir, "uvtep-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	r := &run{o: o, generator: generator, dir: dir, began: time.Now()}
	r.result = &Result{
		Version: o.Version, Machine: bench.Machine(), Started: r.began.Round(time.Second),
		Rounds: o.Rounds, Time: o.Time.Seconds(), Loss: tolerance, FileSystem: fileSystem(dir),
	}
	for _, name := range o.Systems {
		s := systems[slices.IndexFunc(systems, func(s system) bool { return s.name == name })]
		about := System{Name: s.name, Title: s.title, About: s.about, Values: []Value{}, Trials: []Trial{}}
		if s.program != "" {
			if _, err := exec.LookPath(s.program); err != nil {
				about.Missing = s.program + " is not installed"
				o.Progress(Event{Line: s.title + " is left out: " + about.Missing})
			}
		}
		r.result.Systems = append(r.result.Systems, about)
	}
	for round := range o.Rounds {
		for i := range r.result.Systems {
			s := &r.result.Systems[i]
			if s.Missing != "" {
				continue
			}
			err := r.measure(ctx, round, s)
			if ctx.Err() != nil {
				return nil, ErrInterrupted
			}
			if err != nil {
				s.Missing = err.Error()
				o.Progress(Event{Line: s.Title + " is left out: " + s.Missing})
			}
		}
	}
	r.result.Took = time.Since(r.began).Seconds()
	return r.result, nil
}

type run struct {
	o         Options
	generator string
	dir       string // on the disk that the leases are on
	began     time.Time
	result    *Result
}

// measure measures a system once.
func (r *run) measure(ctx context.Context, round int, s *System) error {
	where := fmt.Sprintf("%d/%d  %s", round+1, r.o.Rounds, s.Title)
	var bytes uint64 // of the server, after the last trial
	trial := func(rate float64, times bool) (Trial, error) {
		r.o.Progress(Event{Text: fmt.Sprintf("%s  %.0f exchanges a second", where, rate)})
		t, rss, err := r.trial(ctx, s.Name, rate, times)
		if err == nil {
			s.Trials = append(s.Trials, t)
			bytes = rss
		}
		return t, err
	}
	var rss uint64
	best, ok, err := highest(func(rate float64) (Trial, error) {
		t, err := trial(rate, false)
		if err == nil && t.Loss() <= tolerance {
			rss = bytes
		}
		return t, err
	})
	if err != nil {
		return err
	}
	if ok {
		s.add(rate, best.Rate())
		s.add(cpuBest, best.perExchange())
		s.add(memory, float64(rss))
	}
	steady, err := trial(steadyRate, true)
	if err != nil {
		return err
	}
	s.add(cpuSteady, steady.perExchange())
	s.add(ackHalf, steady.percentile(0.50))
	s.add(ackHigh, steady.percentile(0.99))
	r.o.Progress(Event{Line: fmt.Sprintf("%-18s %6.0f/s without loss, %5.1f µs an exchange; at %d/s %.1f µs, ACK p99 %.2f ms", where,
		best.Rate(), 1e6*best.perExchange(), steadyRate, 1e6*steady.perExchange(), 1e3*steady.percentile(0.99))})
	return nil
}

// trial has perfdhcp ask a fresh server, and returns how much memory that has in
// the end, in bytes.
func (r *run) trial(ctx context.Context, name string, rate float64, times bool) (t Trial, rss uint64, err error) {
	w, err := newWorld(r.dir)
	if err != nil {
		return Trial{}, 0, err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	server, err := w.serve(ctx, name, r.o.Binary)
	if err != nil {
		return Trial{}, 0, err
	}
	before, err := server.CPU()
	if err != nil {
		return Trial{}, 0, err
	}
	// -W: what is on its way at the end still counts, in microseconds.
	args := []string{"-4", "-l", clientIf, "-r", strconv.Itoa(int(rate)), "-R", strconv.Itoa(poolSize),
		"-p", strconv.Itoa(int(r.o.Time.Seconds())), "-W", "1000000"}
	if times {
		args = append(args, "-xt")
	}
	clients, err := proc.Start(w.client, filepath.Join(w.dir, "perfdhcp.log"), nil, r.generator, args...)
	if err != nil {
		return Trial{}, 0, err
	}
	defer clients.End()
	ctx, cancel := context.WithTimeout(ctx, r.o.Time+proc.ReadyTimeout)
	defer cancel()
	ended := clients.Wait(ctx) // it fails where something was lost: its report says more
	if ctx.Err() != nil {
		return Trial{}, 0, ended
	}
	after, err := server.CPU()
	if err != nil {
		return Trial{}, 0, err
	}
	if rss, err = server.Resident(); err != nil {
		return Trial{}, 0, err
	}
	report, err := os.Open(clients.Log)
	if err != nil {
		return Trial{}, 0, err
	}
	defer report.Close()
	t = Trial{Offered: rate, Seconds: r.o.Time.Seconds(), CPU: (after - before).Seconds()}
	if err := t.parse(report); err != nil {
		return Trial{}, 0, errors.Join(err, ended)
	}
	return t, rss, nil
}

// fileSystem names what a directory is on.
func fileSystem(dir string) string {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return "an unknown file system"
	}
	switch s.Type {
	case unix.TMPFS_MAGIC:
		return "tmpfs, which is no disk"
	case unix.EXT4_SUPER_MAGIC:
		return "ext4"
	case unix.XFS_SUPER_MAGIC:
		return "xfs"
	case unix.BTRFS_SUPER_MAGIC:
		return "btrfs"
	case unix.OVERLAYFS_SUPER_MAGIC:
		return "overlayfs"
	}
	return fmt.Sprintf("a file system of type %#x", s.Type)
}
