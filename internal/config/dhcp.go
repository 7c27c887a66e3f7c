package config

import (
	"net"
	"net/netip"
	"time"
)

// DHCP is the DHCPv4 server of a segment.
type DHCP struct {
	Subnet  netip.Prefix
	Server  netip.Addr // server identifier; in Subnet, in none of Ranges
	Ranges  []Range    // disjoint, without the server and the gateway
	Gateway netip.Addr // the zero Addr if there is none
	DNS     []netip.Addr
	Domain  string
	Lease   time.Duration // whole seconds, T1 < T2 < Lease
	T1, T2  time.Duration
	MTU     DHCPMTU
	Routes  []Route
	Options []Option
	Hosts   []Host
	Relays  []Relay
	Classes []Class

	NextServer netip.Addr // siaddr; the zero Addr if there is none
	BootFile   string     // the file field and option 67, at most 1020 bytes

	Authoritative   bool
	SubnetSelection bool          // RFC 3011
	RapidCommit     bool          // RFC 4039
	BOOTP           bool          // clients of RFC 951, from reservations only
	Probe           time.Duration // whole milliseconds; 0 = an address is offered unprobed

	OfferHold, DeclineHold time.Duration // whole seconds
	Serve                  Serve
}

// Range is a range of addresses, both ends included.
type Range struct{ First, Last netip.Addr }

// Contains tells whether a is in the range.
func (r Range) Contains(a netip.Addr) bool { return r.First.Compare(a) <= 0 && a.Compare(r.Last) <= 0 }

func (r Range) String() string {
	if r.First == r.Last {
		return r.First.String()
	}
	return r.First.String() + "-" + r.Last.String()
}

// DHCPMTU is what option 26 says.
type DHCPMTU struct {
	Off   bool
	Value uint16 // 0 = the segment's MTU
}

// Serve says which clients are answered.
type Serve string

// Values of Serve.
const (
	ServeSegment Serve = "segment" // those behind remote VTEPs too
	ServeLocal   Serve = "local"   // those of this VTEP's ports
)

// Route is a classless static route, option 121 (RFC 3442).
type Route struct {
	To  netip.Prefix
	Via netip.Addr // 0.0.0.0 = on the link
}

// Option is a further option, of DHCPv4 (code 1..254) or DHCPv6. Data is its value
// as it goes out, 1..1020 bytes; of DHCPv4, over 255 take consecutive instances (RFC
// 3396).
type Option struct {
	Code uint16
	Data []byte
	Form Form
}

// Form is how the value of an option is written in the file.
type Form uint8

// Values of Form.
const (
	FormHex Form = iota
	FormIP
	FormText
	FormNumber
)

// Host is a reservation. At most one of MAC, ClientID and Port is set; where
// none is, the client is told by Hostname.
type Host struct {
	MAC        net.HardwareAddr
	ClientID   []byte // option 61 with its type byte, 2..255 bytes
	Port       string // the TAP of one of the segment's ports
	IP         netip.Addr
	Hostname   string
	NextServer netip.Addr
	BootFile   string
	Options    []Option
}

// Relay is a further subnet, served by giaddr. It inherits no options.
type Relay struct {
	Subnet  netip.Prefix
	Ranges  []Range // disjoint, without the gateway
	Gateway netip.Addr
	DNS     []netip.Addr
	Domain  string
	MTU     uint16 // option 26; 0 = not sent
	Lease   time.Duration
	T1, T2  time.Duration
	Routes  []Route
	Options []Option

	NextServer netip.Addr
	BootFile   string
}

// Class gives options to the clients that match.
type Class struct {
	By         Matcher
	Match      string // bytes to match; empty for ByArch
	Arch       uint16 // for ByArch
	NextServer netip.Addr
	BootFile   string
	Options    []Option
}

// Matcher is what a class matches by; its text is the key in the file.
type Matcher string

// Values of Matcher.
const (
	ByVendor    Matcher = "vendor"     // option 60, a prefix of it
	ByUser      Matcher = "user"       // option 77
	ByHostname  Matcher = "hostname"   // option 12
	ByCircuitID Matcher = "circuit_id" // option 82, suboption 1
	ByArch      Matcher = "arch"       // option 93
)
