package vtep_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/nettest"
	"github.com/uvtep/uvtep/vtep"
)

// BenchmarkTCPBetweenPorts measures TCP between two guests of a host by iperf3,
// for as many seconds as there are iterations, by the kind of their ports.
//
//	go test ./vtep -run '^$' -bench BetweenPorts -benchtime 3x -count 3
func BenchmarkTCPBetweenPorts(b *testing.B) {
	nettest.Root(b)
	nettest.Need(b, "iperf3", "ethtool")
	for _, s := range settings {
		b.Run("tap/"+s.name, func(b *testing.B) {
			h, seg := benchHost(b, s.base)
			iperf(b, h.guest(b, seg, "ta", "192.168.100.1/24"), h.guest(b, seg, "tb", "192.168.100.2/24"), "192.168.100.2", 1)
		})
		b.Run("nic/"+s.name, func(b *testing.B) {
			h, seg := benchHost(b, s.base)
			var ends [2]*nettest.NS
			for i := range ends {
				name := fmt.Sprintf("nic%d", i)
				ends[i] = nettest.New(b, "behind")
				nettest.Veth(b, h.ns, name, ends[i], "eth0")
				ends[i].Exec("ip", "link", "set", "eth0", "mtu", "1450")
				if s.base.NoOffload != 0 { // no super-frames at all, as of a TAP without offloads
					ends[i].Exec("ethtool", "-K", "eth0", "tso", "off", "gso", "off", "tx", "off")
				}
				ends[i].Addr("eth0", fmt.Sprintf("192.168.100.%d/24", 1+i))
				h.ns.Do(func() {
					if _, err := seg.AttachPort(vtep.PortConfig{NIC: name}); err != nil {
						b.Fatal(err)
					}
				})
			}
			iperf(b, ends[0], ends[1], "192.168.100.2", 1)
		})
	}
}

func benchHost(b *testing.B, base vtep.Config) (*host, *vtep.Segment) {
	b.Helper()
	na, _ := cable(b, families[0])
	base.Local = families[0].a
	h := start(b, na, base)
	return h, h.segment(b, vtep.SegmentConfig{VNI: 100, MTU: 1450})
}

// BenchmarkFramesBetweenStreams is the same for machines on sockets, whose place
// two programs take that do nothing but write and read frames.
func BenchmarkFramesBetweenStreams(b *testing.B) {
	nettest.Root(b)
	for _, size := range []int{64, 1464} {
		b.Run(fmt.Sprintf("%d bytes", size), func(b *testing.B) {
			_, seg := benchHost(b, vtep.Config{})
			var ends [2]net.Conn
			for i := range ends {
				path := filepath.Join(b.TempDir(), fmt.Sprintf("vm%d", i))
				if _, err := seg.AttachPort(vtep.PortConfig{Stream: path}); err != nil {
					b.Fatal(err)
				}
				var err error
				if ends[i], err = net.Dial("unix", path); err != nil {
					b.Fatal(err)
				}
				defer ends[i].Close()
			}
			// The second one is known from its first frame on.
			hello := stationFrame(fdb.MAC(0x020000000002), fdb.Broadcast, "hello")
			if _, err := ends[1].Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(hello))), hello...)); err != nil {
				b.Fatal(err)
			}
			if _, err := io.ReadFull(ends[0], make([]byte, 4+len(hello))); err != nil {
				b.Fatal(err)
			}
			frame := append(stationFrame(fdb.MAC(0x020000000001), fdb.MAC(0x020000000002), "data"), make([]byte, size)...)[:size]
			var many []byte
			for range 64 {
				many = append(binary.BigEndian.AppendUint32(many, uint32(size)), frame...)
			}
			length := time.Duration(b.N) * time.Second
			for _, e := range ends {
				e.SetDeadline(time.Now().Add(length))
			}
			go func() {
				for {
					if _, err := ends[0].Write(many); err != nil {
						return // the time is over
					}
				}
			}()
			b.ResetTimer()
			received := 0
			for buf := make([]byte, 1<<18); ; {
				n, err := ends[1].Read(buf)
				received += n
				if err != nil {
					break
				}
			}
			b.StopTimer()
			frames := float64(received) / float64(4+size) / length.Seconds()
			b.ReportMetric(frames/1e3, "kframes/s")
			b.ReportMetric(frames*float64(size)*8/1e9, "Gbit/s")
			b.ReportMetric(0, "ns/op")
		})
	}
}
