// Package bench measures the fast path in memory: its steps one by one, and the
// whole way of a frame through a VTEP that stands between null devices. It needs
// no rights and no network. A [Scenario] is what is measured; go test -bench and
// a command drive the same ones.
//
// Frames are 64 bytes long, as on a cable with its FCS, unless a scenario says
// otherwise. Everything runs on one core.
package bench

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Scenario is one thing to measure.
type Scenario struct {
	Name      string // what one operation is; several scenarios share one
	Addresses int    // MAC addresses in the forwarding table; 0 = none is used
	Frame     int    // length of the frame, bytes with FCS; 0 = there is none
	Writer    bool   // meanwhile the table changes 100,000 times a second

	start func(Scenario) (*run, error)
}

// run is a scenario that was set up.
type run struct {
	do   func(n int) error // n operations
	stop func()            // nil = nothing to stop
}

// Scenarios are all there are, in the order of a table for people.
func Scenarios() []Scenario {
	return slices.Concat(stepScenarios(), superScenarios(), tableScenarios(), pathScenarios())
}

// ID tells a scenario from all others, without spaces: for go test -bench and
// for filters.
func (s Scenario) ID() string {
	id := strings.NewReplacer(" ", "-", ",", "").Replace(s.Name)
	if s.Frame > 0 {
		id += fmt.Sprintf("/%dB", s.Frame)
	}
	if s.Addresses > 0 {
		id += fmt.Sprintf("/%d", s.Addresses)
	}
	if s.Writer {
		id += "/writer"
	}
	return id
}

// Start sets the scenario up. do performs n operations and says so if not all of
// them came to their end; stop, which is called once, takes the scenario down.
func (s Scenario) Start() (do func(n int) error, stop func(), err error) {
	r, err := s.start(s)
	if err != nil {
		return nil, nil, fmt.Errorf("bench: %s: %w", s.ID(), err)
	}
	do = func(n int) error {
		if err := r.do(n); err != nil {
			return fmt.Errorf("bench: %s: %w", s.ID(), err)
		}
		return nil
	}
	stop = func() {
		if r.stop != nil {
			r.stop()
		}
	}
	return do, stop, nil
}

// Result is what was measured. The JSON keys are stable.
type Result struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	Addresses int       `json:"addresses"`
	Frame     int       `json:"frame_bytes"`
	Writer    bool      `json:"writer"`
	NS        float64   `json:"ns"`      // nanoseconds an operation, the median of the samples
	Mops      float64   `json:"mops"`    // million operations a second on one core
	Allocs    float64   `json:"allocs"`  // allocations an operation, of all goroutines
	Samples   []float64 `json:"samples"` // nanoseconds an operation, in the order of time
}

// samples is how many a measurement takes: their spread shows a machine that
// has other things to do.
const samples = 5

// Measure runs the scenario for about the time d, its setting up aside.
func (s Scenario) Measure(d time.Duration) (Result, error) {
	do, stop, err := s.Start()
	if err != nil {
		return Result{}, err
	}
	defer stop()
	each := d / samples
	n, err := fit(do, each)
	if err != nil {
		return Result{}, err
	}
	r := Result{ID: s.ID(), Name: s.Name, Addresses: s.Addresses, Frame: s.Frame, Writer: s.Writer}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for range samples {
		start := time.Now()
		if err := do(n); err != nil {
			return Result{}, err
		}
		r.Samples = append(r.Samples, float64(time.Since(start))/float64(n))
	}
	runtime.ReadMemStats(&after)
	r.Allocs = float64(after.Mallocs-before.Mallocs) / float64(samples*n)
	r.NS = median(r.Samples)
	r.Mops = 1e3 / r.NS
	return r, nil
}

// fit finds how many operations take the time d, and warms up on the way.
func fit(do func(int) error, d time.Duration) (int, error) {
	for n := 1024; ; n *= 4 {
		start := time.Now()
		if err := do(n); err != nil {
			return 0, err
		}
		took := max(time.Since(start), time.Nanosecond)
		if took > d/10 || n > 1<<30 {
			return max(1, int(float64(n)*float64(d)/float64(took))), nil
		}
	}
}

func median(of []float64) float64 {
	s := slices.Sorted(slices.Values(of))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// Spread is how far the samples lie apart, as a part of the median.
func (r Result) Spread() float64 { return (slices.Max(r.Samples) - slices.Min(r.Samples)) / r.NS }
