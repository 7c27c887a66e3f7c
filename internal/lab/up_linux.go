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
		return nil, l.abandon(ctx, p, err)
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
		return nil, fmt.Errorf("%s: %w: run it with sudo", l, ErrNotRoot)
	}
	if l.Binary == "" {
		if l.Binary, err = os.Executable(); err != nil {
			return nil, fmt.Errorf("%s: %w", l, err)
		}
	}
	if parts, err := leftovers(l.Name); err != nil {
		return nil, err
	} else if len(parts) > 0 {
		return nil, l.exists()
	}
	if err := os.MkdirAll(strings.TrimSuffix(l.Dir, "/lab-"+l.Name), 0o755); err != nil {
		return nil, fmt.Errorf("%s: %w", l, err)
	}
	// Of two that start at once, one makes the folder.
	if err := os.Mkdir(l.Dir, 0o700); errors.Is(err, fs.ErrExist) {
		return nil, l.exists()
	} else if err != nil {
		return nil, fmt.Errorf("%s: %w", l, err)
	}
	l.Run, l.full = rand.Uint32(), neighboursFull()
	if err := l.save(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(l.Dir))
	}
	return l, nil
}

func (l *Lab) exists() error {
	return fmt.Errorf("%s: %w; take it down first: %s", l, ErrExists, l.Command("down"))
}

// abandon takes down what was made before err, and returns it.
func (l *Lab) abandon(ctx context.Context, p *progress, err error) error {
	if ctx.Err() != nil {
		err = fmt.Errorf("%s: %w", l, ErrInterrupted)
	} else {
		err = l.explain(err)
	}
	return errors.Join(err, p.step(context.WithoutCancel(ctx), takeDown, l.down))
}

// make makes what was planned. Between the daemons' start and the first DHCP
// message it calls watch, if there is one.
func (l *Lab) make(ctx context.Context, p *progress, watch func() error) error {
	if err := p.step(ctx, "make hosts and guests", l.makeNets); err != nil {
		return err
	}
	if err := p.step(ctx, "start the VTEPs", l.startHosts); err != nil {
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
		return fmt.Errorf("%s: %w", l, err)
	}
	if err := l.makeUnderlay(ctx); err != nil {
		return fmt.Errorf("%s: %w", l, err)
	}
	say("%s, %s in VNI %s", count(len(l.Hosts), "host"), count(len(l.Guests), "guest"), l.vniList())
	return nil
}

func (l *Lab) startHosts(ctx context.Context, say func(string, ...any)) error {
	for _, h := range l.Hosts {
		yaml, err := l.config(h)
		if err != nil {
			return fmt.Errorf("%s: the configuration of %s: %w", l, h.Name, err)
		}
		if err := os.WriteFile(h.Config, yaml, 0o600); err != nil {
			return fmt.Errorf("%s: %w", l, err)
		}
		if err := os.MkdirAll(h.StateDir, 0o700); err != nil {
			return fmt.Errorf("%s: %w", l, err)
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
		return fmt.Errorf("%s: %w", l, err)
	}
	say("%s on UDP port %d", count(len(l.Hosts), "daemon"), l.Port)
	return l.save()
}

func (l *Lab) getAddresses(ctx context.Context, say func(string, ...any)) error {
	var have atomic.Int32
	group, ctx := errgroup.WithContext(ctx)
	for _, g := range l.Guests { // all at once: they mostly wait
		group.Go(func() error {
			if err := l.address(ctx, g); err != nil {
				return fmt.Errorf("%s: %s: %w", l, g.Name, err)
			}
			say("%d of %d", have.Add(1), len(l.Guests))
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	slowest := time.Duration(0)
	for _, g := range l.Guests {
		slowest = max(slowest, g.Lease.Took)
	}
	say("%s from %s within %s", count(len(l.Guests), "lease"), l.server(), Milliseconds(slowest))
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
	if err := l.checkLease(g); err != nil {
		return err
	}
	return lease.Apply(g.NetNS, guestInterface)
}

func (l *Lab) tag(vni uint32) guest.Tag { return guest.Tag{Run: l.Run, VNI: vni} }
