package frame

import "encoding/binary"

// Golden is 2^64 divided by the golden ratio, the factor by which Hash mixes.
const Golden = 0x9e3779b97f4a7c15

// The ports of DHCP's messages, those of clients and those to them (RFC 2131
// section 4.1), the source in front.
const (
	FromDHCPClient = 68<<16 | 67
	ToDHCPClient   = 67<<16 | 68
)

// Hash tells flows apart. It is of the addresses and, where all fragments of a
// packet have them, of the ports, or of the MACs where the network header says
// nothing. A DHCP client is a flow by its MAC, for it changes its address between
// one message and the next, and must be heard in order. The hash is equal for all
// frames of a flow, on every host and in both directions, so that all hosts come to
// the same queue for it and its answers meet it there. Programs for the kernel
// compute it as well (internal/tap), so it takes nothing that those lack. The frame
// was parsed.
func (f *Frame) Hash() uint32 {
	b, i := f.Bytes(), &f.Info
	var src, dst uint64
	switch h := b[i.L3:]; {
	case i.L3 != 0 && i.EtherType == TypeIPv4:
		src, dst = uint64(binary.BigEndian.Uint32(h[12:])), uint64(binary.BigEndian.Uint32(h[16:]))
	case i.L3 != 0 && i.EtherType == TypeIPv6:
		src = binary.BigEndian.Uint64(h[8:])*Golden ^ binary.BigEndian.Uint64(h[16:])
		dst = binary.BigEndian.Uint64(h[24:])*Golden ^ binary.BigEndian.Uint64(h[32:])
	default:
		src, dst = binary.BigEndian.Uint64(b[4:])&(1<<48-1), binary.BigEndian.Uint64(b)>>16
	}
	var ports uint32
	if i.L4 != 0 && !i.Fragment && (i.Proto == ProtoTCP || i.Proto == ProtoUDP) {
		ports = binary.BigEndian.Uint32(b[i.L4:])
		switch ports {
		case FromDHCPClient:
			src, dst, ports = binary.BigEndian.Uint64(b[4:])&(1<<48-1), 0, 0
		case ToDHCPClient:
			src, dst, ports = binary.BigEndian.Uint64(b)>>16, 0, 0
		}
	}
	return uint32((end(src, uint64(ports>>16)) + end(dst, uint64(ports&0xffff))) * Golden >> 32)
}

// end is one end of a flow. Addresses of more than 48 bits are folded.
func end(addr, port uint64) uint64 {
	addr ^= addr >> 32
	x := (addr<<16 ^ port) * Golden
	return x ^ x>>32
}

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
