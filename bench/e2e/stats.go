package e2e

import (
	"math"
	"slices"
	"time"
)

// median is the middle of some numbers, of which there is at least one.
func median(of []float64) float64 {
	s := slices.Sorted(slices.Values(of))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// percentile is the time that a part p of sorted times does not exceed
// (nearest rank).
func percentile(sorted []time.Duration, p float64) time.Duration {
	return sorted[max(0, int(math.Ceil(p*float64(len(sorted))))-1)]
}

// spread is how far the samples lie from each other, half of it, as a part of
// the median.
func (v Value) spread() float64 {
	if v.Median == 0 {
		return 0
	}
	return (v.Max - v.Min) / 2 / v.Median
}

// sample is what one measurement found: a number for each measure.
type sample struct {
	values map[string]float64
	trials []Trial
}

// results collects samples and sums them up.
type results struct {
	modes   []Mode
	systems []string
	samples map[key][]float64
	trials  map[key][][]Trial
}

type key struct {
	mode            Mode
	system, measure string
}

func newResults(modes []Mode, systems []string) *results {
	return &results{modes: modes, systems: systems, samples: map[key][]float64{}, trials: map[key][][]Trial{}}
}

func (r *results) add(m Mode, system string, s sample) {
	for id, v := range s.values {
		k := key{m, system, id}
		r.samples[k] = append(r.samples[k], v)
		if s.trials != nil {
			r.trials[k] = append(r.trials[k], s.trials)
		}
	}
}

// values are the sums of it, by mode, measure and system.
func (r *results) values() []Value {
	all := []Value{}
	for _, mode := range r.modes {
		for _, m := range measures {
			base, known := r.samples[key{mode, Kernel, m.id}]
			for _, system := range r.systems {
				k := key{mode, system, m.id}
				s := r.samples[k]
				if len(s) == 0 {
					continue
				}
				v := Value{
					Mode: mode, System: system, Measure: m.id, Unit: m.unit,
					Median: median(s), Min: slices.Min(s), Max: slices.Max(s), Samples: s, Trials: r.trials[k],
				}
				if known && median(base) > 0 {
					ratio := v.Median / median(base)
					v.Ratio = &ratio
				}
				all = append(all, v)
			}
		}
	}
	return all
}
