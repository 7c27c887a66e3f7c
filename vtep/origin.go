package vtep

import (
	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/frame"
)

// origin is where a request came from and its answer goes: a port or a peer. The
// number of one that is gone may be another's when the answer is there.
type origin struct {
	port *Port
	peer *peer
	all  bool // everybody in the segment; there is neither port nor peer then
}

// everybody is where floods of the segment's service go.
var everybody = origin{all: true}

// originOf is where in is now.
func originOf(s *Segment, vw *view, in fdb.Dst) origin {
	if in.IsRemote() {
		return origin{peer: s.peers.ByID(in.Index())}
	}
	return origin{port: vw.port(in)}
}

func (o origin) String() string {
	switch {
	case o.port != nil:
		return o.port.cfg.Name
	case o.peer != nil:
		return o.peer.Addr.String()
	}
	return "none"
}

// in is an event that happened there.
func (o origin) in(e Event) Event {
	switch {
	case o.port != nil:
		e.Port = o.port.cfg.Name
	case o.peer != nil:
		e.Peer = o.peer.Addr
	}
	return e
}

// direct decides that a frame goes there, or is dropped as it is gone.
func (o origin) direct(s *Segment, vw *view, f *frame.Frame) {
	switch {
	case o.all:
		f.Verdict.Action = frame.Flood
	case o.peer != nil && s.peers.ByID(o.peer.ID) == o.peer:
		vw.direct(f, fdb.Remote(o.peer.ID))
	case o.peer != nil:
		f.Drop(frame.NoWayOut)
	case o.port != nil && vw.port(fdb.Local(o.port.id)) == o.port:
		vw.direct(f, fdb.Local(o.port.id))
	default:
		f.Drop(frame.PortDown)
	}
}

// waiting is how many requests from there the DHCP service has not taken yet.
func (o origin) waiting() int {
	switch {
	case o.port != nil:
		return int(o.port.waiting.Load())
	case o.peer != nil:
		return int(o.peer.Value.waiting.Load())
	}
	return 0
}

// wait adds to waiting.
func (o origin) wait(n int32) {
	switch {
	case o.port != nil:
		o.port.waiting.Add(n)
	case o.peer != nil:
		o.peer.Value.waiting.Add(n)
	}
}
