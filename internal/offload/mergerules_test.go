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
