package dhcpcheck

import (
	"net/netip"
	"time"
)

// The network of every check, unless its intent says otherwise: 192.168.100.0/24,
// served by .2, with a router at .1, addresses from .10 to .250 for everybody
// and .5 for the witness, who shows that a server still answers.
var (
	subnet    = netip.MustParsePrefix("192.168.100.0/24")
	serverIP  = at(2)
	routerIP  = at(1)
	dnsIPs    = []netip.Addr{at(1), at(3)}
	witnessIP = at(5)
	branch    = netip.MustParsePrefix("192.168.200.0/24") // behind the relay
	relayIP   = netip.MustParseAddr("192.168.200.1")
	branchIPs = [2]netip.Addr{netip.MustParseAddr("192.168.200.10"), netip.MustParseAddr("192.168.200.99")}
	anyIP     = netip.IPv4Unspecified()
	bcastIP   = netip.MustParseAddr("255.255.255.255")
	witness   = mac{2, 0, 0, 0, 0xff, 0xfe}
	router    = mac{2, 0, 0, 0, 0xff, 0x01}
)

const (
	domain   = "blue.example"
	leaseFor = 12 * time.Hour
)

// at is an address of the subnet by its last byte.
func at(n byte) netip.Addr { return netip.AddrFrom4([4]byte{192, 168, 100, n}) }

// intent is what an operator wants of a server, for each of them to be written
// in its own words.
type intent struct {
	first, last byte          // addresses to give out, by their last bytes; 0: 10 and 250
	lease       time.Duration // 0: leaseFor
	routes      []route       // option 121; the default route is among them
	options     []option      // for everybody in the subnet
	hosts       []host        // reservations, besides the witness's
	classes     []class       // the first that fits wins
	relay       bool          // branch, by giaddr, with nothing but its router

	sole            bool // no other server is on the network: some have to be told
	authoritative   bool // answer of what there is no record
	subnetSelection bool // option 118
	rapidCommit     bool
	bootp           bool // clients without option 53, from reservations
	probe           bool // ask in the segment before a fresh address is offered
	tenants         bool // a second segment with the same addresses
}

type route struct {
	to  netip.Prefix
	via netip.Addr
}

// host is a reservation; exactly one of mac, id, named and port says for whom.
type host struct {
	mac   mac
	id    []byte // option 61
	named string // the name that the client sends, option 12
	port  bool   // whoever is on the wire
	ip    netip.Addr
	name  string // option 12 of the reply
}

// Matchers of a class.
const (
	byVendor  = "vendor"     // option 60 begins with it
	byUser    = "user"       // option 77
	byCircuit = "circuit_id" // option 82, suboption 1
	byArch    = "arch"       // option 93
)

type class struct {
	by      string
	match   string
	arch    uint16
	options []option
}

func (in *intent) pool() (first, last netip.Addr) {
	first, last = at(10), at(250)
	if in.first != 0 {
		first, last = at(in.first), at(in.last)
	}
	return first, last
}

func (in *intent) seconds() int {
	if in.lease == 0 {
		return int(leaseFor / time.Second)
	}
	return int(in.lease / time.Second)
}

// reservations are the intent's and the witness's.
func (in *intent) reservations() []host {
	return append([]host{{mac: witness, ip: witnessIP}}, in.hosts...)
}
