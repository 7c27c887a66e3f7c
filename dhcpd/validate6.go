package dhcpd

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
)

// withDefaults fills in what was left zero (RFC 8415 sections 14.2 and 21.4 for
// the proportions of T1 and T2), in whole seconds.
func (c SegmentConfig6) withDefaults() SegmentConfig6 {
	or := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
		*d = d.Truncate(time.Second)
	}
	or(&c.Lease, DefaultLease)
	or(&c.Preferred, c.Lease/8*5)
	switch {
	case c.T1 == 0 && c.T2 != 0:
		c.T1 = c.T2 / 8 * 5
	case c.T2 == 0 && c.T1 != 0:
		c.T2 = c.T1 + (c.Preferred-c.T1)/5*3
	}
	or(&c.T1, c.Preferred/2)
	or(&c.T2, c.Preferred/5*4)
	or(&c.OfferHold, DefaultOfferHold)
	or(&c.DeclineHold, DefaultDeclineHold)
	if c.MaxOffers == 0 {
		c.MaxOffers = DefaultMaxOffers
	}
	return c
}

// Validate says everything that is wrong with the configuration, in the order
// of its keys; nothing when it can be served. Delegations are the key prefixes.
func (c SegmentConfig6) Validate() []Fault {
	var f faults
	c = c.withDefaults()
	if c.validateSubnet(&f) {
		c.validateServer(&f)
		checkRanges(&f, "", c.Ranges, c.Subnet)
		c.validateDelegations(&f)
	}
	if c.DUID != nil && (len(c.DUID) < minDUID || len(c.DUID) > maxDUID) {
		f.add("duid", "%d bytes are outside %d..%d", len(c.DUID), minDUID, maxDUID)
	}
	for i, d := range c.DNS {
		if !d.Is6() || d.Is4In6() || d.IsUnspecified() || d.IsMulticast() {
			f.add(fmt.Sprintf("dns[%d]", i), "%s is not an IPv6 address of a server", d)
		}
	}
	for i, n := range c.Search {
		if !isDomain(n) {
			f.add(fmt.Sprintf("search[%d]", i), "%q is not a domain name", n)
		}
	}
	switch {
	case c.Lease < MinLease || c.Lease > MaxLease:
		f.add("lease", "%s is outside %s..%s", c.Lease, MinLease, MaxLease)
	case c.Preferred < time.Second || c.Preferred > c.Lease:
		f.add("preferred", "%s is not between 0 and the lease (%s)", c.Preferred, c.Lease)
	case c.T1 < time.Second || c.T1 > c.T2:
		f.add("t1", "%s is not between 0 and t2 (%s)", c.T1, c.T2)
	case c.T2 > c.Preferred:
		f.add("t2", "%s is more than the preferred lifetime (%s)", c.T2, c.Preferred)
	}
	checkOptions6(&f, "options", c.Options)
	c.validateHosts(&f)
	for _, d := range []struct {
		path string
		d    time.Duration
	}{{"offer_hold", c.OfferHold}, {"decline_hold", c.DeclineHold}} {
		if d.d < time.Second || d.d > MaxLease {
			f.add(d.path, "%s is outside 1s..%s", d.d, MaxLease)
		}
	}
	if c.MaxOffers < 1 {
		f.add("max_offers", "%d is less than 1", c.MaxOffers)
	}
	return f
}

// validateSubnet says whether the prefix can be used to check what is in it.
func (c SegmentConfig6) validateSubnet(f *faults) bool {
	p := c.Subnet
	switch {
	case !p.IsValid():
		f.add("subnet", "is missing")
	case !p.Addr().Is6() || p.Addr().Is4In6():
		f.add("subnet", "%s is not an IPv6 subnet", p)
	case p != p.Masked():
		f.add("subnet", "%s has host bits set; the subnet is %s", p, p.Masked())
	case p.Bits() < 16 || p.Bits() > 126:
		f.add("subnet", "/%d is outside /16../126", p.Bits())
	case p.Addr().IsMulticast() || p.Addr().IsLinkLocalUnicast():
		f.add("subnet", "%s has no addresses for DHCPv6 clients", p)
	default:
		return true
	}
	return false
}

func (c SegmentConfig6) validateServer(f *faults) {
	switch {
	case !c.Server.IsValid():
		f.add("server", "is missing")
	case !c.Subnet.Contains(c.Server):
		f.add("server", "%s is not within %s", c.Server, c.Subnet)
	case c.Server == c.Subnet.Addr():
		f.add("server", "%s is the anycast address of the subnet's routers", c.Server)
	}
}

func (c SegmentConfig6) validateDelegations(f *faults) {
	for i, d := range c.Delegations {
		path := fmt.Sprintf("prefixes[%d]", i)
		p := d.Prefix
		switch {
		case !p.IsValid() || !p.Addr().Is6() || p.Addr().Is4In6() || p.Addr().IsMulticast() || p.Addr().IsLinkLocalUnicast():
			f.add(path+".prefix", "%s is not an IPv6 prefix that can be delegated", p)
			continue
		case p != p.Masked():
			f.add(path+".prefix", "%s has host bits set; the prefix is %s", p, p.Masked())
			continue
		case p.Overlaps(c.Subnet):
			f.add(path+".prefix", "%s overlaps the subnet %s", p, c.Subnet)
		}
		if d.Length < max(p.Bits(), 1) || d.Length > 127 {
			f.add(path+".length", "/%d is outside /%d../127", d.Length, max(p.Bits(), 1))
		}
		for j, o := range c.Delegations[:i] {
			if o.Prefix.IsValid() && p.Overlaps(o.Prefix) {
				f.add(path+".prefix", "%s overlaps prefixes[%d]", p, j)
			}
		}
	}
}

// hasRoomFor reports whether a reservation fits a configuration that is right.
func (c SegmentConfig6) hasRoomFor(r Reservation6) bool {
	c.Hosts = []Reservation6{r}
	var f faults
	c.validateHosts(&f)
	return len(f) == 0
}

func (c SegmentConfig6) validateHosts(f *faults) {
	once := f.once()
	for i, h := range c.Hosts {
		path := fmt.Sprintf("hosts[%d]", i)
		for _, msg := range h.faults() {
			f.add(path+msg.Path, "%s", msg.Msg)
		}
		if h.IP.IsValid() && c.Subnet.IsValid() {
			switch {
			case !c.Subnet.Contains(h.IP):
				f.add(path+".ip", "%s is not within %s", h.IP, c.Subnet)
			case h.IP == c.Server:
				f.add(path+".ip", "%s is the server's own address", h.IP)
			case h.IP == c.Subnet.Addr():
				f.add(path+".ip", "%s is the anycast address of the subnet's routers", h.IP)
			}
			once(i, path+".ip", "ip", h.IP.String(), h.IP.String())
		}
		if h.Prefix.IsValid() {
			c.validateReservedPrefix(f, i, path+".prefix")
		}
		if len(h.DUID) > 0 {
			once(i, path+".duid", "duid", string(h.DUID), hexString(h.DUID))
		}
		if len(h.MAC) > 0 {
			once(i, path+".mac", "mac", h.MAC.String(), h.MAC.String())
		}
		if h.Port != "" {
			once(i, path+".port", "port", h.Port, h.Port)
		}
	}
}

// validateReservedPrefix: what is reserved must not overlap anything that
// others may get.
func (c SegmentConfig6) validateReservedPrefix(f *faults, i int, path string) {
	p := c.Hosts[i].Prefix
	if c.Subnet.IsValid() && p.Overlaps(c.Subnet) {
		f.add(path, "%s overlaps the subnet %s", p, c.Subnet)
	}
	for _, d := range c.Delegations {
		if d.Prefix.IsValid() && p.Overlaps(d.Prefix) && p.Bits() != d.Length {
			f.add(path, "%s overlaps %s, which is delegated in prefixes of /%d", p, d.Prefix, d.Length)
		}
	}
	for j, o := range c.Hosts[:i] {
		if o.Prefix.IsValid() && p.Overlaps(o.Prefix) {
			f.add(path, "%s overlaps that of hosts[%d]", p, j)
		}
	}
}

// faults says what is wrong with a reservation by itself; paths begin with a
// dot or are empty.
func (r Reservation6) faults() []Fault {
	var f faults
	n := 0
	for _, given := range []bool{len(r.DUID) > 0, len(r.MAC) > 0, r.Port != ""} {
		if given {
			n++
		}
	}
	if n != 1 {
		f.add("", "names %d clients: give it exactly one of duid, mac, port", n)
	}
	if len(r.DUID) > 0 && (len(r.DUID) < minDUID || len(r.DUID) > maxDUID) {
		f.add(".duid", "%d bytes are outside %d..%d", len(r.DUID), minDUID, maxDUID)
	}
	if len(r.MAC) > 0 && (len(r.MAC) != 6 || r.MAC[0]&1 != 0 || bytes.Equal(r.MAC, make([]byte, 6))) {
		f.add(".mac", "%s is not the address of one station", r.MAC)
	}
	if r.IP.IsValid() && !r.IP.Is6() {
		f.add(".ip", "%s is not an IPv6 address", r.IP)
	}
	if p := r.Prefix; p != (netip.Prefix{}) {
		switch {
		case !p.IsValid() || !p.Addr().Is6() || p.Bits() == 0 || p.Bits() == 128:
			f.add(".prefix", "%s is not an IPv6 prefix that can be delegated", p)
		case p != p.Masked():
			f.add(".prefix", "%s has host bits set; the prefix is %s", p, p.Masked())
		}
	}
	if len(r.Hostname) > 253 || strings.ContainsAny(r.Hostname, " \x00/") {
		f.add(".hostname", "%q is not a host name", r.Hostname)
	}
	checkOptions6(&f, ".options", r.Options)
	return f
}

func isDomain(s string) bool {
	s = strings.TrimSuffix(s, ".")
	if s == "" || len(s) > 253 || strings.ContainsAny(s, " \x00/") {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
	}
	return true
}

// checkOptions6 refuses options that are the server's own business, and values
// whose length the RFC fixes.
func checkOptions6(f *faults, path string, opts []Option6) {
	seen := map[uint16]bool{}
	for i, o := range opts {
		at := fmt.Sprintf("%s[%d]", path, i)
		switch dhcpv6.OptionCode(o.Code) {
		case 0:
			f.add(at+".code", "0 is not an option")
		case dhcpv6.OptionClientID, dhcpv6.OptionServerID, dhcpv6.OptionIANA, dhcpv6.OptionIATA, dhcpv6.OptionIAAddr,
			dhcpv6.OptionORO, dhcpv6.OptionPreference, dhcpv6.OptionElapsedTime, dhcpv6.OptionRelayMsg, dhcpv6.OptionAuth,
			dhcpv6.OptionUnicast, dhcpv6.OptionStatusCode, dhcpv6.OptionRapidCommit, dhcpv6.OptionInterfaceID,
			dhcpv6.OptionReconfMessage, dhcpv6.OptionReconfAccept, dhcpv6.OptionIAPD, dhcpv6.OptionIAPrefix,
			dhcpv6.OptionFQDN, dhcpv6.OptionEchoRequest, dhcpv6.OptionClientLinkLayerAddr:
			f.add(at+".code", "option %d is set by the server itself", o.Code)
		case dhcpv6.OptionInformationRefreshTime, dhcpv6.OptionSolMaxRT, dhcpv6.OptionInfMaxRT:
			if len(o.Data) != 4 {
				f.add(at, "option %d is a time of 4 bytes (RFC 8415 sections 21.23 to 21.25)", o.Code)
			}
		}
		if seen[o.Code] {
			f.add(at+".code", "option %d is given twice", o.Code)
		}
		seen[o.Code] = true
		if len(o.Data) > 1024 {
			f.add(at, "%d bytes are more than a reply can hold", len(o.Data))
		}
	}
}
