package tap

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// look is how a device was found.
type look struct {
	attrs netlink.LinkAttrs
	multi bool // it has room for many queues
}

// openNetNS opens the namespace of that name or path; none for "".
func openNetNS(name string) (netns.NsHandle, error) {
	if name == "" {
		return netns.None(), nil
	}
	paths := []string{name}
	fix := ""
	if !strings.Contains(name, "/") {
		paths = []string{"/run/netns/" + name, "/var/run/netns/" + name}
		fix = fmt.Sprintf(`; make it with "ip netns add %s"`, name)
	}
	for _, p := range paths {
		ns, err := netns.GetFromPath(p)
		switch {
		case errors.Is(err, unix.EACCES):
			return netns.None(), fmt.Errorf("open namespace %s: %w", name, ErrPermission)
		case err != nil:
			continue
		}
		// Any file opens; only the kernel knows what it is.
		if kind, err := unix.IoctlRetInt(int(ns), unix.NS_GET_NSTYPE); err != nil || kind != unix.CLONE_NEWNET {
			ns.Close()
			return netns.None(), fmt.Errorf("%w: %s is another kind of file", ErrNoNetNS, p)
		}
		return ns, nil
	}
	return netns.None(), fmt.Errorf("%w: %s%s", ErrNoNetNS, name, fix)
}

// place puts the kernel side where cfg says: down, away, then its settings, and
// up when all else is done, so that nobody sees it half made.
func (d *device) place(cfg Config, to netns.NsHandle) error {
	home, err := netns.Get()
	if err != nil {
		return fmt.Errorf("open the own namespace: %w", err)
	}
	if d.found != nil && to.IsOpen() {
		d.home = home // held until the device is back
	} else {
		defer home.Close()
	}
	name := cfg.Rename
	if name == "" {
		name = cfg.Name
	}
	at := home
	if to.IsOpen() {
		at = to
		if err := move(home, cfg.Name, to, name); err != nil {
			if errors.Is(err, unix.EEXIST) {
				return fmt.Errorf("namespace %s has an interface %s already; remove it there, or set rename", cfg.NetNS, name)
			}
			return fmt.Errorf("move it to namespace %s: %w", cfg.NetNS, explain(err))
		}
	}
	h, err := handleAt(at)
	if err != nil {
		return err
	}
	defer h.Close()
	if !to.IsOpen() && name != cfg.Name {
		if err := rename(h, cfg.Name, name); err != nil {
			if errors.Is(err, unix.EEXIST) {
				return fmt.Errorf("there is an interface %s already; remove it, or set another rename", name)
			}
			return fmt.Errorf("rename it to %s: %w", name, explain(err))
		}
	}
	link, err := h.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find it as %s: %w", name, explain(err))
	}
	if cfg.MAC != nil {
		if err := h.LinkSetHardwareAddr(link, cfg.MAC); err != nil {
			return fmt.Errorf("set its hardware address to %s: %w", cfg.MAC, explain(err))
		}
	}
	if cfg.MTU != 0 {
		if err := h.LinkSetMTU(link, cfg.MTU); err != nil {
			return fmt.Errorf("set its MTU to %d: %w", cfg.MTU, explain(err))
		}
	}
	if cfg.MaxSegments != 0 {
		if err := h.LinkSetGSOMaxSegs(link, cfg.MaxSegments); err != nil {
			return fmt.Errorf("set the most segments of its super-frames to %d: %w", cfg.MaxSegments, explain(err))
		}
	}
	if cfg.Bridge != "" {
		if err := enslave(h, link, cfg); err != nil {
			return err
		}
	}
	if err := h.LinkSetUp(link); err != nil {
		return fmt.Errorf("set it up: %w", explain(err))
	}
	return nil
}

// elsewhere is a namespace, or none if it is the thread's own: going there, even
// from itself, takes CAP_SYS_ADMIN, which nothing else here needs.
func elsewhere(ns netns.NsHandle) netns.NsHandle {
	own, err := netns.Get()
	if err != nil {
		return ns
	}
	defer own.Close()
	if own.Equal(ns) {
		return netns.None()
	}
	return ns
}

// handleAt opens netlink in a namespace. The thread is locked.
func handleAt(ns netns.NsHandle) (*netlink.Handle, error) {
	h, err := netlink.NewHandleAt(elsewhere(ns), unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("netlink: %w", explain(err))
	}
	return h, nil
}

func enslave(h *netlink.Handle, link netlink.Link, cfg Config) error {
	br, err := h.LinkByName(cfg.Bridge)
	if err != nil || br.Type() != "bridge" {
		in, where := "", ""
		if cfg.NetNS != "" {
			in, where = " in namespace "+cfg.NetNS, "-n "+cfg.NetNS+" "
			if strings.Contains(cfg.NetNS, "/") {
				where = ""
			}
		}
		if err == nil {
			return fmt.Errorf("%w: %s%s is of kind %s", ErrNoBridge, cfg.Bridge, in, br.Type())
		}
		return fmt.Errorf(`%w: %s%s; make it with "ip %slink add %s up type bridge"`, ErrNoBridge, cfg.Bridge, in, where, cfg.Bridge)
	}
	if link.Attrs().MasterIndex == br.Attrs().Index {
		return nil
	}
	if err := h.LinkSetMasterByIndex(link, br.Attrs().Index); err != nil {
		return fmt.Errorf("enslave it to bridge %s: %w", cfg.Bridge, explain(err))
	}
	return nil
}

// restore makes a found device what it was found as. One that has vanished
// with the namespace that it was moved to is past that.
func (d *device) restore() error {
	name, at, err := d.where()
	if errors.Is(err, ErrGone) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { at.Close() }()
	was := &d.found.attrs
	if d.home.IsOpen() && !at.Equal(d.home) {
		if err := move(at, name, d.home, was.Name); err != nil {
			return fmt.Errorf("move %s back: %w", name, explain(err))
		}
		if err := at.Close(); err != nil {
			return err
		}
		if name, at, err = d.where(); err != nil {
			return err
		}
	}
	h, err := handleAt(at)
	if err != nil {
		return err
	}
	defer h.Close()
	if name != was.Name {
		if err := rename(h, name, was.Name); err != nil {
			return fmt.Errorf("rename %s back: %w", name, err)
		}
	}
	link, err := h.LinkByName(was.Name)
	if err != nil {
		return err
	}
	now := link.Attrs()
	// One setting that cannot be restored is no reason to leave the others.
	var errs []error
	if now.MasterIndex != was.MasterIndex {
		errs = append(errs, h.LinkSetMasterByIndex(link, was.MasterIndex))
	}
	if !bytes.Equal(now.HardwareAddr, was.HardwareAddr) {
		errs = append(errs, h.LinkSetHardwareAddr(link, was.HardwareAddr))
	}
	if now.MTU != was.MTU {
		errs = append(errs, h.LinkSetMTU(link, was.MTU))
	}
	if now.GSOMaxSegs != was.GSOMaxSegs {
		errs = append(errs, h.LinkSetGSOMaxSegs(link, int(was.GSOMaxSegs)))
	}
	if was.Flags&net.FlagUp != 0 {
		errs = append(errs, h.LinkSetUp(link))
	} else {
		errs = append(errs, h.LinkSetDown(link))
	}
	return errors.Join(errs...)
}

// SetMTU implements Device.
func (d *device) SetMTU(mtu int) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	err := func() error {
		name, at, err := d.where()
		if err != nil {
			return err
		}
		defer at.Close()
		h, err := handleAt(at)
		if err != nil {
			return err
		}
		defer h.Close()
		link, err := h.LinkByName(name)
		if err != nil {
			return err
		}
		return explain(h.LinkSetMTU(link, mtu))
	}()
	if err != nil {
		return fmt.Errorf("tap %s: set its MTU to %d: %w", d.name, mtu, err)
	}
	return nil
}

// where asks the kernel for the device's present name and namespace. The
// namespace is not kept open between calls: that would keep it alive when it is
// deleted, and with it a device that should vanish.
func (d *device) where() (string, netns.NsHandle, error) {
	ifr, err := unix.NewIfreq("")
	if err != nil {
		return "", netns.None(), err
	}
	if err := unix.IoctlIfreq(d.fds[0], unix.TUNGETIFF, ifr); err != nil {
		if errors.Is(err, unix.EBADFD) {
			err = ErrGone
		}
		return "", netns.None(), err
	}
	ns, err := unix.IoctlRetInt(d.fds[0], unix.TUNGETDEVNETNS)
	if err != nil {
		if errors.Is(err, unix.EBADFD) {
			err = ErrGone
		}
		return "", netns.None(), os.NewSyscallError("TUNGETDEVNETNS", err)
	}
	unix.CloseOnExec(ns)
	return ifr.Name(), netns.NsHandle(ns), nil
}

// move takes an interface to another namespace and gives it its name there in
// the same step, so that its present one may be taken in that namespace.
func move(from netns.NsHandle, name string, to netns.NsHandle, newName string) error {
	h, err := handleAt(from)
	if err != nil {
		return err
	}
	defer h.Close()
	link, err := h.LinkByName(name)
	if err != nil {
		return err
	}
	// A device that is down is moved and renamed by any kernel.
	if err := h.LinkSetDown(link); err != nil {
		return err
	}
	s, err := nl.GetNetlinkSocketAt(elsewhere(from), netns.None(), unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer s.Close()
	req := nl.NewNetlinkRequest(unix.RTM_SETLINK, unix.NLM_F_ACK)
	req.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: {Socket: s}}
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(link.Attrs().Index)
	req.AddData(msg)
	req.AddData(nl.NewRtAttr(unix.IFLA_NET_NS_FD, nl.Uint32Attr(uint32(to))))
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(newName)))
	_, err = req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

func rename(h *netlink.Handle, from, to string) error {
	link, err := h.LinkByName(from)
	if err != nil {
		return err
	}
	if err := h.LinkSetDown(link); err != nil {
		return err
	}
	return h.LinkSetName(link, to)
}

// explain makes errors of netlink ones that users can tell apart.
func explain(err error) error {
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return fmt.Errorf("%w; run as root or grant the capability", ErrPermission)
	case errors.As(err, &netlink.LinkNotFoundError{}), errors.Is(err, unix.ENODEV):
		return ErrGone
	}
	return err
}
