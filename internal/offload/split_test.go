package offload_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/offload"
)

// slowSplit is what a sender without offloads had sent: packets of their own, one
// after the other.
func slowSplit(t testing.TB, p packet, mss int) (all [][]byte) {
	t.Helper()
	for at, k := 0, 0; at < len(p.payload); at, k = at+mss, k+1 {
		s := p
		s.payload = p.payload[at:min(at+mss, len(p.payload))]
		s.seq += uint32(at)
		s.id += uint16(k)
		if k > 0 {
			s.flags &^= cwr
		}
		if at+mss < len(p.payload) {
			s.flags &^= fin | psh
		}
		all = append(all, s.build(t))
	}
	return all
}

// checkSplit holds a super-frame's segments against the slow ones.
func checkSplit(t testing.TB, p packet, mss int) {
	t.Helper()
	b, o := p.super(t, mss)
	f := load(t, b, o)
	if !offload.Check(f) {
		t.Fatalf("a super-frame was refused: %+v, %+v", f.Offload, f.Info)
	}
	if f.Offload.GSO == frame.GSONone {
		if len(p.payload) > mss {
			t.Fatalf("%d bytes became a plain frame", len(p.payload))
		}
		f.FinishChecksum()
		if !bytes.Equal(f.Bytes(), p.build(t)) {
			t.Fatal("a super-frame of one segment became another frame")
		}
		return
	}
	before := bytes.Clone(f.Bytes())
	got, want := split(t, f), slowSplit(t, p, mss)
	if !bytes.Equal(before, f.Bytes()) {
		t.Fatal("splitting changed the super-frame")
	}
	if len(got) != len(want) {
		t.Fatalf("%d segments, want %d", len(got), len(want))
	}
	var s offload.Splitter
	s.Init(f)
	for k := range got {
		if !bytes.Equal(got[k], want[k]) {
			t.Fatalf("segment %d of %d is\n% x, want\n% x", k, len(got), got[k], want[k])
		}
		verify(t, got[k], p.l3(), p.l4())
		if n := len(got[k]); k < len(got)-1 && n != s.Size() || n > s.Size() {
			t.Fatalf("segment %d of %d has %d bytes of %d", k, len(got), n, s.Size())
		}
	}
}

// any is a super-frame of any kind.
func anySuper(r *rand.Rand) (packet, int) {
	coin := func() bool { return r.IntN(2) == 0 }
	p := packet{dst: 1, src: 2, tags: r.IntN(3), v6: coin(), udp: coin(), tos: uint8(r.Uint32()), ttl: uint8(r.Uint32()), label: r.Uint32() & 0xfffff,
		id: uint16(r.Uint32()), df: coin(), options: r.IntN(4) == 0, extension: r.IntN(4) == 0, from: 1, to: 2,
		sport: uint16(r.Uint32()), dport: uint16(r.Uint32()), seq: r.Uint32(), ack: r.Uint32(), flags: byte(r.Uint32()), window: uint16(r.Uint32()),
		timestamp: r.Uint32() & uint32(-r.IntN(2)), payload: make([]byte, 1+r.IntN(1<<(4+r.IntN(13))-1))}
	if p.options {
		p.v6 = false
	}
	p.payload = p.payload[:min(len(p.payload), 65535-(p.header()-p.l3()))]
	for i := range p.payload {
		p.payload[i] = byte(r.Uint32())
	}
	mss := 8 + r.IntN(1<<(1+r.IntN(12)))
	if p.udp {
		mss = max(mss, (len(p.payload)+127)/128) // as many datagrams as there may be
	}
	return p, mss
}

func TestEverySegmentIsWhatASenderWithoutOffloadsHadSent(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 1))
	for range 1500 {
		p, mss := anySuper(r)
		if len(p.payload)/mss > 200 {
			mss += len(p.payload) / 200
		}
		checkSplit(t, p, mss)
	}
}

func TestSplittingMindsItsEdges(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		for _, udp := range []bool{false, true} {
			p := plain(v6, udp)
			for _, n := range []int{1, 999, 1000, 1001, 1999, 2000, 2001, 65535 - (p.header() - p.l3())} {
				p.payload = noise(n, 7)
				checkSplit(t, p, 1000)
			}
		}
	}
	p := plain(false, false)
	p.payload = noise(5000, 2)
	p.id, p.df = 0xfffe, false // wraps at the third segment
	p.seq = 0xfffff000         // and so does this, at the fifth
	for flags := range 256 {
		p.flags = byte(flags)
		checkSplit(t, p, 1000)
	}
}

func TestAUDPSegmentWhoseChecksumComesOutZeroHasAllOnes(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		p := plain(v6, true)
		p.payload = make([]byte, 200)
		// The word that brings the first segment's sum to zero.
		one := p
		one.payload = p.payload[:100]
		b := one.build(t)
		copy(p.payload, b[p.l4()+6:p.l4()+8])
		super, o := p.super(t, 100)
		f := load(t, super, o)
		if !offload.Check(f) {
			t.Fatal("refused")
		}
		first := split(t, f)[0]
		if got := binary.BigEndian.Uint16(first[p.l4()+6:]); got != 0xffff {
			t.Errorf("v6 %v: the checksum is %#x", v6, got)
		}
		verify(t, first, p.l3(), p.l4())
	}
}

func TestTheChecksumOfARoutedPacketCoversItsLastDestination(t *testing.T) {
	p := plain(true, false)
	p.payload = noise(3000, 5)
	super, o := p.super(t, 1000)
	// The partial checksum is that of fd00::2; now the packet is on its way to
	// another address, and the routing header has the last one.
	l3 := p.l3()
	routing := append([]byte{6, 2, 0, 1, 0, 0, 0, 0}, super[l3+24:l3+40]...)
	b := append(bytes.Clone(super[:l3+40]), append(routing, super[l3+40:]...)...)
	b[l3+6] = 43
	b[l3+39] = 99
	binary.BigEndian.PutUint16(b[l3+4:], uint16(len(b)-l3-40))
	o.CsumStart += 24
	f := load(t, b, o)
	if !offload.Check(f) {
		t.Fatalf("refused: %+v", f.Info)
	}
	for k, s := range split(t, f) {
		arrived := append(bytes.Clone(s[:l3+40]), s[l3+64:]...)
		arrived[l3+6] = 6
		copy(arrived[l3+24:], s[l3+48:l3+64])
		binary.BigEndian.PutUint16(arrived[l3+4:], uint16(len(arrived)-l3-40))
		if want := slowSplit(t, p, 1000)[k]; !bytes.Equal(arrived, want) {
			t.Fatalf("segment %d arrived as\n% x, want\n% x", k, arrived[:80], want[:80])
		}
	}
}

func TestSplittingAllocatesNothing(t *testing.T) {
	f, h := bigFrame(t, plain(false, false), 65000, 1398), make([]byte, 128)
	var s offload.Splitter
	if n := testing.AllocsPerRun(100, func() {
		offload.Check(f)
		s.Init(f)
		for k := range s.N() {
			s.Segment(k, h[:s.HeaderLen()])
		}
	}); n != 0 {
		t.Errorf("%v allocations a super-frame", n)
	}
}

func bigFrame(t testing.TB, p packet, n, mss int) *frame.Frame {
	p.payload = noise(n, 1)
	b, o := p.super(t, mss)
	f := load(t, b, o)
	if !offload.Check(f) {
		t.Fatal("refused")
	}
	return f
}

func FuzzSplit(f *testing.F) {
	f.Add(uint64(1), uint64(2))
	f.Fuzz(func(t *testing.T, a, b uint64) {
		p, mss := anySuper(rand.New(rand.NewPCG(a, b)))
		checkSplit(t, p, mss)
	})
}

func BenchmarkSplit(b *testing.B) {
	for _, c := range []struct {
		v6, udp bool
		mss     int
	}{{false, false, 1398}, {true, false, 1378}, {false, true, 1422}} {
		b.Run(fmt.Sprintf("v6=%v/udp=%v/mss=%d", c.v6, c.udp, c.mss), func(b *testing.B) {
			p := plain(c.v6, c.udp)
			n := 65535 - (p.header() - p.l3())
			f, h := bigFrame(b, p, n, c.mss), make([]byte, 128)
			var s offload.Splitter
			b.SetBytes(int64(n))
			for b.Loop() {
				s.Init(f)
				for k := range s.N() {
					s.Segment(k, h[:s.HeaderLen()])
				}
			}
		})
	}
}
