package tap

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/songgao/water"
	"github.com/uvtep/uvtep/internal/offload"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// device is a TAP device of this kernel.
type device struct {
	name    string
	queues  []Queue
	fds     []int
	offload atomic.Uint32 // an Offload
	header  int           // length of the virtio header that a found device had; 0 = it has not been changed

	// found is how a device that was there before looked, nil for one that
	// Open created. home is the namespace it was found in; it is held open only
	// where the device was moved away.
	found *look
	home  netns.NsHandle
}

// Open opens the TAP device, creating it if it is not there, and puts its
// kernel side where Config says. It works in the network namespace of the
// calling thread. If anything fails, everything is as it was before.
//
// A device that is moved to another namespace loses its addresses and routes:
// so the kernel does it. Where IPv6 is not turned off for it, the kernel sends
// router solicitations and MLD reports through a device that is up, and a
// worker sees them as it sees any other frame.
func Open(cfg Config) (Device, error) {
	// The namespace is a property of the thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	d, err := open(cfg)
	if err != nil {
		return nil, fmt.Errorf("tap %s: %w", cfg.Name, err)
	}
	return d, nil
}

func open(cfg Config) (*device, error) {
	for _, name := range []string{cfg.Name, cfg.Rename} {
		if err := checkName(name); err != nil {
			return nil, err
		}
	}
	if cfg.Name == "" {
		return nil, errors.New("a TAP device needs a name")
	}
	to, err := openNetNS(cfg.NetNS)
	if err != nil {
		return nil, err
	}
	if to.IsOpen() {
		defer to.Close()
	}
	found, err := find(cfg.Name)
	if err != nil {
		return nil, err
	}

	d := &device{name: cfg.Name, home: netns.None()}
	if found != nil {
		d.found = found
	}
	err = d.openQueues(max(1, cfg.Queues), cfg.Offload.Complete())
	if err == nil {
		err = d.place(cfg, to)
	}
	if err != nil {
		// What failed is told; that undoing it failed as well is told with it.
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// checkName refuses what the kernel refuses, and the pattern "%d" that it would
// expand.
func checkName(name string) error {
	switch {
	case len(name) >= unix.IFNAMSIZ:
		return fmt.Errorf("%q is too long for the name of an interface; use at most %d bytes", name, unix.IFNAMSIZ-1)
	case name == ".", name == "..", strings.ContainsAny(name, "/:% \t\n\r\v\f"):
		return fmt.Errorf("%q is no name for an interface; use letters, digits, dots, dashes", name)
	}
	return nil
}

// find returns how the device of that name looks, nil if there is none.
func find(name string) (*look, error) {
	link, err := netlink.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for it: %w", err)
	}
	tun, ok := link.(*netlink.Tuntap)
	if !ok || tun.Mode != netlink.TUNTAP_MODE_TAP {
		kind := link.Type()
		if ok {
			kind = "tun"
		}
		return nil, fmt.Errorf("%w (its kind is %s); choose another name", ErrNotTAP, kind)
	}
	// One that does not persist lives by the program that holds it, even where
	// it has room for another queue of ours.
	if tun.NonPersist || tun.Queues > 0 {
		return nil, busy(name)
	}
	return &look{
		attrs: *tun.Attrs(),
		multi: tun.Flags&netlink.TUNTAP_MULTI_QUEUE != 0,
	}, nil
}

// openQueues opens n queues, or the one that a found device has, with the
// offloads that the kernel has, or without any.
func (d *device) openQueues(n int, want Offload) error {
	multi := n > 1
	if d.found != nil {
		multi = d.found.multi
	}
	if !multi {
		n = 1
	}
	for range n {
		fd, err := d.openQueue(multi, want != 0)
		if err != nil && want != 0 && len(d.fds) == 0 && errors.Is(err, unix.EINVAL) {
			want = 0 // no virtio headers in this kernel
			fd, err = d.openQueue(multi, false)
		}
		if err != nil {
			return err
		}
		d.fds = append(d.fds, fd)
		if want != 0 && len(d.fds) == 1 {
			if err := d.setHeader(); err != nil {
				return err
			}
		}
		if want != 0 {
			d.queues = append(d.queues, newVnetQueue(fd, &d.offload))
		} else {
			d.queues = append(d.queues, &queue{fd: fd})
		}
	}
	have, err := setOffload(d.fds[0], want)
	if err != nil {
		return err
	}
	// Who may not steer, or whose kernel cannot, does without.
	if len(d.fds) > 1 && d.steer() == nil {
		have |= Steering
	}
	d.offload.Store(uint32(have))
	return nil
}

// setHeader makes the virtio headers what package offload reads: their length and
// byte order outlast the program that chose them.
func (d *device) setHeader() error {
	was, err := unix.IoctlGetInt(d.fds[0], unix.TUNGETVNETHDRSZ)
	if err == nil {
		err = unix.IoctlSetPointerInt(d.fds[0], unix.TUNSETVNETHDRSZ, offload.HeaderLen)
	}
	if err == nil {
		err = unix.IoctlSetPointerInt(d.fds[0], unix.TUNSETVNETLE, 0) // this host's own
	}
	if err != nil {
		return fmt.Errorf("set its virtio headers: %w", err)
	}
	d.header = was
	return nil
}

// setOffload turns on what the device shall do, or as much of it as the kernel
// knows, and everything else off: offloads outlast the program that turned them
// on, and frames without a virtio header cannot carry them.
func setOffload(fd int, want Offload) (have Offload, err error) {
	for _, lacking := range []Offload{0, ReadUSO | WriteUSO, All} {
		have = want &^ lacking
		flags := 0
		for _, f := range []struct {
			of    Offload
			flags int
		}{
			{Checksum, unix.TUN_F_CSUM},
			// Without TUN_F_TSO_ECN: some kernels use that bit for AccECN, which
			// sets CWR on other segments than the first.
			{ReadTSO, unix.TUN_F_TSO4 | unix.TUN_F_TSO6},
			{ReadUSO, unix.TUN_F_USO4 | unix.TUN_F_USO6},
		} {
			if have&f.of != 0 {
				flags |= f.flags
			}
		}
		if err = unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, flags); err == nil {
			return have, nil
		}
	}
	return 0, fmt.Errorf("set its offloads: %w", err)
}

// openQueue opens one queue and returns its descriptor, which does not block
// and is not known to the runtime's poller.
func (d *device) openQueue(multi, vnet bool) (int, error) {
	open := openPlain
	if vnet {
		open = openVnet
	}
	fd, err := open(d.name, multi, d.found != nil)
	switch {
	case err == nil:
		return fd, nil
	case errors.Is(err, unix.EBUSY):
		return -1, busy(d.name)
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return -1, fmt.Errorf("%w; run as root or grant the capability", ErrPermission)
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return -1, fmt.Errorf(`%w; load it with "modprobe tun", or pass it into the container`, ErrNoTUN)
	}
	return -1, fmt.Errorf("open /dev/net/tun: %w", err)
}

// openVnet opens a queue whose frames have a virtio header. The library does not
// know of these.
func openVnet(name string, multi, _ bool) (int, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	flags := uint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if multi {
		flags |= unix.IFF_MULTI_QUEUE
	}
	ifr.SetUint16(flags)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// openPlain opens a queue of plain frames.
func openPlain(name string, multi, persist bool) (int, error) {
	// The library does not set close-on-exec: no fork until it is set.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()

	// Persist says what the device's persistence will be, not what this program
	// wants of it: a found device keeps it.
	ifce, err := water.New(water.Config{
		DeviceType: water.TAP,
		PlatformSpecificParams: water.PlatformSpecificParams{
			Name: name, MultiQueue: multi, Persist: persist,
		},
	})
	if err != nil {
		return -1, err
	}
	defer ifce.Close()

	conn, err := ifce.ReadWriteCloser.(*os.File).SyscallConn()
	if err != nil {
		return -1, err
	}
	fd := -1
	if ctlErr := conn.Control(func(f uintptr) {
		fd, err = unix.FcntlInt(f, unix.F_DUPFD_CLOEXEC, 0)
	}); ctlErr != nil {
		return -1, ctlErr
	}
	if err != nil {
		return -1, fmt.Errorf("dup: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("do not block: %w", err)
	}
	return fd, nil
}

func (d *device) Name() string    { return d.name }
func (d *device) Queues() []Queue { return d.queues }

// Offload implements Device.
func (d *device) Offload() Offload { return Offload(d.offload.Load()) }

// Close implements Device.
func (d *device) Close() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	var err error
	if d.found != nil && len(d.fds) > 0 {
		_, off := setOffload(d.fds[0], 0)
		if d.Offload()&Steering != 0 && off == nil {
			off = d.setSteering(-1)
		}
		if d.header != 0 && off == nil {
			off = unix.IoctlSetPointerInt(d.fds[0], unix.TUNSETVNETHDRSZ, d.header)
		}
		if errors.Is(off, unix.EBADFD) {
			off = nil // the device has vanished
		}
		if err = errors.Join(d.restore(), off); err != nil {
			err = fmt.Errorf("tap %s: put it back as it was found: %w", d.name, err)
		}
	}
	if d.home.IsOpen() {
		d.home.Close()
	}
	for _, fd := range d.fds {
		unix.Close(fd)
	}
	d.fds = nil
	return err
}
