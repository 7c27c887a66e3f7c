package dhcpd

import (
	"net"
	"net/netip"
	"strings"
	"time"
)

// Defaults of SegmentConfig's durations and limits.
const (
	DefaultLease       = 12 * time.Hour
	DefaultOfferHold   = 2 * time.Minute
	DefaultDeclineHold = 10 * time.Minute
	DefaultMaxOffers   = 16384
)

// own is the segment's own subnet.
func (c *SegmentConfig) own() RelaySubnet {
	return RelaySubnet{
		Subnet: c.Subnet, Ranges: c.Ranges, Gateway: c.Gateway, DNS: c.DNS, Domain: c.Domain, MTU: c.MTU,
		Routes: c.Routes, Options: c.Options, Lease: c.Lease, T1: c.T1, T2: c.T2,
		NextServer: c.NextServer, BootFile: c.BootFile,
	}
}

// Option is an option for clients: its value as it goes on the wire, of any
// length; more than 255 bytes are split as RFC 3396 says.
type Option struct {
	Code uint8
	Data []byte
	// Always sends the option even to a client that asked for others only.
	Always bool
}

// Range is a range of addresses, both ends included.
type Range struct{ First, Last netip.Addr }

// Route is a classless static route (RFC 3442).
type Route struct {
	To  netip.Prefix
	Via netip.Addr
}

// Reservation keeps an address, options or both for one client. The client is
// told by one of ClientID, MAC, Port and, where none of these is set, Hostname,
// which are looked at in this order when several reservations fit.
type Reservation struct {
	MAC      net.HardwareAddr // chaddr, whatever client identifier comes with it
	ClientID []byte           // option 61, with its type byte
	Port     string           // the local port that the client is attached to
	IP       netip.Addr       // zero: any address of the pool
	Hostname string           // option 12
	Options  []Option         // before those of classes and of the subnet

	NextServer netip.Addr // siaddr and, where Options has none, option 66
	BootFile   string     // the file field and, where Options has none, option 67
}

// Names says whether the lease is that of the reservation's client.
func (r Reservation) Names(l Lease) bool {
	switch {
	case len(r.ClientID) > 0:
		return l.ClientID == string(r.ClientID)
	case len(r.MAC) > 0:
		return l.HType == htypeEthernet && l.CHAddr == string(r.MAC)
	case r.Port != "":
		return l.Port == r.Port && !l.VTEP.IsValid()
	}
	return r.Hostname != "" && strings.EqualFold(l.Hostname, r.Hostname)
}

// RelaySubnet is a further subnet, for clients behind a relay in it. It
// inherits no option from the segment's own subnet; zero times are the
// segment's.
type RelaySubnet struct {
	Subnet        netip.Prefix
	Ranges        []Range
	Gateway       netip.Addr
	DNS           []netip.Addr
	Domain        string
	MTU           uint16
	Routes        []Route
	Options       []Option
	Lease, T1, T2 time.Duration
	NextServer    netip.Addr // as a Reservation's
	BootFile      string
}

// ClassMatch says what of a client's message a Class looks at.
type ClassMatch uint8

const (
	// MatchVendor: option 60 begins with Value.
	MatchVendor ClassMatch = iota
	// MatchUser: option 77 is Value or lists it (RFC 3004).
	MatchUser
	// MatchHostname: option 12 or the first label of option 81 is Value, in
	// any case.
	MatchHostname
	// MatchCircuitID: suboption 1 of option 82 is Value, byte for byte.
	MatchCircuitID
	// MatchArch: option 93 lists Arch (RFC 4578).
	MatchArch
)

// Class gives options to the clients that it matches. Where classes disagree
// the first one counts. Classes hold for relay subnets too.
type Class struct {
	Match   ClassMatch
	Value   string
	Arch    uint16
	Options []Option

	NextServer netip.Addr // as a Reservation's
	BootFile   string
}

// SegmentConfig is the DHCP service of one segment.
type SegmentConfig struct {
	Subnet  netip.Prefix
	Server  netip.Addr // server identifier (option 54)
	Ranges  []Range    // none: reservations only
	Gateway netip.Addr
	DNS     []netip.Addr
	Domain  string
	MTU     uint16 // option 26 and the longest reply; 0: not sent

	// Lease is how long a lease lasts, T1 and T2 when the client renews and
	// rebinds. Zero: 12 h, a half and seven eighths of the lease. Whole
	// seconds.
	Lease, T1, T2 time.Duration

	Routes  []Route
	Options []Option
	Hosts   []Reservation
	Relays  []RelaySubnet
	Classes []Class

	// Authoritative: a client that asks for an address of which there is no
	// record gets a NAK instead of silence.
	Authoritative bool
	// SubnetSelection honours option 118 (RFC 3011).
	SubnetSelection bool
	// RapidCommit answers a DISCOVER that has option 80 by an ACK (RFC 4039).
	RapidCommit bool
	// BOOTP answers clients without option 53 (RFC 951), from reservations only.
	BOOTP bool
	// Probe is how long an answer to a conflict probe is waited for, before an
	// address is offered that the client did not have before (RFC 2131 section
	// 2.2); 0: no probing. Server.ProbeWith gives the way to ask.
	Probe time.Duration

	// NextServer is siaddr of replies to the segment's own subnet and, where
	// Options has none, option 66; BootFile likewise the file field and option
	// 67. Those of the client's reservation come before those of its classes,
	// and those before these.
	NextServer netip.Addr
	BootFile   string

	OfferHold   time.Duration // how long an offer is held; 0: 2 min
	DeclineHold time.Duration // how long a declined address is left alone; 0: 10 min
	MaxOffers   int           // offers held at once, the oldest go first; 0: 16384
}

// withDefaults fills in what was left zero.
func (c SegmentConfig) withDefaults() SegmentConfig {
	orDur := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	orDur(&c.Lease, DefaultLease)
	orDur(&c.OfferHold, DefaultOfferHold)
	orDur(&c.DeclineHold, DefaultDeclineHold)
	if c.MaxOffers == 0 {
		c.MaxOffers = DefaultMaxOffers
	}
	c.T1, c.T2 = timers(c.Lease, c.T1, c.T2)
	relays := make([]RelaySubnet, len(c.Relays))
	for i, r := range c.Relays {
		if r.Lease == 0 && r.T1 == 0 && r.T2 == 0 {
			r.Lease, r.T1, r.T2 = c.Lease, c.T1, c.T2
		}
		orDur(&r.Lease, c.Lease)
		r.T1, r.T2 = timers(r.Lease, r.T1, r.T2)
		relays[i] = r
	}
	c.Relays = relays
	return c
}

// timers gives T1 and T2 their defaults (RFC 2131 section 4.4.5), in whole
// seconds and such that 0 < T1 < T2 < lease for every lease of MinLease or
// more.
func timers(lease, t1, t2 time.Duration) (time.Duration, time.Duration) {
	switch {
	case t1 == 0 && t2 == 0:
		t1, t2 = lease/2, lease-lease/8
	case t1 == 0:
		t1 = t2 / 7 * 4
	case t2 == 0:
		t2 = t1 + (lease-t1)/4*3
	}
	return t1.Truncate(time.Second), t2.Truncate(time.Second)
}
