package frame

import "encoding/binary"

// TagLen is the length of an 802.1Q tag, bytes.
const TagLen = 4

// MaxVLAN is the largest VLAN identifier that names a VLAN; 0 names none, and
// 4095 is reserved (IEEE 802.1Q, table 9-2).
const MaxVLAN = 4094

// macsLen is the length of what a tag comes behind: two addresses.
const macsLen = 12

// VLAN is the identifier in the outermost tag, if that is one of 802.1Q (0x8100).
// It is 0 for a tag that holds a priority only. A service tag (802.1ad, 0x88a8) is
// not looked into. The frame is at least EthernetLen bytes long; whole is false if
// it ends in the tag or behind it, before there is another type.
func (f *Frame) VLAN() (vid uint16, tagged, whole bool) {
	b := f.Bytes()
	switch {
	case binary.BigEndian.Uint16(b[macsLen:]) != TypeVLAN:
		return 0, false, true
	case len(b) < EthernetLen+TagLen:
		return 0, true, false
	}
	return binary.BigEndian.Uint16(b[EthernetLen:]) & 0xfff, true, true
}

// PopTag takes out the outermost tag, of which VLAN said that it is whole. It is
// done before Parse.
func (f *Frame) PopTag() {
	b := f.Bytes()
	copy(b[TagLen:], b[:macsLen])
	f.off += TagLen
	f.Offload.Shift(-TagLen)
}

// Untagged is what PushTag covers up, for Untag to bring back.
type Untagged struct {
	room    [TagLen]byte
	offload Offload
}

// PushTag puts an 802.1Q tag of priority 0 in front of the frame's type, in its
// headroom, for as long as it takes to write it out. The bytes may be those of
// other frames as well, and their headroom in use: Untag makes all be as it was.
// What Parse found does not follow.
func (f *Frame) PushTag(vid uint16) Untagged {
	was := Untagged{room: [TagLen]byte(f.Room(TagLen)), offload: f.Offload}
	f.off -= TagLen
	b := f.Bytes()
	copy(b, b[TagLen:TagLen+macsLen])
	binary.BigEndian.PutUint16(b[macsLen:], TypeVLAN)
	binary.BigEndian.PutUint16(b[EthernetLen:], vid)
	f.Offload.Shift(TagLen)
	return was
}

// Untag takes back what PushTag did; was is what that returned.
func (f *Frame) Untag(was Untagged) {
	b := f.Bytes()
	copy(b[TagLen:], b[:macsLen])
	copy(b, was.room[:])
	f.off += TagLen
	f.Offload = was.offload
}

// Shift makes what counts from the frame's first byte follow a header that got n
// bytes longer in front of it. What does not fit in then is 0, which Check of
// package offload refuses.
func (o *Offload) Shift(n int) {
	if o.Flags&NeedsCsum != 0 {
		o.CsumStart = shifted(o.CsumStart, n)
	}
	if o.GSO != GSONone {
		o.HdrLen = shifted(o.HdrLen, n)
	}
}

func shifted(at uint16, n int) uint16 {
	if to := int(at) + n; to == int(uint16(to)) {
		return uint16(to)
	}
	return 0
}
