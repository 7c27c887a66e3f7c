package frame_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/uvtep/uvtep/internal/frame"
)

// slowSum is RFC 1071's definition, a word at a time.
func slowSum(b []byte) uint16 {
	var sum uint32
	for i, c := range b {
		if i%2 == 0 {
			sum += uint32(c) << 8
		} else {
			sum += uint32(c)
		}
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

// patterns are bytes that are hard on carries, and some that are not.
func patterns(n int) map[string][]byte {
	m := map[string][]byte{"zeros": make([]byte, n), "ones": make([]byte, n), "random": make([]byte, n), "mostly ones": make([]byte, n)}
	for i := range n {
		m["ones"][i] = 0xff
		m["random"][i] = byte(rand.Uint32())
		m["mostly ones"][i] = byte(rand.Uint32()) | byte(-rand.N(2))
	}
	return m
}

// sums are the ways to sum that this processor knows.
var sums = map[string]func([]byte, uint64) uint64{
	"Sum":      frame.Sum,
	"blocks":   frame.SumBlocks,
	"portable": frame.SumPortably,
}

func TestSumEqualsTheSlowOneAtEveryLength(t *testing.T) {
	for what, all := range patterns(4096) {
		for n := range len(all) + 1 {
			want := slowSum(all[:n])
			for name, sum := range sums {
				if got := frame.Fold(sum(all[:n], 0)); got != want {
					t.Fatalf("%s: %d bytes of %s: %#x, want %#x", name, n, what, got, want)
				}
			}
		}
	}
	for what, all := range patterns(1 << 20) {
		for name, sum := range sums {
			if got, want := frame.Fold(sum(all, 0)), slowSum(all); got != want {
				t.Fatalf("%s: %d bytes of %s: %#x, want %#x", name, len(all), what, got, want)
			}
		}
	}
}

func TestSumDependsOnNoAlignmentAndOnNothingOutside(t *testing.T) {
	for name, sum := range sums {
		for at := range 64 {
			for _, n := range []int{1, 7, 20, 31, 33, 64, 127, 128, 129, 255, 256, 300, 1398} {
				room := patterns(at + n + 64)["random"]
				b := room[at : at+n]
				want := slowSum(b)
				for range 2 {
					if got := frame.Fold(sum(b, 0)); got != want {
						t.Fatalf("%s: %d bytes at %d: %#x, want %#x", name, n, at, got, want)
					}
					for i := range room {
						if i < at || i >= at+n {
							room[i] ^= 0xa5
						}
					}
				}
			}
		}
	}
}

func TestSumsAreCarriedFromPieceToPiece(t *testing.T) {
	for name, sum := range sums {
		for range 5000 {
			b := patterns(rand.N(700))["mostly ones"]
			cut := rand.N(len(b)+1) &^ 1
			if got, want := frame.Fold(sum(b[cut:], sum(b[:cut], 0))), slowSum(b); got != want {
				t.Fatalf("%s: %d bytes cut at %d: %#x, want %#x", name, len(b), cut, got, want)
			}
			// Any sum may be carried in, the greatest included.
			for _, in := range []uint64{1, 0xffff, 1<<32 - 1, 1<<64 - 1, rand.Uint64()} {
				word := []byte{byte(frame.Fold(in) >> 8), byte(frame.Fold(in))}
				if got, want := frame.Fold(sum(b, in)), slowSum(append(word, b...)); got != want {
					t.Fatalf("%s: %d bytes and %#x: %#x, want %#x", name, len(b), in, got, want)
				}
			}
		}
	}
}

func BenchmarkSum(b *testing.B) {
	for _, n := range []int{20, 40, 64, 128, 256, 1398, 65160} {
		buf := patterns(n)["random"]
		for name, sum := range sums {
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				b.SetBytes(int64(n))
				for b.Loop() {
					sum(buf, 0)
				}
			})
		}
	}
}
