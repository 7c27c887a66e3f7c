package frame

import "encoding/binary"

// The hash of a flow is the same on every host and in both directions, so that
// all hosts come to the same queue for it, and its frames and their answers meet
// there. Programs for the kernel compute it as well (internal/tap), so it takes
// nothing that those lack.

// Golden is 2^64 divided by the golden ratio, the factor that mixes.
const Golden = 0x9e3779b97f4a7c15

// hash mixes the addresses and, where all fragments of a packet have them, the
// ports.
func (i *Info) hash(src, dst uint64, b []byte) {
	var ports uint32
	if i.L4 != 0 && !i.Fragment && (i.Proto == ProtoTCP || i.Proto == ProtoUDP) {
		ports = binary.BigEndian.Uint32(b[i.L4:])
	}
	i.Hash = both(end(src, uint64(ports>>16)), end(dst, uint64(ports&0xffff)))
}

// hashMACs is the flow of a frame whose network header says nothing: its
// addresses.
func (i *Info) hashMACs(b []byte) {
	i.Hash = both(end(binary.BigEndian.Uint64(b[4:])&(1<<48-1), 0), end(binary.BigEndian.Uint64(b)>>16, 0))
}

// end is one end of a flow. Addresses of more than 48 bits are folded.
func end(addr, port uint64) uint64 {
	addr ^= addr >> 32
	x := (addr<<16 ^ port) * Golden
	return x ^ x>>32
}

func both(a, b uint64) uint32 { return uint32((a + b) * Golden >> 32) }

// fewQueues is up to how many queues a flow's class alone says which it goes to.
const fewQueues = 16

// Classes is how many classes of flows QueueOf tells apart, and the bits of a hash
// that say which: the highest ones. With few queues they are no more than the
// source ports there usually are, which is what a receiver has to go by.
func Classes(queues int) (n, bits int) {
	if queues <= fewQueues {
		return 16, 4
	}
	return 256, 8
}

// QueueOf is which of so many queues, at most 256, a flow goes to.
func QueueOf(hash uint32, queues int) int {
	n, bits := Classes(queues)
	return int(hash>>(32-bits)) * queues / n
}
