package offload

import "github.com/uvtep/uvtep/internal/frame"

// Guess finds the segment size of a super-frame that came without a virtio
// header: a kernel's own tunnel hands one over whole where the link between the
// hosts is virtual. f has been parsed and its checksum is partial; mtu is that of
// its segment, bytes; size is the payload of its segments where that is known,
// else 0, and what fits the MTU is then one segment. It reports whether f is a
// super-frame, with f.Offload completed.
func Guess(f *frame.Frame, mtu, size int) bool {
	o, i := &f.Offload, &f.Info
	if i.L4 == 0 || size == 0 && f.Len()-int(i.L3) <= mtu {
		return false
	}
	was := *o
	hdr := int(i.L4) - int(i.L3) + udpLen
	o.GSO = frame.GSOUDPL4
	if i.Proto == frame.ProtoTCP {
		hdr = int(i.L4) - int(i.L3) + int(f.Bytes()[i.L4+tcpOff]>>4)*4
		o.GSO = frame.GSOTCPv4
		if i.EtherType == frame.TypeIPv6 {
			o.GSO = frame.GSOTCPv6
		}
	} else if size == 0 {
		*o = was
		return false // datagrams have no size that could be guessed
	}
	if size == 0 {
		size = mtu - hdr
	}
	o.GSOSize = uint16(max(size, 0))
	if !Check(f) {
		*o = was
		return false
	}
	return o.GSO != frame.GSONone
}
