package vtep

import (
	"fmt"
	"time"

	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/frame"
)

// Storm limits what of a port is flooded, packets a second of each class; 0 is no
// limit. A second's worth may come at once. What the segment's service takes, and
// whatever goes to one known place, is not limited.
type Storm struct {
	Broadcast int
	Multicast int
	Unknown   int // to unicast addresses that are known nowhere
}

// any reports whether there is a limit.
func (c Storm) any() bool { return c != Storm{} }

// check says why a port cannot have the limits: the time between two packets is
// kept in nanoseconds.
func (c Storm) check() error {
	for _, n := range []int{c.Broadcast, c.Multicast, c.Unknown} {
		if n < 0 || n > int(time.Second) {
			return fmt.Errorf("%w: %d is no number of packets a second", ErrInvalid, n)
		}
	}
	return nil
}

// storms are what of a port was flooded, by class.
type storms struct{ broadcast, multicast, unknown rate }

// curb drops what a port would have flooded beyond its limits. A super-frame
// counts as the packets that it is.
func (w *worker) curb(p *Port, limit Storm, frames []frame.Frame) {
	var now time.Duration
	for i := range frames {
		f := &frames[i]
		if f.Verdict.Action != frame.Flood {
			continue
		}
		of, perSecond := &p.storms.unknown, limit.Unknown
		switch mac := fdb.MACOf(f.Bytes()); {
		case mac == fdb.Broadcast:
			of, perSecond = &p.storms.broadcast, limit.Broadcast
		case mac.IsGroup():
			of, perSecond = &p.storms.multicast, limit.Multicast
		}
		if perSecond == 0 {
			continue
		}
		if now == 0 {
			now = w.v.cfg.Clock().Sub(w.v.start)
		}
		if !of.take(now, perSecond, w.packetsOf(f)) {
			f.Drop(frame.StormLimit)
		}
	}
}

// packetsOf is how many packets a frame is.
func (w *worker) packetsOf(f *frame.Frame) int {
	if f.Offload.GSO == frame.GSONone {
		return 1
	}
	w.splitter.Init(f)
	return max(1, w.splitter.N())
}
