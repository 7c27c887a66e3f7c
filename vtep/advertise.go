package vtep

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/frame"
)

// Constants of RFC 4861 section 10.
const (
	initialAdverts        = 3
	initialAdvertInterval = 16 * time.Second
	advertDelay           = 500 * time.Millisecond // before the answer to a solicitation, at most
	advertGap             = 3 * time.Second        // between two advertisements to everybody, at least
)

const maxSolicitors = 32 // that are answered one by one at the same time; where there are more, everybody is

// advertiser sends a segment's router advertisements (RFC 4861 section 6.2). It
// has one timer and works beside the workers.
type advertiser struct {
	s    *Segment
	mac  fdb.MAC
	link netip.Addr

	mu      sync.Mutex
	cfg     RAConfig // its defaults filled in
	mtu     int      // the segment's
	on      bool
	timer   *time.Timer
	initial int       // of the first advertisements, which follow each other sooner, those still to come
	last    time.Time // when everybody was told
	next    time.Time // when everybody is told again
	asked   []solicitor
}

// solicitor is a guest that asked for an advertisement and is answered on its own.
type solicitor struct {
	at   origin
	ip   netip.Addr
	mac  fdb.MAC
	when time.Time // it is answered
}

// set puts a configuration in force. A new one is told soon, several times.
func (a *advertiser) set(cfg RAConfig, mtu int) {
	cfg = cfg.withDefaults()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.on && a.mtu == mtu && reflect.DeepEqual(a.cfg, cfg) {
		return
	}
	a.cfg, a.mtu = cfg, mtu
	if a.s.v.serving.Load() {
		a.begin()
	}
}

// start begins, unless it did, or is about to be told what to say.
func (a *advertiser) start() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.on && a.cfg.Interval != 0 {
		a.begin()
	}
}

// begin is called under mu.
func (a *advertiser) begin() {
	now := a.s.v.cfg.Clock()
	a.on, a.initial, a.next = true, initialAdverts, now
	if soonest := a.last.Add(advertGap); a.next.Before(soonest) {
		a.next = soonest
	}
	a.arm(now)
}

// stop ends it with a last advertisement, which says that there is no router
// here any more (RFC 4861 section 6.2.5). What it returns is closed once that
// was sent; nil if there was nobody to tell.
func (a *advertiser) stop() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.on {
		return nil
	}
	a.on, a.asked = false, nil
	a.timer.Stop()
	if !a.s.anybody() {
		return nil
	}
	sent := make(chan struct{})
	a.send(everybody, allNodes, allNodesMAC, true, sent)
	return sent
}

// arm sets the timer to what comes next. It is called under mu.
func (a *advertiser) arm(now time.Time) {
	when := a.next
	for _, q := range a.asked {
		if q.when.Before(when) {
			when = q.when
		}
	}
	if a.timer == nil {
		a.timer = a.s.v.after(when.Sub(now), a.tick)
		return
	}
	a.timer.Reset(when.Sub(now))
}

// tick does what is due.
func (a *advertiser) tick() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.on {
		return
	}
	now := a.s.v.cfg.Clock()
	if !now.Before(a.next) {
		if a.s.anybody() {
			a.send(everybody, allNodes, allNodesMAC, false, nil)
		}
		a.last, a.next = now, now.Add(a.interval())
		a.asked = nil // who asked was among everybody
	}
	a.asked = slices.DeleteFunc(a.asked, func(q solicitor) bool {
		due := !now.Before(q.when)
		if due {
			a.send(q.at, q.ip, q.mac, false, nil)
		}
		return due
	})
	a.arm(now)
}

// interval is the time to the next advertisement: a random one, so that routers
// do not fall into step (RFC 4861 section 6.2.4).
func (a *advertiser) interval() time.Duration {
	longest := a.cfg.Interval
	shortest := longest * 3 / 4
	if longest >= 9*time.Second {
		shortest = longest / 3
	}
	d := shortest + rand.N(longest-shortest+1)
	if a.initial > 0 {
		if a.initial--; a.initial > 0 {
			d = min(d, initialAdvertInterval)
		}
	}
	return d
}

// hear takes a router solicitation (RFC 4861 section 6.2.6): who says from which
// address it asks is answered there, and nobody else is bothered.
func (a *advertiser) hear(h heard) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.on {
		return
	}
	now := a.s.v.cfg.Clock()
	when := now.Add(rand.N(advertDelay))
	switch {
	case slices.ContainsFunc(a.asked, func(q solicitor) bool { return q.ip == h.ip }):
		return
	case h.ip.IsUnspecified() || len(a.asked) == maxSolicitors:
		if soonest := a.last.Add(advertGap); when.Before(soonest) {
			when = soonest
		}
		if when.Before(a.next) {
			a.next = when
		}
	default:
		a.asked = append(a.asked, solicitor{h.from, h.ip, h.mac, when})
	}
	a.arm(now)
}

// send is called under mu.
func (a *advertiser) send(to origin, ip netip.Addr, mac fdb.MAC, last bool, sent chan<- struct{}) {
	msg := a.cfg.message(a.mtu, a.mac, last)
	b, m := composeIP(mac, a.mac, a.link, ip, frame.ProtoICMPv6, ndHops, len(msg))
	copy(m, msg)
	binary.BigEndian.PutUint16(m[2:], checksum(a.link, ip, frame.ProtoICMPv6, m))
	a.s.inject(injected{to: to, bytes: b, sent: sent})
}

// anybody reports whether there is a port or a remote VTEP that floods go to.
func (s *Segment) anybody() bool {
	vw := s.view.Load()
	return vw.group != nil || len(s.peers.Replication()) > 0 || slices.ContainsFunc(vw.ports, func(p *Port) bool { return p != nil })
}

// advertise puts the router advertisements that the segment is to have in force.
func (s *Segment) advertise() {
	if sv := s.view.Load().service; sv != nil && sv.ra != nil {
		sv.ra.set(*s.cfg.RA, s.cfg.MTU)
	}
}

// sayGoodbye ends the segment's advertisements, if there are any, and gives the
// last one the time to leave.
func (s *Segment) sayGoodbye() {
	const patience = 200 * time.Millisecond // workers that are late are not waited for
	sv := s.view.Load().service
	if sv == nil || sv.ra == nil {
		return
	}
	if sent := sv.ra.stop(); sent != nil {
		select {
		case <-sent:
		case <-time.After(patience):
		}
	}
}

// answerSolicitation has a router solicitation answered (RFC 4861 section
// 6.1.1). Other routers get it, too.
func (w *worker) answerSolicitation(s *Segment, vw *view, f *frame.Frame, m frame.ICMPv6) {
	const optionsAt = 8
	sv := vw.service
	b := f.Bytes()
	ip := b[f.Info.L3:]
	src, dst := netip.AddrFrom16([16]byte(ip[8:])), netip.AddrFrom16([16]byte(ip[24:]))
	if sv.ra == nil || f.Info.TTL != ndHops || dst != allRouters && dst != sv.link || src.IsMulticast() || !f.ChecksumHolds() {
		return
	}
	if mac, ok := m.Option(optionsAt, frame.OptionSourceMAC); !ok || src.IsUnspecified() && mac != nil {
		return
	}
	w.tellService(s, heard{by: sv.ra, from: originOf(s, vw, fdb.Dst(f.Ingress)), ip: src, mac: fdb.MACOf(b[6:])})
	if fdb.MACOf(b) == sv.mac {
		f.Verdict.Action = frame.Consumed
	}
}
