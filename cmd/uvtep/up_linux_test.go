package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/uvtep/uvtep/internal/nettest"
)

func TestUpIsWhatItsPrintedConfigurationSays(t *testing.T) {
	h := newHost(t)
	h.Exec("ip", "link", "add", "br0", "type", "bridge")
	g := nettest.New(t, "a")
	g.Exec("ip", "link", "add", "br0", "type", "bridge")
	for i, flags := range []string{
		"--vni 100",
		"--vni 100 --peer 10.9.0.2 --peer 10.9.0.3 --port 8472 --tap tapx --netns " + g.Name + " --bridge br0 --dhcp 192.168.100.0/24",
		"--vni 16777215 --group 239.1.1.1 --dev ul --bridge br0",
	} {
		args := append([]string{"up", "--local", local}, strings.Fields(flags)...)
		text := uvtep(t, append(args, "--print-config")...).ok(t)
		if err := os.WriteFile(h.file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if out := uvtep(t, "validate", "-c", h.file).ok(t); out != "" {
			t.Errorf("validate says %q", out)
		}
		socket := []string{"--socket", h.socket()}
		told := func(args []string) string {
			t.Helper()
			links := h.Links()
			p := h.launchCommand(h.apart(append(args, socket...)...)).waitReady()
			var b strings.Builder
			for _, what := range []string{"segments", "peers", "leases"} {
				for _, row := range h.show(what) {
					// What the guest's kernel has sent by now.
					delete(row, "macs")
					delete(row, "tx_packets")
					delete(row, "tx_bytes")
					fmt.Fprintln(&b, row)
				}
			}
			fmt.Fprintln(&b, column(h.show("ports"), "name"), h.Links(), g.Links())
			_, ready, _ := strings.Cut(p.log.String(), "msg=ready ")
			fmt.Fprint(&b, ready)
			p.stop()
			h.nothingLeft(links...)
			return b.String()
		}
		if diff := cmp.Diff(told([]string{"run", "-c", h.file}), told(args)); diff != "" {
			t.Errorf("%d: -run +up:\n%s", i, diff)
		}
	}
	for _, tc := range []struct{ flags, says string }{
		{"", `"local", "vni" not set`},
		{"--local 10.9.0.1 --vni 0", "--vni: 0 is outside 1..16777215"},
		{"--local me --vni 1", "--local: "},
		{"--local 10.9.0.1 --vni 1 --port 70000", "--port: 70000 is outside 1..65535"},
		{"--local 10.9.0.1 --vni 1 --peer 10.9.0.1", "--peer: "},
		{"--local 10.9.0.1 --vni 1 --peer ::1", "--peer: "},
		{"--local 10.9.0.1 --vni 1 --group 10.1.1.1", "--group: "},
		{"--local 10.9.0.1 --vni 1 --tap waytoolongforanif", "--tap: "},
		{"--local 10.9.0.1 --vni 1 --dhcp 10.0.0.0/31", "--dhcp: "},
		{"--local 10.9.0.1 --vni 1 --netns a/b", "--netns: "},
		{"--local 10.9.0.1 --vni 1 --bridge a/b --dev x/y", "--bridge: "},
		{"--local 10.9.0.1 --vni 1 extra", "extra"},
	} {
		uvtep(t, append([]string{"up"}, strings.Fields(tc.flags)...)...).fails(t, 2, tc.says, "see uvtep up --help")
	}
}

func TestTwoThatAreUpHaveASocketEach(t *testing.T) {
	h := newHost(t)
	h.Addr("ul", "10.9.0.2/24")
	up := func(flags string) *process {
		t.Helper()
		return h.launchCommand(h.apart(append([]string{"up"}, strings.Fields(flags)...)...)).waitReady()
	}
	a := up("--local 10.9.0.1 --vni 100")
	b := up("--local 10.9.0.2 --vni 200 --dhcp 10.0.0.0/24")
	for name, vni := range map[string]float64{"uvtep.sock": 100, "up-10.9.0.2.sock": 200} {
		var all []map[string]any
		out := uvtep(t, "show", "segments", "-j", "--socket", filepath.Join(h.dir, "apart", "uvtep", name)).ok(t)
		if err := json.Unmarshal([]byte(out), &all); err != nil || len(all) != 1 || all[0]["vni"] != vni {
			t.Errorf("%s: %s", name, out)
		}
	}
	if !strings.Contains(b.log.String(), "another uvtep has the default control socket") || !strings.Contains(b.log.String(), "no metrics") {
		t.Errorf("the log is\n%s", b.log)
	}
	a.stop()
	b.stop()
}

func TestAWrongConfigurationIsToldFaultByFault(t *testing.T) {
	h := newHost(t)
	links := h.Links()
	if err := os.WriteFile(h.file, []byte(`underlay: {local: 10.9.0.1, port: 0, mtu: 9}
workrs: 2
segments:
  - vni: 16777216
    suppress: [rarp]
    ports: [{tap: tap0}, {tap: tap0}]
  - vni: 100
    dhcp: {subnet: 192.168.100.0/24, gateway: 10.0.0.1}
    dhcp6: {}
trunks: [{tap: tap0, vlans: {4095: 100}}]
`), 0o644); err != nil {
		t.Fatal(err)
	}
	want := strings.ReplaceAll(`FILE:1:35: underlay.port: 0 is outside 1..65535
FILE:1:38: underlay.mtu: unknown key
FILE:2:1: workrs: unknown key; did you mean workers?
FILE:4:10: segments[0].vni: 16777216 is outside 1..16777215
FILE:5:16: segments[0].suppress[0]: "rarp" is none of arp, nd; did you mean arp?
FILE:6:32: segments[0].ports[1].tap: tap0 is also the name of segments[0].ports[0].tap (line 6)
FILE:8:47: segments[1].dhcp.gateway: 10.0.0.1 is outside 192.168.100.0/24
FILE:9:12: segments[1].dhcp6.subnet: is missing: the addresses to serve are needed, such as 2001:db8:100::/64
FILE:10:16: trunks[0].tap: tap0 is also the name of segments[0].ports[0].tap (line 6)
FILE:10:36: trunks[0].vlans.4095: VLAN 4095 is outside 1..4094
`, "FILE", h.file)
	for _, command := range []string{"validate", "run"} {
		r := finish(t, exec.Command(program, command, "-c", h.file), h.NS)
		if diff := cmp.Diff(want, r.stderr); diff != "" || r.code != 2 || r.stdout != "" {
			t.Errorf("%s: exit %d, stdout %q, stderr -want +got:\n%s", command, r.code, r.stdout, diff)
		}
		h.nothingLeft(links...)
	}
	uvtep(t, "validate", "-c", filepath.Join(h.dir, "none.yaml")).fails(t, 2, "none.yaml", "no such file")
	uvtep(t, "validate").fails(t, 2, `"config" not set`)
	if out := uvtep(t, "validate", "-c", "../../packaging/uvtep.yaml").ok(t); out != "" {
		t.Errorf("it says %q", out)
	}
}

func TestTheSchemaIsJSON(t *testing.T) {
	var s map[string]any
	if err := json.Unmarshal([]byte(uvtep(t, "schema").ok(t)), &s); err != nil || s["$schema"] == nil {
		t.Errorf("%v, %v", s, err)
	}
}
