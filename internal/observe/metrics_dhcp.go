package observe

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/uvtep/uvtep/dhcpd"
)

// dhcp looks at no lease: a scrape costs the same however many there are. Of
// messages and outcomes those are told that there were.
func (c *collector) dhcp(put func(metric, float64, ...string)) error {
	all, err := c.from.DHCP(0)
	pool := gauge("dhcp_pool_addresses", "Addresses and prefixes that any client may get.", "vni", "family")
	used := gauge("dhcp_pool_used_addresses", "Of those: bound, offered or declined.", "vni", "family")
	ratio := gauge("dhcp_pool_utilization_ratio", "Share of the pool that is used; 0 where there is none.", "vni", "family")
	leases := gauge("dhcp_leases", "DHCP leases of both families by state; reserved is all that is, held or not.", "vni", "state")
	addresses := gauge("dhcp_addresses", "Addresses and prefixes by state; reserved is all that is, held or not.", "vni", "family", "state")
	received := counter("dhcp_messages_received_total", "DHCP messages taken, by type.", "vni", "family", "type")
	sent := counter("dhcp_messages_sent_total", "DHCP messages sent, by type.", "vni", "family", "type")
	requests := counter("dhcp_requests_total", "DHCP messages taken, by what became of them.", "vni", "family", "outcome")
	probes := counter("dhcp_probes_total", "Addresses that the segment was asked about before they were offered.", "vni", "family")
	conflicts := counter("dhcp_probe_conflicts_total", "Probed addresses that were in use by somebody without a lease.", "vni", "family")
	skipped := counter("dhcp_probes_skipped_total", "Offers that went out unasked, as too many were waiting.", "vni", "family")
	type key struct{ vni, state string }
	sum := map[key]int{}
	for _, s := range all {
		vni := s.VNI.String()
		put(pool, float64(s.Pool), vni, s.Family)
		put(used, float64(s.Used), vni, s.Family)
		put(ratio, float64(s.Used)/max(float64(s.Pool), 1), vni, s.Family)
		for _, state := range []struct {
			name string
			n    int
		}{{"bound", s.Bound}, {"offered", s.Offered}, {"declined", s.Declined}, {"reserved", s.Reserved}} {
			put(addresses, float64(state.n), vni, s.Family, state.name)
			sum[key{vni, state.name}] += state.n
		}
		for name, n := range s.Received {
			put(received, float64(n), vni, s.Family, name)
		}
		for name, n := range s.Sent {
			put(sent, float64(n), vni, s.Family, name)
		}
		for name, n := range s.Outcomes {
			put(requests, float64(n), vni, s.Family, name)
		}
		put(probes, float64(s.Probes), vni, s.Family)
		put(conflicts, float64(s.ProbeConflicts), vni, s.Family)
		put(skipped, float64(s.ProbesSkipped), vni, s.Family)
	}
	for k, n := range sum {
		put(leases, float64(n), k.vni, k.state)
	}
	return err
}

// leaseStore tells how leases become durable.
func (c *collector) leaseStore(put func(metric, float64, ...string), ch chan<- prometheus.Metric) {
	st := c.from.LeaseStore()
	put(counter("dhcp_store_commits_total", "Transactions of the lease store that succeeded."), float64(st.Commits))
	put(counter("dhcp_store_failures_total", "Transactions of the lease store that failed; nobody was told that he has a lease."), float64(st.Failures))
	put(counter("dhcp_store_changes_total", "Changes of leases that became durable."), float64(st.Changes))
	put(gauge("dhcp_store_queued_changes", "Changes of leases that wait for the lease store."), float64(st.Queued))
	for _, h := range []struct {
		name, help string
		l          *dhcpd.Latency
	}{
		{"dhcp_store_commit_duration_seconds", "How long transactions of the lease store take.", &st.Store},
		{"dhcp_ack_duration_seconds", "How long an ACK waits for its lease to be durable, from the request on.", &st.Answers},
	} {
		buckets, count := map[float64]uint64{}, uint64(0)
		for i, bound := range dhcpd.LatencyBounds {
			count += h.l.Counts[i]
			buckets[bound] = count
		}
		count += h.l.Counts[len(dhcpd.LatencyBounds)]
		ch <- prometheus.MustNewConstHistogram(prometheus.NewDesc(prefix+h.name, h.help, nil, nil), count, h.l.Sum.Seconds(), buckets)
	}
}
