package daemon

import (
	"errors"
	"net/netip"
	"time"

	"github.com/uvtep/uvtep/dhcpd"
	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/config"
	"github.com/uvtep/uvtep/internal/control"
	"github.com/uvtep/uvtep/vtep"
)

// segment finds a segment, or says that there is none.
func (d *server) segment(vni encap.VNI) (*vtep.Segment, error) {
	s, ok := d.vtep.Segment(vni)
	if !ok {
		return nil, control.Errorf(control.ErrNotFound, "no segment %v; see uvtep show segments", vni)
	}
	return s, nil
}

// each collects what f makes of one segment, or of all of them for VNI 0.
func each[T any](d *server, vni encap.VNI, f func(*vtep.Segment) []T) ([]T, error) {
	if vni != 0 {
		s, err := d.segment(vni)
		if err != nil {
			return nil, err
		}
		return f(s), nil
	}
	var all []T
	for _, s := range d.vtep.Segments() {
		all = append(all, f(s)...)
	}
	return all, nil
}

// Segments and the methods after it implement control.Backend.
func (d *server) Segments(vni encap.VNI) ([]control.Segment, error) {
	return each(d, vni, func(s *vtep.Segment) []control.Segment {
		c := s.Config()
		out := control.Segment{
			VNI: c.VNI, Name: c.Name, MTU: c.MTU, Device: c.Device, Peers: []netip.Addr{}, Ports: []string{},
			Learning: !c.NoLearning, Ageing: int64(max(c.Ageing, 0) / time.Second), MACs: s.MACs(),
		}
		if c.Group.IsValid() {
			out.Group = &c.Group
			if err := s.GroupError(); err != nil {
				why := err.Error()
				out.GroupError = &why
			}
		}
		for _, p := range s.Peers() {
			if p.Replicate {
				out.Peers = append(out.Peers, p.Addr)
			}
		}
		for _, p := range s.Ports() {
			out.Ports = append(out.Ports, p.Name)
		}
		if c.DHCP != nil {
			out.DHCP = &c.DHCP.Server.Subnet
		}
		if c.DHCP6 != nil {
			out.DHCP6 = &c.DHCP6.Server.Subnet
		}
		out.RA = c.RA != nil
		out.Suppress = []string{}
		for _, k := range []struct {
			kind vtep.Suppress
			name config.Suppress
		}{{vtep.SuppressARP, config.SuppressARP}, {vtep.SuppressND, config.SuppressND}} {
			if c.Suppress&k.kind != 0 {
				out.Suppress = append(out.Suppress, string(k.name))
			}
		}
		n := s.NeighbourStats()
		out.Neighbours, out.Answered, out.Flooded = n.Known, n.Answered, n.Flooded
		out.UnderlayMTU, out.Warnings = d.vtep.CarriedMTU(), append([]string{}, s.Warnings()...)
		return []control.Segment{out}
	})
}

func (d *server) Ports(vni encap.VNI) ([]control.Port, error) {
	return each(d, vni, func(s *vtep.Segment) []control.Port {
		var out []control.Port
		for _, p := range s.Ports() {
			out = append(out, control.Port{
				VNI: s.VNI(), Name: p.Name, Kind: p.Kind, VLAN: p.VLAN, State: p.State, Queues: p.Queues, Offload: p.Offload, Isolated: p.Isolated,
				MaxLeases: p.MaxLeases, DHCPRate: p.DHCPRate, CheckMAC: p.DHCPCheckMAC, Storm: control.Storm(p.Storm), GBP: p.GBP, GBPAllow: p.GBPAllow,
				Bind: p.Bind.String(), Bindings: p.Bindings, Trusted: p.Trusted,
				RxPackets: p.RxPackets, RxBytes: p.RxBytes, RxDropped: p.RxDropped,
				TxPackets: p.TxPackets, TxBytes: p.TxBytes, TxDropped: p.TxDropped,
				TooBigTold: p.TooBigTold,
			})
		}
		return out
	})
}

// behind is where a station is, as the API has it: nil for what it is not.
func behind(port string, vtep netip.Addr) (ifname *string, dst *netip.Addr) {
	if port != "" {
		ifname = &port
	}
	if vtep.IsValid() {
		dst = &vtep
	}
	return ifname, dst
}

func (d *server) FDB(vni encap.VNI) ([]control.FDBEntry, error) {
	return each(d, vni, func(s *vtep.Segment) []control.FDBEntry {
		var out []control.FDBEntry
		for _, e := range s.FDB() {
			r := control.FDBEntry{VNI: s.VNI(), MAC: e.MAC, State: e.State, Age: int64(e.Age / time.Second), Frozen: e.Frozen}
			r.Ifname, r.Dst = behind(e.Port, e.Dst)
			out = append(out, r)
		}
		return out
	})
}

func (d *server) Neighbours(vni encap.VNI) ([]control.Neighbour, error) {
	return each(d, vni, func(s *vtep.Segment) []control.Neighbour {
		var out []control.Neighbour
		for _, n := range s.Neighbours() {
			r := control.Neighbour{VNI: s.VNI(), IP: n.IP, MAC: n.MAC, Source: n.Source.String(), Router: n.Router, Age: int64(n.Age / time.Second)}
			r.Ifname, r.Dst = behind(n.Port, n.Dst)
			out = append(out, r)
		}
		return out
	})
}

func (d *server) Peers(vni encap.VNI) ([]control.Peer, error) {
	return each(d, vni, func(s *vtep.Segment) []control.Peer {
		var out []control.Peer
		narrow := s.PathMTUs()
		for _, p := range s.Peers() {
			out = append(out, control.Peer{
				VNI: s.VNI(), Dst: p.Addr, Origin: p.Origin.String(), Replicate: p.Replicate,
				RxPackets: p.RxPackets, RxBytes: p.RxBytes, TxPackets: p.TxPackets, TxBytes: p.TxBytes,
				PMTU: narrow[p.Addr],
			})
		}
		return out
	})
}

func (d *server) Drops(vni encap.VNI) ([]control.Drop, error) {
	if vni != 0 {
		if _, err := d.segment(vni); err != nil {
			return nil, err
		}
	}
	var out []control.Drop
	for _, s := range d.vtep.Stats().Drops {
		if vni == 0 || s.VNI == vni {
			out = append(out, control.Drop{Reason: s.Reason.String(), VNI: s.VNI, Count: s.Count})
		}
	}
	return out, nil
}

func (d *server) Workers() []control.Worker {
	var out []control.Worker
	for _, w := range d.vtep.Stats().Workers {
		out = append(out, control.Worker{ID: w.ID, CPU: w.CPU, RxPackets: w.RxPackets, TxPackets: w.TxPackets, Batches: w.Batches, ReadErrors: w.ReadErrors, Offload: w.Offload})
	}
	return out
}

// LostOffloads implements control.Reader.
func (d *server) LostOffloads() uint64 { return d.vtep.Stats().LostOffloads }

func (d *server) AddFDB(vni encap.VNI, mac fdb.MAC, to control.StaticTarget) error {
	s, err := d.segment(vni)
	if err != nil {
		return err
	}
	e := vtep.StaticEntry{MAC: mac, Port: to.Port}
	if to.Dst != nil {
		e.Dst = *to.Dst
	}
	if e.Dst.IsValid() == (e.Port != "") {
		return control.Errorf(control.ErrInvalid, "static entry %v: needs a remote VTEP or a port, one of them", mac)
	}
	return kind(s.AddStatic(e), "ports")
}

func (d *server) DeleteFDB(vni encap.VNI, mac fdb.MAC) error {
	s, err := d.segment(vni)
	if err != nil {
		return err
	}
	return kind(s.DeleteMAC(mac), "fdb")
}

func (d *server) FlushFDB(vni encap.VNI) (int, error) {
	s, err := d.segment(vni)
	if err != nil {
		return 0, err
	}
	return s.FlushFDB(), nil
}

func (d *server) AddPeer(vni encap.VNI, dst netip.Addr) error {
	s, err := d.segment(vni)
	if err != nil {
		return err
	}
	return kind(s.AddPeer(dst), "peers")
}

func (d *server) DeletePeer(vni encap.VNI, dst netip.Addr) error {
	s, err := d.segment(vni)
	if err != nil {
		return err
	}
	return kind(s.RemovePeer(dst), "peers")
}

// kind gives an error of the switch or of a DHCP server the kind that the API
// knows. What is not found, or is there already, is in a list.
func kind(err error, list string) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, vtep.ErrNotFound), errors.Is(err, dhcpd.ErrNoLease):
		return control.Errorf(control.ErrNotFound, "%v; see uvtep show %s", err, list)
	case errors.Is(err, vtep.ErrExists), errors.Is(err, dhcpd.ErrReserved):
		return control.Errorf(control.ErrConflict, "%v; see uvtep show %s", err, list)
	case errors.Is(err, vtep.ErrInvalid), errors.Is(err, dhcpd.ErrReservation), errors.Is(err, fdb.ErrNotStation), errors.Is(err, fdb.ErrOwnMAC):
		return control.Errorf(control.ErrInvalid, "%v", err)
	}
	return err
}
