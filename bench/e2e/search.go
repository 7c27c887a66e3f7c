package e2e

import "math"

// Trial is one try of the loss-free search: so much was offered, so much came.
type Trial struct {
	Offered   float64 `json:"offered"`   // frames a second that were to be sent
	Sent      uint64  `json:"sent"`      // frames
	Received  uint64  `json:"received"`  // frames, each counted once
	Reordered uint64  `json:"reordered"` // frames that came after a later one
	Seconds   float64 `json:"seconds"`   // that the sending took
}

// Rate is how many frames a second were sent.
func (t Trial) Rate() float64 {
	if t.Seconds <= 0 {
		return 0
	}
	return float64(t.Sent) / t.Seconds
}

// Loss is which part of what was sent did not come.
func (t Trial) Loss() float64 {
	if t.Sent == 0 {
		return 1
	}
	return 1 - float64(t.Received)/float64(t.Sent)
}

// search looks for the highest rate at which nothing is lost.
type search struct {
	start      float64 // the rate to begin with, frames a second
	step       float64 // the factor by which it goes up and down until the rate lies between two trials
	tolerance  float64 // loss that counts as none
	resolution float64 // how close the two trials come, as a part of the rate
	most       int     // trials
}

// What a search for the loss-free rate starts from: nothing is known, or it is
// known what the round before found.
var (
	firstSearch = search{start: 50e3, step: 2, tolerance: tolerance, resolution: resolution, most: 16}
	laterSearch = search{step: 1.15, tolerance: tolerance, resolution: resolution, most: 12}
)

const (
	lowestRate = 100  // frames a second; who loses there carries nothing
	keptUp     = 0.97 // of the offered rate was sent, so that the sender was not the limit
	gross      = 0.05 // a loss that is no accident
)

// run returns the best trial and all of them, in the order of time. The best is
// the zero Trial where there was loss at every rate.
//
// A machine that has other things to do loses frames by accident, so a trial
// that fails by little is repeated before it counts. A trial without loss whose
// sender did not keep up ends the search: more cannot be offered.
func (s search) run(trial func(rate float64) (Trial, error)) (best Trial, all []Trial, err error) {
	rate, low, high := max(s.start, lowestRate), 0.0, math.Inf(1)
	again := false
	for len(all) < s.most {
		t, err := trial(rate)
		if err != nil {
			return best, all, err
		}
		all = append(all, t)
		clean, kept := t.Loss() <= s.tolerance, t.Rate() >= keptUp*rate
		if clean && t.Rate() > best.Rate() {
			best = t
		}
		switch {
		case clean && kept:
			low, again = rate, false
		case !again && (clean || t.Loss() < gross):
			again = true
			continue
		case clean:
			return best, all, nil
		default:
			high, again = rate, false
		}
		switch {
		case math.IsInf(high, 1):
			rate *= s.step
		case low > 0:
			if high <= low*(1+s.resolution) {
				return best, all, nil
			}
			rate = math.Sqrt(low * high)
		case rate <= lowestRate:
			return best, all, nil
		default:
			// Far from it, there is no use in going down by small steps.
			rate = max(lowestRate, min(rate/s.step, t.Rate()*(1-t.Loss())))
		}
	}
	return best, all, nil
}
