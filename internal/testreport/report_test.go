package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// module writes a module of the given files and returns its directory.
func module(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	files["go.mod"] = "module example.org/m\n\ngo 1.26\n"
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const good = `package good
import "testing"
func TestOne(t *testing.T) { t.Log("chatter") }
func TestTwo(t *testing.T) { t.Run("half", func(t *testing.T) {}) }
`

func TestTheReportTellsWhatBecameOfEveryTest(t *testing.T) {
	for _, c := range []struct {
		name   string
		files  map[string]string
		runs   []string
		status int
		last   string   // line
		say    []string // what must be there, in this order
		not    string   // what must not
	}{
		{
			name:  "all pass",
			files: map[string]string{"good/good_test.go": good},
			runs:  []string{"-p=1 ./..."}, last: "3 passed, 0 failed, 0 skipped",
			say: []string{"ok\texample.org/m/good"}, not: "chatter",
		},
		{
			name: "a skip is listed with its reason, in each run",
			files: map[string]string{"good/good_test.go": good, "lazy/lazy_test.go": `package lazy
import "testing"
func TestTool(t *testing.T) { t.Skip("needs the program frobnicate") }
func TestMute(t *testing.T) { t.SkipNow() }
`},
			runs: []string{"-count=1 ./...", "-short ./lazy"}, last: "3 passed, 0 failed, 4 skipped",
			say: []string{
				"Skipped:",
				"lazy TestTool (go test -count=1 ./...)", "lazy_test.go:3: needs the program frobnicate",
				"lazy TestMute (go test -count=1 ./...)", "no reason given",
				"lazy TestTool (go test -short ./lazy)", "needs the program frobnicate",
			},
		},
		{
			name: "a failure is shown and listed, its parent with it",
			files: map[string]string{"good/good_test.go": good, "bad/bad_test.go": `package bad
import "testing"
func TestBad(t *testing.T) { t.Run("worse", func(t *testing.T) { t.Error("seven is not eight") }) }
func TestFine(t *testing.T) {}
`},
			runs: []string{"-p=1 ./..."}, status: 1, last: "4 passed, 2 failed, 0 skipped",
			say: []string{"seven is not eight", "FAIL\texample.org/m/bad", "ok\texample.org/m/good", "Failed:", "bad TestBad/worse", "bad TestBad"},
		},
		{
			name: "a panic",
			files: map[string]string{"bad/bad_test.go": `package bad
import "testing"
func TestBoom(t *testing.T) { panic("the sky is falling") }
`},
			runs: []string{"-p=1 ./..."}, status: 1, last: "0 passed, 1 failed, 0 skipped",
			say: []string{"the sky is falling", "FAIL\texample.org/m/bad", "Failed:", "bad TestBoom"},
		},
		{
			name: "a test that ends the process",
			files: map[string]string{"good/good_test.go": good, "bad/bad_test.go": `package bad
import ("os"; "testing")
func TestQuit(t *testing.T) { os.Exit(0) }
`},
			runs: []string{"-p=1 ./..."}, status: 1, last: "3 passed, 1 failed, 0 skipped",
			say: []string{"Failed:", "bad TestQuit"},
		},
		{
			name: "a failing TestMain",
			files: map[string]string{"good/good_test.go": good, "bad/bad_test.go": `package bad
import ("fmt"; "os"; "testing")
func TestMain(m *testing.M) { m.Run(); fmt.Println("something leaked"); os.Exit(3) }
func TestFine(t *testing.T) {}
`},
			runs: []string{"-p=1 ./..."}, status: 1, last: "4 passed, 1 failed, 0 skipped",
			say: []string{"something leaked", "FAIL\texample.org/m/bad", "Failed:", "example.org/m/bad (go test"},
		},
		{
			name: "a package that does not build, and the runs after it",
			files: map[string]string{"good/good_test.go": good, "bad/bad_test.go": `package bad
import "testing"
func TestBad(t *testing.T) { undefinedThing() }
`},
			runs: []string{"./bad", "./good"}, status: 1, last: "3 passed, 1 failed, 0 skipped",
			say: []string{"undefined: undefinedThing", "FAIL\texample.org/m/bad", "go test ./good", "ok\texample.org/m/good", "Failed:", "example.org/m/bad"},
		},
		{
			name:  "no test at all is a failure",
			files: map[string]string{"good/good.go": "package good\n"},
			runs:  []string{"-p=1 ./..."}, status: 1, last: "0 passed, 0 failed, 0 skipped",
		},
		{
			name:  "arguments that go test refuses",
			files: map[string]string{"good/good_test.go": good},
			runs:  []string{"-count=many ./..."}, status: 2, last: "0 passed, 0 failed, 0 skipped",
			say: []string{"go test -count=many", "invalid value"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			var b strings.Builder
			status := testAll(&b, module(t, c.files), c.runs)
			out := b.String()
			if status != c.status {
				t.Errorf("exit status %d, want %d", status, c.status)
			}
			if !strings.HasSuffix(out, "\n"+c.last+"\n") {
				t.Errorf("the last line is not %q", c.last)
			}
			rest := out
			for _, s := range c.say {
				_, after, ok := strings.Cut(rest, s)
				if !ok {
					t.Errorf("%q is not there, or not in its place", s)
				}
				rest = after
			}
			if c.not != "" && strings.Contains(out, c.not) {
				t.Errorf("%q is there", c.not)
			}
			if t.Failed() {
				t.Log(out)
			}
		})
	}
}
