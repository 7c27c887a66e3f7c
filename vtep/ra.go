package vtep

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"time"

	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/frame"
)

// RAConfig asks for router advertisements in a segment (RFC 4861 section 6.2).
// Each VTEP of a segment that is asked to advertises on its own; guests take
// what all of them say together.
type RAConfig struct {
	Managed, Other bool       // the M and the O flag
	Prefixes       []RAPrefix // option 3
	DNS            []netip.Addr
	Search         []string
	MTU            int           // option 5; 0 = the segment's, negative = not sent
	Lifetime       time.Duration // as a default router; 0 = not one
	Interval       time.Duration // longest time between two; 0 = 10 min
}

// RAPrefix is a prefix that is announced.
type RAPrefix struct {
	Prefix             netip.Prefix
	OnLink, Autonomous bool          // the L and the A flag
	Valid, Preferred   time.Duration // 0 = 30 days and 7 days
}

// Defaults and bounds (RFC 4861 sections 6.2.1 and 10, RFC 8319 section 4).
const (
	defaultRAInterval = 10 * time.Minute
	minRAInterval     = 4 * time.Second
	maxRAInterval     = 30 * time.Minute
	maxRALifetime     = math.MaxUint16 * time.Second
	defaultValid      = 30 * 24 * time.Hour
	defaultPreferred  = 7 * 24 * time.Hour

	minIPv6MTU = 1280 // RFC 8200 section 5
)

// withDefaults fills in what was left zero.
func (c RAConfig) withDefaults() RAConfig {
	if c.Interval == 0 {
		c.Interval = defaultRAInterval
	}
	prefixes := make([]RAPrefix, len(c.Prefixes))
	for i, p := range c.Prefixes {
		if p.Valid == 0 {
			p.Valid = defaultValid
		}
		if p.Preferred == 0 {
			p.Preferred = min(defaultPreferred, p.Valid)
		}
		prefixes[i] = p
	}
	c.Prefixes = prefixes
	return c
}

// check says what is wrong with it, in a segment of that MTU.
func (c RAConfig) check(mtu int) error {
	c = c.withDefaults()
	switch {
	case c.Interval < minRAInterval || c.Interval > maxRAInterval:
		return fmt.Errorf("the interval %v of router advertisements is outside %v..%v", c.Interval, minRAInterval, maxRAInterval)
	case c.Lifetime != 0 && (c.Lifetime < c.Interval || c.Lifetime > maxRALifetime):
		return fmt.Errorf("the lifetime %v of a router is neither 0 nor between the interval, %v, and %v", c.Lifetime, c.Interval, maxRALifetime)
	case c.MTU > 0 && (c.MTU < minIPv6MTU || c.MTU > mtu):
		return fmt.Errorf("the MTU %d of router advertisements is outside %d..%d", c.MTU, minIPv6MTU, mtu)
	}
	for _, p := range c.Prefixes {
		a := p.Prefix.Addr()
		switch {
		case !p.Prefix.IsValid() || !a.Is6() || a.Is4In6() || a.IsMulticast() || a.IsLinkLocalUnicast() || p.Prefix != p.Prefix.Masked():
			return fmt.Errorf("%v is no IPv6 prefix that can be announced", p.Prefix)
		case p.Preferred < 0 || p.Preferred > p.Valid:
			return fmt.Errorf("prefix %v: it is preferred for %v and valid for %v: preferred for longer than valid", p.Prefix, p.Preferred, p.Valid)
		}
	}
	for _, a := range c.DNS {
		if !a.Is6() || a.Is4In6() || a.IsMulticast() || a.IsUnspecified() {
			return fmt.Errorf("the DNS server %v of router advertisements is not a unicast IPv6 address", a)
		}
	}
	names := 0 // bytes
	for _, name := range c.Search {
		b, err := appendName(nil, name)
		if err != nil {
			return err
		}
		names += len(b)
	}
	const longest = 255*8 - 8 // of what an option carries behind its lifetime
	if 16*len(c.DNS) > longest || names > longest {
		return fmt.Errorf("%d DNS servers and search domains of %d bytes are more than router advertisements can carry: announce less", len(c.DNS), names)
	}
	if n := ipv6Len + len(c.message(mtu, 0, false)); n > mtu {
		return fmt.Errorf("router advertisements of %d bytes do not fit the MTU %d: announce less", n, mtu)
	}
	return nil
}

// Options of router advertisements (RFC 4861 section 4.6, RFC 8106 section 5).
const (
	optionPrefix = 3
	optionMTU    = 5
	optionRDNSS  = 25
	optionDNSSL  = 31
)

// message is the advertisement (RFC 4861 section 4.2), its checksum zero; the
// last one of a router that goes says that it is none any more, and no way to
// its DNS servers. Defaults are filled in.
func (c RAConfig) message(mtu int, mac fdb.MAC, last bool) []byte {
	const hopLimit = 64
	const managed, other = 0x80, 0x40
	m := make([]byte, 16, 128)
	m[0], m[4] = frame.RouterAdvertisement, hopLimit
	if c.Managed {
		m[5] |= managed
	}
	if c.Other {
		m[5] |= other
	}
	life := 3 * c.Interval // of DNS servers and search lists (RFC 8106 section 5.1)
	if last {
		life = 0
	} else {
		binary.BigEndian.PutUint16(m[6:], uint16(c.Lifetime/time.Second))
	}
	hw := mac.Bytes()
	m = append(append(m, frame.OptionSourceMAC, 1), hw[:]...)
	if c.MTU != 0 {
		mtu = c.MTU
	}
	if mtu >= minIPv6MTU {
		m = binary.BigEndian.AppendUint32(append(m, optionMTU, 1, 0, 0), uint32(mtu))
	}
	for _, p := range c.Prefixes {
		m = p.append(m)
	}
	if len(c.DNS) > 0 {
		m = append(m, optionRDNSS, byte(1+2*len(c.DNS)), 0, 0)
		m = binary.BigEndian.AppendUint32(m, seconds32(life))
		for _, a := range c.DNS {
			b := a.As16()
			m = append(m, b[:]...)
		}
	}
	if len(c.Search) > 0 {
		at := len(m)
		m = append(m, optionDNSSL, 0, 0, 0)
		m = binary.BigEndian.AppendUint32(m, seconds32(life))
		for _, name := range c.Search {
			m, _ = appendName(m, name) // which check has read
		}
		for len(m)%8 != 0 {
			m = append(m, 0)
		}
		m[at+1] = byte((len(m) - at) / 8)
	}
	return m
}

// append appends the prefix as an option (RFC 4861 section 4.6.2).
func (p RAPrefix) append(m []byte) []byte {
	const onLink, autonomous = 0x80, 0x40
	flags := byte(0)
	if p.OnLink {
		flags |= onLink
	}
	if p.Autonomous {
		flags |= autonomous
	}
	m = append(m, optionPrefix, 4, byte(p.Prefix.Bits()), flags)
	m = binary.BigEndian.AppendUint32(m, seconds32(p.Valid))
	m = binary.BigEndian.AppendUint32(m, seconds32(p.Preferred))
	a := p.Prefix.Addr().As16()
	return append(append(m, 0, 0, 0, 0), a[:]...)
}

// seconds32 is a lifetime on the wire: what does not fit lasts for ever.
func seconds32(d time.Duration) uint32 { return uint32(min(d/time.Second, math.MaxUint32)) }

// appendName appends a domain name as DNS writes it, without compression (RFC
// 1035 section 3.1).
func appendName(b []byte, name string) ([]byte, error) {
	const longestLabel, longestName = 63, 253
	text := strings.TrimSuffix(name, ".")
	for label := range strings.SplitSeq(text, ".") {
		if label == "" || len(label) > longestLabel || len(text) > longestName {
			return b, fmt.Errorf("%q is no domain name", name)
		}
		b = append(append(b, byte(len(label))), label...)
	}
	return append(b, 0), nil
}
