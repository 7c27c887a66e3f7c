package dhcp

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"
)

const report = `Running: perfdhcp -4 -l eth0 -r 200 -R 60000 -p 1 -xt
***Rate statistics***
Rate: 196.1 4-way exchanges/second, expected rate: 200

***Malformed Packets***
Malformed packets: 0
***Statistics for: DISCOVER-OFFER***
sent packets: 199
received packets: 198
drops: 1
orphans: 0

avg delay: 0.322 ms
collected packets: 0

***Statistics for: REQUEST-ACK***
sent packets: 198
received packets: 196
drops ratio: 1.010 %

***Timestamps for packets: DISCOVER-OFFER***
sent / received: 000000.000126 / 000000.100736

***Timestamps for packets: REQUEST-ACK***
sent / received: 000000.995413 / 000001.000413
sent / received: 000000.000126 / 000000.000736
sent / received: 000001.995413 / 000001.996413
`

func TestAReportOfPerfdhcpIsRead(t *testing.T) {
	tr := Trial{Seconds: 2, CPU: 0.0196}
	if err := tr.parse(strings.NewReader(report)); err != nil {
		t.Fatal(err)
	}
	if tr.Begun != 199 || tr.Offers != 198 || tr.ACKs != 196 {
		t.Errorf("begun %d, offers %d, ACKs %d", tr.Begun, tr.Offers, tr.ACKs)
	}
	if tr.Rate() != 98 || math.Abs(tr.Loss()-3.0/199) > 1e-9 || math.Abs(tr.perExchange()-1e-4) > 1e-9 {
		t.Errorf("rate %v, loss %v, %v s an exchange", tr.Rate(), tr.Loss(), tr.perExchange())
	}
	if half, high := tr.percentile(0.5), tr.percentile(0.99); half != 1e-3 || high != 5e-3 {
		t.Errorf("p50 %v, p99 %v", half, high)
	}
}

func TestWhatIsNoReportIsAnError(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":       "",
		"half of it":    report[:strings.Index(report, "***Statistics for: REQUEST")],
		"no number":     strings.Replace(report, "packets: 198", "packets: -nan", 1),
		"no time stamp": strings.Replace(report, "000000.000736", "0.7", 1),
	} {
		if err := new(Trial).parse(strings.NewReader(text)); err == nil {
			t.Errorf("%s was read", name)
		}
	}
}

func TestTheHighestRateIsFound(t *testing.T) {
	for _, limit := range []float64{150, 2900, 8000, 23456} {
		tried := 0
		best, ok, err := highest(func(rate float64) (Trial, error) {
			tried++
			if tried > 2*mostTrials {
				t.Fatal("there is no end to it")
			}
			tr := Trial{Seconds: 1, Begun: uint64(rate), ACKs: uint64(rate)}
			if rate > limit {
				tr.ACKs = uint64(limit)
			}
			return tr, nil
		})
		if err != nil || !ok || best.Rate() > limit || best.Rate() < limit/1.3 {
			t.Errorf("limit %v: found %v, %v, %v after %d trials", limit, best.Rate(), ok, err, tried)
		}
	}
}

func TestALossByAccidentIsTriedAgain(t *testing.T) {
	tried := map[float64]int{}
	best, _, _ := highest(func(rate float64) (Trial, error) {
		tr := Trial{Seconds: 1, Begun: uint64(rate), ACKs: uint64(rate)}
		if tried[rate]++; rate > 12000 || tried[rate] == 1 {
			tr.ACKs /= 2
		}
		return tr, nil
	})
	if best.Rate() < 10000 {
		t.Errorf("found %v", best.Rate())
	}
}

func TestASlowGeneratorEndsTheSearch(t *testing.T) {
	tried := 0
	best, ok, _ := highest(func(rate float64) (Trial, error) {
		tried++
		return Trial{Seconds: 1, Begun: 5000, ACKs: 5000}, nil
	})
	if !ok || best.Rate() != 5000 || tried != 1 {
		t.Errorf("found %v after %d trials", best.Rate(), tried)
	}
}

func TestAServerThatNeverAnswersHasNoRate(t *testing.T) {
	_, ok, err := highest(func(rate float64) (Trial, error) { return Trial{Seconds: 1, Begun: uint64(rate)}, nil })
	if ok || err != nil {
		t.Errorf("%v, %v", ok, err)
	}
}

func TestTheTableHoldsAgainstKea(t *testing.T) {
	r := Result{Rounds: 3, Time: 5, Loss: tolerance, FileSystem: "ext4", Systems: []System{
		{Name: Uvtep, Title: "uvtep", About: "ours"}, {Name: Kea, Title: "Kea", About: "theirs"},
		{Name: "dnsmasq", Title: "dnsmasq", About: "small", Missing: "dnsmasq is not installed"},
	}}
	for _, v := range []float64{9000, 12000, 11000} {
		r.Systems[0].add(rate, v)
		r.Systems[1].add(rate, v/2)
	}
	r.Systems[0].add(ackHigh, math.NaN())
	r.Systems[1].add(ackHigh, 0.0012)
	text := r.Table()
	for _, want := range []string{"11000 ±14% (2.00x)", "5500 ±14%", "1.20", "–", "ext4", "not measured: dnsmasq is not installed"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	if err := r.Err(); err == nil || !strings.Contains(err.Error(), "dnsmasq is not installed") {
		t.Errorf("error %v", err)
	}
}

func TestWrongOptionsAreRefused(t *testing.T) {
	for name, o := range map[string]Options{
		"rounds": {Rounds: -1}, "time": {Time: 1500 * time.Millisecond},
		"system": {Systems: []string{"netware"}}, "twice": {Systems: []string{"kea", "kea"}},
	} {
		if err := o.fill(); !errors.Is(err, ErrOptions) {
			t.Errorf("%s: %v", name, err)
		}
	}
	var o Options
	if err := o.fill(); err != nil || o.Rounds != 3 || o.Time != 5*time.Second || len(o.Systems) != 2 {
		t.Errorf("%+v, %v", o, err)
	}
}
