package observe_test

import (
	"bytes"
	"flag"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/uvtep/uvtep/internal/observe"
)

var update = flag.Bool("update", false, "write the golden files")

func TestTablesLookAsTheyDid(t *testing.T) {
	var s sample
	tables := map[string]func(io.Writer) error{
		"segments": func(w io.Writer) error { all, _ := s.Segments(0); return observe.Segments(w, all) },
		"ports":    func(w io.Writer) error { all, _ := s.Ports(0); return observe.Ports(w, all) },
		"fdb":      func(w io.Writer) error { all, _ := s.FDB(0); return observe.FDB(w, all) },
		"peers":    func(w io.Writer) error { all, _ := s.Peers(0); return observe.Peers(w, all) },
		"leases":   func(w io.Writer) error { all, _ := s.Leases(0); return observe.Leases(w, all, now) },
		"drops":    func(w io.Writer) error { all, _ := s.Drops(0); return observe.Drops(w, all) },
		"workers":  func(w io.Writer) error { return observe.Workers(w, s.Workers()) },
	}
	for name, write := range tables {
		t.Run(name, func(t *testing.T) {
			var got bytes.Buffer
			if err := write(&got); err != nil {
				t.Fatal(err)
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
