package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Fault is one thing that is wrong with a configuration file, and where.
type Fault struct {
	File string
	Line int // 1-based; 0 = the fault has no place in a file
	Col  int // 1-based, in characters
	// Path is the key as a user would name it, such as
	// segments[0].ports[1].tap; it is empty where the file could not be parsed.
	Path string
	Msg  string
}

// Error returns FILE:LINE:COL: path: msg.
func (f Fault) Error() string {
	if f.Path == "" {
		return fmt.Sprintf("%s:%d:%d: %s", f.File, f.Line, f.Col, f.Msg)
	}
	return fmt.Sprintf("%s:%d:%d: %s: %s", f.File, f.Line, f.Col, f.Path, f.Msg)
}

// Faults are all that is wrong with a configuration, in the order of their
// places in the file. Parse and Load return them as their error.
type Faults []Fault

// Error returns one line a fault.
func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i := range f {
		lines[i] = f[i].Error()
	}
	return strings.Join(lines, "\n")
}

func (f Faults) sorted() Faults {
	slices.SortStableFunc(f, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Col, b.Col))
	})
	return f
}
