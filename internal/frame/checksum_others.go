//go:build !amd64 || purego

package frame

// blocksMin is from how many bytes on blocks pay.
const blocksMin = blockLen

func sumBlocks(b []byte) uint64 { return sumBlocksPortably(b) }
