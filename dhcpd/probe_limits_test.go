package dhcpd_test

import (
	"net/netip"
	"testing"

	"github.com/uvtep/uvtep/dhcpd"
)

// How much of probes there may be.

func TestNobodysWordIsTakenForTooManyAddresses(t *testing.T) {
	w, _ := probed(t, func(c *dhcpd.SegmentConfig) {
		c.Subnet = netip.MustParsePrefix("192.168.0.0/16")
		c.Ranges = []dhcpd.Range{{First: netip.MustParseAddr("192.168.128.0"), Last: netip.MustParseAddr("192.168.159.255")}}
	})
	for i := range 2000 {
		w.srv.InUse(netip.AddrFrom4([4]byte{192, 168, byte(128 + i>>8), byte(i)}), stranger)
	}
	if s := w.srv.Stats(); s.Declined != 1024 || s.Used != 1024 {
		t.Errorf("%d addresses are left alone, %d used, want 1024", s.Declined, s.Used)
	}
}

func TestTooManyProbesAtOnceLetOffersGoUnprobed(t *testing.T) {
	w, asked := probed(t, func(c *dhcpd.SegmentConfig) {
		c.Subnet = netip.MustParsePrefix("192.168.0.0/16")
		c.Ranges = []dhcpd.Range{{First: netip.MustParseAddr("192.168.128.0"), Last: netip.MustParseAddr("192.168.159.255")}}
	})
	outcomes := map[dhcpd.Outcome]int{}
	var all []*result
	for i := range 1100 {
		r := w.serve(client(i).Discover(), from{})
		outcomes[r.outcome]++
		all = append(all, r)
	}
	if outcomes[dhcpd.Probing] != 1024 || outcomes[dhcpd.Answered] != 76 || len(*asked) != 1024 {
		t.Errorf("outcomes %v, asked %d times", outcomes, len(*asked))
	}
	if s := w.srv.Stats(); s.ProbesSkipped != 76 || s.Probes != 1024 {
		t.Errorf("stats %+v", s)
	}
	w.pass()
	for i, r := range all {
		if len(r.replies) != 1 {
			t.Errorf("client %d got %d replies", i, len(r.replies))
		}
	}
	if queued, held := w.srv.Probing(); queued != 0 || held != 0 {
		t.Errorf("left over: %d, %d", queued, held)
	}
}

func TestAfterAFewClaimedAddressesTheClientHasToAskAgain(t *testing.T) {
	w, asked := probed(t)
	r := w.serve(client(1).Discover(), from{})
	for i := range 20 {
		w.srv.InUse(addr(10+i), stranger)
		w.srv.Probed()
	}
	w.pass()
	if len(r.replies) != 0 || len(*asked) != 4 {
		t.Fatalf("asked about %v, %d replies", *asked, len(r.replies))
	}
	// What was claimed unasked counts as well.
	if n := w.srv.Stats().Declined; n != 20 {
		t.Errorf("%d addresses are left alone, want 20", n)
	}
	r = w.serve(client(1).Discover(), from{})
	w.pass()
	if p := r.one(t, offer); p.yiaddr() != addr(30) {
		t.Errorf("offered %s, want %s", p.yiaddr(), addr(30))
	}
}
