package offload_test

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/offload"
)

func TestAVirtioHeaderIsReadAndWrittenAsTheKernelHasIt(t *testing.T) {
	// struct virtio_net_hdr: flags, gso_type, hdr_len, gso_size, csum_start, csum_offset.
	want := []byte{1, 0x81}
	for _, v := range []uint16{0x1122, 0x3344, 0x5566, 0x7788} {
		want = binary.NativeEndian.AppendUint16(want, v)
	}
	o := frame.Offload{Flags: frame.NeedsCsum, GSO: frame.GSOTCPv4 | frame.GSOECN, HdrLen: 0x1122, GSOSize: 0x3344, CsumStart: 0x5566, CsumOffset: 0x7788}
	got := bytes.Repeat([]byte{0xee}, offload.HeaderLen+1)
	offload.Put(got, o)
	if !bytes.Equal(got[:offload.HeaderLen], want) || got[offload.HeaderLen] != 0xee {
		t.Errorf("wrote % x, want % x", got, want)
	}
	if back := offload.Get(want); back != o {
		t.Errorf("read %+v, want %+v", back, o)
	}
	want[0] = 0xff // flags that nobody here knows are not passed on
	if back := offload.Get(want); back.Flags != frame.NeedsCsum|frame.DataValid {
		t.Errorf("flags %#x", back.Flags)
	}
}

func TestALyingVirtioHeaderIsRefused(t *testing.T) {
	tcp4, tcp6, udp4, udp6 := plain(false, false), plain(true, false), plain(false, true), plain(true, true)
	fragment, short := udp4, tcp4
	fragment.more = true
	short.padding = 4
	type change func(b []byte, o *frame.Offload)
	for _, c := range []struct {
		what   string
		p      packet
		change change
	}{
		{"no partial checksum", tcp4, func(_ []byte, o *frame.Offload) { o.Flags = 0 }},
		{"TCP over IPv6 in IPv4", tcp4, func(_ []byte, o *frame.Offload) { o.GSO = frame.GSOTCPv6 }},
		{"TCP over IPv4 in IPv6", tcp6, func(_ []byte, o *frame.Offload) { o.GSO = frame.GSOTCPv4 }},
		{"TCP that is UDP", udp4, func(_ []byte, o *frame.Offload) { o.GSO = frame.GSOTCPv4 }},
		{"UDP that is TCP", tcp6, func(_ []byte, o *frame.Offload) { o.GSO = frame.GSOUDPL4 }},
		{"UDP with ECN", udp4, func(_ []byte, o *frame.Offload) { o.GSO |= frame.GSOECN }},
		{"nothing with ECN", tcp4, func(_ []byte, o *frame.Offload) { o.GSO = frame.GSOECN }},
		{"fragments of UDP", udp4, func(_ []byte, o *frame.Offload) { o.GSO = frame.GSOUDP }},
		{"a type that there is not", tcp4, func(_ []byte, o *frame.Offload) { o.GSO = 9 }},
		{"segments of nothing", tcp4, func(_ []byte, o *frame.Offload) { o.GSOSize = 0 }},
		{"segments of 7 bytes", tcp6, func(_ []byte, o *frame.Offload) { o.GSOSize = 7 }},
		{"more datagrams than anybody sends at once", udp6, func(_ []byte, o *frame.Offload) { o.GSOSize = 2 }},
		{"a checksum of other bytes", tcp4, func(_ []byte, o *frame.Offload) { o.CsumStart -= 20 }},
		{"a checksum of TCP in UDP", udp4, func(_ []byte, o *frame.Offload) { o.CsumOffset = 16 }},
		{"a checksum of UDP in TCP", tcp6, func(_ []byte, o *frame.Offload) { o.CsumOffset = 6 }},
		{"a checksum deep inside UDP", udp4, func(_ []byte, o *frame.Offload) { o.CsumStart += 58; o.CsumOffset = 16 }},
		{"TCP by all looks that is UDP", udp4, func(b []byte, o *frame.Offload) { o.GSO = frame.GSOTCPv4; b[udp4.l4()+12] = 0x50 }},
		{"a fragment", fragment, func([]byte, *frame.Offload) {}},
		{"padding", short, func([]byte, *frame.Offload) {}},
		{"a TCP header of 16 bytes", tcp4, func(b []byte, _ *frame.Offload) { b[tcp4.l4()+12] = 0x40 }},
		{"a TCP header beyond the frame", packet{ttl: 1, flags: ack, payload: make([]byte, 30)}, func(b []byte, _ *frame.Offload) { b[34+12] = 0xf0 }},
	} {
		b, o := c.p.super(t, 100)
		if c.p.padding == 0 && !c.p.more && !offload.Check(load(t, b, o)) {
			t.Errorf("%s: the truth was refused as well", c.what)
		}
		c.change(b, &o)
		if offload.Check(load(t, b, o)) {
			t.Errorf("%s: taken", c.what)
		}
	}
}

func TestDatagramsMayBeOfAnyLengthButNotOfAnyNumber(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		for _, c := range []struct {
			payload, size int
			want          bool
		}{{30, 1, true}, {128, 1, true}, {129, 1, false}, {128 * 7, 7, true}, {128*7 + 1, 7, false}, {128 * 400, 400, true}, {128*400 + 1, 400, false}} {
			p := plain(v6, true)
			p.payload = noise(c.payload, 3)
			b, o := p.super(t, c.size)
			f := load(t, b, o)
			if got := offload.Check(f); got != c.want || got && len(split(t, f)) != (c.payload+c.size-1)/c.size {
				t.Errorf("v6 %v: %d bytes in datagrams of %d: %v", v6, c.payload, c.size, got)
			}
		}
	}
}

func TestAChecksumIsCompletedOnlyWhereNothingWasLookedAt(t *testing.T) {
	with := func(p packet, change func(*packet)) packet { change(&p); return p }
	arp := append(make([]byte, 12), append([]byte{8, 6, 0, 1, 8, 0, 6, 4, 0, 1}, make([]byte, 40)...)...)
	mpls := append(make([]byte, 12), append([]byte{0x88, 0x47}, make([]byte, 80)...)...)
	gre := plain(false, false).build(t)
	gre[14+9] = 47
	icmp := plain(false, false).build(t)
	icmp[14+9] = 1
	nested := plain(false, true)
	gre6 := plain(true, false).build(t)
	gre6[14+6] = 47
	behind := with(plain(true, false), func(p *packet) { p.extension = true }).build(t)
	behind[14+40] = 47
	cut := plain(false, false).build(t)[:100]
	for _, c := range []struct {
		what       string
		b          []byte
		start, off int
		want       bool
	}{
		{"TCP", plain(false, false).build(t), 34, 16, true},
		{"TCP over IPv6", plain(true, false).build(t), 54, 16, true},
		{"UDP", plain(false, true).build(t), 34, 6, true},
		{"UDP behind a tag and extensions", with(plain(true, true), func(p *packet) { p.tags, p.extension = 1, true }).build(t), 66, 6, true},
		{"TCP inside a guest's VXLAN", nested.build(t), 34 + 8 + 8 + 34, 16, true},
		{"TCP inside a guest's GRE", gre, 34 + 4 + 20, 16, true},
		{"TCP inside MPLS", mpls, 14 + 4 + 20, 16, true},
		{"the source MAC", mpls, 6, 0, false},
		{"the tag", with(plain(false, true), func(p *packet) { p.tags = 1 }).build(t), 14, 0, false},
		{"the tag of something unknown", append(append(make([]byte, 12), 0x81, 0, 0, 1, 0x88, 0x47), make([]byte, 80)...), 14, 0, false},
		{"the IPv4 source", plain(false, true).build(t), 14, 12, false},
		{"the IPv6 destination", plain(true, true).build(t), 14, 38, false},
		{"the source of GRE", gre, 14, 12, false},
		{"GRE's IPv4 header from within", gre, 32, 0, false},
		{"the sender in ARP", arp, 14, 14, false},
		{"the end of ARP", arp, 40, 0, false},
		{"what is behind ARP", append(arp, make([]byte, 40)...), 60, 0, false},
		{"something unknown behind a tag", append(append(make([]byte, 12), 0x81, 0, 0, 1, 0x88, 0x47), make([]byte, 80)...), 60, 0, false},
		{"IPv4 that is cut short", cut, 60, 0, false},
		{"GRE over IPv6", gre6, 54 + 4 + 20, 16, true},
		{"the flow label of GRE", gre6, 14, 2, false},
		{"GRE behind extensions", behind, 14 + 48 + 4, 16, false},
		{"TCP inside TCP", plain(false, false).build(t), 34 + 60, 16, false},
		{"the ports of UDP", plain(false, true).build(t), 34, 2, false},
		{"the ports of UDP from within", plain(false, true).build(t), 36, 0, false},
		{"the flags of TCP", plain(false, false).build(t), 34, 12, false},
		{"TCP's urgent pointer from within", plain(false, false).build(t), 52, 0, false},
		{"the type of ICMP", icmp, 34, 0, false},
		{"a fragment", with(plain(false, true), func(p *packet) { p.more = true }).build(t), 34, 6, false},
		{"what is beyond the end", plain(false, true).build(t), 34 + 1000, 7, false},
	} {
		f := load(t, c.b, frame.Offload{Flags: frame.NeedsCsum, CsumStart: uint16(c.start), CsumOffset: uint16(c.off)})
		if got := offload.Check(f); got != c.want {
			t.Errorf("%s: %v", c.what, got)
		}
	}
}

func TestWhatAVirtioHeaderSaysNeedlesslyIsCleared(t *testing.T) {
	f := load(t, plain(false, false).build(t), frame.Offload{Flags: frame.DataValid, HdrLen: 60000, GSOSize: 3, CsumStart: 60000, CsumOffset: 60000})
	if !offload.Check(f) || f.Offload != (frame.Offload{Flags: frame.DataValid}) {
		t.Errorf("a plain frame: %+v", f.Offload)
	}
	p := plain(true, false)
	b, o := p.super(t, 100)
	for _, lie := range []uint16{0, 1, 65535} {
		o.HdrLen = lie
		if f = load(t, b, o); !offload.Check(f) || int(f.Offload.HdrLen) != p.header() {
			t.Errorf("headers of %d bytes: %+v", lie, f.Offload)
		}
	}
	o.GSOSize = 1000 // of 1000
	if f = load(t, b, o); !offload.Check(f) || f.Offload.GSO != frame.GSONone || f.Offload.GSOSize != 0 || f.Offload.Flags != frame.NeedsCsum {
		t.Errorf("a super-frame of one segment: %+v", f.Offload)
	}
}

func TestASuperFrameWithoutAHeaderIsGuessed(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		p := plain(v6, false)
		p.payload = noise(9000, 4)
		b, o := p.super(t, 0)
		partial := frame.Offload{Flags: frame.NeedsCsum, CsumStart: o.CsumStart, CsumOffset: o.CsumOffset}
		f := load(t, b, partial)
		if !offload.Guess(f, 1500, 0) || f.Offload.GSO != o.GSO || int(f.Offload.GSOSize) != 1500-(p.header()-p.l3()) {
			t.Errorf("v6 %v: TCP is %+v", v6, f.Offload)
		}
		if f = load(t, b, partial); offload.Guess(f, 9200, 0) || f.Offload != partial {
			t.Errorf("v6 %v: what fits the MTU is %+v", v6, f.Offload)
		}
		if f = load(t, append(b, 0), partial); offload.Guess(f, 1500, 0) || f.Offload != partial {
			t.Errorf("v6 %v: padded TCP is %+v", v6, f.Offload)
		}
		p.udp = true
		b, o = p.super(t, 0)
		partial.CsumOffset = o.CsumOffset
		if f = load(t, b, partial); !offload.Guess(f, 1500, 1200) || f.Offload.GSO != frame.GSOUDPL4 || f.Offload.GSOSize != 1200 {
			t.Errorf("v6 %v: UDP is %+v", v6, f.Offload)
		}
		// Datagrams keep their bounds, also where one might fit.
		if f = load(t, b, partial); !offload.Guess(f, 9200, 100) || f.Offload.GSOSize != 100 {
			t.Errorf("v6 %v: small UDP is %+v", v6, f.Offload)
		}
		if f = load(t, b, partial); offload.Guess(f, 1500, 0) || f.Offload != partial {
			t.Errorf("v6 %v: UDP of unknown size is %+v", v6, f.Offload)
		}
		if f = load(t, b, partial); offload.Guess(f, 1500, 9000) {
			t.Errorf("v6 %v: one datagram is %+v", v6, f.Offload)
		}
	}
}

// FuzzCheck takes frames and virtio headers as they come: whatever Check lets
// through can be split, merged and finished, and says nothing new of itself.
func FuzzCheck(f *testing.F) {
	add := func(p packet, mss int) {
		b, o := p.super(f, mss)
		h := make([]byte, offload.HeaderLen)
		offload.Put(h, o)
		f.Add(h, b)
	}
	for k := range 4 {
		add(plain(k&1 != 0, k&2 != 0), 100) // one of each kind
	}
	r := rand.New(rand.NewPCG(5, 5))
	for range 8 {
		p, mss := anySuper(r)
		p.payload = p.payload[:min(len(p.payload), 300)]
		add(p, mss) // tags, options, extension headers
	}
	f.Fuzz(func(t *testing.T, header, b []byte) {
		if len(header) < offload.HeaderLen || len(b) < frame.EthernetLen || len(b) > frame.MaxLen {
			return
		}
		// A frame with nothing behind it that could be read by mistake.
		fr := load(t, bytes.Clone(b), offload.Get(header))
		fr.SetLen(len(b))
		var m offload.Merger
		m.Start(fr, 0)
		m.Extend(b, 0)
		m.Finish()
		m.Reset()
		fr = load(t, b, offload.Get(header))
		if !offload.Check(fr) {
			return
		}
		if fr.Offload.GSO == frame.GSONone {
			info := fr.Info
			fr.FinishChecksum()
			if fr.Parse(); fr.Info != info {
				t.Fatalf("completing the checksum changed %+v to %+v", info, fr.Info)
			}
			return
		}
		n := 0
		for k, s := range split(t, fr) {
			n += len(s) - int(fr.Offload.HdrLen)
			if k > 8192 {
				t.Fatal("more segments than bytes")
			}
		}
		if n != fr.Len()-int(fr.Offload.HdrLen) {
			t.Fatalf("%d bytes of payload became %d", fr.Len()-int(fr.Offload.HdrLen), n)
		}
	})
}

func TestATransportHeaderTooFarOffToBeToldIsNotSplit(t *testing.T) {
	o := frame.Offload{Flags: frame.NeedsCsum, GSO: frame.GSOUDPL4, GSOSize: 8, CsumStart: 10, CsumOffset: 6}
	if f := load(t, farAway(), o); offload.Check(f) {
		t.Errorf("taken: %+v", f.Info)
	}
}

// farAway is a UDP datagram whose header begins at byte 65546.
func farAway() []byte {
	b := make([]byte, 12, frame.MaxLen)
	for len(b) < 65524 {
		b = append(b, 0x81, 0, 0, 1)
	}
	b = append(b, 0x08, 0x00, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2)
	return append(b, 0, 1, 0, 2, 0, 8, 0, 0)
}
