package offload_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/offload"
)

// segment is a frame that arrives, and whose.
type segment struct {
	b     []byte
	owner uint64
}

// output is a frame that leaves: which of those that arrived it is made of, in
// order, and its bytes.
type output struct {
	of []int
	b  []byte
	o  frame.Offload
}

// merge carries segments through a Merger as a worker does.
func merge(t testing.TB, in []segment) []output {
	t.Helper()
	var m offload.Merger
	var frames []*frame.Frame
	var out []output
	at := map[*byte]int{} // an input by where its last byte is
	for k, s := range in {
		b := bytes.Clone(s.b)
		at[&b[len(b)-1]] = k
		if m.Extend(b, s.owner) {
			continue
		}
		f := &frame.Frame{}
		f.Attach(append(make([]byte, frame.Headroom), b...))
		f.SetLen(len(b))
		if !f.Parse() {
			t.Fatal("not parsed")
		}
		m.Start(f, s.owner)
		frames = append(frames, f)
		out = append(out, output{of: []int{k}})
	}
	m.Finish()
	for k, f := range frames {
		out[k].b, out[k].o = f.AppendTo(nil), f.Offload
		if len(out[k].b) != f.Size() {
			t.Fatalf("a frame of %d bytes says %d", len(out[k].b), f.Size())
		}
		for _, p := range f.Parts {
			out[k].of = append(out[k].of, at[&p[len(p)-1]])
		}
	}
	return out
}

// seen is a frame as gopacket sees it.
type seen struct {
	wrong    bool   // a checksum
	key      string // equal for all that may be one super-frame, but for what follows
	l3, l4   int
	header   int // 0: no TCP or UDP that could be merged
	flags    byte
	seq      uint32
	id       uint16
	v4, df   bool
	udp      bool
	ports    uint32
	portless bool // of TCP or UDP, or who knows
	known    bool // ports means something
}

// look parses a frame with gopacket and holds its checksums against slowSum.
func look(b []byte) (s seen) {
	p := gopacket.NewPacket(b, layers.LayerTypeEthernet, gopacket.DecodeOptions{NoCopy: true})
	link := 0
	var size int // of the IP packet
	simple := false
	for _, l := range p.Layers() {
		switch l := l.(type) {
		case *layers.Ethernet:
			link += 14
		case *layers.Dot1Q:
			link += 4
		case *layers.IPv4:
			s.l3, s.l4, s.v4 = link, link+int(l.IHL)*4, true
			size = int(l.Length)
			fragment := l.Flags&layers.IPv4MoreFragments != 0 || l.FragOffset != 0
			s.id, s.df = l.Id, l.Flags&layers.IPv4DontFragment != 0
			simple = l.IHL == 5 && !fragment
			s.wrong = slowSum(b[s.l3:s.l4]) != 0xffff
			s.portless = fragment && (l.Protocol == layers.IPProtocolTCP || l.Protocol == layers.IPProtocolUDP)
			s.key = fmt.Sprint("4 ", b[:link], l.TOS, l.TTL, l.Flags, l.Protocol, l.SrcIP, l.DstIP)
		case *layers.IPv6:
			s.l3, s.l4 = link, link+40
			size = 40 + int(l.Length)
			simple = true
			if l.NextHeader == layers.IPProtocolIPv6Destination {
				simple = false
				s.l4 += 8
			}
			s.key = fmt.Sprint("6 ", b[:link], l.TrafficClass, l.FlowLabel, l.HopLimit, l.NextHeader, l.SrcIP, l.DstIP)
		case *layers.TCP:
			s.known, s.ports = !s.portless, uint32(l.SrcPort)<<16|uint32(l.DstPort)
			s.seq, s.flags = l.Seq, b[s.l4+13]
			s.key += fmt.Sprint(" tcp ", l.SrcPort, l.DstPort, l.Ack, l.Window, l.Urgent, b[s.l4+12], b[s.l4+20:s.l4+int(l.DataOffset)*4])
			s.header = s.l4 + int(l.DataOffset)*4
		case *layers.UDP:
			s.known, s.ports, s.udp = !s.portless, uint32(l.SrcPort)<<16|uint32(l.DstPort), true
			s.key += fmt.Sprint(" udp ", l.SrcPort, l.DstPort)
			s.header = s.l4 + 8
			simple = simple && l.Checksum != 0 && int(l.Length) == len(b)-s.l4
		}
	}
	whole := append(binary.BigEndian.AppendUint16(nil, slowPseudo(b, s.l3, s.l4)), b[s.l4:]...)
	s.wrong = s.wrong || slowSum(whole) != 0xffff
	if !simple || size != len(b)-s.l3 {
		s.header = 0
	}
	return s
}

// slowRun is a super-frame of the oracle.
type slowRun struct {
	seen
	owner uint64
	of    []int
	mss   int
	data  []byte
	psh   bool
}

// slowMerge is the oracle: the rules as they are written, over copies.
func slowMerge(in []segment) (out []output) {
	const maxRuns, maxOpen = 64, 8
	var open [maxOpen]*slowRun
	var all []*slowRun // of out, nil for what began none
	turn, begun := 0, 0
	for k, in := range in {
		s := look(in.b)
		data := in.b[max(s.header, 0):]
		merged := false
		for slot, r := range open {
			if r == nil || s.header == 0 || r.wrong || s.wrong || r.owner != in.owner || r.key != s.key || len(data) == 0 || len(data) > r.mss {
				continue
			}
			if r.header-r.l3+len(r.data)+len(data) > 65535 {
				continue
			}
			if s.v4 && !s.df && s.id != r.id+uint16(len(r.of)) {
				continue
			}
			if !s.udp && (s.seq != r.seq+uint32(len(r.data)) || s.flags != ack && s.flags != ack|psh) {
				continue
			}
			merged = true
			r.of = append(r.of, k)
			r.data = append(r.data, data...)
			r.psh = !s.udp && s.flags&psh != 0
			if r.psh || len(data) < r.mss || len(r.of) == 1+offload.MaxParts {
				open[slot] = nil
			}
			break
		}
		if merged {
			continue
		}
		for slot, r := range open {
			if r != nil && (s.portless || s.known && r.ports == s.ports) {
				open[slot] = nil
			}
		}
		out = append(out, output{of: []int{k}, b: in.b})
		all = append(all, nil)
		if s.header == 0 || s.l3 > 14+2*4 || len(data) < 8 || !s.udp && s.flags != ack || begun == maxRuns {
			continue
		}
		begun++
		r := &slowRun{seen: s, owner: in.owner, of: []int{k}, mss: len(data), data: bytes.Clone(data)}
		all[len(all)-1] = r
		slot := slices.Index(open[:], nil)
		if slot < 0 {
			slot = turn
			turn = (turn + 1) % maxOpen
		}
		open[slot] = r
	}
	for k, r := range all {
		if r == nil {
			continue
		}
		out[k].of = r.of
		if len(r.of) == 1 {
			continue
		}
		b := append(bytes.Clone(out[k].b[:r.header]), r.data...)
		o := frame.Offload{Flags: frame.NeedsCsum, HdrLen: uint16(r.header), GSOSize: uint16(r.mss), CsumStart: uint16(r.l4)}
		ip := b[r.l3:]
		if r.v4 {
			binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
			ip[10], ip[11] = 0, 0
			binary.BigEndian.PutUint16(ip[10:], ^slowSum(ip[:20]))
		} else {
			binary.BigEndian.PutUint16(ip[4:], uint16(len(ip)-40))
		}
		switch {
		case r.udp:
			o.GSO, o.CsumOffset = frame.GSOUDPL4, 6
			binary.BigEndian.PutUint16(b[r.l4+4:], uint16(len(b)-r.l4))
		case r.v4:
			o.GSO, o.CsumOffset = frame.GSOTCPv4, 16
		default:
			o.GSO, o.CsumOffset = frame.GSOTCPv6, 16
		}
		if r.psh {
			b[r.l4+13] |= psh
		}
		binary.BigEndian.PutUint16(b[r.l4+int(o.CsumOffset):], slowPseudo(b, r.l3, r.l4))
		out[k].b, out[k].o = b, o
	}
	return out
}

// checkMerge holds a Merger against the oracle, and what it made against what
// came in.
func checkMerge(t testing.TB, in []segment) {
	t.Helper()
	got, want := merge(t, in), slowMerge(in)
	if len(got) != len(want) {
		t.Fatalf("%d frames became %d, want %d:\n%v\n%v", len(in), len(got), len(want), made(got), made(want))
	}
	done := map[int]bool{}
	for k := range got {
		g, w := got[k], want[k]
		if !slices.Equal(g.of, w.of) {
			t.Fatalf("frame %d is made of %v, want %v", k, g.of, w.of)
		}
		if g.o != w.o {
			t.Fatalf("frame %d of %v says %+v, want %+v", k, g.of, g.o, w.o)
		}
		if !bytes.Equal(g.b, w.b) {
			t.Fatalf("frame %d of %v is\n% x, want\n% x", k, g.of, g.b, w.b)
		}
		for _, of := range g.of {
			if done[of] {
				t.Fatalf("segment %d is in two frames", of)
			}
			done[of] = true
		}
		if len(g.of) > 1 {
			checkBack(t, g, in)
		}
	}
	if len(done) != len(in) {
		t.Fatalf("%d of %d segments are left", len(done), len(in))
	}
	checkOrder(t, got, in)
}

func made(out []output) (of [][]int) {
	for _, o := range out {
		of = append(of, o.of)
	}
	return of
}

// checkBack splits a super-frame: its segments are those that it was made of, but
// for IPv4 identifications without meaning.
func checkBack(t testing.TB, g output, in []segment) {
	t.Helper()
	f := load(t, g.b, g.o)
	if !offload.Check(f) || f.Offload != g.o {
		t.Fatalf("a merged super-frame is refused, or mended: %+v", g.o)
	}
	segments := split(t, f)
	if len(segments) != len(g.of) {
		t.Fatalf("%d segments came back as %d", len(g.of), len(segments))
	}
	s := look(in[g.of[0]].b)
	for k, b := range segments {
		was := bytes.Clone(in[g.of[k]].b)
		verify(t, b, s.l3, s.l4)
		if s.v4 && s.df {
			copy(was[s.l3+4:s.l3+6], b[s.l3+4:])
			copy(was[s.l3+10:s.l3+12], b[s.l3+10:])
		}
		if !bytes.Equal(b, was) {
			t.Fatalf("segment %d came back as\n% x, was\n% x", k, b, was)
		}
	}
}

// checkOrder follows every flow by its addresses and ports, whoever owns it: its
// frames leave in the order in which they came.
func checkOrder(t testing.TB, out []output, in []segment) {
	t.Helper()
	last := map[string]int{}
	for _, o := range out {
		for _, k := range o.of {
			b := in[k].b
			s := look(b)
			if !s.known {
				continue
			}
			flow := fmt.Sprint(s.v4, s.udp, s.ports, b[s.l3+8:s.l3+40])
			if s.v4 {
				flow = fmt.Sprint(s.v4, s.udp, s.ports, b[s.l3+12:s.l3+20])
			}
			if was, ok := last[flow]; ok && was > k {
				t.Fatalf("segment %d left after %d", k, was)
			}
			last[flow] = k
		}
	}
}

// program makes a stream of segments from bytes: any bytes are one.
func program(t testing.TB, data []byte) (in []segment) {
	type flow struct {
		p     packet
		owner uint64
	}
	var flows [24]*flow
	next := func() byte {
		if len(data) == 0 {
			return 0
		}
		b := data[0]
		data = data[1:]
		return b
	}
	for len(data) > 0 && len(in) < 400 {
		n := int(next()) % len(flows)
		f := flows[n]
		if f == nil {
			kind := next()
			p := plain(kind&1 != 0, kind&2 != 0)
			p.tags = int(kind>>2) % 3
			p.from, p.to = byte(n/3), byte(n/12) // some flows differ in one thing only
			p.sport = uint16(4000 + n%3)
			p.df = kind&16 != 0
			if kind&32 == 0 {
				p.timestamp = 0
			}
			p.seq, p.id = uint32(kind)<<24-3000, uint16(kind)<<8-3
			f = &flow{p: p, owner: uint64(n / 20)}
			flows[n] = f
		}
		p := &f.p
		size := 100
		what := next()
		once := *p
		owner := f.owner
		switch what {
		case 1:
			size = int(next()) // shorter or longer, for once
		case 2:
			once.flags |= psh
		case 3:
			once.flags |= next()
		case 4:
			p.ack++
			once = *p
		case 5:
			once.window++
		case 6:
			once.tos ^= next()
		case 7:
			once.ttl--
		case 8:
			once.label++
		case 9:
			once.padding = int(next() % 8)
		case 10:
			once.more = true
		case 11:
			once.noChecksum = true
		case 12:
			once.options = !p.v6
		case 13:
			once.extension = true
		case 14:
			p.seq += uint32(int8(next()))
			once = *p
		case 15:
			once.id += uint16(next())
		case 16:
			owner ^= 1
		case 17:
			p.timestamp++
			once = *p
		case 18:
			once.dst++
		case 19:
			once.urgent++
		case 20:
			size = 2800 // few make 64 KiB
		case 21:
			once.evil = true
		case 22:
			once.df = !once.df
		}
		once.payload = noise(size, uint32(len(in)))
		b := once.build(t)
		if what == 23 {
			at := p.l3() + int(next())%(len(b)-p.l3())
			if at-p.l3() > 10 && at != p.l4()+12 && (at < p.l4()+4 || at > p.l4()+5) { // not what says where things are
				b[at] ^= 1 << (next() % 8)
			}
		}
		in = append(in, segment{b, owner})
		p.seq += uint32(size)
		p.id++
	}
	return in
}

func TestMergingAgreesWithTheRulesAsTheyAreWritten(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 8))
	merged, streams := 0, 300
	if testing.Short() {
		streams = 60
	}
	for k := range streams {
		// From one flow without a fault to many with many.
		flows, faults := 1+r.IntN(24), r.IntN(30)
		var data []byte
		for range 40 + k {
			data = append(data, byte(r.IntN(flows)), byte(r.Uint32()))
			if r.IntN(30) > faults {
				data[len(data)-1] = 0
			}
		}
		in := program(t, data)
		checkMerge(t, in)
		merged += len(in) - len(slowMerge(in))
	}
	if merged < 10*streams {
		t.Errorf("only %d segments were merged: the streams are too hard", merged)
	}
}

func FuzzMerge(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 0, 0})                      // one flow of TCP
	f.Add([]byte{0, 3, 0, 0, 0, 0, 0, 0, 0})                      // of UDP over IPv6
	f.Add([]byte{0, 0, 1, 1, 0, 0, 0, 1, 0, 0, 2, 1, 0})          // two that take turns
	f.Add([]byte{0, 0, 0, 0, 1, 50, 0, 0, 0, 23, 40, 3, 0, 0})    // a short one, and a fault
	f.Add(bytes.Repeat([]byte{0, 20}, 60))                        // to the limit of an IP packet
	f.Add(bytes.Repeat([]byte{0, 0, 1, 0, 2, 0, 3, 0, 4, 0}, 30)) // to the limit of parts
	f.Fuzz(func(t *testing.T, data []byte) { checkMerge(t, program(t, data)) })
}

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
