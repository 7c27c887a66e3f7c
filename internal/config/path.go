package config

import (
	"fmt"
	"strconv"
	"strings"
)

// A path names a value as a user would, such as segments[0].ports[1].tap.
type path string

func (p path) key(name string) path {
	if p == "" {
		return path(name)
	}
	return p + "." + path(name)
}

func (p path) index(i int) path { return p + path("["+strconv.Itoa(i)+"]") }

// parent is the path of the mapping or list that holds p.
func (p path) parent() path {
	return p[:max(strings.LastIndexAny(string(p), ".["), 0)]
}

// A place is where a value stands in the file.
type place struct {
	line, col int
	bad       bool // it has had its fault; what depends on it says nothing more
}

// A source is what is known of the file behind a configuration: where each
// value stands, and what is wrong with it so far.
type source struct {
	file   string
	places map[path]place
	faults Faults
	shared map[uint32][]string      // names of the ports that segments have of trunks and pairs, by VNI
	spell  func(path string) string // nil: a place is its path and line
}

func newSource(file string) *source {
	return &source{file: file, places: map[path]place{"": {line: 1, col: 1}}}
}

// has tells whether the value is there and has had no fault.
func (s *source) has(p path) bool {
	at, there := s.places[p]
	return there && !at.bad
}

// at is the place of p or, where it is missing, of what it is missing from.
func (s *source) at(p path) place {
	for {
		if at, there := s.places[p]; there {
			return at
		}
		p = p.parent()
	}
}

// fault notes a fault of the value at p, unless the value or what it is missing
// from has had one.
func (s *source) fault(p path, format string, args ...any) {
	at := s.at(p)
	if at.bad {
		return
	}
	s.faultAt(at, p, format, args...)
	if _, there := s.places[p]; there {
		at.bad = true
		s.places[p] = at
	}
}

// missing notes that a needed key is not there.
func (s *source) missing(p path, why string) {
	if _, there := s.places[p]; !there {
		s.fault(p, "is missing: %s", why)
	}
}

func (s *source) faultAt(at place, p path, format string, args ...any) {
	s.faults = append(s.faults, Fault{
		File: s.file, Line: at.line, Col: at.col, Path: string(p), Msg: fmt.Sprintf(format, args...),
	})
}

// other names the place that a value conflicts with.
func (s *source) other(p path) string {
	if s.spell != nil {
		return s.spell(string(p))
	}
	return fmt.Sprintf("%s (line %d)", p, s.at(p).line)
}
