package nic

import (
	"encoding/binary"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/mmsg"
	"github.com/uvtep/uvtep/internal/offload"
	"github.com/uvtep/uvtep/internal/tap"
)

// queue is one packet socket (packet(7)). Each frame has a virtio header in front,
// as that of a TAP.
type queue struct {
	fd      int
	offload *atomic.Uint32 // the device's
	in      reader

	mu  sync.Mutex // of what Write needs: several workers may write
	out writer
}

func newQueue(of *atomic.Uint32) (*queue, error) {
	// Of no protocol: nothing is received before it is bound to the interface.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open a packet socket: %w", err)
	}
	q := &queue{fd: fd, offload: of}
	q.in.init()
	return q, nil
}

// bind has the socket receive all that the interface receives.
func (q *queue) bind(index int) error {
	for _, o := range []struct {
		what   string
		option int
	}{
		{"virtio headers", unix.PACKET_VNET_HDR},
		{"the tags that the card has taken off", unix.PACKET_AUXDATA},
	} {
		if err := unix.SetsockoptInt(q.fd, unix.SOL_PACKET, o.option, 1); err != nil {
			return fmt.Errorf("ask for %s: %w", o.what, err)
		}
	}
	// Before Linux 4.20 they are told by their kind alone.
	_ = unix.SetsockoptInt(q.fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1)
	// More than the usual maximum takes CAP_NET_ADMIN; less is no failure.
	if unix.SetsockoptInt(q.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) != nil {
		_ = unix.SetsockoptInt(q.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
	}
	// The kernel counts who wants it, and stops when the last socket is closed.
	all := unix.PacketMreq{Ifindex: int32(index), Type: unix.PACKET_MR_PROMISC}
	if err := unix.SetsockoptPacketMreq(q.fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &all); err != nil {
		return fmt.Errorf("have it receive what is for others: %w", err)
	}
	if err := unix.Bind(q.fd, &unix.SockaddrLinklayer{Protocol: everything, Ifindex: index}); err != nil {
		return fmt.Errorf("bind a packet socket to it: %w", err)
	}
	return nil
}

// join makes the socket one of a group, of which each flow has one. The first one
// founds it; its number is the kernel's choice.
func (q *queue) join(group int, first bool) (int, error) {
	kind := unix.PACKET_FANOUT_HASH
	if first {
		kind |= unix.PACKET_FANOUT_FLAG_UNIQUEID
	}
	arg := func(flags int) int { return group | (kind|flags)<<16 }
	err := unix.SetsockoptInt(q.fd, unix.SOL_PACKET, unix.PACKET_FANOUT, arg(unix.PACKET_FANOUT_FLAG_IGNORE_OUTGOING))
	if err == unix.EINVAL { // a kernel that does not know of it
		err = unix.SetsockoptInt(q.fd, unix.SOL_PACKET, unix.PACKET_FANOUT, arg(0))
	}
	if err != nil || !first {
		return group, err
	}
	v, err := unix.GetsockoptInt(q.fd, unix.SOL_PACKET, unix.PACKET_FANOUT)
	return v & 0xffff, err
}

// discard takes what is there already. Of a busy interface it takes no more than
// could be there when it began.
func (q *queue) discard() error {
	// A frame that finds no room for its virtio header is an error.
	var header [offload.HeaderLen]byte
	for range receiveBuffer / frame.EthernetLen {
		switch _, _, err := unix.Recvfrom(q.fd, header[:], unix.MSG_TRUNC|unix.MSG_DONTWAIT); err {
		case nil, unix.EINTR, unix.ENETDOWN, unix.EINVAL: // EINVAL: as Read has it; that frame is gone, too
		case unix.EAGAIN:
			return nil
		default:
			return os.NewSyscallError("recvfrom", err)
		}
	}
	return nil
}

// Fd implements tap.Queue.
func (q *queue) Fd() int { return q.fd }

const (
	// window is how many frames a call asks for at first, and at least.
	window = 8
	// readBudget is how many bytes are read before they are carried on: about half
	// of a second-level cache.
	readBudget = 512 << 10
	tagLen     = 4
	macsLen    = 12 // after which a tag stands
)

// reader is what recvmmsg needs, made once.
type reader struct {
	window   int // how many frames the next call asks for
	msgs     [frame.BatchLen]mmsg.Header
	iovecs   [frame.BatchLen]unix.Iovec
	names    [frame.BatchLen]unix.RawSockaddrLinklayer
	controls [frame.BatchLen]control
}

// control is room for what PACKET_AUXDATA tells.
type control struct {
	unix.Cmsghdr
	aux unix.TpacketAuxdata
	_   [8]byte
}

func (r *reader) init() {
	r.window = window
	for i := range r.msgs {
		h := &r.msgs[i].Hdr
		h.Iov = &r.iovecs[i]
		h.SetIovlen(1)
		h.Name = (*byte)(unsafe.Pointer(&r.names[i]))
		h.Control = (*byte)(unsafe.Pointer(&r.controls[i]))
	}
}

// Read implements tap.Queue.
func (q *queue) Read(b *frame.Batch) (int, error) {
	r := &q.in
	before, bytes := b.N, 0
	for b.N < len(b.Frames) && bytes < readBudget {
		want := min(r.window, len(b.Frames)-b.N)
		for i := range want {
			f := &b.Frames[b.N+i]
			f.Reset()
			buf := f.BufferAfter(offload.HeaderLen)
			r.iovecs[i].Base = unsafe.SliceData(buf)
			r.iovecs[i].SetLen(len(buf))
			h := &r.msgs[i].Hdr
			h.Namelen = unix.SizeofSockaddrLinklayer
			h.SetControllen(int(unsafe.Sizeof(r.controls[i])))
		}
		got, errno := mmsg.Recv(q.fd, r.msgs[:want])
		switch errno {
		case 0:
		case unix.EINTR:
			continue
		case unix.EAGAIN, unix.EINVAL: // EINVAL: a frame whose offloads a virtio header has no words for; it is gone
			return b.N - before, nil
		case unix.ENETDOWN: // told once; the link may come back
			if q.vanished() {
				return b.N - before, tap.ErrGone
			}
			return b.N - before, nil
		default:
			return b.N - before, errno
		}
		at, was := b.N, bytes
		for i := range got {
			bytes += r.commit(b, at+i, i)
		}
		r.window = min(max(2*got, window), frame.BatchLen)
		if mean := (bytes - was) / got; mean > 0 {
			r.window = min(r.window, max(readBudget/mean, 1))
		}
		if got < want {
			break // nothing is left
		}
	}
	return b.N - before, nil
}

// commit makes the frame at a place, which message i was read into, the next one of
// b, and returns its length.
func (r *reader) commit(b *frame.Batch, at, i int) int {
	m := &r.msgs[i]
	n := int(m.Len) - offload.HeaderLen
	if r.names[i].Pkttype == unix.PACKET_OUTGOING || n < 0 {
		return 0
	}
	if at != b.N { // one before it was left out
		b.Frames[at], b.Frames[b.N] = b.Frames[b.N], b.Frames[at]
	}
	f := &b.Frames[b.N]
	of := offload.Get(f.BufferAfter(offload.HeaderLen))
	tag, tagged := r.controls[i].tag(int(m.Hdr.Controllen))
	buf := f.Buffer()
	switch {
	case m.Hdr.Flags&unix.MSG_TRUNC != 0, tagged && n+tagLen > len(buf):
		b.Commit(0)
		f.Drop(frame.TooBig)
		return 0
	case tagged && n >= macsLen:
		copy(buf[macsLen+tagLen:], buf[macsLen:n])
		binary.BigEndian.PutUint32(buf[macsLen:], tag)
		n += tagLen
		if of.Flags&frame.NeedsCsum != 0 {
			of.CsumStart += tagLen
		}
	}
	b.Commit(n)
	f.Offload = of
	return n
}

// tag is the tag that the card or the kernel has taken off a frame, as it is
// written: protocol and control information (IEEE 802.1Q, clause 9.4). n is how
// many bytes the kernel has told.
func (c *control) tag(n int) (uint32, bool) {
	const told = unix.SizeofCmsghdr + int(unsafe.Sizeof(c.aux))
	if n < told || c.Level != unix.SOL_PACKET || c.Type != unix.PACKET_AUXDATA || c.aux.Status&unix.TP_STATUS_VLAN_VALID == 0 {
		return 0, false
	}
	protocol := uint32(unix.ETH_P_8021Q)
	if c.aux.Status&unix.TP_STATUS_VLAN_TPID_VALID != 0 {
		protocol = uint32(c.aux.Vlan_tpid)
	}
	return protocol<<16 | uint32(c.aux.Vlan_tci), true
}

// vanished reports whether the interface that the socket was bound to is gone for
// good, or to another namespace.
func (q *queue) vanished() bool {
	sa, err := unix.Getsockname(q.fd)
	if err != nil {
		return false
	}
	ll, ok := sa.(*unix.SockaddrLinklayer)
	return ok && ll.Ifindex <= 0
}

// ifreqIndex is struct ifreq with an index in it.
type ifreqIndex struct {
	name  [unix.IFNAMSIZ]byte
	index int32
	_     [20]byte
}

func (r *ifreqIndex) ioctl(fd int, request uintptr) error {
	if _, _, errno := syscall.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(unsafe.Pointer(r))); errno != 0 {
		return errno
	}
	return nil
}
