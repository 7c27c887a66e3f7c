package frame

import (
	"encoding/binary"
	"math/bits"
)

// Sum adds b, as big-endian 16-bit words and an odd last byte padded with zero,
// to a ones' complement sum (RFC 1071). Fold makes 16 bits of it.
//
// Such sums do not care about the order of bytes as long as all words have the
// same (RFC 1071, section 2 B): the words are added as the processor likes them
// best, little-endian and as wide as it has them, and the result is turned round
// once.
func Sum(b []byte, sum uint64) uint64 {
	var words uint64
	if len(b) >= blocksMin {
		n := len(b) &^ (blockLen - 1)
		words = sumBlocks(b[:n])
		b = b[n:]
	}
	var carry uint64
	for len(b) >= 32 {
		words, carry = bits.Add64(words, binary.LittleEndian.Uint64(b), 0)
		words, carry = bits.Add64(words, binary.LittleEndian.Uint64(b[8:]), carry)
		words, carry = bits.Add64(words, binary.LittleEndian.Uint64(b[16:]), carry)
		words, carry = bits.Add64(words, binary.LittleEndian.Uint64(b[24:]), carry)
		words += carry // a sum that carries is at most 2^64-2: this does not
		b = b[32:]
	}
	if len(b) >= 16 {
		words, carry = bits.Add64(words, binary.LittleEndian.Uint64(b), 0)
		words, carry = bits.Add64(words, binary.LittleEndian.Uint64(b[8:]), carry)
		words += carry
		b = b[16:]
	}
	if len(b) >= 8 {
		words, carry = bits.Add64(words, binary.LittleEndian.Uint64(b), 0)
		words += carry
		b = b[8:]
	}
	if len(b) > 0 {
		words, carry = bits.Add64(words, lastWord(b), 0)
		words += carry
	}
	sum, carry = bits.Add64(sum, bits.ReverseBytes64(words), 0)
	return sum + carry
}

// Fold folds a sum to 16 bits. The checksum that goes into a header is its
// complement.
func Fold(sum uint64) uint16 {
	sum = sum>>32 + sum&0xffffffff
	sum = sum>>32 + sum&0xffffffff
	sum = sum>>16 + sum&0xffff
	sum = sum>>16 + sum&0xffff
	return uint16(sum)
}

// Update is the checksum after one 16-bit word that it covers went from old to
// new (RFC 1624, equation 3).
func Update(sum, old, new uint16) uint16 {
	return ^Fold(uint64(^sum) + uint64(^old) + uint64(new))
}

// pseudo is the sum of the pseudo-header of the transport packet at Info.L4,
// and that packet's length in bytes; ok is false where there is none.
func (f *Frame) pseudo() (sum uint64, n int, ok bool) {
	i, b := &f.Info, f.Bytes()
	if i.L4 == 0 || i.Fragment {
		return 0, 0, false
	}
	h := b[i.L3:]
	switch i.EtherType {
	case TypeIPv4:
		n = int(i.L3) + int(binary.BigEndian.Uint16(h[2:])) - int(i.L4)
		sum = uint64(binary.BigEndian.Uint32(h[12:])) + uint64(binary.BigEndian.Uint32(h[16:])) + uint64(i.Proto) + uint64(n)
	case TypeIPv6:
		n = int(i.L3) + 40 + int(binary.BigEndian.Uint16(h[4:])) - int(i.L4)
		sum = Sum(h[8:40], uint64(i.Proto)+uint64(n))
	default:
		return 0, 0, false
	}
	return sum, n, true
}

// csumOffset is where a transport header keeps its checksum.
func csumOffset(proto uint8) int {
	switch proto {
	case ProtoTCP:
		return 16
	case ProtoUDP:
		return 6
	}
	return 0
}

// NotePartialChecksum looks whether the checksum of a TCP or UDP frame was left
// unfinished: it then holds the folded sum of the pseudo-header, as a sender
// that counts on its card leaves it, and a virtual link never finishes it. Such
// a frame gets NeedsCsum. A checksum that is complete and happens to have the
// same value stays what it is when it is finished, so nothing is risked.
func (f *Frame) NotePartialChecksum() {
	i := &f.Info
	if i.L4 == 0 || i.Fragment || f.Offload.Flags&NeedsCsum != 0 {
		return
	}
	off := csumOffset(i.Proto)
	if off == 0 {
		return
	}
	sum, _, ok := f.pseudo()
	if ok && binary.BigEndian.Uint16(f.Bytes()[int(i.L4)+off:]) == Fold(sum) {
		f.Offload.Flags |= NeedsCsum
		f.Offload.CsumStart = i.L4
		f.Offload.CsumOffset = uint16(off)
	}
}

// FinishChecksum computes the checksum that NeedsCsum says is partial, over
// everything from CsumStart to the end of the packet, and clears the flag. It
// does nothing for a frame whose checksum is complete.
func (f *Frame) FinishChecksum() {
	o := &f.Offload
	if o.Flags&NeedsCsum == 0 {
		return
	}
	o.Flags &^= NeedsCsum
	b := f.Bytes()
	start, field := int(o.CsumStart), int(o.CsumStart)+int(o.CsumOffset)
	if field+2 > len(b) {
		return
	}
	end := len(b)
	if _, n, ok := f.pseudo(); ok && start == int(f.Info.L4) {
		end = start + n // Ethernet padding is not covered
	}
	sum := ^Fold(Sum(b[start:end], 0))
	if sum == 0 && o.CsumOffset == 6 {
		sum = 0xffff // a UDP checksum of zero means that there is none (RFC 768)
	}
	binary.BigEndian.PutUint16(b[field:], sum)
}

// SetECN sets the ECN field of the frame's IP header and mends the header's
// checksum; the frame has been parsed and carries IP.
func (f *Frame) SetECN(ecn uint8) {
	i := &f.Info
	h := f.Bytes()[i.L3:]
	tos := i.TOS&^3 | ecn
	switch i.EtherType {
	case TypeIPv4:
		was := binary.BigEndian.Uint16(h)
		h[1] = tos
		binary.BigEndian.PutUint16(h[10:], Update(binary.BigEndian.Uint16(h[10:]), was, binary.BigEndian.Uint16(h)))
	case TypeIPv6:
		h[1] = h[1]&^0x30 | ecn<<4
	}
	i.TOS = tos
}
