package config

import (
	"cmp"
	"maps"
	"slices"
	"strconv"

	"github.com/invopop/jsonschema"
)

// The ports that belong to more than one segment, as they are written.

type rawTrunk struct {
	TAP      ifnameText `yaml:"tap" jsonschema:"required" jsonschema_description:"TAP device; created if it is not there. The port of VLAN 101 is called by this name, a dot and 101; that of untagged frames by this name."`
	VLANs    vlanTable  `yaml:"vlans" jsonschema_description:"VLAN (1 to 4094) to VNI: frames of the VLAN are the segment's, without their tag."`
	Native   int64      `yaml:"native" jsonschema:"minimum=1,maximum=16777215" jsonschema_description:"VNI of the segment whose frames have no tag here. Without it, untagged frames are dropped."`
	NetNS    string     `yaml:"netns" jsonschema:"minLength=1" jsonschema_description:"Network namespace, a name or a path, that the kernel side is moved to. Without it, it stays."`
	Rename   ifnameText `yaml:"rename" jsonschema_description:"What the kernel side is called there."`
	MAC      macText    `yaml:"mac" jsonschema_description:"Hardware address of the kernel side."`
	Bridge   ifnameText `yaml:"bridge" jsonschema_description:"Linux bridge that the kernel side is enslaved to; it needs vlan_filtering to look at tags."`
	Isolated bool       `yaml:"isolated" jsonschema_description:"In each of its segments, the trunk exchanges nothing with other isolated ports."`
	MaxMACs  int64      `yaml:"max_macs" jsonschema:"minimum=0,maximum=16777216" jsonschema_description:"Limit of MACs learned on it in each of its segments; 0 is the segment's."`

	MaxLeases    int64 `yaml:"max_leases" jsonschema:"minimum=0,maximum=16777216" jsonschema_description:"How many DHCP leases its clients may have in each of its segments, IPv4 and IPv6 each; 0 (the default) is no limit."`
	DHCPRate     int64 `yaml:"dhcp_rate" jsonschema:"minimum=0,maximum=1000000" jsonschema_description:"How many DHCP messages a second of its clients are served in each of its segments; 0 (the default) is no limit."`
	DHCPCheckMAC bool  `yaml:"dhcp_check_mac" jsonschema_description:"Serve only DHCP clients that name the source of their frame as their hardware address; messages of relays aside."`
}

type rawPair struct {
	Name nameText `yaml:"name" jsonschema:"required" jsonschema_description:"What the pair is called; its ports are called by this name and .a or .b."`
	A    rawEnd   `yaml:"a" jsonschema:"required" jsonschema_description:"One end."`
	B    rawEnd   `yaml:"b" jsonschema:"required" jsonschema_description:"The other end, in another segment."`
}

type rawEnd struct {
	VNI  int64 `yaml:"vni" jsonschema:"required,minimum=1,maximum=16777215" jsonschema_description:"The segment that it is in."`
	VLAN int64 `yaml:"vlan" jsonschema:"minimum=1,maximum=4094" jsonschema_description:"Only this VLAN of the segment is joined, and its tag is not there on the other side. Without it all frames are, as they are."`
}

// vlanTable is VNIs by VLAN, as the numbers are written.
type vlanTable map[string]int64

func (vlanTable) JSONSchema() *jsonschema.Schema {
	return &jsonschema.Schema{
		Type:                 "object",
		PropertyNames:        pattern(`^([1-9][0-9]{0,2}|[1-3][0-9]{3}|40[0-8][0-9]|409[0-4])$`),
		AdditionalProperties: &jsonschema.Schema{Type: "integer", Minimum: "1", Maximum: "16777215"},
	}
}

// JSONSchemaExtend says that a trunk carries something.
func (rawTrunk) JSONSchemaExtend(s *jsonschema.Schema) { s.AnyOf = oneRequired("vlans", "native") }

// order is the table's keys, as numbers are ordered.
func (t vlanTable) order() []string {
	return slices.SortedFunc(maps.Keys(t), func(a, b string) int {
		return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
	})
}

// port is what a trunk has in common with a port.
func (t *rawTrunk) port() *rawPort {
	return &rawPort{
		TAP: t.TAP, NetNS: t.NetNS, Rename: t.Rename, MAC: t.MAC, Bridge: t.Bridge, Isolated: t.Isolated, MaxMACs: t.MaxMACs,
		MaxLeases: t.MaxLeases, DHCPRate: t.DHCPRate, DHCPCheckMAC: t.DHCPCheckMAC,
	}
}

// rawTrunkOf is the trunk as it is written.
func rawTrunkOf(t *Trunk) rawTrunk {
	p := rawPortOf(t.Port)
	raw := rawTrunk{
		TAP: p.TAP, Native: int64(t.Native), NetNS: p.NetNS, Rename: p.Rename, MAC: p.MAC, Bridge: p.Bridge, Isolated: p.Isolated, MaxMACs: p.MaxMACs,
		MaxLeases: p.MaxLeases, DHCPRate: p.DHCPRate, DHCPCheckMAC: p.DHCPCheckMAC,
	}
	for _, m := range t.VLANs {
		if raw.VLANs == nil {
			raw.VLANs = vlanTable{}
		}
		raw.VLANs[strconv.Itoa(int(m.VLAN))] = int64(m.VNI)
	}
	return raw
}

func rawPairOf(p *Pair) rawPair {
	return rawPair{Name: nameText(p.Name), A: rawEnd{int64(p.A.VNI), int64(p.A.VLAN)}, B: rawEnd{int64(p.B.VNI), int64(p.B.VLAN)}}
}
