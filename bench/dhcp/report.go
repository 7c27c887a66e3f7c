package dhcp

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
)

// median is the middle of some numbers, of which there is at least one.
func median(of []float64) float64 {
	s := slices.Sorted(slices.Values(of))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// add notes a sample of a measure.
func (s *System) add(id string, v float64) {
	if math.IsNaN(v) {
		return // nothing came of it
	}
	i := slices.IndexFunc(s.Values, func(v Value) bool { return v.Measure == id })
	if i < 0 {
		m := measures[slices.IndexFunc(measures, func(m measure) bool { return m.id == id })]
		i = len(s.Values)
		s.Values = append(s.Values, Value{Measure: id, Unit: m.unit})
	}
	x := &s.Values[i]
	x.Samples = append(x.Samples, v)
	x.Median = median(x.Samples)
}

func (s *System) value(id string) (Value, bool) {
	i := slices.IndexFunc(s.Values, func(v Value) bool { return v.Measure == id })
	if i < 0 {
		return Value{}, false
	}
	return s.Values[i], true
}

// Table is the result for people: medians, how far the samples lie from them,
// and how many times Kea's that is.
func (r *Result) Table() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprint(w, "\t")
	var measured []*System
	var base *System
	for i := range r.Systems {
		s := &r.Systems[i]
		if len(s.Values) == 0 {
			continue
		}
		measured = append(measured, s)
		if s.Name == Kea {
			base = s
		}
		fmt.Fprintf(w, "\t%s", s.Title)
	}
	fmt.Fprintln(w)
	for _, m := range measures {
		fmt.Fprintf(w, "%s\t%s", m.title, m.shown)
		for _, s := range measured {
			v, ok := s.value(m.id)
			if !ok {
				fmt.Fprint(w, "\t–")
				continue
			}
			fmt.Fprintf(w, "\t%s", number(v.Median/m.per))
			if n := len(v.Samples); n > 1 && v.Median != 0 {
				fmt.Fprintf(w, " ±%.0f%%", 50*(slices.Max(v.Samples)-slices.Min(v.Samples))/v.Median)
			}
			if base != nil && s != base {
				if k, ok := base.value(m.id); ok && k.Median != 0 {
					fmt.Fprintf(w, " (%.2fx)", v.Median/k.Median)
				}
			}
		}
		fmt.Fprintln(w)
	}
	w.Flush()
	fmt.Fprintf(&b, "\nLeases on %s; loss up to %.1f %% counts as none; median of %d, trials of %.0f s.\n", r.FileSystem, 100*r.Loss, r.Rounds, r.Time)
	for _, s := range r.Systems {
		fmt.Fprintf(&b, "%s: %s", s.Title, s.About)
		if s.Missing != "" {
			fmt.Fprintf(&b, "; not measured: %s", s.Missing)
		}
		b.WriteString(".\n")
	}
	return b.String()
}

// Err is what could not be measured of a result.
func (r *Result) Err() (err error) {
	for _, s := range r.Systems {
		if s.Missing != "" {
			err = errors.Join(err, fmt.Errorf("%s: %s", s.Title, s.Missing))
		}
	}
	return err
}

// number has three digits that count.
func number(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}
