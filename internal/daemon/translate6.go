package daemon

import (
	"github.com/uvtep/uvtep/dhcpd"
	"github.com/uvtep/uvtep/internal/config"
	"github.com/uvtep/uvtep/vtep"
)

func dhcp6Config(d *config.DHCP6) dhcpd.SegmentConfig6 {
	out := dhcpd.SegmentConfig6{
		Subnet: d.Subnet, Server: d.Server, Ranges: ranges(d.Ranges), DNS: d.DNS, Search: d.Search,
		Lease: d.Lease, Preferred: d.Preferred, T1: d.T1, T2: d.T2, Options: options6(d.Options),
		RapidCommit: d.RapidCommit, OfferHold: d.OfferHold, DeclineHold: d.DeclineHold,
	}
	for _, h := range d.Hosts {
		out.Hosts = append(out.Hosts, dhcpd.Reservation6{
			DUID: h.DUID, MAC: h.MAC, Port: h.Port, IP: h.IP, Prefix: h.Prefix, Hostname: h.Hostname, Options: options6(h.Options),
		})
	}
	for _, e := range d.Prefixes {
		out.Delegations = append(out.Delegations, dhcpd.Delegation{Prefix: e.Prefix, Length: e.Length})
	}
	return out
}

func options6(all []config.Option) []dhcpd.Option6 {
	var out []dhcpd.Option6
	for _, o := range all {
		out = append(out, dhcpd.Option6{Code: o.Code, Data: o.Data})
	}
	return out
}

func raConfig(r *config.RA) *vtep.RAConfig {
	out := &vtep.RAConfig{
		Managed: r.Managed, Other: r.Other, DNS: r.DNS, Search: r.Search, MTU: r.MTU.Value,
		Lifetime: r.Lifetime, Interval: r.Interval,
	}
	if r.MTU.Off {
		out.MTU = -1
	}
	for _, e := range r.Prefixes {
		out.Prefixes = append(out.Prefixes, vtep.RAPrefix{
			Prefix: e.Prefix, OnLink: e.OnLink, Autonomous: e.Autonomous, Valid: e.Valid, Preferred: e.Preferred,
		})
	}
	return out
}
