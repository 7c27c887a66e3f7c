package offload_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/offload"
)

// changed is p with something else.
func changed(p packet, change func(*packet)) packet { change(&p); return p }

// following is the segment after p, of n bytes.
func following(p packet, n int) packet {
	p.seq += uint32(len(p.payload))
	p.id++
	p.payload = noise(n, p.seq)
	return p
}

func TestTwoSegmentsBecomeOneOrStayTwo(t *testing.T) {
	tcp4, tcp6, udp4, udp6 := plain(false, false), plain(true, false), plain(false, true), plain(true, true)
	counted := changed(tcp4, func(p *packet) { p.df, p.id = false, 0xffff })
	none := func(*packet) {}
	flip := func(at int) func([]byte) { return func(b []byte) { b[at] ^= 1 } }
	for _, c := range []struct {
		what   string
		first  packet
		size   int // of the second
		change func(*packet)
		damage func([]byte)
		owner  uint64
		want   bool
	}{
		{what: "TCP over IPv4", first: tcp4, size: 1000, change: none, want: true},
		{what: "TCP over IPv6", first: tcp6, size: 1000, change: none, want: true},
		{what: "UDP over IPv4", first: udp4, size: 1000, change: none, want: true},
		{what: "UDP over IPv6", first: udp6, size: 1000, change: none, want: true},
		{what: "a shorter one", first: tcp4, size: 1, change: none, want: true},
		{what: "PSH on the second", first: tcp4, size: 1000, change: func(p *packet) { p.flags |= psh }, want: true},
		{what: "two tags", first: changed(tcp6, func(p *packet) { p.tags = 2 }), size: 1000, change: none, want: true},
		{what: "a sequence number that wraps", first: changed(tcp4, func(p *packet) { p.seq = 0xffffff00 }), size: 1000, change: none, want: true},
		{what: "an identification that wraps", first: counted, size: 1000, change: none, want: true},
		{what: "any identification with DF", first: tcp4, size: 1000, change: func(p *packet) { p.id = 9 }, want: true},
		{what: "ECN and DSCP", first: changed(tcp4, func(p *packet) { p.tos = 0xb9 }), size: 1000, change: none, want: true},
		{what: "8 bytes", first: changed(udp4, func(p *packet) { p.payload = noise(8, 1) }), size: 8, change: none, want: true},

		{what: "a longer one", first: tcp4, size: 1001, change: none},
		{what: "a longer one of UDP", first: udp6, size: 1001, change: none},
		{what: "an empty one", first: tcp4, size: 0, change: none},
		{what: "an empty one of UDP", first: udp4, size: 0, change: none},
		{what: "7 bytes", first: changed(udp4, func(p *packet) { p.payload = noise(7, 1) }), size: 7, change: none},
		{what: "another owner", first: tcp4, size: 1000, change: none, owner: 1},
		{what: "another destination MAC", first: tcp4, size: 1000, change: func(p *packet) { p.dst++ }},
		{what: "another source MAC", first: tcp6, size: 1000, change: func(p *packet) { p.src++ }},
		{what: "three tags", first: changed(tcp4, func(p *packet) { p.tags = 3 }), size: 1000, change: none},
		{what: "a gap", first: tcp4, size: 1000, change: func(p *packet) { p.seq++ }},
		{what: "an overlap", first: tcp6, size: 1000, change: func(p *packet) { p.seq-- }},
		{what: "the same again", first: tcp4, size: 1000, change: func(p *packet) { p.seq = tcp4.seq }},
		{what: "another acknowledgement", first: tcp4, size: 1000, change: func(p *packet) { p.ack++ }},
		{what: "another window", first: tcp4, size: 1000, change: func(p *packet) { p.window++ }},
		{what: "an urgent pointer", first: tcp4, size: 1000, change: func(p *packet) { p.urgent++ }},
		{what: "another timestamp", first: tcp4, size: 1000, change: func(p *packet) { p.timestamp++ }},
		{what: "options that end", first: tcp4, size: 1000, change: func(p *packet) { p.timestamp = 0 }},
		{what: "another source port", first: tcp4, size: 1000, change: func(p *packet) { p.sport++ }},
		{what: "another destination port", first: udp4, size: 1000, change: func(p *packet) { p.dport++ }},
		{what: "another source", first: udp4, size: 1000, change: func(p *packet) { p.from++ }},
		{what: "another source of IPv6", first: udp6, size: 1000, change: func(p *packet) { p.from++ }},
		{what: "another destination", first: udp4, size: 1000, change: func(p *packet) { p.to++ }},
		{what: "another destination of IPv6", first: tcp6, size: 1000, change: func(p *packet) { p.to++ }},
		{what: "another protocol", first: tcp4, size: 1000, change: func(p *packet) { p.udp = true }},
		{what: "another TOS", first: tcp4, size: 1000, change: func(p *packet) { p.tos = 4 }},
		{what: "a congestion mark", first: changed(tcp4, func(p *packet) { p.tos = 2 }), size: 1000, change: func(p *packet) { p.tos = 3 }},
		{what: "another traffic class", first: tcp6, size: 1000, change: func(p *packet) { p.tos = 4 }},
		{what: "another flow label", first: tcp6, size: 1000, change: func(p *packet) { p.label++ }},
		{what: "another TTL", first: tcp4, size: 1000, change: func(p *packet) { p.ttl-- }},
		{what: "another hop limit", first: udp6, size: 1000, change: func(p *packet) { p.ttl-- }},
		{what: "DF that ends", first: tcp4, size: 1000, change: func(p *packet) { p.df = false }},
		{what: "the reserved bit of IPv4", first: tcp4, size: 1000, change: func(p *packet) { p.evil = true }},
		{what: "an identification that stays", first: counted, size: 1000, change: func(p *packet) { p.id = counted.id }},
		{what: "an identification that skips one", first: counted, size: 1000, change: func(p *packet) { p.id++ }},
		{what: "a fragment", first: udp4, size: 1000, change: func(p *packet) { p.more = true }},
		{what: "two fragments", first: changed(udp4, func(p *packet) { p.more = true }), size: 1000, change: none},
		{what: "IPv4 options", first: tcp4, size: 1000, change: func(p *packet) { p.options = true }},
		{what: "IPv4 options twice", first: changed(udp4, func(p *packet) { p.options = true }), size: 1000, change: none},
		{what: "an extension header", first: tcp6, size: 1000, change: func(p *packet) { p.extension = true }},
		{what: "an extension header twice", first: changed(udp6, func(p *packet) { p.extension = true }), size: 1000, change: none},
		{what: "padding on the second", first: tcp4, size: 100, change: func(p *packet) { p.padding = 4 }},
		{what: "padding on the second, of IPv6", first: udp6, size: 100, change: func(p *packet) { p.padding = 4 }},
		{what: "padding on the first", first: changed(tcp4, func(p *packet) { p.padding = 4 }), size: 1000, change: func(p *packet) { p.padding = 0 }},
		{what: "padding on the first, of IPv6", first: changed(tcp6, func(p *packet) { p.padding = 4 }), size: 1000, change: func(p *packet) { p.padding = 0 }},
		{what: "no UDP checksum on the second", first: udp4, size: 1000, change: func(p *packet) { p.noChecksum = true }},
		{what: "no UDP checksum on either", first: changed(udp4, func(p *packet) { p.noChecksum = true }), size: 1000, change: none},
		{what: "PSH on the first", first: changed(tcp4, func(p *packet) { p.flags |= psh }), size: 1000, change: none},
		{what: "no ACK on either", first: changed(tcp4, func(p *packet) { p.flags = 0 }), size: 1000, change: none},
		{what: "no ACK on the second", first: tcp4, size: 1000, change: func(p *packet) { p.flags = 0 }},
		{what: "a fault in the second's payload", first: tcp4, size: 1000, change: none, damage: flip(500)},
		{what: "a fault in the second's payload, of UDP", first: udp6, size: 1000, change: none, damage: flip(999)},
		{what: "a fault in the second's checksum", first: udp4, size: 1000, change: none, damage: flip(udp4.l4() + 6)},
		{what: "a fault in the second's IPv4 checksum", first: tcp4, size: 1000, change: none, damage: flip(14 + 10)},
		{what: "a fault in the second's identification", first: tcp4, size: 1000, change: none, damage: flip(14 + 4)},
		// Lengths in the UDP header count twice in its checksum.
		{what: "a wrong UDP length on the second", first: udp4, size: 1000, change: none, damage: func(b []byte) { mendUDP(b, udp4.l4()) }},
	} {
		second := following(c.first, c.size)
		c.change(&second)
		a, b := c.first.build(t), second.build(t)
		if c.damage != nil {
			c.damage(b)
		}
		in := []segment{{a, 0}, {b, c.owner}}
		if out := merge(t, in); (len(out) == 1) != c.want {
			t.Errorf("%s: %v", c.what, made(out))
		}
		checkMerge(t, in)
	}
	for _, flag := range []byte{fin, syn, rst, urg, ece, cwr} {
		first, second := changed(tcp4, func(p *packet) { p.flags |= flag }), following(tcp4, 1000)
		in := []segment{{first.build(t), 0}, {second.build(t), 0}}
		if out := merge(t, in); len(out) != 2 {
			t.Errorf("flag %#x on the first: %v", flag, made(out))
		}
		checkMerge(t, in)
		second.flags |= flag
		in = []segment{{tcp4.build(t), 0}, {second.build(t), 0}}
		if out := merge(t, in); len(out) != 2 {
			t.Errorf("flag %#x on the second: %v", flag, made(out))
		}
		checkMerge(t, in)
		first.flags, second.flags = ack|flag, ack|flag
		in = []segment{{first.build(t), 0}, {second.build(t), 0}}
		if out := merge(t, in); len(out) != 2 {
			t.Errorf("flag %#x on both: %v", flag, made(out))
		}
	}
}

// at is the packet with other bytes at an offset, and with its transport checksum
// mended for them as if nothing else had changed.
func at(b []byte, l4, csum, offset int, with ...byte) []byte {
	b = bytes.Clone(b)
	was := slowSum(b[l4:])
	copy(b[offset:], with)
	field := b[l4+csum:]
	binary.BigEndian.PutUint16(field, sum16(binary.BigEndian.Uint16(field), was, ^slowSum(b[l4:])))
	return b
}

// sum16 is the ones' complement sum of words.
func sum16(words ...uint16) uint16 {
	var b []byte
	for _, w := range words {
		b = binary.BigEndian.AppendUint16(b, w)
	}
	return slowSum(b)
}

// TestWhatAChecksumCannotTellIsLookedAt has pairs whose checksums are right, or
// come out right if they are computed over what they should not be.
func TestWhatAChecksumCannotTellIsLookedAt(t *testing.T) {
	stay := func(what string, a, b []byte) {
		t.Helper()
		if out := merge(t, []segment{{a, 0}, {b, 0}}); len(out) != 2 {
			t.Errorf("%s: %v", what, made(out))
		}
	}
	for _, v6 := range []bool{false, true} {
		for _, udp := range []bool{false, true} {
			p := plain(v6, udp)
			p.from, p.to = 10, 20
			moved := changed(following(p, 1000), func(p *packet) { p.from++; p.to-- })
			stay(fmt.Sprintf("v6 %v, UDP %v: addresses of equal sum", v6, udp), p.build(t), moved.build(t))
		}
		tcp := plain(v6, false)
		a, b := tcp.build(t), following(tcp, 1000).build(t)
		l4 := tcp.l4()
		stay("a reserved bit of TCP", a, at(b, l4, 16, l4+12, b[l4+12]|1))
		bare := following(tcp, 1000)
		bare.timestamp = 0
		copy(bare.payload, a[l4+20:l4+32])
		stay("payload that looks like options", a, bare.build(t))
		stay("a TCP header of 16 bytes", at(a, l4, 16, l4+12, 0x40), at(following(changed(tcp, func(p *packet) { p.seq += 16 }), 1000).build(t), l4, 16, l4+12, 0x40))

		// A datagram whose checksum is zero, which is right and means that there is none.
		udp := plain(v6, true)
		zero := func(p packet) []byte {
			copy(p.payload, []byte{0, 0})
			b := p.build(t)
			b = at(b, p.l4(), 6, p.l4()+8, b[p.l4()+6], b[p.l4()+7])
			if b[p.l4()+6]&b[p.l4()+7] != 0xff {
				t.Fatalf("the checksum is % x", b[p.l4()+6:p.l4()+8])
			}
			b[p.l4()+6], b[p.l4()+7] = 0, 0
			return b
		}
		stay("a second datagram without a checksum", udp.build(t), zero(following(udp, 1000)))
		stay("a first datagram without a checksum", zero(udp), following(udp, 1000).build(t))
	}

	// Padding that makes up for the length that it adds.
	tcp := plain(true, false)
	a, b := tcp.build(t), following(tcp, 998).build(t)
	stay("padding of equal sum on the second", a, append(b, 0xff, 0xfd))
	stay("padding of equal sum on the first", append(a, 0xff, 0xfd), following(changed(tcp, func(p *packet) { p.seq += 2 }), 1000).build(t))

	// Extension headers and options that count for nothing in sums, with padding of
	// their length: the IP length is that of a packet without either.
	hidden := changed(tcp, func(p *packet) { p.extension = true })
	second := following(hidden, 1000)
	second.seq += 8
	hide6 := func(p packet) []byte {
		b := p.build(t)
		binary.BigEndian.PutUint16(b[14+44:], ^sum16(6<<8, 0x0104, 8))
		return append(b, make([]byte, 8)...)
	}
	stay("a hidden extension header", hide6(hidden), hide6(second))
	hidden = changed(plain(false, false), func(p *packet) { p.options = true })
	second = following(hidden, 1000)
	second.seq += 4
	hide4 := func(p packet) []byte {
		b := p.build(t)
		copy(b[14+20:], []byte{0xff, 0xff, 0, 0})
		binary.BigEndian.PutUint16(b[14+10:], 0)
		binary.BigEndian.PutUint16(b[14+10:], ^slowSum(b[14:14+24]))
		return append(b, 0xff, 0xfb, 0, 0)
	}
	stay("hidden options", hide4(hidden), hide4(second))
}

// mendUDP makes the length in a UDP header wrong and its checksum right again.
func mendUDP(b []byte, l4 int) {
	u := b[l4:]
	binary.BigEndian.PutUint16(u[4:], binary.BigEndian.Uint16(u[4:])-2)
	sum := uint32(binary.BigEndian.Uint16(u[6:])) + 2
	binary.BigEndian.PutUint16(u[6:], uint16(sum+sum>>16))
}

func TestAFirstSegmentWithAFaultBeginsNothing(t *testing.T) {
	for _, c := range []struct {
		what string
		p    packet
		at   int
	}{
		{"IPv4 checksum", plain(false, false), 14 + 10},
		{"identification", plain(false, true), 14 + 4},
		{"payload", plain(false, false), 700},
		{"payload of IPv6", plain(true, true), 700},
	} {
		a, b := c.p.build(t), following(c.p, 1000).build(t)
		a[c.at] ^= 4
		if out := merge(t, []segment{{a, 0}, {b, 0}}); len(out) != 2 || out[0].o != (frame.Offload{}) {
			t.Errorf("%s: %v, %+v", c.what, made(out), out[0].o)
		}
	}
	p := plain(false, true)
	a, b := p.build(t), following(p, 1000).build(t)
	mendUDP(a, p.l4())
	mendUDP(b, p.l4())
	if out := merge(t, []segment{{a, 0}, {b, 0}}); len(out) != 2 {
		t.Errorf("UDP lengths that are wrong alike: %v", made(out))
	}
}

func TestAFrameWithAnOffloadEndsItsFlowAndBeginsNothing(t *testing.T) {
	for _, o := range []frame.Offload{{Flags: frame.NeedsCsum}, {Flags: frame.DataValid}} {
		p := plain(false, true)
		second := following(p, 1000)
		third := following(second, 1000)
		var m offload.Merger
		m.Start(load(t, p.build(t), frame.Offload{}), 0)
		f := load(t, second.build(t), o)
		m.Start(f, 0)
		if m.Extend(third.build(t), 0) {
			t.Errorf("%+v: the third datagram passed the second, or was merged into it", o)
		}
		m.Finish()
		if f.Offload != o {
			t.Errorf("%+v became %+v", o, f.Offload)
		}
	}
}

func TestWhatDoesNotFitEndsTheSuperFrameOfItsFlow(t *testing.T) {
	// A datagram has no sequence number: only order tells.
	for _, v6 := range []bool{false, true} {
		p := plain(v6, true)
		p.df = true
		second, third := following(p, 1000), following(p, 1000)
		for what, change := range map[string]func(*packet){
			"longer":                func(p *packet) { p.payload = noise(1100, 1) },
			"empty":                 func(p *packet) { p.payload = nil },
			"without checksum":      func(p *packet) { p.noChecksum = true },
			"another TTL":           func(p *packet) { p.ttl-- },
			"another MAC":           func(p *packet) { p.src++ },
			"padding":               func(p *packet) { p.padding = 2 },
			"an extension":          func(p *packet) { p.extension, p.options = v6, !v6 },
			"a fragment, of IPv4":   func(p *packet) { p.more = true; p.v6 = false },
			"a fragment of another": func(p *packet) { p.more, p.v6, p.sport, p.from = true, false, 9, 9 },
		} {
			second := changed(second, change)
			in := []segment{{p.build(t), 0}, {second.build(t), 0}, {third.build(t), 0}}
			if out := made(merge(t, in)); len(out) < 2 || len(out[0]) != 1 {
				t.Errorf("v6 %v: %s: %v", v6, what, out)
			}
			checkMerge(t, in)
		}
		// One with PSH or a short one is the last, and so is one that another owner's
		// comes after.
		in := []segment{{p.build(t), 0}, {second.build(t), 1}, {third.build(t), 0}}
		if out := made(merge(t, in)); len(out) != 3 {
			t.Errorf("v6 %v: another owner in between: %v", v6, out)
		}
		short := following(p, 999)
		in = []segment{{p.build(t), 0}, {short.build(t), 0}, {following(short, 999).build(t), 0}}
		if out := made(merge(t, in)); len(out) != 2 {
			t.Errorf("v6 %v: a short one: %v", v6, out)
		}
		tcp := plain(v6, false)
		push := changed(following(tcp, 1000), func(p *packet) { p.flags |= psh })
		in = []segment{{tcp.build(t), 0}, {push.build(t), 0}, {following(changed(push, func(p *packet) { p.flags = ack }), 1000).build(t), 0}}
		if out := made(merge(t, in)); len(out) != 2 || len(out[0]) != 2 {
			t.Errorf("v6 %v: PSH: %v", v6, out)
		}
	}
}

func TestAnIPv6PacketThatCannotBeReadIsPassedByNobody(t *testing.T) {
	p := plain(true, true)
	b := following(p, 1000).build(t)
	l3 := p.l3()
	for range 9 { // more extension headers than anybody reads
		ip := b[l3:]
		binary.BigEndian.PutUint16(ip[4:], binary.BigEndian.Uint16(ip[4:])+8)
		options := []byte{ip[6], 0, 1, 4, 0, 0, 0, 0}
		ip[6] = 60
		b = append(b[:l3+40:l3+40], append(options, b[l3+40:]...)...)
	}
	if out := made(merge(t, []segment{{p.build(t), 0}, {b, 0}, {following(p, 1000).build(t), 0}})); len(out) != 3 {
		t.Errorf("%v", out)
	}
}

func TestFlowsThatTakeTurnsAreMergedEach(t *testing.T) {
	for _, c := range []struct{ flows, want int }{{2, 2}, {8, 8}, {9, 9 * 20}} {
		var in []segment
		ps := make([]packet, c.flows)
		for k := range ps {
			ps[k] = plain(k%2 == 0, k%3 == 0)
			ps[k].sport += uint16(k)
		}
		for range 20 {
			for k := range ps {
				in = append(in, segment{ps[k].build(t), 0})
				ps[k] = following(ps[k], 1000)
			}
		}
		if c.want > len(in[:64]) {
			in = in[:64] // no more runs than there are
			c.want = 64
		}
		if out := merge(t, in); len(out) != c.want {
			t.Errorf("%d flows of 20 segments became %d frames, want %d", c.flows, len(out), c.want)
		}
		checkMerge(t, in)
	}
}

func TestMoreSuperFramesThanThereIsRoomForStayAsTheyAre(t *testing.T) {
	var in []segment
	for k := range 70 {
		p := plain(false, true)
		p.sport += uint16(k)
		in = append(in, segment{p.build(t), 0}, segment{following(p, 1000).build(t), 0})
	}
	if out := merge(t, in); len(out) != 64+2*6 {
		t.Errorf("%d frames", len(out))
	}
	checkMerge(t, in)
}

func TestASuperFrameEndsAtItsLimits(t *testing.T) {
	stream := func(p packet, size, n int) (in []segment) {
		p.payload = noise(size, 3)
		for range n {
			in = append(in, segment{p.build(t), 0})
			p = following(p, size)
		}
		return in
	}
	for _, v6 := range []bool{false, true} {
		for _, udp := range []bool{false, true} {
			p := plain(v6, udp)
			in := stream(p, 100, 200)
			for k, o := range merge(t, in) {
				if want := min(1+offload.MaxParts, 200-k*(1+offload.MaxParts)); len(o.of) != want {
					t.Errorf("v6 %v, UDP %v: frame %d is of %d, want %d", v6, udp, k, len(o.of), want)
				}
			}
			checkMerge(t, in)
			// The longest IP packet there is, and one byte more.
			headers := p.header() - p.l3()
			for more, want := range []int{1, 2} {
				size := (65535 - headers) / 2
				p.payload = noise(size+1, 1)
				second := following(p, 65535-headers-size-1+more)
				in := []segment{{p.build(t), 0}, {second.build(t), 0}}
				out := merge(t, in)
				if len(out) != want || want == 1 && len(out[0].b) != p.l3()+65535 {
					t.Errorf("v6 %v, UDP %v, %d more: %d frames, of %d bytes", v6, udp, more, len(out), len(out[0].b))
				}
				checkMerge(t, in)
			}
		}
	}
}

func TestAMergerForgetsWhatItWasToldTo(t *testing.T) {
	var m offload.Merger
	p := plain(false, true)
	for range 100 {
		for k := range 20 {
			q := changed(p, func(p *packet) { p.sport += uint16(k) })
			m.Start(load(t, q.build(t), frame.Offload{}), 0)
		}
		if !m.Extend(changed(following(p, 1000), func(p *packet) { p.sport += 19 }).build(t), 0) {
			t.Fatal("the last one is not there")
		}
		m.Finish()
		m.Reset()
		for k := range 20 {
			if m.Extend(changed(following(p, 1000), func(p *packet) { p.sport += uint16(k) }).build(t), 0) {
				t.Fatal("something is left")
			}
		}
	}
}

// train is n segments of a flow, and a frame for the first; refresh undoes what
// merging did to it.
func train(t testing.TB, p packet, size, n int) (first *frame.Frame, rest [][]byte, refresh func()) {
	p.payload = noise(size, 1)
	b := p.build(t)
	first = load(t, b, frame.Offload{})
	for range n - 1 {
		p = following(p, size)
		rest = append(rest, p.build(t))
	}
	head := bytes.Clone(b[:p.header()])
	return first, rest, func() {
		copy(first.Bytes(), head)
		first.Offload = frame.Offload{}
		first.SetParts(nil, 0)
	}
}

func TestMergingAllocatesNothing(t *testing.T) {
	first, rest, refresh := train(t, plain(false, false), 1000, 64)
	var m offload.Merger
	if n := testing.AllocsPerRun(100, func() {
		refresh()
		m.Start(first, 0)
		for _, b := range rest {
			if !m.Extend(b, 0) {
				t.Fatal("not merged")
			}
		}
		m.Finish()
		m.Reset()
	}); n != 0 {
		t.Errorf("%v allocations a super-frame", n)
	}
}

func BenchmarkMerge(b *testing.B) {
	for _, c := range []struct {
		v6, udp bool
		size, n int
	}{{false, false, 1406, 44}, {true, false, 1386, 44}, {false, true, 1430, 44}, {false, true, 22, 64}} {
		b.Run(fmt.Sprintf("v6=%v/udp=%v/%dx%d", c.v6, c.udp, c.n, c.size), func(b *testing.B) {
			first, rest, refresh := train(b, plain(c.v6, c.udp), c.size, c.n)
			var m offload.Merger
			b.SetBytes(int64(c.size * c.n))
			for b.Loop() {
				refresh()
				m.Start(first, 0)
				for _, p := range rest {
					if !m.Extend(p, 0) {
						b.Fatal("not merged")
					}
				}
				m.Finish()
				m.Reset()
			}
		})
	}
}
