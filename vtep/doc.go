// Package vtep is the switch: ports, segments, and a worker per core that
// carries each batch of frames to where it belongs.
//
// A VTEP owns one UDP underlay and any number of segments (VNIs). A segment is
// a broadcast domain of its own: its ports, its forwarding database, its remote
// VTEPs and its responders are shared with no other. The way of a frame is the
// same everywhere, in code, in a trace and in the documentation:
//
//	port:   read → parse → admit → learn → answer → look up → write
//	tunnel: read → decapsulate → parse → admit → learn → answer → look up → write
//
// Each step is a plain function over a batch. A worker runs a batch to its end
// without a lock, an allocation or a hand-over to another goroutine.
package vtep
