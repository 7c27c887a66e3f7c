package daemon

import (
	"cmp"

	"github.com/uvtep/uvtep/dhcpd"
	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/config"
	"github.com/uvtep/uvtep/vtep"
)

// vtepConfig is the part of the configuration that stays until a restart.
func vtepConfig(c *config.Config) vtep.Config {
	u := c.Underlay
	v := vtep.Config{
		Local: u.Local, Port: u.Port, Device: u.Device, Workers: c.Workers, Strict: u.Strict,
		MaxMACs: c.MaxMACs, BusyPoll: cmp.Or(c.BusyPoll, -1), NoChecksum: !u.Checksum, TTL: u.TTL.Value, InheritTTL: u.TTL.Inherit,
		ZeroSum6: u.ZeroSum6, Fragment: u.Fragment, GBP: u.GBP,
	}
	switch u.DF {
	case config.DFClear:
		v.DF = vtep.DFClear
	case config.DFInherit:
		v.DF = vtep.DFInherit
	}
	for _, o := range []struct {
		used bool
		of   vtep.Offload
	}{
		{c.Offload.TUNGSO, vtep.OffloadTUNGSO}, {c.Offload.TUNGRO, vtep.OffloadTUNGRO},
		{c.Offload.UDPGSO, vtep.OffloadUDPGSO}, {c.Offload.UDPGRO, vtep.OffloadUDPGRO},
	} {
		if !o.used {
			v.NoOffload |= o.of
		}
	}
	if u.Accept == config.AcceptAny {
		v.Accept = vtep.AcceptAny
	}
	if !u.TOS.Inherit {
		v.TOS = &u.TOS.Value
	}
	return v
}

// segmentConfig translates a segment; defaultMTU is that of a segment which does
// not say.
func segmentConfig(s config.Segment, defaultMTU int) vtep.SegmentConfig {
	out := vtep.SegmentConfig{
		VNI: encap.VNI(s.VNI), Name: s.Name, MTU: s.MTU, Peers: s.Peers, Group: s.Group, Device: s.Device,
		NoLearning: !s.Learning, Ageing: s.Ageing, MaxMACs: s.MaxMACs,
		MACMoves: cmp.Or(s.Moves.N, -1), MACMovesWithin: s.Moves.Within,
	}
	for _, m := range s.ProtectedMACs {
		out.ProtectedMACs = append(out.ProtectedMACs, fdb.MACOf(m))
	}
	for _, e := range s.FDB {
		out.FDB = append(out.FDB, vtep.StaticEntry{MAC: fdb.MACOf(e.MAC), Dst: e.Dst, Port: e.Port})
		for _, a := range e.IPs {
			out.Neighbours = append(out.Neighbours, vtep.StaticNeighbour{IP: a, MAC: fdb.MACOf(e.MAC)})
		}
	}
	for _, k := range s.Suppress {
		switch k {
		case config.SuppressARP:
			out.Suppress |= vtep.SuppressARP
		case config.SuppressND:
			out.Suppress |= vtep.SuppressND
		}
	}
	if s.DHCP != nil {
		out.DHCP = &vtep.DHCPConfig{
			Server:     dhcpConfig(s.DHCP, cmp.Or(s.MTU, defaultMTU)),
			ServeLocal: s.DHCP.Serve == config.ServeLocal,
		}
	}
	if s.DHCP6 != nil {
		out.DHCP6 = &vtep.DHCP6Config{Server: dhcp6Config(s.DHCP6), ServeLocal: s.DHCP6.Serve == config.ServeLocal}
	}
	if s.RA != nil {
		out.RA = raConfig(s.RA)
	}
	return out
}

func portConfig(p config.Port) vtep.PortConfig {
	out := vtep.PortConfig{
		Name: p.Name(), Stream: p.Stream, NIC: p.NIC, NetNS: p.NetNS, Rename: p.Rename, Bridge: p.Bridge, MAC: p.MAC,
		Isolated: p.Isolated, MaxMACs: p.MaxMACs,
		MaxLeases: p.MaxLeases, DHCPRate: p.DHCPRate, DHCPCheckMAC: p.DHCPCheckMAC,
		Storm: vtep.Storm(p.Storm), GBP: p.GBP, GBPAllow: p.GBPAllow,
		Bind: binds[p.Bind],
	}
	for _, a := range p.Addresses {
		out.Addresses = append(out.Addresses, vtep.Address{MAC: fdb.MACOf(a.MAC), IP: a.IP})
	}
	if p.Trusted != nil {
		out.Trust = vtep.Untrusted
		if *p.Trusted {
			out.Trust = vtep.Trusted
		}
	}
	return out
}

var binds = map[config.Bind]vtep.Bind{config.BindLease: vtep.BindLease, config.BindStatic: vtep.BindStatic}

func dhcpConfig(d *config.DHCP, mtu int) dhcpd.SegmentConfig {
	out := dhcpd.SegmentConfig{
		Subnet: d.Subnet, Server: d.Server, Ranges: ranges(d.Ranges), Gateway: d.Gateway, DNS: d.DNS, Domain: d.Domain,
		Lease: d.Lease, T1: d.T1, T2: d.T2, Options: options(d.Options),
		Authoritative: d.Authoritative, SubnetSelection: d.SubnetSelection, RapidCommit: d.RapidCommit, BOOTP: d.BOOTP,
		Probe: d.Probe, NextServer: d.NextServer, BootFile: d.BootFile, OfferHold: d.OfferHold, DeclineHold: d.DeclineHold,
		Routes: routes(d.Routes),
	}
	if !d.MTU.Off {
		out.MTU = cmp.Or(d.MTU.Value, uint16(mtu))
	}
	for _, h := range d.Hosts {
		out.Hosts = append(out.Hosts, dhcpd.Reservation{
			MAC: h.MAC, ClientID: h.ClientID, Port: h.Port, IP: h.IP, Hostname: h.Hostname, Options: options(h.Options),
			NextServer: h.NextServer, BootFile: h.BootFile,
		})
	}
	for _, r := range d.Relays {
		out.Relays = append(out.Relays, dhcpd.RelaySubnet{
			Subnet: r.Subnet, Ranges: ranges(r.Ranges), Gateway: r.Gateway, DNS: r.DNS, Options: options(r.Options),
			Domain: r.Domain, MTU: r.MTU, Lease: r.Lease, T1: r.T1, T2: r.T2, Routes: routes(r.Routes),
			NextServer: r.NextServer, BootFile: r.BootFile,
		})
	}
	for _, c := range d.Classes {
		out.Classes = append(out.Classes, dhcpd.Class{
			Match: classMatch(c.By), Value: c.Match, Arch: c.Arch, Options: options(c.Options),
			NextServer: c.NextServer, BootFile: c.BootFile,
		})
	}
	return out
}

func routes(all []config.Route) []dhcpd.Route {
	var out []dhcpd.Route
	for _, r := range all {
		out = append(out, dhcpd.Route{To: r.To, Via: r.Via})
	}
	return out
}

func ranges(all []config.Range) []dhcpd.Range {
	var out []dhcpd.Range
	for _, r := range all {
		out = append(out, dhcpd.Range{First: r.First, Last: r.Last})
	}
	return out
}

func options(all []config.Option) []dhcpd.Option {
	var out []dhcpd.Option
	for _, o := range all {
		out = append(out, dhcpd.Option{Code: uint8(o.Code), Data: o.Data})
	}
	return out
}

func classMatch(m config.Matcher) dhcpd.ClassMatch {
	switch m {
	case config.ByUser:
		return dhcpd.MatchUser
	case config.ByHostname:
		return dhcpd.MatchHostname
	case config.ByCircuitID:
		return dhcpd.MatchCircuitID
	case config.ByArch:
		return dhcpd.MatchArch
	}
	return dhcpd.MatchVendor
}
