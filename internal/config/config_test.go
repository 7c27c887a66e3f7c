package config

import (
	"errors"
	"net"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
)

const shipped = "../../packaging/uvtep.yaml"

func mustParse(t *testing.T, data string) *Config {
	t.Helper()
	c, err := Parse("uvtep.yaml", []byte(data))
	if err != nil {
		t.Fatalf("a valid file is refused:\n%s\n%v", data, err)
	}
	return c
}

func TestTheShippedFileIsValid(t *testing.T) {
	c, err := Load(shipped)
	if err != nil {
		t.Fatal(err)
	}
	again := mustParse(t, string(c.YAML()))
	if !reflect.DeepEqual(c, again) {
		t.Errorf("it does not round trip:\n%s", c.YAML())
	}
}

func TestTheShippedFileMentionsEveryKey(t *testing.T) {
	data, err := os.ReadFile(shipped)
	if err != nil {
		t.Fatal(err)
	}
	s := newSource(shipped)
	var raw rawConfig
	if !decode(s, data, &raw) || len(s.faults) > 0 {
		t.Fatal(s.faults)
	}
	mentioned := map[string]bool{}
	for p := range s.places {
		mentioned[anyIndex(p)] = true
	}
	eachKey(reflect.TypeFor[rawConfig](), "", func(p path) {
		if i := strings.Index(string(p), ".options[]."); i >= 0 { // told once, for all places of options
			family := path("segments[].dhcp")
			if strings.HasPrefix(string(p), "segments[].dhcp6") {
				family = "segments[].dhcp6"
			}
			p = family + p[i:]
		}
		if !mentioned[string(p)] {
			t.Errorf("%s is missing", p)
		}
	})
}

// anyIndex replaces the indices of a path by [].
func anyIndex(p path) string {
	var b strings.Builder
	for _, r := range p {
		if r < '0' || r > '9' || !strings.HasSuffix(strings.TrimRight(b.String(), "0123456789"), "[") {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// eachKey calls f with the path of every key that a file can have.
func eachKey(t reflect.Type, p path, f func(path)) {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		if t.Kind() == reflect.Slice {
			p += "[]"
		}
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return
	}
	for i := range t.NumField() {
		if t.Field(i).Tag.Get("yaml") == "-" {
			continue
		}
		f(p.key(t.Field(i).Tag.Get("yaml")))
		eachKey(t.Field(i).Type, p.key(t.Field(i).Tag.Get("yaml")), f)
	}
}

func TestAMinimalFileHasTheDefaults(t *testing.T) {
	c := mustParse(t, "underlay: {local: 10.9.0.1}\nsegments: [{vni: 7, dhcp: 192.168.7.0/24}]\n")
	d := c.Segments[0].DHCP
	for _, tc := range []struct {
		what      string
		got, want any
	}{
		{"port", c.Underlay.Port, uint16(4789)},
		{"accept", c.Underlay.Accept, AcceptPeers},
		{"checksum", c.Underlay.Checksum, true},
		{"ttl", c.Underlay.TTL, TTL{Value: 64}},
		{"tos", c.Underlay.TOS, TOS{Inherit: true}},
		{"source ports", c.Underlay.SourcePorts, SourcePorts{16, 49152, 65535}},
		{"api", c.API, API{Socket: DefaultSocket, HTTP: DefaultHTTP}},
		{"state", c.State, "/var/lib/uvtep"},
		{"busy_poll", c.BusyPoll, 30 * time.Microsecond},
		{"offload", c.Offload, Offload{true, true, true, true}},
		{"name", c.Segments[0].Name, "vni7"},
		{"learning", c.Segments[0].Learning, true},
		{"ageing", c.Segments[0].Ageing.String(), "5m0s"},
		{"max_macs", c.Segments[0].MaxMACs, 8192},
		{"max_macs of all", c.MaxMACs, 0},
		{"mac_moves", c.Segments[0].Moves, MACMoves{5, 180 * time.Second}},
		{"server", d.Server.String(), "192.168.7.1"},
		{"ranges", rangesString(d.Ranges), "192.168.7.2-192.168.7.254"},
		{"lease", d.Lease.String(), "12h0m0s"},
		{"t1", d.T1.String(), "6h0m0s"},
		{"t2", d.T2.String(), "10h30m0s"},
		{"serve", d.Serve, ServeSegment},
		{"probe", d.Probe, 200 * time.Millisecond},
		{"offer_hold", d.OfferHold, 2 * time.Minute},
		{"decline_hold", d.DeclineHold, 10 * time.Minute},
	} {
		if !reflect.DeepEqual(tc.got, tc.want) {
			t.Errorf("%s is %v, want %v", tc.what, tc.got, tc.want)
		}
	}
}

func rangesString(list []Range) string {
	var parts []string
	for _, r := range list {
		parts = append(parts, r.String())
	}
	return strings.Join(parts, " ")
}

func TestTheServerTakesTheFirstFreeAddress(t *testing.T) {
	for _, tc := range []struct{ dhcp, server, ranges string }{
		{"{subnet: 10.0.0.0/29}", "10.0.0.1", "10.0.0.2-10.0.0.6"},
		{"{subnet: 10.0.0.0/29, gateway: 10.0.0.1}", "10.0.0.2", "10.0.0.3-10.0.0.6"},
		{"{subnet: 10.0.0.0/29, gateway: 10.0.0.4}", "10.0.0.1", "10.0.0.2-10.0.0.3 10.0.0.5-10.0.0.6"},
		{"{subnet: 10.0.0.0/29, server: 10.0.0.4}", "10.0.0.4", "10.0.0.1-10.0.0.3 10.0.0.5-10.0.0.6"},
		{"{subnet: 10.0.0.0/29, ranges: [10.0.0.1-10.0.0.3]}", "10.0.0.4", "10.0.0.1-10.0.0.3"},
		{"{subnet: 10.0.0.0/29, ranges: [10.0.0.1-10.0.0.3], server: 10.0.0.2}", "10.0.0.2", "10.0.0.1 10.0.0.3"},
		{`{subnet: 10.0.0.0/29, hosts: [{mac: "02:00:00:00:00:01", ip: 10.0.0.1}]}`, "10.0.0.2", "10.0.0.1 10.0.0.3-10.0.0.6"},
		{`{subnet: 10.0.0.0/29, dns: [10.0.0.1], routes: [{to: 10.1.0.0/16, via: 10.0.0.2}]}`, "10.0.0.3", "10.0.0.1-10.0.0.2 10.0.0.4-10.0.0.6"},
		{`{subnet: 10.0.0.0/30, ranges: [], hosts: [{client_id: "ff01", ip: 10.0.0.2}]}`, "10.0.0.1", ""},
		{"{subnet: 10.0.0.0/8, ranges: [10.0.0.1-10.200.0.0]}", "10.200.0.1", "10.0.0.1-10.200.0.0"},
	} {
		c := mustParse(t, "underlay: {local: 10.9.0.1}\nsegments: [{vni: 7, dhcp: "+tc.dhcp+"}]\n")
		d := c.Segments[0].DHCP
		if d.Server.String() != tc.server || rangesString(d.Ranges) != tc.ranges {
			t.Errorf("%s: the server is %s, the ranges %s; want %s, %s", tc.dhcp, d.Server, rangesString(d.Ranges), tc.server, tc.ranges)
		}
		if again := mustParse(t, string(c.YAML())); !reflect.DeepEqual(c, again) {
			t.Errorf("%s does not round trip:\n%s", tc.dhcp, c.YAML())
		}
	}
}

func TestOptionsGoOutAsTheirRFCSays(t *testing.T) {
	for _, tc := range []struct{ option, data string }{
		{"{code: 42, ip: [10.0.0.1, 10.0.0.2]}", "\x0a\x00\x00\x01\x0a\x00\x00\x02"},
		{"{code: 66, text: boot}", "boot"},
		{`{code: 224, hex: "0a:0B"}`, "\x0a\x0b"},
		{"{code: 23, number: 64}", "\x40"},
		{"{code: 22, number: 1500}", "\x05\xdc"},
		{"{code: 2, number: -3600}", "\xff\xff\xf1\xf0"},
		{"{code: 108, number: 1800}", "\x00\x00\x07\x08"},
	} {
		c := mustParse(t, "underlay: {local: 10.9.0.1}\nsegments: [{vni: 7, dhcp: {subnet: 10.0.0.0/24, options: ["+tc.option+"]}}]\n")
		if got := c.Segments[0].DHCP.Options[0].Data; string(got) != tc.data {
			t.Errorf("%s is %x, want %x", tc.option, got, tc.data)
		}
		if again := mustParse(t, string(c.YAML())); !reflect.DeepEqual(c, again) {
			t.Errorf("%s does not round trip:\n%s", tc.option, c.YAML())
		}
	}
}

func TestOnlyAnExplicitHTTPIsExplicit(t *testing.T) {
	for _, tc := range []struct {
		api  string
		want API
	}{
		{"{}", API{Socket: DefaultSocket, HTTP: DefaultHTTP}},
		{`{http: ""}`, API{Socket: DefaultSocket, HTTPExplicit: true}},
		{`{http: 127.0.0.1:9479}`, API{Socket: DefaultSocket, HTTP: DefaultHTTP, HTTPExplicit: true}},
		{`{http: "[::1]:80", socket: a.sock}`, API{Socket: "a.sock", SocketExplicit: true, HTTP: "[::1]:80", HTTPExplicit: true}},
	} {
		c := mustParse(t, "underlay: {local: 10.9.0.1}\napi: "+tc.api+"\n")
		if c.API != tc.want {
			t.Errorf("%s is %+v, want %+v", tc.api, c.API, tc.want)
		}
		if again := mustParse(t, string(c.YAML())); again.API != tc.want {
			t.Errorf("%s does not round trip:\n%s", tc.api, c.YAML())
		}
	}
}

func TestYAMLIsPleasantToRead(t *testing.T) {
	c := mustParse(t, `{underlay: {port: 4789, local: "2001:db8::1", checksum: false}, workers: 0, segments: [
		{vni: 100, peers: ["2001:db8::2"], ports: [{tap: tap100, netns: guest1, mac: "02:00:00:00:01:01"}], dhcp: 192.168.100.0/24}]}`)
	const want = `underlay:
  local: "2001:db8::1"
  checksum: false
segments:
  - vni: 100
    peers: ["2001:db8::2"]
    ports:
      - {tap: tap100, netns: guest1, mac: "02:00:00:00:01:01"}
    dhcp: 192.168.100.0/24
`
	if got := string(c.YAML()); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestAPortFromElsewhereIsCheckedAsOneOfAFileIs(t *testing.T) {
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	for _, p := range []Port{
		{TAP: "tap0"},
		{TAP: "tap0", NetNS: "/run/netns/a b", Rename: "eth0", MAC: mac, Bridge: "br0", Isolated: true, MaxMACs: 3},
	} {
		if err := p.Check(); err != nil {
			t.Errorf("%+v: %v", p, err)
		}
	}
	for _, tc := range []struct {
		port  Port
		fault string
	}{
		{Port{}, ": says not what it is: one of tap, stream, nic is needed"},
		{Port{TAP: "a-very-long-tap-name"}, `tap: "a-very-long-tap-name" has 20 characters; an interface name has at most 15`},
		{Port{TAP: "tap0", NetNS: "run/a"}, `netns: "run/a" is neither the name of a namespace nor an absolute path`},
		{Port{TAP: "tap0", Rename: "a/b"}, ""},
		{Port{TAP: "tap0", Bridge: "tap0"}, "bridge: tap0 is the port's own name"},
		{Port{TAP: "tap0", MAC: net.HardwareAddr{1, 0, 0, 0, 0, 1}}, ""},
		{Port{TAP: "tap0", MaxMACs: -1}, "max_macs: -1 is outside 0..16777216"},
	} {
		var faults Faults
		if err := tc.port.Check(); !errors.As(err, &faults) || len(faults) != 1 {
			t.Errorf("%+v: got %v, want one fault", tc.port, err)
		} else if got := faults[0].Path + ": " + faults[0].Msg; tc.fault != "" && got != tc.fault {
			t.Errorf("%+v: got %s, want %s", tc.port, got, tc.fault)
		}
	}
}
