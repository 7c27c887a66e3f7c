package config

import (
	"encoding/hex"
	"slices"
	"strconv"

	"github.com/uvtep/uvtep/dhcpd"
)

func rawDHCP6Of(d *DHCP6) *rawDHCP6 {
	raw := &rawDHCP6{
		Subnet:      prefix6Text(d.Subnet.String()),
		DNS:         textsOf[ipv6Text](d.DNS),
		Search:      texts[domainText](d.Search),
		Lease:       durationUnless(d.Lease, DefaultLease),
		Preferred:   durationUnless(d.Preferred, defaultPreferred(d.Lease)),
		Options:     rawOptions6Of(d.Options),
		RapidCommit: d.RapidCommit,
		OfferHold:   durationUnless(d.OfferHold, dhcpd.DefaultOfferHold),
		DeclineHold: durationUnless(d.DeclineHold, dhcpd.DefaultDeclineHold),
		Serve:       serveText(unless(d.Serve, ServeSegment)),
	}
	t1, t2 := defaultTimers6(d.Preferred)
	raw.T1, raw.T2 = durationUnless(d.T1, t1), durationUnless(d.T2, t2)
	written := d.Ranges
	if slices.Equal(d.Ranges, without(usable6(d.Subnet), d.Server)) {
		written = nil
	} else {
		raw.Ranges = explicit(textsOf[range6Text](d.Ranges))
	}
	if d.Server != defaultServer6(d, written) {
		raw.Server = ipv6Text(d.Server.String())
	}
	for _, e := range d.Prefixes {
		raw.Prefixes = append(raw.Prefixes, rawDelegation{Prefix: prefix6Text(e.Prefix.String()), Length: int64(e.Length)})
	}
	for _, h := range d.Hosts {
		raw.Hosts = append(raw.Hosts, rawHost6{
			MAC: macText(h.MAC.String()), DUID: hexText(hex.EncodeToString(h.DUID)), Port: portNameText(h.Port),
			IP: ipv6Text(validString(h.IP)), Prefix: prefix6Text(validString(h.Prefix)),
			Hostname: domainText(h.Hostname), Options: rawOptions6Of(h.Options),
		})
	}
	return raw
}

func rawOptions6Of(list []Option) []rawOption6 {
	var out []rawOption6
	for _, o := range list {
		v := optionTextOf(o, 16, layoutOf6(int64(o.Code)))
		out = append(out, rawOption6{int64(o.Code), texts[ipv6Text](v.ip), v.text, v.hex, v.number})
	}
	return out
}

func rawRAOf(r *RA, dhcp6 *DHCP6) *rawRA {
	byDefault := defaultRA(dhcp6)
	raw := &rawRA{
		Managed:  boolUnless(r.Managed, byDefault.Managed),
		Other:    boolUnless(r.Other, byDefault.Other),
		Interval: durationUnless(r.Interval, DefaultRAInterval),
		Lifetime: durationUnless(r.Lifetime, 0),
	}
	switch {
	case r.MTU.Off:
		raw.MTU = off
	case r.MTU.Value != 0:
		raw.MTU = raMTUText(strconv.Itoa(r.MTU.Value))
	}
	if !slices.Equal(r.DNS, byDefault.DNS) {
		raw.DNS = explicit(textsOf[ipv6Text](r.DNS))
	}
	if !slices.Equal(r.Search, byDefault.Search) {
		raw.Search = explicit(texts[domainText](r.Search))
	}
	if slices.Equal(r.Prefixes, defaultRAPrefixes(dhcp6, r.Managed)) {
		return raw
	}
	prefixes := []rawRAPrefix{}
	for _, e := range r.Prefixes {
		prefixes = append(prefixes, rawRAPrefix{
			Prefix: prefix6Text(e.Prefix.String()), OnLink: falseOnly(e.OnLink),
			Autonomous: boolUnless(e.Autonomous, autonomous(e.Prefix, r.Managed)),
			Valid:      durationUnless(e.Valid, DefaultRAValid),
			Preferred:  durationUnless(e.Preferred, min(DefaultRAPreferred, e.Valid)),
		})
	}
	raw.Prefixes = &prefixes
	return raw
}

func boolUnless(v, byDefault bool) *bool {
	if v == byDefault {
		return nil
	}
	return &v
}
