package config

import "reflect"

type rawDHCP struct {
	Subnet          prefixText   `yaml:"subnet" jsonschema:"required" jsonschema_description:"The segment's IPv4 subnet, /8 to /30."`
	Server          ipv4Text     `yaml:"server" jsonschema_description:"The server identifier; answers ARP and ping. Default: the subnet's first free address."`
	Ranges          *[]rangeText `yaml:"ranges" jsonschema_description:"Addresses that are given out, as first-last or one address. Default: the whole subnet. The server and the gateway are left out anyway; an empty list serves reservations only."`
	Gateway         ipv4Text     `yaml:"gateway" jsonschema_description:"Option 3, the router."`
	DNS             []ipv4Text   `yaml:"dns" jsonschema_description:"Option 6, the name servers."`
	Domain          domainText   `yaml:"domain" jsonschema_description:"Option 15, the domain name."`
	Lease           durationText `yaml:"lease" jsonschema_description:"How long an address is leased, 10s or more. Default 12h."`
	T1              durationText `yaml:"t1" jsonschema_description:"When a client renews. Default: half the lease."`
	T2              durationText `yaml:"t2" jsonschema_description:"When a client rebinds. Default: seven eighths of the lease."`
	MTU             dhcpMTUText  `yaml:"mtu" jsonschema_description:"Option 26: a number of bytes, or off. Default: the segment's MTU."`
	Routes          []rawRoute   `yaml:"routes" jsonschema_description:"Option 121, classless static routes (RFC 3442)."`
	Options         []rawOption  `yaml:"options" jsonschema_description:"Further options, by number."`
	Hosts           []rawHost    `yaml:"hosts" jsonschema_description:"Reservations."`
	Relays          []rawRelay   `yaml:"relays" jsonschema_description:"Further subnets, served by giaddr. They inherit no options."`
	Classes         []rawClass   `yaml:"classes" jsonschema:"maxItems=64" jsonschema_description:"Options for clients that match, 64 classes at most."`
	NextServer      ipv4Text     `yaml:"next_server" jsonschema_description:"Where the boot file is fetched from (siaddr, and option 66 where options do not have it)."`
	BootFile        string       `yaml:"boot_file" jsonschema:"minLength=1,maxLength=1020" jsonschema_description:"What a client boots (the file field, and option 67 where options do not have it)."`
	Authoritative   bool         `yaml:"authoritative" jsonschema_description:"Answer an INIT-REBOOT of a client without a record by a NAK, not by silence."`
	SubnetSelection bool         `yaml:"subnet_selection" jsonschema_description:"Honour option 118 (RFC 3011)."`
	RapidCommit     bool         `yaml:"rapid_commit" jsonschema_description:"Answer a DISCOVER with option 80 by an ACK (RFC 4039). Safe only where no other server serves the segment."`
	BOOTP           bool         `yaml:"bootp" jsonschema_description:"Answer BOOTP clients (RFC 951), from reservations only."`
	Probe           probeText    `yaml:"probe" jsonschema_description:"How long an ARP probe of an address is given before the address is offered to a client that did not have it, or off. Default 200ms."`
	OfferHold       durationText `yaml:"offer_hold" jsonschema_description:"How long an offer is held for its client. Default 2m."`
	DeclineHold     durationText `yaml:"decline_hold" jsonschema_description:"How long an address is left alone that a client or a probe has found in use. Default 10m."`
	Serve           serveText    `yaml:"serve" jsonschema_description:"Who is served. segment (the default): clients behind remote VTEPs too; local: only this VTEP's ports."`
}

// shorthand makes the server of a subnet alone: `dhcp: 192.168.100.0/24`.
func (d *rawDHCP) shorthand(text string) (key string) {
	d.Subnet = prefixText(text)
	return "subnet"
}

func (*rawDHCP) shortForm() string { return "a subnet" }

func (d rawDHCP) short() (any, bool) {
	return d.Subnet, reflect.DeepEqual(d, rawDHCP{Subnet: d.Subnet})
}

type rawRoute struct {
	To  prefixText `yaml:"to" jsonschema:"required" jsonschema_description:"Destination."`
	Via ipv4Text   `yaml:"via" jsonschema:"required" jsonschema_description:"Next hop in the subnet, or 0.0.0.0 for a destination on the link."`
}

type rawOption struct {
	Code   int64      `yaml:"code" jsonschema:"required,minimum=1,maximum=254" jsonschema_description:"Option number (RFC 2132). Exactly one of ip, text, hex and number gives its value."`
	IP     []ipv4Text `yaml:"ip" jsonschema:"minItems=1" jsonschema_description:"Addresses."`
	Text   *string    `yaml:"text" jsonschema:"minLength=1" jsonschema_description:"Text, without an end mark."`
	Hex    *hexText   `yaml:"hex" jsonschema_description:"Bytes in hexadecimal."`
	Number *int64     `yaml:"number" jsonschema_description:"A number, of the width that the option's RFC gives it."`
}

func (o rawOption) written() (int64, optionText) {
	return o.Code, optionText{texts[string](o.IP), o.Text, o.Hex, o.Number}
}

type rawHost struct {
	MAC        macText      `yaml:"mac" jsonschema_description:"Whose it is, by hardware address; one of mac, client_id and port, or hostname alone."`
	ClientID   hexText      `yaml:"client_id" jsonschema_description:"Whose it is, by option 61, its type byte included."`
	Port       portNameText `yaml:"port" jsonschema_description:"Whose it is, by the name of the segment's port that it is behind."`
	IP         ipv4Text     `yaml:"ip" jsonschema:"required" jsonschema_description:"The address that is kept for it."`
	Hostname   domainText   `yaml:"hostname" jsonschema_description:"Option 12. Without mac, client_id and port: whose it is, by the name that the client gives."`
	NextServer ipv4Text     `yaml:"next_server" jsonschema_description:"Where this host fetches its boot file from (siaddr, and option 66 where options do not have it)."`
	BootFile   string       `yaml:"boot_file" jsonschema:"minLength=1,maxLength=1020" jsonschema_description:"What this host boots (the file field, and option 67 where options do not have it)."`
	Options    []rawOption  `yaml:"options" jsonschema_description:"Options for this host; they win over all others."`
}

type rawRelay struct {
	Subnet  prefixText   `yaml:"subnet" jsonschema:"required" jsonschema_description:"The subnet that giaddr is in."`
	Ranges  *[]rangeText `yaml:"ranges" jsonschema_description:"Addresses that are given out. Default: the whole subnet less the gateway."`
	Gateway ipv4Text     `yaml:"gateway" jsonschema_description:"Option 3, the router."`
	DNS     []ipv4Text   `yaml:"dns" jsonschema_description:"Option 6, the name servers."`
	Domain  domainText   `yaml:"domain" jsonschema_description:"Option 15, the domain name."`
	MTU     int64        `yaml:"mtu" jsonschema:"minimum=68,maximum=65535" jsonschema_description:"Option 26, bytes. Default: not sent."`
	Lease   durationText `yaml:"lease" jsonschema_description:"How long an address is leased, 10s or more. Default: as in the segment's own subnet, and so t1 and t2."`
	T1      durationText `yaml:"t1" jsonschema_description:"When a client renews."`
	T2      durationText `yaml:"t2" jsonschema_description:"When a client rebinds."`
	Routes  []rawRoute   `yaml:"routes" jsonschema_description:"Option 121, classless static routes (RFC 3442)."`
	Options []rawOption  `yaml:"options" jsonschema_description:"Further options, by number."`

	NextServer ipv4Text `yaml:"next_server" jsonschema_description:"Where the boot file is fetched from."`
	BootFile   string   `yaml:"boot_file" jsonschema:"minLength=1,maxLength=1020" jsonschema_description:"What a client boots."`
}

type rawClass struct {
	Vendor     string      `yaml:"vendor" jsonschema:"minLength=1" jsonschema_description:"Matches a vendor class (option 60) that begins with it. A class has exactly one matcher."`
	User       string      `yaml:"user" jsonschema:"minLength=1" jsonschema_description:"Matches a user class (option 77)."`
	Hostname   string      `yaml:"hostname" jsonschema:"minLength=1" jsonschema_description:"Matches the client's host name (option 12)."`
	CircuitID  string      `yaml:"circuit_id" jsonschema:"minLength=1" jsonschema_description:"Matches the relay's circuit id (option 82.1): text, or 0x and hexadecimal."`
	Arch       *int64      `yaml:"arch" jsonschema:"minimum=0,maximum=65535" jsonschema_description:"Matches the client's architecture (option 93), such as 7 for x86-64 UEFI."`
	NextServer ipv4Text    `yaml:"next_server" jsonschema_description:"Where a client that matches fetches its boot file from (siaddr, and option 66 where options do not have it)."`
	BootFile   string      `yaml:"boot_file" jsonschema:"minLength=1,maxLength=1020" jsonschema_description:"What a client that matches boots (the file field, and option 67 where options do not have it)."`
	Options    []rawOption `yaml:"options" jsonschema:"minItems=1" jsonschema_description:"What a client that matches gets; this, next_server or boot_file is needed."`
}
