package config

import (
	"encoding/hex"
	"net/netip"
	"slices"
	"strconv"

	"github.com/uvtep/uvtep/dhcpd"
)

func rawDHCP6Of(d *DHCP6) *rawDHCP6 {
	raw := &rawDHCP6{
		Subnet:      prefix6Text(d.Subnet.String()),
		DNS:         ipv6Texts(d.DNS),
		Search:      domainTexts(d.Search),
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
		raw.Ranges = rangeTexts[range6Text](d.Ranges)
	}
	if d.Server != defaultServer6(d, written) {
		raw.Server = ipv6Text(d.Server.String())
	}
	for _, e := range d.Prefixes {
		raw.Prefixes = append(raw.Prefixes, rawDelegation{Prefix: prefix6Text(e.Prefix.String()), Length: int64(e.Length)})
	}
	for _, h := range d.Hosts {
		raw.Hosts = append(raw.Hosts, rawHost6{
			MAC: macText(h.MAC.String()), DUID: hexText(hex.EncodeToString(h.DUID)), Port: ifnameText(h.Port),
			IP: ipv6Text(addrString(h.IP)), Prefix: prefix6Text(prefixString(h.Prefix)),
			Hostname: domainText(h.Hostname), Options: rawOptions6Of(h.Options),
		})
	}
	return raw
}

func rawOptions6Of(list []Option6) []rawOption6 {
	var out []rawOption6
	for _, o := range list {
		raw := rawOption6{Code: int64(o.Code)}
		switch o.Form {
		case FormIP:
			texts := ipv6Texts(addressesOf(o.Data, 16))
			raw.IP = &texts
		case FormText:
			text := string(o.Data)
			raw.Text = &text
		case FormNumber:
			n := numberOf(o.Data, layoutOf6(raw.Code))
			raw.Number = &n
		default:
			text := hexText(hex.EncodeToString(o.Data))
			raw.Hex = &text
		}
		out = append(out, raw)
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
		texts := append([]ipv6Text{}, ipv6Texts(r.DNS)...)
		raw.DNS = &texts
	}
	if !slices.Equal(r.Search, byDefault.Search) {
		texts := append([]domainText{}, domainTexts(r.Search)...)
		raw.Search = &texts
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

func prefixString(n netip.Prefix) string {
	if !n.IsValid() {
		return ""
	}
	return n.String()
}

func ipv6Texts(list []netip.Addr) []ipv6Text {
	var out []ipv6Text
	for _, a := range list {
		out = append(out, ipv6Text(a.String()))
	}
	return out
}

func domainTexts(list []string) []domainText {
	var out []domainText
	for _, v := range list {
		out = append(out, domainText(v))
	}
	return out
}
