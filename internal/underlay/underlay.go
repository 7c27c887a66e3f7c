// Package underlay is the batched UDP socket that the tunnel runs over. It is
// one of the two places that touch the operating system; underlaytest has its
// double.
package underlay

import (
	"errors"
	"net/netip"

	"github.com/uvtep/uvtep/internal/frame"
)

// Config describes the underlay of one VTEP.
type Config struct {
	Local      netip.Addr // this VTEP's address, IPv4 or IPv6; one of this host's
	Port       uint16     // UDP port that is listened on and sent to
	Device     string     // interface for multicast; "" = the one that has Local
	Checksum   bool       // send UDP checksums; off also accepts zero ones over IPv6
	TTL        uint8      // TTL or hop limit of what is sent
	Queues     int        // as many as there are workers
	Sources    int        // how many outer source ports flows are spread over; 0 = 16
	SourceLow  uint16     // lowest source port; 0 = 49152
	SourceHigh uint16     // highest source port; 0 = 65535
	RcvBuf     int        // socket buffers, bytes; 0 = 4 MiB
	SndBuf     int
}

// Endpoint is an open underlay.
type Endpoint interface {
	// Queues are as many as Config.Queues asked for. Packets are spread over
	// them by the sender's address and source port, so that one flow stays on
	// one queue.
	Queues() []Queue
	// Join subscribes to a multicast group; Leave undoes one Join. Its packets
	// arrive at the queues like all others. A group joined twice is left when
	// it was left twice.
	Join(group netip.Addr) error
	Leave(group netip.Addr) error
	// MTU is the MTU of the interface that has Local, bytes.
	MTU() (int, error)
	// Close is called once no worker uses a queue any more.
	Close() error
}

// Queue is one worker's end of the underlay. Read and Write are each called by
// one worker at a time, and neither blocks.
type Queue interface {
	// Fd is readable when Read has something; it stays the queue's.
	Fd() int
	// Read appends the UDP payloads that have arrived to b, with Outer.Src and
	// Outer.TOS set, until b is full or nothing is there. It returns how many it
	// appended. An error concerns this call only.
	Read(b *frame.Batch) (int, error)
	// Write sends the packets in order of their flow and returns how many were
	// sent. Sent is false and Reason set in those that were not.
	Write(packets []Packet) int
}

// Packet is one datagram that is to be sent: Head bytes of the frame's
// headroom, then the frame. Several packets may share one frame. The bytes are
// the caller's again when Write returns.
type Packet struct {
	Frame   *frame.Frame
	Head    uint8        // bytes of headroom in front of the frame that are part of the payload
	TOS     uint8        // DSCP and ECN of the outer header
	TTL     uint8        // 0 = Config.TTL
	Reason  frame.Reason // after Write: why it was not sent; NotDropped = it was
	Entropy uint32       // hash of the inner flow: chooses the source port
	Dst     *Remote
}

// Remote is a destination whose socket address was prepared once. It never
// changes; make it with NewRemote.
type Remote struct {
	addr netip.Addr
	raw  [28]byte // struct sockaddr_in or sockaddr_in6
	len  uint32
}

// Addr is the remote VTEP's address, or the group's.
func (r *Remote) Addr() netip.Addr { return r.addr }

// Errors that Open returns, to be told apart by errors.Is. The text around them
// says which address and port, and what to do.
var (
	ErrPortInUse    = errors.New("the UDP port is in use")
	ErrNotLocal     = errors.New("the address is not one of this host's")
	ErrPermission   = errors.New("not permitted")
	ErrNoDevice     = errors.New("no such interface")
	ErrNotMulticast = errors.New("not a multicast address")
)

// Opener opens an endpoint: Open of this package, or a double.
type Opener func(Config) (Endpoint, error)
