package dhcpd

import (
	"net/netip"
)

// Request is one DHCP message from a client or a relay.
type Request struct {
	// Payload is the BOOTP message, the UDP payload. Serve keeps none of it.
	Payload []byte

	// Src and Dst are the addresses of the IP header. Src may be 0.0.0.0; Dst
	// tells a renewal (unicast) from a rebinding (broadcast).
	Src, Dst netip.Addr

	// SrcMAC is the source of the frame: the client, or the last router or
	// relay on the way.
	SrcMAC [6]byte

	// Port and VTEP say where the client sits: the name of a local port, or
	// the address of the remote VTEP (zero for a local client).
	Port string
	VTEP netip.Addr

	// MaxLeases is how many leases the clients of Port may have; 0: any number.
	MaxLeases int
}

// Reply is one message to a client or a relay.
type Reply struct {
	// Payload is the BOOTP message. It is valid until the reply function
	// returns.
	Payload []byte

	// Src and Dst are for the IP header; the source port is 67.
	Src, Dst netip.Addr
	DstPort  uint16 // 68 to a client, 67 to a relay

	// DstMAC is the frame's destination. For a unicast whose owner the server
	// cannot know (a relay, a client behind a router) it is the source of the
	// request's frame, which is the way back.
	DstMAC [6]byte
}

// Outcome says what became of a request. Its word labels counters.
type Outcome uint8

const (
	// Answered: the reply was handed over before Serve returned, or the
	// message was taken in and needs none (RELEASE, DECLINE).
	Answered Outcome = iota
	// Pending: the reply follows once the lease is durable.
	Pending
	// Probing: the offer follows once nobody has claimed the address.
	Probing
	// Duplicate: the client asks again while its lease is on the way to the disk
	// or its offer waits for a probe; one answer serves both, and may be handed to
	// either's reply.
	Duplicate

	Malformed // not a DHCP request that can be read, or one to be discarded (RFC 8415 section 16)

	// Left unanswered because RFC 2131 says so.
	IgnoredBOOTP       // no option 53: plain BOOTP
	IgnoredType        // a message type that no server takes
	IgnoredOtherServer // the client chose or addressed another server
	IgnoredUnknown     // no record of this client's lease
	IgnoredSubnet      // no subnet for this relay or address
	IgnoredAddress     // the message lacks the address that it is about, or it is not the client's

	// Of DHCPv6 these are told to the client.
	NoLease  // the pool is empty
	PortFull // the clients of the port have as many leases as they may
	Busy     // more leases on their way to the disk than the service takes
	Stopped  // the segment or the service was shut down

	outcomeCount
)

// Outcomes is the number of outcomes: the length of an array of counters.
const Outcomes = int(outcomeCount)

var outcomeNames = [Outcomes]string{
	Answered:           "answered",
	Pending:            "pending",
	Probing:            "probing",
	Duplicate:          "duplicate",
	Malformed:          "malformed",
	IgnoredBOOTP:       "ignored_bootp",
	IgnoredType:        "ignored_type",
	IgnoredOtherServer: "ignored_other_server",
	IgnoredUnknown:     "ignored_unknown",
	IgnoredSubnet:      "ignored_subnet",
	IgnoredAddress:     "ignored_address",
	NoLease:            "no_lease",
	PortFull:           "port_full",
	Busy:               "busy",
	Stopped:            "stopped",
}

// String is the outcome's word: lower case and underscores.
func (o Outcome) String() string {
	if int(o) < Outcomes {
		return outcomeNames[o]
	}
	return "unknown"
}

// Ignored says that the request was well-formed and rightly left unanswered.
func (o Outcome) Ignored() bool { return o >= IgnoredBOOTP && o <= IgnoredAddress }

// Served says that the request was taken: answered, about to be, or in no need
// of an answer.
func (o Outcome) Served() bool { return o <= Duplicate }
