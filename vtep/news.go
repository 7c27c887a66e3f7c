package vtep

import (
	"net/netip"

	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/fdb"
)

const (
	newsLen      = 64   // of each kind that is told in a second; more is not
	maxStrangers = 1024 // that are told of in all
	maxClaims    = 1024 // that are remembered as told of
	maxLines     = 10   // about MACs in a second, whatever happens
)

// news is what workers notice and have no time to log: they leave it here, or
// nowhere if there is no room, and the maintainer tells it once a second.
type news struct {
	strangers chan stranger
	moves     chan move
	claims    chan claim
	links     chan linkNews
	known     map[stranger]bool // strangers that were told of; the maintainer's
	claimed   map[claim]bool    // claims that were told of; likewise
	lines     lines
}

// lines bounds what is logged in a second. It is the maintainer's.
type lines struct{ left, untold int }

// begin begins a second, and returns what the one before has left untold: the
// last line of each is for that.
func (l *lines) begin() (untold int) {
	untold = l.untold
	*l = lines{left: maxLines - 1}
	return untold
}

// one reports whether another line may be logged.
func (l *lines) one() bool {
	if l.left == 0 {
		l.untold++
		return false
	}
	l.left--
	return true
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

// claim is an address that a station says to have and that is another's.
type claim struct {
	seg *Segment
	ip  netip.Addr
	mac fdb.MAC
	in  fdb.Dst
}

func newNews() (n news) {
	n = news{strangers: make(chan stranger, newsLen), moves: make(chan move, newsLen), links: make(chan linkNews, newsLen), known: map[stranger]bool{}, claims: make(chan claim, newsLen), claimed: map[claim]bool{}}
	n.lines.begin()
	return n
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

// tellFrozen tells which MACs came to be held, and which are no longer.
func (s *Segment) tellFrozen(frozen, released []fdb.MAC) {
	for _, m := range frozen {
		at := s.tellMAC(EventMACFrozen, m)
		if s.v.news.lines.one() {
			s.v.cfg.Logger.Warn("a MAC moves too often: a loop, or two stations with one address; it is held where it was, and frames from it that come elsewhere are dropped",
				"vni", s.vni, "mac", m, "at", at)
		}
	}
	for _, m := range released {
		at := s.tellMAC(EventMACReleased, m)
		if s.v.news.lines.one() {
			s.v.cfg.Logger.Info("a MAC is held no longer", "vni", s.vni, "mac", m, "at", at)
		}
	}
}

// tellMAC tells of a MAC, and returns where it is.
func (s *Segment) tellMAC(kind EventKind, m fdb.MAC) string {
	at := originOf(s, s.view.Load(), s.table.Lookup(m))
	s.tell(at.in(Event{Kind: kind, MAC: m}))
	return at.String()
}

func (w *worker) tellClaim(c claim) {
	select {
	case w.v.news.claims <- c:
	default:
	}
}

// tellClaim tells of each claim once, and of so many in all; then from the start
// again.
func (v *VTEP) tellClaim(c claim) {
	told := v.news.claimed
	if told[c] {
		return
	}
	if len(told) >= maxClaims {
		clear(told)
	}
	told[c] = true
	from := originOf(c.seg, c.seg.view.Load(), c.in)
	c.seg.tell(from.in(Event{Kind: EventClaimed, IP: c.ip, MAC: c.mac}))
	if v.news.lines.one() {
		v.cfg.Logger.Warn("a station claims an address that is another's", "vni", c.seg.vni, "ip", c.ip, "mac", c.mac, "from", from.String())
	}
}

// tellNews logs what workers noticed, and ends the second for lines.
func (v *VTEP) tellNews() {
	for {
		select {
		case who := <-v.news.strangers:
			v.logStranger(who)
		case c := <-v.news.claims:
			v.tellClaim(c)
		case n := <-v.news.links:
			v.tellLink(n)
		case m := <-v.news.moves:
			if v.verbose() && v.news.lines.one() {
				v.cfg.Logger.Debug("a MAC has moved", "vni", m.seg.vni, "mac", m.mac, "to", originOf(m.seg, m.seg.view.Load(), m.to).String())
			}
		default:
			if n := v.news.lines.begin(); n > 0 {
				v.cfg.Logger.Warn("more MACs moved, were held or were released than are named", "more", n)
			}
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
