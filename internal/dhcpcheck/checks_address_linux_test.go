package dhcpcheck

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/uvtep/uvtep/internal/verdict"
)

// addressChecks are about who gets which address.
func addressChecks() []check {
	first := mac{2, 0, 0, 0, 1, 1} // of station 1
	return []check{
		{line: 32, title: "Two tenants with the same subnet and the same MACs in one process: independent", in: intent{first: 10, last: 10, tenants: true}, run: func(w *world) {
			a, b := w.station(1), w.station(1)
			b.wire = w.second
			b.wire.owners[routerIP] = router
			a.bind()
			b.bind()
			if a.ip != at(10) || b.ip != at(10) {
				verdict.Fail("%s and %s", short(a.ip), short(b.ip))
			}
			// What the one gives back the other still has.
			a.silent("RELEASE", a.direct(a.ip), a.release(a.ip, serverIP))
			expect("DISCOVER after the RELEASE", offer, w.station(2).discover())
			other := w.station(3)
			other.wire = w.second
			m := other.message(discover)
			if p := other.askBy(other.local(), m); p != nil {
				verdict.Fail("a RELEASE in the one frees the address of the other")
			}
		}},
		{line: 34, title: "No address left: silence, a line in the log, and service once one is free again", in: pool(1), run: func(w *world) {
			a, b := w.station(1), w.station(2)
			a.bind()
			before := w.log()
			b.silent("DISCOVER", b.local(), b.message(discover))
			if !w.wrote(func() bool {
				return slices.ContainsFunc([]string{"no address", "ALLOC_FAIL"}, func(s string) bool { return strings.Contains(w.log()[len(before):], s) })
			}) {
				verdict.Fail("not a word in the log")
			}
			a.silent("RELEASE", a.direct(a.ip), a.release(a.ip, serverIP))
			if b.bind(); b.ip != at(10) {
				verdict.Fail("%s", short(b.ip))
			}
		}},
		{line: 35, title: "A client gets the address that it had, also after others came", in: pool(3), run: func(w *world) {
			a, b := w.station(1), w.station(2)
			a.bind()
			had := a.ip
			a.silent("RELEASE", a.direct(a.ip), a.release(a.ip, serverIP))
			b.bind()
			if b.ip == had {
				verdict.Fail("another client was given it, though two others were never used")
			}
			if a.bind(); a.ip != had {
				verdict.Fail("%s instead of %s", short(a.ip), short(had))
			}
		}},
		{line: 36, title: "What has run out goes to the next client", in: intent{first: 10, last: 10, lease: 10 * time.Second}, run: func(w *world) {
			a, b := w.station(1), w.station(2)
			_, k := a.bind()
			if l := seconds(k, 51); l != 10*time.Second {
				verdict.Cannot("no lease is shorter than %v", l)
			}
			for until := time.Now().Add(20 * time.Second); time.Now().Before(until); time.Sleep(time.Second) {
				if p := b.discover(); p != nil {
					b.take(p)
					if b.ip != at(10) {
						verdict.Fail("%s", short(b.ip))
					}
					return
				}
			}
			verdict.Fail("10 s after its end the lease still keeps its address")
		}},
		{line: 37, title: "A fresh address is probed for, and one that answers is not offered", in: intent{first: 10, last: 11, probe: true}, run: func(w *world) {
			w.owners[at(10)], w.pings = mac{2, 0, 0, 0, 9, 9}, true
			a := w.station(1)
			o := a.patiently(a.message(discover, optAddr(50, at(10))))
			if expect("DISCOVER", offer, o); o.yiaddr != at(11) {
				verdict.Fail("it is offered")
			}
		}},
		{line: 37, title: "… and meanwhile others are answered", in: intent{probe: true}, run: func(w *world) {
			a, b := w.station(1), w.station(2)
			b.bindPatiently()
			m := a.message(discover, optAddr(50, at(99)))
			w.sendMessage(a.local(), m)
			renewal := b.prolonging(b.ip)
			w.sendMessage(b.direct(b.ip), renewal)
			p := w.await(patience, func(p *packet) bool { return p.message != nil && (p.xid == m.xid || p.xid == renewal.xid) })
			if p == nil {
				verdict.Fail("silence")
			}
			if p.xid != renewal.xid {
				verdict.Fail("others wait until the probe is over")
			}
		}},
		{line: 38, title: "A reservation by MAC holds, whatever client identifier comes with it", in: intent{hosts: []host{{mac: first, ip: at(60)}}}, run: func(w *world) {
			// The identifier has another address already, got with another MAC.
			a, b := w.station(1), w.station(2)
			a.id = []byte{0xff, 4, 4, 4}
			b.id = a.id
			b.bind()
			if b.ip == at(60) {
				verdict.Fail("another MAC has got it")
			}
			if a.bind(); a.ip != at(60) {
				verdict.Fail("%s", short(a.ip))
			}
		}},
		{line: 39, title: "A reservation by client identifier holds for any MAC", in: intent{hosts: []host{{id: []byte{0xff, 5, 5, 5}, ip: at(61)}}}, run: func(w *world) {
			a, b := w.station(1), w.station(2)
			a.id = []byte{0xff, 5, 5, 5}
			if a.bind(); a.ip != at(61) {
				verdict.Fail("%s", short(a.ip))
			}
			if b.bind(); b.ip == at(61) {
				verdict.Fail("somebody else got it")
			}
		}},
		{line: 40, title: "A reservation by the name that the client sends", in: intent{hosts: []host{{named: "kiosk", ip: at(62)}}}, run: func(w *world) {
			a := w.station(1)
			a.extra = []option{optText(12, "kiosk")}
			if a.bind(); a.ip != at(62) {
				verdict.Fail("%s", short(a.ip))
			}
		}},
		{line: 41, title: "A reservation for whoever is on a port", in: intent{hosts: []host{{port: true, ip: at(63)}}}, run: func(w *world) {
			a := w.station(1)
			if a.bind(); a.ip != at(63) {
				verdict.Fail("%s", short(a.ip))
			}
		}},
		{line: 42, title: "A reserved address goes to nobody else, though it lies in the range", in: intent{first: 10, last: 11, hosts: []host{{mac: first, ip: at(10)}}}, run: func(w *world) {
			b, c := w.station(2), w.station(3)
			if p := expect("DISCOVER", offer, b.discover(optAddr(50, at(10)))); p.yiaddr == at(10) {
				verdict.Fail("who asks for it gets it")
			}
			b.bind()
			if p := c.discover(); p != nil {
				verdict.Fail("%v to the next client", p)
			}
			w.station(1).reserved(at(10))
		}},
	}
}

// reserved wants the station to get the address.
func (s *station) reserved(want netip.Addr) {
	if s.bind(); s.ip != want {
		verdict.Fail("%s instead of %s", short(s.ip), short(want))
	}
}

// patiently asks as ask does, and gives the server the time that it takes to
// look whether an address is in use.
func (s *station) patiently(m *message) *packet {
	s.w.sendMessage(s.usual(), m)
	return s.w.await(patience, func(p *packet) bool { return p.message != nil && p.xid == m.xid })
}

func (s *station) bindPatiently() {
	o := expect("DISCOVER", offer, s.patiently(s.message(discover)))
	expect("REQUEST", ack, s.take(o))
}
