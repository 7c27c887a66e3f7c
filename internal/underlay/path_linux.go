package underlay

import (
	"fmt"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// paths asks the kernel what it knows of the way to somebody: nothing is kept
// here, and so nothing is out of date. The kernel learns a path's MTU from what
// routers tell the sockets that are sent from, and forgets it after ten minutes
// (net.ipv4.route.mtu_expires, net.ipv6.route.mtu_expires).
type paths struct {
	mu sync.Mutex // a question is a connect and a look at what came of it
	fd int        // 0: not open
}

// open opens the socket that asks. Its address is that of the others, as routes
// may go by it; it has a port only while it asks.
func (p *paths) open(e *endpoint) error {
	fd, err := e.socket()
	if err != nil {
		return err
	}
	if err = dropAll(fd); err == nil {
		err = setOptions(fd, []option{{unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1}}) // IPv6 has no other
	}
	if err == nil {
		err = unix.Bind(fd, sockaddr(e.cfg.Local, 0))
	}
	if err != nil {
		unix.Close(fd)
		return fmt.Errorf("make a socket to ask for paths: %w", err)
	}
	p.fd = fd
	return nil
}

func (p *paths) close() {
	if p.fd > 0 {
		unix.Close(p.fd)
		p.fd = 0
	}
}

// PathMTU implements Endpoint.
func (e *endpoint) PathMTU(dst *Remote) (int, error) {
	p := &e.paths
	p.mu.Lock()
	defer p.mu.Unlock()
	if errno := connect(p.fd, &dst.raw, dst.len); errno != 0 {
		return 0, fmt.Errorf("underlay: the way to %s: %w", dst.addr, errno)
	}
	defer connect(p.fd, &nobody, uint32(len(nobody))) // which cannot fail
	level, name := unix.IPPROTO_IP, unix.IP_MTU
	if e.family == unix.AF_INET6 {
		level, name = unix.IPPROTO_IPV6, unix.IPV6_MTU
	}
	mtu, err := unix.GetsockoptInt(p.fd, level, name)
	if err != nil {
		return 0, fmt.Errorf("underlay: MTU of the way to %s: %w", dst.addr, err)
	}
	return mtu, nil
}

// nobody is the address that a socket is connected to no longer (AF_UNSPEC).
var nobody [28]byte

func connect(fd int, addr *[28]byte, n uint32) unix.Errno {
	_, _, errno := unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(addr)), uintptr(n))
	return errno
}

// headers are what is in front of a UDP payload, bytes.
func headers(v6 bool) int {
	if v6 {
		return 40 + 8
	}
	return 20 + 8
}
