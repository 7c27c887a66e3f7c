package config

// The types in this file and in raw_dhcp.go are the configuration file as it is
// written: the decoder, the schema and the writer all follow their tags. Only
// what has a meaning of its own when it is zero is a pointer.

type rawConfig struct {
	Underlay rawUnderlay  `yaml:"underlay" jsonschema:"required" jsonschema_description:"The network that carries the tunnel."`
	Workers  int64        `yaml:"workers" jsonschema:"minimum=0,maximum=1024" jsonschema_description:"How many workers carry frames; 0 is one per core."`
	Offload  rawOffload   `yaml:"offload" jsonschema_description:"What the kernel does for many segments at once: auto (whatever it can), off, or each by itself."`
	BusyPoll durationText `yaml:"busy_poll" jsonschema_description:"How long a worker looks for more frames before it sleeps, up to 10ms; 0s is not at all. Default 30us."`
	State    string       `yaml:"state" jsonschema:"minLength=1" jsonschema_description:"Directory of the leases and of whatever else must outlive a restart. Default /var/lib/uvtep."`
	API      rawAPI       `yaml:"api" jsonschema_description:"Where the daemon is asked and told."`
	MaxMACs  int64        `yaml:"max_macs" jsonschema:"minimum=0,maximum=16777216" jsonschema_description:"Limit of learned MACs of all segments together; 0 (the default) is none. When it is reached, a port or VTEP that has less than its share takes the place of one that has more."`
	Segments []rawSegment `yaml:"segments" jsonschema_description:"The broadcast domains, one a VNI."`
	Trunks   []rawTrunk   `yaml:"trunks" jsonschema_description:"TAPs that are ports of several segments, told apart by 802.1Q tag."`
	Pairs    []rawPair    `yaml:"pairs" jsonschema_description:"Ports that join two segments, or one VLAN inside one of them with the other."`
}

type rawUnderlay struct {
	Local       addrText       `yaml:"local" jsonschema:"required" jsonschema_description:"This VTEP's address, IPv4 or IPv6; one of this host's."`
	Port        int64          `yaml:"port" jsonschema:"minimum=1,maximum=65535" jsonschema_description:"UDP port listened on and sent to: 4789 (IANA, the default), 8472 (older Linux peers), or any."`
	Device      ifnameText     `yaml:"device" jsonschema_description:"Interface of the multicast groups; without it the route decides."`
	Accept      acceptText     `yaml:"accept" jsonschema_description:"Who is decapsulated. peers (the default): configured or controlled VTEPs only; any: everyone."`
	Checksum    *bool          `yaml:"checksum" jsonschema_description:"Send outer UDP checksums (default true); zero checksums cost receivers their GRO."`
	TTL         ttlText        `yaml:"ttl" jsonschema_description:"Outer TTL or hop limit, 1 to 255 (default 64), or inherit."`
	TOS         tosText        `yaml:"tos" jsonschema_description:"Outer TOS or traffic class, a number whose two ECN bits are zero, or inherit (the default). ECN follows RFC 6040 either way."`
	DF          dfText         `yaml:"df" jsonschema_description:"The don't-fragment flag of outer IPv4 headers: true (the default), false (routers may fragment), or inherit: that of the inner IPv4 header, true where there is none."`
	Fragment    bool           `yaml:"fragment" jsonschema_description:"A last resort: this host sends what is too big for the path in fragments, over IPv4 without DF, instead of dropping it."`
	ZeroSum6    bool           `yaml:"zero_checksum6" jsonschema_description:"Accept packets without a UDP checksum over IPv6 (RFC 6935, RFC 6936); checksum: false accepts them too."`
	GBP         bool           `yaml:"gbp" jsonschema_description:"Read and write the group policy tag of VXLAN headers (draft-smith-vxlan-group-policy; Linux: gbp)."`
	Strict      bool           `yaml:"strict" jsonschema_description:"Drop packets that set reserved bits of the VXLAN header, as Linux does; RFC 7348 says to ignore them, which is the default."`
	SourcePorts rawSourcePorts `yaml:"source_ports" jsonschema_description:"Outer UDP source ports, which spread flows over paths and queues."`
}

type rawSourcePorts struct {
	Count int64         `yaml:"count" jsonschema:"minimum=1,maximum=256" jsonschema_description:"How many source ports flows are spread over. Default 16."`
	Range portRangeText `yaml:"range" jsonschema_description:"Where they are taken from. Default 49152-65535."`
}

type rawOffload struct {
	All    offloadText `yaml:"-"`
	TUNGSO *bool       `yaml:"tun_gso" jsonschema_description:"TAPs hand over super-frames (TSO, USO). Default true: where the kernel can."`
	TUNGRO *bool       `yaml:"tun_gro" jsonschema_description:"TAPs take super-frames. Default true."`
	UDPGSO *bool       `yaml:"udp_gso" jsonschema_description:"Many tunnel packets leave in one system call. Default true."`
	UDPGRO *bool       `yaml:"udp_gro" jsonschema_description:"The tunnel packets of a flow arrive as one. Default true."`
}

// shorthand is one word for all of it.
func (o *rawOffload) shorthand(word string) (key string) {
	o.All = offloadText(word)
	return ""
}

func (*rawOffload) shortForm() string { return "auto, off" }

func (o rawOffload) short() (any, bool) { return o.All, o.All != "" }

type rawAPI struct {
	Socket string  `yaml:"socket" jsonschema:"minLength=1,maxLength=107" jsonschema_description:"Unix socket of the control API. Default /run/uvtep/uvtep.sock."`
	HTTP   *string `yaml:"http" jsonschema_description:"Loopback address and port of the metrics and of the read-only API. Default 127.0.0.1:9479; empty is off."`
}

type rawSegment struct {
	VNI      int64        `yaml:"vni" jsonschema:"required,minimum=1,maximum=16777215" jsonschema_description:"VXLAN network identifier."`
	Name     nameText     `yaml:"name" jsonschema_description:"What people call the segment. Default vni and its number."`
	MTU      int64        `yaml:"mtu" jsonschema:"minimum=68,maximum=65535" jsonschema_description:"MTU of its ports, bytes. Default: the underlay's less the overhead."`
	Peers    []addrText   `yaml:"peers" jsonschema_description:"Remote VTEPs that broadcast, unknown unicast and multicast are replicated to (head-end replication)."`
	Group    addrText     `yaml:"group" jsonschema_description:"Multicast group for the same purpose. Its senders are not known beforehand, so it needs accept: any."`
	Device   ifnameText   `yaml:"device" jsonschema_description:"Interface that the group is joined and sent on. Default: underlay.device or, without it, the one that has underlay.local."`
	Learning *bool        `yaml:"learning" jsonschema_description:"Learn which MAC is behind which port or VTEP. Default true."`
	Ageing   durationText `yaml:"ageing" jsonschema_description:"How long a learned MAC outlives its last frame, in whole seconds. Default 300s."`
	MaxMACs  int64        `yaml:"max_macs" jsonschema:"minimum=1,maximum=16777216" jsonschema_description:"Limit of learned MACs (default 8192). When full, known ones stay and new ones are forwarded but not learned, unless their port or VTEP has less than its share."`

	MACMoves       *int64       `yaml:"mac_moves" jsonschema:"minimum=0,maximum=1000" jsonschema_description:"A MAC that moved so often within mac_moves_within is held for as long where it was before, and frames from it that come elsewhere are dropped. Default 5; 0 is never."`
	MACMovesWithin durationText `yaml:"mac_moves_within" jsonschema_description:"In whole seconds, up to 24h. Default 180s."`

	FDB      []rawStatic    `yaml:"fdb" jsonschema_description:"Static entries; they never move or age."`
	Ports    []rawPort      `yaml:"ports" jsonschema_description:"Where guests are attached."`
	Suppress []suppressText `yaml:"suppress" jsonschema_description:"Which requests are answered, where the answer is known, instead of being flooded: arp (ARP), nd (neighbour solicitations). Default: none."`
	DHCP     *rawDHCP       `yaml:"dhcp" jsonschema_description:"The DHCPv4 server of the segment, or only its subnet, such as 192.168.100.0/24."`
	DHCP6    *rawDHCP6      `yaml:"dhcp6" jsonschema_description:"The DHCPv6 server of the segment, or only its subnet, such as 2001:db8:100::/64."`
	RA       *rawRA         `yaml:"ra" jsonschema_description:"Router advertisements in the segment; true is with defaults only."`

	ProtectedMACs []macText `yaml:"protected_macs" jsonschema_description:"Hardware addresses that may send from trusted ports and through the tunnel only, such as the gateway's."`
}

type rawStatic struct {
	MAC  macText      `yaml:"mac" jsonschema:"required" jsonschema_description:"The guest's unicast hardware address."`
	Dst  addrText     `yaml:"dst" jsonschema_description:"The VTEP that it is behind; either this or port."`
	Port portNameText `yaml:"port" jsonschema_description:"The name of the port that it is behind; either this or dst."`
	IPs  []addrText   `yaml:"ips" jsonschema_description:"The guest's addresses, IPv4 and IPv6, for suppress."`
}

type rawPort struct {
	TAP      ifnameText `yaml:"tap" jsonschema_description:"TAP device; created if it is not there. Also the port's name. One of tap, stream and nic."`
	Stream   string     `yaml:"stream" jsonschema:"pattern=^/,maxLength=107" jsonschema_description:"Absolute path of a Unix socket that QEMU connects to (-netdev stream): a virtual machine without TAP or privileges. Its last element is the port's name. Has no netns, rename, mac and bridge."`
	NIC      ifnameText `yaml:"nic" jsonschema_description:"Interface whose frames enter the segment, all of them, and by which those of the segment leave, as from a bridge. Also the port's name. Has no rename, mac and bridge; netns is where it is."`
	NetNS    string     `yaml:"netns" jsonschema:"minLength=1" jsonschema_description:"Network namespace, a name or a path, that the kernel side is moved to. Without it, it stays."`
	Rename   ifnameText `yaml:"rename" jsonschema_description:"What the kernel side is called there."`
	MAC      macText    `yaml:"mac" jsonschema_description:"Hardware address of the kernel side."`
	Bridge   ifnameText `yaml:"bridge" jsonschema_description:"Linux bridge that the kernel side is enslaved to."`
	Isolated bool       `yaml:"isolated" jsonschema_description:"Isolated ports reach remote VTEPs and ports that are not isolated, but not each other."`
	MaxMACs  int64      `yaml:"max_macs" jsonschema:"minimum=0,maximum=16777216" jsonschema_description:"Limit of MACs learned on this port; 0 is the segment's."`

	MaxLeases    int64 `yaml:"max_leases" jsonschema:"minimum=0,maximum=16777216" jsonschema_description:"How many DHCP leases its clients may have, IPv4 and IPv6 each; 0 (the default) is no limit."`
	DHCPRate     int64 `yaml:"dhcp_rate" jsonschema:"minimum=0,maximum=1000000" jsonschema_description:"How many DHCP messages a second of its clients are served; 0 (the default) is no limit."`
	DHCPCheckMAC bool  `yaml:"dhcp_check_mac" jsonschema_description:"Serve only DHCP clients that name the source of their frame as their hardware address; messages of relays aside."`

	Storm rawStorm `yaml:"storm" jsonschema_description:"How much of what comes from it is flooded, packets a second of each class, or one number for all three; a second's worth may come at once. 0 (the default) is no limit."`

	GBP      int64   `yaml:"gbp" jsonschema:"minimum=0,maximum=65535" jsonschema_description:"Group policy id that the frames from this port carry; 0 (the default) is none. Needs underlay.gbp."`
	GBPAllow []int64 `yaml:"gbp_allow" jsonschema:"minItems=1" jsonschema_description:"Group policy ids of the frames that this port gets, and no others; 0 is frames without one. Default: all frames. Needs underlay.gbp."`

	Bind      bindText     `yaml:"bind" jsonschema_description:"Who may send: none (the default) is anybody; lease: who has a lease, from the leased address; static: who is in addresses."`
	Addresses []rawAddress `yaml:"addresses" jsonschema_description:"Who may send from which address, with bind: static, and besides leases with bind: lease."`
	Trusted   *bool        `yaml:"trusted" jsonschema_description:"May send as DHCP server, as router, and from protected MACs. Default: false where the port is bound or the segment has dhcp, dhcp6, ra or protected_macs, else true."`
}

type rawStorm struct {
	Broadcast int64 `yaml:"broadcast" jsonschema:"minimum=0,maximum=100000000" jsonschema_description:"Limit of broadcasts."`
	Multicast int64 `yaml:"multicast" jsonschema:"minimum=0,maximum=100000000" jsonschema_description:"Limit of what goes to groups."`
	Unknown   int64 `yaml:"unknown" jsonschema:"minimum=0,maximum=100000000" jsonschema_description:"Limit of unicast to addresses that are known nowhere."`
}

// all is one number for all classes.
func (r *rawStorm) all(n int64) { *r = rawStorm{n, n, n} }

func (r rawStorm) short() (any, bool) {
	return r.Broadcast, r == rawStorm{r.Broadcast, r.Broadcast, r.Broadcast}
}

type rawAddress struct {
	MAC macText          `yaml:"mac" jsonschema:"required" jsonschema_description:"The station's unicast hardware address."`
	IP  addrOrPrefixText `yaml:"ip" jsonschema:"required" jsonschema_description:"The address, or prefix, that it may send from."`
}
