package config

import (
	"net"
	"net/netip"
	"time"
)

// DHCP6 is the DHCPv6 server of a segment (RFC 8415).
type DHCP6 struct {
	Subnet netip.Prefix
	Server netip.Addr // in Subnet, in none of Ranges
	Ranges []Range    // disjoint, without the server; none = stateless, but for Hosts
	DNS    []netip.Addr
	Search []string
	// Whole seconds: T1 < T2 <= Preferred <= Lease, which is the valid lifetime.
	Lease, Preferred, T1, T2 time.Duration
	Prefixes                 []Delegation
	Hosts                    []Host6
	Options                  []Option
	RapidCommit              bool

	OfferHold, DeclineHold time.Duration // whole seconds
	Serve                  Serve
}

// Delegation is a prefix that is cut into prefixes of Length bits, which are
// delegated to routers.
type Delegation struct {
	Prefix netip.Prefix
	Length int
}

// Host6 is a reservation. Exactly one of MAC, DUID and Port is set.
type Host6 struct {
	MAC      net.HardwareAddr
	DUID     []byte       // option 1, 3..130 bytes
	Port     string       // the TAP of one of the segment's ports
	IP       netip.Addr   // the zero Addr: any of the ranges
	Prefix   netip.Prefix // the zero Prefix: any of the delegations
	Hostname string
	Options  []Option
}

// RA is what the router advertisements of a segment say (RFC 4861, section 4.2).
type RA struct {
	Managed, Other bool // the M and the O flag
	Prefixes       []RAPrefix
	DNS            []netip.Addr // RFC 8106
	Search         []string
	MTU            RAMTU
	Interval       time.Duration // longest time between two, whole seconds
	Lifetime       time.Duration // as a default router, whole seconds; 0 = not one
}

// RAMTU is the MTU that is advertised.
type RAMTU struct {
	Off   bool
	Value int // 0 = the segment's MTU
}

// RAPrefix is a prefix that is advertised.
type RAPrefix struct {
	Prefix             netip.Prefix
	OnLink, Autonomous bool          // the L and the A flag
	Valid, Preferred   time.Duration // whole seconds, Preferred <= Valid
}
