package daemon

import (
	"encoding/hex"
	"errors"
	"net"
	"net/netip"
	"slices"

	"github.com/uvtep/uvtep/dhcpd"
	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/internal/control"
	"github.com/uvtep/uvtep/vtep"
)

func (d *server) Leases(vni encap.VNI) ([]control.Lease, error) {
	return each(d, vni, func(s *vtep.Segment) []control.Lease {
		var all []dhcpd.Lease
		if srv := s.DHCP(); srv != nil {
			all = srv.Leases()
		}
		if srv := s.DHCP6(); srv != nil {
			all = append(all, srv.Leases()...)
		}
		var out []control.Lease
		for _, l := range all {
			if l.State == dhcpd.StateFree {
				continue // a memory of who had it
			}
			out = append(out, lease(s.VNI(), l))
		}
		return out
	})
}

func lease(vni encap.VNI, l dhcpd.Lease) control.Lease {
	out := control.Lease{
		VNI: vni, IP: l.IP, MAC: l.HardwareAddr().String(), ClientID: hex.EncodeToString([]byte(l.ClientID)),
		Hostname: l.Hostname, State: l.State.String(),
	}
	if l.IP.Is6() && l.State != dhcpd.StateReserved {
		out.IAID = &l.IAID
	}
	if l.PrefixLen > 0 {
		n := int(l.PrefixLen)
		out.Length = &n
	}
	if !l.Expires.IsZero() {
		out.Expires = &l.Expires
	}
	if l.Port != "" {
		out.Port = &l.Port
	}
	if l.VTEP.IsValid() {
		out.VTEP = &l.VTEP
	}
	return out
}

// leaseServer is what the DHCPv4 and the DHCPv6 server of a segment have in
// common.
type leaseServer interface {
	Lookup(ip netip.Addr) (dhcpd.Lease, bool)
	Release(ip netip.Addr) error
	Unreserve(ip netip.Addr) error
}

// dhcpServer finds the server that an address is of, or says that there is none.
func (d *server) dhcpServer(vni encap.VNI, ip netip.Addr) (leaseServer, error) {
	s, err := d.segment(vni)
	if err != nil {
		return nil, err
	}
	if srv := s.DHCP6(); srv != nil && ip.Is6() {
		return srv, nil
	}
	if srv := s.DHCP(); srv != nil && ip.Is4() {
		return srv, nil
	}
	if ip.Is6() {
		return nil, control.Errorf(control.ErrNotFound, "segment %v has no DHCPv6 server; give it a dhcp6: section and reload", vni)
	}
	return nil, control.Errorf(control.ErrNotFound, "segment %v has no DHCP server; give it a dhcp: section and reload", vni)
}

func (d *server) ReleaseLease(vni encap.VNI, ip netip.Addr) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	srv, err := d.dhcpServer(vni, ip)
	if err != nil {
		return err
	}
	err = srv.Release(ip)
	if errors.Is(err, dhcpd.ErrNoLease) {
		// What is listed without a lease is a reservation.
		if also := d.reserved.remove(srv, uint32(vni), ip); !errors.Is(also, dhcpd.ErrNoLease) {
			err = also
		}
	}
	if errors.Is(err, dhcpd.ErrConfigured) {
		return control.Errorf(control.ErrConflict, "%v; take it out of the hosts of segment %v and reload", err, vni)
	}
	return kind(err, "leases")
}

func (d *server) ReserveLease(vni encap.VNI, ip netip.Addr, r control.Reservation) (control.Reserved, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var done control.Reserved
	srv, err := d.dhcpServer(vni, ip)
	if err != nil {
		return done, err
	}
	res, err := d.reservation(vni, ip, r)
	if err != nil {
		return done, err
	}
	if err := d.reserved.add(srv, res); err != nil {
		return done, kind(err, "leases")
	}
	if l, held := srv.Lookup(ip); held && !res.names(l) {
		holder := lease(vni, l)
		done.HeldBy = &holder
	}
	return done, nil
}

// reservation is what the API asks for, with no more checks than the server
// itself cannot make.
func (d *server) reservation(vni encap.VNI, ip netip.Addr, r control.Reservation) (reservation, error) {
	out := reservation{VNI: uint32(vni), IP: ip, Length: r.Length, Port: r.Port, Hostname: r.Hostname}
	wrong := func(format string, args ...any) (reservation, error) {
		return out, control.Errorf(control.ErrInvalid, format, args...)
	}
	var err error
	if out.ClientID, err = hex.DecodeString(r.ClientID); err != nil {
		return wrong("client id %q is not hexadecimal", r.ClientID)
	}
	if out.DUID, err = hex.DecodeString(r.DUID); err != nil {
		return wrong("DUID %q is not hexadecimal", r.DUID)
	}
	owners := 0
	for _, given := range []bool{r.MAC != nil, len(out.ClientID) > 0, len(out.DUID) > 0, r.Port != ""} {
		if given {
			owners++
		}
	}
	switch {
	case owners > 1 || owners == 0 && (r.Hostname == "" || ip.Is6()):
		return wrong("reservation of %v: needs one of them: %s", ip, owners4or6(ip))
	case ip.Is4() && (len(out.DUID) > 0 || r.Length > 0):
		return wrong("reservation of %v: a DUID and a prefix are of DHCPv6", ip)
	case ip.Is6() && len(out.ClientID) > 0:
		return wrong("reservation of %v: a client id is of DHCPv4; give the DUID", ip)
	}
	if r.MAC != nil {
		b := r.MAC.Bytes()
		out.MAC = net.HardwareAddr(b[:])
	}
	if r.Port != "" {
		seg, err := d.segment(vni)
		if err != nil {
			return out, err
		}
		if !slices.ContainsFunc(seg.Ports(), func(p vtep.PortStats) bool { return p.Name == r.Port }) {
			return out, control.Errorf(control.ErrNotFound, "segment %v has no port %s; see uvtep show ports", vni, r.Port)
		}
	}
	return out, nil
}

func owners4or6(ip netip.Addr) string {
	if ip.Is6() {
		return "a MAC, a DUID or a port"
	}
	return "a MAC, a client id or a port, or else a host name"
}
