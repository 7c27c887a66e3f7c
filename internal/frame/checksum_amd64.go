//go:build !purego

package frame

import "golang.org/x/sys/cpu"

// blocksMin is from how many bytes on the vectors pay.
const blocksMin = 2 * blockLen

func sumBlocks(b []byte) uint64 {
	if cpu.X86.HasAVX2 {
		return sumBlocksAVX2(b)
	}
	return sumBlocksPortably(b)
}

// sumBlocksAVX2 is sumBlocksPortably modulo 2^16-1, for at most 2^32 bytes.
//
//go:noescape
func sumBlocksAVX2(b []byte) uint64
