package frame

// Reason says why a frame was dropped. The same words label the metrics, the
// table of `show drops`, a capture's comments and a trace.
type Reason uint8

const (
	NotDropped Reason = iota

	// On the way in.
	Malformed     // shorter than an Ethernet header, or its headers lie about their length
	BadLength     // a stream's next frame has a length that no frame has
	BadOffload    // its virtio header asks for what the frame is not
	BadSource     // source MAC is zero or has the group bit
	OwnSource     // source MAC is one of the segment's own
	StaticSource  // source MAC is statically bound elsewhere
	MACFrozen     // source MAC moved too often, and is held elsewhere
	VLANUnmapped  // in a VLAN that the trunk or pair has no place for
	PortIsolated  // both ports are isolated from each other
	OuterShort    // a datagram too short for a VXLAN header and a frame
	OuterNoVNI    // a VXLAN header without the I flag
	OuterReserved // reserved bits set, with strict checking
	OuterSelf     // a tunnel packet with our own address as its source
	UnknownVNI    // no such segment here
	UnknownPeer   // the sending VTEP is not one of the segment's
	OuterECN      // congestion mark on a packet that cannot carry it (RFC 6040)
	TooDeep       // VXLAN in VXLAN to ourselves

	// At the guard of a port.
	ProtectedSource // source MAC is one that only trusted ports and the tunnel may have
	Spoofed         // not from a MAC and address that are bound to the port
	RogueDHCP       // a DHCP server's message from a port that is not trusted
	RogueRA         // a router's message from a port that is not trusted, or one that cannot be told from it

	// On the way out.
	LinkLocal   // to a group that no bridge relays (IEEE 802.1Q table 8-1)
	PairLoop    // it has crossed too many pairs
	Hairpin     // the way out is the way in
	NoWayOut    // nobody to send it to
	PortDown    // the port it belongs to is down
	PortFull    // the port's queue is full
	PortError   // the port refused it
	TooBig      // longer than the way out carries
	TunnelFull  // the socket's buffer is full
	TunnelError // the socket refused it
	GroupPolicy // of a group whose frames the port does not get
	StormLimit  // more floods a second than the port may send

	// In a responder.
	NotForService // to the service's MAC, of a kind it does not answer
	DHCPQueueFull // more requests than the DHCP service can take
	DHCPMalformed // not a DHCP message that can be read
	DHCPIgnored   // a message that RFC 2131 or RFC 8415 says to leave unanswered
	DHCPNoLease   // the lease could not be made durable, or the pool is empty
	DHCPPortFull  // the port's guests have as many leases as they may
	DHCPRate      // more DHCP messages a second than the port may send
	DHCPSpoofed   // a DHCP message for another client than the frame's source

	reasonCount
)

// Reasons is the number of reasons, NotDropped included: the length of an array
// of counters indexed by Reason.
const Reasons = int(reasonCount)

var reasonNames = [Reasons]string{
	NotDropped:    "none",
	Malformed:     "malformed",
	BadLength:     "bad_length",
	BadOffload:    "bad_offload",
	BadSource:     "bad_source",
	OwnSource:     "own_source",
	StaticSource:  "static_source",
	MACFrozen:     "mac_frozen",
	VLANUnmapped:  "vlan_unmapped",
	PortIsolated:  "port_isolated",
	OuterShort:    "outer_short",
	OuterNoVNI:    "outer_no_vni",
	OuterReserved: "outer_reserved",
	OuterSelf:     "outer_self",
	UnknownVNI:    "unknown_vni",
	UnknownPeer:   "unknown_peer",
	OuterECN:      "outer_ecn",
	TooDeep:       "too_deep",
	LinkLocal:     "link_local",
	PairLoop:      "pair_loop",
	Hairpin:       "hairpin",
	NoWayOut:      "no_way_out",
	PortDown:      "port_down",
	PortFull:      "port_full",
	PortError:     "port_error",
	TooBig:        "too_big",
	TunnelFull:    "tunnel_full",
	TunnelError:   "tunnel_error",
	GroupPolicy:   "group_policy",
	StormLimit:    "storm_limit",
	NotForService: "not_for_service",
	DHCPQueueFull: "dhcp_queue_full",
	DHCPMalformed: "dhcp_malformed",
	DHCPIgnored:   "dhcp_ignored",
	DHCPNoLease:   "dhcp_no_lease",
	DHCPPortFull:  "dhcp_port_full",
	DHCPRate:      "dhcp_rate",
	DHCPSpoofed:   "dhcp_spoofed",

	ProtectedSource: "protected_source",
	Spoofed:         "spoofed",
	RogueDHCP:       "rogue_dhcp",
	RogueRA:         "rogue_ra",
}

// String is the reason's word: lower case, digits and underscores only.
func (r Reason) String() string {
	if int(r) < Reasons {
		return reasonNames[r]
	}
	return "unknown"
}
