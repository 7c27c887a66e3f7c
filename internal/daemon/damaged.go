package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/uvtep/uvtep/dhcpd"
	"github.com/uvtep/uvtep/internal/config"
)

// moveDamaged looks through what is kept in the state directory before anything
// of it is used, and moves aside what cannot be read.
func (d *server) moveDamaged() error {
	if err := (&reservations{}).load(d.cfg.State); errors.Is(err, errReservations) {
		if err := d.moveAside(reservationsIn(d.cfg.State), err); err != nil {
			return err
		}
	}
	path := d.leases.path
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := readLeases(path, d.cfg.Segments); errors.Is(err, dhcpd.ErrStoreDamaged) {
		return d.moveAside(path, err)
	}
	return nil // what else may be wrong is told where the file is used
}

// readLeases reads the leases of all segments, of both families.
func readLeases(path string, segments []config.Segment) error {
	store, err := dhcpd.OpenBolt(path)
	if err != nil {
		return err
	}
	skip := func(dhcpd.Lease) error { return nil }
	for _, s := range segments {
		err = errors.Join(err, store.Load(s.VNI, skip), store.Load6(s.VNI, skip))
	}
	return errors.Join(err, store.Close())
}

// moveAside gives a file a name that nobody has.
func (d *server) moveAside(path string, why error) error {
	to := path + ".damaged-" + time.Now().UTC().Format("20060102T150405Z")
	if _, err := os.Lstat(to); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("move %s aside: %s is there already; try again in a second", path, to)
	}
	if err := os.Rename(path, to); err != nil {
		return fmt.Errorf("move %s aside: %w", path, err)
	}
	if err := syncDir(d.cfg.State); err != nil {
		return fmt.Errorf("move %s aside: %w", path, err)
	}
	d.log.Warn("a damaged file was moved aside; beginning without", "file", path, "moved", to, "err", oneLine(why))
	return nil
}
