package nic

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/uvtep/uvtep/internal/netns"
	"github.com/uvtep/uvtep/internal/tap"
)

// receiveBuffer is how many bytes of each queue wait for a worker, if the kernel
// grants it.
const receiveBuffer = 8 << 20

// everything is ETH_P_ALL in network byte order.
const everything = unix.ETH_P_ALL>>8 | unix.ETH_P_ALL<<8&0xff00

// device is a network interface with a packet socket for each worker. The kernel
// chooses the socket by a frame's flow, so that none is reordered.
type device struct {
	name    string
	index   int
	queues  []*queue
	ends    []tap.Queue
	offload atomic.Uint32 // a tap.Offload

	tell atomic.Pointer[func(tap.Link)]

	mu     sync.Mutex // of what follows
	up     bool       // when it was asked last
	closed bool
}

// Open opens the interface, which keeps its settings, but for the time being
// receives what is for others, too (promiscuous mode). Its addresses and its place
// in a bridge are not looked at: the host goes on to hear what it receives as well.
// The Device is a tap.Linked: it is up while the interface is, and its carrier.
func Open(cfg Config) (tap.Device, error) {
	d := &device{name: cfg.Name}
	var err error
	if cfg.NetNS == "" {
		err = d.open(cfg)
	} else {
		err = netns.Do(cfg.NetNS, func() error { return d.open(cfg) })
	}
	if err != nil {
		return nil, fmt.Errorf("nic %s: %w", cfg.Name, errors.Join(explain(err), d.close()))
	}
	return d, nil
}

func (d *device) open(cfg Config) error {
	link, err := net.InterfaceByName(cfg.Name)
	if err != nil {
		where := ""
		if cfg.NetNS != "" {
			where = " in namespace " + cfg.NetNS
		}
		return fmt.Errorf(`%w%s; "ip link" shows those there are`, ErrNoInterface, where)
	}
	d.index = link.Index
	if err := notUnderlay(cfg, link); err != nil {
		return err
	}
	group := 0
	for i := range max(1, cfg.Queues) {
		q, err := newQueue(&d.offload)
		if err != nil {
			return err
		}
		d.queues, d.ends = append(d.queues, q), append(d.ends, q)
		if err := q.bind(d.index); err != nil {
			return err
		}
		if cfg.Queues > 1 {
			if group, err = q.join(group, i == 0); err != nil {
				return fmt.Errorf("share it between %d workers: %w", cfg.Queues, err)
			}
		}
	}
	// A socket that has not joined the others yet gets a copy of everything.
	for _, q := range d.queues {
		if err := q.discard(); err != nil {
			return err
		}
	}
	d.offload.Store(uint32(cfg.Offload.Complete()))
	d.up = d.ask()
	return nil
}

// notUnderlay refuses the interface that has the tunnel's address.
func notUnderlay(cfg Config, link *net.Interface) error {
	if !cfg.Not.IsValid() || cfg.NetNS != "" {
		return nil
	}
	addrs, err := link.Addrs()
	if err != nil {
		return fmt.Errorf("read its addresses: %w", err)
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(n.IP); ok && ip.Unmap() == cfg.Not.WithZone("") {
				return fmt.Errorf("%w: it has %v, from which packets of the tunnel leave; choose another one, or move that address", ErrUnderlay, ip.Unmap())
			}
		}
	}
	return nil
}

// explain makes errors of the system ones that users can tell apart.
func explain(err error) error {
	switch {
	case errors.Is(err, netns.ErrNotExist), errors.Is(err, netns.ErrNotNamespace), errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: %w", tap.ErrNoNetNS, err)
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return fmt.Errorf("%w; run as root or grant the capability", ErrPermission)
	}
	return err
}

func (d *device) Name() string         { return d.name }
func (d *device) Queues() []tap.Queue  { return d.ends }
func (d *device) Offload() tap.Offload { return tap.Offload(d.offload.Load()) }

// SetMTU leaves the interface as it is: its MTU is that of its wire.
func (d *device) SetMTU(int) error { return nil }

// Up implements tap.Linked. Nothing tells of a link that has come back, so it asks.
func (d *device) Up() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return false // the number may be another file's by now
	}
	up := d.ask()
	was := d.up
	d.up = up
	switch {
	case !up && d.queues[0].vanished():
		// Where it went down before, which it does first of all, no socket was told.
		d.say(tap.Link{Gone: true})
	case up && !was:
		d.say(tap.Link{Up: true, What: "the link of the interface is up"})
	case was && !up:
		d.say(tap.Link{What: "the link of the interface is down"})
	}
	return up
}

func (d *device) say(l tap.Link) {
	if f := d.tell.Load(); f != nil {
		(*f)(l)
	}
}

// ask asks the kernel about the link, in the namespace of the sockets.
func (d *device) ask() bool {
	fd := d.queues[0].fd
	var ifr ifreqIndex
	ifr.index = int32(d.index)
	if err := ifr.ioctl(fd, unix.SIOCGIFNAME); err != nil {
		return false
	}
	flags, err := unix.NewIfreq(unix.ByteSliceToString(ifr.name[:]))
	if err != nil || unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, flags) != nil {
		return false
	}
	const up = unix.IFF_UP | unix.IFF_RUNNING
	return flags.Uint16()&up == up
}

// Watch implements tap.Linked.
func (d *device) Watch(f func(tap.Link)) { d.tell.Store(&f) }

// Close implements tap.Device.
func (d *device) Close() error {
	if err := d.close(); err != nil {
		return fmt.Errorf("nic %s: %w", d.name, err)
	}
	return nil
}

func (d *device) close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	var errs []error
	for _, q := range d.queues {
		errs = append(errs, os.NewSyscallError("close", unix.Close(q.fd)))
	}
	return errors.Join(errs...)
}
