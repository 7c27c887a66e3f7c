// Package underlay is the batched UDP socket that the tunnel runs over. It is
// one of the two places that touch the operating system; underlaytest has its
// double.
package underlay

import (
	"errors"
	"net/netip"
	"strings"
	"time"

	"github.com/uvtep/uvtep/internal/frame"
)

// Config describes the underlay of one VTEP.
type Config struct {
	Local      netip.Addr // this VTEP's address, IPv4 or IPv6; one of this host's
	Port       uint16     // UDP port that is listened on
	Device     string     // interface for multicast, and whose MTU counts; "" = the one that has Local
	Checksum   bool       // send UDP checksums; off also accepts zero ones over IPv6
	ZeroSum6   bool       // accept zero UDP checksums over IPv6 (RFC 6935, RFC 6936)
	DF         DF         // the don't-fragment flag over IPv4
	Fragment   bool       // what is too big for the path leaves in fragments; DF is DFClear
	TTL        uint8      // TTL or hop limit of what is sent; 0 = 64
	Queues     int        // as many as there are workers
	Sources    int        // how many outer source ports flows are spread over; 0 = 16
	SourceLow  uint16     // lowest source port; 0 = 49152
	SourceHigh uint16     // highest source port; 0 = 65535
	RcvBuf     int        // socket buffers, bytes; 0 = 4 MiB
	SndBuf     int
	Offload    Offload // what is wanted; Endpoint.Offload tells what came of it
}

// DF says what the don't-fragment flag of IPv4 headers is. Where it is clear,
// routers may fragment; this host does so with Config.Fragment only.
type DF uint8

const (
	DFSet     DF = iota
	DFClear      // and nothing is learnt of the path's MTU, as no router has to tell
	DFInherit    // as Packet.NoDF says; as many source ports again are used for those without
)

// Offload is a set of what the kernel does for many datagrams at once.
type Offload uint8

const (
	GSO Offload = 1 << iota // a train is one system call
	GRO                     // a flow's datagrams arrive as one

	All = GSO | GRO
)

var offloadNames = []string{"udp-gso", "udp-gro"}

// Names are the words for users, of those in the set.
func (o Offload) Names() []string {
	names := []string{}
	for i, n := range offloadNames {
		if o&(1<<i) != 0 {
			names = append(names, n)
		}
	}
	return names
}

// String is Names on one line, for logs.
func (o Offload) String() string { return strings.Join(o.Names(), " ") }

// Endpoint is an open underlay.
type Endpoint interface {
	// Queues are as many as Config.Queues asked for. Packets are spread over
	// them by the sender's address and source port, so that one flow stays on
	// one queue: that of frame.QueueOf, as far as the kernel lets it, if the
	// sender's is such an endpoint too and has the same range of source ports.
	// Those of a multicast group all arrive at one queue.
	Queues() []Queue
	// Join subscribes to a multicast group on an interface, "" being
	// Config.Device, or else the one that has Local, and returns where to send to
	// it by that interface; Leave undoes one Join. Its packets arrive at the
	// queues like all others. A group joined twice is left when it was left twice;
	// leaving one that was not joined does nothing. What this host sends to a
	// group does not come back to it. The errors are ErrNotMulticast, ErrNoDevice,
	// or the system's.
	Join(group netip.Addr, device string) (*Remote, error)
	Leave(group netip.Addr, device string) error
	// MTU is the MTU of the interface Config.Device, or else of the one that
	// has Local, bytes; the error is ErrNoDevice where there is none (any more).
	MTU() (int, error)
	// PathMTU is the MTU of the path to a destination, bytes: what the system has
	// learnt of it from routers (RFC 1191, RFC 8201) and not forgotten yet, else
	// that of the way out. The error says why there is no way. It may be called by
	// anybody at any time and does not wait.
	PathMTU(dst *Remote) (int, error)
	// Offload is what is done now. It may become less at any time: what the
	// kernel refuses once is not tried again.
	Offload() Offload
	// Close is called once no worker uses a queue any more.
	Close() error
}

// Queue is one worker's end of the underlay. Read and Write are each called by
// one worker at a time. Read never blocks, Write for no longer than Allow allows.
type Queue interface {
	// Fd is readable when Read has something; it stays the queue's.
	Fd() int
	// Read appends the UDP payloads that have arrived to b, with Outer.Src and
	// Outer.TOS set, until b is full or nothing is there, or until what was read
	// would not stay in the processor's cache. It returns how many it appended,
	// also along with an error, which concerns this call only. A payload that
	// did not fit into its frame comes empty, with the verdict Dropped and
	// TooBig. With GRO one payload may be several of a flow behind each other,
	// as Outer.Segment tells.
	Read(b *frame.Batch) (int, error)
	// Write sends the packets and returns how many datagrams were sent; packets
	// of equal Entropy leave in order and by the same source port, whichever
	// queue sends them. Nothing is fragmented without Config.Fragment. Sent and Reason tell of each
	// packet what became of it: NotDropped if all of it was sent, TooBig for
	// what the path does not carry, TunnelFull or TunnelError.
	Write(packets []Packet) int
	// Allow sets how long Write may wait in all, until Allow is called again, for
	// room in sockets that are full; without it Write does not wait. It is called
	// by the worker that calls Write.
	Allow(wait time.Duration)
}

// Packet is one datagram that is to be sent, or a train of them: datagrams of
// one flow and of equal length, but the last, which may be shorter. The bytes
// are the caller's again when Write returns, and several packets may share them.
type Packet struct {
	// Data is the UDP payload in pieces. A datagram of a train ends where a
	// piece ends.
	Data    [][]byte
	Segment int    // length of a train's datagrams, bytes; 0 = Data is one datagram
	Count   int    // how many datagrams there are; at least 1
	TOS     uint8  // DSCP and ECN of the outer header
	TTL     uint8  // 0 = Config.TTL
	NoDF    bool   // routers may fragment it; with DFInherit over IPv4
	Entropy uint32 // frame.Frame.Hash of the inner flow: chooses the source port
	Dst     *Remote
	Sent    int          // after Write: how many datagrams were sent
	Reason  frame.Reason // after Write: why the others were not
}

// MaxTrain and MaxTrainLen bound a train: datagrams, and bytes in all (the most
// that Linux sends at once over IPv6, which is less than over IPv4).
const (
	MaxTrain    = 64
	MaxTrainLen = 65535 - 40 - 8
)

// Remote is a destination whose socket address was prepared once. It never
// changes; make it with NewRemote.
type Remote struct {
	addr netip.Addr
	port uint16
	len  uint32   // bytes of raw in use
	raw  [28]byte // struct sockaddr_in or sockaddr_in6
	out  int32    // number of the interface that it is sent by; 0 = the system's choice
}

// Errors that Open returns, to be told apart by errors.Is. The text around them
// says which address and port, and what to do.
var (
	ErrPortInUse    = errors.New("the UDP port is in use")
	ErrNotLocal     = errors.New("the address is not one of this host's")
	ErrPermission   = errors.New("not permitted")
	ErrNoDevice     = errors.New("no such interface")
	ErrNotMulticast = errors.New("not a multicast address")
)

// Opener opens an endpoint: Open of this package, or a double. The queues of a
// double have an Fd of -1 and a method Notify(wake func()) instead, which sets
// what is called whenever Read may have something.
type Opener func(Config) (Endpoint, error)
