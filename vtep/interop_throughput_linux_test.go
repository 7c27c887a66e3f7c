package vtep_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os/exec"
	"testing"

	"github.com/uvtep/uvtep/internal/nettest"
	"github.com/uvtep/uvtep/vtep"
)

// BenchmarkTCPOverTheOverlay measures TCP between two guests by iperf3, beside
// the kernel's driver, for as many seconds as there are iterations. In "virt"
// super-frames may cross the underlay whole, in "wire" no packet on it is longer
// than its MTU.
//
//	go test ./vtep -run '^$' -bench TCPOverTheOverlay -benchtime 3x -count 3
func BenchmarkTCPOverTheOverlay(b *testing.B) {
	nettest.Root(b)
	nettest.Need(b, "iperf3", "ethtool")
	for _, link := range []string{"virt", "wire"} {
		for _, streams := range []int{1, 4} {
			b.Run(fmt.Sprintf("kernel/%s/%d", link, streams), func(b *testing.B) {
				na, nb := benchCable(b, link)
				ga, gb := nettest.New(b, "ga"), nettest.New(b, "gb")
				kernelGuest(b, na, ga, families[0].a, families[0].b, "192.168.100.1/24")
				kernelGuest(b, nb, gb, families[0].b, families[0].a, "192.168.100.2/24")
				iperf(b, ga, gb, "192.168.100.2", streams)
			})
			for _, s := range settings {
				b.Run(fmt.Sprintf("%s/%s/%d", s.name, link, streams), func(b *testing.B) {
					u := families[0]
					na, nb := benchCable(b, link)
					ha, hb := pair(b, s.base, u, na, nb)
					sa := ha.segment(b, vtep.SegmentConfig{VNI: 100, Peers: []netip.Addr{u.b}})
					sb := hb.segment(b, vtep.SegmentConfig{VNI: 100, Peers: []netip.Addr{u.a}})
					iperf(b, ha.guest(b, sa, "ta", "192.168.100.1/24"), hb.guest(b, sb, "tb", "192.168.100.2/24"), "192.168.100.2", streams)
				})
			}
		}
	}
}

// benchCable is a cable whose ends leave everything to each other, or nothing.
func benchCable(b *testing.B, link string) (na, nb *nettest.NS) {
	na, nb = cable(b, families[0])
	if link == "wire" {
		wire(na, nb)
	}
	return na, nb
}

// kernelGuest connects a guest by the kernel's driver: a vxlan device and one
// end of a veth pair in a bridge.
func kernelGuest(b *testing.B, ns, g *nettest.NS, local, remote netip.Addr, addr string) {
	ns.Exec("ip", "link", "add", "br0", "up", "type", "bridge")
	ns.Exec("ip", "link", "add", "vx", "up", "mtu", "1450", "master", "br0", "type", "vxlan", "id", "100",
		"local", local.String(), "remote", remote.String(), "dstport", "4789")
	nettest.Veth(b, ns, "port", g, "eth0")
	ns.Exec("ip", "link", "set", "port", "mtu", "1450", "master", "br0")
	g.Exec("ip", "link", "set", "eth0", "mtu", "1450")
	g.Addr("eth0", addr)
}

// iperf measures b.N seconds of TCP from one namespace to another.
func iperf(b *testing.B, from, to *nettest.NS, ip string, streams int) {
	b.Helper()
	to.Start(exec.Command("iperf3", "-s", "-1", "-p", "5201"))
	eventually(b, "iperf3 listens", func() bool { return to.Exec("ss", "-Hltn", "sport", "=", ":5201") != "" })
	b.ResetTimer()
	out := from.Exec("iperf3", "-J", "-c", ip, "-p", "5201", "-t", fmt.Sprint(b.N), "-P", fmt.Sprint(streams))
	b.StopTimer()
	var r struct {
		End struct {
			Received struct {
				BPS float64 `json:"bits_per_second"`
			} `json:"sum_received"`
			Sent struct {
				Retransmits int `json:"retransmits"`
			} `json:"sum_sent"`
		} `json:"end"`
	}
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	b.ReportMetric(r.End.Received.BPS/1e9, "Gbit/s")
	b.ReportMetric(float64(r.End.Sent.Retransmits)/float64(b.N), "retrans/s")
}
