package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// event is a line of go test -json (go doc test2json, go help buildjson).
type event struct {
	Action, Package, Test, Output, ImportPath string
	Elapsed                                   float64 // seconds
}

// testID names one test of one run; without a name it is the package itself.
type testID struct{ run, pkg, name string }

// report gathers what the runs tell.
type report struct {
	out     io.Writer
	run     string
	output  map[testID]*strings.Builder // of what has not ended
	passed  int
	skipped []skip
	failed  []testID
	inPkg   map[string]int // failed tests of a package of this run
}

type skip struct {
	testID
	why string
}

func newReport(out io.Writer) *report { return &report{out: out} }

// begin starts another run.
func (r *report) begin(run string) {
	r.run = run
	r.output = map[testID]*strings.Builder{}
	r.inPkg = map[string]int{}
	fmt.Fprintf(r.out, "go test %s\n", run)
}

// line takes one line of a run. What is not an event is shown as it is.
func (r *report) line(line []byte) {
	var e event
	if json.Unmarshal(line, &e) != nil || e.Action == "" {
		r.out.Write(line)
		return
	}
	id := testID{r.run, e.Package, e.Test}
	switch e.Action {
	case "build-output":
		io.WriteString(r.out, e.Output)
	case "start", "run":
		r.output[id] = &strings.Builder{}
	case "output":
		if b := r.output[id]; b != nil {
			b.WriteString(e.Output)
		}
	case "pass", "skip", "fail":
		if e.Test == "" {
			r.endPackage(id, e)
		} else {
			r.endTest(id, e.Action)
		}
	}
}

func (r *report) endTest(id testID, action string) {
	said := r.take(id)
	switch action {
	case "pass":
		r.passed++
	case "skip":
		r.skipped = append(r.skipped, skip{id, reason(said)})
	case "fail":
		r.fail(id, said)
	}
}

func (r *report) fail(id testID, said string) {
	r.failed = append(r.failed, id)
	r.inPkg[id.pkg]++
	io.WriteString(r.out, said)
}

// endPackage also ends the tests of the package that have not ended by
// themselves: the process is gone, and they failed.
func (r *report) endPackage(id testID, e event) {
	said := r.take(id)
	cut := slices.DeleteFunc(slices.Collect(maps.Keys(r.output)), func(t testID) bool { return t.pkg != id.pkg })
	slices.SortFunc(cut, func(a, b testID) int { return strings.Compare(a.name, b.name) })
	for _, t := range cut {
		r.fail(t, r.take(t))
	}
	switch {
	case e.Action == "fail":
		if r.inPkg[id.pkg] == 0 {
			r.failed = append(r.failed, id) // it did not build, or ended by itself
		}
		fmt.Fprintf(r.out, "%sFAIL\t%s\t%.1fs\n", tail(said), id.pkg, e.Elapsed)
	case e.Action == "pass":
		fmt.Fprintf(r.out, "ok\t%s\t%.1fs\n", id.pkg, e.Elapsed)
	}
}

// take is what a test has said, and forgets it.
func (r *report) take(id testID) string {
	b := r.output[id]
	delete(r.output, id)
	if b == nil {
		return ""
	}
	return b.String()
}

// tail is what a package has said of itself, its last lines left out: those
// that endPackage writes anew.
func tail(said string) string {
	var b strings.Builder
	for line := range strings.Lines(said) {
		if line != "FAIL\n" && line != "PASS\n" && !strings.HasPrefix(line, "FAIL\t") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// reason is what a skipped test has said, without what go test put around it.
func reason(said string) string {
	var words []string
	for line := range strings.Lines(said) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "=== ") && !strings.HasPrefix(line, "--- ") {
			words = append(words, line)
		}
	}
	if len(words) == 0 {
		return "no reason given"
	}
	return strings.Join(words, " ")
}

// close says what became of all of it. The last line is for programs.
func (r *report) close() {
	if len(r.skipped) > 0 {
		fmt.Fprintln(r.out, "\nSkipped:")
		for _, s := range r.skipped {
			fmt.Fprintf(r.out, "  %v\n    %s\n", s.testID, s.why)
		}
	}
	if len(r.failed) > 0 {
		fmt.Fprintln(r.out, "\nFailed:")
		for _, id := range r.failed {
			fmt.Fprintf(r.out, "  %v\n", id)
		}
	}
	fmt.Fprintf(r.out, "\n%d passed, %d failed, %d skipped\n", r.passed, len(r.failed), len(r.skipped))
}

func (t testID) String() string {
	return strings.Join(slices.DeleteFunc([]string{t.pkg, t.name, "(go test " + t.run + ")"}, func(s string) bool { return s == "" }), " ")
}
