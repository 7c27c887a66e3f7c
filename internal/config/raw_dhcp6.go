package config

import "reflect"

type rawDHCP6 struct {
	Subnet      prefix6Text     `yaml:"subnet" jsonschema:"required" jsonschema_description:"The segment's IPv6 subnet, /16 to /126; mostly a /64."`
	Server      ipv6Text        `yaml:"server" jsonschema_description:"The server's own address; answers neighbour solicitations and ping. Default: the subnet's first free address from ::2 on."`
	Ranges      *[]range6Text   `yaml:"ranges" jsonschema_description:"Addresses that are given out, as first-last or one address. Default: from ::1000 to ::ffff of the subnet. An empty list is stateless: options only, and what hosts reserve."`
	DNS         []ipv6Text      `yaml:"dns" jsonschema_description:"Option 23, the name servers."`
	Search      []domainText    `yaml:"search" jsonschema_description:"Option 24, the domains that names are looked up in."`
	Lease       durationText    `yaml:"lease" jsonschema_description:"The valid lifetime of addresses and prefixes, 10s or more. Default 12h."`
	Preferred   durationText    `yaml:"preferred" jsonschema_description:"Their preferred lifetime. Default: five eighths of the lease."`
	T1          durationText    `yaml:"t1" jsonschema_description:"When a client renews. Default: half the preferred lifetime."`
	T2          durationText    `yaml:"t2" jsonschema_description:"When a client rebinds. Default: four fifths of the preferred lifetime."`
	Prefixes    []rawDelegation `yaml:"prefixes" jsonschema_description:"Prefixes that are delegated to routers (option 25)."`
	Hosts       []rawHost6      `yaml:"hosts" jsonschema_description:"Reservations."`
	Options     []rawOption6    `yaml:"options" jsonschema_description:"Further options, by number."`
	RapidCommit bool            `yaml:"rapid_commit" jsonschema_description:"Answer a SOLICIT with option 14 by a REPLY. Safe only where no other server serves the segment."`
	OfferHold   durationText    `yaml:"offer_hold" jsonschema_description:"How long what was advertised to a client is held for it. Default 2m."`
	DeclineHold durationText    `yaml:"decline_hold" jsonschema_description:"How long an address is left alone that a client has found in use. Default 10m."`
	Serve       serveText       `yaml:"serve" jsonschema_description:"Who is served. segment (the default): clients behind remote VTEPs too; local: only this VTEP's ports."`
}

// shorthand makes the server of a subnet alone: `dhcp6: "2001:db8:100::/64"`.
func (d *rawDHCP6) shorthand(text string) (key string) {
	d.Subnet = prefix6Text(text)
	return "subnet"
}

func (*rawDHCP6) shortForm() string { return "a subnet" }

func (d rawDHCP6) short() (any, bool) {
	return d.Subnet, reflect.DeepEqual(d, rawDHCP6{Subnet: d.Subnet})
}

type rawDelegation struct {
	Prefix prefix6Text `yaml:"prefix" jsonschema:"required" jsonschema_description:"What is cut into pieces."`
	Length int64       `yaml:"length" jsonschema:"required,minimum=1,maximum=127" jsonschema_description:"Length of the pieces, bits."`
}

type rawHost6 struct {
	MAC      macText      `yaml:"mac" jsonschema_description:"Whose it is, by hardware address: of its frames, of a relay's option 79 or within its DUID; one of mac, duid and port."`
	DUID     hexText      `yaml:"duid" jsonschema_description:"Whose it is, by the DUID of option 1."`
	Port     portNameText `yaml:"port" jsonschema_description:"Whose it is, by the name of the segment's port that it is behind."`
	IP       ipv6Text     `yaml:"ip" jsonschema_description:"The address that is kept for it."`
	Prefix   prefix6Text  `yaml:"prefix" jsonschema_description:"The prefix that is kept for it, to be delegated."`
	Hostname domainText   `yaml:"hostname" jsonschema_description:"What it is called."`
	Options  []rawOption6 `yaml:"options" jsonschema_description:"Options for this host; they win over all others."`
}

type rawOption6 struct {
	Code   int64      `yaml:"code" jsonschema:"required,minimum=1,maximum=65535" jsonschema_description:"Option number (RFC 8415). Exactly one of ip, text, hex and number gives its value."`
	IP     []ipv6Text `yaml:"ip" jsonschema:"minItems=1" jsonschema_description:"Addresses."`
	Text   *string    `yaml:"text" jsonschema:"minLength=1" jsonschema_description:"Text, without an end mark."`
	Hex    *hexText   `yaml:"hex" jsonschema_description:"Bytes in hexadecimal."`
	Number *int64     `yaml:"number" jsonschema_description:"A number, of the width that the option's RFC gives it."`
}

func (o rawOption6) written() (int64, optionText) {
	return o.Code, optionText{texts[string](o.IP), o.Text, o.Hex, o.Number}
}

type rawRA struct {
	Off      bool           `yaml:"-"`
	Managed  *bool          `yaml:"managed" jsonschema_description:"Addresses are to be had by DHCPv6 (the M flag). Default: whether dhcp6 has any to give."`
	Other    *bool          `yaml:"other" jsonschema_description:"Other configuration is to be had by DHCPv6 (the O flag). Default: whether there is dhcp6."`
	Prefixes *[]rawRAPrefix `yaml:"prefixes" jsonschema_description:"Prefixes that are advertised. Default: the subnet of dhcp6."`
	DNS      *[]ipv6Text    `yaml:"dns" jsonschema_description:"Name servers (RFC 8106). Default: those of dhcp6."`
	Search   *[]domainText  `yaml:"search" jsonschema_description:"Search domains (RFC 8106). Default: those of dhcp6."`
	MTU      raMTUText      `yaml:"mtu" jsonschema_description:"The MTU that is advertised: a number of bytes, or off. Default: the segment's MTU."`
	Interval durationText   `yaml:"interval" jsonschema_description:"The longest time between two advertisements, 4s to 30m. Default 10m."`
	Lifetime durationText   `yaml:"lifetime" jsonschema_description:"How long the segment's own station is a default router, up to 2h30m; 0s (the default): it is none."`
}

// turn makes `ra: true` advertisements with defaults only, and `ra: false` none.
func (r *rawRA) turn(on bool) { r.Off = !on }

func (r rawRA) short() (any, bool) { return true, reflect.DeepEqual(r, rawRA{}) }

type rawRAPrefix struct {
	Prefix     prefix6Text  `yaml:"prefix" jsonschema:"required" jsonschema_description:"The prefix."`
	OnLink     *bool        `yaml:"on_link" jsonschema_description:"Its addresses are in the segment (the L flag). Default true."`
	Autonomous *bool        `yaml:"autonomous" jsonschema_description:"Hosts make addresses of it by themselves (the A flag). Default: unless managed, where it is a /64."`
	Valid      durationText `yaml:"valid" jsonschema_description:"Valid lifetime. Default 720h."`
	Preferred  durationText `yaml:"preferred" jsonschema_description:"Preferred lifetime. Default 168h, or the valid one where that is less."`
}
