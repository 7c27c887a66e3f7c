package observe

import (
	"net/http"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/uvtep/uvtep/internal/control"
)

// Metrics serves the metrics of what r reads, of this build, and of the process,
// in the formats of Prometheus and OpenMetrics.
func Metrics(r control.Reader, b Build) http.Handler {
	return promhttp.HandlerFor(Registry(r, b), promhttp.HandlerOpts{EnableOpenMetrics: true})
}

// prefix begins every name, those of the Go runtime and the process too.
const prefix = "uvtep_"

// Registry is what Metrics gathers from.
func Registry(r control.Reader, b Build) *prometheus.Registry {
	reg := prometheus.NewRegistry()
	reg.MustRegister(&collector{from: r, build: b})
	prometheus.WrapRegistererWithPrefix(prefix, reg).MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return reg
}

// collector reads everything when it is scraped; nothing is counted twice.
// Labels are bounded: no MAC and no address of a guest is one.
type collector struct {
	from  control.Reader
	build Build
}

// metric is the description of one family.
type metric struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
}

func counter(name, help string, labels ...string) metric {
	return metric{prometheus.NewDesc(prefix+name, help, labels, nil), prometheus.CounterValue}
}

func gauge(name, help string, labels ...string) metric {
	return metric{prometheus.NewDesc(prefix+name, help, labels, nil), prometheus.GaugeValue}
}

// Describe sends nothing: an unchecked collector, whose families follow the
// configuration.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector. What cannot be read is left out of
// the scrape and tells so.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	put := func(m metric, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(m.desc, m.kind, v, labels...)
	}
	put(gauge("build_info", "Which build this is; always 1.", "version", "commit", "go_version"), 1,
		c.build.Version, c.build.Commit, c.build.Go)
	for _, collect := range []func(func(metric, float64, ...string)) error{c.segments, c.ports, c.peers, c.dhcp, c.drops, c.workers} {
		if err := collect(put); err != nil {
			ch <- prometheus.NewInvalidMetric(prometheus.NewInvalidDesc(err), err)
		}
	}
	c.leaseStore(put, ch)
}

func (c *collector) segments(put func(metric, float64, ...string)) error {
	all, err := c.from.Segments(0)
	macs := gauge("segment_macs", "Entries of the forwarding database.", "vni")
	mtu := gauge("segment_mtu_bytes", "MTU of the segment's ports.", "vni")
	neighbours := gauge("segment_neighbours", "Stations whose addresses are known, where requests for them are answered.", "vni")
	requests := counter("neighbour_requests_total", "Requests (ARP, neighbour solicitations) for an address, by what became of them.", "vni", "result")
	carried := gauge("underlay_mtu_bytes", "The longest packet of a guest that the underlay's interface carries.")
	if len(all) > 0 && all[0].UnderlayMTU > 0 { // it is the same for all
		put(carried, float64(all[0].UnderlayMTU))
	}
	for _, s := range all {
		put(macs, float64(s.MACs), s.VNI.String())
		put(mtu, float64(s.MTU), s.VNI.String())
		if len(s.Suppress) > 0 {
			put(neighbours, float64(s.Neighbours), s.VNI.String())
			put(requests, float64(s.Answered), s.VNI.String(), "answered")
			put(requests, float64(s.Flooded), s.VNI.String(), "flooded")
		}
	}
	return err
}

func (c *collector) ports(put func(metric, float64, ...string)) error {
	all, err := c.from.Ports(0)
	up := gauge("port_up", "1 while the port's device is there, else 0.", "vni", "port")
	rxPackets := counter("port_receive_packets_total", "Frames taken from the guest.", "vni", "port")
	rxBytes := counter("port_receive_bytes_total", "Bytes of frames taken from the guest.", "vni", "port")
	rxDropped := counter("port_receive_dropped_total", "Frames from the guest that were dropped.", "vni", "port")
	txPackets := counter("port_transmit_packets_total", "Frames given to the guest.", "vni", "port")
	txBytes := counter("port_transmit_bytes_total", "Bytes of frames given to the guest.", "vni", "port")
	txDropped := counter("port_transmit_dropped_total", "Frames to the guest that were dropped.", "vni", "port")
	tooBig := counter("port_too_big_told_total", "Packets too big for their path of which the guest was told.", "vni", "port")
	for _, p := range all {
		vni := p.VNI.String()
		put(tooBig, float64(p.TooBigTold), vni, p.Name)
		state := 0.0
		if p.State == "up" {
			state = 1
		}
		put(up, state, vni, p.Name)
		put(rxPackets, float64(p.RxPackets), vni, p.Name)
		put(rxBytes, float64(p.RxBytes), vni, p.Name)
		put(rxDropped, float64(p.RxDropped), vni, p.Name)
		put(txPackets, float64(p.TxPackets), vni, p.Name)
		put(txBytes, float64(p.TxBytes), vni, p.Name)
		put(txDropped, float64(p.TxDropped), vni, p.Name)
	}
	return err
}

func (c *collector) peers(put func(metric, float64, ...string)) error {
	all, err := c.from.Peers(0)
	rxPackets := counter("peer_receive_packets_total", "Frames received from the remote VTEP.", "vni", "peer")
	rxBytes := counter("peer_receive_bytes_total", "Bytes of frames received from the remote VTEP.", "vni", "peer")
	txPackets := counter("peer_transmit_packets_total", "Frames sent to the remote VTEP.", "vni", "peer")
	txBytes := counter("peer_transmit_bytes_total", "Bytes of frames sent to the remote VTEP.", "vni", "peer")
	pmtu := gauge("peer_path_mtu_bytes", "MTU of the path to the remote VTEP, where it is known to be less than the interface's.", "vni", "peer")
	for _, p := range all {
		vni, peer := p.VNI.String(), p.Dst.String()
		if p.PMTU != 0 {
			put(pmtu, float64(p.PMTU), vni, peer)
		}
		put(rxPackets, float64(p.RxPackets), vni, peer)
		put(rxBytes, float64(p.RxBytes), vni, peer)
		put(txPackets, float64(p.TxPackets), vni, peer)
		put(txBytes, float64(p.TxBytes), vni, peer)
	}
	return err
}

func (c *collector) drops(put func(metric, float64, ...string)) error {
	all, err := c.from.Drops(0)
	drops := counter("dropped_packets_total", "Frames dropped, by reason; vni 0 is before a segment was known.", "vni", "reason")
	for _, d := range all {
		put(drops, float64(d.Count), d.VNI.String(), d.Reason)
	}
	return err
}

func (c *collector) workers(put func(metric, float64, ...string)) error {
	rx := counter("worker_receive_packets_total", "Frames that the worker has read.", "worker")
	tx := counter("worker_transmit_packets_total", "Frames that the worker has written.", "worker")
	batches := counter("worker_batches_total", "Batches that the worker has carried.", "worker")
	readErrors := counter("worker_read_errors_total", "Reads of ports and tunnel that failed.", "worker")
	offload := gauge("tunnel_offload", "1 for each offload of the tunnel that is in use.", "offload")
	lost := counter("lost_offloads_total", "Offloads of ports and tunnel that the kernel has come to refuse.")
	put(lost, float64(c.from.LostOffloads()))
	for i, w := range c.from.Workers() {
		if i == 0 { // it is the same for all
			for _, o := range w.Offload {
				put(offload, 1, o)
			}
		}
		id := strconv.Itoa(w.ID)
		put(rx, float64(w.RxPackets), id)
		put(tx, float64(w.TxPackets), id)
		put(batches, float64(w.Batches), id)
		put(readErrors, float64(w.ReadErrors), id)
	}
	return nil
}
