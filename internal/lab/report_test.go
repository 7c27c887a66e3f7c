package lab

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/control"
	"github.com/uvtep/uvtep/internal/lab/guest"
)

// leased is a lab whose guests have the leases that they should have.
func leased(t *testing.T) *Lab {
	t.Helper()
	l := mustPlan(t, Options{VNIs: []uint32{100, 200}})
	l.Run = 1
	for _, g := range l.Guests {
		g.Lease = &guest.Lease{Address: netip.PrefixFrom(l.reserved(g.Index), 24), Server: l.server(), Hostname: g.Name}
	}
	return l
}

// expect fails unless err is want and says so in these words.
func expect(t *testing.T, what string, err, want error, words string) {
	t.Helper()
	if !errors.Is(err, want) || err != nil && !strings.Contains(err.Error(), words) {
		t.Errorf("%s: %v, want %q", what, err, words)
	}
}

func TestALeaseOfAnotherGuestIsFound(t *testing.T) {
	for _, c := range []struct {
		what   string
		change func(*guest.Lease)
		want   error
		words  string
	}{
		{"its own", func(*guest.Lease) {}, nil, ""},
		{"another segment's", func(g *guest.Lease) { g.Hostname = "g1-v200" }, ErrWrongLease, "g1-v100 got the lease of g1-v200"},
		{"one of the pool", func(g *guest.Lease) { g.Address = netip.MustParsePrefix("192.168.100.77/24") }, ErrWrongLease, "192.168.100.10 is reserved for it"},
		{"one of another length", func(g *guest.Lease) { g.Address = netip.MustParsePrefix("192.168.100.10/16") }, ErrWrongLease, "got 192.168.100.10/16"},
		{"a stranger's", func(g *guest.Lease) { g.Server = netip.MustParseAddr("192.168.100.9") }, ErrWrongLease, "from 192.168.100.9, and the server is 192.168.100.1"},
	} {
		l := leased(t)
		c.change(l.Guests[0].Lease)
		expect(t, c.what, l.checkLease(l.Guests[0]), c.want, c.words)
	}
}

func TestPingsThatDoNotComeBackOrTwiceAreFound(t *testing.T) {
	l := leased(t)
	for _, c := range []struct {
		res   guest.PingResult
		want  error
		words string
	}{
		{guest.PingResult{Sent: 3, Received: 3}, nil, ""},
		{guest.PingResult{Sent: 3, Received: 1}, nil, ""},
		{guest.PingResult{Sent: 3}, ErrUnreachable, "g1-v100 gets no answer from g2-v100 at 192.168.100.11 (3 pings)"},
		{guest.PingResult{Sent: 3, Received: 3, Duplicates: 2}, ErrLoop, "of 3 pings from g1-v100 to g2-v100, 2 are answered twice"},
	} {
		expect(t, c.words, Ping{l.Guests[0], l.Guests[1], c.res}.check(), c.want, c.words)
	}
}

func TestAnAnswerFromAnotherSegmentIsFound(t *testing.T) {
	l := leased(t)
	own, other := guest.Answer{Text: "g2-v100"}, guest.Answer{Text: "g2-v200"}
	for _, c := range []struct {
		answers []guest.Answer
		want    error
		words   string
	}{
		{[]guest.Answer{own}, nil, ""},
		{nil, ErrUnreachable, "g1-v100 asks who is 192.168.100.11, and g2-v100 does not answer"},
		{[]guest.Answer{other}, ErrLeak, "hears g2-v200"},
		{[]guest.Answer{own, other}, ErrLeak, "hears g2-v100 and g2-v200"},
		{[]guest.Answer{own, own}, ErrLoop, "from g2-v100 2 times"},
	} {
		expect(t, c.words, pair{l.Guests[0], l.Guests[1]}.checkAnswers(c.answers), c.want, c.words)
	}
}

func TestAFrameOfAnotherSegmentIsFound(t *testing.T) {
	g := leased(t).Guests[0]
	for _, c := range []struct {
		seen  guest.Seen
		want  error
		words string
	}{
		{guest.Seen{Own: 20, Unmarked: 4}, nil, ""},
		{guest.Seen{Foreign: 1, Culprit: guest.Tag{Run: 1, VNI: 200}}, ErrLeak, "g1-v100, in VNI 100, got 1 frame of VNI 200"},
		{guest.Seen{Foreign: 2, Culprit: guest.Tag{Run: 2, VNI: 100}}, ErrLeak, "g1-v100 got a frame of another lab"},
		{guest.Seen{Own: 20, Lost: 3}, ErrBlind, "3 frames went by at g1-v100"},
	} {
		expect(t, c.words, Arrived{g, c.seen}.checkOrigin(1), c.want, c.words)
	}
}

func TestBroadcastsThatAreMissingOrTooManyAreFound(t *testing.T) {
	g := leased(t).Guests[0]
	expect(t, "all", Arrived{g, guest.Seen{Broadcast: 10}}.checkBroadcasts(10), nil, "")
	expect(t, "one less", Arrived{g, guest.Seen{Broadcast: 9}}.checkBroadcasts(10), ErrUnreachable, "heard 9 of 10")
	expect(t, "one more", Arrived{g, guest.Seen{Broadcast: 11}}.checkBroadcasts(10), ErrLoop, "heard 11 broadcasts, and 10 were sent")
}

// knows is the FDB of a host that has it right.
func knows(t *testing.T, l *Lab, h *Host) HostFDB {
	t.Helper()
	f := HostFDB{Host: h}
	for _, g := range l.Guests {
		var mac fdb.MAC
		if err := mac.UnmarshalText([]byte(g.MAC)); err != nil {
			t.Fatal(err)
		}
		e := control.FDBEntry{VNI: encap.VNI(g.VNI), MAC: mac, State: "dynamic"}
		if g.Host == h.Name {
			e.Ifname = &g.Tap
		} else {
			dst := l.hostOf(g).Underlay.Addr()
			e.Dst = &dst
		}
		f.Entries = append(f.Entries, e)
	}
	return f
}

func TestAnFDBThatHasAGuestElsewhereIsFound(t *testing.T) {
	l := leased(t)
	right := knows(t, l, l.Hosts[0])
	expect(t, "right", l.checkFDB(right), nil, "")

	lacks := right
	lacks.Entries = right.Entries[1:]
	expect(t, "lacks one", l.checkFDB(lacks), ErrFDB, "h1 has 02:00:00:00:00:01 of g1-v100 in VNI 100 at nowhere, not at port v100g1")

	crossed := knows(t, l, l.Hosts[0])
	for i := range crossed.Entries {
		crossed.Entries[i].VNI = 300 - crossed.Entries[i].VNI // 100 and 200 for each other
	}
	expect(t, "of the other segment", l.checkFDB(crossed), ErrFDB, "at port v200g1, not at port v100g1")

	expect(t, "another host's", l.checkFDB(HostFDB{l.Hosts[1], right.Entries}), ErrFDB, "at port v100g1, not at VTEP 10.9.0.1")
}

func TestEveryoneTalksToEveryoneUnlessTheLabIsLarge(t *testing.T) {
	small := mustPlan(t, Options{Guests: 3, VNIs: []uint32{100, 200}})
	if n := len(small.pairs()); n != 12 {
		t.Errorf("%d pairs of 3 guests in each of 2 segments", n)
	}
	large := mustPlan(t, Options{Guests: 60, VNIs: []uint32{100, 200}})
	from := map[*Guest]int{}
	for _, p := range large.pairs() {
		if p.from == p.to || p.from.VNI != p.to.VNI {
			t.Errorf("%s to %s", p.from.Name, p.to.Name)
		}
		from[p.from]++
	}
	if n := len(large.pairs()); n > mostPairs || len(from) != 120 {
		t.Errorf("%d pairs from %d of 120 guests", n, len(from))
	}
	if (&Report{Lab: small, Pings: make([]Ping, 12)}).Everyone() == (&Report{Lab: large, Pings: make([]Ping, 120)}).Everyone() {
		t.Error("the report does not tell a full matrix from a partial one")
	}
}

func TestPingsAddUp(t *testing.T) {
	got := Summarize([]Ping{
		{PingResult: guest.PingResult{Sent: 3, Received: 2, Min: 2, Max: 4, Sum: 6}},
		{PingResult: guest.PingResult{Sent: 3, Received: 1, Min: 1, Max: 9, Sum: 9}},
	})
	if want := (guest.PingResult{Sent: 6, Received: 3, Min: 1, Max: 9, Sum: 15}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestATimeIsToldAsPreciselyAsPeopleCare(t *testing.T) {
	for d, want := range map[time.Duration]string{
		420 * time.Microsecond: "0.42 ms", 999 * time.Microsecond: "1.0 ms", 11300 * time.Microsecond: "11.3 ms",
		99960 * time.Microsecond: "100 ms", 2 * time.Second: "2000 ms",
	} {
		if got := Milliseconds(d); got != want {
			t.Errorf("%d: %s, want %s", d, got, want)
		}
	}
}
