package control

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/uvtep/uvtep/dhcpd"
	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/fdb"
)

// Reader is what can be asked of a daemon. VNI 0 asks for all segments; a VNI
// that there is no segment of gives an error that is ErrNotFound. Methods may be
// called by many goroutines at once.
type Reader interface {
	Segments(vni encap.VNI) ([]Segment, error)
	Ports(vni encap.VNI) ([]Port, error)
	FDB(vni encap.VNI) ([]FDBEntry, error)
	Peers(vni encap.VNI) ([]Peer, error)
	Neighbours(vni encap.VNI) ([]Neighbour, error)
	Leases(vni encap.VNI) ([]Lease, error)
	DHCP(vni encap.VNI) ([]DHCPServer, error)
	// LeaseStore is how leases became durable; the zero value where there are no
	// DHCP servers.
	LeaseStore() dhcpd.CommitStats
	Drops(vni encap.VNI) ([]Drop, error)
	Workers() []Worker
	// Subscribe starts to collect events, until the subscription is closed.
	Subscribe(f EventFilter) (*Subscription, error)
	// LostOffloads is how many offloads the kernel has come to refuse.
	LostOffloads() uint64
}

// Backend is what the API does, as the daemon does it. Errors are ErrNotFound,
// ErrConflict, ErrInvalid or, from Reload, *InvalidConfig; any other is a
// failure.
type Backend interface {
	Reader
	AddFDB(vni encap.VNI, mac fdb.MAC, to StaticTarget) error
	DeleteFDB(vni encap.VNI, mac fdb.MAC) error
	FlushFDB(vni encap.VNI) (int, error)
	AddPeer(vni encap.VNI, dst netip.Addr) error
	DeletePeer(vni encap.VNI, dst netip.Addr) error
	AddSegment(vni encap.VNI, s NewSegment) error
	DeleteSegment(vni encap.VNI) error
	AddPort(vni encap.VNI, p NewPort) error
	DeletePort(vni encap.VNI, name string) error
	// ReleaseLease takes a lease back or, where nobody has one, removes a
	// reservation that ReserveLease made.
	ReleaseLease(vni encap.VNI, ip netip.Addr) error
	ReserveLease(vni encap.VNI, ip netip.Addr, r Reservation) (Reserved, error)
	// Reload reads the configuration again and applies all of it or nothing. It
	// returns one line a change.
	Reload(ctx context.Context) ([]string, error)
}

// Errors that tell the caller's mistakes apart. The text around them says what
// failed, on what.
var (
	ErrNotFound = errors.New("not found")
	ErrConflict = errors.New("in conflict with what is there")
	ErrInvalid  = errors.New("invalid")
)

// Error gives an error of one of the kinds above a text of its own.
type Error struct {
	Kind error
	Text string
}

// Errorf makes an *Error; its text does not mention the kind.
func Errorf(kind error, format string, args ...any) error {
	return &Error{Kind: kind, Text: fmt.Sprintf(format, args...)}
}

func (e *Error) Error() string        { return e.Text }
func (e *Error) Is(target error) bool { return target == e.Kind }

// InvalidConfig is a configuration that a reload refused: one line a fault.
type InvalidConfig struct {
	Faults []string
}

func (e *InvalidConfig) Error() string {
	text := ""
	for i, f := range e.Faults {
		if i > 0 {
			text += "\n"
		}
		text += f
	}
	return text
}

// Is makes an InvalidConfig an ErrInvalid.
func (e *InvalidConfig) Is(target error) bool { return target == ErrInvalid }
