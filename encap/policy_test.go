package encap_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/uvtep/uvtep/encap"
)

// The oracle is gopacket, but for the A flag, which it has at bit 8 of the word:
// the draft's figure, and Linux, have it at bit 12.
func TestAPolicyHeaderIsTheOneThatGopacketWrites(t *testing.T) {
	for _, group := range []uint16{0, 1, 0x1234, 0xffff} {
		for _, flags := range []encap.Policy{0, encap.PolicyApplied, encap.PolicyDontLearn, encap.PolicyApplied | encap.PolicyDontLearn} {
			want := gopacket.NewSerializeBuffer()
			h := layers.VXLAN{ValidIDFlag: true, VNI: 0x5a5a5a, GBPExtension: group != 0, GBPGroupPolicyID: group,
				GBPDontLearn: flags&encap.PolicyDontLearn != 0}
			if err := h.SerializeTo(want, gopacket.SerializeOptions{}); err != nil {
				t.Fatal(err)
			}
			if flags&encap.PolicyApplied != 0 {
				want.Bytes()[1] |= 0x80 >> (12 % 8)
			}
			p := encap.GroupPolicy(group) | flags
			got := make([]byte, encap.HeaderLen)
			encap.PutPolicyHeader(got, 0x5a5a5a, p)
			if !bytes.Equal(got, want.Bytes()) {
				t.Errorf("group %d, flags %#x: % x, want % x", group, flags, got, want.Bytes())
			}
			if group == 0 {
				p &= encap.PolicyDontLearn // what the A flag belongs to is not there
			}
			v, back, f := encap.ParsePolicyHeader(got, false)
			if v != 0x5a5a5a || back != p || f != encap.OK || back.Group() != group {
				t.Errorf("group %d, flags %#x: read back as VNI %v, %#x of group %d, fault %d", group, flags, v, back, back.Group(), f)
			}
		}
	}
}

func TestAHeaderWithoutATagIsTheSameEitherWay(t *testing.T) {
	a, b := make([]byte, encap.HeaderLen), make([]byte, encap.HeaderLen)
	encap.PutHeader(a, 77)
	encap.PutPolicyHeader(b, 77, 0)
	if !bytes.Equal(a, b) {
		t.Errorf("% x and % x", a, b)
	}
	// Nothing but a tag's bits gets into a header.
	encap.PutPolicyHeader(b, 77, 0x7fb70000)
	if !bytes.Equal(a, b) {
		t.Errorf("% x and % x", a, b)
	}
}

func TestTheBitsOfTheExtensionAreNotReservedWhereItIsSpoken(t *testing.T) {
	for bit := range 32 {
		for _, tagged := range []bool{false, true} {
			w := uint32(0x08000000)
			if tagged {
				w |= 0x80000000
			}
			w |= 1 << bit
			h := binary.BigEndian.AppendUint32(nil, w)
			h = append(h, 0, 0, 77, 0)
			own := bit == 31 || bit == 27 || bit == 22 || w>>31 == 1 && (bit == 19 || bit < 16)
			_, p, f := encap.ParsePolicyHeader(h, true)
			if (f == encap.OK) != own {
				t.Errorf("bit %d, tagged %v: fault %d", bit, tagged, f)
			}
			if _, lenient, f := encap.ParsePolicyHeader(h, false); f != encap.OK || own && lenient != p {
				t.Errorf("bit %d, tagged %v, lenient: %#x, want %#x; fault %d", bit, tagged, lenient, p, f)
			}
			if _, f := encap.ParseHeader(h, true); (f == encap.OK) != (w == 0x08000000) {
				t.Errorf("bit %d, tagged %v, where the extension is not spoken: fault %d", bit, tagged, f)
			}
		}
	}
	for n := range encap.HeaderLen {
		if _, _, f := encap.ParsePolicyHeader(make([]byte, n), false); f != encap.Short {
			t.Errorf("%d bytes: fault %d", n, f)
		}
	}
	if _, _, f := encap.ParsePolicyHeader([]byte{0x80, 0, 0, 7, 0, 0, 77, 0}, false); f != encap.NoVNI {
		t.Errorf("a tag without the I flag: fault %d", f)
	}
	if _, _, f := encap.ParsePolicyHeader([]byte{0x88, 0, 0, 7, 0, 0, 77, 1}, true); f != encap.Reserved {
		t.Errorf("the last byte: fault %d", f)
	}
}

func FuzzParsePolicyHeader(f *testing.F) {
	f.Add([]byte{0x88, 0x48, 0, 7, 0, 0, 100, 0}, true)  // a tag with both flags
	f.Add([]byte{0x08, 0x48, 0, 7, 0, 0, 100, 0}, false) // the same without G
	f.Add([]byte{0x88, 0, 0, 7, 0, 0, 100}, false)       // one byte short
	f.Fuzz(func(t *testing.T, b []byte, strict bool) {
		v, p, fault := encap.ParsePolicyHeader(b, strict)
		if want, plain := encap.ParseHeader(b, false); fault != encap.Reserved && (fault != plain || v != want) {
			t.Fatalf("VNI %v, fault %d; without the extension %v, %d", v, fault, want, plain)
		}
		if fault != encap.OK {
			if p != 0 || !strict && fault == encap.Reserved {
				t.Fatalf("fault %d, tag %#x", fault, p)
			}
			return
		}
		again := make([]byte, encap.HeaderLen)
		encap.PutPolicyHeader(again, v, p)
		if strict && !bytes.Equal(again, b[:encap.HeaderLen]) {
			t.Fatalf("% x was accepted and is written as % x", b[:encap.HeaderLen], again)
		}
	})
}
