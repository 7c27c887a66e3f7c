package daemon

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/uvtep/uvtep/dhcpd"
)

// reservation is one that was made live, for either family.
type reservation struct {
	VNI      uint32           `json:"vni"`
	IP       netip.Addr       `json:"ip"`
	Length   int              `json:"length,omitempty"` // of a prefix; 0 = an address
	MAC      net.HardwareAddr `json:"-"`
	ClientID []byte           `json:"-"`
	DUID     []byte           `json:"-"`
	Port     string           `json:"port,omitempty"`
	Hostname string           `json:"hostname,omitempty"`

	// in is the server that has it; nil while there is none, or the
	// configuration's reservations leave no room for it.
	in leaseServer
}

// stored is a reservation in the file.
type stored struct {
	reservation
	MAC      string `json:"mac,omitempty"`
	ClientID string `json:"client_id,omitempty"`
	DUID     string `json:"duid,omitempty"`
}

// in4 and in6 are the reservation as the servers have it.
func (r *reservation) in4() dhcpd.Reservation {
	return dhcpd.Reservation{MAC: r.MAC, ClientID: r.ClientID, Port: r.Port, IP: r.IP, Hostname: r.Hostname}
}

func (r *reservation) in6() dhcpd.Reservation6 {
	out := dhcpd.Reservation6{DUID: r.DUID, MAC: r.MAC, Port: r.Port, Hostname: r.Hostname}
	if r.Length > 0 {
		out.Prefix = netip.PrefixFrom(r.IP, r.Length)
	} else {
		out.IP = r.IP
	}
	return out
}

func (r *reservation) names(l dhcpd.Lease) bool {
	if r.IP.Is6() {
		return r.in6().Names(l)
	}
	return r.in4().Names(l)
}

// reserve has a server keep it.
func (r *reservation) reserve(srv leaseServer) error {
	switch srv := srv.(type) {
	case *dhcpd.Server:
		return srv.Reserve(r.in4())
	case *dhcpd.Server6:
		return srv.Reserve(r.in6())
	}
	return dhcpd.ErrNoSegment
}

// reservations are those that were made live. They are in a file of the state
// directory, so that they outlive the process; a DHCP server has them too, while
// there is one. The daemon's mu is held by whoever calls its methods.
type reservations struct {
	path string
	all  []*reservation
}

// reservationsIn is the file of a state directory.
func reservationsIn(dir string) string { return filepath.Join(dir, "reservations.json") }

// errReservations is what a file is that cannot be read as reservations.
var errReservations = errors.New("damaged, or of a newer version; move the file aside to begin without")

// load reads the file, if there is one.
func (s *reservations) load(dir string) error {
	s.path = reservationsIn(dir)
	text, err := os.ReadFile(s.path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil // a directory that cannot be made is told of once it is needed
	}
	if err != nil {
		return fmt.Errorf("read the reservations: %w", err)
	}
	var file struct{ Reservations []stored }
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err = d.Decode(&file); err == nil {
		err = s.take(file.Reservations)
	}
	if err == nil && (file.Reservations == nil || d.More()) {
		err = errors.New("no list of reservations, or more than that")
	}
	if err != nil {
		return fmt.Errorf("reservations %s: %w (mv %s %s.damaged): %w", s.path, errReservations, s.path, s.path, err)
	}
	return nil
}

func (s *reservations) take(all []stored) error {
	for _, e := range all {
		r := e.reservation
		if r.VNI == 0 || !r.IP.IsValid() {
			return errors.New("a reservation without segment or address")
		}
		var err error
		if e.MAC != "" {
			if r.MAC, err = net.ParseMAC(e.MAC); err != nil {
				return err
			}
		}
		if r.ClientID, err = hex.DecodeString(e.ClientID); err != nil {
			return fmt.Errorf("client id of %v: %w", r.IP, err)
		}
		if r.DUID, err = hex.DecodeString(e.DUID); err != nil {
			return fmt.Errorf("DUID of %v: %w", r.IP, err)
		}
		s.all = append(s.all, &r)
	}
	return nil
}

// save makes the file say what is in all: the old one or the new one survives,
// whatever happens in between.
func (s *reservations) save(all []*reservation) error {
	file := struct {
		Reservations []stored `json:"reservations"`
	}{[]stored{}}
	for _, r := range all {
		file.Reservations = append(file.Reservations, stored{*r, r.MAC.String(), hex.EncodeToString(r.ClientID), hex.EncodeToString(r.DUID)})
	}
	text, err := json.MarshalIndent(file, "", "  ")
	if err == nil {
		err = replaceFile(s.path, append(text, '\n'))
	}
	if err != nil {
		return fmt.Errorf("keep the reservations: %w", err)
	}
	return nil
}

// replaceFile writes a file in place of another, and returns once the disk has
// it.
func replaceFile(path string, text []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if also := f.Close(); err == nil {
		err = also
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes a new name in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	return errors.Join(err, d.Close())
}

// add has the server keep a reservation, and the disk.
func (s *reservations) add(srv leaseServer, r reservation) error {
	if err := r.reserve(srv); err != nil {
		return err
	}
	r.in = srv
	all := slices.DeleteFunc(slices.Clone(s.all), func(o *reservation) bool { return o.VNI == r.VNI && o.IP == r.IP && o.in == nil })
	all = append(all, &r)
	if err := s.save(all); err != nil {
		return errors.Join(err, srv.Unreserve(r.IP))
	}
	s.all = all
	return nil
}

// remove undoes add; ErrNoLease where nobody has added such a one, ErrConfigured
// where the configuration has it.
func (s *reservations) remove(srv leaseServer, vni uint32, ip netip.Addr) error {
	i := slices.IndexFunc(s.all, func(r *reservation) bool { return r.VNI == vni && r.IP == ip })
	if i < 0 {
		return srv.Unreserve(ip) // which says why not
	}
	r, all := s.all[i], slices.Delete(slices.Clone(s.all), i, i+1)
	if r.in != nil {
		if err := r.in.Unreserve(ip); err != nil {
			return err
		}
	}
	if err := s.save(all); err != nil {
		if r.in != nil {
			err = errors.Join(err, r.reserve(r.in))
		}
		return err
	}
	s.all = all
	return nil
}

// apply has those of the servers that are there now, and says of what cannot be
// kept that it waits.
func (s *reservations) apply(server func(vni uint32, ip netip.Addr) leaseServer, log *slog.Logger) {
	for _, r := range s.all {
		srv := server(r.VNI, r.IP)
		if srv == r.in {
			continue
		}
		r.in = nil
		if srv == nil {
			continue
		}
		if err := r.reserve(srv); err != nil {
			log.Warn("a reservation that was made live waits until the configuration leaves room for it", "vni", r.VNI, "ip", r.IP, "err", oneLine(err))
			continue
		}
		r.in = srv
	}
}
