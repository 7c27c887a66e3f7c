package dhcpd

import (
	"net"
	"net/netip"
	"time"
)

// Option6 is a DHCPv6 option for clients: its value as it goes on the wire.
type Option6 struct {
	Code uint16
	Data []byte
}

// Delegation is a prefix that is cut into prefixes of Length bits, which are
// delegated to requesting routers (RFC 8415 section 6.3).
type Delegation struct {
	Prefix netip.Prefix
	Length int
}

// Reservation6 keeps an address, a delegated prefix or both for one client, who
// is told by exactly one of DUID, MAC and Port, which are looked at in this
// order when several reservations fit.
type Reservation6 struct {
	DUID     []byte           // option 1
	MAC      net.HardwareAddr // that of the frame, of a relay's option 79 (RFC 6939), or within the DUID
	Port     string           // the local port that the client is attached to
	IP       netip.Addr       // zero: any address of the ranges
	Prefix   netip.Prefix     // zero: any of the delegations
	Hostname string
	Options  []Option6 // before those of the subnet
}

// SegmentConfig6 is the DHCPv6 service of one segment (RFC 8415).
type SegmentConfig6 struct {
	Subnet netip.Prefix
	Server netip.Addr // the service's own address in the segment
	DUID   []byte     // server identifier (option 2); nil: DUID-LL of Server's interface identifier
	Ranges []Range    // none: no addresses but reserved ones (stateless)

	DNS    []netip.Addr // option 23
	Search []string     // option 24

	// Lease is the valid lifetime, Preferred the preferred one, T1 and T2 when
	// a client renews and rebinds. Zero: 12 h, five eighths, a half and four
	// fifths of the preferred lifetime. Whole seconds.
	Lease, Preferred, T1, T2 time.Duration

	Options     []Option6
	Hosts       []Reservation6
	Delegations []Delegation

	RapidCommit bool // answer a SOLICIT with option 14 by a REPLY

	OfferHold   time.Duration // how long an advertised address is held; 0: 2 min
	DeclineHold time.Duration // how long a declined address is left alone; 0: 10 min
	MaxOffers   int           // offers held at once, the oldest go first; 0: 16384
}
