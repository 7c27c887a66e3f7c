package tap

import "strings"

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
