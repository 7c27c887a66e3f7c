package bench

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
)

// Machine says in a few words what was measured on.
func Machine() string {
	words := []string{runtime.GOOS + "/" + runtime.GOARCH, runtime.Version()}
	if name := processor(); name != "" {
		words = append([]string{name}, words...)
	}
	return strings.Join(words, ", ")
}

// processor is the processor's name where the system tells it in a file.
func processor() string {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(b)) {
		if key, name, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(name)
		}
	}
	return ""
}

// WriteHead writes the first lines of a table for people. WriteRow adds one
// result to it, so that a table grows while it is measured.
func WriteHead(w io.Writer) error {
	_, err := fmt.Fprintf(w, "In memory, one core: %s\n\n%-30s %6s %10s %8s %7s %9s %7s\n",
		Machine(), "", "bytes", "addresses", "ns", "±", "million/s", "allocs")
	return err
}

// WriteRow writes the row of one result.
func WriteRow(w io.Writer, r Result) error {
	name := r.Name
	if r.Writer {
		name += ", writer active"
	}
	_, err := fmt.Fprintf(w, "%-30s %6s %10s %8.1f %6.0f%% %9.1f %7s\n",
		name, number(r.Frame), number(r.Addresses), r.NS, 50*r.Spread(), r.Mops, allocs(r.Allocs))
	return err
}

// number groups digits by three; nothing is written for 0.
func number(n int) string {
	if n == 0 {
		return ""
	}
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// allocs shows whether there was one in a thousand operations.
func allocs(a float64) string {
	if a < 0.0005 {
		return "0"
	}
	return fmt.Sprintf("%.3f", a)
}
