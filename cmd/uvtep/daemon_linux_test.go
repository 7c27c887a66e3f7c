package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/uvtep/uvtep/internal/lab/guest"
	"github.com/uvtep/uvtep/internal/nettest"
)

// acquire gets a guest an address by DHCP, and returns it.
func acquire(t *testing.T, ns *nettest.NS, hostname string) netip.Prefix {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	l, err := guest.Acquire(ctx, ns.Name, "eth0", guest.Identity{Hostname: hostname})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Apply(ns.Name, "eth0"); err != nil {
		t.Fatal(err)
	}
	return l.Address
}

// ping wants every one of a few requests answered.
func ping(t *testing.T, ns *nettest.NS, dst netip.Addr) {
	t.Helper()
	r, err := guest.Ping(t.Context(), ns.Name, dst, guest.PingOptions{Count: 3, Interval: 10 * time.Millisecond, Timeout: 2 * time.Second})
	if err != nil || r.Received != 3 {
		t.Errorf("ping %v: %d of %d answered, %v", dst, r.Received, r.Sent, err)
	}
}

func TestADaemonIsReadyServesReloadsAndStops(t *testing.T) {
	h := newHost(t)
	a, b := nettest.New(t, "a"), nettest.New(t, "b")
	links := h.Links()
	const segment = `segments:
  - vni: 100
    peers: [10.9.0.2]
    fdb: [{mac: "02:00:00:00:00:99", dst: 10.9.0.3}]
    ports:
      - {tap: tapa, netns: %s, rename: eth0, mac: "02:00:00:00:00:0a"}
      - {tap: tapb, netns: %s, rename: eth0, mac: "02:00:00:00:00:0b"}
    dhcp: 192.168.100.0/24
`
	body := fmt.Sprintf(segment, a.Name, b.Path)
	h.write(body)
	p := h.run()
	if n := strings.Count(p.log.String(), "\n"); n != 1 || strings.Count(p.log.String(), "ready") != 1 {
		t.Errorf("the log is\n%s", p.log)
	}
	first := acquire(t, a, "web1")
	ping(t, a, acquire(t, b, "web2").Addr())
	if info, err := os.Stat(h.socket()); err != nil || info.Mode() != os.ModeSocket|0o660 {
		t.Errorf("the socket is %v, %v", info, err)
	}

	// A reload touches only what changed: both learned MACs are there.
	h.write(strings.Replace(body, "[10.9.0.2]", "[10.9.0.2, 10.9.0.7]", 1))
	if out := h.client("reload").ok(t); out != "segment 100: peers\n" {
		t.Errorf("it says %q", out)
	}
	learned := slices.DeleteFunc(h.show("fdb"), func(e map[string]any) bool { return e["state"] != "dynamic" })
	if diff := cmp.Diff([]any{"02:00:00:00:00:0a", "02:00:00:00:00:0b"}, column(learned, "mac")); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	h.write(body)
	p.signal(syscall.SIGHUP)
	eventually(t, "SIGHUP reloads", func() bool { return len(h.show("peers")) == 2 })
	if out := h.client("reload").ok(t); out != "nothing differs\n" {
		t.Errorf("it says %q", out)
	}

	// A faulty file changes nothing.
	h.write("segments: [{vni: 0}, {vni: 0}]\n")
	r := h.client("reload")
	want := fmt.Sprintf("%[1]s:4:18: segments[0].vni: 0 is outside 1..16777215\n%[1]s:4:28: segments[1].vni: 0 is outside 1..16777215\n", h.file)
	if r.code != 2 || r.stderr != want || r.stdout != "" {
		t.Errorf("exit %d, %q; want %q", r.code, r.stderr, want)
	}
	p.signal(syscall.SIGHUP)
	eventually(t, "the log tells of it", func() bool { return strings.Count(p.log.String(), "reload failed") == 2 })
	ping(t, b, first.Addr())

	p.stop()
	h.nothingLeft(links...)
	if len(a.Links())+len(b.Links()) != 0 {
		t.Errorf("the guests still have %v and %v", a.Links(), b.Links())
	}
	if _, err := os.Stat(filepath.Join(h.dir, "state", "leases.db")); err != nil {
		t.Error(err)
	}

	// Leases are kept.
	h.write(body)
	h.run()
	if again := acquire(t, a, "web1"); again != first {
		t.Errorf("the guest had %v and now has %v", first, again)
	}
	h.client("show", "leases").ok(t)
}

func TestEveryListIsATableAndAnArrayWithAllItsKeys(t *testing.T) {
	h := newHost(t)
	g := nettest.New(t, "a")
	const empty = "segments: []\n"
	h.write(empty)
	h.run()
	keys := map[string]string{
		"segments": "vni name mtu group device group_error peers ports learning ageing_s macs dhcp dhcp6 ra mtu_underlay warnings suppress neighbours suppress_answered suppress_flooded",
		"ports":    "vni name kind state queues offload rx_packets rx_bytes rx_dropped tx_packets tx_bytes tx_dropped max_leases dhcp_rate dhcp_check_mac storm bind bindings trusted",
		"fdb":      "vni mac ifname dst state age_s",
		"peers":    "vni dst origin rx_packets rx_bytes tx_packets tx_bytes",
		"leases":   "vni ip mac client_id hostname state expires port vtep iaid length",
		"dhcp":     "vni family subnet server pool used bound offered declined reserved received sent outcomes",
		"drops":    "reason vni count",
		"workers":  "id cpu rx_packets tx_packets batches",
	}
	for what := range keys {
		if all := h.show(what); what != "workers" && len(all) != 0 {
			t.Errorf("nothing is there, and show %s -j printed %v", what, all)
		}
	}
	h.write(fmt.Sprintf(`segments:
  - vni: 100
    peers: [10.9.0.2]
    fdb: [{mac: "02:00:00:00:00:99", dst: 10.9.0.3}, {mac: "02:00:00:00:00:98", port: tapa}]
    ports: [{tap: tapa, netns: %s, rename: eth0, mac: "02:00:00:00:00:0a"}]
    dhcp: 192.168.100.0/24
  - vni: 200
`, g.Name))
	h.client("reload").ok(t)
	acquire(t, g, "web1")
	h.client("lease", "reserve", "--vni", "100", "--ip", "192.168.100.50", "--client-id", "ff0102", "--hostname", "x").ok(t)
	// A packet for a segment that is not there is a drop.
	h.send(t, "10.9.0.1", []byte{8, 0, 0, 0, 0, 0, 7, 0})
	eventually(t, "it is counted", func() bool { return len(h.show("drops")) > 0 })

	for what, want := range keys {
		all := h.show(what)
		if len(all) == 0 {
			t.Errorf("show %s -j is empty", what)
		}
		for _, row := range all {
			for _, k := range strings.Fields(want) {
				v, there := row[k]
				if !there || v == nil && !slices.Contains([]string{"group", "group_error", "dhcp", "dhcp6", "ifname", "dst", "expires", "port", "vtep", "iaid", "length"}, k) {
					t.Errorf("show %s -j: %s is %v in %v", what, k, v, row)
				}
			}
		}
		table := strings.Split(strings.TrimSuffix(h.client("show", what).ok(t), "\n"), "\n")
		if len(table) != 1+len(all) || table[0] != strings.ToUpper(table[0]) {
			t.Errorf("show %s: %d rows, want a head and %d:\n%s", what, len(table), len(all), strings.Join(table, "\n"))
		}
		if what != "drops" {
			for _, row := range h.show(what, "--vni", "200") {
				if what != "workers" && row["vni"] != 200. {
					t.Errorf("show %s --vni 200 -j shows %v", what, row)
				}
			}
		}
	}
	segments := h.show("segments")
	if diff := cmp.Diff(map[string]any{
		"vni": 200., "name": "vni200", "mtu": 1450., "group": nil, "device": "", "group_error": nil, "peers": []any{}, "ports": []any{}, "learning": true,
		"ageing_s": 300., "macs": 0., "dhcp": nil, "dhcp6": nil, "ra": false, "mtu_underlay": 1450., "warnings": []any{},
		"suppress": []any{}, "neighbours": 0., "suppress_answered": 0., "suppress_flooded": 0.,
	}, segments[1]); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if diff := cmp.Diff([]any{"02:00:00:00:00:0a", "02:00:00:00:00:98", "02:00:00:00:00:99"}, column(slices.DeleteFunc(h.show("fdb"),
		func(e map[string]any) bool { return e["state"] == "self" }), "mac")); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for _, l := range h.show("leases") {
		if l["state"] == "bound" {
			if _, err := time.Parse(time.RFC3339, l["expires"].(string)); err != nil || l["hostname"] != "web1" || l["mac"] != "02:00:00:00:00:0a" {
				t.Errorf("the lease is %v, %v", l, err)
			}
		} else if l["expires"] != nil || l["state"] != "reserved" || l["client_id"] != "ff0102" {
			t.Errorf("the reservation is %v", l)
		}
	}
	for _, what := range []string{"segments", "fdb", "drops"} {
		h.client("show", what, "--vni", "300").fails(t, 1, "no segment 300; see uvtep show segments")
	}
}

// send sends a UDP packet to the VXLAN port from an address of the host's.
func (h *host) send(t *testing.T, from string, payload []byte) {
	t.Helper()
	h.Do(func() {
		c, err := net.DialUDP("udp", &net.UDPAddr{IP: net.ParseIP(from)}, &net.UDPAddr{IP: net.ParseIP(local), Port: 4789})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Write(payload); err != nil {
			t.Fatal(err)
		}
	})
}

func TestWhatIsForeignOrTruncatedIsCounted(t *testing.T) {
	h := newHost(t)
	h.Addr("ul", "10.9.0.2/24")
	h.Addr("ul", "10.9.0.9/24")
	h.write("segments: [{vni: 100, peers: [10.9.0.2]}]\n")
	h.run()
	frame := make([]byte, 60)
	copy(frame, []byte{255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 1, 8, 6})
	header := func(flags byte, vni byte) []byte { return []byte{flags, 0, 0, 0, 0, 0, vni, 0} }
	for _, tc := range []struct {
		from, reason string
		vni          float64
		payload      []byte
	}{
		{"10.9.0.2", "outer_short", 0, []byte{8, 0, 0}},
		{"10.9.0.2", "outer_short", 0, header(8, 100)},
		{"10.9.0.2", "outer_no_vni", 0, append(header(0, 100), frame...)},
		{"10.9.0.2", "unknown_vni", 0, append(header(8, 99), frame...)},
		{"10.9.0.9", "unknown_peer", 100, append(header(8, 100), frame...)},
		{"10.9.0.2", "bad_source", 100, append(header(8, 100), make([]byte, 60)...)},
	} {
		count := func() (n float64) {
			for _, d := range h.show("drops") {
				if d["reason"] == tc.reason && d["vni"] == tc.vni {
					n = d["count"].(float64)
				}
			}
			return n
		}
		before := count()
		h.send(t, tc.from, tc.payload)
		eventually(t, tc.reason+" is counted", func() bool { return count() == before+1 })
	}
}

func TestTablesChangeWhileRunning(t *testing.T) {
	h := newHost(t)
	g := nettest.New(t, "a")
	h.Exec("ip", "link", "add", "br0", "type", "bridge")
	h.write("segments: [{vni: 100, ports: [{tap: tap1}], dhcp: 192.168.100.0/24}]\n")
	h.run()
	t.Setenv("UVTEP_SOCKET", h.socket()) // instead of --socket
	do := func(args ...string) string { t.Helper(); return uvtep(t, args...).ok(t) }

	do("peer", "add", "--vni", "100", "--dst", "10.9.0.2")
	do("peer", "add", "--vni", "100", "--dst", "10.9.0.3")
	do("peer", "del", "--vni", "100", "--dst", "10.9.0.2")
	if peers := h.show("peers"); len(peers) != 1 || peers[0]["dst"] != "10.9.0.3" || peers[0]["origin"] != "api" {
		t.Errorf("the peers are %v", peers)
	}

	do("fdb", "add", "--vni", "100", "--mac", "02:00:00:00:00:97", "--dst", "10.9.0.4")
	do("fdb", "add", "--vni", "100", "--mac", "02:00:00:00:00:98", "--port", "tap1")
	do("fdb", "add", "--vni", "100", "--mac", "02:00:00:00:00:99", "--port", "tap1")
	do("fdb", "del", "--vni", "100", "--mac", "02:00:00:00:00:99")
	static := func() []any {
		return column(slices.DeleteFunc(h.show("fdb"), func(e map[string]any) bool { return e["state"] != "static" }), "mac")
	}
	if diff := cmp.Diff([]any{"02:00:00:00:00:97", "02:00:00:00:00:98"}, static()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}

	do("port", "add", "--vni", "100", "--tap", "tap2", "--netns", g.Name, "--rename", "eth0", "--mac", "02:00:00:00:00:0a", "--isolated", "--max-macs", "7")
	do("port", "add", "--vni", "100", "--tap", "tap3", "--bridge", "br0")
	if diff := cmp.Diff([]any{"tap1", "tap2", "tap3"}, column(h.show("ports"), "name")); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if out := h.Exec("ip", "link", "show", "tap3"); !strings.Contains(out, "master br0") {
		t.Errorf("the port is %s", out)
	}
	first := acquire(t, g, "web1")
	do("reload")
	if out := do("fdb", "flush", "--vni", "100"); !strings.HasSuffix(out, " learned entries removed\n") || out[0] == '0' {
		t.Errorf("it says %q", out)
	}
	if diff := cmp.Diff([]any{"02:00:00:00:00:97", "02:00:00:00:00:98"}, static()); diff != "" {
		t.Errorf("flushed: -want +got:\n%s", diff)
	}
	do("port", "del", "--vni", "100", "--tap", "tap2")
	do("port", "del", "--vni", "100", "--tap", "tap3")
	if len(g.Links()) != 0 || len(h.show("ports")) != 1 {
		t.Errorf("the ports are %v, the guest has %v", h.show("ports"), g.Links())
	}

	do("lease", "release", "--vni", "100", "--ip", first.Addr().String())
	do("lease", "reserve", "--vni", "100", "--ip", "192.168.100.50", "--mac", "02:00:00:00:00:0a", "--hostname", "web1")
	if out := do("lease", "show", "--vni", "100"); strings.Count(out, "\n") != 2 || !strings.Contains(out, "192.168.100.50  02:00:00:00:00:0a  -          web1      reserved  never") {
		t.Errorf("the leases are\n%s", out)
	}
	var leases []map[string]any
	if err := json.Unmarshal([]byte(do("lease", "show", "-j")), &leases); err != nil || len(leases) != 1 {
		t.Errorf("the leases are %v, %v", leases, err)
	}
	do("port", "add", "--vni", "100", "--tap", "tap2", "--netns", g.Name, "--rename", "eth0", "--mac", "02:00:00:00:00:0a")
	if got := acquire(t, g, "").String(); got != "192.168.100.50/24" {
		t.Errorf("the guest got %s", got)
	}

	// An address that somebody else has is reserved all the same, and who has it
	// is told.
	do("lease", "release", "--vni", "100", "--ip", "192.168.100.50")
	do("lease", "release", "--vni", "100", "--ip", "192.168.100.50") // the reservation
	if all := h.show("leases"); len(all) != 0 {
		t.Errorf("the leases are %v", all)
	}
	second := acquire(t, g, "").Addr().String()
	r := uvtep(t, "lease", "reserve", "--vni", "100", "--ip", second, "--client-id", "ff:01:02")
	said := "uvtep: reserved, but " + second + " is bound, by 02:00:00:00:00:0a until "
	if hint := "; to end that now: uvtep lease release --vni 100 --ip " + second + "\n"; r.code != 0 ||
		!strings.HasPrefix(r.stderr, said) || !strings.HasSuffix(r.stderr, hint) || strings.Count(r.stderr, "\n") != 1 {
		t.Errorf("exit %d, %q", r.code, r.stderr)
	}
	if all := h.show("leases"); len(all) != 2 || all[0]["ip"] != second || all[0]["state"] != "bound" ||
		all[1]["ip"] != second || all[1]["state"] != "reserved" || all[1]["client_id"] != "ff0102" {
		t.Errorf("the leases are %v", all)
	}
	do("lease", "release", "--vni", "100", "--ip", second)
	do("lease", "release", "--vni", "100", "--ip", second)
	do("lease", "reserve", "--vni", "100", "--ip", "192.168.100.50", "--mac", "02:00:00:00:00:0a")

	for _, tc := range []struct {
		args string
		code int
		says string
	}{
		{"peer add --vni 100 --dst 10.9.0.3", 1, "peer 10.9.0.3 already exists"},
		{"peer add --vni 100 --dst ::1", 2, "not of the family"},
		{"peer add --vni 100 --dst me", 2, `invalid argument "me" for "--dst" flag: not an IP address such as 10.9.0.2; see uvtep peer add --help`},
		{"peer del --vni 7 --dst 10.9.0.3", 1, "no segment 7; see uvtep show segments"},
		{"fdb add --vni 100 --mac 02:00:00:00:00:01", 2, "uvtep: --dst or --port is needed; see"},
		{"fdb add --vni 100 --mac 02:00:00:00:00:01 --dst 10.9.0.3 --port tap1", 2, "uvtep: --dst and --port exclude each other; see"},
		{"fdb add --vni 100 --mac 02:00:00:00:00:01 --port tap9", 1, "port tap9 not found"},
		{"fdb add --vni 100 --mac 01:00:00:00:00:01 --dst 10.9.0.3", 2, ": static entry 01:00:00:00:00:01: not the address of a station: give a unicast address"},
		{"fdb add --vni 100 --mac 02:00 --dst 10.9.0.3", 2, `"--mac" flag: not a hardware address such as 02:00:00:00:00:01`},
		{"fdb del --vni 100 --mac 02:00:00:00:00:01", 1, "not found"},
		{"segment add --vni 100", 1, "segment 100 is there already; see uvtep show segments"},
		{"segment add --vni 7 --peer 10.9.0.1", 2, "peers[0]: 10.9.0.1 is this VTEP's own address"},
		{"segment add --vni 7 --dhcp 192.168.7.0", 2, "dhcp.subnet: "},
		{"segment add --vni 7 --mtu 9", 2, "mtu: 9 is outside 68..65535"},
		{"segment add", 2, "required flag(s) \"vni\" not set"},
		{"segment del --vni 7", 1, "no segment 7; see uvtep show segments"},
		{"port add --vni 100 --tap tap1", 1, "segment 100 has a port tap1 already"},
		{"port add --vni 100 --tap ul", 1, "no TAP device"},
		{"port add --vni 100 --tap tap9 --netns nowhere", 1, `ip netns add nowhere`},
		{"port add --vni 100 --tap tap9 --bridge br9", 1, "no such bridge: br9"},
		{"port add --vni 100 --tap waytoolongforanif", 2, "tap: "},
		{"port add --vni 100 --tap tap9 --max-macs -1", 2, "max_macs: "},
		{"port del --vni 100 --tap tap9", 1, "no port tap9; see uvtep show ports"},
		{"lease release --vni 100 --ip 192.168.100.99", 1, "no such lease"},
		{"lease reserve --vni 100 --ip 192.168.9.9 --mac 02:00:00:00:00:01", 2, "reserve 192.168.9.9 for 02:00:00:00:00:01: 192.168.9.9 is in none of the segment's subnets"},
		{"lease reserve --vni 100 --ip 192.168.100.9 --mac 02:00:00:00:00:01 --hostname a/b", 2, `"a/b" is not a host name`},
		{"lease reserve --vni 100 --ip 192.168.100.50 --mac 02:00:00:00:00:01", 1, "192.168.100.50 is reserved for 02:00:00:00:00:0a already; see uvtep show leases"},
		{"lease reserve --vni 100 --ip 192.168.100.9 --client-id xy", 2, `"--client-id" flag: not 2 to 255 bytes in hexadecimal`},
		{"lease reserve --vni 100 --ip 192.168.100.9", 2, "uvtep: --mac, --client-id, --duid, --port or --hostname is needed; see"},
		{"lease reserve --vni 100 --ip 192.168.100.9 --duid 000301", 2, "a DUID and a prefix are of DHCPv6"},
		{"lease reserve --vni 100 --ip 192.168.100.9 --mac 02:00:00:00:00:01 --port tapa", 2, "--mac and --port exclude each other"},
		{"lease reserve --vni 100 --ip 2001:db8::9 --mac 02:00:00:00:00:01", 1, "segment 100 has no DHCPv6 server"},
		{"lease reserve --vni 100 --ip 192.168.100.0/28 --mac 02:00:00:00:00:01", 2, "not a prefix that can be delegated"},
		{"show segments --vni 0", 2, "outside 1..16777215"},
		{"show segments extra", 2, `"extra" belongs to no flag; see uvtep show segments --help`},
		{"show sgements", 2, "did you mean segments?"},
		{"show", 2, "drops, fdb, leases, neighbours, peers, ports, segments, workers"},
		{"shwo", 2, "did you mean show?"},
		{"reload --frobnicate", 2, "--frobnicate"},
		{"run", 2, "config"},
	} {
		links := h.Links()
		uvtep(t, strings.Fields(tc.args)...).fails(t, tc.code, tc.says)
		if now := h.Links(); !slices.Equal(links, now) {
			t.Errorf("%s: the links were %v and are %v", tc.args, links, now)
		}
	}
}

func TestMetricsAreCleanAndOnLoopback(t *testing.T) {
	h := newHost(t)
	if err := os.WriteFile(h.file, fmt.Appendf(nil, "underlay: {local: %s}\nstate: %s/state\napi: {socket: %s}\nsegments: [{vni: 100, ports: [{tap: tap1}], peers: [10.9.0.2], dhcp: 10.0.0.0/24}]\n",
		local, h.dir, h.socket()), 0o644); err != nil {
		t.Fatal(err)
	}
	p := h.run()
	if !strings.Contains(p.log.String(), "http=127.0.0.1:9479") {
		t.Errorf("the log is\n%s", p.log)
	}
	// Sent by hand: an http.Client of this process would be of another namespace.
	get := func(path string) string {
		t.Helper()
		var text []byte
		h.Do(func() {
			c, err := net.Dial("tcp", "127.0.0.1:9479")
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			fmt.Fprintf(c, "GET %s HTTP/1.0\r\nHost: 127.0.0.1:9479\r\n\r\n", path)
			for buf := make([]byte, 4096); ; {
				n, err := c.Read(buf)
				text = append(text, buf[:n]...)
				if err != nil {
					break
				}
			}
		})
		head, body, _ := strings.Cut(string(text), "\r\n\r\n")
		if !strings.HasPrefix(head, "HTTP/1.0 200 ") {
			t.Fatalf("%s: %s", path, head)
		}
		return body
	}
	metrics := get("/metrics")
	problems, err := promlint.New(strings.NewReader(metrics)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	for line := range strings.Lines(metrics) {
		if !strings.HasPrefix(strings.TrimPrefix(strings.TrimPrefix(line, "# HELP "), "# TYPE "), "uvtep_") {
			t.Errorf("a name does not begin with uvtep_: %s", line)
		}
	}
	for _, want := range []string{
		`uvtep_build_info{commit="abcdef",go_version="go`, `version="1.2.3"} 1`, `uvtep_port_up{port="tap1",vni="100"} 1`,
		`uvtep_peer_receive_packets_total{peer="10.9.0.2",vni="100"} 0`, `uvtep_dhcp_leases{state="bound",vni="100"} 0`,
		`uvtep_worker_batches_total{worker="0"}`, `uvtep_segment_macs{vni="100"}`,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("there is no %s", want)
		}
	}
	if body := get("/v1/ports"); !strings.Contains(body, `"name":"tap1"`) {
		t.Errorf("/v1/ports: %s", body)
	}
	for _, addr := range []string{local + ":9479"} {
		h.Do(func() {
			if c, err := net.Dial("tcp", addr); err == nil {
				c.Close()
				t.Errorf("%s answers", addr)
			}
		})
	}
}

func TestTheVersionIsTold(t *testing.T) {
	nettest.Root(t)
	if out := uvtep(t, "version").ok(t); !strings.HasPrefix(out, "uvtep 1.2.3 (commit abcdef, go1.") {
		t.Errorf("it says %q", out)
	}
	var b map[string]string
	if err := json.Unmarshal([]byte(uvtep(t, "version", "-j").ok(t)), &b); err != nil || b["version"] != "1.2.3" || b["commit"] != "abcdef" || b["go"] == "" {
		t.Errorf("it says %v, %v", b, err)
	}
}

func TestNobodyAnswersSaysHowToStartOne(t *testing.T) {
	path := filepath.Join(t.TempDir(), "no.sock")
	for _, args := range []string{"show segments", "reload", "peer add --vni 1 --dst 10.9.0.2", "port del --vni 1 --tap x"} {
		uvtep(t, append(strings.Fields(args), "--socket", path)...).fails(t, 1, "no uvtep answers on "+path, "uvtep run")
	}
	t.Setenv("UVTEP_SOCKET", "")
	foreign, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer foreign.Close()
	go func() {
		for {
			c, err := foreign.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(c, "220 mail.example ESMTP\r\n")
			c.Close()
		}
	}()
	for range 5 { // the greeting comes before the question or after it
		uvtep(t, "show", "segments", "--socket", path).fails(t, 1, "what answers on "+path, "no uvtep", "--socket")
	}
	uvtep(t, "show", "segments", "--socket", filepath.Join(path, "below")).fails(t, 1, "not a directory")
}
