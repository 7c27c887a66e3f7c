package dhcpcheck

import (
	"bytes"
	"net/netip"
	"slices"
	"time"

	"github.com/uvtep/uvtep/internal/verdict"
)

// check is one behaviour, by its number in the table.
type check struct {
	line  int
	title string
	in    intent
	alone bool // needs a process of its own
	run   func(w *world)

	refusal func(why string) // judges a server that does not start; nil: that fails
}

// checks are all of them, in the order of the table.
func checks() []check {
	all := slices.Concat(stateChecks(), replyChecks(), addressChecks(), extensionChecks(), bootChecks(), operatorChecks())
	slices.SortStableFunc(all, func(a, b check) int { return a.line - b.line })
	return all
}

// foreign is a server that is not there.
var foreign = at(77)

// pool is an intent with n addresses to give out.
func pool(n byte) intent { return intent{first: 10, last: 9 + n} }

// stateChecks are the states of a client (RFC 2131 section 4.3).
func stateChecks() []check {
	return []check{
		{line: 1, title: "REQUEST for another server's offer: silence, and the own offer is dropped", in: pool(1), run: func(w *world) {
			a, b := w.station(1), w.station(2)
			o := expect("DISCOVER", offer, a.discover())
			a.silent("REQUEST naming another server", a.local(), a.message(request, optAddr(50, o.yiaddr), optAddr(54, foreign)))
			if p := b.discover(); p == nil || p.yiaddr != o.yiaddr {
				verdict.Fail("the address is not free for the next client")
			}
		}},
		{line: 2, title: "REQUEST for the own offer: an ACK equal to the OFFER", run: func(w *world) {
			o, a := w.station(1).bind()
			if a.yiaddr != o.yiaddr || a.siaddr != o.siaddr || !bytes.Equal(a.file, o.file) || !bytes.Equal(a.sname, o.sname) {
				verdict.Fail("the fixed fields differ")
			}
			for _, code := range append(a.codes(), o.codes()...) {
				if code != 53 && !bytes.Equal(a.get(code), o.get(code)) {
					verdict.Fail("option %d differs", code)
				}
			}
		}},
		{line: 3, title: "REQUEST for another address than the one offered: NAK", run: func(w *world) {
			a := w.station(1)
			o := expect("DISCOVER", offer, a.discover())
			other := at(99)
			expect("another free address", nak, a.ask(a.message(request, optAddr(50, other), opt(54, o.get(54)...))))
			expect("an address of another subnet", nak, a.ask(a.message(request, optAddr(50, branchIPs[0]), opt(54, o.get(54)...))))
			expect("the offer itself, afterwards", ack, a.take(o))
		}},
		{line: 4, title: "INIT-REBOOT with the right address: ACK", run: func(w *world) {
			a := w.station(1)
			a.bind()
			if p := expect("INIT-REBOOT", ack, a.reboot(a.ip)); p.yiaddr != a.ip || !p.ciaddr.IsUnspecified() {
				verdict.Fail("%v", p)
			}
		}},
		{line: 5, title: "INIT-REBOOT on another subnet, or with a wrong address: NAK", in: intent{sole: true}, run: func(w *world) {
			a, b := w.station(1), w.station(2)
			a.bind()
			b.bind()
			expect("another subnet", nak, a.reboot(foreignIP))
			expect("another client's address", nak, a.reboot(b.ip))
			expect("another address than its own", nak, a.reboot(at(99)))
			expect("an unknown client on another subnet", nak, w.station(3).reboot(foreignIP))
		}},
		{line: 6, title: "INIT-REBOOT of an unknown client, on the subnet: silence", run: func(w *world) {
			a := w.station(1)
			a.silent("INIT-REBOOT", a.local(), a.message(request, optAddr(50, at(33))))
		}},
		{line: 6, title: "… where the server is authoritative: NAK, or the address", in: intent{authoritative: true}, run: func(w *world) {
			p := w.station(1).reboot(at(33))
			if p == nil || p.typ() != nak && p.yiaddr != at(33) {
				verdict.Fail("%v", p)
			}
		}},
		{line: 7, title: "RENEWING: ACK, by unicast to `ciaddr`", run: func(w *world) {
			a := w.station(1)
			a.bind()
			p := expect("RENEWING", ack, a.renew(a.ip))
			if p.yiaddr != a.ip || p.dst != a.ip || p.dstMAC != a.mac || p.dport != 68 || p.src != serverIP {
				verdict.Fail("%v from %s to %s", p, p.src, short(p.dst))
			}
		}},
		{line: 8, title: "REBINDING: ACK without option 54 in the request; of an unknown client: silence", run: func(w *world) {
			a, b := w.station(1), w.station(2)
			a.bind()
			if p := expect("REBINDING", ack, a.rebind(a.ip)); p.yiaddr != a.ip {
				verdict.Fail("%v", p)
			}
			h := b.local()
			h.src = at(77)
			b.silent("REBINDING of an unknown client", h, b.prolonging(at(77)))
		}},
		{line: 9, title: "NAK: options 54 and 61, no address in any field, no lease options", in: intent{sole: true}, run: func(w *world) {
			a := w.station(1)
			a.id = []byte{0xff, 1, 2, 3, 4}
			p := expect("INIT-REBOOT elsewhere", nak, a.reboot(foreignIP))
			switch {
			case !bytes.Equal(p.get(54), serverIP.AsSlice()):
				verdict.Fail("option 54 is %x", p.get(54))
			case !p.yiaddr.IsUnspecified() || !p.siaddr.IsUnspecified() || !p.ciaddr.IsUnspecified():
				verdict.Fail("yiaddr %s, siaddr %s, ciaddr %s", p.yiaddr, p.siaddr, p.ciaddr)
			case p.has(51) || p.has(58) || p.has(59):
				verdict.Fail("lease options")
			case !bytes.Equal(p.get(61), a.id):
				verdict.Fail("no option 61")
			}
		}},
		{line: 10, title: "NAK without a relay: to 255.255.255.255, always", in: intent{sole: true}, run: func(w *world) {
			a, b := w.station(1), w.station(2)
			a.bind()
			b.bind()
			if p := expect("INIT-REBOOT elsewhere", nak, a.reboot(foreignIP)); p.dst != bcastIP {
				verdict.Fail("INIT-REBOOT: to %s", short(p.dst))
			}
			if p := expect("RENEWING another's address", nak, a.renew(b.ip)); p.dst != bcastIP {
				verdict.Fail("RENEWING: to %s", short(p.dst))
			}
		}},
		{line: 11, title: "NAK through a relay: to the relay, with the B flag", in: intent{relay: true, sole: true}, run: func(w *world) {
			a := w.station(1)
			a.relay = []byte{1, 2, 'p', '1'}
			p := expect("INIT-REBOOT elsewhere", nak, a.reboot(foreignIP))
			if p.dst != relayIP || p.dport != 67 || p.giaddr != relayIP || p.flags&flagB == 0 {
				verdict.Fail("to %s:%d, flags %#04x", p.dst, p.dport, p.flags)
			}
		}},
		{line: 12, title: "B flag: broadcast in IP and Ethernet; none: to `yiaddr` at `chaddr`, without ARP", run: func(w *world) {
			a, b := w.station(1), w.station(2)
			a.flags = flagB
			o, k := a.bind()
			for _, p := range []*packet{o, k} {
				if p.dst != bcastIP || p.flags != flagB {
					verdict.Fail("B: %s to %s", p.typeName(), short(p.dst))
				}
				if p.dstMAC != broadcastMAC {
					verdict.Fail("B: %s broadcast in IP only", p.typeName())
				}
			}
			o, k = b.bind()
			for _, p := range []*packet{o, k} {
				if p.dst != b.ip || p.dstMAC != b.mac || p.flags != 0 {
					verdict.Fail("no B: %s to %s", p.typeName(), short(p.dst))
				}
			}
			if slices.Contains(w.asked, b.ip) {
				verdict.Fail("no B: it asks by ARP first")
			}
		}},
		{line: 13, title: "A reply to a relay: to `giaddr`, port 67", in: intent{relay: true}, run: func(w *world) {
			a := w.station(1)
			a.relay = []byte{1, 2, 'p', '1'}
			o, k := a.bind()
			for _, p := range []*packet{o, k} {
				if p.dst != relayIP || p.dport != 67 || p.giaddr != relayIP || !branch.Contains(p.yiaddr) {
					verdict.Fail("%v to %s:%d", p, p.dst, p.dport)
				}
			}
		}},
		{line: 14, title: "Option 61 comes back to the byte in OFFER, ACK and NAK; never invented", in: intent{sole: true}, run: func(w *world) {
			a, b := w.station(1), w.station(2)
			a.id = []byte("\xff\x00\x00\x00\x07 a long and binary identifier \x00\xff\x00")
			o, k := a.bind()
			for _, p := range []*packet{o, k, expect("INIT-REBOOT elsewhere", nak, a.reboot(foreignIP))} {
				if !bytes.Equal(p.get(61), a.id) {
					verdict.Fail("not in the %s", p.typeName())
				}
			}
			if o, k = b.bind(); o.has(61) || k.has(61) {
				verdict.Fail("invented")
			}
		}},
		{line: 15, title: "Two MACs with one client identifier are one client", run: func(w *world) {
			a, b, c := w.station(1), w.station(2), w.station(3)
			a.id = []byte{0xff, 0, 0, 0, 9, 9}
			b.id = a.id
			a.bind()
			if b.bind(); b.ip != a.ip {
				verdict.Fail("two addresses")
			}
			if c.bind(); c.ip == a.ip {
				verdict.Fail("a client without the identifier got the same address")
			}
		}},
		{line: 24, title: "INFORM: ACK to `ciaddr`, without an address and without options 51, 58, 59", run: func(w *world) {
			a := w.station(1)
			own := at(8)
			w.owners[own] = a.mac
			m := a.message(inform)
			m.ciaddr = own
			h := a.local()
			h.src = own
			p := expect("INFORM", ack, a.askBy(h, m))
			switch {
			case !p.yiaddr.IsUnspecified():
				verdict.Fail("yiaddr %s", p.yiaddr)
			case p.has(51) || p.has(58) || p.has(59):
				verdict.Fail("lease options")
			case p.dst != own || p.dstMAC != a.mac:
				verdict.Fail("to %s", p.dst)
			case !p.has(3) || !p.has(6):
				verdict.Fail("without what was asked for")
			}
		}},
		{line: 25, title: "DECLINE: nobody gets the address, and the log says so", in: pool(2), run: func(w *world) {
			a, b := w.station(1), w.station(2)
			a.bind()
			bad := a.ip
			a.silent("DECLINE", a.local(), a.decline(bad))
			if p := b.discover(optAddr(50, bad)); p != nil && p.yiaddr == bad {
				verdict.Fail("the next client, asking for it, is offered it")
			}
			if p := a.discover(optAddr(50, bad)); p != nil && p.yiaddr == bad {
				verdict.Fail("the same client is offered it again")
			}
			if !w.wrote(func() bool {
				return slices.ContainsFunc(append(linesWith(w.log(), "DECLINE"), linesWith(w.log(), "in use")...),
					func(l string) bool { return names(l, bad) })
			}) {
				verdict.Fail("not a word in the log")
			}
		}},
		{line: 25, title: "… of a reserved address: an alarm as well", in: intent{hosts: []host{{mac: mac{2, 0, 0, 0, 1, 1}, ip: at(60)}}}, run: func(w *world) {
			a := w.station(1)
			a.bind()
			if a.ip != at(60) {
				verdict.Fail("the reservation is not kept")
			}
			a.silent("DECLINE", a.local(), a.decline(a.ip))
			a.discover()
			if !w.wrote(func() bool { return w.warned(at(60)) }) {
				verdict.Fail("no warning in the log")
			}
		}},
		{line: 26, title: "RELEASE naming another server, or a wrong `ciaddr`: ignored; no RELEASE is answered", in: pool(1), run: func(w *world) {
			a, b := w.station(1), w.station(2)
			a.bind()
			a.silent("RELEASE", a.direct(a.ip), a.release(a.ip, foreign))
			if b.discover() != nil {
				verdict.Fail("another server's RELEASE is taken")
			}
			b.silent("RELEASE", b.direct(a.ip), b.release(a.ip, serverIP))
			if b.discover() != nil {
				verdict.Fail("another client's RELEASE is taken")
			}
			a.silent("RELEASE", a.direct(a.ip), a.release(a.ip, serverIP))
			expect("DISCOVER after the RELEASE", offer, b.discover())
		}},
		{line: 27, title: "Retransmissions get the same answer; `secs` never matters; `secs` and `hops` of replies are 0", run: func(w *world) {
			a := w.station(1)
			m := a.message(discover)
			first := expect("DISCOVER", offer, a.ask(m))
			for _, secs := range []uint16{0, 1, 600} {
				m.secs, m.hops = secs, 3
				p := expect("DISCOVER again", offer, a.ask(m))
				if p.yiaddr != first.yiaddr {
					verdict.Fail("another offer")
				}
				if p.secs != 0 || p.hops != 0 {
					verdict.Fail("secs %d and hops %d of a request with %d and %d", p.secs, p.hops, m.secs, m.hops)
				}
			}
			m = a.message(request, optAddr(50, first.yiaddr), opt(54, first.get(54)...))
			for range 2 {
				m.secs, m.hops = 5, 3
				p := expect("REQUEST", ack, a.ask(m))
				if p.yiaddr != first.yiaddr || p.secs != 0 || p.hops != 0 {
					verdict.Fail("%v, secs %d, hops %d", p, p.secs, p.hops)
				}
			}
		}},
		{line: 28, title: "OFFER: `ciaddr` 0; 0 < T1 < T2 < lease", run: func(w *world) {
			o, k := w.station(1).bind()
			for _, p := range []*packet{o, k} {
				t1, t2, l := seconds(p, 58), seconds(p, 59), seconds(p, 51)
				if !p.ciaddr.IsUnspecified() || t1 <= 0 || t2 <= t1 || l <= t2 {
					verdict.Fail("ciaddr %s, T1 %v, T2 %v, lease %v", p.ciaddr, t1, t2, l)
				}
			}
		}},
		{line: 30, title: "An offer that is not taken yet stays held while others ask", in: pool(1), run: func(w *world) {
			a, b := w.station(1), w.station(2)
			o := expect("DISCOVER", offer, a.discover())
			if p := b.discover(); p != nil {
				verdict.Fail("the next client is offered it, too")
			}
			expect("REQUEST", ack, a.take(o))
		}},
		{line: 30, title: "… even when another client asks for that very address", in: pool(3), run: func(w *world) {
			a, b := w.station(1), w.station(2)
			o := expect("DISCOVER", offer, a.discover())
			if p := expect("DISCOVER", offer, b.discover(optAddr(50, o.yiaddr))); p.yiaddr == o.yiaddr {
				verdict.Fail("it is offered it")
			}
			if p := b.ask(b.message(request, optAddr(50, o.yiaddr), optAddr(54, serverIP))); p != nil && p.typ() == ack {
				verdict.Fail("it gets it")
			}
			expect("REQUEST", ack, a.take(o))
		}},
	}
}

// foreignIP is an address of no subnet here.
var foreignIP = netip.MustParseAddr("10.1.2.3")

// seconds is the time in an option, 0 if it is not there.
func seconds(p *packet, code byte) time.Duration {
	d := p.get(code)
	if len(d) != 4 {
		return 0
	}
	n := int64(d[0])<<24 | int64(d[1])<<16 | int64(d[2])<<8 | int64(d[3])
	return time.Duration(n) * time.Second
}

// index is where an option stands among a reply's, -1 if it does not.
func index(p *packet, code byte) int { return bytes.IndexByte(p.codes(), code) }
