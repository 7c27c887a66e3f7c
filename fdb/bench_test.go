package fdb

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

var sizes = []struct {
	name string
	n    int
}{{"1k", 1_000}, {"100k", 100_000}, {"1M", 1_000_000}}

// benchMAC is the i-th of a fixed set of addresses: a few vendors' prefixes and
// counters behind them, as in a data centre.
func benchMAC(i int) MAC {
	return MAC(0x02_1b_00_00_00_00) | MAC(i%7)<<32 | MAC(i)
}

func filled(n int) *Table {
	t := New(Config{})
	for i := range n {
		t.Learn(benchMAC(i), Local(uint32(i%100)), 1)
	}
	return t
}

// queries are a million addresses out of n, in no order that a cache could
// guess. All n are among them: a thousand queries that come again and again
// would leave a large table in the cache.
const queries = 1 << 20

func shuffled(n int) []MAC {
	r := rand.New(rand.NewPCG(1, 2))
	q := make([]MAC, queries)
	for i := range q {
		q[i] = benchMAC(i % n)
	}
	r.Shuffle(len(q), func(i, j int) { q[i], q[j] = q[j], q[i] })
	return q
}

// writing changes the table 100,000 times a second, in bursts of 100, until the
// returned function is called: half of it moves, half new stations that come
// and go.
func writing(t *Table, n int) (stop func() int) {
	var end atomic.Bool
	done := make(chan int)
	go func() {
		r := rand.New(rand.NewPCG(3, 4))
		writes, start := 0, time.Now()
		for !end.Load() {
			for range 25 {
				t.Learn(benchMAC(r.IntN(n)), Local(r.Uint32N(100)), 1)
				t.Learn(benchMAC(r.IntN(n)), Local(r.Uint32N(100)), 1)
				m := MAC(0x06_00_00_00_00_00) | MAC(r.Uint32())
				t.Learn(m, Local(1), 1)
				t.Delete(m)
			}
			writes += 100
			if ahead := time.Duration(writes)*10*time.Microsecond - time.Since(start); ahead > 0 {
				time.Sleep(ahead)
			}
		}
		done <- writes
	}()
	return func() int { end.Store(true); return <-done }
}

func BenchmarkLookup(b *testing.B) {
	for _, size := range sizes {
		for _, with := range []string{"", "/WithWriter"} {
			b.Run(size.name+with, func(b *testing.B) {
				t, q := filled(size.n), shuffled(size.n)
				runtime.GC()
				if with != "" {
					stop := writing(t, size.n)
					start := time.Now()
					defer func() { b.ReportMetric(float64(stop())/time.Since(start).Seconds(), "writes/s") }()
				}
				b.ReportAllocs()
				b.ResetTimer()
				var sum Dst
				for i := 0; b.Loop(); i++ {
					sum += t.Lookup(q[i&(queries-1)])
				}
				sink = uint64(sum)
			})
		}
	}
}

// BenchmarkLookupChained makes each lookup wait for the one before: the full
// latency of the cache misses, which the plain one overlaps as a batch does.
func BenchmarkLookupChained(b *testing.B) {
	for _, size := range sizes {
		b.Run(size.name, func(b *testing.B) {
			t, q := filled(size.n), shuffled(size.n)
			runtime.GC()
			b.ResetTimer()
			var at uint32
			for i := 0; b.Loop(); i++ {
				at = t.Lookup(q[(uint32(i)+at)&(queries-1)]).Index()
			}
			sink = uint64(at)
		})
	}
}

func BenchmarkLookupBatch(b *testing.B) {
	for _, size := range sizes {
		b.Run(size.name, func(b *testing.B) {
			t, q := filled(size.n), shuffled(size.n)
			var dst [64]Dst
			runtime.GC()
			b.ReportAllocs()
			b.ResetTimer()
			for i := 0; b.Loop(); i++ {
				at := i * 64 & (queries - 1)
				t.LookupBatch(q[at:at+64], dst[:])
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/64, "ns/lookup")
		})
	}
}

func BenchmarkLookupUnknown(b *testing.B) {
	for _, size := range sizes {
		b.Run(size.name, func(b *testing.B) {
			t := filled(size.n)
			b.ResetTimer()
			var sum Dst
			for i := 0; b.Loop(); i++ {
				sum += t.Lookup(MAC(0x0a_00_00_00_00_00) | MAC(i))
			}
			sink = uint64(sum)
		})
	}
}

func BenchmarkLearnKnown(b *testing.B) {
	for _, size := range sizes {
		b.Run(size.name, func(b *testing.B) {
			t, q := New(Config{}), shuffled(size.n)
			for i := range size.n {
				t.Learn(benchMAC(i), Local(1), 1)
			}
			runtime.GC()
			b.ReportAllocs()
			b.ResetTimer()
			for i := 0; b.Loop(); i++ {
				t.Learn(q[i&(queries-1)], Local(1), Seconds(1+i>>20))
			}
		})
	}
}

func BenchmarkLearnNew(b *testing.B) {
	t := New(Config{})
	for i := 0; b.Loop(); i++ {
		if i&(1<<20-1) == 0 {
			t = New(Config{})
		}
		t.Learn(benchMAC(i&(1<<20-1)), Local(1), 1)
	}
}

func BenchmarkLearnMove(b *testing.B) {
	t := filled(100_000)
	for i := 0; b.Loop(); i++ {
		t.Learn(benchMAC(i%100_000), Local(uint32(i/100_000+i)%1000), 1)
	}
}

// BenchmarkLearnRefused is a flood of made-up addresses into a full table.
func BenchmarkLearnRefused(b *testing.B) {
	t := filled(8192)
	t.Reconfigure(Config{MaxMACs: 8192})
	for i := 0; b.Loop(); i++ {
		t.Learn(MAC(0x0a_00_00_00_00_00)|MAC(i), Local(1), 1)
	}
}

// BenchmarkLearnEvicting takes another's place with every new address: what the
// flood takes, a station of a second port takes back.
func BenchmarkLearnEvicting(b *testing.B) {
	for _, n := range []int{1000, 8192, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			t := New(Config{MaxMACs: n})
			for i := range n {
				t.Learn(benchMAC(i), Local(1), 1)
			}
			b.ReportAllocs()
			b.ResetTimer()
			full := 0
			for i := 0; b.Loop(); i++ {
				m := MAC(0x0a_00_00_00_00_00) | MAC(i)
				if t.Learn(m, Local(2), 2) != Learned {
					full++
				}
				t.Delete(m)
				t.Learn(benchMAC(i%n), Local(1), 1)
			}
			if full > 0 {
				b.Errorf("%d of %d were not learned", full, b.N)
			}
		})
	}
}

// BenchmarkLearnFrozen is a loop that goes on.
func BenchmarkLearnFrozen(b *testing.B) {
	t := New(Config{Moves: 1, MovesWithin: 180})
	m := benchMAC(0)
	t.Learn(m, Local(1), 1)
	for b.Loop() {
		t.Learn(m, Local(2), 1)
	}
}

func BenchmarkSweep(b *testing.B) {
	t := filled(100_000)
	t.Reconfigure(Config{Ageing: 300})
	for b.Loop() {
		t.Sweep(10, 0)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/100_000, "ns/entry")
}

// BenchmarkMemory reports the bytes an entry takes, everything included.
func BenchmarkMemory(b *testing.B) {
	for _, n := range []int{1, 10, 1_000, 100_000, 600_000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var bytes uint64
			for b.Loop() {
				before := heap()
				t := filled(n)
				bytes = heap() - before
				runtime.KeepAlive(t)
			}
			b.ReportMetric(float64(bytes), "bytes")
			b.ReportMetric(float64(bytes)/float64(n), "bytes/entry")
		})
	}
}

func BenchmarkPeersLookup(b *testing.B) {
	for _, n := range []int{4, 1024, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := NewPeers[int](0)
			addrs := make([]netip.Addr, n)
			for i := range addrs {
				addrs[i] = peerAddr(i)
				if _, err := s.Add(addrs[i], PeerConfig, true, nil); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportAllocs()
			b.ResetTimer()
			at := 0
			for b.Loop() {
				p, _ := s.Lookup(addrs[at])
				at += int(p.ID&1) + 1
				if at >= n {
					at = 0
				}
			}
		})
	}
}

func BenchmarkPeersAdd10k(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		s := NewPeers[int](0)
		for i := range 10_000 {
			if _, err := s.Add(peerAddr(i), PeerConfig, true, nil); err != nil {
				b.Fatal(err)
			}
		}
	}
}

func peerAddr(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

var sink uint64
