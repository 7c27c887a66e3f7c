package dhcpcheck

import (
	"bytes"
	"slices"

	"github.com/uvtep/uvtep/internal/verdict"
)

// extensionChecks are what later RFCs added, and relays.
func extensionChecks() []check {
	port := class{by: byCircuit, match: "port7", options: []option{optText(224, "seventh")}}
	return []check{
		{line: 43, title: "A relay's subnet inherits no option from the segment's own", in: intent{relay: true, options: []option{ntp}}, run: func(w *world) {
			a := w.station(1)
			a.relay = []byte{1, 2, 'p', '1'}
			a.params = []byte{1, 3, 6, 15, 42}
			o := expect("DISCOVER", offer, a.discover())
			if !bytes.Equal(o.get(3), relayIP.AsSlice()) {
				verdict.Fail("router %x", o.get(3))
			}
			for _, code := range []byte{6, 15, 42} {
				if o.has(code) {
					verdict.Fail("option %d of the other subnet", code)
				}
			}
		}},
		{line: 44, title: "A renewal through a relay: option 82 comes back", in: intent{relay: true, classes: []class{port}}, run: func(w *world) {
			a := w.station(1)
			a.relay, a.params = []byte("\x01\x05port7"), []byte{1, 3, 224}
			a.bind()
			m := a.prolonging(a.ip)
			p := expect("RENEWING", ack, a.askBy(a.relayed(), m))
			wholeAndLast(p, a.relay)
			if string(p.get(224)) != "seventh" {
				verdict.Fail("without the options of its circuit")
			}
		}},
		{line: 44, title: "… a renewal past the relay: the options of its circuit still hold", in: intent{relay: true, classes: []class{port}}, run: func(w *world) {
			a := w.station(1)
			a.relay, a.params = []byte("\x01\x05port7"), []byte{1, 3, 224}
			if _, k := a.bind(); string(k.get(224)) != "seventh" {
				verdict.Fail("not even the first time")
			}
			a.relay = nil
			h := a.direct(a.ip)
			h.srcMAC = router // which the client is behind
			p := expect("RENEWING", ack, a.askBy(h, a.prolonging(a.ip)))
			if string(p.get(224)) != "seventh" {
				verdict.Fail("they are gone")
			}
		}},
		{line: 45, title: "Client FQDN (81): RCODEs 255, and a partial name is completed", run: func(w *world) {
			a, b := w.station(1), w.station(2)
			p := expect("DISCOVER", offer, a.discover(option{81, []byte("\x04\x00\x00\x03web")})).get(81)
			switch {
			case len(p) < 3:
				verdict.Fail("not answered")
			case p[1] != 255 || p[2] != 255:
				verdict.Fail("RCODEs %d and %d", p[1], p[2])
			case string(p[3:]) != "\x03web\x04blue\x07example\x00":
				verdict.Fail("the name is %q", p[3:])
			}
			p = expect("DISCOVER", offer, b.discover(option{81, []byte("\x00\x00\x00web")})).get(81)
			if len(p) < 3 || string(p[3:]) != "web."+domain {
				verdict.Fail("in ASCII: %q", p)
			}
		}},
		{line: 46, title: "Rapid commit (80): an ACK for a DISCOVER", in: intent{rapidCommit: true}, run: func(w *world) {
			a := w.station(1)
			p := expect("DISCOVER", ack, a.discover(opt(80)))
			if p.get(80) == nil {
				verdict.Fail("without option 80")
			}
			a.note(p)
			expect("RENEWING", ack, a.renew(a.ip))
			expect("DISCOVER without option 80", offer, w.station(2).discover())
		}},
		{line: 47, title: "Subnet selection (118) where it is allowed", in: intent{relay: true, subnetSelection: true}, run: func(w *world) {
			p := expect("DISCOVER", offer, w.station(1).discover(optAddr(118, branch.Addr())))
			if !branch.Contains(p.yiaddr) {
				verdict.Fail("%v", p)
			}
		}},
		{line: 47, title: "… and not where nobody allowed it", in: intent{relay: true}, run: func(w *world) {
			p := w.station(1).discover(optAddr(118, branch.Addr()))
			if p != nil && branch.Contains(p.yiaddr) {
				verdict.Fail("%v", p)
			}
		}},
		{line: 48, title: "Auto-configuration (116): who sends it is told, others are not", in: intent{options: []option{opt(116, 0)}}, run: func(w *world) {
			a, b := w.station(1), w.station(2)
			if p := expect("DISCOVER", offer, a.discover(opt(116, 1))); !bytes.Equal(p.get(116), []byte{0}) {
				verdict.Fail("not told")
			}
			if p := expect("DISCOVER", offer, b.discover()); p.has(116) {
				verdict.Fail("told unasked")
			}
		}},
		{line: 49, title: "The reservation's host name (12)", in: intent{hosts: []host{{mac: mac{2, 0, 0, 0, 1, 1}, ip: at(60), name: "web1"}}}, run: func(w *world) {
			a := w.station(1)
			a.params = []byte{1, 3, 12}
			if _, k := a.bind(); !slices.Contains([]string{"web1", "web1." + domain}, string(k.get(12))) {
				verdict.Fail("%q", k.get(12))
			}
		}},
		{line: 50, title: "MTU (26): the segment's, without being configured", run: func(w *world) {
			a := w.station(1)
			a.params = []byte{1, 3, 26}
			if p := expect("DISCOVER", offer, a.discover()); !p.has(26) {
				verdict.Fail("not sent")
			} else if !bytes.Equal(p.get(26), []byte{1450 >> 8, 1450 & 255}) {
				verdict.Fail("%x", p.get(26))
			}
		}},
		{line: 51, title: "BOOTP clients, from reservations", in: intent{bootp: true, hosts: []host{{mac: mac{2, 0, 0, 0, 1, 1}, ip: at(60)}}}, run: func(w *world) {
			a := w.station(1)
			m := a.message(0)
			m.options = nil
			p := a.ask(m)
			switch {
			case p == nil:
				verdict.Fail("silence")
			case p.yiaddr != at(60) || p.has(53) || p.has(51):
				verdict.Fail("%v, options %v", p, p.codes())
			}
		}},
	}
}
