package dhcpd_test

import (
	"net/netip"
	"testing"

	"github.com/uvtep/uvtep/dhcpd"
	"github.com/uvtep/uvtep/dhcpd/dhcpdtest"
)

// FuzzServe sends any message, and after it the same again, to a segment that
// uses everything. What it answers another parser must be able to read.
func FuzzServe(f *testing.F) {
	c := client(1)
	c.IP, c.Rapid, c.ClientID = addr(10), true, []byte{0xff, 1, 2}
	f.Add(c.Discover(), true)
	f.Add(with(c.Discover(), 81, 5, 0, 0, 3, 'w', 'e', 'b'), false) // FQDN in wire format
	f.Add(with(c.Discover(), 93, 0, 7), false)                      // a class
	f.Add(with(c.Discover(), 57, 2, 64), true)                      // the least room, which takes overload
	f.Add(with(c.Discover(), 118, 192, 168, 200, 0), false)         // subnet selection
	f.Add(c.Reboot(), false)
	f.Add(c.Renew(), true)
	f.Add(c.Inform(addr(77)), false)
	f.Add(with(c.Reboot(), 54, 192, 168, 100, 2), true)   // selecting
	f.Add(with(c.Reboot(), 54, 192, 168, 100, 77), false) // selecting another
	c.GIAddr, c.Relay = relayIP, []byte{1, 2, 'p', '1'}
	f.Add(c.Discover(), false)
	c.Relay = make([]byte, 255) // leaves too little room for the rest
	f.Add(c.Discover(), true)
	f.Add(raw(1, 53, 1, 4, 50, 4, 192, 168, 100, 10, 54, 4, 192, 168, 100, 2, 255), false) // DECLINE
	f.Add(raw(1, 53, 1, 7, 54, 4, 192, 168, 100, 2, 255), false)                           // RELEASE
	f.Fuzz(func(t *testing.T, b []byte, unicast bool) {
		w := newWorld(t, pool(3), relayed, func(c *dhcpd.SegmentConfig) {
			c.RapidCommit, c.SubnetSelection = true, true
			c.Routes = []dhcpd.Route{{To: netip.MustParsePrefix("10.0.0.0/8"), Via: gatewayIP}}
			c.Options = []dhcpd.Option{{Code: 224, Data: make([]byte, 300)}, {Code: 225, Data: make([]byte, 60), Always: true}}
			c.Classes = []dhcpd.Class{
				{Match: dhcpd.MatchArch, Arch: 7, Options: []dhcpd.Option{{Code: 67, Data: []byte("grub.efi")}}},
				{Match: dhcpd.MatchCircuitID, Value: "p1", Options: []dhcpd.Option{{Code: 66, Data: []byte("192.168.100.9")}}},
			}
		}, reserved(dhcpd.Reservation{MAC: mac(1), IP: addr(200), Hostname: "web1"}))
		at := from{port: "tap0"}
		if unicast {
			at.dst = serverIP
		}
		for range 2 {
			r := w.serve(b, at)
			w.svc.Commit()
			answers := len(r.replies)
			switch {
			case answers > 1, r.outcome == dhcpd.Pending && answers != 1, !r.outcome.Served() && answers != 0:
				t.Fatalf("outcome %v and %d replies", r.outcome, answers)
			}
			for _, p := range r.replies {
				if len(p.Payload) > 1472 || p.Dst.IsUnspecified() {
					t.Errorf("%d bytes to %s", len(p.Payload), p.Dst)
				}
			}
		}
		// What it left behind is what a restart finds.
		if n, m := lasting(w.srv.Leases()), lasting(newWorldOn(t, w.clock, w.store.Under, pool(3), relayed).srv.Leases()); n != m {
			t.Errorf("%d leases in memory, %d on disk", n, m)
		}
	})
}

// lasting is how many of the leases are stored ones.
func lasting(all []dhcpd.Lease) (n int) {
	for _, l := range all {
		if l.State == dhcpd.StateBound || l.State == dhcpd.StateDeclined {
			n++
		}
	}
	return n
}

// offers is a server and DISCOVERs of n clients; requests is what they send next.
func offers(b testing.TB, n int) (svc *dhcpd.Service, srv *dhcpd.Server, discovers, requests [][]byte) {
	b.Helper()
	svc, err := dhcpd.NewService(dhcpd.Config{Store: dhcpd.MemoryStore()})
	if err != nil {
		b.Fatal(err)
	}
	cfg := blue()
	cfg.Subnet = netip.MustParsePrefix("192.168.0.0/16")
	cfg.Ranges = []dhcpd.Range{{First: netip.MustParseAddr("192.168.128.0"), Last: netip.MustParseAddr("192.168.255.0")}}
	if srv, err = svc.Add(1, cfg); err != nil {
		b.Fatal(err)
	}
	for i := range n {
		c := &dhcpdtest.Client{MAC: mac(i), Hostname: "host"}
		discovers = append(discovers, c.Discover())
		srv.Serve(&dhcpd.Request{Payload: discovers[i]}, func(r dhcpd.Reply) {
			request, err := c.Receive(r.Payload)
			if err != nil {
				b.Fatal(err)
			}
			requests = append(requests, request)
		})
	}
	return svc, srv, discovers, requests
}

func TestAnOfferCostsNoAllocation(t *testing.T) {
	_, srv, discovers, _ := offers(t, 1)
	req := dhcpd.Request{Payload: discovers[0]}
	reply := func(dhcpd.Reply) {}
	if n := testing.AllocsPerRun(1000, func() { srv.Serve(&req, reply) }); n != 0 && !raceDetector {
		t.Errorf("%v allocations", n)
	}
}

// The DISCOVER of a client that has an offer, which is what the second and
// each later one is; and of one that is new.
func BenchmarkDiscover(b *testing.B) {
	_, srv, discovers, _ := offers(b, 1000)
	reply := func(dhcpd.Reply) {}
	var req dhcpd.Request
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		req.Payload = discovers[i%len(discovers)]
		if out := srv.Serve(&req, reply); out != dhcpd.Answered {
			b.Fatal(out)
		}
		i++
	}
}

// The REQUEST of a client that renews its lease, and its share of a commit of
// 100 to a store in memory.
func BenchmarkRequest(b *testing.B) {
	svc, srv, _, requests := offers(b, 1000)
	replies := 0
	reply := func(dhcpd.Reply) { replies++ }
	var req dhcpd.Request
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
		b.Fatalf("%d ACKs to %d requests", replies, i)
	}
}
