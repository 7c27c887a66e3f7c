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
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
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
	ErrLeak        = errors.New("a frame crossed from one segment into another")
	ErrUnreachable = errors.New("guests of one segment do not reach each other")
	ErrUnsupported = errors.New("a lab needs the network namespaces of Linux")
)

// Options say what lab to make. The zero value is two hosts and two guests in
// VNI 100.
type Options struct {
	Name     string       // tells labs apart: letters and digits, at most 16; "" = "lab"
	Hosts    int          // 1..99; 0 = 2
	Guests   int          // of each VNI, spread over the hosts in turn; 1..999; 0 = 2
	VNIs     []uint32     // none = 100
	Port     uint16       // UDP port of the tunnel; 0 = 4789
	Subnet   netip.Prefix // of the guests, in every VNI; zero = 192.168.100.0/24
	Binary   string       // path of uvtep; "" = the running program
	IPv6     bool         // IPv6 underlay
	MTU      int          // of the underlay, bytes; 0 = 1500
	StateDir string       // the lab keeps its files in the folder lab-NAME in it; "" = DefaultStateDir
	Progress func(Step)   // told what goes on, one call at a time; nil = nobody
}

// DefaultStateDir is where labs keep their files unless Options say otherwise.
const DefaultStateDir = "/run/uvtep"

// Step is a piece of work, as it is told to Options.Progress: once as it
// begins, any number of times while it goes on, and once when it is done.
type Step struct {
	Name   string
	Detail string        // how far it has come, or what it made
	Took   time.Duration // since it began
	Done   bool
	Failed bool // done, and in vain
}

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

var validName = regexp.MustCompile(`^[a-z0-9]{1,16}$`)

// plan names and numbers all that the options ask for, and makes nothing.
func plan(o Options) (*Lab, error) {
	if o.Name == "" {
		o.Name = "lab"
	}
	if o.Hosts == 0 {
		o.Hosts = 2
	}
	if o.Guests == 0 {
		o.Guests = 2
	}
	if len(o.VNIs) == 0 {
		o.VNIs = []uint32{100}
	}
	if o.Port == 0 {
		o.Port = 4789
	}
	if !o.Subnet.IsValid() {
		o.Subnet = netip.MustParsePrefix("192.168.100.0/24")
	}
	if o.MTU == 0 {
		o.MTU = 1500
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	l := &Lab{
		Name: o.Name, State: StateStarting, Binary: o.Binary, Dir: dirOf(o.StateDir, o.Name), NetNS: prefix(o.Name) + "net",
		Port: o.Port, MTU: o.MTU, Subnet: o.Subnet.Masked(), VNIs: o.VNIs,
	}
	for i := 1; i <= o.Hosts; i++ {
		h := &Host{Name: fmt.Sprintf("h%d", i), Underlay: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 9, 0, byte(i)}), 24)}
		if o.IPv6 {
			h.Underlay = netip.PrefixFrom(netip.AddrFrom16([16]byte{0: 0xfd, 3: 0x09, 15: byte(i)}), 64)
		}
		h.NetNS = prefix(o.Name) + h.Name
		h.Config = filepath.Join(l.Dir, h.Name+".yaml")
		h.Socket = filepath.Join(l.Dir, h.Name+".sock")
		h.Log = filepath.Join(l.Dir, h.Name+".log")
		h.StateDir = filepath.Join(l.Dir, h.Name+".state")
		l.Hosts = append(l.Hosts, h)
	}
	for _, vni := range o.VNIs {
		for i := 1; i <= o.Guests; i++ {
			l.Guests = append(l.Guests, &Guest{
				Name:  fmt.Sprintf("g%d-v%d", i, vni),
				NetNS: fmt.Sprintf("%sv%d-g%d", prefix(o.Name), vni, i),
				Index: i, VNI: vni,
				Host: l.Hosts[(i-1)%o.Hosts].Name,
				Tap:  fmt.Sprintf("v%dg%d", vni, i), // at most 12 bytes
				MAC:  net.HardwareAddr{2, 0, 0, 0, byte(i >> 8), byte(i)}.String(),
			})
		}
	}
	return l, nil
}

// check finds what the lab could not be made of.
func (o Options) check() error {
	var wrong []string
	say := func(format string, a ...any) { wrong = append(wrong, fmt.Sprintf(format, a...)) }
	if !validName.MatchString(o.Name) {
		say("the name %q is not 1 to 16 lower-case letters and digits", o.Name)
	}
	if o.Hosts < 1 || o.Hosts > 99 {
		say("%d hosts are not 1 to 99", o.Hosts)
	}
	if o.Guests < 1 || o.Guests > 999 {
		say("%d guests are not 1 to 999", o.Guests)
	}
	for i, vni := range o.VNIs {
		if vni == 0 || vni >= 1<<24 {
			say("the VNI %d is outside 1..16777215", vni)
		}
		if slices.Contains(o.VNIs[:i], vni) {
			say("the VNI %d is named twice", vni)
		}
	}
	if o.MTU < 1280 || o.MTU > 65535 {
		say("the MTU %d is outside 1280..65535", o.MTU)
	}
	switch {
	case !o.Subnet.Addr().Is4() || o.Subnet.Bits() > 30:
		say("the subnet %s is not an IPv4 one of at least 4 addresses", o.Subnet)
	case int64(o.Guests)+2 > int64(1)<<(32-o.Subnet.Bits())-2: // the server, and one that is nobody's
		say("the subnet %s has no room for %d guests and a DHCP server", o.Subnet, o.Guests)
	}
	if wrong != nil {
		return fmt.Errorf("lab: %w: %s", ErrOptions, strings.Join(wrong, "; "))
	}
	return nil
}

func prefix(name string) string { return "uvlab-" + name + "-" }

func dirOf(stateDir, name string) string {
	if stateDir == "" {
		stateDir = DefaultStateDir
	}
	return filepath.Join(stateDir, "lab-"+name)
}

// hostOf is where a guest is.
func (l *Lab) hostOf(g *Guest) *Host {
	return l.Hosts[slices.IndexFunc(l.Hosts, func(h *Host) bool { return h.Name == g.Host })]
}

// of is the guests of a segment.
func (l *Lab) of(vni uint32) []*Guest {
	return slices.DeleteFunc(slices.Clone(l.Guests), func(g *Guest) bool { return g.VNI != vni })
}

// server is the DHCP server's address, in every segment: the subnet's first.
func (l *Lab) server() netip.Addr { return l.addr(1) }

// reserved is the address that the guest of a number gets: from the tenth on,
// if the subnet is large enough, for people to see which is which.
func (l *Lab) reserved(index int) netip.Addr {
	first := 10
	if room := 1<<(32-l.Subnet.Bits()) - 2; first-1+len(l.of(l.VNIs[0])) > room {
		first = 2
	}
	return l.addr(first - 1 + index)
}

// last is the highest address of the subnet that a guest may have.
func (l *Lab) last() netip.Addr { return l.addr(1<<(32-l.Subnet.Bits()) - 2) }

func (l *Lab) addr(n int) netip.Addr {
	a := l.Subnet.Addr().As4()
	for i := 3; i >= 0; i-- {
		n += int(a[i])
		a[i] = byte(n)
		n >>= 8
	}
	return netip.AddrFrom4(a)
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
	return "", nil, fmt.Errorf("lab %s: %q: %w; there are %s", l.Name, name, ErrNoSuchNode, strings.Join(names, ", "))
}

// save writes the record, so that no reader ever finds half of it.
func (l *Lab) save() error {
	b, err := json.MarshalIndent(l, "", "  ")
	if err != nil {
		return err
	}
	file := filepath.Join(l.Dir, stateFile)
	if err := os.WriteFile(file+".new", append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("lab %s: %w", l.Name, err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		return fmt.Errorf("lab %s: %w", l.Name, err)
	}
	return nil
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
