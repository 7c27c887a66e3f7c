package config

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
)

func TestEveryValidConfigurationRoundTripsAndFitsTheSchema(t *testing.T) {
	root := mustSchema(t)
	for seed := range uint64(1500) {
		g := generator{rand.New(rand.NewPCG(seed, 1))}
		file := g.file()
		c, err := Parse("uvtep.yaml", []byte(file))
		if err != nil {
			t.Fatalf("seed %d makes a file with faults:\n%s\n%v", seed, file, err)
		}
		written := c.YAML()
		again, err := Parse("uvtep.yaml", written)
		if err != nil {
			t.Fatalf("seed %d: written with faults:\n%s\n%v", seed, written, err)
		}
		if !reflect.DeepEqual(c, again) {
			t.Fatalf("seed %d does not round trip:\n%s\nwas written as\n%s", seed, file, written)
		}
		if twice := again.YAML(); string(twice) != string(written) {
			t.Fatalf("seed %d is written differently the second time:\n%s\n%s", seed, written, twice)
		}
		for _, data := range []string{file, string(written)} {
			if err := acceptedBy(root, []byte(data)); err != nil {
				t.Fatalf("seed %d: the schema refuses\n%s\n%v", seed, data, err)
			}
		}
	}
}

// generator makes random valid files. Values that must differ are drawn from
// counters, and every key is left out now and then.
type generator struct{ *rand.Rand }

func (g generator) one(list ...string) string { return list[g.IntN(len(list))] }

// some joins the entries that luck keeps into a flow mapping; those that begin
// with "!" are kept always.
func (g generator) some(entries ...string) string {
	var kept []string
	for _, e := range entries {
		if must, ok := strings.CutPrefix(e, "!"); ok {
			kept = append(kept, must)
		} else if g.IntN(2) == 0 {
			kept = append(kept, e)
		}
	}
	g.Shuffle(len(kept), func(i, j int) { kept[i], kept[j] = kept[j], kept[i] })
	return "{" + strings.Join(kept, ", ") + "}"
}

func (g generator) list(most int, item func(i int) string) string {
	var items []string
	for i := range g.IntN(most + 1) {
		items = append(items, item(i))
	}
	return "[" + strings.Join(items, ", ") + "]"
}

func (g generator) file() string {
	v6 := g.IntN(2) == 0
	any := g.IntN(2) == 0
	addr := func(i int) string {
		if v6 {
			return fmt.Sprintf(`"2001:db8::%x"`, i)
		}
		return fmt.Sprintf("10.9.0.%d", i)
	}
	accept := "accept: peers"
	if any {
		accept = "!accept: any"
	}
	underlay := g.some("!local: "+addr(1), "port: "+g.one("4789", "8472", "1", "65535"), "device: eth0", accept,
		"checksum: "+g.one("true", "false"), "ttl: "+g.one("1", "64", "255", "inherit"), "tos: "+g.one("0", "4", "252", "inherit"),
		"strict: "+g.one("true", "false"), "!gbp: true", "zero_checksum6: "+g.one("true", "false"),
		g.one("df: true", "df: false", "df: inherit", "fragment: true", "fragment: true, df: false", "fragment: false, df: true"),
		"source_ports: "+g.one("{}", "{count: 16}", "{count: 1}", "{range: 49152-65535}", "{range: 7-9}", "{count: 2, range: 7-10}"))
	n := g.IntN(4)
	var all []string
	for i := range n {
		all = append(all, g.segment(i, addr, any, v6))
	}
	segments := "[" + strings.Join(all, ", ") + "]"
	return strings.Join([]string{"underlay: " + underlay, "workers: " + g.one("0", "2", "1024"), "max_macs: " + g.one("0", "1", "16777216"), "busy_poll: " + g.one("0s", "30us", "1ms50us", "10ms"), "offload: " + g.one("auto", "off", "{tun_gso: false}", "{tun_gro: false, udp_gro: true}", "{udp_gso: false, udp_gro: false}", "{tun_gso: false, tun_gro: false, udp_gso: false, udp_gro: false}"),
		"state: " + g.one("/var/lib/uvtep", "state", `"a b: #c"`, `"true"`, `"12"`, `'"\'`),
		"api: " + g.some("socket: "+g.one("/run/uvtep/uvtep.sock", "x.sock"), "http: "+g.one(`""`, "127.0.0.1:9479", `"[::1]:0"`)),
		"segments: " + segments, "trunks: [" + g.trunks(n) + "]", "pairs: [" + g.pairs(n) + "]"}, "\n") + "\n"
}

// trunks are a trunk at most of some of n segments.
func (g generator) trunks(n int) string {
	if n == 0 || g.IntN(2) == 0 {
		return ""
	}
	native := g.IntN(2) == 0
	var vlans []string
	for i := range n {
		if i > 0 || !native {
			vlans = append(vlans, fmt.Sprintf("%d: %d", []int{4094, 9, 10}[i], 100+i))
		}
	}
	carried := "!vlans: {" + strings.Join(vlans, ", ") + "}"
	if native {
		carried += ", native: 100"
	}
	return g.some("!tap: trunk0", carried, "netns: "+g.one("g1", "/run/netns/g1"), "rename: eth0", `mac: "02:00:00:00:01:02"`, "bridge: br0",
		"isolated: true", "max_macs: 5", "max_leases: 7", "dhcp_rate: 100", "dhcp_check_mac: true")
}

// pairs are a pair at most between some of n segments.
func (g generator) pairs(n int) string {
	if n < 2 || g.IntN(2) == 0 {
		return ""
	}
	end := func(i int) string { return g.some(fmt.Sprintf("!vni: %d", 100+i), "vlan: "+g.one("1", "4094")) }
	return g.some("!name: "+g.one("patch0", `"1"`), "!a: "+end(n-1), "!b: "+end(0))
}

func (g generator) segment(i int, addr func(int) string, any, v6 bool) string {
	group := "max_macs: 7"
	if any {
		group = "group: " + g.one("239.1.1.1", "224.1.0.0")
		if v6 {
			group = `group: "ff05::1"`
		}
		group += g.one("", ", device: eth1")
	}
	ports := 1 + g.IntN(3)
	var list []string
	for j := range ports {
		list = append(list, g.some(fmt.Sprintf("!tap: tap%d-%d", i, j), "netns: "+g.one("g1", "/run/netns/g1", "/proc/1/ns/net"),
			fmt.Sprintf("rename: eth%d-%d", i, j), fmt.Sprintf(`mac: "02:00:00:01:%02x:%02X"`, i, 10+j), "bridge: br0",
			"isolated: "+g.one("true", "false"), "max_macs: "+g.one("0", "5"), "max_leases: "+g.one("0", "7"),
			"dhcp_rate: "+g.one("0", "100"), "dhcp_check_mac: "+g.one("true", "false"),
			"storm: "+g.one("0", "500", "{broadcast: 1}", "{broadcast: 500, multicast: 500, unknown: 500}", "{multicast: 0, unknown: 100000000}"),
			"gbp: "+g.one("0", "7", "65535"), "gbp_allow: "+g.one("[7]", "[0, 65535]", "[3, 1, 2]"),
			"trusted: "+g.one("true", "false"),
			g.one("bind: none", `bind: lease, addresses: [{mac: "02:00:00:03:00:01", ip: 192.168.100.10}]`,
				`bind: static, addresses: [{mac: "02:00:00:03:00:02", ip: "2001:db8::/56"}, {mac: "02:00:00:03:00:02", ip: "fe80::2"}, {mac: "02:00:00:03:00:02", ip: 10.0.0.0/8}]`)))
	}
	if g.IntN(2) == 0 {
		list = append(list, g.some(fmt.Sprintf("!stream: /run/vm%d.sock", i), "isolated: true", "max_macs: 5"))
	}
	if g.IntN(2) == 0 {
		list = append(list, g.some(fmt.Sprintf("!nic: nic%d", i), "netns: g1", "isolated: true", "max_macs: 5"))
	}
	fdb := g.list(3, func(j int) string {
		return fmt.Sprintf(`{mac: "02:00:00:02:%02x:%02x", %s}`, i, j, g.one("dst: "+addr(9), fmt.Sprintf("port: tap%d-0", i)))
	})
	return g.some(fmt.Sprintf("!vni: %d", 100+i), "name: "+[]string{g.one("blue", `"null"`, `"1.5"`), g.one("off", `"12"`, "a.b_c-d"), g.one("yes", `"1e3"`, `"0x1"`)}[i],
		"mtu: "+g.one("1280", "1450", "65535"), "peers: "+g.list(3, func(j int) string { return addr(2 + j) }), group,
		"learning: "+g.one("true", "false"), "ageing: "+g.one("300s", "5m", "1s", "1500s", "1h0m1s", "8760h", "1h30m"),
		"mac_moves: "+g.one("0", "1", "5", "1000"), "mac_moves_within: "+g.one("1s", "180s", "24h"),
		"fdb: "+fdb, "!ports: ["+strings.Join(list, ", ")+"]", "protected_macs: "+g.list(3, func(j int) string { return fmt.Sprintf(`"02:00:00:04:00:%02x"`, j) }), "dhcp: "+g.dhcp(fmt.Sprintf("tap%d-0", i)), "!dhcp6: "+g.dhcp6(fmt.Sprintf("tap%d-0", i)), "ra: "+g.ra())
}

func (g generator) dhcp(port string) string {
	if g.IntN(4) == 0 {
		return g.one("10.0.0.0/8", "192.168.100.0/24", "10.0.0.4/30")
	}
	return g.some("!subnet: 10.0.0.0/16", "server: 10.0.0.2", "gateway: "+g.one("10.0.0.1", "10.0.1.7", "10.0.255.254"),
		"ranges: "+g.one("[10.0.0.1-10.0.0.99]", "[10.0.1.0-10.0.1.255, 10.0.0.50]", "[10.0.0.1-10.0.255.250]"),
		"dns: "+g.list(2, func(i int) string { return fmt.Sprintf("10.0.0.%d", 1+i) }), "domain: "+g.one("blue.example", "x", `"1.2"`),
		g.one("lease: 12h", "lease: 10s", "t1: 1s", "t2: 11h59m59s", "lease: 1h, t1: 1m, t2: 2m"), "mtu: "+g.one("off", "1450"),
		"routes: "+g.list(3, func(i int) string {
			return fmt.Sprintf("{to: 10.%d.0.0/16, via: %s}", i, g.one("0.0.0.0", "10.0.0.9"))
		}),
		"options: "+g.options(), "hosts: "+g.list(3, func(i int) string {
			if i == 2 { // one that is told by its name alone, or by its port
				return g.some("!ip: 10.0.7.99", g.one("!hostname: alone", "!port: "+port), "boot_file: "+g.one("b", `"é, ü"`), "next_server: 10.0.0.8")
			}
			return g.some(g.one(fmt.Sprintf(`!mac: "02:00:00:00:00:%02x"`, i), fmt.Sprintf(`!client_id: "ff:%02x"`, i)),
				fmt.Sprintf("!ip: 10.%s.%d", g.one("0.7", "77.0"), 3+i), "hostname: "+g.one("web1", "a.b", `"7"`), "options: "+g.options())
		}),
		"!relays: ["+g.some("!subnet: 10.77.0.0/24", "ranges: [10.77.0.5-10.77.0.9]", "gateway: "+g.one("10.77.0.1", "10.77.0.7"),
			"dns: [9.9.9.9]", "options: "+g.options(), "domain: a.b", "mtu: 1500", "next_server: 10.77.0.8", "boot_file: x", g.one("lease: 12h", "lease: 1h", "t1: 2s", "t2: 3s, t1: 2s", "lease: 20s, t1: 2s"),
			"routes: [{to: 10.9.0.0/16, via: 10.77.0.9}]")+"]",
		"classes: "+g.list(3, func(i int) string {
			return fmt.Sprintf(`{%s, %s}`, g.one("options: [{code: 67, text: x}]", "boot_file: x", "next_server: 10.0.0.8"), g.one(fmt.Sprintf(`vendor: "PXE%d"`, i), fmt.Sprintf(`user: "é%d"`, i),
				fmt.Sprintf("hostname: h%d", i), fmt.Sprintf(`circuit_id: "0x00%02x"`, i), fmt.Sprintf(`circuit_id: c%d`, i), fmt.Sprintf("arch: %d", i)))
		}),
		"next_server: 10.0.0.8", "boot_file: "+g.one("x", `"1"`), "rapid_commit: "+g.one("true", "false"), "bootp: "+g.one("true", "false"),
		"probe: "+g.one("off", "200ms", "10ms", "1s500ms"), "offer_hold: "+g.one("2m", "1s"), "decline_hold: "+g.one("10m", "24h"),
		"authoritative: "+g.one("true", "false"), "subnet_selection: "+g.one("true", "false"), "serve: "+g.one("segment", "local"))
}

func (g generator) dhcp6(port string) string {
	if g.IntN(4) == 0 {
		return g.one(`"2001:db8::/64"`, `"fd00::/48"`, `"2001:db8::4/126"`, `"2001:db8::/112"`)
	}
	return g.some(`!subnet: "2001:db8::/64"`, `server: "2001:db8::`+g.one("2", "7", "1234")+`"`,
		"ranges: "+g.one("[]", `["2001:db8::1000-2001:db8::ffff"]`, `["2001:db8::2-2001:db8::9", "2001:db8::a:0"]`),
		"dns: "+g.list(2, func(i int) string { return fmt.Sprintf(`"2001:db8::%x"`, 1+i) }), "search: "+g.list(2, func(i int) string { return g.one("blue.example", "x") + fmt.Sprint(i) }),
		g.one("lease: 12h", "lease: 10s", "preferred: 12h", "t1: 1s", "t2: 7h30m", "lease: 1h, preferred: 4m, t1: 1m, t2: 2m"),
		`!prefixes: [{prefix: "2001:db8:1::/48", length: `+g.one("48", "56", "72")+"}]",
		"hosts: "+g.list(3, func(i int) string {
			return g.some([]string{`!mac: "02:00:00:00:00:01"`, `!duid: "00:03:01"`, "!port: " + port}[i],
				fmt.Sprintf(`!ip: "2001:db8::7:%x"`, i), "hostname: "+g.one("web1", `"7"`), "options: "+g.options6())
		}),
		"options: "+g.options6(), "rapid_commit: "+g.one("true", "false"), "offer_hold: "+g.one("2m", "1s"), "decline_hold: "+g.one("10m", "24h"),
		"serve: "+g.one("segment", "local"))
}

func (g generator) options6() string {
	return g.list(4, func(i int) string {
		return []string{`{code: 31, ip: ["2001:db8::1", "ff05::1"]}`, `{code: 41, text: "CET-1"}`, `{code: 1000, hex: "0A:0b"}`, "{code: 32, number: 4294967295}"}[i]
	})
}

// ra is for a segment that has dhcp6.
func (g generator) ra() string {
	if g.IntN(3) == 0 {
		return g.one("true", "false", "{}")
	}
	return g.some("managed: "+g.one("true", "false"), "other: "+g.one("true", "false"),
		"prefixes: "+g.one("[]", `[{prefix: "2001:db8::/64"}]`, `[{prefix: "2001:db8:5::/64", autonomous: true}, {prefix: "2001:db8:6::/65", on_link: false}]`,
			`[{prefix: "fd00::/64", autonomous: false, valid: 1h}, {prefix: "fd00:1::/64", valid: 1h, preferred: 1s}]`),
		"dns: "+g.one("[]", `["2001:db8::1"]`), "search: "+g.one("[]", "[blue.example]"), "mtu: "+g.one("off", "1280"),
		"interval: "+g.one("10m", "4s", "30m"), "lifetime: "+g.one("0s", "30m", "2h30m"))
}

func (g generator) options() string {
	return g.list(6, func(i int) string {
		return []string{
			"{code: 42, ip: [10.0.0.1, 255.255.255.255]}", g.one("{code: 2, number: -1}", "{code: 2, number: 3600}"),
			`{code: 224, hex: "0A:0b"}`, g.one(`{code: 66, text: "a \"b\" \\ c: # d"}`, `{code: 66, text: "no"}`, `{code: 66, text: "é, ü"}`),
			"{code: 19, number: 0}", "{code: 108, number: 4294967295}",
		}[i]
	})
}

func FuzzParse(f *testing.F) {
	files, _ := faultCases(f) // each stops at a check of its own
	for _, file := range files {
		f.Add([]byte(file))
	}
	for seed := range uint64(20) { // valid files reach the writer
		f.Add([]byte(generator{rand.New(rand.NewPCG(seed, 2))}.file()))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse("f", data)
		if err != nil {
			if len(err.(Faults)) == 0 {
				t.Fatal("refused without a fault")
			}
			for _, fault := range err.(Faults) {
				if fault.Line < 1 || fault.Col < 1 || fault.Msg == "" || strings.ContainsAny(fault.Error(), "\n\r") {
					t.Fatalf("a fault that cannot be shown: %#v", fault)
				}
			}
			return
		}
		again, err := Parse("f", c.YAML())
		if err != nil {
			t.Fatalf("written with faults:\n%s\n%v", c.YAML(), err)
		}
		if !reflect.DeepEqual(c, again) {
			t.Fatalf("does not round trip:\n%s", c.YAML())
		}
	})
}
