package vtep

import (
	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/nic"
	"github.com/uvtep/uvtep/internal/stream"
	"github.com/uvtep/uvtep/internal/tap"
	"github.com/uvtep/uvtep/internal/underlay"
)

// The types and errors of the two places that touch the operating system, under
// names that other modules can say: for whoever brings a device of their own
// (PortConfig.Device), or opens TAPs or the underlay otherwise than this package
// does (Config.OpenTAP, Config.OpenUnderlay), and for who tells errors apart.

// Device is what a port reads frames from and writes frames to; its methods say
// what they owe. A queue without a descriptor (Fd is -1) has a method
// Notify(wake func()) instead, which sets what the device calls whenever Read
// may have something, and calls it at once if that is so already.
type (
	Device        = tap.Device
	DeviceQueue   = tap.Queue
	DeviceOffload = tap.Offload
	LinkedDevice  = tap.Linked
	DeviceLink    = tap.Link
	TAPConfig     = tap.Config
	TAPOpener     = tap.Opener
)

// What a device can do beyond plain frames whose checksums are complete, for
// Device.Offload; 0 is fine.
const (
	DeviceChecksum = tap.Checksum
	DeviceReadTSO  = tap.ReadTSO
	DeviceReadUSO  = tap.ReadUSO
	DeviceWriteTSO = tap.WriteTSO
	DeviceWriteUSO = tap.WriteUSO
)

// Underlay is the tunnel's batched UDP socket.
type (
	Underlay        = underlay.Endpoint
	UnderlayQueue   = underlay.Queue
	UnderlayPacket  = underlay.Packet
	UnderlayOffload = underlay.Offload
	UnderlayConfig  = underlay.Config
	UnderlayOpener  = underlay.Opener
)

// DF says what the don't-fragment flag of outer IPv4 headers is, for Config.DF.
type DF = underlay.DF

const (
	DFSet     = underlay.DFSet     // it is set
	DFClear   = underlay.DFClear   // routers may fragment
	DFInherit = underlay.DFInherit // as in the inner IPv4 header; set where there is none
)

// What an underlay can do for many datagrams at once, for Underlay.Offload; 0
// is fine.
const (
	UnderlayGSO = underlay.GSO
	UnderlayGRO = underlay.GRO
)

// Batch is what frames are moved in: Next, then Commit, for each that is read.
type (
	Batch = frame.Batch
	Frame = frame.Frame
)

// Reason says why a frame was dropped; its String is the word that metrics and
// tables have for it. Those that a device or an underlay gives have names here.
type Reason = frame.Reason

const (
	PortDown    = frame.PortDown    // the port it belongs to is down
	PortFull    = frame.PortFull    // the port's queue is full
	PortError   = frame.PortError   // the port refused it
	TooBig      = frame.TooBig      // longer than the way out carries
	TunnelFull  = frame.TunnelFull  // the socket's buffer is full
	TunnelError = frame.TunnelError // the socket refused it
)

// Errors of AttachPort and, ErrGone, of a device's Read.
var (
	ErrGone          = tap.ErrGone
	ErrBusy          = tap.ErrBusy
	ErrNotTAP        = tap.ErrNotTAP
	ErrNoTUN         = tap.ErrNoTUN
	ErrTAPPermission = tap.ErrPermission
	ErrNoNetNS       = tap.ErrNoNetNS
	ErrNoBridge      = tap.ErrNoBridge
)

// Errors of AttachPort for a stream.
var (
	ErrSocketInUse      = stream.ErrInUse
	ErrNotSocket        = stream.ErrNotSocket
	ErrNoDirectory      = stream.ErrNoDirectory
	ErrSocketPermission = stream.ErrPermission
)

// Errors of AttachPort for a NIC.
var (
	ErrNoInterface   = nic.ErrNoInterface
	ErrUnderlayNIC   = nic.ErrUnderlay
	ErrNICPermission = nic.ErrPermission
)

// Errors of New and of joining a group.
var (
	ErrPortInUse          = underlay.ErrPortInUse
	ErrNotLocal           = underlay.ErrNotLocal
	ErrUnderlayPermission = underlay.ErrPermission
	ErrNoDevice           = underlay.ErrNoDevice
	ErrNotMulticast       = underlay.ErrNotMulticast
)
