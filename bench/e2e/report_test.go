package e2e

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"charm.land/lipgloss/v2"
	"github.com/charmbracelet/colorprofile"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares with a file of testdata.
func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	file = filepath.Join("testdata", file)
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; got\n%s", file, got)
	}
}

// plain is a text without escape sequences.
func plain(text string) string {
	var b strings.Builder
	io.WriteString(colorprofile.NewWriter(&b, nil), text) // a strings.Builder never fails
	return b.String()
}

// found is the result of a run of three rounds, with Open vSwitch lost on the
// way and another system never there.
func found() *Result {
	r := newResults(Modes(), []string{Kernel, "ovs", "uvtep"})
	for round := range 3 {
		f := 1 + 0.02*float64(round)
		r.add(Virt, Kernel, sample{values: map[string]float64{tcp1: 12.4e9 * f, cpu1: 0.14 * f, rttHalf: 14e-6 * f}})
		r.add(Virt, Kernel, sample{values: map[string]float64{udp64: 200e3 * f}, trials: []Trial{{200e3, 2000, 1999, 0, 0.01}}})
		r.add(Virt, "uvtep", sample{values: map[string]float64{tcp1: 6.2e9 * f, cpu1: 0.3 * f, ownCPU1: 0.1 * f, rttHalf: 28e-6 * f}})
		r.add(Virt, "uvtep", sample{values: map[string]float64{udp64: 190e3 / f}, trials: []Trial{{190e3, 1900, 1900, 0, 0.01}}})
		r.add(Virt, "uvtep", sample{values: map[string]float64{memory: 20 << 20}})
		r.add(Wire, Kernel, sample{values: map[string]float64{tcp1: 5.8e9 * f, rttHigh: 1e-3 * f}})
		r.add(Wire, "uvtep", sample{values: map[string]float64{tcp1: 4.9e9 * f, rttHigh: 2e-3 * f}})
	}
	r.add(Virt, "ovs", sample{values: map[string]float64{tcp1: 0.84e9}})
	about := []System{systems[0], systems[2], systems[3]}
	about[0].Version, about[1].Version, about[2].Version = "6.18.0", "3.1.0", "1.2.3"
	about[1].Missing = "virt, TCP, 4 streams: iperf3: nothing was received"
	return &Result{
		Version: "1.2.3", Started: time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC), Took: 201.25,
		Machine:  Machine{About: "A Processor, linux/amd64, go1.26", Cores: 2, Memory: 24 << 30, Kernel: "6.18.0", Load: 0.25},
		Settings: Settings{Rounds: 3, Time: 2, Trial: 1, MTU: mtu, Frame: frameLen, Loss: tolerance, TCP: "iperf3 3.12", UDP: "the built-in generator"},
		Systems:  about, Values: r.values(),
	}
}

func TestAResultIsToldInATable(t *testing.T) {
	text := plain(found().Table())
	for line := range strings.Lines(text) {
		if n := lipgloss.Width(strings.TrimSuffix(line, "\n")); n > 80 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	golden(t, "table.txt", []byte(text))
}

func TestOneRoundHasNoSpread(t *testing.T) {
	r := found()
	r.Settings.Rounds = 1
	for i := range r.Values {
		r.Values[i].Samples = r.Values[i].Samples[:1]
	}
	golden(t, "once.txt", []byte(plain(r.Table())))
}

func TestTheJSONHasEverySample(t *testing.T) {
	got, err := json.MarshalIndent(found(), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "result.json", append(got, '\n'))
}

func TestAPictureIsWrittenForEveryKindOfMeasure(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "folder")
	r := found()
	r.Systems[0].Title = `<kernel> & "vxlan"`
	files, err := r.Write(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range files {
		names = append(names, filepath.Base(f))
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(f, ".json") {
			if back := new(Result); json.Unmarshal(data, back) != nil || len(back.Values) != len(r.Values) {
				t.Errorf("%s does not read back:\n%s", f, data)
			}
			continue
		}
		for d := xml.NewDecoder(bytes.NewReader(data)); ; {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", f, err)
			}
		}
	}
	if want := "e2e.json tcp.svg udp64.svg rtt_p50.svg rtt_p99.svg cpu.svg memory.svg"; strings.Join(names, " ") != want {
		t.Errorf("written: %s; want %s", names, want)
	}
	golden(t, "tcp.svg", found().chart("tcp", "TCP throughput, Gbit/s", "more is better"))
}

func TestAFolderThatCannotBeWrittenIsAnError(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if names, err := found().Write(filepath.Join(file, "below")); err == nil || len(names) > 0 {
		t.Errorf("written: %v, error %v", names, err)
	}
}

func TestOnlyUvtepMustBeMeasured(t *testing.T) {
	r := found()
	if err := r.Err(); err != nil {
		t.Errorf("Open vSwitch is missing: %v", err)
	}
	r.Systems[2].Missing = "it ended"
	if err := r.Err(); err == nil || !strings.Contains(err.Error(), "it ended") {
		t.Errorf("uvtep is missing: %v", err)
	}
}

func TestNumbersHaveThreeDigits(t *testing.T) {
	for want, v := range map[string]float64{
		"0.000": 0, "0.012": 0.0123, "0.999": 0.9994, "1.00": 0.9996, "9.99": 9.994, "10.0": 9.996, "99.9": 99.94, "100": 99.96, "123456": 123456,
	} {
		if got := number(v); got != want {
			t.Errorf("%v is shown as %s, not %s", v, got, want)
		}
	}
}

func TestAPercentileIsASampleThatWasTaken(t *testing.T) {
	var hundred []time.Duration
	for i := range 100 {
		hundred = append(hundred, time.Duration(i+1))
	}
	for _, tc := range []struct {
		of   []time.Duration
		p    float64
		want time.Duration
	}{{hundred, 0.5, 50}, {hundred, 0.99, 99}, {hundred, 1, 100}, {hundred, 0, 1}, {hundred[:1], 0.99, 1}, {hundred[:2], 0.5, 1}, {hundred[:3], 0.5, 2}} {
		if got := percentile(tc.of, tc.p); got != tc.want {
			t.Errorf("p%v of %d: %d, not %d", 100*tc.p, len(tc.of), got, tc.want)
		}
	}
}

func TestElsewhereThanOnATerminalProgressIsLines(t *testing.T) {
	var b bytes.Buffer
	s := NewScreen(&b, []string{"TERM=xterm-256color"})
	s.Event(Event{Text: "set up uvtep"})
	s.Event(Event{Text: "measure", Share: 0.5, Line: "virt 1/3  one"})
	s.Event(Event{Share: 1, Line: "virt 1/3  two"})
	s.Report(found(), []string{"out/a.svg", "out/b.svg"})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	want := "virt 1/3  one\nvirt 1/3  two\n" + plain(found().Table()) + "\n✓ in out: a.svg, b.svg\n"
	if got := b.String(); got != want || s.Live() {
		t.Errorf("got\n%q\nwant\n%q", got, want)
	}
}

func TestTheBarSaysHowFarItIs(t *testing.T) {
	for _, tc := range []struct {
		share float64
		want  string
	}{
		{0, "░░░░░░░░░░░░░░░░░░░░░░░░   0 %  doing"},
		{0.25, "██████░░░░░░░░░░░░░░░░░░  25 %  doing  about 1:30 left"},
		{1, "████████████████████████ 100 %  doing  about 0:00 left"},
	} {
		if got := plain(bar(Event{Text: "doing", Share: tc.share}, 30*time.Second)); strings.TrimRight(got, " ") != tc.want {
			t.Errorf("%q, not %q", got, tc.want)
		}
	}
}

func TestOptionsThatMakeNoRunAreRefused(t *testing.T) {
	for want, o := range map[string]Options{
		"rounds":                {Rounds: -1},
		"less than":             {Time: time.Millisecond},
		`no system "windows"`:   {Systems: []string{"windows"}},
		"uvtep is there twice":  {Systems: []string{"uvtep", "kernel", "uvtep"}},
		`no mode "air"`:         {Modes: []Mode{"air"}},
		`no generator "netperf`: {Generator: "netperf"},
	} {
		if err := o.fill(); !errors.Is(err, ErrOptions) || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, not %s", o, err, want)
		}
	}
	var o Options
	if err := o.fill(); err != nil || o.Rounds != 3 || len(o.Systems) != 3 || len(o.Modes) != 2 {
		t.Errorf("the defaults are %+v, error %v", o, err)
	}
}
