// Package control is the API of a running daemon: the types that it speaks, the
// server, on a unix socket and (to read only) on a loopback TCP port, and the
// client that the command line itself uses.
//
// The types' JSON keys are a contract: they may become more, but are never
// renamed nor removed. Arrays are never null.
package control

import (
	"net/netip"
	"time"

	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/fdb"
)

// Segment is the broadcast domain of one VNI.
type Segment struct {
	VNI        encap.VNI     `json:"vni" doc:"VXLAN network identifier"`
	Name       string        `json:"name"`
	MTU        int           `json:"mtu" doc:"MTU of its ports, bytes"`
	Group      *netip.Addr   `json:"group" doc:"multicast group; null: none"`
	Device     string        `json:"device" doc:"interface of the group; empty: the underlay's"`
	Peers      []netip.Addr  `json:"peers" nullable:"false" doc:"remote VTEPs that are replicated to"`
	Ports      []string      `json:"ports" nullable:"false" doc:"names of its ports"`
	Learning   bool          `json:"learning" doc:"whether source addresses are learned"`
	Ageing     int64         `json:"ageing_s" doc:"how long a learned MAC outlives its last frame, seconds; 0: for ever"`
	MACs       int           `json:"macs" doc:"FDB entries of all states"`
	DHCP       *netip.Prefix `json:"dhcp" doc:"subnet of the DHCPv4 server; null: none"`
	DHCP6      *netip.Prefix `json:"dhcp6" doc:"subnet of the DHCPv6 server; null: none"`
	Suppress   []string      `json:"suppress" nullable:"false" doc:"requests that are answered where the answer is known: arp, nd"`
	Neighbours int           `json:"neighbours" doc:"stations whose addresses are known for that"`
	Answered   uint64        `json:"suppress_answered" doc:"requests that were answered"`
	Flooded    uint64        `json:"suppress_flooded" doc:"requests that were not"`
	GroupError *string       `json:"group_error" doc:"why the group has not been joined, which is tried again; null: it has, or there is none"`
	RA         bool          `json:"ra" doc:"whether router advertisements are sent"`

	UnderlayMTU int      `json:"mtu_underlay" doc:"the longest packet of a guest that the underlay's interface carries now, bytes; 0: not known"`
	Warnings    []string `json:"warnings" nullable:"false" doc:"what an operator should know of the segment, a line each"`
}

// Port is where guests are attached.
type Port struct {
	VNI       encap.VNI `json:"vni"`
	Name      string    `json:"name"`
	Kind      string    `json:"kind" doc:"tap; stream: a socket that QEMU connects to; nic: a whole interface; trunk: a TAP that other segments have ports of, too; pair: an end of a pair"`
	VLAN      uint16    `json:"vlan" doc:"802.1Q VLAN on the trunk, or that the pair takes out of the segment; 0 = none"`
	State     string    `json:"state" doc:"up; down: its device has vanished, no machine is connected to its socket, its interface has no link, or the other end of its pair is not there"`
	Queues    int       `json:"queues"`
	Offload   []string  `json:"offload" nullable:"false" doc:"offloads in use"`
	Isolated  bool      `json:"isolated"`
	MaxLeases int       `json:"max_leases" doc:"limit of its clients' DHCP leases; 0: none"`
	DHCPRate  int       `json:"dhcp_rate" doc:"limit of DHCP messages a second; 0: none"`
	CheckMAC  bool      `json:"dhcp_check_mac" doc:"whether a DHCP client must be the source of its frame"`
	Storm     Storm     `json:"storm"`
	GBP       uint16    `json:"gbp" doc:"group policy id of its frames; 0: none"`
	GBPAllow  []uint16  `json:"gbp_allow" nullable:"true" doc:"group policy ids of the frames that it gets, 0 being those without one; null: all frames"`
	Bind      string    `json:"bind" enum:"none,lease,static" doc:"who may send"`
	Bindings  int       `json:"bindings" doc:"pairs of MAC and address that may send, if it is bound"`
	Trusted   bool      `json:"trusted" doc:"whether it may send as DHCP server, as router and from protected MACs"`
	RxPackets uint64    `json:"rx_packets" doc:"frames taken from the guest"`
	RxBytes   uint64    `json:"rx_bytes"`
	RxDropped uint64    `json:"rx_dropped"`
	TxPackets uint64    `json:"tx_packets" doc:"frames given to the guest"`
	TxBytes   uint64    `json:"tx_bytes"`
	TxDropped uint64    `json:"tx_dropped"`

	TooBigTold uint64 `json:"too_big_told" doc:"packets too big for their path of which the guest was told by ICMP or ICMPv6"`
}

// Storm limits what of a port is flooded.
type Storm struct {
	Broadcast int `json:"broadcast" required:"false" minimum:"0" maximum:"100000000" doc:"packets a second; 0: no limit"`
	Multicast int `json:"multicast" required:"false" minimum:"0" maximum:"100000000" doc:"packets a second; 0: no limit"`
	Unknown   int `json:"unknown" required:"false" minimum:"0" maximum:"100000000" doc:"unicast to addresses known nowhere, packets a second; 0: no limit"`
}

// FDBEntry says where a MAC lives: behind a local port, behind a remote VTEP, or
// (both null) at the segment itself.
type FDBEntry struct {
	VNI    encap.VNI   `json:"vni"`
	MAC    fdb.MAC     `json:"mac"`
	Ifname *string     `json:"ifname" doc:"local port; null: none"`
	Dst    *netip.Addr `json:"dst" doc:"remote VTEP; null: none"`
	State  string      `json:"state" enum:"dynamic,static,self"`
	Age    int64       `json:"age_s" doc:"seconds since it was last seen as a source; 0 unless dynamic"`
	Frozen bool        `json:"frozen" doc:"whether it moved too often and is held there for a while"`
}

// Neighbour is who is known to have an address in a segment, where requests are
// suppressed.
type Neighbour struct {
	VNI    encap.VNI   `json:"vni"`
	IP     netip.Addr  `json:"ip"`
	MAC    fdb.MAC     `json:"mac"`
	Source string      `json:"source" enum:"snooped,lease,static"`
	Router bool        `json:"router" doc:"it says that it is one, by IPv6"`
	Age    int64       `json:"age_s" doc:"seconds since it was last heard; 0 unless snooped"`
	Ifname *string     `json:"ifname" doc:"local port that it is behind; null: none, or not known"`
	Dst    *netip.Addr `json:"dst" doc:"remote VTEP that it is behind; null: none, or not known"`
}

// Peer is a remote VTEP of a segment.
type Peer struct {
	VNI       encap.VNI  `json:"vni"`
	Dst       netip.Addr `json:"dst"`
	Origin    string     `json:"origin" enum:"config,learned,api"`
	Replicate bool       `json:"replicate" doc:"whether broadcast, unknown unicast and multicast are replicated to it"`
	RxPackets uint64     `json:"rx_packets" doc:"frames received from it"`
	RxBytes   uint64     `json:"rx_bytes"`
	TxPackets uint64     `json:"tx_packets" doc:"frames sent to it"`
	TxBytes   uint64     `json:"tx_bytes"`
	PMTU      int        `json:"pmtu" doc:"MTU of the path to it, where that is known to be less than the interface's, bytes; 0: the interface's"`
}

// Lease is an address or a delegated prefix that a DHCP server has given out, or
// keeps.
type Lease struct {
	VNI      encap.VNI   `json:"vni"`
	IP       netip.Addr  `json:"ip" doc:"of a delegated prefix its first address"`
	Length   *int        `json:"length" doc:"of a delegated prefix, bits; null: an address"`
	MAC      string      `json:"mac" doc:"empty: the client is known otherwise only"`
	ClientID string      `json:"client_id" doc:"option 61 or, of DHCPv6, the DUID, in hexadecimal; empty: none"`
	IAID     *uint32     `json:"iaid" doc:"identity association of DHCPv6; null: none"`
	Hostname string      `json:"hostname"`
	State    string      `json:"state" enum:"offered,bound,declined,reserved"`
	Expires  *time.Time  `json:"expires" doc:"null: never"`
	Port     *string     `json:"port" doc:"local port that the client was last seen on, or that the address is reserved for; null: not known, or none"`
	VTEP     *netip.Addr `json:"vtep" doc:"remote VTEP that the client was last seen behind; null: not known, or none"`
}

// DHCPServer is how a DHCP server of a segment is doing. Counts are since it was
// started.
type DHCPServer struct {
	VNI      encap.VNI    `json:"vni"`
	Family   string       `json:"family" enum:"ipv4,ipv6"`
	Subnet   netip.Prefix `json:"subnet"`
	Server   netip.Addr   `json:"server" doc:"its own address"`
	Pool     int          `json:"pool" doc:"addresses and prefixes that any client may get"`
	Used     int          `json:"used" doc:"of those: bound, offered or declined"`
	Bound    int          `json:"bound" doc:"leases, those of reservations included"`
	Offered  int          `json:"offered"`
	Declined int          `json:"declined"`
	Reserved int          `json:"reserved" doc:"addresses and prefixes that are reserved, held or not"`

	Received map[string]uint64 `json:"received" nullable:"false" doc:"messages by type, such as discover or solicit; those that there were"`
	Sent     map[string]uint64 `json:"sent" nullable:"false" doc:"likewise, such as offer or reply"`
	Outcomes map[string]uint64 `json:"outcomes" nullable:"false" doc:"what became of requests, such as answered or no_lease"`

	Probes         uint64 `json:"probes" doc:"addresses that the segment was asked about before they were offered"`
	ProbeConflicts uint64 `json:"probe_conflicts" doc:"of those: in use by somebody without a lease"`
	ProbesSkipped  uint64 `json:"probes_skipped" doc:"offers that went out unasked: too many were waiting"`
}

// Drop counts the frames dropped for one reason.
type Drop struct {
	Reason string    `json:"reason"`
	VNI    encap.VNI `json:"vni" doc:"0: before a segment was known"`
	Count  uint64    `json:"count"`
}

// Worker is one of the loops that carry frames.
type Worker struct {
	ID        int    `json:"id"`
	CPU       int    `json:"cpu" doc:"-1: not bound to one"`
	RxPackets uint64 `json:"rx_packets" doc:"frames read from ports and tunnel"`
	TxPackets uint64 `json:"tx_packets" doc:"frames written to ports and tunnel"`
	Batches   uint64 `json:"batches"`

	ReadErrors uint64 `json:"read_errors" doc:"reads of ports and tunnel that failed"`

	Offload []string `json:"offload" nullable:"false" doc:"offloads of the tunnel in use"`
}

// StaticTarget is where a static FDB entry points to. Exactly one is set.
type StaticTarget struct {
	Dst  *netip.Addr `json:"dst,omitempty" doc:"remote VTEP"`
	Port string      `json:"port,omitempty" doc:"local port"`
}

// Reservation keeps an address or a prefix for a client. One of MAC, ClientID (of
// DHCPv4), DUID (of DHCPv6) and Port says whose it is or, of DHCPv4, Hostname
// where none of them is set.
type Reservation struct {
	MAC      *fdb.MAC `json:"mac,omitempty"`
	ClientID string   `json:"client_id,omitempty" pattern:"^([0-9a-fA-F]{2}){2,255}$" patternDescription:"2 to 255 bytes in hexadecimal, the type byte first" doc:"option 61 in hexadecimal, its type byte included"`
	DUID     string   `json:"duid,omitempty" pattern:"^([0-9a-fA-F]{2}){3,130}$" patternDescription:"3 to 130 bytes in hexadecimal, the type first" doc:"option 1 of DHCPv6 in hexadecimal"`
	Port     string   `json:"port,omitempty" doc:"local port that the client is behind"`
	Hostname string   `json:"hostname,omitempty" maxLength:"255"`
	Length   int      `json:"length,omitempty" minimum:"1" maximum:"127" doc:"of a prefix that is kept, bits; none: an address is kept"`
}

// Reserved says what came of a reservation.
type Reserved struct {
	HeldBy *Lease `json:"held_by" doc:"another client's lease, after which the address is its new owner's; null: nobody else has the address"`
}

// NewSegment is a segment that is to be added. Its keys are those of a segment in
// the configuration.
type NewSegment struct {
	Name  string   `json:"name,omitempty" doc:"what people call it; none: vni and its number"`
	MTU   int      `json:"mtu,omitempty" doc:"MTU of its ports, bytes; 0: the underlay's less the overhead"`
	Peers []string `json:"peers,omitempty" doc:"remote VTEPs that floods are replicated to"`
	Group string   `json:"group,omitempty" doc:"multicast group that floods go to"`
	DHCP  string   `json:"dhcp,omitempty" doc:"subnet of a DHCPv4 server, such as 192.168.100.0/24"`
	DHCP6 string   `json:"dhcp6,omitempty" doc:"subnet of a DHCPv6 server, such as 2001:db8:100::/64"`
}

// NewPort is a port that is to be added. Its keys are those of a port in the
// configuration.
type NewPort struct {
	TAP      string   `json:"tap,omitempty" doc:"TAP device; created if it is not there. Also the port's name. One of tap, stream and nic"`
	Stream   string   `json:"stream,omitempty" doc:"absolute path of a Unix socket that QEMU connects to (-netdev stream). Its last element is the port's name"`
	NIC      string   `json:"nic,omitempty" doc:"interface whose frames enter the segment, all of them. Also the port's name"`
	NetNS    string   `json:"netns,omitempty" doc:"network namespace, a name or a path, that the kernel side is moved to"`
	Rename   string   `json:"rename,omitempty" doc:"what the kernel side is called there"`
	MAC      *fdb.MAC `json:"mac,omitempty" doc:"hardware address of the kernel side"`
	Bridge   string   `json:"bridge,omitempty" doc:"Linux bridge that the kernel side is enslaved to"`
	Isolated bool     `json:"isolated,omitempty"`
	MaxMACs  int      `json:"max_macs,omitempty" doc:"limit of learned MACs; 0: the segment's"`

	MaxLeases    int  `json:"max_leases,omitempty" doc:"limit of DHCP leases, IPv4 and IPv6 each; 0: none"`
	DHCPRate     int  `json:"dhcp_rate,omitempty" doc:"limit of DHCP messages a second; 0: none"`
	DHCPCheckMAC bool `json:"dhcp_check_mac,omitempty" doc:"the DHCP client must be the source of its frame"`

	Storm Storm `json:"storm,omitzero"`

	GBP      uint16   `json:"gbp,omitempty" doc:"group policy id of its frames; 0: none"`
	GBPAllow []uint16 `json:"gbp_allow,omitempty" minItems:"1" uniqueItems:"true" doc:"group policy ids of the frames that it gets, 0 being those without one; absent: all frames"`

	Bind      string    `json:"bind,omitempty" enum:"none,lease,static" doc:"who may send"`
	Addresses []Binding `json:"addresses,omitempty" doc:"who may send from which address"`
	Trusted   *bool     `json:"trusted,omitempty" doc:"may send as DHCP server, as router and from protected MACs; without it, as the segment needs it"`
}

// Binding is a station and an address that it may send from.
type Binding struct {
	MAC fdb.MAC `json:"mac"`
	IP  string  `json:"ip" minLength:"1" doc:"address or prefix"`
}

// Flushed says what a flush removed.
type Flushed struct {
	Count int `json:"flushed" doc:"learned entries that were removed"`
}

// Reloaded says what a reload changed.
type Reloaded struct {
	Changes []string `json:"changes" nullable:"false" doc:"one line a change; empty: nothing differed"`
}
