package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"
)

// Run sets all systems up, measures them in turn, and takes everything away
// again, also when the context ends. A system that cannot be set up, or fails
// twice at a measurement, is left out, and the result says why: see Result.Err.
//
// ErrOptions means that the options make no run, ErrNotRoot that root is needed,
// ErrInterrupted that the context ended. Where something could not be taken away
// there is both a result and an error.
func Run(ctx context.Context, o Options) (result *Result, err error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("%w: run it with sudo", ErrNotRoot)
	}
	if o.Binary == "" {
		if o.Binary, err = os.Executable(); err != nil {
			return nil, err
		}
	}
	w, err := newWorld()
	if err != nil {
		return nil, err
	}
	defer func() {
		if ctx.Err() != nil {
			result, err = nil, ErrInterrupted
		}
		if e := w.close(); e != nil {
			err = errors.Join(err, fmt.Errorf("take down: %w", e))
		}
	}()
	r, err := newRun(ctx, w, o)
	if err != nil {
		return nil, err
	}
	return r.measure(ctx)
}

// run is a run that goes on.
type run struct {
	o       Options
	tcp     generator
	systems []*system // that stand
	result  *Result
	results *results
	rates   map[string]float64 // the loss-free rate of each system as it was last found
	began   time.Time
	work    []work // what is measured in each round

	done, all time.Duration // of measurements, as expected
}

// work measures something of one system.
type work struct {
	head   string // the measure that it is called by
	expect time.Duration
	of     func(context.Context, *system) (sample, error)
}

// newRun sets up what is to be measured.
func newRun(ctx context.Context, w *world, o Options) (*run, error) {
	r := &run{o: o, results: newResults(o.Modes, o.Systems), rates: map[string]float64{}, began: time.Now()}
	machine, err := thisMachine()
	if err != nil {
		return nil, err
	}
	if r.tcp, err = newGenerator(ctx, o.Generator, w.dir); err != nil {
		return nil, err
	}
	r.result = &Result{
		Version: o.Version, Started: r.began.Round(time.Second), Machine: machine,
		Settings: Settings{
			Rounds: o.Rounds, Time: r.tcp.duration(o.Time).Seconds(), Trial: o.Trial.Seconds(), MTU: mtu, Frame: frameLen,
			Loss: tolerance, TCP: r.tcp.String(), UDP: builtin{}.String(),
		},
	}
	r.work = []work{
		{tcp1, r.tcp.duration(o.Time) + startTime, r.stream(1, tcp1, cpu1, ownCPU1)},
		{tcp4, r.tcp.duration(o.Time) + startTime, r.stream(4, tcp4, cpu4, ownCPU4)},
		{udp64, expectTrials * o.Trial, r.lossFree},
		{rttHalf, o.Trial, r.roundTrips},
	}
	for _, name := range o.Systems {
		about := systems[slices.IndexFunc(systems, func(s System) bool { return s.Name == name })]
		r.tell("set up "+about.Title, "")
		s, err := w.build(ctx, about, o)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			about.Missing = err.Error()
			r.tell("", fmt.Sprintf("%s is left out: %v", about.Title, err))
		} else {
			about = s.System
			r.systems = append(r.systems, s)
		}
		r.result.Systems = append(r.result.Systems, about)
	}
	for _, work := range r.work {
		r.all += work.expect * time.Duration(o.Rounds*len(o.Modes)*len(r.systems))
	}
	return r, nil
}

// tell tells whoever listens how far it is.
func (r *run) tell(text, line string) {
	share := 0.0
	if r.all > 0 {
		share = min(1, float64(r.done)/float64(r.all))
	}
	r.o.Progress(Event{Text: text, Share: share, Line: line})
}

// measure goes through modes, rounds and kinds of work, and in each of them
// through the systems in turn.
func (r *run) measure(ctx context.Context) (*Result, error) {
	for _, mode := range r.o.Modes {
		for _, s := range r.systems {
			if err := s.set(mode); err != nil {
				return nil, fmt.Errorf("%s: %w", s.Title, err)
			}
		}
		for round := range r.o.Rounds {
			for _, w := range r.work {
				if err := r.turn(ctx, mode, round, w); err != nil {
					return nil, err
				}
			}
			for _, s := range slices.Clone(r.systems) {
				if err := r.weigh(mode, s); err != nil {
					r.leaveOut(s, err)
				}
			}
		}
	}
	r.result.Values = r.results.values()
	r.result.Took = time.Since(r.began).Seconds()
	return r.result, nil
}

// turn measures one thing of each system.
func (r *run) turn(ctx context.Context, mode Mode, round int, w work) error {
	m := measureOf(w.head)
	found := map[string]sample{}
	where := fmt.Sprintf("%s %d/%d  %-20s", mode, round+1, r.o.Rounds, m.title)
	for _, s := range slices.Clone(r.systems) {
		r.tell(where+"  "+s.Title, "")
		r.only(s)
		v, err := w.of(ctx, s)
		if err != nil && ctx.Err() == nil {
			v, err = w.of(ctx, s)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		r.done += w.expect
		if err != nil {
			r.leaveOut(s, fmt.Errorf("%s, %s: %w", mode, m.title, err))
			continue
		}
		found[s.Name] = v
		r.results.add(mode, s.Name, v)
	}
	var about []System
	for _, s := range r.systems {
		about = append(about, s.System)
	}
	r.tell("", where+"  "+line(about, found, m))
	return nil
}

// awakeTime is how long a program needs to get going again.
const awakeTime = 100 * time.Millisecond

// only stops the programs of all systems but one: some are busy, or keep the
// processors awake, while nothing is asked of them. Whoever ends them lets them
// go on.
func (r *run) only(s *system) {
	for _, other := range r.systems {
		signal := syscall.SIGSTOP
		if other == s {
			signal = syscall.SIGCONT
		}
		for _, p := range other.procs {
			p.Signal(signal) // what has ended is found out by measuring it
		}
	}
	if len(s.procs) > 0 {
		time.Sleep(awakeTime)
	}
}

// leaveOut goes on without a system. What was measured of it before stays.
func (r *run) leaveOut(s *system, why error) {
	r.systems = slices.DeleteFunc(r.systems, func(other *system) bool { return other == s })
	for i := range r.result.Systems {
		if r.result.Systems[i].Name == s.Name {
			r.result.Systems[i].Missing = why.Error()
		}
	}
	r.tell("", fmt.Sprintf("%s is left out: %v", s.Title, why))
}

// stream measures TCP, and what it costs.
func (r *run) stream(streams int, rate, cpu, ownCPU string) func(context.Context, *system) (sample, error) {
	return func(ctx context.Context, s *system) (sample, error) {
		before, err := usageOf(s.procs)
		if err != nil {
			return sample{}, err
		}
		t, err := r.tcp.run(ctx, s, streams, r.o.Time)
		if err != nil {
			return sample{}, err
		}
		after, err := usageOf(s.procs)
		if err != nil {
			return sample{}, err
		}
		used, gbit := after.since(before), t.bits/1e9
		v := map[string]float64{rate: t.bits / t.seconds, cpu: used.all / gbit}
		if len(s.procs) > 0 {
			v[ownCPU] = used.own / gbit
		}
		return sample{values: v}, nil
	}
}

// lossFree looks for the highest rate of 64-byte frames without loss.
func (r *run) lossFree(ctx context.Context, s *system) (sample, error) {
	look := firstSearch
	if known := r.rates[s.Name]; known > 0 {
		look = laterSearch
		look.start = known
	}
	best, all, err := look.run(func(rate float64) (Trial, error) { return s.udp.flood(ctx, rate, r.o.Trial) })
	if err != nil {
		return sample{}, err
	}
	r.rates[s.Name] = best.Rate()
	return sample{values: map[string]float64{udp64: best.Rate()}, trials: all}, nil
}

// roundTrips measures how long an answer takes.
func (r *run) roundTrips(ctx context.Context, s *system) (sample, error) {
	all, err := s.udp.roundTrips(ctx, r.o.Trial)
	if err != nil {
		return sample{}, err
	}
	return sample{values: map[string]float64{
		rttHalf: percentile(all, 0.50).Seconds(), rttHigh: percentile(all, 0.99).Seconds(),
	}}, nil
}

// weigh measures the memory of a host: half of what both have.
func (r *run) weigh(mode Mode, s *system) error {
	if len(s.procs) == 0 {
		return nil
	}
	bytes, err := residentSet(s.procs)
	if err != nil {
		return err
	}
	r.results.add(mode, s.Name, sample{values: map[string]float64{memory: float64(bytes) / 2}})
	return nil
}
