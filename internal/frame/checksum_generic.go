package frame

import (
	"encoding/binary"
	"math/bits"
)

// blockLen is the length of what sumBlocks takes as one, bytes.
const blockLen = 64

// lastWord is the up to 7 bytes of b as a little-endian word.
func lastWord(b []byte) (w uint64) {
	at := 0
	if len(b) >= 4 {
		w = uint64(binary.LittleEndian.Uint32(b))
		at = 4
	}
	if len(b)&2 != 0 {
		w |= uint64(binary.LittleEndian.Uint16(b[at:])) << (8 * at)
		at += 2
	}
	if len(b)&1 != 0 {
		w |= uint64(b[at]) << (8 * at)
	}
	return w
}

// sumBlocksPortably is the ones' complement sum of b as little-endian words of 64
// bits; the length of b is a multiple of blockLen. Every block is summed by
// itself, so that a processor works at several of them at once: one chain of
// carries through all would leave it waiting for each.
func sumBlocksPortably(b []byte) uint64 {
	var sum uint64
	for len(b) >= blockLen {
		var carry, c uint64
		block := binary.LittleEndian.Uint64(b)
		block, carry = bits.Add64(block, binary.LittleEndian.Uint64(b[8:]), 0)
		block, carry = bits.Add64(block, binary.LittleEndian.Uint64(b[16:]), carry)
		block, carry = bits.Add64(block, binary.LittleEndian.Uint64(b[24:]), carry)
		block, carry = bits.Add64(block, binary.LittleEndian.Uint64(b[32:]), carry)
		block, carry = bits.Add64(block, binary.LittleEndian.Uint64(b[40:]), carry)
		block, carry = bits.Add64(block, binary.LittleEndian.Uint64(b[48:]), carry)
		block, carry = bits.Add64(block, binary.LittleEndian.Uint64(b[56:]), carry)
		// A sum that carries is at most 2^64-2: adding the carry does not.
		sum, c = bits.Add64(sum, block+carry, 0)
		sum += c
		b = b[blockLen:]
	}
	return sum
}
