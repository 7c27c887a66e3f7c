package underlay

import (
	"encoding/binary"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// poll waits until a socket may have room. The kernel says so of one whose buffer
// is half empty, which a large one seldom is in time: then too there may be room.
func poll(fd int, atMost time.Duration) time.Duration {
	fds := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}} // a negative one is ignored
	for start := time.Now(); ; {
		took := time.Since(start)
		if took >= atMost {
			return took
		}
		left := unix.NsecToTimespec(int64(atMost - took))
		if _, err := unix.Ppoll(fds[:], &left, nil); err != unix.EINTR {
			return time.Since(start)
		}
	}
}

// Control messages of UDP sockets, as in linux/udp.h.
const (
	udpSegment = 103
	udpGRO     = 104
)

// dataAt is where the data of a control message starts.
var dataAt = unix.CmsgLen(0)

// control is room for three small control messages and the choice of an interface,
// aligned as they have to be.
type control [14]uint64

func (c *control) bytes() []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(c)), unsafe.Sizeof(*c))
}

// putInt writes a control message with an int at offset at, and returns where
// the next one goes.
func (c *control) putInt(at int, level, typ, value int32) int {
	*(*int32)(unsafe.Pointer(c.put(at, level, typ, 4))) = value
	return at + unix.CmsgSpace(4)
}

// putUint16 is putInt of 16 bits.
func (c *control) putUint16(at int, level, typ int32, value uint16) int {
	*(*uint16)(unsafe.Pointer(c.put(at, level, typ, 2))) = value
	return at + unix.CmsgSpace(2)
}

func (c *control) put(at int, level, typ int32, size int) *byte {
	b := c.bytes()[at:]
	h := (*unix.Cmsghdr)(unsafe.Pointer(unsafe.SliceData(b)))
	h.SetLen(dataAt + size)
	h.Level, h.Type = level, typ
	return &b[dataAt]
}

// received is what control messages of n bytes tell of a datagram: the type of
// service or traffic class, and the length of the datagrams that the kernel has
// put together, 0 if it has not.
func (c *control) received(n int) (tos uint8, segment int) {
	b := c.bytes()[:min(n, len(c.bytes()))]
	for len(b) >= dataAt {
		h := (*unix.Cmsghdr)(unsafe.Pointer(unsafe.SliceData(b)))
		size := int(h.Len)
		if size < dataAt || size > len(b) {
			break
		}
		data := b[dataAt:size]
		switch {
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_TOS && len(data) >= 1:
			tos = data[0]
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_TCLASS && len(data) >= 4:
			tos = uint8(binary.NativeEndian.Uint32(data))
		case h.Level == unix.IPPROTO_UDP && h.Type == udpGRO && len(data) >= 4:
			segment = int(binary.NativeEndian.Uint32(data))
		}
		b = b[min(unix.CmsgSpace(size-dataAt), len(b)):]
	}
	return tos, segment
}
