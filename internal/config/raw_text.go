package config

import (
	"encoding/json"
	"strconv"

	"github.com/invopop/jsonschema"
)

// The kinds of text in a configuration file. They carry the part of the schema
// that a struct tag cannot: a pattern, or a choice between a number and a word.
type (
	addrText      string // IPv4 or IPv6 address
	ipv4Text      string // IPv4 address
	ipv6Text      string // IPv6 address
	prefixText    string // IPv4 prefix
	prefix6Text   string // IPv6 prefix
	rangeText     string // IPv4 addresses, first-last
	range6Text    string // IPv6 addresses, first-last
	portRangeText string // UDP ports, first-last
	macText       string
	ifnameText    string
	nameText      string
	portNameText  string // of one of the segment's ports
	domainText    string
	hexText       string
	durationText  string
	offloadText   string
	acceptText    string
	serveText     string
	suppressText  string
	ttlText       string
	tosText       string
	dfText        string // true, false, or inherit
	dhcpMTUText   string
	raMTUText     string
	probeText     string // a duration, or off
	bindText      string

	addrOrPrefixText string // IPv4 or IPv6
)

const (
	octetPattern    = `(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])`
	ipv4Pattern     = octetPattern + `(\.` + octetPattern + `){3}`
	namePattern     = `^[A-Za-z0-9]([A-Za-z0-9._-]{0,62})$`
	durationPattern = `^([0-9]+(\.[0-9]+)?(us|ms|s|m|h))+$`
	hexPattern      = `^[0-9A-Fa-f]{2}(:?[0-9A-Fa-f]{2})*$`
	ipv6Pattern     = `[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*`
	domainPattern   = `^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*$`
)

// A numberOrWord is written as a number or as a word, and kept as its text.
type numberOrWord interface{ word() string }

func (ttlText) word() string     { return inherit }
func (tosText) word() string     { return inherit }
func (dhcpMTUText) word() string { return off }
func (raMTUText) word() string   { return off }

// A choice is one of a few words.
type choice interface{ words() []string }

func (offloadText) words() []string { return []string{auto, off} }
func (acceptText) words() []string  { return []string{string(AcceptPeers), string(AcceptAny)} }
func (serveText) words() []string   { return []string{string(ServeSegment), string(ServeLocal)} }
func (probeText) words() []string   { return []string{off} }
func (dfText) words() []string {
	return []string{string(DFSet), string(DFClear), string(DFInherit)}
}
func (suppressText) words() []string { return []string{string(SuppressARP), string(SuppressND)} }
func (bindText) words() []string {
	return []string{string(BindNone), string(BindLease), string(BindStatic)}
}

func (addrText) JSONSchema() *jsonschema.Schema {
	return &jsonschema.Schema{Type: "string", AnyOf: []*jsonschema.Schema{{Format: "ipv4"}, {Format: "ipv6"}}}
}

func (addrOrPrefixText) JSONSchema() *jsonschema.Schema {
	return &jsonschema.Schema{Type: "string", AnyOf: []*jsonschema.Schema{
		{Format: "ipv4"}, {Format: "ipv6"}, prefixText("").JSONSchema(), prefix6Text("").JSONSchema(),
	}}
}

func (ipv4Text) JSONSchema() *jsonschema.Schema {
	return &jsonschema.Schema{Type: "string", Format: "ipv4"}
}

func (prefixText) JSONSchema() *jsonschema.Schema {
	return pattern(`^` + ipv4Pattern + `/(3[0-2]|[12]?[0-9])$`)
}

func (ipv6Text) JSONSchema() *jsonschema.Schema {
	return &jsonschema.Schema{Type: "string", Format: "ipv6"}
}

func (prefix6Text) JSONSchema() *jsonschema.Schema {
	return pattern(`^` + ipv6Pattern + `/(12[0-8]|1[01][0-9]|[1-9]?[0-9])$`)
}

func (range6Text) JSONSchema() *jsonschema.Schema {
	return pattern(`^` + ipv6Pattern + `(-` + ipv6Pattern + `)?$`)
}

func (rangeText) JSONSchema() *jsonschema.Schema {
	return pattern(`^` + ipv4Pattern + `(-` + ipv4Pattern + `)?$`)
}

func (portRangeText) JSONSchema() *jsonschema.Schema { return pattern(`^[0-9]{1,5}-[0-9]{1,5}$`) }
func (macText) JSONSchema() *jsonschema.Schema {
	return pattern(`^[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}$`)
}
func (ifnameText) JSONSchema() *jsonschema.Schema   { return pattern(`^[!-$&-.0-9;-~]{1,15}$`) }
func (nameText) JSONSchema() *jsonschema.Schema     { return pattern(namePattern) }
func (portNameText) JSONSchema() *jsonschema.Schema { return pattern(`^[!-.0-~]{1,63}$`) }
func (domainText) JSONSchema() *jsonschema.Schema   { return pattern(domainPattern) }
func (hexText) JSONSchema() *jsonschema.Schema      { return pattern(hexPattern) }
func (durationText) JSONSchema() *jsonschema.Schema {
	return pattern(durationPattern)
}

func (t offloadText) JSONSchema() *jsonschema.Schema  { return enum(t) }
func (t acceptText) JSONSchema() *jsonschema.Schema   { return enum(t) }
func (t serveText) JSONSchema() *jsonschema.Schema    { return enum(t) }
func (t suppressText) JSONSchema() *jsonschema.Schema { return enum(t) }
func (t bindText) JSONSchema() *jsonschema.Schema     { return enum(t) }

func (ttlText) JSONSchema() *jsonschema.Schema { return numberOr("1", "255", inherit) }
func (tosText) JSONSchema() *jsonschema.Schema {
	s := numberOr("0", "252", inherit)
	s.OneOf[0].MultipleOf = "4" // without the ECN bits
	return s
}
func (dfText) JSONSchema() *jsonschema.Schema {
	return &jsonschema.Schema{OneOf: []*jsonschema.Schema{{Type: "boolean"}, {Type: "string", Enum: []any{inherit}}}}
}
func (dhcpMTUText) JSONSchema() *jsonschema.Schema { return numberOr("68", "65535", off) }
func (raMTUText) JSONSchema() *jsonschema.Schema   { return numberOr("1280", "65535", off) }
func (t probeText) JSONSchema() *jsonschema.Schema {
	return &jsonschema.Schema{OneOf: []*jsonschema.Schema{pattern(durationPattern), enum(t)}}
}

// JSONSchemaExtend lets a subnet stand for the whole server.
func (rawDHCP) JSONSchemaExtend(s *jsonschema.Schema) { orShort(s, prefixText("").JSONSchema()) }

// JSONSchemaExtend lets a subnet stand for the whole server.
func (rawDHCP6) JSONSchemaExtend(s *jsonschema.Schema) { orShort(s, prefix6Text("").JSONSchema()) }

// JSONSchemaExtend lets true stand for advertisements with defaults only.
func (rawRA) JSONSchemaExtend(s *jsonschema.Schema) { orShort(s, &jsonschema.Schema{Type: "boolean"}) }

// JSONSchemaExtend lets a word stand for all offloads.
func (rawOffload) JSONSchemaExtend(s *jsonschema.Schema) { orShort(s, offloadText("").JSONSchema()) }

// JSONSchemaExtend lets a number stand for all classes.
func (rawStorm) JSONSchemaExtend(s *jsonschema.Schema) {
	orShort(s, &jsonschema.Schema{Type: "integer", Minimum: "0", Maximum: json.Number(strconv.Itoa(maxStorm))})
}

// orShort lets something short stand for a mapping.
func orShort(s, short *jsonschema.Schema) {
	full := *s
	full.Version, full.ID = "", ""
	*s = jsonschema.Schema{OneOf: []*jsonschema.Schema{short, &full}}
}

// JSONSchemaExtend says that an option has exactly one value.
func (rawOption) JSONSchemaExtend(s *jsonschema.Schema) {
	s.OneOf = oneRequired("ip", "text", "hex", "number")
}

// JSONSchemaExtend says that an option has exactly one value.
func (rawOption6) JSONSchemaExtend(s *jsonschema.Schema) {
	s.OneOf = oneRequired("ip", "text", "hex", "number")
}

// JSONSchemaExtend says that a class has exactly one matcher.
func (rawClass) JSONSchemaExtend(s *jsonschema.Schema) {
	s.OneOf = oneRequired("vendor", "user", "hostname", "circuit_id", "arch")
	s.AnyOf = oneRequired("options", "next_server", "boot_file")
}

// JSONSchemaExtend says that a reservation has an owner; a hostname is one by
// itself.
func (rawHost) JSONSchemaExtend(s *jsonschema.Schema) {
	s.AnyOf = oneRequired("mac", "client_id", "port", "hostname")
}

// JSONSchemaExtend says that a reservation has exactly one owner.
func (rawHost6) JSONSchemaExtend(s *jsonschema.Schema) { s.OneOf = oneRequired("mac", "duid", "port") }

// JSONSchemaExtend says that a port is exactly one thing.
func (rawPort) JSONSchemaExtend(s *jsonschema.Schema) { s.OneOf = oneRequired(kinds[:]...) }

// JSONSchemaExtend says that a static entry has exactly one place.
func (rawStatic) JSONSchemaExtend(s *jsonschema.Schema) { s.OneOf = oneRequired("dst", "port") }

func pattern(p string) *jsonschema.Schema { return &jsonschema.Schema{Type: "string", Pattern: p} }

func enum(c choice) *jsonschema.Schema {
	s := &jsonschema.Schema{Type: "string"}
	for _, w := range c.words() {
		s.Enum = append(s.Enum, w)
	}
	return s
}

func oneRequired(keys ...string) []*jsonschema.Schema {
	var s []*jsonschema.Schema
	for _, k := range keys {
		s = append(s, &jsonschema.Schema{Required: []string{k}})
	}
	return s
}
