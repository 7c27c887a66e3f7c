// Package tap opens TAP devices and moves frames in and out of them. It is one
// of the two places that touch the operating system; taptest has its double.
package tap

import (
	"errors"
	"net"

	"github.com/uvtep/uvtep/internal/frame"
)

// Config describes a TAP device and where its kernel side belongs.
type Config struct {
	Name   string           // created if it is not there; at most 15 bytes
	NetNS  string           // name under /run/netns or a path; the kernel side is moved there; "" = stay
	Rename string           // its name there, or here if NetNS is empty; "" = keep
	MAC    net.HardwareAddr // hardware address of the kernel side; nil = the kernel's choice
	Bridge string           // Linux bridge that the kernel side is enslaved to, in the namespace it ends up in
	MTU    int              // MTU of the kernel side, bytes; 0 = as it is
	Queues int              // as many as there are workers; a device that has one queue only yields one

	// Offload is what is wanted; Device.Offload tells what came of it.
	Offload Offload
	// MaxSegments bounds the segments of a super-frame that the kernel side
	// makes; 0 = as it is.
	MaxSegments int
}

// Device is an open TAP device.
//
// A device that Open created is gone after Close, wherever it was moved; one
// that was there before stays as it was found, namespace, name and all.
type Device interface {
	// Name is the name it was opened by, which stays its name for users even
	// where the kernel side was renamed.
	Name() string
	// Queues are the device's queues, at least one. Their number never changes.
	Queues() []Queue
	// SetMTU changes the MTU of the kernel side, bytes.
	SetMTU(mtu int) error
	// Offload is what the device does now. It may become less at any time: what
	// the kernel refuses once is not tried again.
	Offload() Offload
	// Close is called once no worker uses a queue any more.
	Close() error
}

// Linked is a Device whose other end comes and goes while it stays. Frames that are
// written while nobody is there get PortDown.
type Linked interface {
	// Up reports whether somebody is there.
	Up() bool
	// Watch sets what is told of every change, and of what else there is to tell
	// of the other end, by whoever finds out: it must not wait. It is set before
	// the device is read from.
	Watch(func(Link))
}

// Link is what there is to tell of a device's other end.
type Link struct {
	Up    bool   // whether somebody is there now
	What  string // what has happened, for the log
	Fault bool   // of whoever is, or was, there
	Gone  bool   // the device has vanished, as if Read had said ErrGone
}

// Queue is one queue of a device. Read is called by one worker at a time, Write
// by any number of them at once. Neither blocks.
type Queue interface {
	// Fd is readable when Read has something; it stays the queue's.
	Fd() int
	// Read appends frames to b until b is full or nothing is there, and returns
	// how many it appended, also along with an error. ErrGone means that the
	// device has vanished and never comes back (Fd then reports an error
	// condition for ever); any other error concerns this call only. A frame that
	// fills its buffer to the last byte may have been cut off: it comes empty,
	// with the verdict Dropped and TooBig. Frame.Offload is what the device
	// claims of the frame, unchecked. Read stops early when what it has read
	// would not stay in the processor's cache.
	Read(b *frame.Batch) (int, error)
	// Write sends the frames in order. One that cannot be sent gets the verdict
	// Dropped with PortFull, PortDown, TooBig or PortError, and the others go
	// on; it returns how many were sent. The frames' bytes are the caller's
	// again when it returns. A frame that is to go to several ports is written
	// to each in turn, so a verdict is all that Write may change in it. The
	// caller finishes and splits what Device.Offload does not take; a frame that
	// is refused all the same gets PortError.
	Write(frames []*frame.Frame) int
}

// Errors that Open and Read return, to be told apart by errors.Is. The text
// around them says which device and what to do.
var (
	ErrGone       = errors.New("the TAP device has vanished")
	ErrBusy       = errors.New("the TAP device is held by another program")
	ErrNotTAP     = errors.New("an interface of that name exists and is no TAP device")
	ErrNoTUN      = errors.New("/dev/net/tun is missing")
	ErrPermission = errors.New("not permitted (CAP_NET_ADMIN is needed)")
	ErrNoNetNS    = errors.New("no such network namespace")
	ErrNoBridge   = errors.New("no such bridge")
)

// Opener opens a device: Open of this package, or a double. The queues of a
// double have an Fd of -1 and a method Notify(wake func()) instead, which sets
// what is called whenever Read may have something.
type Opener func(Config) (Device, error)
