package frame_test

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/uvtep/uvtep/internal/frame"
)

// tagged is a frame with a tag more, as gopacket writes it.
func tagged(t testing.TB, b []byte, vid uint16, priority uint8) []byte {
	p := gopacket.NewPacket(b, layers.LayerTypeEthernet, gopacket.Default)
	eth := *p.Layer(layers.LayerTypeEthernet).(*layers.Ethernet)
	tag := &layers.Dot1Q{VLANIdentifier: vid, Priority: priority, Type: eth.EthernetType}
	eth.EthernetType = layers.EthernetTypeDot1Q
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{}, &eth, tag, gopacket.Payload(b[frame.EthernetLen:])); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestATagComesOutAndGoesInAsGopacketWritesIt(t *testing.T) {
	for range 3000 {
		plain := random(t)
		vid := uint16(rand.N(frame.MaxVLAN + 1))
		f := load(t, tagged(t, plain, vid, uint8(rand.N(8))))
		if got, is, whole := f.VLAN(); got != vid || !is || !whole {
			t.Fatalf("VLAN %d is told as %d, %v, %v", vid, got, is, whole)
		}
		f.PopTag()
		if !bytes.Equal(f.Bytes(), plain) {
			t.Fatalf("the tag comes out of\n%x as\n%x", plain, f.Bytes())
		}
		// Other frames have these bytes, and somebody uses what is in front of them.
		room := [frame.TagLen]byte{1, 2, 3, 4}
		copy(f.Room(frame.TagLen), room[:])
		was := f.PushTag(vid)
		if want := tagged(t, plain, vid, 0); !bytes.Equal(f.Bytes(), want) {
			t.Fatalf("the tag goes into\n%x as\n%x, want\n%x", plain, f.Bytes(), want)
		}
		f.Untag(was)
		if !bytes.Equal(f.Bytes(), plain) || !bytes.Equal(f.Room(frame.TagLen), room[:]) {
			t.Fatalf("what is left is\n%x %x, want\n%x %x", f.Room(frame.TagLen), f.Bytes(), room, plain)
		}
	}
}

// What the virtio header says is held against the parser: the checksum that it
// means is the same one, tag or not.
func TestOffloadsFollowATag(t *testing.T) {
	for range 3000 {
		plain := random(t)
		f := load(t, plain)
		f.Parse()
		if f.Info.L4 == 0 {
			continue
		}
		want := frame.Offload{Flags: frame.NeedsCsum, GSO: frame.GSOTCPv4, GSOSize: 1000, CsumStart: f.Info.L4, CsumOffset: 6, HdrLen: f.Info.L4 + 8}
		f = load(t, tagged(t, plain, 7, 0))
		f.Parse()
		f.Offload = want
		f.Offload.CsumStart, f.Offload.HdrLen = f.Info.L4, f.Info.L4+8
		full := f.Offload
		f.PopTag()
		if f.Offload != want {
			t.Fatalf("without the tag: %+v, want %+v", f.Offload, want)
		}
		was := f.PushTag(7)
		if f.Offload != full {
			t.Fatalf("with it: %+v, want %+v", f.Offload, full)
		}
		if f.Untag(was); f.Offload != want {
			t.Fatalf("and without it again: %+v, want %+v", f.Offload, want)
		}
	}
}

func TestOffloadsThatDoNotFollowPointNowhere(t *testing.T) {
	for _, c := range []struct {
		o    frame.Offload
		n    int
		want frame.Offload
	}{
		{frame.Offload{}, 4, frame.Offload{}},
		{frame.Offload{HdrLen: 9, CsumStart: 9}, 4, frame.Offload{HdrLen: 9, CsumStart: 9}}, // they mean nothing
		{frame.Offload{Flags: frame.NeedsCsum, CsumStart: 3}, -4, frame.Offload{Flags: frame.NeedsCsum}},
		{frame.Offload{Flags: frame.NeedsCsum, CsumStart: 65533}, 4, frame.Offload{Flags: frame.NeedsCsum}},
		{frame.Offload{GSO: frame.GSOUDPL4, HdrLen: 3}, -4, frame.Offload{GSO: frame.GSOUDPL4}},
	} {
		got := c.o
		if got.Shift(c.n); got != c.want {
			t.Errorf("%+v by %d is %+v, want %+v", c.o, c.n, got, c.want)
		}
	}
}

func TestOnlyAWholeTagOf8021QIsOne(t *testing.T) {
	plain := make([]byte, 60)
	service := tagged(t, plain, 5, 0)
	service[12], service[13] = 0x88, 0xa8
	for _, c := range []struct {
		what          string
		b             []byte
		vid           uint16
		tagged, whole bool
	}{
		{"none", plain, 0, false, true},
		{"a priority", tagged(t, plain, 0, 7), 0, true, true},
		{"with a priority", tagged(t, plain, 4094, 7), 4094, true, true},
		{"two", tagged(t, tagged(t, plain, 5, 0), 6, 0), 6, true, true},
		{"a provider's", service, 0, false, true},
		{"cut off", tagged(t, plain, 5, 0)[:17], 0, true, false},
		{"nothing behind it", tagged(t, plain, 5, 0)[:18], 5, true, true},
	} {
		if vid, is, whole := load(t, c.b).VLAN(); vid != c.vid || is != c.tagged || whole != c.whole {
			t.Errorf("%s: %d, %v, %v", c.what, vid, is, whole)
		}
	}
}

func FuzzTagsComeOutAndGoBack(f *testing.F) {
	f.Add(tagged(f, make([]byte, 60), 101, 3))
	f.Add(tagged(f, tagged(f, make([]byte, 60), 101, 3), 4095, 0)) // two, of which one is reserved
	f.Add(tagged(f, make([]byte, 60), 101, 0)[:17])                // cut off
	f.Add(make([]byte, 14))                                        // none
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < frame.EthernetLen || len(b) > 4096 {
			return
		}
		g := load(t, b)
		vid, is, whole := g.VLAN()
		if !is || !whole {
			return
		}
		g.PopTag()
		if want := append(bytes.Clone(b[:12]), b[16:]...); !bytes.Equal(g.Bytes(), want) {
			t.Fatalf("%x without its tag is %x", b, g.Bytes())
		}
		g.PushTag(vid)
		b[14] &= 0x0f // the priority is not kept
		if !bytes.Equal(g.Bytes(), b) {
			t.Fatalf("%x came back as %x", b, g.Bytes())
		}
	})
}
