package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/uvtep/uvtep/internal/netns"
)

// Load finds a lab that another process made, by the options' Name and StateDir.
// If only parts of one are there, what it returns is in StateBroken and good for
// Down alone. ErrNotUp means that there is nothing of it.
func Load(o Options) (*Lab, error) {
	name := cmp.Or(o.Name, "lab")
	if !validName.MatchString(name) {
		return nil, fmt.Errorf("lab %q: %w", name, ErrNotUp)
	}
	dir := dirOf(o.StateDir, name)
	l, err := read(dir)
	if err == nil {
		l.Program = o.Program
		for _, h := range l.Hosts {
			h.Running = h.alive()
		}
		return l, nil
	}
	broken := &Lab{Name: name, Dir: dir, State: StateBroken, Program: o.Program}
	if !errors.Is(err, fs.ErrNotExist) {
		if errors.Is(err, fs.ErrPermission) {
			return nil, fmt.Errorf("%s: %w: run it with sudo", label(name), ErrNotRoot)
		}
		return broken, nil // a record that cannot be read
	}
	parts, err := leftovers(name)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(dir); err != nil && len(parts) == 0 {
		return nil, fmt.Errorf("%s: %w; start one: %s", label(name), ErrNotUp, broken.Command("up"))
	}
	return broken, nil
}

// leftovers are the namespaces that bear the name of a lab, whoever made them.
func leftovers(name string) ([]string, error) {
	all, err := netns.List()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", label(name), err)
	}
	ours := regexp.MustCompile(`^` + regexp.QuoteMeta(prefix(name)) + `(net|h\d+|v\d+-g\d+)$`)
	return slices.DeleteFunc(all, func(s string) bool { return !ours.MatchString(s) }), nil
}

// Down ends the daemons, and whatever else runs inside, and removes namespaces
// and files; progress, unless nil, is told of it. It works on a lab that is half
// made, whose daemons have died, or that is down already, and goes on after an
// error; a context that has ended makes it quick, not kind.
func (l *Lab) Down(ctx context.Context, told func(Step)) error {
	p := &progress{tell: told}
	return p.step(ctx, takeDown, l.down)
}

func (l *Lab) down(ctx context.Context, say func(string, ...any)) error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("%s: %w: run it with sudo", l, ErrNotRoot)
	}
	spaces, err := leftovers(l.Name)
	if err != nil {
		return err
	}
	err = errors.Join(l.endDaemons(ctx), l.endOthers(ctx, spaces))
	for _, ns := range spaces {
		if e := netns.Delete(ns); e != nil && !errors.Is(e, netns.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	// The record goes last, so that whatever failed can be tried again.
	if err == nil {
		err = os.RemoveAll(l.Dir)
	}
	if err != nil {
		return fmt.Errorf("%s: take down: %w", l, err)
	}
	say("%s, %s", count(len(l.Hosts), "daemon"), count(len(spaces), "namespace"))
	return nil
}

func (l *Lab) endDaemons(ctx context.Context) error {
	var group errgroup.Group
	for _, h := range l.Hosts {
		group.Go(func() error {
			p, err := h.open()
			if err == nil && p >= 0 {
				err = end(ctx, p)
			}
			if err != nil {
				return fmt.Errorf("%s: process %d: %w", h.Name, h.PID, err)
			}
			return nil
		})
	}
	return group.Wait()
}

// endOthers ends what lives in the namespaces: a daemon that the record does
// not know yet, or what was started by Exec. This process is never among them,
// though its threads come and go.
func (l *Lab) endOthers(ctx context.Context, spaces []string) error {
	var group errgroup.Group
	for _, ns := range spaces {
		pids, err := netns.PIDs(ns)
		if errors.Is(err, netns.ErrNotExist) || errors.Is(err, netns.ErrNotNamespace) {
			continue
		}
		if err != nil {
			return err
		}
		for _, pid := range pids {
			group.Go(func() error {
				p, err := openProcess(pid, func() bool {
					pids, err := netns.PIDs(ns)
					return err == nil && slices.Contains(pids, pid) && pid != os.Getpid()
				})
				if err == nil && p >= 0 {
					err = end(ctx, p)
				}
				if err != nil {
					return fmt.Errorf("%s: process %d: %w", ns, pid, err)
				}
				return nil
			})
		}
	}
	return group.Wait()
}
