package underlay

import (
	"fmt"
	"net/netip"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Options of UDP sockets over IPv6, as in linux/udp.h.
const (
	udpNoCheck6TX = 101
	udpNoCheck6RX = 102
)

// option is a socket option that is an int.
type option struct {
	level, name, value int
}

func setOptions(fd int, opts []option) error {
	for _, o := range opts {
		if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			return fmt.Errorf("set socket option %d of level %d: %w", o.name, o.level, err)
		}
	}
	return nil
}

// socket makes a UDP socket of the endpoint's family that does not block.
func (e *endpoint) socket() (int, error) {
	fd, err := unix.Socket(e.family, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_UDP)
	if err != nil {
		return -1, fmt.Errorf("make a socket: %w", err)
	}
	if e.family == unix.AF_INET6 {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
			unix.Close(fd)
			return -1, fmt.Errorf("restrict a socket to IPv6: %w", err)
		}
	}
	return fd, nil
}

// sockaddr is an address of this host. A zone that is unknown becomes 0, which
// bind then refuses.
func sockaddr(a netip.Addr, port uint16) unix.Sockaddr {
	if a.Is4() {
		return &unix.SockaddrInet4{Addr: a.As4(), Port: int(port)}
	}
	return &unix.SockaddrInet6{Addr: a.As16(), Port: int(port), ZoneId: scopeID(a.Zone())}
}

// receiveOptions prepares a socket that packets arrive at.
func (e *endpoint) receiveOptions(fd int) error {
	opts := []option{{unix.IPPROTO_IP, unix.IP_RECVTOS, 1}}
	if e.family == unix.AF_INET6 {
		opts = []option{{unix.IPPROTO_IPV6, unix.IPV6_RECVTCLASS, 1}}
		if !e.cfg.Checksum || e.cfg.ZeroSum6 {
			opts = append(opts, option{unix.IPPROTO_UDP, udpNoCheck6RX, 1})
		}
	}
	setBuffer(fd, unix.SO_RCVBUFFORCE, unix.SO_RCVBUF, e.cfg.RcvBuf)
	if e.Offload()&GRO != 0 && unix.SetsockoptInt(fd, unix.IPPROTO_UDP, udpGRO, 1) != nil {
		e.lose(GRO)
	}
	return setOptions(fd, opts)
}

// lose takes back an offload that the kernel does not do.
func (e *endpoint) lose(o Offload) { e.offload.And(^uint32(o)) }

// discovery is the mode of path MTU discovery of a socket that is sent from. With
// PMTUDISC_DO the kernel sets DF, never fragments, and refuses what the interface
// or, once it was told, the path does not carry. PMTUDISC_INTERFACE is the same
// without DF, for the interface alone. The others fragment.
func (e *endpoint) discovery(df bool) int {
	switch {
	case e.cfg.Fragment && e.family == unix.AF_INET6:
		return unix.IPV6_PMTUDISC_WANT
	case e.cfg.Fragment:
		return unix.IP_PMTUDISC_DONT
	case df:
		return unix.IP_PMTUDISC_DO // which IPv6 has under the same number
	}
	return unix.IP_PMTUDISC_INTERFACE
}

// sendOptions prepares a socket that is sent from, with DF or without.
func (e *endpoint) sendOptions(fd int, df bool) error {
	ttl := int(e.cfg.TTL)
	opts := []option{
		{unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, e.discovery(df)},
		{unix.IPPROTO_IP, unix.IP_TTL, ttl},
		{unix.IPPROTO_IP, unix.IP_MULTICAST_TTL, ttl},
		{unix.IPPROTO_IP, unix.IP_MULTICAST_LOOP, 0},
	}
	if e.family == unix.AF_INET6 {
		whole := 1
		if e.cfg.Fragment {
			whole = 0
		}
		opts = []option{
			{unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, e.discovery(df)},
			{unix.IPPROTO_IPV6, unix.IPV6_DONTFRAG, whole},
			{unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, ttl},
			{unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, ttl},
			{unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_LOOP, 0},
		}
	}
	if !e.cfg.Checksum {
		if e.family == unix.AF_INET6 {
			opts = append(opts, option{unix.IPPROTO_UDP, udpNoCheck6TX, 1})
		} else {
			opts = append(opts, option{unix.SOL_SOCKET, unix.SO_NO_CHECK, 1})
		}
	}
	if err := setOptions(fd, opts); err != nil {
		return err
	}
	setBuffer(fd, unix.SO_SNDBUFFORCE, unix.SO_SNDBUF, e.cfg.SndBuf)
	if e.device == "" {
		return nil
	}
	index, err := deviceIndex(fd, e.device)
	if err != nil {
		return err
	}
	if e.family == unix.AF_INET6 {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_IF, index)
	} else {
		err = unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_IF, &unix.IPMreqn{Ifindex: int32(index)})
	}
	if err != nil {
		return fmt.Errorf("send multicast by %s: %w", e.device, err)
	}
	return nil
}

// deviceIndex is the number of an interface now, in the namespace of a socket.
func deviceIndex(fd int, device string) (int, error) {
	ifr, err := unix.NewIfreq(device)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", device, err)
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, ifr); err != nil {
		return 0, fmt.Errorf("%w: %s", ErrNoDevice, device)
	}
	return int(ifr.Uint32()), nil
}

// setBuffer sets a buffer beyond the system's limit where that is permitted,
// and up to it where not: a smaller buffer is no reason not to run.
func setBuffer(fd, force, plain, size int) {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, force, size) != nil {
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, plain, size)
	}
}

// openSource opens one socket that is sent from and never heard: replies come
// to the port that is listened on, and what comes here is dropped at once.
func (e *endpoint) openSource(port uint16, df bool) (int, error) {
	fd, err := e.socket()
	if err != nil {
		return -1, err
	}
	if err = dropAll(fd); err == nil {
		err = e.sendOptions(fd, df)
	}
	if err == nil {
		err = unix.Bind(fd, sockaddr(e.cfg.Local, port))
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// dropAll makes a socket receive nothing.
func dropAll(fd int) error {
	return attach(fd, unix.SO_ATTACH_FILTER, []bpf.Instruction{bpf.RetConstant{Val: 0}})
}

// attach gives a socket a program, by an option that takes one.
func attach(fd, by int, is []bpf.Instruction) error {
	prog, err := bpf.Assemble(is)
	if err != nil {
		return err
	}
	filter := make([]unix.SockFilter, len(prog))
	for i, p := range prog {
		filter[i] = unix.SockFilter{Code: p.Op, Jt: p.Jt, Jf: p.Jf, K: p.K}
	}
	err = unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, by, &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]})
	if err != nil {
		return fmt.Errorf("attach a filter: %w", err)
	}
	return nil
}
