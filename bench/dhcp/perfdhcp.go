package dhcp

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Trial is a run of perfdhcp: 4-way exchanges at a rate, each by a client of its
// own.
type Trial struct {
	Offered float64 `json:"offered"` // exchanges a second that were to be begun
	Begun   uint64  `json:"begun"`   // DISCOVERs that were sent
	Offers  uint64  `json:"offers"`
	ACKs    uint64  `json:"acks"`
	Seconds float64 `json:"seconds"` // that they were sent for
	CPU     float64 `json:"cpu_s"`   // of the server

	acks []time.Duration // REQUEST to ACK of each exchange, sorted; only if asked for
}

// Rate is how many exchanges a second were brought to their end.
func (t Trial) Rate() float64 {
	if t.Seconds <= 0 {
		return 0
	}
	return float64(t.ACKs) / t.Seconds
}

// Loss is which part of the exchanges did not come to an end.
func (t Trial) Loss() float64 {
	if t.Begun == 0 {
		return 1
	}
	return 1 - float64(t.ACKs)/float64(t.Begun)
}

// perExchange is the processor time of an exchange, in seconds.
func (t Trial) perExchange() float64 {
	if t.ACKs == 0 {
		return math.NaN()
	}
	return t.CPU / float64(t.ACKs)
}

// percentile is the time that a part p of the ACKs does not exceed (nearest rank).
func (t Trial) percentile(p float64) float64 {
	if len(t.acks) == 0 {
		return math.NaN()
	}
	return t.acks[max(0, int(math.Ceil(p*float64(len(t.acks))))-1)].Seconds()
}

// parse reads perfdhcp's report (option -xt for the times). It has a section of
// counts for each half of an exchange, and one of times.
func (t *Trial) parse(r io.Reader) error {
	section := ""
	counts := map[string]uint64{}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		line := lines.Text()
		if rest, ok := strings.CutPrefix(line, "***"); ok {
			section = strings.TrimRight(rest, "* ")
			continue
		}
		key, value, ok := strings.Cut(line, ": ")
		if !ok {
			continue
		}
		switch {
		case strings.HasPrefix(section, "Statistics for: ") && strings.HasSuffix(key, " packets"):
			n, err := strconv.ParseUint(value, 10, 64)
			if err != nil {
				return fmt.Errorf("perfdhcp: %q: %w", line, err)
			}
			counts[strings.TrimPrefix(section, "Statistics for: ")+" "+key] = n
		case section == "Timestamps for packets: REQUEST-ACK" && key == "sent / received":
			sent, received, _ := strings.Cut(value, " / ")
			from, err1 := stamp(sent)
			to, err2 := stamp(received)
			if err := errors.Join(err1, err2); err != nil {
				return fmt.Errorf("perfdhcp: %q: %w", line, err)
			}
			t.acks = append(t.acks, to-from)
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("perfdhcp: %w", err)
	}
	for key, to := range map[string]*uint64{
		"DISCOVER-OFFER sent packets": &t.Begun, "DISCOVER-OFFER received packets": &t.Offers, "REQUEST-ACK received packets": &t.ACKs,
	} {
		n, ok := counts[key]
		if !ok {
			return fmt.Errorf("perfdhcp: its report does not tell %q", key)
		}
		*to = n
	}
	slices.Sort(t.acks)
	return nil
}

// stamp reads seconds and microseconds since the start: 000012.004567.
func stamp(s string) (time.Duration, error) {
	sec, micro, ok := strings.Cut(s, ".")
	if !ok || len(micro) != 6 {
		return 0, errors.New("not a time stamp")
	}
	a, err1 := strconv.ParseUint(sec, 10, 31)
	b, err2 := strconv.ParseUint(micro, 10, 31)
	return time.Duration(a)*time.Second + time.Duration(b)*time.Microsecond, errors.Join(err1, err2)
}

// The search for the highest rate without loss: where it begins, how far it goes
// up and down until the rate lies between two trials, and how close those come.
const (
	startRate  = 8000 // exchanges a second
	step       = 1.25
	resolution = 0.06
	lowestRate = 100
	mostTrials = 24
	keptUp     = 0.95 // of the rate was begun, so that perfdhcp was not the limit
)

// highest looks for the highest rate at which nothing is lost; ok is false where
// something was at every rate. A machine that has other things to do loses by
// accident, so a rate that fails is tried once more.
func highest(trial func(rate float64) (Trial, error)) (best Trial, ok bool, err error) {
	low, high, again := 0.0, math.Inf(1), false
	rate := float64(startRate)
	for range mostTrials {
		t, err := trial(rate)
		if err != nil {
			return Trial{}, false, err
		}
		slow := float64(t.Begun) < keptUp*rate*t.Seconds
		switch {
		case t.Loss() <= tolerance:
			again = false
			if t.Rate() > best.Rate() {
				best, ok = t, true
			}
			if low = rate; slow {
				return best, ok, nil // more cannot be asked for
			}
		case !again:
			again = true
			continue
		default:
			again = false
			high = rate
		}
		switch {
		case low == 0 && rate <= lowestRate, high/low < 1+resolution:
			return best, ok, nil
		case low == 0:
			rate /= 2
		case math.IsInf(high, 1):
			rate *= step
		default:
			rate = (low + high) / 2
		}
	}
	return best, ok, nil
}
