package config

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/uvtep/uvtep/dhcpd"
)

// rawOf is the file that c was made of, less what is at its default.
func rawOf(c *Config) rawConfig {
	u := &c.Underlay
	raw := rawConfig{
		Underlay: rawUnderlay{
			Local:    addrText(addrString(u.Local)),
			Port:     unless(int64(u.Port), DefaultPort),
			Device:   ifnameText(u.Device),
			Accept:   acceptText(unless(u.Accept, AcceptPeers)),
			Checksum: falseOnly(u.Checksum),
			Strict:   u.Strict,
		},
		Workers: int64(c.Workers),
		Offload: rawOffloadOf(c.Offload),
		State:   unless(c.State, DefaultState),
	}
	if c.BusyPoll != DefaultBusyPoll {
		raw.BusyPoll = durationText(durationString(c.BusyPoll))
	}
	if u.TTL != (TTL{Value: DefaultTTL}) {
		raw.Underlay.TTL = ttlText(numberOrInherit(u.TTL.Value, u.TTL.Inherit))
	}
	if !u.TOS.Inherit {
		raw.Underlay.TOS = tosText(numberOrInherit(u.TOS.Value, false))
	}
	raw.Underlay.SourcePorts = rawSourcePortsOf(u.SourcePorts)
	if c.API.SocketExplicit {
		raw.API.Socket = c.API.Socket
	}
	if c.API.HTTPExplicit {
		raw.API.HTTP = &c.API.HTTP
	}
	for i := range c.Segments {
		raw.Segments = append(raw.Segments, rawSegmentOf(&c.Segments[i]))
	}
	return raw
}

func rawOffloadOf(o Offload) rawOffload {
	if o == (Offload{}) {
		return rawOffload{All: off}
	}
	return rawOffload{TUNGSO: falseOnly(o.TUNGSO), TUNGRO: falseOnly(o.TUNGRO), UDPGSO: falseOnly(o.UDPGSO), UDPGRO: falseOnly(o.UDPGRO)}
}

func rawSourcePortsOf(sp SourcePorts) rawSourcePorts {
	var raw rawSourcePorts
	if sp.Low != DefaultSourceLow || sp.High != DefaultSourceHigh {
		raw.Range = portRangeText(fmt.Sprintf("%d-%d", sp.Low, sp.High))
	}
	raw.Count = unless(int64(sp.Count), min(DefaultSourceCount, int64(sp.High-sp.Low)+1))
	return raw
}

func rawSegmentOf(s *Segment) rawSegment {
	raw := rawSegment{
		VNI:      int64(s.VNI),
		Name:     nameText(unless(s.Name, fmt.Sprintf("vni%d", s.VNI))),
		MTU:      int64(s.MTU),
		Group:    addrText(addrString(s.Group)),
		Learning: falseOnly(s.Learning),
		MaxMACs:  unless(int64(s.MaxMACs), DefaultMaxMACs),
		Ageing:   durationUnless(s.Ageing, DefaultAgeing),
	}
	for _, a := range s.Peers {
		raw.Peers = append(raw.Peers, addrText(a.String()))
	}
	for _, e := range s.FDB {
		raw.FDB = append(raw.FDB, rawStatic{
			MAC: macText(e.MAC.String()), Dst: addrText(addrString(e.Dst)), Port: ifnameText(e.Port),
		})
	}
	for _, p := range s.Ports {
		raw.Ports = append(raw.Ports, rawPortOf(p))
	}
	if s.DHCP != nil {
		raw.DHCP = rawDHCPOf(s.DHCP)
	}
	if s.DHCP6 != nil {
		raw.DHCP6 = rawDHCP6Of(s.DHCP6)
	}
	if s.RA != nil {
		raw.RA = rawRAOf(s.RA, s.DHCP6)
	}
	return raw
}

func rawPortOf(p Port) rawPort {
	return rawPort{
		TAP: ifnameText(p.TAP), NetNS: p.NetNS, Rename: ifnameText(p.Rename), MAC: macText(p.MAC.String()),
		Bridge: ifnameText(p.Bridge), Isolated: p.Isolated, MaxMACs: int64(p.MaxMACs),
		MaxLeases: int64(p.MaxLeases), DHCPRate: int64(p.DHCPRate), DHCPCheckMAC: p.DHCPCheckMAC,
	}
}

func rawDHCPOf(d *DHCP) *rawDHCP {
	raw := &rawDHCP{
		Subnet:          prefixText(d.Subnet.String()),
		Gateway:         ipv4Text(addrString(d.Gateway)),
		DNS:             ipv4Texts(d.DNS),
		Domain:          domainText(d.Domain),
		Lease:           durationUnless(d.Lease, DefaultLease),
		Options:         rawOptionsOf(d.Options),
		Authoritative:   d.Authoritative,
		SubnetSelection: d.SubnetSelection,
		RapidCommit:     d.RapidCommit,
		BOOTP:           d.BOOTP,
		NextServer:      ipv4Text(addrString(d.NextServer)),
		BootFile:        d.BootFile,
		OfferHold:       durationUnless(d.OfferHold, dhcpd.DefaultOfferHold),
		DeclineHold:     durationUnless(d.DeclineHold, dhcpd.DefaultDeclineHold),
		Serve:           serveText(unless(d.Serve, ServeSegment)),
	}
	if raw.Probe = probeText(durationUnless(d.Probe, DefaultProbe)); d.Probe == 0 {
		raw.Probe = off
	}
	of := defaultTimers(d.Lease)
	raw.T1, raw.T2 = durationUnless(d.T1, of.t1), durationUnless(d.T2, of.t2)
	switch {
	case d.MTU.Off:
		raw.MTU = off
	case d.MTU.Value != 0:
		raw.MTU = dhcpMTUText(strconv.Itoa(int(d.MTU.Value)))
	}
	written := d.Ranges
	if slices.Equal(d.Ranges, without(without(usable(d.Subnet), d.Server), d.Gateway)) {
		written = nil
	} else {
		raw.Ranges = rangeTexts[rangeText](d.Ranges)
	}
	if d.Server != defaultServer(d, written) {
		raw.Server = ipv4Text(d.Server.String())
	}
	raw.Routes = rawRoutesOf(d.Routes)
	for _, h := range d.Hosts {
		raw.Hosts = append(raw.Hosts, rawHost{
			MAC: macText(h.MAC.String()), ClientID: hexText(hex.EncodeToString(h.ClientID)), Port: ifnameText(h.Port),
			IP: ipv4Text(h.IP.String()), Hostname: domainText(h.Hostname), Options: rawOptionsOf(h.Options),
			NextServer: ipv4Text(addrString(h.NextServer)), BootFile: h.BootFile,
		})
	}
	for i := range d.Relays {
		raw.Relays = append(raw.Relays, rawRelayOf(&d.Relays[i], d))
	}
	for i := range d.Classes {
		raw.Classes = append(raw.Classes, rawClassOf(&d.Classes[i]))
	}
	return raw
}

func rawRoutesOf(list []Route) []rawRoute {
	var out []rawRoute
	for _, r := range list {
		out = append(out, rawRoute{To: prefixText(r.To.String()), Via: ipv4Text(r.Via.String())})
	}
	return out
}

func rawRelayOf(r *Relay, main *DHCP) rawRelay {
	raw := rawRelay{
		Subnet: prefixText(r.Subnet.String()), Gateway: ipv4Text(addrString(r.Gateway)),
		DNS: ipv4Texts(r.DNS), Domain: domainText(r.Domain), MTU: int64(r.MTU), Routes: rawRoutesOf(r.Routes),
		Options: rawOptionsOf(r.Options), Lease: durationUnless(r.Lease, main.Lease),
		NextServer: ipv4Text(addrString(r.NextServer)), BootFile: r.BootFile,
	}
	of := timers{main.Lease, main.T1, main.T2}
	if raw.Lease != "" {
		of = defaultTimers(r.Lease)
	}
	raw.T1, raw.T2 = durationUnless(r.T1, of.t1), durationUnless(r.T2, of.t2)
	if !slices.Equal(r.Ranges, without(usable(r.Subnet), r.Gateway)) {
		raw.Ranges = rangeTexts[rangeText](r.Ranges)
	}
	return raw
}

func rawClassOf(c *Class) rawClass {
	raw := rawClass{Options: rawOptionsOf(c.Options), NextServer: ipv4Text(addrString(c.NextServer)), BootFile: c.BootFile}
	switch c.By {
	case ByVendor:
		raw.Vendor = c.Match
	case ByUser:
		raw.User = c.Match
	case ByHostname:
		raw.Hostname = c.Match
	case ByCircuitID:
		raw.CircuitID = c.Match
		if !isText(c.Match) || strings.HasPrefix(c.Match, "0x") {
			raw.CircuitID = "0x" + hex.EncodeToString([]byte(c.Match))
		}
	case ByArch:
		n := int64(c.Arch)
		raw.Arch = &n
	}
	return raw
}

func rawOptionsOf(list []Option) []rawOption {
	var out []rawOption
	for _, o := range list {
		raw := rawOption{Code: int64(o.Code)}
		switch o.Form {
		case FormIP:
			texts := ipv4Texts(addressesOf(o.Data, 4))
			raw.IP = &texts
		case FormText:
			text := string(o.Data)
			raw.Text = &text
		case FormNumber:
			n := numberOf(o.Data, layoutOf(raw.Code))
			raw.Number = &n
		default:
			text := hexText(hex.EncodeToString(o.Data))
			raw.Hex = &text
		}
		out = append(out, raw)
	}
	return out
}

// unless is v, or zero where v is the default.
func unless[T comparable](v, byDefault T) T {
	if v == byDefault {
		var zero T
		return zero
	}
	return v
}

func falseOnly(v bool) *bool {
	if v {
		return nil
	}
	return &v
}

func durationUnless(d, byDefault time.Duration) durationText {
	if d == byDefault {
		return ""
	}
	return durationText(durationString(d))
}

func numberOrInherit(n uint8, isWord bool) string {
	if isWord {
		return inherit
	}
	return strconv.Itoa(int(n))
}

func addrString(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

func ipv4Texts(list []netip.Addr) []ipv4Text {
	var out []ipv4Text
	for _, a := range list {
		out = append(out, ipv4Text(a.String()))
	}
	return out
}

func rangeTexts[T ~string](list []Range) *[]T {
	out := []T{}
	for _, r := range list {
		out = append(out, T(r.String()))
	}
	return &out
}
