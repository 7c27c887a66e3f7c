package dhcpcheck

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"

	"github.com/uvtep/uvtep/internal/verdict"
)

// ntp stands for any option that is configured by its number.
var ntp = optAddr(42, at(7))

// wide is an intent with more options than a reply of 576 bytes has room for.
func wide() intent {
	var in intent
	for code := byte(224); code <= 228; code++ {
		in.options = append(in.options, optText(code, strings.Repeat(string('a'+code-224), 120)))
	}
	return in
}

var wideParams = []byte{1, 3, 6, 15, 224, 225, 226, 227, 228}

// replyChecks are about what a reply looks like.
func replyChecks() []check {
	return []check{
		{line: 16, title: "Option 82 comes back whole and last; never invented", in: intent{relay: true, sole: true}, run: func(w *world) {
			a := w.station(1)
			a.relay = []byte("\x01\x04eth0\x02\x06\x02\x00\x00\x00\x00\x09\x97\x03\x00\x01\xff")
			o, k := a.bind()
			for _, p := range []*packet{o, k, expect("INIT-REBOOT elsewhere", nak, a.reboot(foreignIP))} {
				wholeAndLast(p, a.relay)
			}
			if o, k = w.station(2).bind(); o.has(82) || k.has(82) {
				verdict.Fail("invented")
			}
		}},
		{line: 16, title: "… also in a reply without room for all options, and outside of `file` and `sname`", in: func() intent {
			in := wide()
			in.relay = true
			// The relay's subnet has no options of its own: the class brings them.
			in.classes = []class{{by: byCircuit, match: "eth0", options: in.options}}
			return in
		}(), run: func(w *world) {
			a := w.station(1)
			a.params = wideParams
			a.relay = append([]byte("\x01\x04eth0\x97\x78"), bytes.Repeat([]byte{'x'}, 120)...)
			o := expect("DISCOVER", offer, a.discover())
			if kinds(o) == 0 {
				verdict.Fail("without the options of its circuit")
			}
			wholeAndLast(o, a.relay)
		}},
		{line: 17, title: "No reply is shorter than 300 bytes", in: intent{sole: true}, run: func(w *world) {
			a := w.station(1)
			a.params = []byte{1}
			o, k := a.bind()
			for _, p := range []*packet{o, k, expect("INIT-REBOOT elsewhere", nak, a.reboot(foreignIP))} {
				if p.payload < 300 {
					verdict.Fail("%s of %d bytes", p.typeName(), p.payload)
				}
			}
		}},
		{line: 18, title: "No reply is longer than option 57; 576 bytes without it; less than 576 is ignored", in: wide(), run: func(w *world) {
			a := w.station(1)
			a.params = wideParams
			plain := expect("DISCOVER", offer, a.discover())
			if plain.ipLen > 576 {
				verdict.Fail("%d bytes without option 57", plain.ipLen)
			}
			small := expect("DISCOVER with 57 = 300", offer, a.discover(opt(57, 1, 44)))
			if small.ipLen > 576 || kinds(small) < kinds(plain) {
				verdict.Fail("57 = 300: %d of %d options in %d bytes", kinds(small), kinds(plain), small.ipLen)
			}
			large := expect("DISCOVER with 57 = 1400", offer, a.discover(opt(57, 5, 120)))
			if large.ipLen > 1400 || kinds(large) != len(wideParams)-4 {
				verdict.Fail("57 = 1400: %d of %d options in %d bytes", kinds(large), len(wideParams)-4, large.ipLen)
			}
		}},
		{line: 19, title: "Option 1 comes before option 3, whatever the order of the request", run: func(w *world) {
			a := w.station(1)
			a.params = []byte{3, 6, 1}
			if o := expect("DISCOVER", offer, a.discover()); index(o, 1) < 0 || index(o, 1) > index(o, 3) {
				verdict.Fail("options %v", o.codes())
			}
		}},
		{line: 20, title: "The parameter request list is honoured; 53, 54 and 51 come without being asked for", in: intent{options: []option{ntp}}, run: func(w *world) {
			a, b := w.station(1), w.station(2)
			a.params, b.params = []byte{42, 6}, []byte{6}
			asked, other := expect("DISCOVER", offer, a.discover()), expect("DISCOVER", offer, b.discover())
			switch {
			case !bytes.Equal(asked.get(42), ntp.data) || !bytes.Equal(asked.get(6), flat(dnsIPs)):
				verdict.Fail("what was asked for is not there")
			case other.has(42):
				verdict.Fail("option 42 without being asked for")
			case !other.has(53) || !other.has(54) || !other.has(51):
				verdict.Fail("options %v", other.codes())
			}
		}},
		{line: 21, title: "121 asked for and configured: sent; 3 and 33 left out", in: intent{routes: []route{{netip.MustParsePrefix("10.0.0.0/8"), routerIP}}}, run: func(w *world) {
			a, b := w.station(1), w.station(2)
			a.params = []byte{1, 3, 33, 121}
			want := []byte{8, 10, 192, 168, 100, 1, 0, 192, 168, 100, 1}
			switch o := expect("DISCOVER", offer, a.discover()); {
			case !bytes.Equal(o.get(121), want):
				verdict.Fail("121 is %x", o.get(121))
			case o.has(3) || o.has(33):
				verdict.Fail("3 is sent as well")
			}
			b.params = []byte{1, 3, 33}
			if o := expect("DISCOVER", offer, b.discover()); !o.has(3) || o.has(121) {
				verdict.Fail("not asked for: options %v", o.codes())
			}
		}},
		{line: 22, title: "A value of more than 255 bytes goes out in consecutive instances", in: intent{routes: manyRoutes()}, run: func(w *world) {
			a := w.station(1)
			a.params = []byte{1, 121}
			o := expect("DISCOVER", offer, a.discover(opt(57, 5, 120)))
			if n := len(o.get(121)); n < 40*8 {
				verdict.Fail("%d bytes of 121", n)
			}
			first, last := index(o, 121), bytes.LastIndexByte(o.codes(), 121)
			if last == first || slices.ContainsFunc(o.codes()[first:last], func(c byte) bool { return c != 121 }) {
				verdict.Fail("options %v", o.codes())
			}
		}},
		{line: 23, title: "Split options, and option 52 (overload), are understood in requests", in: intent{options: []option{ntp}}, run: func(w *world) {
			a, b := w.station(1), w.station(2)
			// RFC 3396: the halves of option 61, and of option 55.
			m := a.message(discover, opt(61, 0xff, 1, 2, 3), opt(61, 4, 5, 6), opt(55, 1, 3))
			m.options = slices.DeleteFunc(m.options, func(o option) bool { return o.code == 55 && len(o.data) > 2 })
			m.options = append(m.options, opt(55, 42))
			p := expect("DISCOVER with split options", offer, a.ask(m))
			understood("split", p, []byte{0xff, 1, 2, 3, 4, 5, 6})
			m = b.message(discover, opt(52, 3))
			m.options = slices.DeleteFunc(m.options, func(o option) bool { return o.code == 55 })
			m.file, m.sname = []byte{61, 3, 0xff, 7, 7, 255}, []byte{55, 2, 1, 42, 255}
			p = expect("DISCOVER with options in file and sname", offer, b.ask(m))
			understood("overload", p, []byte{0xff, 7, 7})
		}},
		{line: 29, title: "108 is sent where it is configured, and only to who asks for it", in: intent{options: []option{opt(108, 0, 0, 7, 8)}}, run: func(w *world) {
			a, b := w.station(1), w.station(2)
			a.params = []byte{1, 3, 108}
			if o := expect("DISCOVER", offer, a.discover()); !bytes.Equal(o.get(108), []byte{0, 0, 7, 8}) {
				verdict.Fail("108 is %x", o.get(108))
			}
			b.params = nil
			if o := expect("DISCOVER", offer, b.discover()); o.has(108) {
				verdict.Fail("sent unasked")
			}
		}},
		{line: 31, title: "`hlen` over 16, no End, `op` 2, cut short: dropped, and the server goes on", run: func(w *world) {
			a := w.station(1)
			for _, bad := range []struct {
				what  string
				spoil func(m *message)
			}{
				{"hlen 17", func(m *message) { m.hlen = 17 }},
				{"no End", func(m *message) { m.noEnd = true }},
				{"op 2", func(m *message) { m.op = 2 }},
			} {
				m := a.message(discover)
				bad.spoil(m)
				a.silent(bad.what, a.local(), m)
			}
			whole := a.message(discover)
			for _, n := range []int{0, 1, 28, 200, 236, 240, 242, 244} {
				if err := w.send(datagram(a.local(), whole.bytes()[:n])); err != nil {
					verdict.Fail("%v", err)
				}
			}
			w.witness()
			if p := w.await(0, func(p *packet) bool { return p.message != nil && p.xid == whole.xid }); p != nil {
				verdict.Fail("cut short: %v", p)
			}
		}},
		{line: 33, title: "IP and UDP checksums are there and right in every reply", in: intent{relay: true, sole: true}, run: func(w *world) {
			a, b := w.station(1), w.station(2)
			a.bind()
			expect("RENEWING", ack, a.renew(a.ip))
			expect("INIT-REBOOT elsewhere", nak, a.reboot(foreignIP))
			b.relay = []byte{1, 1, 'x'}
			b.bind()
			for _, p := range w.all {
				if p.badSum != "" {
					verdict.Fail("%s", p.badSum)
				}
			}
		}},
	}
}

// understood wants a reply to show that options 61 and 55 were read whole.
func understood(what string, p *packet, id []byte) {
	if !p.has(42) {
		verdict.Fail("%s: a part of option 55 is not read", what)
	}
	if !bytes.Equal(p.get(61), id) {
		verdict.Fail("%s: option 61 is not read whole", what)
	}
}

// wholeAndLast wants option 82 as the relay sent it, behind all else.
func wholeAndLast(p *packet, want []byte) {
	codes := p.codes()
	switch at := bytes.IndexByte(codes, 82); {
	case at < 0:
		verdict.Fail("%s: not there", p.typeName())
	case at != len(codes)-1:
		verdict.Fail("%s: not last", p.typeName())
	case !bytes.Equal(p.options[at].data, want):
		verdict.Fail("%s: %x", p.typeName(), p.options[at].data)
	}
}

// kinds counts the options that wide configures, and option 3.
func kinds(p *packet) (n int) {
	for _, c := range wideParams[4:] {
		if len(p.get(c)) == 120 {
			n++
		}
	}
	return n
}

// manyRoutes take more than one instance of option 121.
func manyRoutes() (all []route) {
	for i := range 40 {
		all = append(all, route{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 1, byte(i), 0}), 24), routerIP})
	}
	return all
}
