// Package config reads the configuration file: strict YAML in, a typed and
// validated Config out, or every fault at once with its line and column.
package config

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"reflect"
	"time"
)

// Config is a valid configuration with all defaults filled in.
type Config struct {
	Underlay Underlay
	Workers  int // 0 = one per core
	Offload  Offload
	BusyPoll time.Duration // 0 = not at all
	State    string        // directory
	API      API
	MaxMACs  int       // learned MACs of all segments together; 0 = no limit
	Segments []Segment // in the order of the file; their VNIs differ
	Trunks   []Trunk   // likewise; their TAPs differ
	Pairs    []Pair    // likewise; their names differ
}

// Offload says which offloads are used where the kernel has them.
type Offload struct {
	TUNGSO, TUNGRO bool // super-frames from TAPs, and to them
	UDPGSO, UDPGRO bool // many datagrams of the tunnel at once, out and in
}

// Underlay is the network that carries the tunnel.
type Underlay struct {
	Local       netip.Addr // without a zone, never a mapped one
	Port        uint16
	Device      string // "" = the route decides
	Accept      Accept
	Checksum    bool // send outer UDP checksums
	TTL         TTL
	TOS         TOS
	DF          DF
	Fragment    bool // what is too big is sent in fragments; DF is DFClear then
	ZeroSum6    bool // accept zero UDP checksums over IPv6
	GBP         bool // group policy tags are read and written
	Strict      bool // drop packets that set reserved bits (RFC 7348, section 5)
	SourcePorts SourcePorts
}

// Accept says whose packets are decapsulated.
type Accept string

// Values of Accept.
const (
	AcceptPeers Accept = "peers"
	AcceptAny   Accept = "any"
)

// TTL is the outer TTL or hop limit.
type TTL struct {
	Inherit bool
	Value   uint8 // 1..255; 0 if Inherit
}

// TOS is the outer TOS or traffic class. Its ECN bits are zero here: RFC 6040
// rules them either way.
type TOS struct {
	Inherit bool
	Value   uint8 // 0 if Inherit
}

// DF says what the don't-fragment flag of outer IPv4 headers is.
type DF string

// Values of DF.
const (
	DFSet     DF = "true"
	DFClear   DF = "false"
	DFInherit DF = inherit // the inner IPv4 header's; set where there is none
)

// SourcePorts are the outer UDP source ports that flows are spread over.
type SourcePorts struct {
	Count     int    // 1..256; twice as many are used with DFInherit
	Low, High uint16 // at least as many ports
}

// API says where the daemon is asked and told. What is explicit was named in
// the file, even where it equals the default.
type API struct {
	Socket         string
	SocketExplicit bool
	HTTP           string // loopback address and port; "" = off
	HTTPExplicit   bool
}

// Segment is the broadcast domain of one VNI.
type Segment struct {
	VNI      uint32
	Name     string
	MTU      int // bytes; 0 = the underlay's less the overhead
	Peers    []netip.Addr
	Group    netip.Addr // the zero Addr if there is none
	Device   string     // of the group; "" = the underlay's
	Learning bool
	Ageing   time.Duration // whole seconds
	MaxMACs  int
	Moves    MACMoves
	FDB      []StaticEntry
	Ports    []Port
	Suppress []Suppress // in no order
	DHCP     *DHCP      // nil = no server
	DHCP6    *DHCP6     // nil = no server
	RA       *RA        // nil = no router advertisements

	ProtectedMACs []net.HardwareAddr // may send from trusted ports and the tunnel only
}

// MACMoves says when a MAC is frozen: held for Within, as it moved N times in as
// long.
type MACMoves struct {
	N      int // 0 = never
	Within time.Duration
}

// Suppress is a kind of request that is answered instead of flooded.
type Suppress string

// Values of Suppress.
const (
	SuppressARP Suppress = "arp"
	SuppressND  Suppress = "nd"
)

// StaticEntry is an FDB entry that never moves. Exactly one of Dst and Port is set.
type StaticEntry struct {
	MAC  net.HardwareAddr
	Dst  netip.Addr
	Port string       // the name of one of the segment's ports
	IPs  []netip.Addr // what the station has; each is one station's
}

// Port is where guests are attached: exactly one of TAP, Stream and NIC is set. Its
// Name differs from all others.
type Port struct {
	TAP      string // with where its kernel side belongs
	Stream   string // path of a socket
	NIC      string // an interface, as it is
	NetNS    string // name or path; "" = it stays
	Rename   string
	MAC      net.HardwareAddr
	Bridge   string
	Isolated bool
	MaxMACs  int // 0 = the segment's

	MaxLeases    int  // of its clients, IPv4 and IPv6 each; 0 = no limit
	DHCPRate     int  // messages a second; 0 = no limit
	DHCPCheckMAC bool // the client must be the frame's source

	Storm Storm // of what is flooded

	GBP      uint16   // group of its frames; 0 = none
	GBPAllow []uint16 // groups whose frames it gets, 0 being those without one; nil = all frames

	Bind      Bind
	Addresses []Address
	Trusted   *bool // nil: as the segment needs it
}

// Bind says who may send from a port.
type Bind string

// Values of bind.
const (
	BindNone   Bind = "none"
	BindLease  Bind = "lease"
	BindStatic Bind = "static"
)

// Address is a station and an address, or prefix, that it may send from.
type Address struct {
	MAC net.HardwareAddr
	IP  netip.Prefix // an address is a prefix of all its bits
}

// Storm limits floods, packets a second of each class; 0 = no limit.
type Storm struct{ Broadcast, Multicast, Unknown int }

// Trunk is a TAP that is a port of several segments. What Port says of limits holds
// in each of them.
type Trunk struct {
	Port
	VLANs  []VLAN // by VLAN; neither VLANs nor VNIs, nor Native, are there twice
	Native uint32 // VNI of untagged frames; 0 = none
}

// VLAN is a segment's place on a trunk.
type VLAN struct {
	VLAN uint16 // 1..4094; 0 = untagged
	VNI  uint32
}

// Pair joins two segments.
type Pair struct {
	Name string
	A, B End
}

// End is one end of a pair.
type End struct {
	VNI  uint32
	VLAN uint16 // 0 = all frames, as they are
}

// Defaults of keys that are left out.
const (
	DefaultPort        = 4789
	DefaultTTL         = 64
	DefaultBusyPoll    = 30 * time.Microsecond
	DefaultSourceCount = 16
	DefaultSourceLow   = 49152
	DefaultSourceHigh  = 65535
	DefaultState       = "/var/lib/uvtep"
	DefaultSocket      = "/run/uvtep/uvtep.sock"
	DefaultHTTP        = "127.0.0.1:9479"
	DefaultAgeing      = 300 * time.Second
	DefaultMaxMACs     = 8192
	DefaultMACMoves    = 5
	DefaultMovesWithin = 180 * time.Second
	DefaultLease       = 12 * time.Hour
	DefaultProbe       = 200 * time.Millisecond
	DefaultRAInterval  = 10 * time.Minute
	DefaultRAValid     = 30 * 24 * time.Hour
	DefaultRAPreferred = 7 * 24 * time.Hour
)

// Words that stand for a number.
const (
	inherit = "inherit"
	off     = "off"
)

// MaxVNI is the largest VXLAN network identifier (RFC 7348, section 5).
const MaxVNI = 1<<24 - 1

// Load reads and validates the file at path. The error is Faults where the file
// could be read.
func Load(path string) (*Config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	return Parse(path, data)
}

// Check says what is wrong with a port that comes from elsewhere than a file.
// The error is Faults, whose paths are the port's keys and whose places mean
// nothing.
func (p Port) Check() error {
	var w writer
	w.mapping(reflect.ValueOf(rawPortOf(p)), 0)
	var raw rawPort
	s := newSource("port")
	if decode(s, []byte(w.String()), &raw) {
		s.port("", &raw)
	}
	if len(s.faults) > 0 {
		return s.faults.sorted()
	}
	return nil
}

// Parse validates data; name is what its faults call the file. The error is
// Faults, all that there are.
func Parse(name string, data []byte) (*Config, error) {
	return newSource(name).parse(data)
}

// ParseSpelt is Parse for a text that no user has written, as one made of flags:
// spell says what its faults call the value at a path, as they name no line.
func ParseSpelt(data []byte, spell func(path string) string) (*Config, error) {
	s := newSource("")
	s.spell = spell
	return s.parse(data)
}

func (s *source) parse(data []byte) (*Config, error) {
	var raw rawConfig
	if !decode(s, data, &raw) {
		return nil, s.faults
	}
	c := s.config(&raw)
	if len(s.faults) > 0 {
		return nil, s.faults.sorted()
	}
	return c, nil
}
