package tap

import (
	"strings"
	"sync/atomic"

	"github.com/uvtep/uvtep/internal/frame"
)

// Offload is a set of what a device does beyond plain frames whose checksums are
// complete.
type Offload uint8

const (
	// Checksum: frames with a partial checksum (frame.NeedsCsum) are read and
	// taken.
	Checksum Offload = 1 << iota
	// ReadTSO and ReadUSO: the kernel side hands over super-frames of TCP and of
	// UDP unsplit.
	ReadTSO
	ReadUSO
	// WriteTSO and WriteUSO: Write takes super-frames of TCP and of UDP. Without
	// Checksum they mean nothing.
	WriteTSO
	WriteUSO

	// Steering: of several queues a flow has one, which never changes. It is not
	// asked for, and told by a device that has it.
	Steering

	// All is everything that can be asked for.
	All = Checksum | ReadTSO | ReadUSO | WriteTSO | WriteUSO
)

var offloadNames = []string{"csum", "tso", "uso", "tcp-gro", "udp-gro", "steering"}

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

// Complete is the set without what cannot be without the rest: a super-frame has
// a partial checksum.
func (o Offload) Complete() Offload {
	if o&Checksum == 0 {
		return 0
	}
	return o
}

// maxFaults is how many super-frames in a row the kernel refuses before it is
// believed that it takes none.
const maxFaults = 3

// Faults counts the super-frames of TCP and of UDP that were refused since one was
// taken, for a device that takes back an offload which the kernel said it has and
// does not take, as some do. The zero value is ready for use; whoever calls Judge
// sees to it that nobody else does at the same time.
type Faults [2]int

// Judge notes what became of a super-frame of a kind, frame.GSOTCPv4 or another,
// and takes the offload out of have, which is an Offload, once it is found wanting.
func (f *Faults) Judge(have *atomic.Uint32, gso uint8, taken, refused bool) {
	of, faults := WriteTSO, &f[0]
	if gso == frame.GSOUDPL4 {
		of, faults = WriteUSO, &f[1]
	}
	switch {
	case taken:
		*faults = 0
	case refused:
		if *faults++; *faults >= maxFaults {
			have.And(^uint32(of))
		}
	}
}
