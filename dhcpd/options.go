package dhcpd

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// optionTable is a subnet's options by code, encoded once when the
// configuration is applied. A nil entry is absent, an empty one has no bytes.
type optionTable struct {
	data  [256][]byte
	codes []uint8 // what a client without a parameter list gets, ascending
	// always are the codes that go out unasked.
	always []uint8
	boot   boot
}

// optionList is the few options of a host or a class.
type optionList []Option

func (l optionList) get(code uint8) ([]byte, bool) {
	for i := range l {
		if l[i].Code == code {
			return l[i].Data, true
		}
	}
	return nil, false
}

// boot is what the BOOTP fields tell: siaddr and file.
type boot struct {
	next  uint32
	given bool   // next is said here, be it that it is not known
	file  []byte // nil: not said here
}

// newBoot is what options 66 and 67 or, before them, a next server and a file
// say, and the options with those two among them: a client may look at either
// place, and both must tell the same.
func newBoot(opts optionList, next netip.Addr, file string) (optionList, boot) {
	var b boot
	server, given := opts.get(optTFTPServer)
	switch b.given = given || next.IsValid(); {
	case next.IsValid():
		b.next = toU32(next)
		if !given {
			opts = append(opts, Option{Code: optTFTPServer, Data: []byte(next.String())})
		}
	case given: // by its address, or by a name that the client has to look up
		ip, _ := netip.ParseAddr(string(server))
		b.next = toU32(ip)
	}
	name, given := opts.get(optBootfile)
	switch {
	case file != "" && !given:
		opts = append(opts, Option{Code: optBootfile, Data: []byte(file)})
		fallthrough
	case file != "":
		b.file = []byte(file)
	case len(name) > 0:
		b.file = name
	}
	return opts, b
}

// newOptionList copies options and makes sure that an empty value is not nil.
func newOptionList(opts []Option) optionList {
	l := make(optionList, len(opts))
	for i, o := range opts {
		l[i] = Option{Code: o.Code, Data: append([]byte{}, o.Data...), Always: o.Always}
	}
	return l
}

// newOptionTable encodes the options of one subnet.
func newOptionTable(r *RelaySubnet) *optionTable {
	t := &optionTable{}
	set := func(o dhcpv4.Option) { t.data[o.Code.Code()] = o.Value.ToBytes() }
	set(dhcpv4.OptSubnetMask(net.CIDRMask(r.Subnet.Bits(), 32)))
	set(dhcpv4.OptBroadcastAddress(toIP(lastAddr(r.Subnet))))
	if r.Gateway.IsValid() {
		set(dhcpv4.OptRouter(toIP(r.Gateway)))
	}
	if len(r.DNS) > 0 {
		ips := make([]net.IP, len(r.DNS))
		for i, d := range r.DNS {
			ips[i] = toIP(d)
		}
		set(dhcpv4.OptDNS(ips...))
	}
	if r.Domain != "" {
		set(dhcpv4.OptDomainName(r.Domain))
	}
	if r.MTU != 0 {
		set(dhcpv4.OptGeneric(dhcpv4.OptionInterfaceMTU, dhcpv4.Uint16(r.MTU).ToBytes()))
	}
	if len(r.Routes) > 0 {
		routes := encodeRoutes(r.Routes, r.Gateway)
		t.data[optRoutes], t.data[optRoutesMS] = routes, routes
	}
	opts, boot := newBoot(newOptionList(r.Options), r.NextServer, r.BootFile)
	t.boot = boot
	for _, o := range opts {
		t.data[o.Code] = o.Data
		if o.Always {
			t.always = append(t.always, o.Code)
		}
	}
	for code, data := range t.data {
		if data != nil && !onRequestOnly(uint8(code)) {
			t.codes = append(t.codes, uint8(code))
		}
	}
	return t
}

// onRequestOnly are the options that a client which asked for nothing does not
// get: 108 and 116 change what it does (RFC 8925 section 3.3, RFC 2563), 121
// would take option 3's place although nobody said that the client knows it.
func onRequestOnly(code uint8) bool {
	return code == optIPv6Only || code == optAutoConf || code == optRoutes || code == optRoutesMS || code == optBroadcast
}

// encodeRoutes is option 121. A client that takes it ignores option 3, so the
// default route goes in as well (RFC 3442).
func encodeRoutes(routes []Route, gateway netip.Addr) []byte {
	var out dhcpv4.Routes
	hasDefault := false
	for _, r := range routes {
		hasDefault = hasDefault || r.To.Bits() == 0
		out = append(out, &dhcpv4.Route{
			Dest:   &net.IPNet{IP: toIP(r.To.Addr()), Mask: net.CIDRMask(r.To.Bits(), 32)},
			Router: toIP(r.Via),
		})
	}
	if !hasDefault && gateway.IsValid() {
		out = append(out, &dhcpv4.Route{
			Dest:   &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)},
			Router: toIP(gateway),
		})
	}
	return out.ToBytes()
}

// toIP is an IPv4 address for the library, whose encoders panic on another.
func toIP(a netip.Addr) net.IP {
	b := a.As4()
	return net.IP(b[:])
}

// seconds is a duration as options 51, 58 and 59 carry it.
func seconds(d time.Duration) [4]byte {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], uint32(d/time.Second))
	return b
}

// class is a compiled Class.
type class struct {
	match ClassMatch
	value []byte
	arch  uint16
	opts  optionList
	boot  boot
}

func newClasses(in []Class) []class {
	out := make([]class, len(in))
	for i, c := range in {
		out[i] = class{match: c.Match, value: []byte(c.Value), arch: c.Arch}
		out[i].opts, out[i].boot = newBoot(newOptionList(c.Options), c.NextServer, c.BootFile)
	}
	return out
}

// matches says whether the class is the client's. circuit is the request's, or
// the one that the lease was given with.
func (c *class) matches(m *message, circuit []byte) bool {
	switch c.match {
	case MatchVendor:
		return bytes.HasPrefix(m.vendor, c.value)
	case MatchUser:
		if bytes.Equal(m.user, c.value) { // iPXE and others leave out the lengths
			return true
		}
		for b := m.user; len(b) > 0 && int(b[0]) < len(b); b = b[1+int(b[0]):] {
			if bytes.Equal(b[1:1+int(b[0])], c.value) {
				return true
			}
		}
	case MatchHostname:
		return bytes.EqualFold(m.hostname, c.value) || bytes.EqualFold(firstLabel(m.fqdn), c.value)
	case MatchCircuitID:
		return circuit != nil && bytes.Equal(circuit, c.value)
	case MatchArch:
		for b := m.arch; len(b) >= 2; b = b[2:] {
			if binary.BigEndian.Uint16(b) == c.arch {
				return true
			}
		}
	}
	return false
}

// circuitOf is the circuit identifier within an option 82.
func circuitOf(relay string) []byte {
	if relay == "" {
		return nil
	}
	m := message{relay: []byte(relay)}
	m.suboptions()
	return m.circuit
}

// answer is whose options a reply carries: the host's before the classes'
// before the subnet's.
type answer struct {
	m       *message
	table   *optionTable
	host    *host // nil: the client has no reservation
	classes []class
	set     uint64 // which of the classes are the client's
}

func (a *answer) classify(classes []class, circuit []byte) {
	a.classes = classes
	for i := range classes {
		if classes[i].matches(a.m, circuit) {
			a.set |= 1 << i
		}
	}
}

// option is the value of an option for this client; nil when it has none.
func (a *answer) option(code uint8) []byte {
	if a.host != nil {
		if d, ok := a.host.opts.get(code); ok {
			return d
		}
	}
	if a.set != 0 {
		for i := range a.classes {
			if a.set>>i&1 != 0 {
				if d, ok := a.classes[i].opts.get(code); ok {
					return d
				}
			}
		}
	}
	return a.table.data[code]
}

// extra calls each for every option that the host or a class of the client's
// brings, and for the subnet's that go out unasked.
func (a *answer) extra(each func(code uint8, always bool)) {
	if a.host != nil {
		for _, o := range a.host.opts {
			each(o.Code, o.Always)
		}
	}
	for i := range a.classes {
		if a.set>>i&1 != 0 {
			for _, o := range a.classes[i].opts {
				each(o.Code, o.Always)
			}
		}
	}
	for _, code := range a.table.always {
		each(code, true)
	}
}

// boot is the client's server and file, of the host before a class before the
// subnet.
func (a *answer) boot() boot {
	var b boot
	if a.host != nil {
		b = a.host.boot
	}
	for i := range a.classes {
		if a.set>>i&1 != 0 {
			b.fill(&a.classes[i].boot)
		}
	}
	b.fill(&a.table.boot)
	return b
}

// fill takes what is not said from elsewhere.
func (b *boot) fill(o *boot) {
	if !b.given {
		b.next, b.given = o.next, o.given
	}
	if b.file == nil {
		b.file = o.file
	}
}

// firstLabel is the host part of option 81 (RFC 4702 section 2).
func firstLabel(fqdn []byte) []byte {
	if len(fqdn) < 4 {
		return nil
	}
	name := fqdn[3:]
	if fqdn[0]&fqdnEncoded != 0 {
		if int(name[0]) < len(name) && name[0] < 64 {
			return name[1 : 1+int(name[0])]
		}
		return nil
	}
	if i := bytes.IndexByte(name, '.'); i >= 0 {
		return name[:i]
	}
	return name
}

// Flags of option 81 (RFC 4702 section 2.1).
const (
	fqdnServer   = 1 << 0 // S: the server does the A record
	fqdnOverride = 1 << 1 // O: the server did not do as the client asked
	fqdnEncoded  = 1 << 2 // E: the name is in DNS wire format
	fqdnNoUpdate = 1 << 3 // N: the server does no updates
)

// appendFQDN appends the answer to option 81: no updates are done, both RCODEs
// are 255 (RFC 4702 section 2.2), a partial name is completed by the domain,
// an empty one is the reservation's.
func appendFQDN(b, request []byte, hostname, domain string) []byte {
	flags := request[0]&fqdnEncoded | fqdnNoUpdate
	if request[0]&fqdnServer != 0 {
		flags |= fqdnOverride
	}
	b = append(b, flags, 255, 255)
	name := request[3:]
	if flags&fqdnEncoded == 0 {
		name = bytes.TrimRight(name, "\x00")
		if len(name) == 0 {
			name = []byte(hostname)
		}
		b = append(b, name...)
		if len(name) > 0 && domain != "" && !bytes.ContainsRune(name, '.') {
			b = append(append(b, '.'), strings.TrimSuffix(domain, ".")...)
		}
		return b
	}
	return appendName(b, name, hostname, domain)
}

// appendName appends a client's name in DNS wire format: a partial one is
// completed by the domain, an empty one is hostname.
func appendName(b, name []byte, hostname, domain string) []byte {
	at := len(b)
	whole := false
	for len(name) > 0 {
		n := int(name[0])
		if n == 0 {
			whole = true
			break
		}
		if n > 63 || n >= len(name) { // torn, or compressed: keep what was whole
			break
		}
		b = append(b, name[:1+n]...)
		name = name[1+n:]
	}
	if len(b) == at {
		b = appendLabels(b, hostname)
		whole = len(b) == at // an empty name stays empty
	}
	if !whole {
		b = appendLabels(b, domain)
	}
	if len(b) > at && (whole || domain != "") {
		b = append(b, 0)
	}
	return b
}

// appendLabels appends a dotted name in DNS wire format, without its end.
func appendLabels(b []byte, name string) []byte {
	for name != "" {
		var label string
		label, name, _ = strings.Cut(name, ".")
		if label != "" && len(label) < 64 {
			b = append(append(b, byte(len(label))), label...)
		}
	}
	return b
}

// hostnameOf is the name that a lease shows: option 12, else option 81's first
// label, without what a terminal or a log should not see.
func hostnameOf(m *message) []byte {
	name := m.hostname
	if len(name) == 0 {
		name = firstLabel(m.fqdn)
	}
	return printable(bytes.TrimRight(name, "\x00"))
}

// printable is a name as long as it can be shown, nil otherwise.
func printable(name []byte) []byte {
	if len(name) > 253 || bytes.ContainsFunc(name, func(r rune) bool { return r == ' ' || r == utf8.RuneError || !unicode.IsPrint(r) }) {
		return nil
	}
	return name
}
