package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"

	"github.com/uvtep/uvtep/internal/lab/guest"
)

// dhcpTimeout is how long a guest waits for its address.
const dhcpTimeout = 10 * time.Second

// Up makes a lab, and returns once every guest has its address. If anything
// fails, or the context ends, all of it is taken down again. ErrExists means
// that a lab of that name is up, or that a crash left parts of one; ErrOptions
// that the options make no lab.
func Up(ctx context.Context, o Options) (*Lab, error) {
	l, err := claim(o)
	if err != nil {
		return nil, err
	}
	p := &progress{tell: o.Progress}
	if err := l.make(ctx, p, nil); err != nil {
		return nil, l.abandon(ctx, err)
	}
	return l, nil
}

// claim plans a lab and takes its name.
func claim(o Options) (*Lab, error) {
	l, err := plan(o)
	if err != nil {
		return nil, err
	}
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("%w: run it with sudo", ErrNotRoot)
	}
	if l.Binary == "" {
		if l.Binary, err = os.Executable(); err != nil {
			return nil, fmt.Errorf("lab %s: %w", l.Name, err)
		}
	}
	if parts, err := leftovers(l.Name); err != nil {
		return nil, err
	} else if len(parts) > 0 {
		return nil, l.exists()
	}
	if err := os.MkdirAll(strings.TrimSuffix(l.Dir, "/lab-"+l.Name), 0o755); err != nil {
		return nil, fmt.Errorf("lab %s: %w", l.Name, err)
	}
	// Of two that start at once, one makes the folder.
	if err := os.Mkdir(l.Dir, 0o700); errors.Is(err, fs.ErrExist) {
		return nil, l.exists()
	} else if err != nil {
		return nil, fmt.Errorf("lab %s: %w", l.Name, err)
	}
	l.Run = rand.Uint32()
	if err := l.save(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(l.Dir))
	}
	return l, nil
}

func (l *Lab) exists() error {
	return fmt.Errorf("lab %s: %w; take it down first: uvtep lab down%s", l.Name, ErrExists, l.nameFlag())
}

// nameFlag is what a command line needs to mean this lab.
func (l *Lab) nameFlag() string {
	if l.Name == "lab" {
		return ""
	}
	return " --name " + l.Name
}

// abandon takes down what was made before err, and returns it.
func (l *Lab) abandon(ctx context.Context, err error) error {
	if down := l.Down(context.WithoutCancel(ctx)); down != nil {
		return errors.Join(err, down)
	}
	return err
}

// make makes what was planned. Between the daemons' start and the first DHCP
// message it calls watch, if there is one.
func (l *Lab) make(ctx context.Context, p *progress, watch func() error) error {
	if err := p.step(ctx, "make hosts and guests", l.makeNets); err != nil {
		return err
	}
	if err := p.step(ctx, "start VTEPs", l.startHosts); err != nil {
		return err
	}
	if watch != nil {
		if err := watch(); err != nil {
			return err
		}
	}
	if err := p.step(ctx, "get addresses by DHCP", l.getAddresses); err != nil {
		return err
	}
	l.State = StateUp
	return l.save()
}

func (l *Lab) makeNets(ctx context.Context, say func(string, ...any)) error {
	if err := l.makeNamespaces(ctx); err != nil {
		return fmt.Errorf("lab %s: %w", l.Name, err)
	}
	if err := l.makeUnderlay(ctx); err != nil {
		return fmt.Errorf("lab %s: %w", l.Name, err)
	}
	say("%s, %s in VNI %s", count(len(l.Hosts), "host"), count(len(l.Guests), "guest"), l.vnis())
	return nil
}

func (l *Lab) startHosts(ctx context.Context, say func(string, ...any)) error {
	for _, h := range l.Hosts {
		yaml, err := l.config(h)
		if err != nil {
			return fmt.Errorf("lab %s: the configuration of %s: %w", l.Name, h.Name, err)
		}
		if err := os.WriteFile(h.Config, yaml, 0o600); err != nil {
			return fmt.Errorf("lab %s: %w", l.Name, err)
		}
		if err := os.MkdirAll(h.StateDir, 0o700); err != nil {
			return fmt.Errorf("lab %s: %w", l.Name, err)
		}
	}
	var ready atomic.Int32
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for _, h := range l.Hosts {
		group.Go(func() error {
			if err := h.start(ctx, l.Binary); err != nil {
				return err
			}
			say("%d of %d", ready.Add(1), len(l.Hosts))
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("lab %s: %w", l.Name, err)
	}
	var at []string
	for _, h := range l.Hosts {
		at = append(at, fmt.Sprintf("%s at %s", h.Name, h.Underlay.Addr()))
	}
	if len(at) > 4 {
		at = append(at[:3], "…")
	}
	say("%s, UDP port %d", strings.Join(at, ", "), l.Port)
	return l.save()
}

func (l *Lab) getAddresses(ctx context.Context, say func(string, ...any)) error {
	var have atomic.Int32
	group, ctx := errgroup.WithContext(ctx)
	for _, g := range l.Guests { // all at once: they mostly wait
		group.Go(func() error {
			if err := l.address(ctx, g); err != nil {
				return fmt.Errorf("lab %s: %s: %w", l.Name, g.Name, err)
			}
			say("%d of %d", have.Add(1), len(l.Guests))
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	say("%s", count(len(l.Guests), "lease"))
	return nil
}

func (l *Lab) address(ctx context.Context, g *Guest) error {
	if err := inside(g.NetNS, func(h *netlink.Handle) error { return setUp(h, guestInterface) }); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, dhcpTimeout)
	defer cancel()
	lease, err := guest.Acquire(ctx, g.NetNS, guestInterface, guest.Identity{Hostname: g.Name, VendorClass: l.tag(g.VNI).String()})
	if err != nil {
		return err
	}
	g.Lease = &lease
	return lease.Apply(g.NetNS, guestInterface)
}

func (l *Lab) tag(vni uint32) guest.Tag { return guest.Tag{Run: l.Run, VNI: vni} }
