package underlay

import (
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
	joined map[netip.Addr]*membership
	next   int // the queue that the next group goes to
}

type membership struct {
	fd    int
	queue *queue
	times int
}

func (g *groups) init() { g.joined = map[netip.Addr]*membership{} }

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
func (e *endpoint) Join(group netip.Addr) error {
	group = group.Unmap().WithZone("")
	if !group.IsMulticast() {
		return fmt.Errorf("underlay: join %s: %w; use one of 224.0.0.0/4 or ff00::/8", group, ErrNotMulticast)
	}
	if group.Is4() != e.cfg.Local.Is4() {
		return fmt.Errorf("underlay: join %s: the group and underlay.local (%s) must both be IPv4 or both IPv6", group, e.cfg.Local)
	}
	if e.device == "" {
		return fmt.Errorf("underlay: join %s: %w has %s; set underlay.device", group, ErrNoDevice, e.cfg.Local)
	}
	g := &e.groups
	g.mu.Lock()
	defer g.mu.Unlock()
	if m := g.joined[group]; m != nil {
		m.times++
		return nil
	}
	fd := -1
	err := e.inside(func() (err error) {
		fd, err = e.openGroup(group)
		return err
	})
	if err != nil {
		return fmt.Errorf("underlay: join %s on %s: %w", group, e.device, err)
	}
	q := e.queues[g.next%len(e.queues)]
	if err := q.add(fd); err != nil {
		unix.Close(fd)
		return fmt.Errorf("underlay: join %s: %w", group, err)
	}
	g.next++
	g.joined[group] = &membership{fd: fd, queue: q, times: 1}
	return nil
}

// Leave implements Endpoint.
func (e *endpoint) Leave(group netip.Addr) error {
	group = group.Unmap().WithZone("")
	g := &e.groups
	g.mu.Lock()
	defer g.mu.Unlock()
	m := g.joined[group]
	if m == nil {
		return nil
	}
	if m.times--; m.times == 0 {
		m.queue.remove(m.fd) // the kernel leaves the group with its last socket
		delete(g.joined, group)
	}
	return nil
}

// openGroup opens a socket that receives the packets of a group.
func (e *endpoint) openGroup(group netip.Addr) (int, error) {
	fd, err := e.socket()
	if err != nil {
		return -1, err
	}
	if err := e.setUpGroup(fd, group); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func (e *endpoint) setUpGroup(fd int, group netip.Addr) error {
	index, err := e.deviceIndex(fd)
	if err != nil {
		return err
	}
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
