package dhcpd

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

const (
	// MinLease is the shortest lease that can be configured.
	MinLease = 10 * time.Second
	// MaxLease is the longest; one second more would mean "for ever" on the
	// wire.
	MaxLease = (1<<32 - 2) * time.Second
	// MaxClasses is how many classes a segment takes.
	MaxClasses = 64
	// MaxPool is how many addresses the ranges of one subnet may hold.
	MaxPool = 1 << 24
)

// Fault is one thing wrong with a configuration, at the key that says so, for
// instance "hosts[0].ip". Keys are those of the configuration file.
type Fault struct{ Path, Msg string }

func (f Fault) Error() string { return f.Path + ": " + f.Msg }

// faults collects what is wrong.
type faults []Fault

func (f *faults) add(path, format string, args ...any) {
	*f = append(*f, Fault{path, fmt.Sprintf(format, args...)})
}

// Validate says everything that is wrong with the configuration, in the order
// of its keys; nothing when it can be served.
func (c SegmentConfig) Validate() []Fault {
	var f faults
	c = c.withDefaults()
	ok := c.own().validate(&f, "")
	if ok {
		checkAddr(&f, "server", c.Server, c.Subnet, true)
	}
	if ok && c.Server.IsValid() && c.Server == c.Gateway {
		f.add("server", "%s is the gateway's address; the server needs one of its own", c.Server)
	}
	subnets := []netip.Prefix{c.Subnet}
	for i, r := range c.Relays {
		path := fmt.Sprintf("relays[%d].", i)
		if !r.validate(&f, path) {
			continue
		}
		for _, s := range subnets {
			if s.IsValid() && s.Overlaps(r.Subnet) {
				f.add(path+"subnet", "%s overlaps %s", r.Subnet, s)
			}
		}
		subnets = append(subnets, r.Subnet)
	}
	c.validateHosts(&f, subnets)
	if len(c.Classes) > MaxClasses {
		f.add("classes", "%d classes are more than %d", len(c.Classes), MaxClasses)
	}
	for i, cl := range c.Classes {
		path := fmt.Sprintf("classes[%d]", i)
		if cl.Match > MatchArch || cl.Match != MatchArch && cl.Value == "" {
			f.add(path, "matches nothing: give it one of vendor, user, hostname, circuit_id, arch")
		}
		checkOptions(&f, path+".options", cl.Options)
		checkBoot(&f, path+".", cl.NextServer, cl.BootFile)
	}
	for _, d := range []struct {
		path string
		d    time.Duration
	}{{"offer_hold", c.OfferHold}, {"decline_hold", c.DeclineHold}} {
		if d.d < time.Second || d.d > MaxLease {
			f.add(d.path, "%s is outside 1s..%s", d.d, MaxLease)
		}
	}
	if c.Probe < 0 || c.Probe > MaxProbe {
		f.add("probe", "%s is outside 0..%s", c.Probe, MaxProbe)
	}
	if c.MaxOffers < 1 {
		f.add("max_offers", "%d is less than 1", c.MaxOffers)
	}
	return f
}

// validate checks one subnet and says whether its prefix can be used to check
// what is in it.
func (r RelaySubnet) validate(f *faults, at string) bool {
	switch {
	case !r.Subnet.IsValid():
		f.add(at+"subnet", "is missing")
		return false
	case !r.Subnet.Addr().Is4():
		f.add(at+"subnet", "%s is not an IPv4 subnet", r.Subnet)
		return false
	case r.Subnet != r.Subnet.Masked():
		f.add(at+"subnet", "%s has host bits set; the subnet is %s", r.Subnet, r.Subnet.Masked())
		return false
	case r.Subnet.Bits() < 8 || r.Subnet.Bits() > 30:
		f.add(at+"subnet", "/%d is outside /8../30", r.Subnet.Bits())
		return false
	}
	r.validateRanges(f, at)
	if r.Gateway.IsValid() {
		checkAddr(f, at+"gateway", r.Gateway, r.Subnet, false)
	}
	for i, d := range r.DNS {
		if !d.Is4() || d.IsUnspecified() {
			f.add(fmt.Sprintf("%sdns[%d]", at, i), "%s is not an IPv4 address of a server", d)
		}
	}
	if len(r.Domain) > 253 || strings.ContainsAny(r.Domain, " \x00/") {
		f.add(at+"domain", "%q is not a domain name", r.Domain)
	}
	if r.MTU != 0 && r.MTU < 68 {
		f.add(at+"mtu", "%d is less than 68", r.MTU)
	}
	switch {
	case r.Lease < MinLease || r.Lease > MaxLease:
		f.add(at+"lease", "%s is outside %s..%s", r.Lease, MinLease, MaxLease)
	case r.T1 < time.Second || r.T1 >= r.T2:
		f.add(at+"t1", "%s is not between 0 and t2 (%s)", r.T1, r.T2)
	case r.T2 >= r.Lease.Truncate(time.Second):
		f.add(at+"t2", "%s is not less than the lease (%s)", r.T2, r.Lease)
	}
	for i, rt := range r.Routes {
		path := fmt.Sprintf("%sroutes[%d]", at, i)
		if !rt.To.IsValid() || !rt.To.Addr().Is4() || rt.To != rt.To.Masked() {
			f.add(path+".to", "%s is not an IPv4 prefix without host bits", rt.To)
		}
		if !rt.Via.Is4() {
			f.add(path+".via", "%s is not an IPv4 address", rt.Via)
		}
	}
	checkOptions(f, at+"options", r.Options)
	checkBoot(f, at, r.NextServer, r.BootFile)
	return true
}

func (r RelaySubnet) validateRanges(f *faults, at string) {
	var total uint64
	for _, g := range checkRanges(f, at, r.Ranges, r.Subnet) {
		total += uint64(toU32(g.Last)-toU32(g.First)) + 1
	}
	if total > MaxPool {
		f.add(at+"ranges", "%d addresses are more than %d", total, MaxPool)
	}
}

// checkRanges finds fault with ranges that are not within the subnet or not by
// themselves, and returns those that are right but for overlaps.
func checkRanges(f *faults, at string, all []Range, subnet netip.Prefix) (right []Range) {
	family := "IPv4"
	if subnet.Addr().Is6() {
		family = "IPv6"
	}
	of := func(a netip.Addr) bool { return a.IsValid() && a.BitLen() == subnet.Addr().BitLen() }
	for i, g := range all {
		path := fmt.Sprintf("%sranges[%d]", at, i)
		switch {
		case !of(g.First) || !of(g.Last):
			f.add(path, "needs two %s addresses", family)
			continue
		case g.Last.Less(g.First):
			f.add(path, "%s comes after %s", g.First, g.Last)
			continue
		case !subnet.Contains(g.First) || !subnet.Contains(g.Last):
			f.add(path, "%s-%s is not within %s", g.First, g.Last, subnet)
			continue
		}
		right = append(right, g)
		for j, o := range all[:i] {
			if of(o.First) && of(o.Last) && !g.Last.Less(o.First) && !o.Last.Less(g.First) {
				f.add(path, "%s-%s overlaps ranges[%d]", g.First, g.Last, j)
			}
		}
	}
	return right
}

// hasRoomFor reports whether a reservation fits the subnets of a configuration
// that is right.
func (c SegmentConfig) hasRoomFor(r Reservation) bool {
	subnets := []netip.Prefix{c.Subnet}
	for _, relay := range c.Relays {
		subnets = append(subnets, relay.Subnet)
	}
	c.Hosts = []Reservation{r}
	var f faults
	c.validateHosts(&f, subnets)
	return len(f) == 0
}

// once returns what finds fault with a reservation of a key, of its kind, that an
// earlier one has.
func (f *faults) once() func(i int, path, kind, key, shown string) {
	seen := map[string]int{}
	return func(i int, path, kind, key, shown string) {
		if j, dup := seen[kind+key]; dup {
			f.add(path, "%s is already that of hosts[%d]", shown, j)
			return
		}
		seen[kind+key] = i
	}
}

func (c SegmentConfig) validateHosts(f *faults, subnets []netip.Prefix) {
	once := f.once()
	for i, h := range c.Hosts {
		path := fmt.Sprintf("hosts[%d]", i)
		where := h.IP.String()
		var home netip.Prefix
		gateway := c.Gateway
		for _, r := range c.Relays {
			if h.IP.IsValid() && r.Subnet.Contains(h.IP) {
				gateway = r.Gateway
			}
		}
		for _, s := range subnets {
			if s.IsValid() && h.IP.IsValid() && s.Contains(h.IP) {
				home = s
			}
		}
		for _, msg := range h.faults() {
			f.add(path+msg.Path, "%s", msg.Msg)
		}
		if h.IP.IsValid() {
			switch {
			case !home.IsValid():
				f.add(path+".ip", "%s is in none of the segment's subnets", where)
			case h.IP == c.Server:
				f.add(path+".ip", "%s is the server's own address", where)
			case h.IP == gateway:
				f.add(path+".ip", "%s is the gateway's address", where)
			case h.IP == home.Addr() || h.IP == lastAddr(home):
				f.add(path+".ip", "%s is the subnet's network or broadcast address", where)
			}
			once(i, path+".ip", "ip", where, where)
		}
		// One client may have an address in each subnet, but only one.
		in := home.String()
		if len(h.MAC) > 0 {
			once(i, path+".mac", "mac"+in, h.MAC.String(), h.MAC.String())
		}
		if len(h.ClientID) > 0 {
			once(i, path+".client_id", "id"+in, string(h.ClientID), fmt.Sprintf("%x", h.ClientID))
		}
		if h.Port != "" {
			once(i, path+".port", "port"+in, h.Port, h.Port)
		}
		if h.byName() {
			once(i, path+".hostname", "name"+in, strings.ToLower(h.Hostname), h.Hostname)
		}
	}
}

// faults says what is wrong with a reservation by itself; paths begin with a
// dot or are empty.
func (h Reservation) faults() []Fault {
	var f faults
	n := 0
	for _, given := range []bool{len(h.MAC) > 0, len(h.ClientID) > 0, h.Port != ""} {
		if given {
			n++
		}
	}
	if n > 1 || n == 0 && h.Hostname == "" {
		f.add("", "names %d clients: give it exactly one of mac, client_id, port, or else a hostname", n)
	}
	if len(h.MAC) > 0 && (len(h.MAC) != 6 || h.MAC[0]&1 != 0 || bytes.Equal(h.MAC, make([]byte, 6))) {
		f.add(".mac", "%s is not the address of one station", h.MAC)
	}
	if len(h.ClientID) == 1 || len(h.ClientID) > 255 {
		f.add(".client_id", "%d bytes are outside 2..255", len(h.ClientID))
	}
	if h.IP.IsValid() && !h.IP.Is4() {
		f.add(".ip", "%s is not an IPv4 address", h.IP)
	}
	if len(h.Hostname) > 253 || strings.ContainsAny(h.Hostname, " \x00/") {
		f.add(".hostname", "%q is not a host name", h.Hostname)
	}
	checkOptions(&f, ".options", h.Options)
	checkBoot(&f, ".", h.NextServer, h.BootFile)
	return f
}

// checkAddr checks an address that belongs to a subnet.
func checkAddr(f *faults, path string, a netip.Addr, in netip.Prefix, required bool) {
	switch {
	case !a.IsValid():
		if required {
			f.add(path, "is missing")
		}
	case !in.Contains(a):
		f.add(path, "%s is not within %s", a, in)
	case a == in.Addr() || a == lastAddr(in):
		f.add(path, "%s is the network or broadcast address of %s", a, in)
	}
}

// checkBoot checks what a network boot client is told.
func checkBoot(f *faults, at string, next netip.Addr, file string) {
	if next.IsValid() && (!next.Is4() || next.IsUnspecified() || next.IsMulticast()) {
		f.add(at+"next_server", "%s is not an IPv4 address of a server", next)
	}
	if len(file) > 1024 || strings.ContainsRune(file, 0) {
		f.add(at+"boot_file", "%q is not a file name of at most 1024 bytes", file)
	}
}

// checkOptions refuses options that are the server's own business.
func checkOptions(f *faults, path string, opts []Option) {
	var seen [256]bool
	for i, o := range opts {
		at := fmt.Sprintf("%s[%d].code", path, i)
		switch o.Code {
		case optPad, optEnd:
			f.add(at, "%d is not an option", o.Code)
		case optMask:
			f.add(at, "option 1 follows from the subnet")
		case optRequestedIP, optLeaseTime, optOverload, optMessageType, optServerID, optParams, optMessage, optMaxSize,
			optT1, optT2, optClientID, optRapidCommit, optFQDN, optRelay, optSubnetSelect, 90:
			f.add(at, "option %d is set by the server itself", o.Code)
		}
		if seen[o.Code] {
			f.add(at, "option %d is given twice", o.Code)
		}
		seen[o.Code] = true
		if o.Code == optIPv6Only && len(o.Data) != 4 {
			f.add(fmt.Sprintf("%s[%d]", path, i), "option 108 is a time of 4 bytes (RFC 8925)")
		}
		if len(o.Data) > 1024 {
			f.add(fmt.Sprintf("%s[%d]", path, i), "%d bytes are more than a reply can hold", len(o.Data))
		}
	}
}
