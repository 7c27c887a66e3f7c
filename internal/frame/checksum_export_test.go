package frame

import (
	"math/bits"
)

// SumPortably is Sum as it is where there are no vectors.
func SumPortably(b []byte, sum uint64) uint64 {
	n := len(b) &^ (blockLen - 1)
	sum, carry := bits.Add64(sum, bits.ReverseBytes64(sumBlocksPortably(b[:n])), 0)
	return Sum(b[n:], sum+carry)
}

// SumBlocks is Sum of all whole blocks, however few, by what this processor has.
func SumBlocks(b []byte, sum uint64) uint64 {
	n := len(b) &^ (blockLen - 1)
	sum, carry := bits.Add64(sum, bits.ReverseBytes64(sumBlocks(b[:n])), 0)
	return Sum(b[n:], sum+carry)
}
