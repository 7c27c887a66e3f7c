package lab

import (
	"context"
	"errors"
	"slices"
	"testing"
)

func TestProgressIsToldAsItBeginsGoesOnAndEnds(t *testing.T) {
	var told []Step
	p := &progress{tell: func(s Step) { s.Took = 0; told = append(told, s) }}
	fail := errors.New("no luck")
	err := p.step(t.Context(), "work", func(_ context.Context, say func(string, ...any)) error {
		say("%d of 2", 1)
		return fail
	})
	want := []Step{{Name: "work"}, {Name: "work", Detail: "1 of 2"}, {Name: "work", Detail: "1 of 2", Done: true, Failed: true}}
	if !errors.Is(err, fail) || !slices.Equal(told, want) {
		t.Errorf("%v, %+v", err, told)
	}
}
