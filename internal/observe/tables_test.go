package observe_test

import (
	"bytes"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/uvtep/uvtep/internal/control"
	"github.com/uvtep/uvtep/internal/observe"
)

var update = flag.Bool("update", false, "write the golden files")

func TestTablesLookAsTheyDid(t *testing.T) {
	var s sample
	tables := map[string]func(io.Writer) error{
		"segments":   func(w io.Writer) error { all, _ := s.Segments(0); return observe.Segments(w, all) },
		"ports":      func(w io.Writer) error { all, _ := s.Ports(0); return observe.Ports(w, all) },
		"fdb":        func(w io.Writer) error { all, _ := s.FDB(0); return observe.FDB(w, all) },
		"peers":      func(w io.Writer) error { all, _ := s.Peers(0); return observe.Peers(w, all) },
		"neighbours": func(w io.Writer) error { all, _ := s.Neighbours(0); return observe.Neighbours(w, all) },
		"leases":     func(w io.Writer) error { all, _ := s.Leases(0); return observe.Leases(w, all, now) },
		"dhcp":       func(w io.Writer) error { all, _ := s.DHCP(0); return observe.DHCP(w, all) },
		"drops":      func(w io.Writer) error { all, _ := s.Drops(0); return observe.Drops(w, all) },
		"workers":    func(w io.Writer) error { return observe.Workers(w, s.Workers()) },
	}
	for name, write := range tables {
		t.Run(name, func(t *testing.T) {
			var got bytes.Buffer
			if err := write(&got); err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(got.String()) {
				if n := len([]rune(line)) - 1; n > 80 && name == "ports" {
					t.Errorf("%d columns: %s", n, line)
				}
			}
			golden := filepath.Join("testdata", name+".txt")
			if *update {
				if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got.String()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestAnEmptyTableIsItsHead(t *testing.T) {
	var got bytes.Buffer
	if err := observe.Drops(&got, nil); err != nil {
		t.Fatal(err)
	}
	if want := "REASON  VNI  COUNT\n"; got.String() != want {
		t.Errorf("got %q, want %q", got.String(), want)
	}
}

func TestCountsAndOffloadsAreShort(t *testing.T) {
	for _, tc := range []struct {
		n       uint64
		offload []string
		want    string // of RX, and of OFFLOAD
	}{
		{0, nil, "0 -"},
		{99_999, []string{"csum"}, "99999 csum"},
		{100_000, []string{"csum", "tso"}, "100k gso"},
		{999_999, []string{"csum", "tso", "uso"}, "999k gso"},
		{1_000_000, []string{"csum", "udp-gro"}, "1.00M gro"},
		{1_239_999, []string{"csum", "tso", "tcp-gro"}, "1.23M gso+gro"},
		{12_399_999, nil, "12.3M -"},
		{999_999_999, nil, "999M -"},
		{1 << 40, nil, "1.09T -"},
		{1<<64 - 1, nil, "18.4E -"},
	} {
		var got bytes.Buffer
		if err := observe.Ports(&got, []control.Port{{RxPackets: tc.n, Offload: tc.offload, Name: "x", State: "up"}}); err != nil {
			t.Fatal(err)
		}
		cells := strings.Fields(strings.Split(got.String(), "\n")[1])
		if s := cells[4] + " " + cells[3]; s != tc.want {
			t.Errorf("%d, %q: got %s, want %s", tc.n, tc.offload, s, tc.want)
		}
	}
}
