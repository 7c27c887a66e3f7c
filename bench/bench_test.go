package bench

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/uvtep/uvtep/fdb"
)

// Benchmark is every scenario, for go test -bench and benchstat.
func Benchmark(b *testing.B) {
	for _, s := range Scenarios() {
		b.Run(s.ID(), func(b *testing.B) {
			do, stop, err := s.Start()
			if err != nil {
				b.Fatal(err)
			}
			defer stop()
			b.ReportAllocs()
			b.ResetTimer()
			if err := do(b.N); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds()/1e6, "M/s")
		})
	}
}

func TestEveryScenarioRunsAndAllocatesNothing(t *testing.T) {
	ids := map[string]bool{}
	for _, s := range Scenarios() {
		if ids[s.ID()] {
			t.Errorf("%s is there twice", s.ID())
		}
		ids[s.ID()] = true
		t.Run(s.ID(), func(t *testing.T) {
			do, stop, err := s.Start()
			if err != nil {
				t.Fatal(err)
			}
			defer stop()
			// The race detector allocates as the goroutines wait for each other,
			// which is once a run; what the path allocated would be at least once
			// a batch. A table that changes allocates as it grows and shrinks.
			const n = 10_000
			if a := testing.AllocsPerRun(5, func() { err = errors.Join(err, do(n)) }); a > n/1000 && !s.Writer {
				t.Errorf("%v allocations in %d operations", a, n)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
}

func TestFramesThatAreLostAreAnError(t *testing.T) {
	r, err := newRig(Scenario{Frame: minFrame, Addresses: 10})
	if err != nil {
		t.Fatal(err)
	}
	defer r.stop()
	if err := r.carry(r.port, r.tunnel, 1000); err != nil {
		t.Fatal(err)
	}
	n := 0
	vary := r.port.vary
	r.port.vary = func(b []byte, i int) {
		vary(b, i)
		if n++; n%100 == 0 {
			fdb.MAC(0).Put(b[6:])
		}
	}
	err = r.carry(r.port, r.tunnel, 1000)
	if err == nil || !strings.Contains(err.Error(), "990 of 1000") || !strings.Contains(err.Error(), "bad_source") {
		t.Errorf("ten frames of a thousand are dropped: %v", err)
	}
}

// The frames are what they are called, by an independent parser.
func TestTheFramesAreWhatTheyAreCalled(t *testing.T) {
	for _, c := range []struct {
		what   string
		length int
		b      []byte
		want   []gopacket.LayerType
	}{
		{"the shortest", 64, udp4(64), []gopacket.LayerType{layers.LayerTypeEthernet, layers.LayerTypeIPv4, layers.LayerTypeUDP, gopacket.LayerTypePayload}},
		{"the longest", 1518, udp4(1518), []gopacket.LayerType{layers.LayerTypeEthernet, layers.LayerTypeIPv4, layers.LayerTypeUDP, gopacket.LayerTypePayload}},
		{"tagged", 82, taggedTCP6(), []gopacket.LayerType{layers.LayerTypeEthernet, layers.LayerTypeDot1Q, layers.LayerTypeIPv6, layers.LayerTypeTCP}},
	} {
		p := gopacket.NewPacket(c.b, layers.LayerTypeEthernet, gopacket.Default)
		var got []gopacket.LayerType
		for _, l := range p.Layers() {
			got = append(got, l.LayerType())
		}
		if !slices.Equal(got, c.want) || p.Metadata().Truncated {
			t.Errorf("%s: %v, want %v", c.what, p, c.want)
		}
		if n := len(c.b) + fcs; n != c.length {
			t.Errorf("%s: %d bytes", c.what, n)
		}
	}
	in := gopacket.NewPacket(vxlan(udp4(64)), layers.LayerTypeVXLAN, gopacket.Default)
	if v, ok := in.Layer(layers.LayerTypeVXLAN).(*layers.VXLAN); !ok || v.VNI != 100 || in.Layer(layers.LayerTypeUDP) == nil {
		t.Errorf("in the tunnel: %v", in)
	}
}

func TestAMeasurementIsAboutAsLongAsItWasAskedFor(t *testing.T) {
	var ops, calls int
	s := Scenario{Name: "nap", start: func(Scenario) (*run, error) {
		return &run{do: func(n int) error {
			calls++
			ops += n
			return nil
		}}, nil
	}}
	r, err := s.Measure(time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Samples) != samples || r.NS <= 0 || calls < samples+1 || ops < samples {
		t.Errorf("%+v after %d calls of %d operations", r, calls, ops)
	}
	if want := 1e3 / r.NS; r.Mops != want {
		t.Errorf("%v million a second at %v ns", r.Mops, r.NS)
	}
	broken := errors.New("broken")
	s.start = func(Scenario) (*run, error) {
		return &run{do: func(int) error { return broken }}, nil
	}
	if _, err := s.Measure(time.Millisecond); !errors.Is(err, broken) {
		t.Errorf("a scenario that fails: %v", err)
	}
}

func TestTheMedianIsInTheMiddle(t *testing.T) {
	if m := median([]float64{9, 1, 5}); m != 5 {
		t.Errorf("of three: %v", m)
	}
	if m := median([]float64{9, 1, 5, 2}); m != 3.5 {
		t.Errorf("of four: %v", m)
	}
	if s := (Result{NS: 10, Samples: []float64{9, 10, 13}}).Spread(); s != 0.4 {
		t.Errorf("spread %v", s)
	}
}

func TestARowShowsAResult(t *testing.T) {
	var b strings.Builder
	if err := WriteHead(&b); err != nil {
		t.Fatal(err)
	}
	r := Result{Name: "look up", Addresses: 1_000_000, Writer: true, NS: 20, Mops: 50, Allocs: 0.25, Samples: []float64{19, 20, 21}}
	if err := WriteRow(&b, r); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
	if got, want := strings.Fields(lines[3]), strings.Fields("look up, writer active 1,000,000 20.0 5% 50.0 0.250"); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if utf8.RuneCountInString(lines[2]) != utf8.RuneCountInString(lines[3]) {
		t.Errorf("the columns are not aligned:\n%s", b.String())
	}
	for n, want := range map[int]string{0: "", 7: "7", 999: "999", 1000: "1,000", 1234567: "1,234,567"} {
		if got := number(n); got != want {
			t.Errorf("%d is written %q", n, got)
		}
	}
}

func TestTheKeysOfJSONAreTheOnesPromised(t *testing.T) {
	b, err := json.Marshal(Result{Samples: []float64{}})
	if err != nil {
		t.Fatal(err)
	}
	var keys map[string]any
	if err := json.Unmarshal(b, &keys); err != nil {
		t.Fatal(err)
	}
	want := []string{"addresses", "allocs", "frame_bytes", "id", "mops", "name", "ns", "samples", "writer"}
	if got := slices.Sorted(maps.Keys(keys)); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
