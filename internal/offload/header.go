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

// minSegment and maxDatagrams bound how many segments a header can ask for. TCP
// never makes shorter payloads, bytes, in Linux (TCP_MIN_MSS less a full set of
// options). Datagrams may be of any length, but a sender makes no more of them at
// once, and TAP devices take no more (UDP_MAX_SEGMENTS).
const (
	minSegment   = 8
	maxDatagrams = 128
)

// Check holds what the virtio header of a parsed frame claims against what the
// frame is, and reports whether they agree. What it claims needlessly is not to be
// trusted: where the payload begins is found anew, a super-frame of one segment
// becomes a plain frame, and what means nothing in a plain frame is cleared.
func Check(f *frame.Frame) bool {
	o, i := &f.Offload, &f.Info
	partial := o.Flags&frame.NeedsCsum != 0
	if partial && !coverable(f) {
		return false
	}
	if o.GSO == frame.GSONone {
		o.HdrLen, o.GSOSize = 0, 0
		if !partial {
			o.CsumStart, o.CsumOffset = 0, 0
		}
		return true
	}
	if !partial || i.L4 == 0 || o.CsumStart != i.L4 || o.GSOSize == 0 {
		return false
	}
	b := f.Bytes()
	hdr := int(i.L4)
	switch o.GSO {
	case frame.GSOTCPv4, frame.GSOTCPv6, frame.GSOTCPv4 | frame.GSOECN, frame.GSOTCPv6 | frame.GSOECN:
		if i.Proto != frame.ProtoTCP || (o.GSO&^frame.GSOECN == frame.GSOTCPv4) != (i.EtherType == frame.TypeIPv4) {
			return false
		}
		hdr += int(b[i.L4+tcpOff]>>4) * 4
		if hdr < int(i.L4)+tcpMin || o.GSOSize < minSegment {
			return false
		}
	case frame.GSOUDPL4:
		if i.Proto != frame.ProtoUDP {
			return false
		}
		hdr += udpLen
		if len(b)-hdr > maxDatagrams*int(o.GSOSize) {
			return false
		}
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

// coverable reports whether the checksum that a frame claims to need is one: of
// its own transport header, or of one that is deeper inside, as in a guest's own
// tunnel. Completing it then changes nothing that the switch has looked at: no
// address, port or type.
func coverable(f *frame.Frame) bool {
	o, i := &f.Offload, &f.Info
	start, off := int(o.CsumStart), int(o.CsumOffset)
	switch {
	case i.Fragment || start+off+2 > f.Len():
		return false
	case i.EtherType == frame.TypeARP, i.L3 == 0 && (i.Tagged || i.EtherType == frame.TypeIPv4 || i.EtherType == frame.TypeIPv6):
		return false
	case i.L3 == 0:
		return start >= frame.EthernetLen+ip4Hdr // something unknown in front of IP, MPLS for one
	case i.L4 == 0 && i.EtherType == frame.TypeIPv4:
		return start >= int(i.L3)+int(f.Bytes()[i.L3]&15)*4
	case i.L4 == 0:
		return start >= int(i.L3)+ip6Hdr && f.Bytes()[int(i.L3)+ip6Next] == i.Proto // no extension headers
	case i.Proto == frame.ProtoTCP:
		return start == int(i.L4) && off == tcpCsum
	case i.Proto == frame.ProtoUDP && start == int(i.L4):
		return off == udpCsum
	}
	return start >= int(i.L4)+udpLen // and that of ICMP is never partial
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
	ip4Len, ip4ID, ip4Frag, ip4Proto, ip4Csum, ip4Src, ip4Hdr = 2, 4, 6, 9, 10, 12, 20
	ip6Len, ip6Next, ip6Src, ip6Hdr                           = 4, 6, 8, 40

	tcpSeq, tcpAck, tcpOff, tcpFlags, tcpWindow, tcpCsum, tcpMin = 4, 8, 12, 13, 14, 16, 20
	udpSize, udpCsum, udpLen                                     = 4, 6, 8

	ip4DF = 0x40 // in the byte at ip4Frag
)

// Flags of TCP (RFC 9293, section 3.1; RFC 3168).
const (
	flagFIN = 0x01
	flagPSH = 0x08
	flagACK = 0x10
	flagCWR = 0x80
)
