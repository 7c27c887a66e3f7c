package lab

import (
	"fmt"

	"github.com/goccy/go-yaml"
)

// The part of uvtep's configuration that a lab writes. It is spelled out here
// and not borrowed from the daemon, so that a lab speaks to the daemon as its
// users do: in the documented keys.
type (
	fileConfig struct {
		Underlay fileUnderlay  `yaml:"underlay"`
		State    string        `yaml:"state"`
		API      fileAPI       `yaml:"api"`
		Segments []fileSegment `yaml:"segments"`
	}
	fileUnderlay struct {
		Local  string `yaml:"local"`
		Port   uint16 `yaml:"port"`
		Device string `yaml:"device"`
	}
	fileAPI struct {
		Socket string `yaml:"socket"`
		HTTP   string `yaml:"http"`
	}
	fileSegment struct {
		VNI   uint32     `yaml:"vni"`
		Peers []string   `yaml:"peers,omitempty,flow"`
		Ports []filePort `yaml:"ports,omitempty"`
		DHCP  *fileDHCP  `yaml:"dhcp,omitempty"`
	}
	filePort struct {
		Tap    string `yaml:"tap"`
		NetNS  string `yaml:"netns"`
		Rename string `yaml:"rename"`
		MAC    string `yaml:"mac"`
	}
	fileDHCP struct {
		Subnet string         `yaml:"subnet"`
		Server string         `yaml:"server"`
		Ranges []string       `yaml:"ranges,flow"`
		Lease  string         `yaml:"lease"`
		Hosts  []fileDHCPHost `yaml:"hosts"`
	}
	fileDHCPHost struct {
		MAC      string `yaml:"mac"`
		IP       string `yaml:"ip"`
		Hostname string `yaml:"hostname"`
	}
)

// leaseTime outlives any lab: its guests' clients do not stay to renew.
const leaseTime = "168h"

// config is a host's configuration, in YAML.
func (l *Lab) config(h *Host) ([]byte, error) {
	c := fileConfig{
		Underlay: fileUnderlay{Local: h.Underlay.Addr().String(), Port: l.Port, Device: guestInterface},
		State:    h.StateDir,
		API:      fileAPI{Socket: h.Socket},
	}
	for _, vni := range l.VNIs {
		s := fileSegment{VNI: vni}
		for _, peer := range l.Hosts {
			if peer != h {
				s.Peers = append(s.Peers, peer.Underlay.Addr().String())
			}
		}
		for _, g := range l.of(vni) {
			if g.Host == h.Name {
				s.Ports = append(s.Ports, filePort{Tap: g.Tap, NetNS: g.NetNS, Rename: guestInterface, MAC: g.MAC})
			}
		}
		if h == l.Hosts[0] {
			s.DHCP = l.dhcp(vni)
		}
		c.Segments = append(c.Segments, s)
	}
	return yaml.Marshal(c)
}

// dhcp reserves the same address for the guest of the same number in every
// segment, in whatever order they ask.
func (l *Lab) dhcp(vni uint32) *fileDHCP {
	d := &fileDHCP{
		Subnet: l.Subnet.String(),
		Server: l.server().String(),
		Ranges: []string{fmt.Sprintf("%s-%s", l.reserved(1), l.last())},
		Lease:  leaseTime,
	}
	for _, g := range l.of(vni) {
		d.Hosts = append(d.Hosts, fileDHCPHost{MAC: g.MAC, IP: l.reserved(g.Index).String(), Hostname: g.Name})
	}
	return d
}
