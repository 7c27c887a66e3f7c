package config

import (
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// config turns the raw file into its typed form, noting every fault on the way.
func (s *source) config(raw *rawConfig) *Config {
	c := &Config{
		Underlay: s.underlay("underlay", &raw.Underlay),
		Workers:  int(s.integer("workers", raw.Workers, 0, 1024, 0)),
		Offload:  s.offload("offload", &raw.Offload),
		BusyPoll: s.duration("busy_poll", raw.BusyPoll, 0, 10*time.Millisecond, time.Microsecond, DefaultBusyPoll),
		State:    s.nonEmpty("state", raw.State, DefaultState),
		API:      s.api("api", &raw.API),
		MaxMACs:  int(s.integer("max_macs", raw.MaxMACs, 0, 1<<24, 0)),
	}
	for i := range raw.Trunks {
		c.Trunks = append(c.Trunks, s.trunk(path("trunks").index(i), &raw.Trunks[i]))
	}
	for i := range raw.Pairs {
		c.Pairs = append(c.Pairs, s.pair(path("pairs").index(i), &raw.Pairs[i]))
	}
	s.shared = sharedPorts(c)
	for i := range raw.Segments {
		c.Segments = append(c.Segments, s.segment(path("segments").index(i), &raw.Segments[i], &c.Underlay))
	}
	s.across(c)
	return c
}

// auto is the word for whatever the kernel can.
const auto = "auto"

func (s *source) offload(p path, raw *rawOffload) Offload {
	if raw.All != "" && oneOf(s, p, raw.All, string(raw.All), auto) == off {
		return Offload{}
	}
	return Offload{
		TUNGSO: s.boolean(raw.TUNGSO, true), TUNGRO: s.boolean(raw.TUNGRO, true),
		UDPGSO: s.boolean(raw.UDPGSO, true), UDPGRO: s.boolean(raw.UDPGRO, true),
	}
}

func (s *source) underlay(p path, raw *rawUnderlay) Underlay {
	u := Underlay{
		Port:     uint16(s.integer(p.key("port"), raw.Port, 1, 65535, DefaultPort)),
		Accept:   oneOf(s, p.key("accept"), raw.Accept, string(raw.Accept), AcceptPeers),
		Checksum: s.boolean(raw.Checksum, true),
		TTL:      TTL{Value: DefaultTTL},
		TOS:      TOS{Inherit: true},
		DF:       oneOf(s, p.key("df"), raw.DF, string(raw.DF), DFSet),
		Fragment: raw.Fragment,
		ZeroSum6: raw.ZeroSum6,
		GBP:      raw.GBP,
		Strict:   raw.Strict,
	}
	if u.Fragment {
		if s.has(p.key("df")) && u.DF != DFClear {
			s.fault(p.key("fragment"), "what may be fragmented has no DF flag: %s cannot be %s", s.other(p.key("df")), u.DF)
		}
		u.DF = DFClear
	}
	u.Device, _ = s.ifname(p.key("device"), raw.Device)
	s.missing(p.key("local"), "this VTEP's address is needed, such as 10.9.0.1")
	if a, ok := s.addr(p.key("local"), string(raw.Local)); ok {
		switch {
		case a.IsUnspecified():
			s.fault(p.key("local"), "%s is no address of a host: name one of this host's", a)
		case a.IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
			s.fault(p.key("local"), "%s is a group's address: name one of this host's", a)
		default:
			u.Local = a
		}
	}
	if n, word, ok := s.integerOr(p.key("ttl"), raw.TTL, string(raw.TTL), 1, 255); ok {
		u.TTL = TTL{Inherit: word, Value: uint8(n)}
	}
	if n, word, ok := s.integerOr(p.key("tos"), raw.TOS, string(raw.TOS), 0, 255); ok {
		if n&3 != 0 {
			s.fault(p.key("tos"), "%d sets the two ECN bits, which follow RFC 6040: %d is without them", n, n&^3)
		}
		u.TOS = TOS{Inherit: word, Value: uint8(n)}
	}
	u.SourcePorts = s.sourcePorts(p.key("source_ports"), &raw.SourcePorts, u.DF)
	return u
}

func (s *source) sourcePorts(p path, raw *rawSourcePorts, df DF) SourcePorts {
	out := SourcePorts{Low: DefaultSourceLow, High: DefaultSourceHigh}
	if at := p.key("range"); s.has(at) {
		lo, hi, _ := strings.Cut(string(raw.Range), "-")
		low, err1 := strconv.ParseUint(lo, 10, 16)
		high, err2 := strconv.ParseUint(hi, 10, 16)
		switch {
		case err1 != nil || err2 != nil || low == 0 || !decimal.MatchString(lo) || !decimal.MatchString(hi):
			s.fault(at, "%q is not a range of ports such as 49152-65535", string(raw.Range))
		case low > high:
			s.fault(at, "%s ends before it begins", raw.Range)
		default:
			out.Low, out.High = uint16(low), uint16(high)
		}
	}
	most := out.room(df)
	out.Count = int(s.integer(p.key("count"), raw.Count, 1, 256, int64(min(DefaultSourceCount, most))))
	switch {
	case df == DFInherit && most == 0:
		s.fault(p.key("range"), "one source port is too few: %s needs one for packets with the flag and one for those without", s.other("underlay.df"))
	case df == DFInherit && out.Count > most:
		s.fault(p.key("count"), "twice %d source ports, for packets with the flag and for those without as %s needs them, do not fit in %d-%d",
			out.Count, s.other("underlay.df"), out.Low, out.High)
	case out.Count > most:
		s.fault(p.key("count"), "%d source ports do not fit in %d-%d", out.Count, out.Low, out.High)
	}
	return out
}

// room is how many source ports there can be: with DFInherit, flows are spread
// over as many for packets with the flag as for those without.
func (p SourcePorts) room(df DF) int {
	n := int(p.High-p.Low) + 1
	if df == DFInherit {
		n /= 2
	}
	return n
}

func (s *source) api(p path, raw *rawAPI) API {
	a := API{
		Socket:         s.nonEmpty(p.key("socket"), raw.Socket, DefaultSocket),
		SocketExplicit: s.has(p.key("socket")),
		HTTP:           DefaultHTTP,
		HTTPExplicit:   s.has(p.key("http")),
	}
	if len(a.Socket) > 107 {
		s.fault(p.key("socket"), "has %d bytes; a unix socket's path has at most 107", len(a.Socket))
	}
	if !a.HTTPExplicit {
		return a
	}
	a.HTTP = *raw.HTTP
	if a.HTTP == "" {
		return a
	}
	switch at, err := netip.ParseAddrPort(a.HTTP); {
	case err != nil:
		s.fault(p.key("http"), "%q is not an address and port such as %s; \"\" is off", a.HTTP, DefaultHTTP)
	case !at.Addr().IsLoopback():
		s.fault(p.key("http"), "%s is not a loopback address: the HTTP API has no passwords and stays on the host", at.Addr())
	}
	return a
}
