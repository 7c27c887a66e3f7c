// Package dhcp measures DHCP servers side by side on one machine: uvtep, which
// answers on the TAP of a port and has every lease on disk before it says so, and
// Kea and dnsmasq behind a veth. perfdhcp plays the clients. It needs root, and
// Linux.
package dhcp

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Errors, to be told apart by errors.Is.
var (
	ErrNotRoot     = errors.New("these measurements make network namespaces and need root")
	ErrInterrupted = errors.New("interrupted")
	ErrOptions     = errors.New("wrong options")
	ErrMissing     = errors.New("perfdhcp is not installed (Debian: kea-admin)")
	ErrUnsupported = errors.New("network namespaces are a feature of Linux")
)

// Options say what is measured. Zero values are the defaults.
type Options struct {
	Rounds   int           // default 3
	Time     time.Duration // of a trial, whole seconds, default 5 s
	Systems  []string      // names, default DefaultSystems
	Dir      string        // where leases are kept, default the system's directory for state; a disk, for a fair figure
	Binary   string        // the uvtep to be measured; default the running program
	Version  string        // of that binary
	Progress func(Event)   // told what goes on, from one goroutine; nil = nobody listens
}

// Event tells how far a run has come.
type Event struct {
	Text string // what goes on
	Line string // what has come out meanwhile, for people; "" = nothing new
}

// The names of systems.
const (
	Uvtep = "uvtep"
	Kea   = "kea"
)

// system is something that answers.
type system struct {
	name, title, about string
	program            string // that has to be installed
}

var systems = []system{
	{Uvtep, "uvtep", "every lease on disk before its ACK; no probe", ""},
	{"uvtep-probe", "uvtep, probe", "the same, and addresses are probed for 200 ms before they are offered", ""},
	{Kea, "Kea", "memfile that nothing is written of (persist off), 4 threads", "kea-dhcp4"},
	{"kea-persist", "Kea, persist", "memfile that is written, and not synced, 4 threads", "kea-dhcp4"},
	{"dnsmasq", "dnsmasq", "lease file, without pings", "dnsmasq"},
}

// DefaultSystems are what is measured unless somebody asks for more.
func DefaultSystems() []string { return []string{Uvtep, Kea} }

// SystemNames are all systems that there are.
func SystemNames() (names []string) {
	for _, s := range systems {
		names = append(names, s.name)
	}
	return names
}

// Result is what a run found. The JSON keys are stable.
type Result struct {
	Version    string    `json:"version"` // of the uvtep that was measured
	Machine    string    `json:"machine"`
	Started    time.Time `json:"started"`
	Took       float64   `json:"took_s"`
	Rounds     int       `json:"rounds"`
	Time       float64   `json:"time_s"`      // of a trial
	Loss       float64   `json:"loss"`        // that counts as none
	FileSystem string    `json:"file_system"` // that has the leases
	Systems    []System  `json:"systems"`     // in the order in which they were measured
}

// System is a server and what was found of it.
type System struct {
	Name    string  `json:"name"`
	Title   string  `json:"title"`
	About   string  `json:"about"`
	Missing string  `json:"missing,omitempty"` // why it could not be measured
	Values  []Value `json:"values"`
	Trials  []Trial `json:"trials"` // all that counted, in the order of time
}

// Value is one measure of one system.
type Value struct {
	Measure string    `json:"measure"`
	Unit    string    `json:"unit"`
	Median  float64   `json:"median"`
	Samples []float64 `json:"samples"` // one a round
}

// measure is a row of the report.
type measure struct {
	id, title, unit string
	shown           string  // the unit that people are shown,
	per             float64 // and how many of unit it is
}

// The measures.
const (
	rate      = "rate"       // the highest without loss
	cpuBest   = "cpu_rate"   // at that rate
	cpuSteady = "cpu_steady" // at steadyRate
	ackHalf   = "ack_p50"    // likewise
	ackHigh   = "ack_p99"
	memory    = "memory" // after the trial of the highest rate
)

var measures = []measure{
	{rate, "exchanges, no loss", "1/s", "1/s", 1},
	{cpuBest, "CPU an exchange, at that rate", "s", "µs", 1e-6},
	{cpuSteady, "CPU an exchange, at 2,000/s", "s", "µs", 1e-6},
	{ackHalf, "REQUEST to ACK at 2,000/s, p50", "s", "ms", 1e-3},
	{ackHigh, "REQUEST to ACK at 2,000/s, p99", "s", "ms", 1e-3},
	{memory, "memory", "B", "MiB", 1 << 20},
}

const (
	steadyRate    = 2000 // exchanges a second
	tolerance     = 1e-3 // the loss that counts as none
	defaultRounds = 3
	defaultTime   = 5 * time.Second
	mostRounds    = 100
)

// fill replaces zero values by defaults and refuses what makes no run.
func (o *Options) fill() error {
	if o.Rounds == 0 {
		o.Rounds = defaultRounds
	}
	if o.Time == 0 {
		o.Time = defaultTime
	}
	if len(o.Systems) == 0 {
		o.Systems = DefaultSystems()
	}
	if o.Progress == nil {
		o.Progress = func(Event) {}
	}
	if o.Rounds < 1 || o.Rounds > mostRounds {
		return fmt.Errorf("%w: %d rounds: 1 to %d make a run", ErrOptions, o.Rounds, mostRounds)
	}
	if o.Time < time.Second || o.Time%time.Second != 0 {
		return fmt.Errorf("%w: a trial takes whole seconds, not %s", ErrOptions, o.Time)
	}
	for i, name := range o.Systems {
		if !slices.Contains(SystemNames(), name) {
			return fmt.Errorf("%w: there is no system %q: choose from %s", ErrOptions, name, strings.Join(SystemNames(), ", "))
		}
		if slices.Contains(o.Systems[:i], name) {
			return fmt.Errorf("%w: the system %s is there twice", ErrOptions, name)
		}
	}
	return nil
}
