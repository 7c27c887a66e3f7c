package mmsg

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Header is struct mmsghdr of recvmmsg(2).
type Header struct {
	Hdr unix.Msghdr
	Len uint32 // bytes that were received or sent
}

// Recv receives messages, and returns how many, or why it was none.
func Recv(fd int, msgs []Header) (int, syscall.Errno) { return call(unix.SYS_RECVMMSG, fd, msgs) }

// Send sends messages, and returns how many, or why it was none.
func Send(fd int, msgs []Header) (int, syscall.Errno) { return call(unix.SYS_SENDMMSG, fd, msgs) }

func call(nr uintptr, fd int, msgs []Header) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(nr, uintptr(fd),
		uintptr(unsafe.Pointer(unsafe.SliceData(msgs))), uintptr(len(msgs)), unix.MSG_DONTWAIT, 0, 0)
	return int(n), errno
}
