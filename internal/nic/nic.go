// Package nic is a port over a whole network interface: whatever the interface
// receives enters the segment, and what leaves the segment by it goes out on its
// wire, as from a bridge. It touches the operating system as package tap does,
// whose Device it is.
package nic

import (
	"errors"
	"net/netip"

	"github.com/uvtep/uvtep/internal/tap"
)

// Config describes a port.
type Config struct {
	Name   string // of the interface, which is there
	NetNS  string // the namespace that it is in, name or path; "" = the calling thread's
	Queues int    // as many as there are workers

	// Offload is what is wanted; Device.Offload tells what came of it. Super-frames
	// are read in any case: the kernel merges what it receives for its own sake.
	Offload tap.Offload

	// Not, if it is valid, is an address that the interface must not have: the
	// tunnel's own, whose packets would go round in circles.
	Not netip.Addr
}

// Errors that Open returns, to be told apart by errors.Is. The text around them
// says which interface and what to do.
var (
	ErrNoInterface = errors.New("no such interface")
	ErrUnderlay    = errors.New("it is the tunnel's own interface")
	ErrPermission  = errors.New("not permitted (CAP_NET_RAW is needed)")
)
