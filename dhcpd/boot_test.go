package dhcpd_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/uvtep/uvtep/dhcpd"
)

// Clients that load their system from the network.

// boots are the fields and options that a network boot client looks at.
func (r *reply) boots() string {
	text := func(b []byte) string { return string(bytes.TrimRight(b, "\x00")) }
	return fmt.Sprintf("%s %q %q 66 %q 67 %q", r.dhcp.NextServerIP, text(r.dhcp.ServerName), text(r.dhcp.File), r.opt[66], r.opt[67])
}

func TestANetworkBootClientGetsItsFileByArchitecture(t *testing.T) {
	w := newWorld(t, func(c *dhcpd.SegmentConfig) {
		c.Classes = []dhcpd.Class{
			{Match: dhcpd.MatchUser, Value: "iPXE", Options: []dhcpd.Option{{Code: 67, Data: []byte("http://boot.blue/menu")}}},
			{Match: dhcpd.MatchArch, Arch: 7, Options: []dhcpd.Option{{Code: 67, Data: []byte("grub.efi")}}},
			{Match: dhcpd.MatchArch, Arch: 16, BootFile: "http://192.168.100.9/grub.efi", Options: []dhcpd.Option{{Code: 60, Data: []byte("HTTPClient")}}},
			{Match: dhcpd.MatchVendor, Value: "PXEClient", Options: []dhcpd.Option{
				{Code: 66, Data: []byte("192.168.100.9")}, {Code: 67, Data: []byte("pxelinux.0")}, {Code: 60, Data: []byte("PXEClient")},
				{Code: 43, Data: []byte{6, 1, 8}},
			}},
		}
	})
	pxe := func(m *dhcpv4.DHCPv4) { m.Options[60] = []byte("PXEClient:Arch:00000:UNDI:002001") }
	for name, tt := range map[string]struct {
		edit       func(m *dhcpv4.DHCPv4)
		next, file string
		vendor     string
	}{
		"BIOS":                       {pxe, "192.168.100.9", "pxelinux.0", "PXEClient"},
		"UEFI":                       {func(m *dhcpv4.DHCPv4) { pxe(m); m.Options[93] = []byte{0, 7} }, "192.168.100.9", "grub.efi", "PXEClient"},
		"iPXE, user class as a list": {func(m *dhcpv4.DHCPv4) { pxe(m); m.Options[77] = []byte("\x04iPXE") }, "192.168.100.9", "http://boot.blue/menu", "PXEClient"},
		"iPXE, user class bare":      {func(m *dhcpv4.DHCPv4) { pxe(m); m.Options[77] = []byte("iPXE") }, "192.168.100.9", "http://boot.blue/menu", "PXEClient"},
		"HTTP boot": {func(m *dhcpv4.DHCPv4) {
			m.Options[60] = []byte("HTTPClient:Arch:00016")
			m.Options[93] = []byte{0, 16}
		}, "0.0.0.0", "http://192.168.100.9/grub.efi", "HTTPClient"},
		"a client that does not boot": {func(m *dhcpv4.DHCPv4) {}, "0.0.0.0", "", ""},
	} {
		r := w.must(offer, edit(client(1).Discover(), tt.edit))
		file := string(bytes.TrimRight(r.dhcp.File, "\x00"))
		if string(r.opt[67]) != tt.file || file != tt.file || r.dhcp.NextServerIP.String() != tt.next {
			t.Errorf("%s: %s, want %s and %q", name, r.boots(), tt.next, tt.file)
		}
		if string(r.opt[60]) != tt.vendor || (tt.vendor == "PXEClient") != bytes.Equal(r.opt[43], []byte{6, 1, 8}) {
			t.Errorf("%s: option 60 %q, option 43 %x", name, r.opt[60], r.opt[43])
		}
	}
}

func TestTheBootServerAndFileAreTheHostsBeforeTheClassesBeforeTheSubnets(t *testing.T) {
	next := func(n int) netip.Addr { return addr(n) }
	asking := []uint8{1, 66, 67}
	subnet := func(c *dhcpd.SegmentConfig) { c.NextServer, c.BootFile = next(90), "subnet.0" }
	class := func(cl dhcpd.Class) func(*dhcpd.SegmentConfig) {
		cl.Match, cl.Value = dhcpd.MatchHostname, "web1"
		return func(c *dhcpd.SegmentConfig) { c.Classes = append(c.Classes, cl) }
	}
	host := func(r dhcpd.Reservation) func(*dhcpd.SegmentConfig) {
		r.MAC = mac(1)
		return reserved(r)
	}
	text := func(code uint8, s string) []dhcpd.Option { return []dhcpd.Option{{Code: code, Data: []byte(s)}} }
	for name, tt := range map[string]struct {
		edits  []func(*dhcpd.SegmentConfig)
		params []uint8
		want   string
	}{
		"nothing configured": {nil, asking, `0.0.0.0 "" "" 66 "" 67 ""`},
		"the subnet's, asked for": {
			[]func(*dhcpd.SegmentConfig){subnet}, asking,
			`192.168.100.90 "192.168.100.90" "subnet.0" 66 "192.168.100.90" 67 "subnet.0"`,
		},
		"the subnet's, where BOOTP has them": {
			[]func(*dhcpd.SegmentConfig){subnet}, []uint8{1}, `192.168.100.90 "192.168.100.90" "subnet.0" 66 "" 67 ""`,
		},
		"a class's": {
			[]func(*dhcpd.SegmentConfig){subnet, class(dhcpd.Class{NextServer: next(91), BootFile: "class.0"})}, asking,
			`192.168.100.91 "192.168.100.91" "class.0" 66 "192.168.100.91" 67 "class.0"`,
		},
		"a host's": {
			[]func(*dhcpd.SegmentConfig){
				subnet, class(dhcpd.Class{NextServer: next(91), BootFile: "class.0"}), host(dhcpd.Reservation{NextServer: next(92), BootFile: "host.0"}),
			}, asking,
			`192.168.100.92 "192.168.100.92" "host.0" 66 "192.168.100.92" 67 "host.0"`,
		},
		"a host's file, a class's server": {
			[]func(*dhcpd.SegmentConfig){subnet, class(dhcpd.Class{NextServer: next(91)}), host(dhcpd.Reservation{BootFile: "host.0"})}, asking,
			`192.168.100.91 "192.168.100.91" "host.0" 66 "192.168.100.91" 67 "host.0"`,
		},
		"the first class's": {
			[]func(*dhcpd.SegmentConfig){class(dhcpd.Class{BootFile: "one.0"}), class(dhcpd.Class{BootFile: "two.0"})}, asking,
			`0.0.0.0 "" "one.0" 66 "" 67 "one.0"`,
		},
		"options of a host before fields of the subnet": {
			[]func(*dhcpd.SegmentConfig){subnet, host(dhcpd.Reservation{Options: text(67, "option.0")})}, asking,
			`192.168.100.90 "192.168.100.90" "option.0" 66 "192.168.100.90" 67 "option.0"`,
		},
		"a server that the client has to look up": {
			[]func(*dhcpd.SegmentConfig){subnet, host(dhcpd.Reservation{Options: text(66, "boot.blue")})}, asking,
			`0.0.0.0 "boot.blue" "subnet.0" 66 "boot.blue" 67 "subnet.0"`,
		},
		"fields and options of one host": {
			[]func(*dhcpd.SegmentConfig){host(dhcpd.Reservation{BootFile: "field.0", Options: text(67, "option.0")})}, asking,
			`0.0.0.0 "" "field.0" 66 "" 67 "option.0"`,
		},
	} {
		c := client(1)
		c.Hostname, c.Params = "web1", tt.params
		offered, acked := newWorld(t, tt.edits...).bind(c)
		for _, r := range []*reply{offered, acked} {
			if r.boots() != tt.want {
				t.Errorf("%s: %v\n%s, want\n%s", name, r.typ(), r.boots(), tt.want)
			}
		}
	}
}

func TestARelaysSubnetHasABootServerOfItsOwn(t *testing.T) {
	w := newWorld(t, relayed, func(c *dhcpd.SegmentConfig) {
		c.NextServer, c.BootFile = addr(90), "own.0"
		c.Relays[0].BootFile = "relay.0"
	})
	c := client(1)
	c.GIAddr, c.Params = relayIP, []uint8{67}
	_, r := w.bindFrom(c, from{src: relayIP, dst: serverIP})
	if want := `0.0.0.0 "" "relay.0" 66 "" 67 "relay.0"`; r.boots() != want {
		t.Errorf("%s, want %s", r.boots(), want)
	}
}

func TestABootFileGivesWayToOptionsThatNeedItsField(t *testing.T) {
	w := newWorld(t, func(c *dhcpd.SegmentConfig) {
		c.NextServer, c.BootFile = addr(90), "pxelinux.0"
		for code := uint8(224); code < 228; code++ {
			c.Options = append(c.Options, dhcpd.Option{Code: code, Data: bytes.Repeat([]byte{code}, 100)})
		}
	})
	c := client(1)
	c.Params = []uint8{66, 67, 224, 225, 226, 227}
	_, r := w.bind(c)
	if r.opt[52] == nil || r.opt[52][0]&1 == 0 {
		t.Fatalf("overload %x: the test does not reach the file field", r.opt[52])
	}
	// What the fields cannot say the options do; read has parsed both fields.
	if string(r.opt[67]) != "pxelinux.0" || r.dhcp.NextServerIP.String() != addr(90).String() {
		t.Errorf("%s", r.boots())
	}
}

func TestAFileNameThatDoesNotFitItsFieldGoesOutAsAnOptionOnly(t *testing.T) {
	long := "http://boot.blue/" + string(bytes.Repeat([]byte("x"), 150))
	w := newWorld(t, func(c *dhcpd.SegmentConfig) { c.BootFile = long })
	c := client(1)
	c.Params = []uint8{67}
	if _, r := w.bind(c); string(r.opt[67]) != long || !bytes.Equal(r.dhcp.File, make([]byte, 128)) {
		t.Errorf("%s", r.boots())
	}
}

func TestANetworkBootClientsMachineIDIsEchoed(t *testing.T) {
	id := append([]byte{0}, bytes.Repeat([]byte{0xab}, 16)...)
	for _, tt := range []struct {
		vendor string
		id     []byte
		want   []byte
	}{
		{"PXEClient:Arch:00000", id, id}, {"PXEClient", id[:9], nil}, {"udhcp 1.36", id, nil}, {"PXEClient", nil, nil},
	} {
		msg := edit(client(1).Discover(), func(m *dhcpv4.DHCPv4) {
			m.Options[60] = []byte(tt.vendor)
			if tt.id != nil {
				m.Options[97] = tt.id
			}
		})
		if r := newWorld(t).must(offer, msg); !slices.Equal(r.opt[97], tt.want) {
			t.Errorf("%s with %x: option 97 is %x, want %x", tt.vendor, tt.id, r.opt[97], tt.want)
		}
	}
}
