// Package offload makes segments of super-frames and super-frames of segments,
// and speaks the virtio-net header that a TAP device tells of them with. It is
// pure: bytes in, bytes out.
//
// A super-frame is one Ethernet frame that holds the payload of many TCP
// segments, or of many UDP datagrams of equal size, of one flow (TSO and USO in
// a sender, GRO in a receiver). Its headers are those of the first segment but
// for the lengths, and its transport checksum is partial.
package offload
