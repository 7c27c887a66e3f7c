package guard_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/guard"
	"github.com/uvtep/uvtep/internal/guard/guardtest"
)

// station is number i of those that a table of the benchmark binds.
func station(i int) (guard.MAC, netip.Addr) {
	return 0x020000000000 + guard.MAC(i), netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
}

// BenchmarkGuard is what a TCP frame costs that may pass: of one station of few,
// and of each in turn of many.
func BenchmarkGuard(b *testing.B) {
	for _, n := range []int{1, 4, 10_000} {
		b.Run(fmt.Sprintf("bindings=%d", n), func(b *testing.B) {
			table := guard.NewTable()
			frames := frame.NewBatch(frame.BatchLen, 2048)
			for i := range max(n, frame.BatchLen) {
				m, ip := station(i % n)
				table.Bind(m, netip.PrefixFrom(ip, 32), guard.Leased)
				if f := frames.Next(); f != nil {
					hw := []byte{byte(m >> 40), byte(m >> 32), byte(m >> 24), byte(m >> 16), byte(m >> 8), byte(m)}
					frames.Commit(copy(f.Buffer(), guardtest.Serialize(
						&layers.Ethernet{SrcMAC: hw, DstMAC: hw, EthernetType: layers.EthernetTypeIPv4},
						&layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: ip.AsSlice(), DstIP: ip.AsSlice()}, gopacket.Payload(make([]byte, 20)),
					)))
					f.Parse()
				}
			}
			b.Run("rogue", func(b *testing.B) {
				for done := 0; done < b.N; done += frames.N {
					for i := range frames.Frames[:frames.N] {
						if guard.Rogue(&frames.Frames[i]) != frame.NotDropped {
							b.Fatal("rogue")
						}
					}
				}
			})
			b.Run("bound", func(b *testing.B) {
				for done := 0; done < b.N; done += frames.N {
					for i := range frames.Frames[:frames.N] {
						if v, _ := table.Judge(&frames.Frames[i], true); v != guard.Bound {
							b.Fatal("not bound")
						}
					}
				}
			})
		})
	}
}
