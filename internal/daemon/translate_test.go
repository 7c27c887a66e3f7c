package daemon

import (
	"fmt"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/uvtep/uvtep/internal/config"
	"github.com/uvtep/uvtep/internal/underlay"
	"github.com/uvtep/uvtep/vtep"
)

// everything is the shipped file, which has every key, with values that are not
// the defaults.
func everything(t *testing.T) *config.Config {
	t.Helper()
	text, err := os.ReadFile("../../packaging/uvtep.yaml")
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.NewReplacer(
		"port: 4789 ", "port: 8472 ", "checksum: true", "checksum: false", "ttl: 64", "ttl: inherit", "tos: inherit", "tos: 8",
		"strict: false", "strict: true", "df: true ", "df: false", "fragment: false", "fragment: true", "zero_checksum6: false", "zero_checksum6: true", "count: 16", "count: 8", "range: 49152-65535", "range: 50000-60000", "workers: 0", "workers: 3", "udp_gso: true", "udp_gso: false", "tun_gro: true", "tun_gro: false",
		"learning: true", "learning: false", "isolated: false", "isolated: true", "max_macs: 0", "max_macs: 5",
		"authoritative: false", "authoritative: true", "subnet_selection: false", "subnet_selection: true", "serve: segment ", "serve: local ",
		"rapid_commit: false", "rapid_commit: true", "bootp: false", "bootp: true", "autonomous: false", "autonomous: true", "lifetime: 0s", "lifetime: 30m",
		"    group: 239.1.1.200", "    mtu: 1450\n    group: 239.1.1.200", "tap: tap101", "tap: tap101\n        netns: guest2",
	).Replace(string(text))
	c, err := config.Parse("uvtep.yaml", []byte(changed))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// zeros are the paths of the fields of v that are zero, or empty, in every
// element of the lists that they are in.
func zeros(v reflect.Value, path string) []string {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			return zeros(v.Elem(), path)
		}
	case reflect.Struct:
		if v.Type().PkgPath() != "net/netip" && v.Type().NumField() > 0 {
			var out []string
			for i := range v.NumField() {
				if f := v.Type().Field(i); f.IsExported() {
					out = append(out, zeros(v.Field(i), path+"."+f.Name)...)
				}
			}
			return out
		}
	case reflect.Slice:
		if v.Len() > 0 && v.Type().Elem().Kind() == reflect.Struct {
			missing := map[string]int{}
			for i := range v.Len() {
				for _, p := range zeros(v.Index(i), path+"[]") {
					missing[p]++
				}
			}
			var out []string
			for p, n := range missing {
				if n == v.Len() {
					out = append(out, p)
				}
			}
			return out
		}
	}
	if v.IsZero() || v.Kind() == reflect.Slice && v.Len() == 0 {
		return []string{path}
	}
	return nil
}

func TestEveryKeyReachesTheSwitch(t *testing.T) {
	c := everything(t)
	ignore := map[string]bool{
		// Given by the daemon, or without a key.
		".Logger": true, ".Clock": true, ".Events": true, ".DHCP": true, ".OpenTAP": true, ".OpenUnderlay": true, "[].Device": true,
		"[].DHCP.Server.MaxOffers": true, "[].DHCP6.Server.MaxOffers": true, "[].DHCP6.Server.DUID": true,
		".TTL": true, // inherited here
	}
	var segments []vtep.SegmentConfig
	var ports []vtep.PortConfig
	for _, s := range c.Segments {
		segments = append(segments, segmentConfig(s, 1450))
	}
	for _, q := range inOrder(portsOf(c)) {
		ports = append(ports, q.config())
	}
	check := func(what string, v any) {
		t.Helper()
		for _, p := range zeros(reflect.ValueOf(v), "") {
			if !ignore[p] && !strings.HasSuffix(p, ".Always") {
				t.Errorf("%s: nothing sets %s", what, p)
			}
		}
	}
	check("the VTEP", vtepConfig(c))
	check("segments", segments)
	ignore["[].Group"], ignore["[].Device"] = true, true // of the second
	check("the first segment", segments[:1])
	check("ports", ports)
}

func TestTheRestOfTheUnderlaysKeysReachIt(t *testing.T) {
	c := everything(t)
	var got underlay.Config
	o := Options{OpenUnderlay: func(u underlay.Config) (underlay.Endpoint, error) {
		got = u
		return nil, underlay.ErrPortInUse
	}}
	vc := vtepConfig(c)
	vc.OpenUnderlay = o.underlayOpener(c.Underlay.SourcePorts)
	if _, err := vtep.New(vc); err == nil {
		t.Fatal("a VTEP without an underlay")
	}
	want := underlay.Config{
		Local: netip.MustParseAddr("10.9.0.1"), Port: 8472, Device: "eth0", TTL: 64, Queues: 3, Sources: 8, SourceLow: 50000, SourceHigh: 60000,
		Offload: underlay.GRO, ZeroSum6: true, DF: underlay.DFClear, Fragment: true,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("it was opened as %+v, want %+v", got, want)
	}
}

func TestTheDFFlagIsWhatTheKeySays(t *testing.T) {
	for text, want := range map[string]vtep.DF{"": vtep.DFSet, ", df: true": vtep.DFSet, ", df: false": vtep.DFClear, ", df: inherit": vtep.DFInherit, ", fragment: true": vtep.DFClear} {
		c, err := config.Parse("f", []byte("underlay: {local: 10.9.0.1"+text+"}\n"))
		if err != nil {
			t.Fatal(err)
		}
		if got := vtepConfig(c).DF; got != want {
			t.Errorf("%q becomes %v, want %v", text, got, want)
		}
	}
}

func TestWhatValidatesCanBeServed(t *testing.T) {
	classes := func(n int) string {
		var all []string
		for i := range n {
			all = append(all, fmt.Sprintf("{arch: %d, options: [{code: 67, text: x}]}", i))
		}
		return "subnet: 10.0.0.0/24, classes: [" + strings.Join(all, ", ") + "]"
	}
	bytes := func(n int) string { return strings.Repeat("0a", n) }
	for _, tc := range []struct{ good, bad string }{
		{"subnet: 10.0.0.0/24, lease: 10s", "subnet: 10.0.0.0/24, lease: 9s"},
		{"subnet: 10.0.0.0/24, lease: 4294967294s", "subnet: 10.0.0.0/24, lease: 4294967295s"},
		{"subnet: 10.0.0.0/24, lease: 10s, t1: 1s, t2: 2s", "subnet: 10.0.0.0/24, lease: 10s, t1: 0s, t2: 2s"},
		{"subnet: 10.0.0.0/24, lease: 10s, t1: 8s, t2: 9s", "subnet: 10.0.0.0/24, lease: 10s, t1: 9s, t2: 9s"},
		{"subnet: 10.0.0.0/8", "subnet: 10.0.0.0/7"},
		{"subnet: 10.0.0.4/30", "subnet: 10.0.0.4/31"},
		{"subnet: 10.0.0.0/24, ranges: [], hosts: [{mac: \"02:00:00:00:00:01\", ip: 10.0.0.9}]", ""},
		{"subnet: 10.0.0.0/24, ranges: [10.0.0.1-10.0.0.254], server: 10.0.0.1, gateway: 10.0.0.254", "subnet: 10.0.0.0/24, ranges: [10.0.0.1-10.0.0.255]"},
		{"subnet: 10.0.0.0/24, server: 10.0.0.254", "subnet: 10.0.0.0/24, server: 10.0.0.255"},
		{"subnet: 10.0.0.0/24, gateway: 10.0.0.1", "subnet: 10.0.0.0/24, gateway: 10.0.0.0"},
		{"subnet: 10.0.0.0/24, mtu: 68", "subnet: 10.0.0.0/24, mtu: 67"},
		{"subnet: 10.0.0.0/24, mtu: 65535", "subnet: 10.0.0.0/24, mtu: 65536"},
		{"subnet: 10.0.0.0/24, domain: " + strings.Repeat("a.", 126) + "a", "subnet: 10.0.0.0/24, domain: " + strings.Repeat("a.", 127) + "a"},
		{"subnet: 10.0.0.0/24, routes: [{to: 0.0.0.0/0, via: 0.0.0.0}]", "subnet: 10.0.0.0/24, routes: [{to: 1.2.3.4/8, via: 0.0.0.0}]"},
		{"subnet: 10.0.0.0/24, options: [{code: 254, hex: " + bytes(1020) + "}]", "subnet: 10.0.0.0/24, options: [{code: 254, hex: " + bytes(1021) + "}]"},
		{"subnet: 10.0.0.0/24, options: [{code: 2, number: 0}]", "subnet: 10.0.0.0/24, options: [{code: 1, hex: ffffff00}]"},
		{"subnet: 10.0.0.0/24, options: [{code: 108, number: 1}]", "subnet: 10.0.0.0/24, options: [{code: 108, hex: 0a}]"},
		{"subnet: 10.0.0.0/24, hosts: [{client_id: \"0a0a\", ip: 10.0.0.254}]", "subnet: 10.0.0.0/24, hosts: [{client_id: \"0a\", ip: 10.0.0.254}]"},
		{"subnet: 10.0.0.0/24, hosts: [{client_id: \"" + bytes(255) + "\", ip: 10.0.0.2}]", "subnet: 10.0.0.0/24, hosts: [{client_id: \"" + bytes(256) + "\", ip: 10.0.0.2}]"},
		{"subnet: 10.0.0.0/24, gateway: 10.0.0.1, hosts: [{client_id: \"0a0a\", ip: 10.0.0.2}]", "subnet: 10.0.0.0/24, gateway: 10.0.0.1, hosts: [{client_id: \"0a0a\", ip: 10.0.0.1}]"},
		{"subnet: 10.0.0.0/24, relays: [{subnet: 10.0.1.0/30}]", "subnet: 10.0.0.0/24, relays: [{subnet: 10.0.0.0/30}]"},
		{"subnet: 10.0.0.0/24, relays: [{subnet: 11.0.0.0/8}]", "subnet: 10.0.0.0/24, relays: [{subnet: 0.0.0.0/8}]"},
		{classes(64), classes(65)},
		{"subnet: 10.0.0.0/24, classes: [{circuit_id: \"0x00\", options: [{code: 67, text: x}]}]", "subnet: 10.0.0.0/24, classes: [{circuit_id: \"0x\", options: [{code: 67, text: x}]}]"},
	} {
		parse := func(dhcp string) (*config.Config, error) {
			return config.Parse("f", []byte("underlay: {local: 10.9.0.1}\nsegments: [{vni: 100, dhcp: {"+dhcp+"}}]\n"))
		}
		if _, err := parse(tc.bad); tc.bad != "" && err == nil {
			t.Errorf("accepted: %s", tc.bad)
		}
		c, err := parse(tc.good)
		if err != nil {
			t.Errorf("refused: %s: %v", tc.good, err)
			continue
		}
		for _, f := range dhcpConfig(c.Segments[0].DHCP, 1450).Validate() {
			t.Errorf("validates and cannot be served: %s: %v", tc.good, f)
		}
	}
}

func TestWhatValidatesOfDHCPv6CanBeServed(t *testing.T) {
	bytes := func(n int) string { return strings.Repeat("0a", n) }
	const subnet = `subnet: "2001:db8::/64", `
	for _, tc := range []struct{ good, bad string }{
		{`subnet: "2001:db8::/126"`, `subnet: "2001:db8::/127"`},
		{`subnet: "2001::/16"`, `subnet: "2000::/15"`},
		{subnet + `server: "2001:db8::ffff:ffff:ffff:ffff"`, subnet + `server: "2001:db8::"`},
		{subnet + `server: "2001:db8::2", ranges: ["2001:db8::1-2001:db8::ffff:ffff:ffff:ffff"]`, subnet + `ranges: ["2001:db8::-2001:db8::1"]`},
		{subnet + "ranges: []", subnet + `ranges: ["2001:db8:1::-2001:db8:1::1"]`},
		{subnet + "lease: 10s", subnet + "lease: 9s"},
		{subnet + "lease: 4294967294s", subnet + "lease: 4294967295s"},
		{subnet + "lease: 10s, preferred: 2s", subnet + "lease: 10s, preferred: 1s"},
		{subnet + "lease: 10s, preferred: 10s, t1: 9s, t2: 10s", subnet + "lease: 10s, preferred: 10s, t1: 9s, t2: 11s"},
		{subnet + `prefixes: [{prefix: "2001:db8:1::/48", length: 48}, {prefix: "fd00::/8", length: 127}]`, subnet + `prefixes: [{prefix: "2001:db8::/48", length: 56}]`},
		{subnet + `options: [{code: 65535, hex: "` + bytes(1020) + `"}]`, subnet + `options: [{code: 65535, hex: "` + bytes(1021) + `"}]`},
		{subnet + `hosts: [{duid: "` + bytes(130) + `", ip: "2001:db8::5"}]`, subnet + `hosts: [{duid: "` + bytes(131) + `", ip: "2001:db8::5"}]`},
		{subnet + `hosts: [{duid: "` + bytes(3) + `", prefix: "2001:db8:5::/48"}]`, subnet + `hosts: [{duid: "` + bytes(2) + `", prefix: "2001:db8:5::/48"}]`},
		{subnet + `search: [` + strings.Repeat("a.", 120) + `a]`, subnet + `search: ["` + strings.Repeat("a.", 127) + `a"]`},
	} {
		parse := func(dhcp string) (*config.Config, error) {
			return config.Parse("f", []byte("underlay: {local: 10.9.0.1}\nsegments: [{vni: 100, dhcp6: {"+dhcp+"}, ra: true}]\n"))
		}
		if _, err := parse(tc.bad); err == nil {
			t.Errorf("accepted: %s", tc.bad)
		}
		c, err := parse(tc.good)
		if err != nil {
			t.Errorf("refused: %s: %v", tc.good, err)
			continue
		}
		for _, f := range dhcp6Config(c.Segments[0].DHCP6).Validate() {
			t.Errorf("validates and cannot be served: %s: %v", tc.good, f)
		}
	}
	// Every option that the file takes, the server takes.
	for code := 1; code < 300; code++ {
		c, err := config.Parse("f", fmt.Appendf(nil, "underlay: {local: 10.9.0.1}\nsegments: [{vni: 100, dhcp6: {%soptions: [{code: %d, hex: %s}]}}]\n", subnet, code, bytes(16)))
		if err != nil {
			c, err = config.Parse("f", fmt.Appendf(nil, "underlay: {local: 10.9.0.1}\nsegments: [{vni: 100, dhcp6: {%soptions: [{code: %d, number: 5}]}}]\n", subnet, code))
		}
		if err != nil {
			continue
		}
		for _, f := range dhcp6Config(c.Segments[0].DHCP6).Validate() {
			t.Errorf("validates and cannot be served: option %d: %v", code, f)
		}
	}
}
