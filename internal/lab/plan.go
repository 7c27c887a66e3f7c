package lab

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
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
	Program  string       // how messages call uvtep; "" = uvtep
	Progress func(Step)   // told what goes on, one call at a time; nil = nobody
}

// DefaultSubnet is where guests are unless Options say otherwise.
const DefaultSubnet = "192.168.100.0/24"

// DefaultStateDir is where labs keep their files unless Options say otherwise.
const DefaultStateDir = "/run/uvtep"

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
		o.Subnet = netip.MustParsePrefix(DefaultSubnet)
	}
	if o.MTU == 0 {
		o.MTU = 1500
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	l := &Lab{
		Name: o.Name, State: StateStarting, Binary: o.Binary, Dir: dirOf(o.StateDir, o.Name), NetNS: prefix(o.Name) + "net",
		Port: o.Port, MTU: o.MTU, Subnet: o.Subnet.Masked(), VNIs: o.VNIs, Program: o.Program,
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
