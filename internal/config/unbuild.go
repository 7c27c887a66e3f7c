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
			Local:    addrText(validString(u.Local)),
			Port:     unless(int64(u.Port), DefaultPort),
			Device:   ifnameText(u.Device),
			Accept:   acceptText(unless(u.Accept, AcceptPeers)),
			Checksum: falseOnly(u.Checksum),
			DF:       dfText(unless(u.DF, DFSet)),
			Fragment: u.Fragment,
			ZeroSum6: u.ZeroSum6,
			GBP:      u.GBP,
			Strict:   u.Strict,
		},
		Workers: int64(c.Workers),
		Offload: rawOffloadOf(c.Offload),
		State:   unless(c.State, DefaultState),
		MaxMACs: int64(c.MaxMACs),
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
	raw.Underlay.SourcePorts = rawSourcePortsOf(u)
	if c.API.SocketExplicit {
		raw.API.Socket = c.API.Socket
	}
	if c.API.HTTPExplicit {
		raw.API.HTTP = &c.API.HTTP
	}
	for i := range c.Segments {
		raw.Segments = append(raw.Segments, rawSegmentOf(&c.Segments[i]))
	}
	for i := range c.Trunks {
		raw.Trunks = append(raw.Trunks, rawTrunkOf(&c.Trunks[i]))
	}
	for i := range c.Pairs {
		raw.Pairs = append(raw.Pairs, rawPairOf(&c.Pairs[i]))
	}
	return raw
}

func rawOffloadOf(o Offload) rawOffload {
	if o == (Offload{}) {
		return rawOffload{All: off}
	}
	return rawOffload{TUNGSO: falseOnly(o.TUNGSO), TUNGRO: falseOnly(o.TUNGRO), UDPGSO: falseOnly(o.UDPGSO), UDPGRO: falseOnly(o.UDPGRO)}
}

func rawSourcePortsOf(u *Underlay) rawSourcePorts {
	var raw rawSourcePorts
	sp := u.SourcePorts
	if sp.Low != DefaultSourceLow || sp.High != DefaultSourceHigh {
		raw.Range = portRangeText(fmt.Sprintf("%d-%d", sp.Low, sp.High))
	}
	raw.Count = unless(int64(sp.Count), int64(min(DefaultSourceCount, sp.room(u.DF))))
	return raw
}

func rawSegmentOf(s *Segment) rawSegment {
	raw := rawSegment{
		VNI:      int64(s.VNI),
		Name:     nameText(unless(s.Name, fmt.Sprintf("vni%d", s.VNI))),
		MTU:      int64(s.MTU),
		Group:    addrText(validString(s.Group)),
		Device:   ifnameText(s.Device),
		Learning: falseOnly(s.Learning),
		MaxMACs:  unless(int64(s.MaxMACs), DefaultMaxMACs),
		Ageing:   durationUnless(s.Ageing, DefaultAgeing),

		MACMovesWithin: durationUnless(s.Moves.Within, DefaultMovesWithin),
	}
	if s.Moves.N != DefaultMACMoves {
		n := int64(s.Moves.N)
		raw.MACMoves = &n
	}
	raw.Peers = addrTexts(s.Peers)
	for _, k := range s.Suppress {
		raw.Suppress = append(raw.Suppress, suppressText(k))
	}
	for _, e := range s.FDB {
		raw.FDB = append(raw.FDB, rawStatic{
			MAC: macText(e.MAC.String()), Dst: addrText(validString(e.Dst)), Port: portNameText(e.Port), IPs: addrTexts(e.IPs),
		})
	}
	for _, p := range s.Ports {
		raw.Ports = append(raw.Ports, rawPortOf(p))
	}
	for _, m := range s.ProtectedMACs {
		raw.ProtectedMACs = append(raw.ProtectedMACs, macText(m.String()))
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

func addrTexts(all []netip.Addr) (out []addrText) {
	for _, a := range all {
		out = append(out, addrText(a.String()))
	}
	return out
}

func rawPortOf(p Port) rawPort {
	raw := rawPort{
		TAP: ifnameText(p.TAP), Stream: p.Stream, NIC: ifnameText(p.NIC), NetNS: p.NetNS, Rename: ifnameText(p.Rename), MAC: macText(p.MAC.String()),
		Bridge: ifnameText(p.Bridge), Isolated: p.Isolated, MaxMACs: int64(p.MaxMACs),
		MaxLeases: int64(p.MaxLeases), DHCPRate: int64(p.DHCPRate), DHCPCheckMAC: p.DHCPCheckMAC,
		Storm: rawStorm{int64(p.Storm.Broadcast), int64(p.Storm.Multicast), int64(p.Storm.Unknown)},
		GBP:   int64(p.GBP),
		Bind:  bindText(unless(p.Bind, BindNone)), Trusted: p.Trusted,
	}
	for _, id := range p.GBPAllow {
		raw.GBPAllow = append(raw.GBPAllow, int64(id))
	}
	for _, a := range p.Addresses {
		raw.Addresses = append(raw.Addresses, rawAddress{macText(a.MAC.String()), addrOrPrefixText(short(a.IP))})
	}
	return raw
}

func rawDHCPOf(d *DHCP) *rawDHCP {
	raw := &rawDHCP{
		Subnet:          prefixText(d.Subnet.String()),
		Gateway:         ipv4Text(validString(d.Gateway)),
		DNS:             textsOf[ipv4Text](d.DNS),
		Domain:          domainText(d.Domain),
		Lease:           durationUnless(d.Lease, DefaultLease),
		Options:         rawOptionsOf(d.Options),
		Authoritative:   d.Authoritative,
		SubnetSelection: d.SubnetSelection,
		RapidCommit:     d.RapidCommit,
		BOOTP:           d.BOOTP,
		NextServer:      ipv4Text(validString(d.NextServer)),
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
		raw.Ranges = explicit(textsOf[rangeText](d.Ranges))
	}
	if d.Server != defaultServer(d, written) {
		raw.Server = ipv4Text(d.Server.String())
	}
	raw.Routes = rawRoutesOf(d.Routes)
	for _, h := range d.Hosts {
		raw.Hosts = append(raw.Hosts, rawHost{
			MAC: macText(h.MAC.String()), ClientID: hexText(hex.EncodeToString(h.ClientID)), Port: portNameText(h.Port),
			IP: ipv4Text(h.IP.String()), Hostname: domainText(h.Hostname), Options: rawOptionsOf(h.Options),
			NextServer: ipv4Text(validString(h.NextServer)), BootFile: h.BootFile,
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
		Subnet: prefixText(r.Subnet.String()), Gateway: ipv4Text(validString(r.Gateway)),
		DNS: textsOf[ipv4Text](r.DNS), Domain: domainText(r.Domain), MTU: int64(r.MTU), Routes: rawRoutesOf(r.Routes),
		Options: rawOptionsOf(r.Options), Lease: durationUnless(r.Lease, main.Lease),
		NextServer: ipv4Text(validString(r.NextServer)), BootFile: r.BootFile,
	}
	of := timers{main.Lease, main.T1, main.T2}
	if raw.Lease != "" {
		of = defaultTimers(r.Lease)
	}
	raw.T1, raw.T2 = durationUnless(r.T1, of.t1), durationUnless(r.T2, of.t2)
	if !slices.Equal(r.Ranges, without(usable(r.Subnet), r.Gateway)) {
		raw.Ranges = explicit(textsOf[rangeText](r.Ranges))
	}
	return raw
}

func rawClassOf(c *Class) rawClass {
	raw := rawClass{Options: rawOptionsOf(c.Options), NextServer: ipv4Text(validString(c.NextServer)), BootFile: c.BootFile}
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
		v := optionTextOf(o, 4, layoutOf(int64(o.Code)))
		out = append(out, rawOption{int64(o.Code), texts[ipv4Text](v.ip), v.text, v.hex, v.number})
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

// validString is v, or nothing where it is the zero address or prefix.
func validString[T interface {
	IsValid() bool
	String() string
}](v T) string {
	if !v.IsValid() {
		return ""
	}
	return v.String()
}

// textsOf are values as texts of one kind.
func textsOf[To ~string, From fmt.Stringer](list []From) []To {
	var out []To
	for _, v := range list {
		out = append(out, To(v.String()))
	}
	return out
}

// texts are texts of another kind.
func texts[To, From ~string](list []From) []To {
	var out []To
	for _, v := range list {
		out = append(out, To(v))
	}
	return out
}

// explicit is a list that is written even where it is empty.
func explicit[T any](list []T) *[]T {
	list = append([]T{}, list...)
	return &list
}
