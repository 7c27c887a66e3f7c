// Package e2e measures VXLAN end to end on one machine: uvtep, the kernel's own
// driver and Open vSwitch's userspace datapath stand side by side, each with two
// hosts and two guests in network namespaces of its own, and are measured in
// turn, so that whatever else the machine does meets all of them alike. It needs
// root, and Linux.
package e2e

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Errors, to be told apart by errors.Is.
var (
	ErrNotRoot     = errors.New("end to end measurements make network namespaces and need root")
	ErrInterrupted = errors.New("interrupted")
	ErrOptions     = errors.New("wrong options")
	ErrUnsupported = errors.New("network namespaces are a feature of Linux")
)

// Mode is how the underlay treats what is longer than its MTU.
type Mode string

// The modes.
const (
	// Virt is a plain veth pair: super-frames cross it whole.
	Virt Mode = "virt"
	// Wire is a veth pair with segmentation offloads off and GRO on, at both
	// ends: every packet is at most an MTU long, as on a cable.
	Wire Mode = "wire"
)

// Modes are all there are, in the order in which they are measured.
func Modes() []Mode { return []Mode{Virt, Wire} }

func (m Mode) about() string {
	if m == Wire {
		return "every packet is at most an MTU long, as on a cable"
	}
	return "super-frames cross the underlay whole"
}

// Generators of TCP traffic.
const (
	Auto    = "auto"    // iperf3 where it is installed
	IPerf3  = "iperf3"  // the program
	Builtin = "builtin" // this one
)

// Options say what is measured. Zero values are the defaults.
type Options struct {
	Rounds    int           // default 3
	Time      time.Duration // of a TCP measurement, default 2 s; iperf3 knows whole seconds, and rounds up
	Trial     time.Duration // of a trial of the loss-free search, and of the round trips, default 1 s
	Modes     []Mode        // default all
	Systems   []string      // names, default DefaultSystems
	Generator string        // Auto, IPerf3 or Builtin
	Binary    string        // the uvtep to be measured; default the running program
	Version   string        // of that binary
	Progress  func(Event)   // told what goes on, from one goroutine; nil = nobody listens
}

// Event tells how far a run has come.
type Event struct {
	Text  string  // what goes on
	Share float64 // of the whole run that is done, 0..1, by the time that it takes
	Line  string  // what has come out meanwhile, for people; "" = nothing new
}

// DefaultSystems are what is measured unless somebody asks for more.
func DefaultSystems() []string { return []string{Kernel, "ovs", "uvtep"} }

// Kernel is the name of the system that all others are compared with.
const Kernel = "kernel"

// SystemNames are all systems that there are.
func SystemNames() []string {
	var names []string
	for _, s := range systems {
		names = append(names, s.Name)
	}
	return names
}

// systems are all that can be measured. Guests are network namespaces.
var systems = []System{
	{Name: Kernel, Title: "kernel vxlan", About: "guests have the vxlan device itself, with no bridge between"},
	{Name: "kernel-bridge", Title: "kernel + bridge", About: "guests have a veth to a bridge that has the vxlan device"},
	{Name: "ovs", Title: "Open vSwitch", About: "userspace datapath (netdev); guests have a TAP (internal port)"},
	{Name: "uvtep", Title: "uvtep", About: "guests have the TAP of a port"},
	{Name: "uvtep-offload-off", Title: "uvtep, off", About: "with offload: off; guests have the TAP of a port"},
}

// Result is what a run found. The JSON keys are stable.
type Result struct {
	Version  string    `json:"version"` // of the uvtep that was measured
	Started  time.Time `json:"started"`
	Took     float64   `json:"took_s"`
	Machine  Machine   `json:"machine"`
	Settings Settings  `json:"settings"`
	Systems  []System  `json:"systems"` // in the order in which they were measured
	Values   []Value   `json:"values"`  // by mode, measure and system
}

// Machine is what was measured on.
type Machine struct {
	About  string  `json:"about"` // processor, system, Go version
	Cores  int     `json:"cores"`
	Memory uint64  `json:"memory_bytes"`
	Kernel string  `json:"kernel"`
	Load   float64 `json:"load"` // load average of the minute before the run: others than this run were at work
}

// Settings are how it was measured.
type Settings struct {
	Rounds int     `json:"rounds"`
	Time   float64 `json:"time_s"`      // of a TCP measurement
	Trial  float64 `json:"trial_s"`     // of a trial of the loss-free search, and of the round trips
	MTU    int     `json:"mtu"`         // of the guests; the underlay's is 1500
	Frame  int     `json:"frame_bytes"` // of the loss-free rate, with FCS
	Loss   float64 `json:"loss"`        // that counts as free of loss
	TCP    string  `json:"tcp_generator"`
	UDP    string  `json:"udp_generator"`
}

// System is something that carries frames between two guests.
type System struct {
	Name    string `json:"name"`
	Title   string `json:"title"`
	About   string `json:"about"`
	Version string `json:"version"`
	Missing string `json:"missing,omitempty"` // why it could not be measured
}

// Value is one measure of one system in one mode.
type Value struct {
	Mode    Mode      `json:"mode"`
	System  string    `json:"system"`
	Measure string    `json:"measure"`
	Unit    string    `json:"unit"`
	Median  float64   `json:"median"`
	Min     float64   `json:"min"`
	Max     float64   `json:"max"`
	Ratio   *float64  `json:"ratio"`            // to the kernel's median; null where there is none
	Samples []float64 `json:"samples"`          // one a round, in the order of time
	Trials  [][]Trial `json:"trials,omitempty"` // of the loss-free search, for each sample
}

// measure is one row of a report.
type measure struct {
	id    string
	title string
	unit  string  // of the JSON
	shown string  // the unit that people are shown,
	per   float64 // and how many of unit it is
	chart string  // the picture that it is part of; "" = none
}

// The identifiers of measures.
const (
	tcp1, tcp4       = "tcp1", "tcp4"
	cpu1, cpu4       = "cpu_tcp1", "cpu_tcp4"
	ownCPU1, ownCPU4 = "cpu_own_tcp1", "cpu_own_tcp4"
	udp64            = "udp64"
	rttHalf, rttHigh = "rtt_p50", "rtt_p99"
	memory           = "memory"
	mtu              = 1450
	frameLen         = 64   // bytes with FCS
	tolerance        = 1e-3 // the loss that counts as none
	resolution       = 0.05 // of the loss-free rate
	defaultRounds    = 3
	defaultTime      = 2 * time.Second
	defaultTrial     = time.Second
	mostRounds       = 1000
	shortest         = 10 * time.Millisecond  // of Time and Trial
	expectTrials     = 6                      // of one search, for telling how far a run has come
	startTime        = 250 * time.Millisecond // that it takes to start a generator, for the same purpose
)

var measures = []measure{
	{tcp1, "TCP, 1 stream", "bit/s", "Gbit/s", 1e9, "tcp"},
	{tcp4, "TCP, 4 streams", "bit/s", "Gbit/s", 1e9, "tcp"},
	{udp64, "64-byte UDP, no loss", "frame/s", "k/s", 1e3, "udp64"},
	{rttHalf, "round trip, p50", "s", "µs", 1e-6, "rtt_p50"},
	{rttHigh, "round trip, p99", "s", "µs", 1e-6, "rtt_p99"},
	{cpu1, "CPU, TCP 1 stream", "s/Gbit", "s/Gbit", 1, "cpu"},
	{ownCPU1, "  its processes", "s/Gbit", "s/Gbit", 1, ""},
	{cpu4, "CPU, TCP 4 streams", "s/Gbit", "s/Gbit", 1, "cpu"},
	{ownCPU4, "  its processes", "s/Gbit", "s/Gbit", 1, ""},
	{memory, "memory of a host", "B", "MiB", 1 << 20, "memory"},
}

func measureOf(id string) measure {
	return measures[slices.IndexFunc(measures, func(m measure) bool { return m.id == id })]
}

// fill replaces zero values by defaults and refuses what makes no run.
func (o *Options) fill() error {
	if o.Rounds == 0 {
		o.Rounds = defaultRounds
	}
	if o.Time == 0 {
		o.Time = defaultTime
	}
	if o.Trial == 0 {
		o.Trial = defaultTrial
	}
	if len(o.Modes) == 0 {
		o.Modes = Modes()
	}
	if len(o.Systems) == 0 {
		o.Systems = DefaultSystems()
	}
	if o.Generator == "" {
		o.Generator = Auto
	}
	if o.Progress == nil {
		o.Progress = func(Event) {}
	}
	if o.Rounds < 1 || o.Rounds > mostRounds {
		return fmt.Errorf("%w: %d rounds: 1 to %d make a run", ErrOptions, o.Rounds, mostRounds)
	}
	if o.Time < shortest || o.Trial < shortest {
		return fmt.Errorf("%w: nothing can be measured in less than %s", ErrOptions, shortest)
	}
	if err := among("system", o.Systems, SystemNames()); err != nil {
		return err
	}
	if err := among("mode", o.Modes, Modes()); err != nil {
		return err
	}
	return among("generator", []string{o.Generator}, []string{Auto, IPerf3, Builtin})
}

// among wants each of some words once, and all of them to be known.
func among[T ~string](what string, words, known []T) error {
	for i, w := range words {
		if !slices.Contains(known, w) {
			var all []string
			for _, k := range known {
				all = append(all, string(k))
			}
			return fmt.Errorf("%w: there is no %s %q: choose from %s", ErrOptions, what, w, strings.Join(all, ", "))
		}
		if slices.Contains(words[:i], w) {
			return fmt.Errorf("%w: the %s %s is there twice", ErrOptions, what, w)
		}
	}
	return nil
}
