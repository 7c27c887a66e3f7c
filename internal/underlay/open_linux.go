package underlay

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// What a zero in Config stands for.
const (
	defaultTTL     = 64
	defaultSources = 16
	defaultLow     = 49152 // RFC 7348, section 5
	defaultHigh    = 65535
	defaultBuf     = 4 << 20
)

// endpoint is the underlay of this kernel.
type endpoint struct {
	cfg     Config
	family  int
	device  string // interface for multicast and MTU; "" if none has the address
	sources []int  // sockets that are sent from, shared by all queues
	withDF  int    // how many of them: those after them are for packets without the flag
	paths   paths
	queues  []*queue
	ends    []Queue
	groups  groups
	offload atomic.Uint32 // an Offload
}

// Open opens the sockets, in the network namespace of the calling thread. They
// stay in it: the endpoint may be used from anywhere. If anything fails,
// nothing is left open.
//
// An IPv6 address that the kernel is still checking for duplicates is waited
// for, three seconds at most.
func Open(cfg Config) (Endpoint, error) {
	// The namespace is a property of the thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	cfg.Local = cfg.Local.Unmap()
	if !cfg.Local.IsValid() || cfg.Local.IsUnspecified() || cfg.Local.IsMulticast() {
		return nil, fmt.Errorf("underlay: %w: %s; set underlay.local to one of them", ErrNotLocal, cfg.Local)
	}
	e := &endpoint{cfg: withDefaults(cfg), family: unix.AF_INET}
	if cfg.Local.Is6() {
		e.family = unix.AF_INET6
	}
	e.groups.init()
	want := cfg.Offload
	if !cfg.Checksum {
		want &^= GSO // the kernel splits none without checksums
	}
	e.offload.Store(uint32(want))
	if err := e.open(); err != nil {
		e.Close()
		return nil, fmt.Errorf("underlay: %w", err)
	}
	return e, nil
}

func withDefaults(cfg Config) Config {
	cfg.Queues = max(cfg.Queues, 1)
	cfg.Sources = cmp.Or(cfg.Sources, defaultSources)
	cfg.SourceLow = cmp.Or(cfg.SourceLow, defaultLow)
	cfg.SourceHigh = cmp.Or(cfg.SourceHigh, defaultHigh)
	cfg.RcvBuf = cmp.Or(cfg.RcvBuf, defaultBuf)
	cfg.SndBuf = cmp.Or(cfg.SndBuf, defaultBuf)
	cfg.TTL = cmp.Or(cfg.TTL, defaultTTL)
	return cfg
}

func (e *endpoint) open() error {
	if err := e.findDevice(); err != nil {
		return err
	}
	for i := range e.cfg.Queues {
		fd, err := e.listen(i == 0)
		if err != nil {
			return err
		}
		q, err := newQueue(e, fd)
		if err != nil {
			unix.Close(fd)
			return err
		}
		e.queues = append(e.queues, q)
		e.ends = append(e.ends, q)
	}
	if len(e.queues) > 1 {
		// A kernel that cannot spreads them as it likes: then a flow and its
		// answers seldom meet at one worker, and that is all.
		_ = e.spread()
	}
	if err := e.openAllSources(); err != nil {
		return err
	}
	if err := e.paths.open(e); err != nil {
		return err
	}
	for _, q := range e.queues {
		q.out.init(e)
	}
	return nil
}

// findDevice sets e.device.
func (e *endpoint) findDevice() error {
	if name := e.cfg.Device; name != "" {
		if _, err := net.InterfaceByName(name); err != nil {
			return fmt.Errorf(`%w: %s; "ip link" shows those there are`, ErrNoDevice, name)
		}
		e.device = name
		return nil
	}
	name, err := interfaceOf(e.cfg.Local)
	if err != nil {
		return fmt.Errorf("look for the interface that has %s: %w", e.cfg.Local, err)
	}
	e.device = name // "" as for any address of 127.0.0.0/8; bind knows what is local
	return nil
}

// interfaceOf is the name of the interface that has the address, "" if none has.
func interfaceOf(addr netip.Addr) (string, error) {
	ifcs, err := net.Interfaces()
	if err != nil {
		return "", err
	}
	for _, ifc := range ifcs {
		if zone := addr.Zone(); zone != "" && zone != ifc.Name {
			continue
		}
		addrs, err := ifc.Addrs()
		if err != nil {
			continue // it has gone meanwhile
		}
		for _, a := range addrs {
			if n, ok := a.(*net.IPNet); ok {
				if have, ok := netip.AddrFromSlice(n.IP); ok && have.Unmap() == addr.WithZone("") {
					return ifc.Name, nil
				}
			}
		}
	}
	return "", nil
}

// listen opens one of the sockets that packets arrive at.
func (e *endpoint) listen(first bool) (int, error) {
	fd, err := e.socket()
	if err != nil {
		return -1, err
	}
	fail := func(err error) (int, error) {
		unix.Close(fd)
		return -1, err
	}
	// The first socket binds as one that does not share its port, so that it
	// clashes with whatever holds the port, another VTEP of ours included. Only
	// then it shares it, and the others can join it.
	if !first {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
			return fail(fmt.Errorf("share the port: %w", err))
		}
	}
	if err := e.receiveOptions(fd); err != nil {
		return fail(err)
	}
	if err := e.bind(fd); err != nil {
		return fail(err)
	}
	if first {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
			return fail(fmt.Errorf("share the port: %w", err))
		}
	}
	return fd, nil
}

// bind binds a socket to the local address and port.
func (e *endpoint) bind(fd int) error {
	sa := sockaddr(e.cfg.Local, e.cfg.Port)
	for deadline := time.Now().Add(3 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		err := unix.Bind(fd, sa)
		// An address that an interface has and that cannot be bound to is one
		// that IPv6 still checks for duplicates (RFC 4862, section 5.4).
		tentative := errors.Is(err, unix.EADDRNOTAVAIL) && e.cfg.Local.Is6() && e.device != "" && e.cfg.Device == ""
		if !tentative || time.Now().After(deadline) {
			return e.explainBind(err)
		}
	}
}

func (e *endpoint) explainBind(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EADDRINUSE):
		return fmt.Errorf(`%w: %s; a kernel vxlan device ("ip -d link show type vxlan") or another program ("ss -ulpn sport = :%d") holds it: remove that one or change underlay.port`,
			ErrPortInUse, netip.AddrPortFrom(e.cfg.Local, e.cfg.Port), e.cfg.Port)
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return fmt.Errorf(`%w: %s; add it to an interface or change underlay.local ("ip addr" shows those there are)`, ErrNotLocal, e.cfg.Local)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w to bind to %s; run as root or use a port of 1024 or above",
			ErrPermission, netip.AddrPortFrom(e.cfg.Local, e.cfg.Port))
	}
	return fmt.Errorf("bind to %s: %w", netip.AddrPortFrom(e.cfg.Local, e.cfg.Port), err)
}

// Queues implements Endpoint.
func (e *endpoint) Queues() []Queue { return e.ends }

// MTU implements Endpoint.
func (e *endpoint) MTU() (int, error) {
	if e.device == "" {
		return 0, fmt.Errorf("underlay: %w has %s; set underlay.device", ErrNoDevice, e.cfg.Local)
	}
	ifr, err := unix.NewIfreq(e.device)
	if err != nil {
		return 0, fmt.Errorf("underlay: MTU of %s: %w", e.device, err)
	}
	// Asked through a socket: it belongs to the right namespace.
	if err := unix.IoctlIfreq(e.queues[0].fd, unix.SIOCGIFMTU, ifr); err != nil {
		if errors.Is(err, unix.ENODEV) {
			err = ErrNoDevice
		}
		return 0, fmt.Errorf("underlay: MTU of %s: %w", e.device, err)
	}
	return int(ifr.Uint32()), nil
}

// Offload implements Endpoint.
func (e *endpoint) Offload() Offload { return Offload(e.offload.Load()) }

// Close implements Endpoint.
func (e *endpoint) Close() error {
	e.groups.close()
	for _, q := range e.queues {
		unix.Close(q.epoll)
		unix.Close(q.fd)
	}
	for _, fd := range e.sources {
		unix.Close(fd)
	}
	e.paths.close()
	e.queues, e.sources = nil, nil
	return nil
}
