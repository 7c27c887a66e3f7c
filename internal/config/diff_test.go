package config

import (
	"reflect"
	"strings"
	"testing"
)

func TestEqualConfigurationsHaveNoChanges(t *testing.T) {
	a, err := Load(shipped)
	if err != nil {
		t.Fatal(err)
	}
	b := mustParse(t, string(a.YAML()))
	if d := Diff(a, b); !reflect.DeepEqual(d, Changes{}) {
		t.Errorf("got %+v", d)
	}
}

func TestEachKeyOfASegmentChangesItsPart(t *testing.T) {
	const base = "{vni: 100, peers: [10.9.0.2, 10.9.0.3], ports: [{tap: tap0}], dhcp: 10.0.0.0/24}"
	for _, tc := range []struct{ to, parts string }{
		{base, ""},
		{"{vni: 100, peers: [10.9.0.3, 10.9.0.2], ports: [{tap: tap0}], dhcp: {subnet: 10.0.0.0/24}}", ""},
		{"{vni: 100, name: x, peers: [10.9.0.2, 10.9.0.3], ports: [{tap: tap0}], dhcp: 10.0.0.0/24}", "Name"},
		{"{vni: 100, mtu: 1400, peers: [10.9.0.2, 10.9.0.3], ports: [{tap: tap0}], dhcp: 10.0.0.0/24}", "MTU"},
		{"{vni: 100, peers: [10.9.0.2], ports: [{tap: tap0}], dhcp: 10.0.0.0/24}", "Peers"},
		{"{vni: 100, peers: [10.9.0.2, 10.9.0.3], group: 239.1.1.1, ports: [{tap: tap0}], dhcp: 10.0.0.0/24}", "Group"},
		{`{vni: 100, peers: [10.9.0.2, 10.9.0.3], ports: [{tap: tap0}], dhcp: 10.0.0.0/24, dhcp6: "2001:db8::/64"}`, "DHCP6"},
		{`{vni: 100, peers: [10.9.0.2, 10.9.0.3], ports: [{tap: tap0}], dhcp: 10.0.0.0/24, ra: {prefixes: [{prefix: "2001:db8::/64"}]}}`, "RA"},
		{"{vni: 100, peers: [10.9.0.2, 10.9.0.3], ports: [{tap: tap0}], dhcp: 10.0.0.0/24, ra: false}", ""},
		{"{vni: 100, peers: [10.9.0.2, 10.9.0.3], ports: [{tap: tap0, dhcp_rate: 5}], dhcp: 10.0.0.0/24}", "Ports"},
		{"{vni: 100, peers: [10.9.0.2, 10.9.0.3], ports: [{tap: tap0, isolated: true}], dhcp: 10.0.0.0/24}", "Ports"},
		{"{vni: 100, peers: [10.9.0.2, 10.9.0.3], ports: [{tap: tap0}], dhcp: 10.0.0.0/25}", "DHCP"},
		{"{vni: 100, peers: [10.9.0.2, 10.9.0.3], ports: [{tap: tap0}]}", "DHCP"},
		{`{vni: 100, peers: [10.9.0.2, 10.9.0.3], ports: [{tap: tap0}], dhcp: 10.0.0.0/24, fdb: [{mac: "02:00:00:00:00:01", port: tap0}]}`, "FDB"},
		{"{vni: 100, peers: [10.9.0.2, 10.9.0.3], ports: [{tap: tap0}], dhcp: 10.0.0.0/24, learning: false}", "Limits"},
		{"{vni: 100, peers: [10.9.0.2, 10.9.0.3], ports: [{tap: tap0}], dhcp: 10.0.0.0/24, ageing: 10s}", "Limits"},
		{"{vni: 100, peers: [10.9.0.2, 10.9.0.3], ports: [{tap: tap0}], dhcp: 10.0.0.0/24, max_macs: 9}", "Limits"},
		{"{vni: 100, peers: [10.9.0.2, 10.9.0.3], ports: [{tap: tap0}], dhcp: 10.0.0.0/24, mac_moves: 0}", "Limits"},
		{"{vni: 100, peers: [10.9.0.2, 10.9.0.3], ports: [{tap: tap0}], dhcp: 10.0.0.0/24, mac_moves_within: 60s}", "Limits"},
		{`{vni: 100, peers: [10.9.0.2, 10.9.0.3], ports: [{tap: tap0}], dhcp: 10.0.0.0/24, protected_macs: ["02:00:00:00:00:01"]}`, "Protected"},
		{"{vni: 100, peers: [10.9.0.2, 10.9.0.3], ports: [{tap: tap0, bind: lease}], dhcp: 10.0.0.0/24}", "Ports"},
		{"{vni: 100, peers: [10.9.0.2, 10.9.0.3], ports: [{tap: tap0, trusted: true}], dhcp: 10.0.0.0/24}", "Ports"},
		{"{vni: 100, peers: [10.9.0.2, 10.9.0.3], ports: [{tap: tap0, bind: none}], dhcp: 10.0.0.0/24}", ""},
		{"{vni: 100}", "Peers Ports DHCP"},
	} {
		d := Diff(segmentsOf(t, base), segmentsOf(t, tc.to))
		var parts []string
		for _, c := range d.Changed {
			v := reflect.ValueOf(c)
			for i := range v.NumField() {
				if v.Field(i).Kind() == reflect.Bool && v.Field(i).Bool() {
					parts = append(parts, v.Type().Field(i).Name)
				}
			}
		}
		if got := strings.Join(parts, " "); got != tc.parts || len(d.Added)+len(d.Removed)+len(d.NeedsRestart) > 0 {
			t.Errorf("%s: got %q, want %q; %+v", tc.to, got, tc.parts, d)
		}
	}
}

func segmentsOf(t *testing.T, segments string) *Config {
	t.Helper()
	return mustParse(t, "underlay: {local: 10.9.0.1, accept: any}\nsegments: ["+segments+"]\n")
}

func TestSegmentsComeAndGoByVNI(t *testing.T) {
	d := Diff(segmentsOf(t, "{vni: 1}, {vni: 2}, {vni: 3}"), segmentsOf(t, "{vni: 4}, {vni: 3}, {vni: 1}"))
	if len(d.Added) != 1 || d.Added[0].VNI != 4 || len(d.Removed) != 1 || d.Removed[0].VNI != 2 || len(d.Changed) != 0 {
		t.Errorf("got %+v", d)
	}
}

func TestTrunksAndPairsChangeWithoutTheirSegments(t *testing.T) {
	of := func(shared string) *Config {
		return mustParse(t, "underlay: {local: 10.9.0.1}\nsegments: [{vni: 1}, {vni: 2}]\n"+shared)
	}
	from := of("trunks: [{tap: t0, vlans: {1: 1}}, {tap: t1, native: 1}]\npairs: [{name: p, a: {vni: 1}, b: {vni: 2}}]\n")
	for _, tc := range []struct {
		to   string
		want []SharedChange
	}{
		{"trunks: [{tap: t1, native: 1}, {tap: t0, vlans: {1: 1}}]\npairs: [{name: p, a: {vni: 1}, b: {vni: 2}}]\n", nil},
		{"", []SharedChange{{"trunk t0", "removed"}, {"trunk t1", "removed"}, {"pair p", "removed"}}},
		{"trunks: [{tap: t0, vlans: {1: 1, 2: 2}}, {tap: t1, native: 1, isolated: true}, {tap: t2, native: 1}]\npairs: [{name: p, a: {vni: 1, vlan: 1}, b: {vni: 2}}]\n",
			[]SharedChange{{"trunk t0", "changed"}, {"trunk t1", "changed"}, {"trunk t2", "added"}, {"pair p", "changed"}}},
	} {
		if d := Diff(from, of(tc.to)); !reflect.DeepEqual(d, Changes{Shared: tc.want}) {
			t.Errorf("%q: got %+v", tc.to, d)
		}
	}
}

func TestEveryKeyOutsideOfSegmentsTrunksAndPairsNeedsARestart(t *testing.T) {
	from := mustParse(t, "underlay: {local: 10.9.0.1}\n")
	for path, file := range map[string]string{
		"underlay.local":    "underlay: {local: 10.9.0.2}",
		"underlay.port":     "underlay: {local: 10.9.0.1, port: 8472}",
		"underlay.device":   "underlay: {local: 10.9.0.1, device: eth0}",
		"underlay.accept":   "underlay: {local: 10.9.0.1, accept: any}",
		"underlay.checksum": "underlay: {local: 10.9.0.1, checksum: false}",
		"underlay.ttl":      "underlay: {local: 10.9.0.1, ttl: 65}",
		"underlay.tos":      "underlay: {local: 10.9.0.1, tos: 0}",
		"underlay.strict":   "underlay: {local: 10.9.0.1, strict: true}",
		"underlay.df":       "underlay: {local: 10.9.0.1, df: inherit}",
		"underlay.fragment": "underlay: {local: 10.9.0.1, fragment: true}",
		"underlay.gbp":      "underlay: {local: 10.9.0.1, gbp: true}",

		"underlay.zero_checksum6": "underlay: {local: 10.9.0.1, zero_checksum6: true}",
		"underlay.source_ports":   "underlay: {local: 10.9.0.1, source_ports: {count: 4}}",
		"workers":                 "underlay: {local: 10.9.0.1}\nworkers: 1",
		"offload":                 "underlay: {local: 10.9.0.1}\noffload: off",
		"busy_poll":               "underlay: {local: 10.9.0.1}\nbusy_poll: 0s",
		"state":                   "underlay: {local: 10.9.0.1}\nstate: /tmp",
		"api.socket":              "underlay: {local: 10.9.0.1}\napi: {socket: a}",
		"api.http":                "underlay: {local: 10.9.0.1}\napi: {http: \"\"}",
	} {
		d := Diff(from, mustParse(t, file))
		if want := []string{path + ": cannot change while running; restart"}; !reflect.DeepEqual(d.NeedsRestart, want) {
			t.Errorf("%s: got %v", path, d.NeedsRestart)
		}
	}
	same := mustParse(t, "underlay: {local: 10.9.0.1}\napi: {http: 127.0.0.1:9479, socket: /run/uvtep/uvtep.sock}\n")
	if d := Diff(from, same); !reflect.DeepEqual(d, Changes{}) {
		t.Errorf("a default that is written out: %+v", d)
	}
}
