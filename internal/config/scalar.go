package config

import (
	"encoding/hex"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

var (
	nameForm     = regexp.MustCompile(namePattern)
	domainForm   = regexp.MustCompile(domainPattern)
	hexForm      = regexp.MustCompile(hexPattern)
	durationForm = regexp.MustCompile(durationPattern)
)

// The functions of this file turn one raw value into its type. A value that is
// missing or has had its fault yields the default, or zero and false.

func (s *source) integer(p path, v, lo, hi, byDefault int64) int64 {
	if !s.has(p) {
		return byDefault
	}
	if v < lo || v > hi {
		s.fault(p, "%d is outside %d..%d", v, lo, hi)
		return byDefault
	}
	return v
}

func (s *source) boolean(v *bool, byDefault bool) bool {
	if v == nil {
		return byDefault
	}
	return *v
}

// integerOr parses a number that may also be a word; isWord tells which it was.
func (s *source) integerOr(p path, text numberOrWord, v string, lo, hi int64) (n int64, isWord, ok bool) {
	if !s.has(p) {
		return 0, false, false
	}
	if v == text.word() {
		return 0, true, true
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || !decimal.MatchString(v) {
		s.fault(p, "%q is neither a number nor %s", v, text.word())
		return 0, false, false
	}
	if n < lo || n > hi {
		s.fault(p, "%d is outside %d..%d", n, lo, hi)
		return 0, false, false
	}
	return n, false, true
}

func oneOf[T ~string](s *source, p path, c choice, v string, byDefault T) T {
	if !s.has(p) {
		return byDefault
	}
	words := c.words()
	if slices.Contains(words, v) {
		return T(v)
	}
	hint := ""
	if meant := suggest(v, words); meant != "" {
		hint = "; did you mean " + meant + "?"
	}
	s.fault(p, "%q is none of %s%s", v, strings.Join(words, ", "), hint)
	return byDefault
}

func (s *source) addr(p path, v string) (netip.Addr, bool) {
	if !s.has(p) {
		return netip.Addr{}, false
	}
	a, err := netip.ParseAddr(v)
	switch {
	case err != nil:
		s.fault(p, "%q is not an IP address", v)
	case a.Zone() != "":
		s.fault(p, "%s has a zone: leave it out", v)
	case a.Is4In6():
		s.fault(p, "%s is an IPv4 address in disguise: write %s", v, a.Unmap())
	default:
		return a, true
	}
	return netip.Addr{}, false
}

func (s *source) ipv4(p path, v ipv4Text) (netip.Addr, bool) { return s.ofFamily(p, string(v), v4) }
func (s *source) ipv6(p path, v ipv6Text) (netip.Addr, bool) { return s.ofFamily(p, string(v), v6) }

func (s *source) ofFamily(p path, v string, f family) (netip.Addr, bool) {
	a, ok := s.addr(p, v)
	if ok && a.Is6() != bool(f) {
		s.fault(p, "%s is not an %s address", a, f)
		return netip.Addr{}, false
	}
	return a, ok
}

// host4 is an IPv4 address that a machine can have.
func (s *source) host4(p path, v ipv4Text) (netip.Addr, bool) {
	a, ok := s.ipv4(p, v)
	return a, ok && s.isHost(p, a)
}

func (s *source) isHost(p path, a netip.Addr) bool {
	if a.IsUnspecified() || a.IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		s.fault(p, "%s is no machine's address", a)
		return false
	}
	return true
}

// hosts parses a list of machines' addresses that goes into one option, of which
// none may be twice.
func hosts[T ~string](s *source, p path, list []T, f family) []netip.Addr {
	var out []netip.Addr
	for i, v := range list {
		a, ok := s.ofFamily(p.index(i), string(v), f)
		if !ok || !s.isHost(p.index(i), a) {
			continue
		}
		if slices.Contains(out, a) {
			s.fault(p.index(i), "%s is listed twice", a)
			continue
		}
		out = append(out, a)
	}
	if len(out) > 0 {
		if size := len(out) * out[0].BitLen() / 8; size > maxOption {
			s.fault(p, "take %d bytes; an option has at most %d", size, maxOption)
		}
	}
	return out
}

func (s *source) prefix4(p path, v prefixText) (netip.Prefix, bool) {
	return s.prefix(p, string(v), v4)
}

// prefix6 parses an IPv6 prefix that machines can have addresses of.
func (s *source) prefix6(p path, v prefix6Text) (netip.Prefix, bool) {
	n, ok := s.prefix(p, string(v), v6)
	if a := n.Addr(); ok && (a.IsMulticast() || a.IsLinkLocalUnicast() || a.IsLoopback() || a.IsUnspecified()) {
		s.fault(p, "%s is not for machines", n)
		return netip.Prefix{}, false
	}
	return n, ok
}

func (s *source) prefix(p path, v string, f family) (netip.Prefix, bool) {
	if !s.has(p) {
		return netip.Prefix{}, false
	}
	n, err := netip.ParsePrefix(v)
	switch {
	case err != nil:
		s.fault(p, "%q is not a prefix such as %s", v, f.of("192.168.100.0/24", "2001:db8:100::/64"))
	case n.Addr().Is6() != bool(f) || n.Addr().Is4In6():
		s.fault(p, "%s is not an %s prefix", n, f)
	case n != n.Masked():
		s.fault(p, "%s has host bits: %s is its prefix", n, n.Masked())
	default:
		return n, true
	}
	return netip.Prefix{}, false
}

// mac parses a unicast hardware address of six bytes.
func (s *source) mac(p path, v macText) (net.HardwareAddr, bool) {
	if !s.has(p) {
		return nil, false
	}
	m, err := net.ParseMAC(string(v))
	switch {
	case err != nil || len(m) != 6 || strings.ContainsRune(string(v), '.') || strings.ContainsRune(string(v), '-'):
		s.fault(p, "%q is not a hardware address such as 02:00:00:00:00:01", string(v))
	case m[0]&1 != 0:
		s.fault(p, "%s is a group address, no machine's", m)
	case slices.Equal(m, net.HardwareAddr{0, 0, 0, 0, 0, 0}):
		s.fault(p, "is the zero address")
	default:
		return m, true
	}
	return nil, false
}

// duration parses a duration, whole in its unit.
func (s *source) duration(p path, v durationText, lo, hi, unit, byDefault time.Duration) time.Duration {
	if !s.has(p) {
		return byDefault
	}
	d, err := time.ParseDuration(string(v))
	switch {
	case err != nil || !durationForm.MatchString(string(v)):
		s.fault(p, "%q is not a duration such as 90s, 15m or 12h", string(v))
	case d < lo || d > hi:
		s.fault(p, "%s is outside %s..%s", durationString(d), durationString(lo), durationString(hi))
	case d%unit != 0:
		s.fault(p, "%s is not a whole number of %s", v, durationString(unit))
	default:
		return d
	}
	return byDefault
}

// ifname parses the name of an interface as the kernel takes it. A percent sign
// is refused too: to a TAP it means a number of the kernel's choice.
func (s *source) ifname(p path, v ifnameText) (string, bool) {
	if !s.has(p) {
		return "", false
	}
	bad := strings.IndexFunc(string(v), func(r rune) bool {
		return r <= ' ' || r > '~' || strings.ContainsRune("/:%", r)
	})
	switch {
	case v == "":
		s.fault(p, "is empty")
	case len(v) > 15:
		s.fault(p, "%q has %d characters; an interface name has at most 15", string(v), len(v))
	case v == "." || v == "..":
		s.fault(p, "%q is not an interface name", string(v))
	case bad >= 0:
		s.fault(p, "%q cannot be in an interface name", []rune(string(v[bad:]))[0])
	default:
		return string(v), true
	}
	return "", false
}

func (s *source) domain(p path, v domainText) string {
	if !s.has(p) {
		return ""
	}
	if len(v) > 253 || !domainForm.MatchString(string(v)) ||
		slices.ContainsFunc(strings.Split(string(v), "."), func(l string) bool { return len(l) > 63 }) {
		s.fault(p, "%q is not a domain name", string(v))
		return ""
	}
	return string(v)
}

func (s *source) hex(p path, v hexText) ([]byte, bool) { return s.hexAfter(p, "", string(v)) }

// hexAfter parses what follows mark.
func (s *source) hexAfter(p path, mark, text string) ([]byte, bool) {
	if !s.has(p) {
		return nil, false
	}
	if strings.Contains(text, ":") && !hexForm.MatchString(text) {
		s.fault(p, "%q is not hexadecimal", mark+text)
		return nil, false
	}
	data, err := hex.DecodeString(strings.ReplaceAll(text, ":", ""))
	if err != nil {
		s.fault(p, "%q is not hexadecimal, two digits a byte", mark+text)
		return nil, false
	}
	return data, true
}

// nonEmpty is a text that says something.
func (s *source) nonEmpty(p path, v, byDefault string) string {
	if !s.has(p) {
		return byDefault
	}
	if v == "" {
		s.fault(p, "is empty: give it a value, or leave the key out")
		return byDefault
	}
	return v
}

// durationString is d without the zero units that time.Duration prints.
func durationString(d time.Duration) string {
	t := strings.ReplaceAll(d.String(), "µ", "u")
	if d == 0 || d%time.Second != 0 {
		return t
	}
	if strings.HasSuffix(t, "m0s") {
		t = strings.TrimSuffix(t, "0s")
	}
	if strings.HasSuffix(t, "h0m") {
		t = strings.TrimSuffix(t, "0m")
	}
	return t
}
