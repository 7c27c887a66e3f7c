package vtep

import (
	"net/netip"

	"github.com/uvtep/uvtep/fdb"
)

const heardLen = 256 // of what was heard waits for the services

// heard is what a worker heard that a segment's service wants to know: that a
// station has an address, or asks for something.
type heard struct {
	seg   *Segment
	by    interface{ hear(heard) }
	from  origin
	ip    netip.Addr // the station's
	mac   fdb.MAC
	asked bool // somebody waits for it
}

// tellService hands over what was heard, or nothing if there is no room. A
// segment has a fair share of it, and a smaller one for what nobody waits for.
func (w *worker) tellService(s *Segment, h heard) {
	has, free := int(s.heard.Load()), heardLen-len(w.v.heard)
	if !h.asked {
		has *= 2
	}
	if !fair(has, free) {
		return
	}
	h.seg = s
	s.heard.Add(1)
	select {
	case w.v.heard <- h:
	default:
		s.heard.Add(-1)
	}
}

// take lets the service know.
func (h heard) take() {
	h.seg.heard.Add(-1)
	h.by.hear(h)
}
