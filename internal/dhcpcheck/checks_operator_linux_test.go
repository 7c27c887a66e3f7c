package dhcpcheck

import (
	"strings"
	"time"

	"github.com/uvtep/uvtep/internal/verdict"
)

// operatorChecks are what operators complain of.
func operatorChecks() []check {
	first := mac{2, 0, 0, 0, 1, 1} // of station 1
	return []check{
		{line: 55, title: "After a restart a renewal is answered, and an offer from before can still be taken", alone: true, run: func(w *world) {
			a, b := w.station(1), w.station(2)
			a.bind()
			o := expect("DISCOVER", offer, b.discover())
			w.restart(false)
			w.again()
			expect("RENEWING", ack, a.renew(a.ip))
			expect("REQUEST", ack, b.take(o))
		}},
		{line: 56, title: "Killed (`kill -9`) right after an ACK: the lease is there", alone: true, in: pool(2), run: func(w *world) {
			a, b := w.station(1), w.station(2)
			a.bind()
			w.restart(true)
			w.again()
			expect("INIT-REBOOT", ack, a.reboot(a.ip))
			if b.bind(); b.ip == a.ip {
				verdict.Fail("its address is given to the next client")
			}
		}},
		{line: 57, title: "A reservation is added while the server runs, and taken back", in: pool(1), run: func(w *world) {
			a, b := w.station(1), w.station(2)
			h := host{mac: first, ip: at(10)}
			w.reserve(h)
			if b.discover() != nil {
				verdict.Fail("another client gets the address")
			}
			a.reserved(h.ip)
			a.silent("RELEASE", a.direct(a.ip), a.release(a.ip, serverIP))
			if b.discover() != nil {
				verdict.Fail("another client gets the address once it is free")
			}
			takes := w.unreserve(h)
			for until := time.Now().Add(2 * time.Second); b.discover() == nil; {
				if time.Now().After(until) {
					verdict.Fail("it is still kept when the reservation is gone")
				}
			}
			verdict.Done(takes)
		}},
		{line: 58, title: "The lease of a machine that is gone is taken back by the operator", in: pool(1), run: func(w *world) {
			a, b := w.station(1), w.station(2)
			a.bind()
			w.free(a.ip)
			expect("DISCOVER", offer, b.discover())
		}},
		{line: 59, title: "One address reserved for two machines: refused, and it is said where", alone: true, in: intent{hosts: []host{
			{mac: first, ip: at(60)}, {mac: mac{2, 0, 0, 0, 1, 2}, ip: at(60)},
		}}, run: func(*world) { verdict.Fail("it starts") }, refusal: func(why string) {
			if !strings.Contains(why, at(60).String()) {
				verdict.Fail("refused, but not for that: %s", why)
			}
		}},
		{line: 60, title: "The link goes down and up: service goes on", run: func(w *world) {
			a := w.station(1)
			a.bind()
			w.flap()
			w.again()
			expect("RENEWING", ack, a.renew(a.ip))
			w.station(2).bind()
		}},
		{line: 61, title: "Who comes from another server with an address that is reserved here keeps it", in: intent{sole: true, hosts: []host{
			{mac: first, ip: at(60)}, {mac: mac{2, 0, 0, 0, 1, 2}, ip: at(61)},
		}}, run: func(w *world) {
			a, b := w.station(1), w.station(2)
			expect("INIT-REBOOT", ack, a.reboot(at(60)))
			w.owners[at(61)] = b.mac
			expect("RENEWING", ack, b.renew(at(61)))
		}},
	}
}
