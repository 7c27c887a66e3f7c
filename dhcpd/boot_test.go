package dhcpd_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
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

// bootpRequest is a message without option 53, as RFC 951 has it: 300 bytes, the
// vendor area begins with the cookie or is empty.
func bootpRequest(n int, vendor ...byte) []byte {
	b := make([]byte, 300)
	b[0], b[1], b[2] = 1, 1, 6
	b[7] = byte(n)
	copy(b[28:], mac(n))
	copy(b[236:], vendor)
	return b
}

// bootpReply parses an answer to BOOTP, whose vendor area has what there is.
func bootpReply(t *testing.T, w *world, payload []byte, f from) (r *reply) {
	t.Helper()
	req := dhcpd.Request{Payload: payload, Src: netip.IPv4Unspecified(), Dst: broadcast, SrcMAC: [6]byte(payload[28:34]), Port: f.port, MaxLeases: f.max}
	out := w.srv.Serve(&req, func(p dhcpd.Reply) {
		p.Payload = slices.Clone(p.Payload)
		r = &reply{Reply: p, opt: map[byte][]byte{}}
		if err := r.dhcp.DecodeFromBytes(p.Payload, gopacket.NilDecodeFeedback); err != nil {
			t.Fatal(err)
		}
		for _, o := range r.dhcp.Options {
			if code := byte(o.Type); code != 0 && code != 255 {
				r.order = append(r.order, code)
				r.opt[code] = o.Data
			}
		}
	})
	if r == nil || out != dhcpd.Answered {
		t.Fatalf("outcome %v, reply %v", out, r)
	}
	return r
}

func TestABOOTPClientIsAnsweredFromItsReservation(t *testing.T) {
	w := newWorld(t, func(c *dhcpd.SegmentConfig) { c.BOOTP, c.NextServer, c.BootFile = true, addr(90), "kernel" }, relayed,
		reserved(dhcpd.Reservation{MAC: mac(1), IP: addr(200), Hostname: "old1"}, dhcpd.Reservation{Port: "tap2", IP: addr(201)}))
	magic := []byte{0x63, 0x82, 0x53, 0x63}
	for name, vendor := range map[string][]byte{
		"no vendor area":          nil,
		"an empty one":            append(slices.Clone(magic), 255),
		"one without an End":      magic,
		"one with the BOOTP size": append(slices.Clone(magic), 57, 2, 5, 0, 255),
	} {
		r := bootpReply(t, w, bootpRequest(1, vendor...), from{})
		if r.dhcp.Operation != layers.DHCPOpReply || r.yiaddr() != addr(200) || r.dhcp.Xid != 1 || len(r.Payload) < 300 {
			t.Errorf("%s: op %d, yiaddr %s, number %d, %d bytes", name, r.dhcp.Operation, r.yiaddr(), r.dhcp.Xid, len(r.Payload))
		}
		// What BOOTP has, and nothing of DHCP's: no type, server, times, client id.
		if want := []byte{1, 3, 6, 15, 26, 66, 67, 12}; !slices.Equal(r.order[:4], want[:4]) || slices.ContainsFunc(r.order, func(c byte) bool { return c >= 50 && c <= 61 }) {
			t.Errorf("%s: options %v", name, r.order)
		}
		if file := string(bytes.TrimRight(r.dhcp.File, "\x00")); file != "kernel" || r.dhcp.NextServerIP.String() != addr(90).String() {
			t.Errorf("%s: file %q at %s", name, file, r.dhcp.NextServerIP)
		}
		if want := "192.168.100.200:68 02:00:00:00:00:01"; r.sent() != want {
			t.Errorf("%s: sent to %s, want %s", name, r.sent(), want)
		}
	}
	if r := bootpReply(t, w, bootpRequest(2), from{port: "tap2"}); r.yiaddr() != addr(201) {
		t.Errorf("by its port it got %s", r.yiaddr())
	}
	// There is no lease that could end, and the pool is not for it.
	if l := w.srv.Leases(); len(l) != 2 || l[0].State != dhcpd.StateReserved {
		t.Errorf("leases %+v", l)
	}
	w.clock.Advance(1000 * time.Hour)
	if r := bootpReply(t, w, bootpRequest(1), from{}); r.yiaddr() != addr(200) {
		t.Errorf("later it got %s", r.yiaddr())
	}
	w.silent(dhcpd.IgnoredUnknown, bootpRequest(9), from{})
	if s := w.srv.Stats(); s.In[0] != 7 || s.Out[0] != 6 {
		t.Errorf("%d requests, %d replies are counted, want 7 and 6", s.In[0], s.Out[0])
	}
}

func TestABOOTPReplyIsNoLongerThanItsRequestUnlessTheClientTakesMore(t *testing.T) {
	w := newWorld(t, func(c *dhcpd.SegmentConfig) {
		c.BOOTP = true
		c.Options = []dhcpd.Option{{Code: 200, Data: bytes.Repeat([]byte{7}, 100)}}
	}, reserved(dhcpd.Reservation{MAC: mac(1), IP: addr(200)}))
	magic := []byte{0x63, 0x82, 0x53, 0x63}
	long := append(bootpRequest(1, magic...), make([]byte, 200)...)
	for _, tt := range []struct {
		msg     []byte
		longest int
		all     bool
	}{
		{bootpRequest(1, magic...), 300, false}, {long, 500, true},
		{bootpRequest(1, append(slices.Clone(magic), 57, 2, 4, 0, 255)...), 1024, true},
	} {
		r := bootpReply(t, w, tt.msg, from{})
		if len(r.Payload) > tt.longest || (r.opt[200] != nil) != tt.all || r.opt[1] == nil || r.opt[52] != nil {
			t.Errorf("%d bytes were answered by %d with options %v, want at most %d", len(tt.msg), len(r.Payload), r.order, tt.longest)
		}
	}
}

func TestABOOTPClientBehindARelayIsAnsweredThroughIt(t *testing.T) {
	there := netip.MustParseAddr("192.168.200.50")
	w := newWorld(t, func(c *dhcpd.SegmentConfig) { c.BOOTP = true }, relayed, reserved(dhcpd.Reservation{MAC: mac(1), IP: there}))
	msg := bootpRequest(1)
	copy(msg[24:], relayIP.AsSlice())
	r := bootpReply(t, w, msg, from{})
	if want := "192.168.200.1:67 02:00:00:00:00:01"; r.yiaddr() != there || r.sent() != want {
		t.Errorf("%s sent to %s, want %s", r.yiaddr(), r.sent(), want)
	}
}

func TestBOOTPIsIgnoredUnlessItIsOnAndWhoeverHoldsTheAddressKeepsIt(t *testing.T) {
	host := reserved(dhcpd.Reservation{MAC: mac(1), IP: addr(10)})
	off := newWorld(t, host)
	off.silent(dhcpd.IgnoredBOOTP, bootpRequest(1), from{})
	off.silent(dhcpd.IgnoredBOOTP, bootpRequest(1, 0x63, 0x82, 0x53, 0x63, 255), from{})
	w := newWorld(t, func(c *dhcpd.SegmentConfig) { c.BOOTP = true })
	c := client(2)
	w.bind(c)
	if err := w.srv.Reserve(dhcpd.Reservation{MAC: mac(1), IP: c.IP}); err != nil {
		t.Fatal(err)
	}
	w.silent(dhcpd.NoLease, bootpRequest(1), from{})
	if !w.happened(dhcpd.EventBlocked) {
		t.Errorf("events %v", w.kinds())
	}
	was := c.IP
	w.askFrom(c.Release(), from{src: was, dst: serverIP})
	if r := bootpReply(t, w, bootpRequest(1), from{}); r.yiaddr() != was {
		t.Errorf("got %s", r.yiaddr())
	}
	// DHCP goes on beside it.
	w.bind(c)
}
