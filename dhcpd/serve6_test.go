package dhcpd_test

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv6"

	"github.com/uvtep/uvtep/dhcpd"
	"github.com/uvtep/uvtep/dhcpd/dhcpdtest"
)

// everything6 is a segment that uses all there is.
func everything6(c *dhcpd.SegmentConfig6) {
	c.RapidCommit = true
	c.Ranges = []dhcpd.Range{{First: addr6(0x1000), Last: addr6(0x1003)}, {First: addr6(0x2000), Last: addr6(0xffff_ffff)}}
	c.Delegations = []dhcpd.Delegation{{Prefix: prefix("2001:db8:200::/62"), Length: 64}, {Prefix: prefix("fd00::/16"), Length: 56}}
	c.Options = []dhcpd.Option6{{Code: 59, Data: make([]byte, 900)}, {Code: 32, Data: make([]byte, 4)}, {Code: 82, Data: make([]byte, 4)}}
	c.Hosts = []dhcpd.Reservation6{
		{MAC: mac(1), IP: addr6(0x50), Prefix: prefix("2001:db8:200:1::/64"), Hostname: "web1"},
		{DUID: []byte{0, 9, 1}, Options: []dhcpd.Option6{{Code: 23, Data: make([]byte, 16)}}},
		{Port: "tap0", IP: addr6(0x1001)},
	}
}

// FuzzServe6 sends any message, and after it the same again, to a segment that
// uses everything. Where the library can read the message it must be able to
// read the answer; of identifiers that it does not like the server knows nothing,
// they are opaque (RFC 8415 section 11).
func FuzzServe6(f *testing.F) {
	c := client6(1)
	c.NA, c.PD, c.Rapid, c.Server = []uint32{1, 2}, []uint32{1, 2}, true, config6().ServerDUID()
	c.Hints = []netip.Prefix{one(addr6(0x1002)), prefix("::/60")}
	c.Offer = []dhcpdtest.Lease6{{IAID: 1, Prefix: one(addr6(0x1000))}, {IAID: 2, Prefix: prefix("2001:db8:200:2::/64")}}
	c.Leases = c.Offer
	c.Extra = []dhcpv6.Option{option6(39, 1, 3, 'w', 'e', 'b')}
	link := netip.MustParseAddr("2001:db8:100::99")
	for _, b := range [][]byte{c.Solicit(), c.Request(), c.Renew(), c.Rebind(), c.Confirm(), c.Release(), c.Decline(), c.Inform()} {
		f.Add(b, true, uint8(0))
		f.Add(relayed6(relayed6(b, link, local6, dhcpv6.OptInterfaceID([]byte("p1")), option6(79, 0, 1, 2, 0, 0, 0, 0, 9)), netip.IPv6Unspecified(), local6,
			option6(43, 0, 37), option6(37, 0, 0, 0, 9)), false, uint8(1))
	}
	c.Asked, c.DUID = []uint16{23, 24, 32, 39, 59, 82}, []byte{0, 9, 1}
	f.Add(c.Solicit(), true, uint8(2))                                                                         // a client of a reservation, on a port with a limit
	f.Add(c.Request(), false, uint8(0))                                                                        // by unicast
	f.Add(edit6(c.Inform(), func(m *dhcpv6.Message) { m.Options.Del(dhcpv6.OptionClientID) }), true, uint8(0)) // of nobody
	f.Fuzz(func(t *testing.T, b []byte, multicast bool, limit uint8) {
		w := newWorld6(t, everything6)
		at := from6{dst: server6, srcMAC: [6]byte{2, 0, 0, 0, 0, 1}}
		if multicast {
			at.dst = servers6
		}
		if limit > 0 {
			at.port, at.max = "tap0", int(limit)
		}
		_, err := dhcpv6.FromBytes(b)
		for range 2 {
			r := w.serve6With(b, at, err == nil)
			early := len(r.replies)
			w.svc.Commit()
			late := len(r.replies)
			switch out := r.outcome; {
			case out == dhcpd.Pending && (early != 0 || late != 1),
				out == dhcpd.Answered && early != 1,
				(out == dhcpd.NoLease || out == dhcpd.PortFull) && early != 1,
				(out.Ignored() || out == dhcpd.Malformed) && late != 0, early > late, late > 1:
				t.Fatalf("outcome %v, %d replies at once and %d in all", out, early, late)
			}
			for _, p := range r.replies {
				if len(p.Payload) > len(b)+2048 {
					t.Errorf("%d bytes in answer to %d", len(p.Payload), len(b))
				}
				if p.Message == nil {
					continue
				}
				for _, l := range p.leases() {
					if l.Valid == 0 && p.MessageType == advertise6 {
						t.Errorf("an ADVERTISE takes %v away", l)
					}
				}
			}
		}
		if limit > 0 && w.srv6.Stats().Bound > int(limit) {
			t.Errorf("%d leases on a port that may have %d", w.srv6.Stats().Bound, limit)
		}
		// What it left behind is what a restart finds.
		if n, m := lasting(w.srv6.Leases()), lasting(newWorld6On(t, w.clock, w.store.Under, everything6).srv6.Leases()); n != m {
			t.Errorf("%d leases in memory, %d on disk", n, m)
		}
	})
}

// offers6 is a server and SOLICITs of n clients; requests is what they send next.
func offers6(b testing.TB, n int) (svc *dhcpd.Service, srv *dhcpd.Server6, solicits, requests [][]byte) {
	b.Helper()
	svc, err := dhcpd.NewService(dhcpd.Config{Store: dhcpd.MemoryStore()})
	if err != nil {
		b.Fatal(err)
	}
	if srv, err = svc.Add6(1, green()); err != nil {
		b.Fatal(err)
	}
	for i := range n {
		c := &dhcpdtest.Client6{MAC: mac(i)}
		solicits = append(solicits, c.Solicit())
		srv.Serve(&dhcpd.Request{Payload: solicits[i], Src: local6, Dst: servers6}, func(r dhcpd.Reply) {
			request, err := c.Receive(r.Payload)
			if err != nil {
				b.Fatal(err)
			}
			requests = append(requests, request)
		})
	}
	return svc, srv, solicits, requests
}

// The SOLICIT of a client that has an offer.
func BenchmarkSolicit6(b *testing.B) {
	_, srv, solicits, _ := offers6(b, 1000)
	reply := func(dhcpd.Reply) {}
	req := dhcpd.Request{Src: local6, Dst: servers6}
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		req.Payload = solicits[i%len(solicits)]
		if out := srv.Serve(&req, reply); out != dhcpd.Answered {
			b.Fatal(out)
		}
		i++
	}
}

// The SOLICIT of a client that is new, which takes the hash.
func BenchmarkSolicit6OfANewClient(b *testing.B) {
	_, srv, solicits, _ := offers6(b, 1)
	reply := func(dhcpd.Reply) {}
	req := dhcpd.Request{Payload: solicits[0], Src: local6, Dst: servers6}
	b.ReportAllocs()
	for i := uint32(0); b.Loop(); i++ {
		binary.BigEndian.PutUint32(req.Payload[14:], i) // within the DUID
		if out := srv.Serve(&req, reply); out != dhcpd.Answered {
			b.Fatal(out)
		}
	}
}

// The REQUEST of a client that renews its lease, and its share of a commit of
// 100 to a store in memory.
func BenchmarkRequest6(b *testing.B) {
	svc, srv, _, requests := offers6(b, 1000)
	replies := 0
	reply := func(dhcpd.Reply) { replies++ }
	req := dhcpd.Request{Src: local6, Dst: servers6}
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		req.Payload = requests[i%len(requests)]
		if out := srv.Serve(&req, reply); out != dhcpd.Pending {
			b.Fatal(out)
		}
		if i++; i%100 == 0 {
			svc.Commit()
		}
	}
	svc.Commit()
	if replies != i {
		b.Fatalf("%d REPLYs to %d requests", replies, i)
	}
}

// TryServe is for a worker, which has frames to carry.
func TestTryServeLeavesAloneWhatMayTakeItsTime(t *testing.T) {
	w := newWorld6(t)
	try := func(payload []byte) (replies int, done bool) {
		_, done = w.srv6.TryServe(&dhcpd.Request{Payload: payload, Src: local6, Dst: servers6}, func(dhcpd.Reply) { replies++ })
		return replies, done
	}
	c := client6(1)
	if n, done := try(c.Solicit()); n != 1 || !done {
		t.Errorf("%d replies, done %t", n, done)
	}
	w.clock.Advance(dhcpd.DefaultOfferHold) // an offer is about to lapse
	if n, done := try(c.Solicit()); n != 0 || done {
		t.Errorf("with leases to end: %d replies, done %t", n, done)
	}
	w.must6(advertise6, c.Solicit(), from6{})
	if n, done := try(c.Solicit()); n != 1 || !done {
		t.Errorf("%d replies, done %t", n, done)
	}
	w.bind6(c)
	if n, done := try(c.Decline()); n != 0 || done {
		t.Errorf("a DECLINE, of which the log tells: %d replies, done %t", n, done)
	}
	// While somebody else is at work on the segment: events are told without the
	// lock, replies too, so it takes a goroutine that asks all the time.
	stop, busy := make(chan struct{}), make(chan bool)
	go func() {
		for {
			select {
			case <-stop:
				busy <- true
				return
			default:
				w.srv6.Leases()
			}
		}
	}()
	for range 10000 {
		n, done := try(c.Solicit())
		if done != (n == 1) {
			t.Fatalf("%d replies, done %t", n, done)
		}
	}
	close(stop)
	<-busy
}
