package underlay

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32 // bytes of the datagram
}

// recvmmsg and sendmmsg never block, so the scheduler is not told of them.

func recvmmsg(fd int, msgs []mmsghdr) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(unix.SYS_RECVMMSG, uintptr(fd),
		uintptr(unsafe.Pointer(unsafe.SliceData(msgs))), uintptr(len(msgs)), unix.MSG_DONTWAIT, 0, 0)
	return int(n), errno
}

func sendmmsg(fd int, msgs []mmsghdr) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(unix.SYS_SENDMMSG, uintptr(fd),
		uintptr(unsafe.Pointer(unsafe.SliceData(msgs))), uintptr(len(msgs)), unix.MSG_DONTWAIT, 0, 0)
	return int(n), errno
}

// intSpace is the room that a control message of an int takes; intData is where
// its data starts. All control messages here are of an int or of a byte.
var (
	intSpace = unix.CmsgSpace(4)
	intData  = unix.CmsgLen(0)
)

// control is room for two control messages, aligned as they have to be.
type control [6]uint64

func (c *control) bytes() []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(c)), unsafe.Sizeof(*c))
}

// put writes a control message with an int at offset at, and returns where the
// next one goes.
func (c *control) put(at int, level, typ, value int32) int {
	b := c.bytes()[at:]
	h := (*unix.Cmsghdr)(unsafe.Pointer(unsafe.SliceData(b)))
	h.SetLen(intData + 4)
	h.Level, h.Type = level, typ
	*(*int32)(unsafe.Pointer(&b[intData])) = value
	return at + intSpace
}

// tos is the type of service or traffic class in the first of n bytes of control
// messages, 0 if there is none.
func (c *control) tos(n int) uint8 {
	if n <= intData {
		return 0
	}
	b := c.bytes()
	h := (*unix.Cmsghdr)(unsafe.Pointer(c))
	switch {
	case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_TOS:
		return b[intData]
	case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_TCLASS && n >= intData+4:
		return uint8(*(*int32)(unsafe.Pointer(&b[intData])))
	}
	return 0
}
