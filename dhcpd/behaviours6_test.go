package dhcpd_test

import (
	"testing"
)

// The behaviours of DHCPv6, in the order of RFC 8415 section 18.3.

func TestARequestGetsWhatWasAdvertised(t *testing.T) {
	w := newWorld6(t)
	c := client6(1)
	c.NA, c.PD = []uint32{7}, []uint32{9}
	a, r := w.bind6(c)
	if len(a.gives()) != 2 || len(r.gives()) != 2 || a.gives()[0] != r.gives()[0] || a.gives()[1] != r.gives()[1] {
		t.Errorf("advertised %v, gave %v", a.gives(), r.gives())
	}
	if len(w.srv6.Leases()) != 2 {
		t.Errorf("leases %+v", w.srv6.Leases())
	}
	w.take(c, w.must6(7, c.Renew(), from6{}))
	if len(c.Leases) != 2 || c.Leases[0].Prefix != r.gives()[0] {
		t.Errorf("renewed %v", c.Leases)
	}
	w.take(c, w.must6(7, c.Release(), from6{}))
	if len(w.srv6.Leases()) != 0 {
		t.Errorf("leases %+v", w.srv6.Leases())
	}
}
