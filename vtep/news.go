package vtep

import (
	"net/netip"

	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/fdb"
)

const (
	newsLen      = 64   // of each kind that is told in a second; more is not
	maxStrangers = 1024 // that are told of in all
)

// news is what workers notice and have no time to log: they leave it here, or
// nowhere if there is no room, and the maintainer tells it once a second.
type news struct {
	strangers chan stranger
	moves     chan move
	links     chan linkNews
	known     map[stranger]bool // strangers that were told of; the maintainer's
}

// stranger is a VTEP that sends into a segment whose peer it is not.
type stranger struct {
	vni  encap.VNI
	addr netip.Addr
}

// move is a MAC that was learned elsewhere than before.
type move struct {
	seg *Segment
	mac fdb.MAC
	to  fdb.Dst
}

func newNews() news {
	return news{strangers: make(chan stranger, newsLen), moves: make(chan move, newsLen), links: make(chan linkNews, newsLen), known: map[stranger]bool{}}
}

// tellStranger notes a stranger; where everyone is accepted there is none, just
// too many.
func (w *worker) tellStranger(s *Segment, a netip.Addr) {
	who := stranger{s.vni, a}
	if who == w.stranger || w.v.cfg.Accept == AcceptAny {
		return
	}
	w.stranger = who
	select {
	case w.v.news.strangers <- who:
	default:
	}
}

func (w *worker) tellMove(s *Segment, m fdb.MAC, to fdb.Dst) {
	select {
	case w.v.news.moves <- move{s, m, to}:
	default:
	}
}

// tellNews logs what workers noticed.
func (v *VTEP) tellNews() {
	for {
		select {
		case who := <-v.news.strangers:
			v.logStranger(who)
		case n := <-v.news.links:
			v.tellLink(n)
		case m := <-v.news.moves:
			if v.verbose() {
				v.cfg.Logger.Debug("a MAC has moved", "vni", m.seg.vni, "mac", m.mac, "to", originOf(m.seg, m.seg.view.Load(), m.to).String())
			}
		default:
			return
		}
	}
}

// logStranger tells of each stranger once.
func (v *VTEP) logStranger(who stranger) {
	known := v.news.known
	if known[who] || len(known) > maxStrangers {
		return
	}
	known[who] = true
	if len(known) > maxStrangers {
		v.cfg.Logger.Warn("packets from many more VTEPs that are no peers are dropped; they are counted, and no longer named")
		return
	}
	v.cfg.Logger.Warn("packets from a VTEP that is no peer are dropped; add it to the segment's peers if it is to be heard", "vni", who.vni, "vtep", who.addr)
}
