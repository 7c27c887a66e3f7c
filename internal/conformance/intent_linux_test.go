package conformance

import (
	"net/netip"
	"time"
)

// intent is what an operator wants of a switch, for each of them to be written in
// its own words. The zero value is a segment with two peers that takes what
// anybody sends, inherits the inner TOS and learns.
type intent struct {
	ttl  string // a number or inherit; "" is 64
	tos  uint8  // 0 inherits
	df   string // set, unset or inherit; "" is set
	port uint16 // UDP port; 0 is 4789

	noChecksum bool // send without outer UDP checksums
	zeroSum6   bool // take packets without a checksum over IPv6
	strict     bool // refuse reserved bits
	peersOnly  bool // take from the two peers only
	gbp        bool // carry the group policy id

	noPeers    bool // nobody is replicated to
	group      bool // BUM goes to a multicast group instead
	noLearning bool
	ageing     time.Duration // 0 is five minutes
	maxMACs    int           // 0 is no limit that a check comes near
	isolated   bool          // guests 1 and 2 are isolated from each other
	suppress   bool          // answer ARP and neighbour solicitations for known neighbours
	snooping   bool          // multicast only where it was asked for
	jumbo      bool          // the segment's MTU is 9000, more than the underlay carries
}

const vni = 77

// family is the underlay of a run.
type family struct {
	name            string
	switchAt        netip.Addr
	b, c, stranger  netip.Addr // the remote VTEPs, and who is none
	bits            int
	group           netip.Addr
	overhead, ipLen int // bytes that an encapsulation costs; that the IP header takes
}

var families = [2]family{
	{"IPv4", netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("10.9.0.2"), netip.MustParseAddr("10.9.0.3"), netip.MustParseAddr("10.9.0.4"), 24,
		netip.MustParseAddr("239.1.1.77"), 50, 20},
	{"IPv6", netip.MustParseAddr("fd00:9::1"), netip.MustParseAddr("fd00:9::2"), netip.MustParseAddr("fd00:9::3"), netip.MustParseAddr("fd00:9::4"), 64,
		netip.MustParseAddr("ff05::77"), 70, 40},
}

const underlayMTU = 1500
