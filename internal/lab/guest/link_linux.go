package guest

import (
	"errors"
	"fmt"
	"math/bits"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"github.com/uvtep/uvtep/internal/netns"
)

// maxFrame is the longest frame a packet socket hands out, rounded up.
const maxFrame = 1 << 17

// link is a packet socket on one interface: Read and Write move whole frames,
// and deadlines work.
type link struct {
	*os.File
	ifname string
	mac    net.HardwareAddr
}

// openLink opens a packet socket that sees the frames of one EtherType
// (unix.ETH_P_ALL: of all) that arrive at the interface, and none that leave.
func openLink(ns, ifname string, etherType uint16) (*link, error) {
	var l *link
	err := netns.Do(ns, func() error {
		ifi, err := net.InterfaceByName(ifname)
		if err != nil {
			return ErrNoInterface
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("packet socket: %w", err)
		}
		// The socket belongs to no protocol until it is bound, so nothing gets
		// in before these are set.
		err = errors.Join(
			unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1),
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4<<20),
			unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: bits.ReverseBytes16(etherType), Ifindex: ifi.Index}),
		)
		if err != nil {
			unix.Close(fd)
			return fmt.Errorf("packet socket: %w", err)
		}
		l = &link{File: os.NewFile(uintptr(fd), "packet:"+ifname), ifname: ifname, mac: ifi.HardwareAddr}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("%s in %s: %w", ifname, ns, err)
	}
	return l, nil
}

// lost is how many frames the socket could not take since it was last asked.
func (l *link) lost() uint64 {
	raw, err := l.SyscallConn()
	if err != nil {
		return 0
	}
	var n uint64
	raw.Control(func(fd uintptr) {
		if st, err := unix.GetsockoptTpacketStats(int(fd), unix.SOL_PACKET, unix.PACKET_STATISTICS); err == nil {
			n = uint64(st.Drops)
		}
	})
	return n
}
