package dhcpd_test

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/uvtep/uvtep/dhcpd"
	"github.com/uvtep/uvtep/dhcpd/dhcpdtest"
)

// What many leases cost: as many as a segment of a /12 has.

func wide() dhcpd.SegmentConfig {
	cfg := blue()
	cfg.Subnet = netip.MustParsePrefix("10.0.0.0/12")
	cfg.Ranges = []dhcpd.Range{{First: netip.MustParseAddr("10.0.1.0"), Last: netip.MustParseAddr("10.15.255.0")}}
	cfg.Server, cfg.Gateway = wideServer, netip.Addr{}
	return cfg
}

var wideServer = netip.MustParseAddr("10.0.0.1")

// wideIP is the address of client i, wideMAC its MAC.
func wideIP(i int) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], 10<<24|256+uint32(i))
	return netip.AddrFrom4(b)
}

func wideMAC(i int) net.HardwareAddr {
	return binary.BigEndian.AppendUint32([]byte{2, 0}, uint32(i))
}

// fill makes a store of n leases in a file.
func fill(t testing.TB, n int) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "leases.db")
	store, err := dhcpd.OpenBolt(file)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	const batch = 50000
	var changes []dhcpd.Change
	for i := range n {
		changes = append(changes, dhcpd.Change{Segment: 100, Lease: dhcpd.Lease{
			IP: wideIP(i), State: dhcpd.StateBound, HType: 1, CHAddr: string(wideMAC(i)), Port: "tap0", Start: now, Expires: now.Add(12 * time.Hour),
		}})
		if len(changes) == batch || i == n-1 {
			if err := store.Commit(changes); err != nil {
				t.Fatal(err)
			}
			changes = changes[:0]
		}
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	return file
}

// serveWide opens such a store and serves its segment.
func serveWide(t testing.TB, file string) (*dhcpd.Service, *dhcpd.Server) {
	t.Helper()
	store, err := dhcpd.OpenBolt(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	svc, err := dhcpd.NewService(dhcpd.Config{Store: store})
	if err != nil {
		t.Fatal(err)
	}
	srv, err := svc.Add(100, wide())
	if err != nil {
		t.Fatal(err)
	}
	return svc, srv
}

// far spreads consecutive numbers over the clients, so that no cache helps.
func far(i, n int) int { return int(uint64(i) * 2654435761 % uint64(n)) }

// BenchmarkRenew is a client that renews: the decision, and with it its share of
// a transaction of 100.
func BenchmarkRenew(b *testing.B) {
	for _, n := range []int{1000, 1000000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			svc, srv := serveWide(b, fill(b, n))
			replies := 0
			reply := func(dhcpd.Reply) { replies++ }
			c := dhcpdtest.Client{MAC: wideMAC(0), IP: wideIP(0)}
			msg := c.Renew()
			req := dhcpd.Request{Payload: msg, Dst: wideServer, Port: "tap0"}
			decided := time.Duration(0)
			i := 0
			for b.Loop() {
				k := far(i, n)
				ip := wideIP(k).As4()
				copy(msg[12:], ip[:])
				copy(msg[28:], wideMAC(k))
				req.Src = wideIP(k)
				at := time.Now()
				if out := srv.Serve(&req, reply); out != dhcpd.Pending {
					b.Fatal(out)
				}
				decided += time.Since(at)
				if i++; i%100 == 0 {
					svc.Commit()
				}
			}
			svc.Commit()
			if replies != i {
				b.Fatalf("%d ACKs to %d requests", replies, i)
			}
			b.ReportMetric(float64(decided.Nanoseconds())/float64(i), "decide-ns/op")
		})
	}
}

// BenchmarkLoad is a start with a store of a million leases.
func BenchmarkLoad(b *testing.B) {
	const n = 1000000
	file := fill(b, n)
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		store, err := dhcpd.OpenBolt(file)
		if err != nil {
			b.Fatal(err)
		}
		svc, err := dhcpd.NewService(dhcpd.Config{Store: store})
		if err != nil {
			b.Fatal(err)
		}
		srv, err := svc.Add(100, wide())
		if err != nil {
			b.Fatal(err)
		}
		if st := srv.Stats(); st.Bound != n {
			b.Fatalf("%d leases are there", st.Bound)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/n, "B/lease")
		store.Close()
	}
}
