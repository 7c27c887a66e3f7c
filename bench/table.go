package bench

import (
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/uvtep/uvtep/fdb"
)

// The forwarding table, at several sizes, at rest and while it changes.
func tableScenarios() []Scenario {
	var all []Scenario
	for _, n := range []int{1_000, 100_000, 1_000_000} {
		for _, w := range []bool{false, true} {
			all = append(all, Scenario{Name: "look up", Addresses: n, Writer: w, start: lookingUp})
		}
	}
	for _, n := range []int{1_000, 100_000, 1_000_000} {
		for _, w := range []bool{false, true} {
			all = append(all, Scenario{Name: "look up, 64 at once", Addresses: n, Writer: w, start: lookingUpBatches})
		}
	}
	for _, n := range []int{1_000, 100_000, 1_000_000} {
		all = append(all, Scenario{Name: "learn what is known", Addresses: n, start: learning})
	}
	return all
}

// queries is how many lookups come before the first one again: all addresses of
// the largest table, lest a few of them stay in the cache.
const queries = 1 << 20

// filled is a table of n addresses, and queries of them in no order that a
// cache could guess. Each is behind the port that its last digits say.
func filled(n int) (*fdb.Table, []fdb.MAC) {
	t := fdb.New(fdb.Config{})
	for i := range n {
		t.Learn(localMAC(i), portOf(localMAC(i)), 1)
	}
	r := rand.New(rand.NewPCG(1, 2))
	q := make([]fdb.MAC, queries)
	for i := range q {
		q[i] = localMAC(i % n)
	}
	r.Shuffle(len(q), func(i, j int) { q[i], q[j] = q[j], q[i] })
	return t, q
}

func portOf(m fdb.MAC) fdb.Dst { return fdb.Local(uint32(m) % 64) }

var errLookup = errors.New("an address was not found where it is")

func lookingUp(s Scenario) (*run, error) {
	t, q := filled(s.Addresses)
	r := &run{do: func(n int) error {
		lost := 0
		for i := range n {
			if t.Lookup(q[i&(queries-1)]) == 0 {
				lost++
			}
		}
		if lost > 0 {
			return errLookup
		}
		return nil
	}}
	if s.Writer {
		r.stop = write(t, s.Addresses)
	}
	return r, nil
}

func lookingUpBatches(s Scenario) (*run, error) {
	t, q := filled(s.Addresses)
	var dst [64]fdb.Dst
	r := &run{do: func(n int) error {
		for i := 0; i < n; i += len(dst) {
			at := i & (queries - 1)
			t.LookupBatch(q[at:at+len(dst)], dst[:])
			// A writer moves stations, but takes none of them away.
			if dst[0] == 0 || !s.Writer && dst[0] != portOf(q[at]) {
				return errLookup
			}
		}
		return nil
	}}
	if s.Writer {
		r.stop = write(t, s.Addresses)
	}
	return r, nil
}

func learning(s Scenario) (*run, error) {
	t, q := filled(s.Addresses)
	return &run{do: func(n int) error {
		other := 0
		for i := range n {
			m := q[i&(queries-1)]
			if t.Learn(m, portOf(m), 1) != fdb.Known {
				other++
			}
		}
		if other > 0 {
			return errLookup
		}
		return nil
	}}, nil
}

// write changes the table 100,000 times a second, in bursts of 100, until stop
// is called: stations move, and new ones come and go.
func write(t *fdb.Table, n int) (stop func()) {
	end := make(chan struct{})
	var writer sync.WaitGroup
	writer.Go(func() {
		r := rand.New(rand.NewPCG(3, 4))
		burst := time.NewTicker(time.Millisecond)
		defer burst.Stop()
		for {
			select {
			case <-end:
				return
			case <-burst.C:
			}
			for range 25 {
				t.Learn(localMAC(r.IntN(n)), fdb.Local(r.Uint32N(64)), 1)
				t.Learn(localMAC(r.IntN(n)), fdb.Local(r.Uint32N(64)), 1)
				m := farMAC(r.IntN(1 << 32))
				t.Learn(m, fdb.Local(1), 1)
				t.Delete(m)
			}
		}
	})
	return func() { close(end); writer.Wait() }
}
