package observe_test

import (
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/uvtep/uvtep/dhcpd"
	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/control"
	"github.com/uvtep/uvtep/internal/observe"
)

func ptr[T any](v T) *T { return &v }

// sample is a daemon that has one of everything.
type sample struct{}

var now = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func (sample) Segments(encap.VNI) ([]control.Segment, error) {
	return []control.Segment{
		{VNI: 100, Name: "blue", MTU: 1450, Peers: []netip.Addr{netip.MustParseAddr("10.9.0.2")}, Ports: []string{"tap100"},
			Learning: true, Ageing: 300, MACs: 3, DHCP: ptr(netip.MustParsePrefix("192.168.100.0/24")), DHCP6: ptr(netip.MustParsePrefix("2001:db8:100::/64")), RA: true, UnderlayMTU: 1450},
		{VNI: 16777215, Name: "red", MTU: 1430, Group: ptr(netip.MustParseAddr("239.1.1.100")), GroupError: ptr("no such interface"),
			Ports: []string{"a", "b", "c", "d", "e"}},
	}, nil
}

func (sample) Ports(encap.VNI) ([]control.Port, error) {
	return []control.Port{
		{VNI: 100, Name: "tap100", Kind: "tap", State: "up", Queues: 2, Offload: []string{}, RxPackets: 10, RxBytes: 1000,
			RxDropped: 1, TxPackets: 20, TxBytes: 2000, TxDropped: 2, TooBigTold: 7},
		{VNI: 16777215, Name: "a", Kind: "tap", State: "down", Queues: 1, Offload: []string{"csum", "tso"}},
		{VNI: 16777215, Name: "tap16777215", Kind: "tap", State: "up", Queues: 2, Offload: []string{"csum", "tso", "uso", "tcp-gro", "udp-gro"},
			RxPackets: 123_456_789, RxBytes: 98_765_432_109, RxDropped: 99_999, TxPackets: 12_345_678, TxBytes: 1 << 60, TxDropped: 1_234_567},
	}, nil
}

func (sample) FDB(encap.VNI) ([]control.FDBEntry, error) {
	mac := func(s string) fdb.MAC { m, _ := fdb.ParseMAC(s); return m }
	return []control.FDBEntry{
		{VNI: 100, MAC: mac("02:00:00:00:01:01"), Ifname: ptr("tap100"), State: "dynamic", Age: 3},
		{VNI: 100, MAC: mac("02:00:00:00:00:99"), Dst: ptr(netip.MustParseAddr("10.9.0.2")), State: "static"},
		{VNI: 100, MAC: mac("02:00:00:00:00:01"), State: "self"},
	}, nil
}

func (sample) Peers(encap.VNI) ([]control.Peer, error) {
	return []control.Peer{
		{VNI: 100, Dst: netip.MustParseAddr("10.9.0.2"), Origin: "config", Replicate: true, RxPackets: 1, RxBytes: 100, TxPackets: 2, TxBytes: 200},
		{VNI: 100, Dst: netip.MustParseAddr("2001:db8::2"), Origin: "learned", PMTU: 1400},
	}, nil
}

func (sample) Neighbours(encap.VNI) ([]control.Neighbour, error) {
	port, far := "tap100", netip.MustParseAddr("10.9.0.2")
	return []control.Neighbour{
		{VNI: 100, IP: netip.MustParseAddr("192.168.100.10"), MAC: 0x020000000101, Source: "lease", Ifname: &port},
		{VNI: 100, IP: netip.MustParseAddr("192.168.100.99"), MAC: 0x020000000199, Source: "static", Dst: &far},
		{VNI: 100, IP: netip.MustParseAddr("fe80::1"), MAC: 0x020000000001, Source: "snooped", Router: true, Age: 75},
	}, nil
}

func (sample) Leases(encap.VNI) ([]control.Lease, error) {
	return []control.Lease{
		{VNI: 100, IP: netip.MustParseAddr("192.168.100.10"), MAC: "02:00:00:00:01:01", ClientID: "01020000000101", Hostname: "web1\x1b[31m",
			State: "bound", Expires: ptr(now.Add(11*time.Hour + 59*time.Minute + 30*time.Second)), Port: ptr("tap100")},
		{VNI: 100, IP: netip.MustParseAddr("192.168.100.11"), ClientID: "ff0102", State: "reserved"},
		{VNI: 100, IP: netip.MustParseAddr("192.168.100.12"), State: "declined", Expires: ptr(now), VTEP: ptr(netip.MustParseAddr("10.9.0.2"))},
		{VNI: 100, IP: netip.MustParseAddr("2001:db8:1:100::"), Length: ptr(56), MAC: "02:00:00:00:01:01", ClientID: "00030001020000000101", IAID: ptr(uint32(1)),
			State: "bound", Expires: ptr(now.Add(time.Hour)), Port: ptr("tap100")},
	}, nil
}

func (sample) DHCP(encap.VNI) ([]control.DHCPServer, error) {
	return []control.DHCPServer{
		{VNI: 100, Family: "ipv4", Subnet: netip.MustParsePrefix("192.168.100.0/24"), Server: netip.MustParseAddr("192.168.100.1"),
			Pool: 200, Used: 50, Bound: 40, Offered: 7, Declined: 3, Reserved: 2, Probes: 9, ProbeConflicts: 1,
			Received: map[string]uint64{"discover": 11, "request": 10}, Sent: map[string]uint64{"offer": 11, "ack": 10}, Outcomes: map[string]uint64{"answered": 11, "pending": 10}},
		{VNI: 100, Family: "ipv6", Subnet: netip.MustParsePrefix("2001:db8:100::/64"), Server: netip.MustParseAddr("2001:db8:100::2"), Bound: 1},
	}, nil
}

func (sample) LeaseStore() dhcpd.CommitStats {
	st := dhcpd.CommitStats{Commits: 4, Failures: 1, Changes: 10, Queued: 2}
	st.Answers.Counts[0], st.Answers.Counts[len(st.Answers.Counts)-1], st.Answers.Sum = 9, 1, 7*time.Second
	return st
}

func (sample) Drops(encap.VNI) ([]control.Drop, error) {
	return []control.Drop{{Reason: "unknown_vni", Count: 7}, {Reason: "port_full", VNI: 100, Count: 8}}, nil
}

func (sample) Workers() []control.Worker {
	return []control.Worker{{ID: 0, CPU: 0, RxPackets: 30, TxPackets: 31, Batches: 5, ReadErrors: 2, Offload: []string{"udp-gso", "udp-gro"}}, {ID: 1, CPU: -1}}
}

func (sample) Subscribe(control.EventFilter) (*control.Subscription, error) { return nil, nil }
func (sample) LostOffloads() uint64                                         { return 3 }

var build = observe.Build{Version: "1.2.3", Commit: "abc", Go: "go1.26"}

func TestTheLinterOfPrometheusFindsNothing(t *testing.T) {
	problems, err := testutil.GatherAndLint(observe.Registry(sample{}, build))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestMetricsTellWhatTheDaemonTells(t *testing.T) {
	w := httptest.NewRecorder()
	observe.Metrics(sample{}, build).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	for _, line := range []string{
		`uvtep_build_info{commit="abc",go_version="go1.26",version="1.2.3"} 1`,
		`uvtep_segment_macs{vni="100"} 3`,
		`uvtep_port_up{port="tap100",vni="100"} 1`,
		`uvtep_port_up{port="a",vni="16777215"} 0`,
		`uvtep_port_receive_bytes_total{port="tap100",vni="100"} 1000`,
		`uvtep_port_transmit_dropped_total{port="tap100",vni="100"} 2`,
		`uvtep_peer_transmit_packets_total{peer="10.9.0.2",vni="100"} 2`,
		`uvtep_peer_path_mtu_bytes{peer="2001:db8::2",vni="100"} 1400`,
		`uvtep_port_too_big_told_total{port="tap100",vni="100"} 7`,
		`uvtep_underlay_mtu_bytes 1450`,
		`uvtep_dropped_packets_total{reason="unknown_vni",vni="0"} 7`,
		`uvtep_worker_batches_total{worker="0"} 5`,
		`uvtep_worker_read_errors_total{worker="0"} 2`,
		`uvtep_tunnel_offload{offload="udp-gro"} 1`,
		`uvtep_lost_offloads_total 3`,
		`uvtep_dhcp_leases{state="bound",vni="100"} 41`,
		`uvtep_dhcp_leases{state="offered",vni="100"} 7`,
		`uvtep_dhcp_addresses{family="ipv4",state="bound",vni="100"} 40`,
		`uvtep_dhcp_addresses{family="ipv6",state="offered",vni="100"} 0`,
		`uvtep_dhcp_pool_addresses{family="ipv4",vni="100"} 200`,
		`uvtep_dhcp_pool_utilization_ratio{family="ipv4",vni="100"} 0.25`,
		`uvtep_dhcp_pool_utilization_ratio{family="ipv6",vni="100"} 0`,
		`uvtep_dhcp_messages_received_total{family="ipv4",type="discover",vni="100"} 11`,
		`uvtep_dhcp_messages_sent_total{family="ipv4",type="ack",vni="100"} 10`,
		`uvtep_dhcp_requests_total{family="ipv4",outcome="pending",vni="100"} 10`,
		`uvtep_dhcp_probe_conflicts_total{family="ipv4",vni="100"} 1`,
		`uvtep_dhcp_store_failures_total 1`,
		`uvtep_dhcp_store_queued_changes 2`,
		`uvtep_dhcp_ack_duration_seconds_bucket{le="0.0005"} 9`,
		`uvtep_dhcp_ack_duration_seconds_bucket{le="5"} 9`,
		`uvtep_dhcp_ack_duration_seconds_count 10`,
		`uvtep_dhcp_ack_duration_seconds_sum 7`,
	} {
		if !strings.Contains(w.Body.String(), line+"\n") {
			t.Errorf("no line %s", line)
		}
	}
	for _, guest := range []string{"02:00:00", "192.168.100", "web1"} {
		if strings.Contains(w.Body.String(), guest) {
			t.Errorf("a label tells of a guest: %s", guest)
		}
	}
}

func TestEveryNameBeginsWithThatOfTheProgram(t *testing.T) {
	families, err := observe.Registry(sample{}, build).Gather()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, f := range families {
		seen[f.GetName()] = true
		if !strings.HasPrefix(f.GetName(), "uvtep_") {
			t.Errorf("%s does not", f.GetName())
		}
	}
	for _, name := range []string{"uvtep_build_info", "uvtep_process_resident_memory_bytes", "uvtep_go_goroutines"} {
		if !seen[name] {
			t.Errorf("%s is missing", name)
		}
	}
}

func TestLabelsAreBounded(t *testing.T) {
	families, err := observe.Registry(sample{}, build).Gather()
	if err != nil {
		t.Fatal(err)
	}
	allowed := map[string]bool{"vni": true, "port": true, "peer": true, "reason": true, "worker": true, "state": true, "offload": true,
		"family": true, "type": true, "outcome": true}
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), "uvtep_go_") || f.GetName() == "uvtep_build_info" {
			continue // of the program, not of what it carries
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if !allowed[l.GetName()] {
					t.Errorf("%s has the label %s", f.GetName(), l.GetName())
				}
			}
		}
	}
}
