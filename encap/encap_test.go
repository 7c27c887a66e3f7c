package encap_test

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/uvtep/uvtep/encap"
)

// The oracle is gopacket's own serialiser.
func TestAHeaderIsTheOneThatGopacketWrites(t *testing.T) {
	for range 1000 {
		vni := encap.VNI(1 + rand.Uint32N(uint32(encap.MaxVNI)))
		want := gopacket.NewSerializeBuffer()
		h := layers.VXLAN{ValidIDFlag: true, VNI: uint32(vni)}
		if err := h.SerializeTo(want, gopacket.SerializeOptions{}); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, encap.HeaderLen)
		encap.PutHeader(got, vni)
		if !bytes.Equal(got, want.Bytes()) {
			t.Fatalf("VNI %v: % x, want % x", vni, got, want.Bytes())
		}
		for _, strict := range []bool{false, true} {
			if v, f := encap.ParseHeader(got, strict); v != vni || f != encap.OK {
				t.Fatalf("VNI %v read back as %v, fault %d", vni, v, f)
			}
		}
	}
}

func TestReservedBitsAreIgnoredUnlessCheckingIsStrict(t *testing.T) {
	for bit := range 64 {
		b := make([]byte, encap.HeaderLen)
		encap.PutHeader(b, 0x5a5a5a)
		b[bit/8] ^= 0x80 >> (bit % 8)
		v, f := encap.ParseHeader(b, false)
		_, strict := encap.ParseHeader(b, true)
		switch {
		case bit == 4: // the I flag
			if f != encap.NoVNI || strict != encap.NoVNI {
				t.Errorf("without the I flag: faults %d and %d", f, strict)
			}
		case bit >= 32 && bit < 56: // the VNI
			if f != encap.OK || strict != encap.OK || v == 0x5a5a5a {
				t.Errorf("VNI bit %d: %v, faults %d and %d", bit, v, f, strict)
			}
		default:
			if f != encap.OK || v != 0x5a5a5a || strict != encap.Reserved {
				t.Errorf("reserved bit %d: %v, faults %d and %d", bit, v, f, strict)
			}
		}
	}
}

func TestOtherFlagsDoNotStandInForTheVNIs(t *testing.T) {
	for _, strict := range []bool{false, true} {
		if _, f := encap.ParseHeader([]byte{0xf7, 0xff, 0xff, 0xff, 0, 0, 100, 0}, strict); f != encap.NoVNI {
			t.Errorf("all flags but I, strict %v: fault %d, want NoVNI", strict, f)
		}
	}
}

func TestAShortHeaderIsAFault(t *testing.T) {
	for n := range encap.HeaderLen {
		if _, f := encap.ParseHeader(make([]byte, n), false); f != encap.Short {
			t.Errorf("%d bytes: fault %d, want Short", n, f)
		}
	}
}

func FuzzParseHeader(f *testing.F) {
	f.Add([]byte{8, 0, 0, 0, 0, 0, 100, 0}, true)     // a good one
	f.Add([]byte{8, 0, 0, 0, 0, 0, 100}, false)       // one byte short
	f.Add([]byte{0xff, 0, 0, 0, 0, 0, 100, 1}, false) // reserved bits and I
	f.Fuzz(func(t *testing.T, b []byte, strict bool) {
		v, fault := encap.ParseHeader(b, strict)
		if fault != encap.OK {
			return
		}
		again := make([]byte, encap.HeaderLen)
		encap.PutHeader(again, v)
		if strict && !bytes.Equal(again, b[:encap.HeaderLen]) {
			t.Fatalf("% x was accepted strictly and is written as % x", b[:8], again)
		}
		var oracle layers.VXLAN
		if err := oracle.DecodeFromBytes(b, gopacket.NilDecodeFeedback); err != nil || !oracle.ValidIDFlag || oracle.VNI != uint32(v) {
			t.Fatalf("% x: VNI %v, by gopacket %+v, %v", b[:8], v, oracle, err)
		}
	})
}

func TestAVNIIsReadWithinItsRange(t *testing.T) {
	for s, want := range map[string]encap.VNI{"1": 1, "100": 100, "16777215": encap.MaxVNI} {
		if v, err := encap.ParseVNI(s); v != want || err != nil {
			t.Errorf("ParseVNI(%q) = %v, %v", s, v, err)
		}
	}
	for _, s := range []string{"", "0", "16777216", "-1", "0x10", "1e3", "99999999999999999999"} {
		if v, err := encap.ParseVNI(s); err == nil {
			t.Errorf("ParseVNI(%q) = %v, want an error", s, v)
		}
	}
}

func TestOverheadIsThatOfTheUnderlaysFamily(t *testing.T) {
	for addr, want := range map[string]int{"10.0.0.1": 50, "::ffff:10.0.0.1": 50, "2001:db8::1": 70} {
		if got := encap.Overhead(netip.MustParseAddr(addr)); got != want {
			t.Errorf("over %s: %d bytes, want %d", addr, got, want)
		}
	}
}

// RFC 6040 figure 4: rows are the inner field, columns the outer one, in the
// order Not-ECT, ECT(0), ECT(1), CE.
func TestDecapsulationFollowsTheTableOfRFC6040(t *testing.T) {
	const drop = 0xff
	order := [4]uint8{encap.NotECT, encap.ECT0, encap.ECT1, encap.CE}
	table := [4][4]uint8{
		{encap.NotECT, encap.NotECT, encap.NotECT, drop},
		{encap.ECT0, encap.ECT0, encap.ECT1, encap.CE},
		{encap.ECT1, encap.ECT1, encap.ECT1, encap.CE},
		{encap.CE, encap.CE, encap.CE, encap.CE},
	}
	for i, inner := range order {
		for o, outer := range order {
			got, dropped := encap.InnerECN(0xb8|outer, 0x48|inner)
			if want := table[i][o]; dropped != (want == drop) || !dropped && got != want {
				t.Errorf("inner %d, outer %d: %d, dropped %v; want %d", inner, outer, got, dropped, want)
			}
		}
	}
}

func TestEncapsulationCopiesECNWhateverTheDSCP(t *testing.T) {
	for inner := range 256 {
		if got := encap.OuterTOS(uint8(inner), -1); got != uint8(inner) {
			t.Errorf("inherited TOS of %#x is %#x", inner, got)
		}
		if got, want := encap.OuterTOS(uint8(inner), 0xb8), 0xb8|uint8(inner)&3; got != want {
			t.Errorf("TOS of %#x with DSCP EF is %#x, want %#x", inner, got, want)
		}
	}
}
