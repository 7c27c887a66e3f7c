package offload

import (
	"encoding/binary"

	"github.com/uvtep/uvtep/internal/frame"
)

// HeaderLen is the length of a virtio-net header without the field for merged
// buffers (virtio 1.2, section 5.1.6; struct virtio_net_hdr), bytes.
const HeaderLen = 10

// Get reads the virtio-net header at the front of b, in this host's byte order
// as TAP devices have it.
func Get(b []byte) frame.Offload {
	_ = b[HeaderLen-1]
	return frame.Offload{
		Flags:      b[0] & (frame.NeedsCsum | frame.DataValid),
		GSO:        b[1],
		HdrLen:     binary.NativeEndian.Uint16(b[2:]),
		GSOSize:    binary.NativeEndian.Uint16(b[4:]),
		CsumStart:  binary.NativeEndian.Uint16(b[6:]),
		CsumOffset: binary.NativeEndian.Uint16(b[8:]),
	}
}

// Put writes the virtio-net header to the front of b.
func Put(b []byte, o frame.Offload) {
	_ = b[HeaderLen-1]
	b[0], b[1] = o.Flags, o.GSO
	binary.NativeEndian.PutUint16(b[2:], o.HdrLen)
	binary.NativeEndian.PutUint16(b[4:], o.GSOSize)
	binary.NativeEndian.PutUint16(b[6:], o.CsumStart)
	binary.NativeEndian.PutUint16(b[8:], o.CsumOffset)
}

// minSegment bounds how many segments a header can ask for, bytes of payload in
// each. Linux never goes below 8 (TCP_MIN_MSS less a full set of options).
const minSegment = 8

// Check holds what the virtio header of a parsed frame claims against what the
// frame is, and reports whether they agree. The header's own idea of where the
// payload begins is not to be trusted and is replaced; a super-frame of one
// segment becomes a plain frame.
func Check(f *frame.Frame) bool {
	o, i := &f.Offload, &f.Info
	if o.Flags&frame.NeedsCsum != 0 && (int(o.CsumStart) < frame.EthernetLen || int(o.CsumStart)+int(o.CsumOffset)+2 > f.Len()) {
		return false
	}
	if o.GSO == frame.GSONone {
		return true
	}
	if i.L4 == 0 || i.Fragment || o.Flags&frame.NeedsCsum == 0 || o.CsumStart != i.L4 || o.GSOSize < minSegment {
		return false
	}
	b := f.Bytes()
	hdr := int(i.L4)
	switch o.GSO &^ frame.GSOECN {
	case frame.GSOTCPv4, frame.GSOTCPv6:
		if i.Proto != frame.ProtoTCP || o.CsumOffset != tcpCsum || (o.GSO&^frame.GSOECN == frame.GSOTCPv4) != (i.EtherType == frame.TypeIPv4) {
			return false
		}
		hdr += int(b[i.L4+tcpOff]>>4) * 4
		if hdr < int(i.L4)+tcpMin {
			return false
		}
	case frame.GSOUDPL4:
		if i.Proto != frame.ProtoUDP || o.CsumOffset != udpCsum {
			return false
		}
		hdr += udpLen
	default:
		return false
	}
	if PacketEnd(f) != len(b) || hdr > len(b) {
		return false
	}
	o.HdrLen = uint16(hdr)
	if len(b)-hdr <= int(o.GSOSize) {
		o.GSO, o.GSOSize = frame.GSONone, 0
	}
	return true
}

// PacketEnd is where the IP packet of a frame ends, by its own header.
func PacketEnd(f *frame.Frame) int {
	h := f.Bytes()[f.Info.L3:]
	if f.Info.EtherType == frame.TypeIPv4 {
		return int(f.Info.L3) + int(binary.BigEndian.Uint16(h[ip4Len:]))
	}
	return int(f.Info.L3) + ip6Hdr + int(binary.BigEndian.Uint16(h[ip6Len:]))
}

// Where things are in headers (RFC 791, 8200, 9293, 768), bytes.
const (
	ip4Len, ip4ID, ip4Frag, ip4Csum, ip4Src = 2, 4, 6, 10, 12
	ip6Len, ip6Next, ip6Src, ip6Hdr         = 4, 6, 8, 40

	tcpSeq, tcpAck, tcpOff, tcpFlags, tcpWindow, tcpCsum, tcpMin = 4, 8, 12, 13, 14, 16, 20
	udpSize, udpCsum, udpLen                                     = 4, 6, 8
)

// Flags of TCP (RFC 9293, section 3.1; RFC 3168).
const (
	flagFIN = 0x01
	flagPSH = 0x08
	flagACK = 0x10
	flagCWR = 0x80
)
