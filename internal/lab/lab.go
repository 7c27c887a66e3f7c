// Package lab puts several VTEP hosts and their guests on one machine, each in
// a network namespace of its own: a network to try things out, and to prove
// what uvtep does. It needs nothing but the uvtep binary and root.
//
// The hosts hang on one bridge, the underlay. Each runs a daemon of its own, and
// each guest has one interface, a TAP of its host's daemon, whose address it
// gets by DHCP. Every segment has the same subnet, and guests of equal number
// the same hardware address and the same address: only the VNI tells them
// apart. The DHCP server is on the first host, so whoever is elsewhere gets the
// address through the tunnel.
package lab

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/uvtep/uvtep/internal/lab/guest"
)

// Errors, to be told apart by errors.Is.
var (
	ErrExists      = errors.New("the lab is up already, or a crash left parts of it")
	ErrNotUp       = errors.New("no such lab is up")
	ErrNotRoot     = errors.New("a lab makes network namespaces and needs root")
	ErrNoSuchNode  = errors.New("no such host or guest")
	ErrOptions     = errors.New("wrong options")
	ErrInterrupted = errors.New("interrupted")
	ErrUnsupported = errors.New("a lab needs the network namespaces of Linux")
	ErrNoCommand   = errors.New("no such command")
)

// Lab is a lab that is up, was, or is half made. Its JSON is what is kept in
// the file lab.json, and what "lab show -j" prints.
type Lab struct {
	Name   string       `json:"name"`
	State  string       `json:"state"` // StateStarting, StateUp, or StateBroken
	Run    uint32       `json:"run"`   // drawn anew each time; marks the guests' frames
	Binary string       `json:"binary"`
	Dir    string       `json:"dir"`
	NetNS  string       `json:"netns"` // of the underlay's bridge
	Port   uint16       `json:"port"`
	MTU    int          `json:"mtu"` // of the underlay
	Subnet netip.Prefix `json:"subnet"`
	VNIs   []uint32     `json:"vnis"`
	Hosts  []*Host      `json:"hosts"`
	Guests []*Guest     `json:"guests"`

	// Program is how messages call uvtep, for lines to be copied; "" = uvtep.
	Program string `json:"-"`

	full uint64 // neighboursFull when it was begun
}

// What a lab can be in.
const (
	StateStarting = "starting"
	StateUp       = "up"
	StateBroken   = "broken" // there is no record of it, only parts
)

// Host is a VTEP: a namespace with an underlay address and a daemon.
type Host struct {
	Name     string       `json:"name"`     // h1
	NetNS    string       `json:"netns"`    // uvlab-lab-h1
	Underlay netip.Prefix `json:"underlay"` // address and length of its eth0
	Config   string       `json:"config"`
	Socket   string       `json:"socket"`
	Log      string       `json:"log"`
	StateDir string       `json:"state_dir"`
	PID      int          `json:"pid"`
	Running  bool         `json:"running"` // as of Load
	Started  uint64       `json:"started"` // of the process, clock ticks since boot: with PID it names one process for good
}

// Guest is a namespace whose eth0 is a port of a segment.
type Guest struct {
	Name  string       `json:"name"`  // g1-v100
	NetNS string       `json:"netns"` // uvlab-lab-v100-g1
	Index int          `json:"index"` // from 1, in its segment
	VNI   uint32       `json:"vni"`
	Host  string       `json:"host"`
	Tap   string       `json:"tap"` // the port's name at its host
	MAC   string       `json:"mac"`
	Lease *guest.Lease `json:"lease,omitempty"`
}

// guestInterface is the name of a guest's interface, and of a host's underlay.
const guestInterface = "eth0"

func prefix(name string) string { return "uvlab-" + name + "-" }

// label is how messages call a lab: most people have one, named lab.
func label(name string) string {
	if name == "lab" {
		return name
	}
	return "lab " + name
}

// String is how messages call the lab.
func (l *Lab) String() string { return label(l.Name) }

// Command is the command line that does sub to this lab: "uvtep lab down".
func (l *Lab) Command(sub string) string {
	line := cmp.Or(l.Program, "uvtep") + " lab " + sub
	if l.Name != "lab" {
		line += " --name " + l.Name
	}
	return line
}

// Whole returns ErrExists if there is no record of the lab, only what a crash
// left of it: nobody can tell what it was.
func (l *Lab) Whole() error {
	if l.State == StateBroken {
		return fmt.Errorf("%s: %w; take down what is left: %s", l, ErrExists, l.Command("down"))
	}
	return nil
}

func dirOf(stateDir, name string) string {
	if stateDir == "" {
		stateDir = DefaultStateDir
	}
	return filepath.Join(stateDir, "lab-"+name)
}

// node finds a host or guest by name, and returns its namespace. Guests go by
// g1-v100 and v100-g1; where there is one segment only, g1 is enough.
func (l *Lab) node(name string) (netns string, host *Host, err error) {
	for _, h := range l.Hosts {
		if name == h.Name || name == h.NetNS {
			return h.NetNS, h, nil
		}
	}
	for _, g := range l.Guests {
		if name == g.Name || name == g.NetNS || prefix(l.Name)+name == g.NetNS ||
			len(l.VNIs) == 1 && name == fmt.Sprintf("g%d", g.Index) {
			return g.NetNS, nil, nil
		}
	}
	var names []string
	for _, h := range l.Hosts {
		names = append(names, h.Name)
	}
	for _, g := range l.Guests {
		names = append(names, g.Name)
	}
	return "", nil, fmt.Errorf("%s: %q: %w; there are %s", l, name, ErrNoSuchNode, shortList(names))
}

// save writes the record, so that no reader ever finds half of it.
func (l *Lab) save() error {
	b, err := json.MarshalIndent(l, "", "  ")
	if err != nil {
		return err
	}
	file := filepath.Join(l.Dir, stateFile)
	if err := os.WriteFile(file+".new", append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("%s: %w", l, err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		return fmt.Errorf("%s: %w", l, err)
	}
	return nil
}

// count is a number of things, in words.
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// vniList is the lab's VNIs, in words.
func (l *Lab) vniList() string {
	var words []string
	for _, vni := range l.VNIs {
		words = append(words, fmt.Sprint(vni))
	}
	if n := len(words); n == 2 {
		return words[0] + " and " + words[1]
	}
	return shortList(words)
}

// Milliseconds is a time as people compare them: 0.42 ms, 11.3 ms, 250 ms.
func Milliseconds(d time.Duration) string {
	ms := float64(d) / float64(time.Millisecond)
	switch {
	case ms < 0.995:
		return fmt.Sprintf("%.2f ms", ms)
	case ms < 99.95:
		return fmt.Sprintf("%.1f ms", ms)
	}
	return fmt.Sprintf("%.0f ms", ms)
}

// shortList is the first few of a list, for a line that people read.
func shortList(words []string) string {
	const most = 12
	if len(words) > most {
		return fmt.Sprintf("%s … (%d)", strings.Join(words[:most], ", "), len(words))
	}
	return strings.Join(words, ", ")
}

const stateFile = "lab.json"

// read reads the record that save wrote in a folder.
func read(dir string) (*Lab, error) {
	b, err := os.ReadFile(filepath.Join(dir, stateFile))
	if err != nil {
		return nil, err
	}
	l := new(Lab)
	if err := json.Unmarshal(b, l); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, stateFile), err)
	}
	return l, nil
}
