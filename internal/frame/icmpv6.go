package frame

import "encoding/binary"

// Types of ICMPv6 messages (RFC 4443, RFC 4861).
const (
	EchoRequest6           = 128
	EchoReply6             = 129
	RouterSolicitation     = 133
	RouterAdvertisement    = 134
	NeighbourSolicitation  = 135
	NeighbourAdvertisement = 136
)

// Options of neighbour discovery that carry a link-layer address (RFC 4861
// section 4.6.1).
const (
	OptionSourceMAC = 1
	OptionTargetMAC = 2
)

// ICMPv6 is a view of an ICMPv6 message, 8 bytes or more.
type ICMPv6 []byte

// ICMPv6 is the frame's ICMPv6 message; ok is false if it has none that is
// whole. Its checksum may be wrong.
func (f *Frame) ICMPv6() (m ICMPv6, ok bool) {
	i := &f.Info
	if i.EtherType != TypeIPv6 || i.Proto != ProtoICMPv6 || i.L4 == 0 || i.Fragment {
		return nil, false
	}
	b := f.Bytes()
	end := int(i.L3) + 40 + int(binary.BigEndian.Uint16(b[i.L3+4:]))
	return ICMPv6(b[i.L4:end:end]), true
}

// Type and Code say what the message is.
func (m ICMPv6) Type() uint8 { return m[0] }
func (m ICMPv6) Code() uint8 { return m[1] }

// Target is the address that a neighbour solicitation or advertisement is about,
// nil in a message that is too short for one.
func (m ICMPv6) Target() []byte {
	if len(m) < 24 {
		return nil
	}
	return m[8:24]
}

// Option is the value of the first option of a type, nil if there is none. The
// options begin at the byte from; ok is false where one has no length or leads
// beyond the message (RFC 4861 section 4.6): such a message is to be ignored.
func (m ICMPv6) Option(from int, typ uint8) (value []byte, ok bool) {
	for len(m)-from >= 8 {
		n := 8 * int(m[from+1])
		if n == 0 || n > len(m)-from {
			return nil, false
		}
		if m[from] == typ && value == nil {
			value = m[from+2 : from+n]
		}
		from += n
	}
	return value, from == len(m)
}

// ChecksumHolds reports whether the checksum of the TCP, UDP or ICMPv6 packet at
// Info.L4 is right. One that was left to whoever sends the frame on (NeedsCsum)
// has not been on a wire.
func (f *Frame) ChecksumHolds() bool {
	if f.Offload.Flags&NeedsCsum != 0 {
		return true
	}
	sum, n, ok := f.pseudo()
	return ok && Fold(Sum(f.Bytes()[f.Info.L4:int(f.Info.L4)+n], sum)) == 0xffff
}
