// Package frame holds the one structure that flows through the switch: a batch
// of Ethernet frames with headroom in front, what was parsed out of them, and
// what is to become of them. It knows nothing of ports, sockets or VNIs.
package frame

import "net/netip"

const (
	// Headroom is the number of bytes kept free in front of every frame, so
	// that outer headers are written in place: VXLAN (8), UDP (8), IPv6 (40),
	// Ethernet with a tag (18), rounded up to a cache line.
	Headroom = 128

	// MaxLen is the longest frame a buffer takes: a 64 KiB IP packet behind an
	// Ethernet header with two 802.1Q tags. Super-frames reach this size.
	MaxLen = 65535 + 14 + 8

	// BatchLen is how many frames a worker moves at once.
	BatchLen = 64
)

// Frame is one Ethernet frame, without its FCS, and all that the switch knows
// of it. A worker owns a frame from the moment it was read until the round
// ends; whoever wants to keep the bytes longer copies them.
//
// The fields below the bytes are plain on purpose: each step of the pipeline
// reads what an earlier one wrote. Reset clears every one of them.
type Frame struct {
	buf      []byte // storage: headroom, frame, tailroom
	off, end uint32 // the frame is buf[off:end]

	// Parts are further payload of a super-frame that was merged where it lay:
	// they follow Bytes, in order, and nothing of them is ever looked at but by
	// who writes the frame. A frame that has Parts has Offload.GSO set.
	Parts [][]byte
	rest  uint32 // bytes in Parts

	// Ingress is the segment-local number of the port that the frame came in
	// by; the tunnel and the segment itself have numbers of their own.
	Ingress uint32

	// Offload is the meaning of the virtio-net header that came with the frame.
	Offload Offload

	// What Parse found.
	Info Info

	// Unlearned is set on a frame whose source may not have the MAC that it names.
	Unlearned bool

	// Crossed is how many pairs of ports, from one segment to another, the frame
	// has come through.
	Crossed uint8

	// Outer is what the tunnel knows of the packet that carried the frame. It
	// is zero for a frame from a local port, but for the tag that the port gives.
	Outer Outer

	// Verdict is what is to become of the frame.
	Verdict Verdict
}

// Outer is what remains of an outer header after decapsulation.
type Outer struct {
	Src     netip.Addr // the sending VTEP's address; its port is never kept
	TOS     uint8      // DSCP and ECN of the outer IP header
	Segment uint16     // a receive that the kernel merged: datagrams of so many bytes, the last may be shorter; 0 = one datagram
	Policy  uint32     // group policy tag of whoever sent the frame, as encap.Policy has it; 0 is none
}

// Offload is a virtio-net header (virtio 1.2, section 5.1.6) in host byte
// order. The zero value is a plain frame whose checksums are complete.
type Offload struct {
	Flags      uint8  // NeedsCsum, DataValid
	GSO        uint8  // GSONone, GSOTCPv4, GSOUDP, GSOTCPv6, GSOUDPL4
	HdrLen     uint16 // Ethernet to the end of the transport header, bytes
	GSOSize    uint16 // payload bytes a segment
	CsumStart  uint16 // where the checksum's coverage starts, from the frame's first byte
	CsumOffset uint16 // where the checksum is stored, from CsumStart
}

// Values of Offload.Flags and Offload.GSO, as in linux/virtio_net.h.
const (
	NeedsCsum uint8 = 1 // the checksum at CsumStart+CsumOffset is partial: pseudo-header only
	DataValid uint8 = 2 // the checksum was verified

	GSONone  uint8 = 0
	GSOTCPv4 uint8 = 1
	GSOUDP   uint8 = 3
	GSOTCPv6 uint8 = 4
	GSOUDPL4 uint8 = 5
	GSOECN   uint8 = 0x80 // ored to a TCP type: the segments carry CWR
)

// Action says which kind of verdict a frame has.
type Action uint8

const (
	Undecided Action = iota
	ToPort           // to the local port Verdict.Dst
	ToPeer           // to the remote VTEP Verdict.Dst
	Flood            // to every local port and, unless it came from the tunnel, to every peer
	Consumed         // a responder took it
	Dropped          // Verdict.Reason says why
)

// Verdict is what is to become of a frame. Dst is a segment-local number, of a
// port or of a peer.
type Verdict struct {
	Dst    uint32
	Action Action
	Reason Reason
}

// Drop gives the frame its final verdict.
func (f *Frame) Drop(r Reason) { f.Verdict = Verdict{Action: Dropped, Reason: r} }

// Attach makes buf the frame's storage. Whoever reads a frame in does this
// once; Load and SetLen then move within it.
func (f *Frame) Attach(buf []byte) { f.buf, f.off, f.end = buf, Headroom, Headroom }

// Reset makes the frame empty again, its bytes starting behind the headroom,
// and clears all that was known of it.
func (f *Frame) Reset() {
	f.off, f.end = Headroom, Headroom
	f.clear()
}

func (f *Frame) clear() {
	f.forget()
	f.Outer = Outer{}
}

// forget clears all that is known of the frame itself.
func (f *Frame) forget() {
	if f.Parts != nil { // seldom, and pointers are dearer to write
		f.Parts, f.rest = nil, 0
	}
	f.Ingress, f.Unlearned, f.Crossed = 0, false, 0
	f.Offload = Offload{}
	f.Info = Info{}
	f.Verdict = Verdict{}
}

// Slice makes the frame the bytes from:to of another one, whose storage it
// shares, as a receive that yields many packets in one buffer needs it. What is
// in front of it there is its headroom, and it has the same Outer.
func (f *Frame) Slice(of *Frame, from, to int) {
	f.buf, f.off, f.end = of.buf, of.off+uint32(from), of.off+uint32(to)
	f.forget()
	f.Outer = of.Outer
}

// Bytes is the frame, from its destination MAC to its last payload byte, but for
// Parts.
func (f *Frame) Bytes() []byte { return f.buf[f.off:f.end:f.end] }

// Len is the number of bytes in Bytes.
func (f *Frame) Len() int { return int(f.end - f.off) }

// Size is the number of bytes in the frame, Parts included.
func (f *Frame) Size() int { return int(f.end - f.off + f.rest) }

// SetParts makes parts, n bytes in all, the frame's Parts.
func (f *Frame) SetParts(parts [][]byte, n int) { f.Parts, f.rest = parts, uint32(n) }

// AppendTo appends the whole frame, Parts included, to b.
func (f *Frame) AppendTo(b []byte) []byte {
	b = append(b, f.Bytes()...)
	for _, p := range f.Parts {
		b = append(b, p...)
	}
	return b
}

// Buffer is all the room that a frame can be read into: MaxLen bytes in a
// frame of NewBatch. SetLen then says how much was read.
func (f *Frame) Buffer() []byte { return f.buf[f.off:] }

// BufferAfter is Buffer with the n bytes of headroom in front of it, for a read
// that yields a header of n bytes and then the frame.
func (f *Frame) BufferAfter(n int) []byte { return f.buf[f.off-uint32(n):] }

// SetLen sets the length of the frame in bytes; n is within Buffer.
func (f *Frame) SetLen(n int) { f.end = f.off + uint32(n) }

// Room is the n bytes of headroom directly in front of the frame, for outer
// headers; they do not become part of Bytes. n is at most Headroom.
func (f *Frame) Room(n int) []byte { return f.buf[f.off-uint32(n) : f.off : f.off] }

// WithRoom is the n bytes of headroom and the frame as one slice: what goes
// out on a wire after the outer header was written to Room(n).
func (f *Frame) WithRoom(n int) []byte { return f.buf[f.off-uint32(n) : f.end : f.end] }

// Load copies b into the frame, which is reset first. It reports whether b
// fitted.
func (f *Frame) Load(b []byte) bool {
	f.Reset()
	if len(b) > len(f.buf)-Headroom {
		return false
	}
	copy(f.buf[Headroom:], b)
	f.end = Headroom + uint32(len(b))
	return true
}

// Batch is a fixed set of frames that a worker allocates once and reuses for
// ever. Frames[:N] are in use.
type Batch struct {
	Frames []Frame
	N      int
}

// NewBatch makes a batch of n frames with a buffer of room for size bytes each,
// all in one slab.
func NewBatch(n, size int) *Batch {
	b := &Batch{Frames: make([]Frame, n)}
	stride := (Headroom + size + 63) &^ 63
	slab := make([]byte, n*stride)
	for i := range b.Frames {
		b.Frames[i].Attach(slab[i*stride : i*stride+Headroom+size : (i+1)*stride])
	}
	return b
}

// Next resets the next unused frame and returns it; nil when the batch is full.
// The frame counts as used once Commit was called.
func (b *Batch) Next() *Frame {
	if b.N == len(b.Frames) {
		return nil
	}
	f := &b.Frames[b.N]
	f.Reset()
	return f
}

// Commit keeps the frame that Next returned, with n bytes in it.
func (b *Batch) Commit(n int) {
	b.Frames[b.N].SetLen(n)
	b.N++
}

// Clear makes all frames unused.
func (b *Batch) Clear() { b.N = 0 }
