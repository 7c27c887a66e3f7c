package fdb

import (
	"encoding/json"
	"errors"
	"net"
	"testing"
)

func TestAMACIsParsedInEveryUsualForm(t *testing.T) {
	const want MAC = 0x02_00_5e_aB_cD_01
	for _, s := range []string{"02:00:5e:ab:cd:01", "02-00-5E-AB-CD-01", "0200.5eab.cd01", "02005eabcd01"} {
		m, err := ParseMAC(s)
		if err != nil || m != want {
			t.Errorf("ParseMAC(%q) = %v, %v", s, m, err)
		}
	}
	for _, s := range []string{
		"", "02", "02:00:5e:ab:cd", "02:00:5e:ab:cd:0g", "02:00-5e:ab:cd:01", "02.00.5e.ab.cd.01", "0200:5eab:cd01",
		"02:00:5e:ab:cd:01:", "2:0:5e:ab:cd:1", "020:05:eab:cd:01", "+2:00:5e:ab:cd:01", "02:00:5e:ab:cd:01:02:03",
	} {
		if m, err := ParseMAC(s); !errors.Is(err, ErrBadMAC) {
			t.Errorf("ParseMAC(%q) = %v, %v; want ErrBadMAC", s, m, err)
		}
	}
}

func TestAMACIsTheSixBytesOnTheWire(t *testing.T) {
	b := []byte{0x02, 0x11, 0x22, 0x33, 0x44, 0x55, 0xff}
	m := MACOf(b)
	if m != 0x02_11_22_33_44_55 {
		t.Fatalf("MACOf = %#x", uint64(m))
	}
	if m.Bytes() != [6]byte(b[:6]) {
		t.Errorf("Bytes = %x", m.Bytes())
	}
	p := make([]byte, 7)
	m.Put(p)
	if [6]byte(p) != m.Bytes() || p[6] != 0 {
		t.Errorf("Put = %x", p)
	}
	if s := m.String(); s != net.HardwareAddr(b[:6]).String() {
		t.Errorf("String = %s", s)
	}
	j, err := json.Marshal(map[string]MAC{"mac": m})
	if err != nil || string(j) != `{"mac":"02:11:22:33:44:55"}` {
		t.Errorf("JSON = %s, %v", j, err)
	}
	var back map[string]MAC
	if err := json.Unmarshal(j, &back); err != nil || back["mac"] != m {
		t.Errorf("from JSON = %v, %v", back, err)
	}
	if err := json.Unmarshal([]byte(`{"mac":"x"}`), &back); err == nil {
		t.Error("a bad MAC was read from JSON")
	}
}

func TestGroupAddressesAreTold(t *testing.T) {
	for s, group := range map[string]bool{
		"ff:ff:ff:ff:ff:ff": true, "01:00:5e:00:00:01": true, "33:33:00:00:00:01": true,
		"02:00:00:00:00:01": false, "fe:ff:ff:ff:ff:ff": false, "00:00:00:00:00:00": false,
	} {
		m, err := ParseMAC(s)
		if err != nil {
			t.Fatal(err)
		}
		if m.IsGroup() != group {
			t.Errorf("%s: IsGroup = %v", s, !group)
		}
		if m.IsZero() != (m == 0) {
			t.Errorf("%s: IsZero = %v", s, m.IsZero())
		}
	}
}

func TestADestinationIsWhatItWasMadeOf(t *testing.T) {
	for _, i := range []uint32{0, 1, 77, MaxIndex} {
		l, r := Local(i), Remote(i)
		if !l.IsLocal() || l.IsRemote() || l.Index() != i {
			t.Errorf("Local(%d) = %v", i, l)
		}
		if !r.IsRemote() || r.IsLocal() || r.Index() != i {
			t.Errorf("Remote(%d) = %v", i, r)
		}
		if l == r || l == 0 || r == 0 || l == Self || r == Self {
			t.Errorf("destinations of %d are not distinct", i)
		}
	}
	for d, want := range map[Dst]string{0: "none", Self: "self", Local(3): "local 3", Remote(0): "remote 0"} {
		if d.String() != want {
			t.Errorf("%#x: %s, want %s", uint32(d), d, want)
		}
	}
	if d := Dst(0); d.IsLocal() || d.IsRemote() || Self.IsLocal() || Self.IsRemote() {
		t.Error("none and self are neither local nor remote")
	}
}

// The oracle takes what the standard library takes, and besides twelve digits.
func FuzzParseMAC(f *testing.F) {
	f.Add("02:00:00:00:00:01")       // usual
	f.Add("02-00-00-00-00-01")       // Windows
	f.Add("0200.0000.0001")          // Cisco
	f.Add("020000000001")            // bare
	f.Add("02:00:00:00:00:00:00:01") // EUI-64: not ours
	f.Add("02:00-00:00:00:01")       // mixed separators
	f.Fuzz(func(t *testing.T, s string) {
		m, err := ParseMAC(s)
		if err == nil {
			if again, err := ParseMAC(m.String()); err != nil || again != m || m > Broadcast {
				t.Fatalf("%q is %v, which is %v, %v", s, m, again, err)
			}
		}
		if len(s) == 12 {
			return
		}
		hw, oracle := net.ParseMAC(s)
		if want := oracle == nil && len(hw) == 6; want != (err == nil) {
			t.Fatalf("%q: %v; the standard library: %v, %v", s, err, hw, oracle)
		} else if want && MACOf(hw) != m {
			t.Fatalf("%q is %v, want %v", s, m, hw)
		}
	})
}
