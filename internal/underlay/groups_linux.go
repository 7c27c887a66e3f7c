package underlay

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"sync"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// groups are the multicast groups that were joined. Each has a socket of its
// own, bound to the group, as one bound to the local address does not get the
// group's packets; and a kernel limit on groups counts by socket.
type groups struct {
	mu     sync.Mutex
	joined map[place]*membership
	next   int // the queue that the next group goes to
}

// place is a group on an interface.
type place struct {
	group  netip.Addr
	device string
}

type membership struct {
	fd     int
	queue  *queue
	times  int
	remote *Remote
}

func (g *groups) init() { g.joined = map[place]*membership{} }

// close leaves all groups. No worker reads any more.
func (g *groups) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, m := range g.joined {
		m.queue.remove(m.fd)
	}
	clear(g.joined)
}

// Join implements Endpoint.
func (e *endpoint) Join(group netip.Addr, device string) (*Remote, error) {
	group, device = group.Unmap().WithZone(""), cmp.Or(device, e.device)
	if !group.IsMulticast() {
		return nil, fmt.Errorf("underlay: join %s: %w; use one of 224.0.0.0/4 or ff00::/8", group, ErrNotMulticast)
	}
	if group.Is4() != e.cfg.Local.Is4() {
		return nil, fmt.Errorf("underlay: join %s: the group and underlay.local (%s) must both be IPv4 or both IPv6", group, e.cfg.Local)
	}
	if device == "" {
		return nil, fmt.Errorf("underlay: join %s: %w has %s; set underlay.device", group, ErrNoDevice, e.cfg.Local)
	}
	g := &e.groups
	g.mu.Lock()
	defer g.mu.Unlock()
	at := place{group, device}
	if m := g.joined[at]; m != nil {
		m.times++
		return m.remote, nil
	}
	fd, index := -1, 0
	err := e.inside(func() (err error) {
		fd, index, err = e.openGroup(at)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("underlay: join %s on %s: %w", group, device, err)
	}
	q := e.queues[g.next%len(e.queues)]
	if err := q.add(fd); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("underlay: join %s: %w", group, err)
	}
	g.next++
	remote := NewRemote(group, e.cfg.Port)
	if device != e.device { // by which the sockets send to groups by themselves
		remote.out = int32(index)
	}
	g.joined[at] = &membership{fd: fd, queue: q, times: 1, remote: remote}
	return remote, nil
}

// Leave implements Endpoint.
func (e *endpoint) Leave(group netip.Addr, device string) error {
	at := place{group.Unmap().WithZone(""), cmp.Or(device, e.device)}
	g := &e.groups
	g.mu.Lock()
	defer g.mu.Unlock()
	m := g.joined[at]
	if m == nil {
		return nil
	}
	if m.times--; m.times == 0 {
		m.queue.remove(m.fd) // the kernel leaves the group with its last socket
		delete(g.joined, at)
	}
	return nil
}

// openGroup opens a socket that receives the packets of a group on an interface,
// and tells that interface's number.
func (e *endpoint) openGroup(at place) (fd, index int, err error) {
	if fd, err = e.socket(); err != nil {
		return -1, 0, err
	}
	if index, err = deviceIndex(fd, at.device); err == nil {
		err = e.setUpGroup(fd, at, index)
	}
	if err != nil {
		unix.Close(fd)
		return -1, 0, err
	}
	return fd, index, nil
}

func (e *endpoint) setUpGroup(fd int, at place, index int) error {
	group := at.group
	// Another VTEP of this host may be in the group as well: each gets a copy.
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return fmt.Errorf("share the port: %w", err)
	}
	if err := e.receiveOptions(fd); err != nil {
		return err
	}
	// Only what came by the interface that the group was joined on.
	only := option{unix.IPPROTO_IP, unix.IP_MULTICAST_ALL, 0}
	sa := sockaddr(group, e.cfg.Port)
	if group.Is6() {
		only = option{unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_ALL, 0}
		sa.(*unix.SockaddrInet6).ZoneId = uint32(index)
		// IPv6 asks for the group alone: without this, one that is joined on two
		// interfaces would come twice. Before Linux 5.7 it took CAP_NET_RAW.
		if err := unix.BindToDevice(fd, at.device); err != nil && !errors.Is(err, unix.EPERM) {
			return fmt.Errorf("keep to %s: %w", at.device, err)
		}
	}
	if err := setOptions(fd, []option{only}); err != nil {
		return err
	}
	if err := unix.Bind(fd, sa); err != nil {
		if errors.Is(err, unix.EADDRINUSE) {
			return fmt.Errorf("%w: %s", ErrPortInUse, netip.AddrPortFrom(group, e.cfg.Port))
		}
		return fmt.Errorf("bind: %w", err)
	}
	if group.Is6() {
		return unix.SetsockoptIPv6Mreq(fd, unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP,
			&unix.IPv6Mreq{Multiaddr: group.As16(), Interface: uint32(index)})
	}
	return unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP,
		&unix.IPMreqn{Multiaddr: group.As4(), Ifindex: int32(index)})
}

// inside calls f on a thread that is in the namespace of the endpoint's sockets.
func (e *endpoint) inside(f func() error) error {
	fd, err := unix.IoctlRetInt(e.queues[0].fd, unix.SIOCGSKNS)
	if err != nil {
		// Who may not ask, may not have entered another one either.
		return f()
	}
	there := netns.NsHandle(fd)
	defer there.Close()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	here, err := netns.Get()
	if err != nil {
		return fmt.Errorf("open the own namespace: %w", err)
	}
	defer here.Close()
	if here.Equal(there) {
		return f()
	}
	if err := netns.Set(there); err != nil {
		return fmt.Errorf("enter the namespace: %w", err)
	}
	defer func() {
		if netns.Set(here) != nil {
			runtime.LockOSThread() // once more than unlocked: nobody else meets this thread
		}
	}()
	return f()
}
