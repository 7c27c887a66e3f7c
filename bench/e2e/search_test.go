package e2e

import (
	"errors"
	"math"
	"testing"
)

// link is a simulated way that loses what goes beyond its capacity.
type link struct {
	capacity float64 // frames a second
	sender   float64 // most that the sender can offer; 0 = anything
	accident map[int]float64
	trials   int
}

func (l *link) trial(rate float64) (Trial, error) {
	l.trials++
	offered := rate
	if l.sender > 0 {
		offered = min(rate, l.sender)
	}
	came := min(offered, l.capacity) * (1 - l.accident[l.trials])
	return Trial{Offered: rate, Sent: uint64(10 * offered), Received: uint64(10 * came), Seconds: 10}, nil
}

func TestTheSearchComesWithinItsResolutionOfWhatALinkCarries(t *testing.T) {
	for _, s := range []search{firstSearch, laterSearch} {
		for capacity := 150.0; capacity < 5e6; capacity *= 1.37 {
			s.start = firstSearch.start
			if s.step == laterSearch.step {
				s.start = capacity * 0.9 // about what the round before found
			}
			l := &link{capacity: capacity}
			best, all, err := s.run(l.trial)
			if err != nil || len(all) != l.trials || l.trials > s.most {
				t.Fatalf("capacity %.0f: %d of %d trials, error %v", capacity, len(all), l.trials, err)
			}
			// What is lost within the tolerance may be carried beyond the capacity.
			if r := best.Rate() / capacity; r > 1+2*tolerance || r < 1/(1+s.resolution)-1e-3 {
				t.Errorf("capacity %.0f, step %.2f: found %.0f in %d trials: %+v", capacity, s.step, best.Rate(), l.trials, all)
			}
		}
	}
}

func TestALaterSearchIsShort(t *testing.T) {
	s := laterSearch
	for _, start := range []float64{80e3, 95e3, 100e3, 104e3, 120e3} {
		s.start = start
		l := &link{capacity: 100e3}
		if _, _, err := s.run(l.trial); err != nil || l.trials > 6 {
			t.Errorf("from %.0f: %d trials, error %v", start, l.trials, err)
		}
	}
}

func TestASenderThatDoesNotKeepUpEndsTheSearch(t *testing.T) {
	l := &link{capacity: 1e6, sender: 130e3}
	best, all, err := firstSearch.run(l.trial)
	if err != nil || math.Round(best.Rate()) != 130e3 {
		t.Errorf("found %.0f, error %v", best.Rate(), err)
	}
	// 50, 100 and 200 thousand, the last one twice.
	if len(all) != 4 {
		t.Errorf("%d trials: %+v", len(all), all)
	}
}

func TestAnAccidentDoesNotCount(t *testing.T) {
	for when := 1; when <= 8; when++ {
		l := &link{capacity: 130e3, accident: map[int]float64{when: 0.004}}
		best, _, err := firstSearch.run(l.trial)
		if r := best.Rate() / l.capacity; err != nil || r < 1/(1+resolution)-1e-3 {
			t.Errorf("a little is lost in trial %d: found %.0f, error %v", when, best.Rate(), err)
		}
	}
}

func TestALinkThatCarriesNothingYieldsNothing(t *testing.T) {
	l := &link{}
	best, _, err := firstSearch.run(l.trial)
	if err != nil || best != (Trial{}) || l.trials > 3 {
		t.Errorf("found %+v in %d trials, error %v", best, l.trials, err)
	}
}

func TestALinkThatAlwaysLosesALittleEndsTheSearch(t *testing.T) {
	trials := 0
	best, all, err := firstSearch.run(func(rate float64) (Trial, error) {
		trials++
		return Trial{Sent: 1000, Received: 990, Seconds: 1000 / rate}, nil
	})
	if err != nil || best != (Trial{}) || len(all) != firstSearch.most || trials != firstSearch.most {
		t.Errorf("found %+v in %d trials, error %v", best, trials, err)
	}
}

func TestATrialThatFailsEndsTheSearch(t *testing.T) {
	broken := errors.New("broken")
	trials := 0
	_, all, err := firstSearch.run(func(rate float64) (Trial, error) {
		if trials++; trials == 2 {
			return Trial{}, broken
		}
		return Trial{Sent: 1000, Received: 1000, Seconds: 1000 / rate}, nil
	})
	if !errors.Is(err, broken) || trials != 2 || len(all) != 1 {
		t.Errorf("%d trials, %d told, error %v", trials, len(all), err)
	}
}
