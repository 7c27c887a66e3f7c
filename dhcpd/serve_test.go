package dhcpd_test

import (
	"net/netip"
	"testing"

	"github.com/uvtep/uvtep/dhcpd"
	"github.com/uvtep/uvtep/dhcpd/dhcpdtest"
)

// How FuzzServe sends its message and to whom.
const (
	byUnicast = 1 << iota // not broadcast
	onProbe               // addresses are probed
	onClaim               // and somebody claims them
	onePort               // a port may have one lease
	noRapid               // no lease for a DISCOVER
)

// FuzzServe sends any message, and after it the same again, to a segment that
// uses everything. What it answers another parser must be able to read.
func FuzzServe(f *testing.F) {
	c := client(1)
	c.IP, c.Rapid, c.ClientID = addr(10), true, []byte{0xff, 1, 2}
	f.Add(c.Discover(), uint8(byUnicast))
	f.Add(with(c.Discover(), 81, 5, 0, 0, 3, 'w', 'e', 'b'), uint8(0)) // FQDN in wire format
	f.Add(with(c.Discover(), 93, 0, 7), uint8(0))                      // a class
	f.Add(with(c.Discover(), 57, 2, 64), uint8(byUnicast))             // the least room, which takes overload
	f.Add(with(c.Discover(), 118, 192, 168, 200, 0), uint8(0))         // subnet selection
	f.Add(c.Reboot(), uint8(0))
	f.Add(c.Renew(), uint8(byUnicast))
	f.Add(c.Inform(addr(77)), uint8(0))
	f.Add(with(c.Reboot(), 54, 192, 168, 100, 2), uint8(byUnicast)) // selecting
	f.Add(with(c.Reboot(), 54, 192, 168, 100, 77), uint8(0))        // selecting another
	c.GIAddr, c.Relay = relayIP, []byte{1, 2, 'p', '1'}
	f.Add(c.Discover(), uint8(0))
	c.Relay = make([]byte, 255) // leaves too little room for the rest
	f.Add(c.Discover(), uint8(byUnicast))
	f.Add(raw(1, 53, 1, 4, 50, 4, 192, 168, 100, 10, 54, 4, 192, 168, 100, 2, 255), uint8(0)) // DECLINE
	f.Add(raw(1, 53, 1, 7, 54, 4, 192, 168, 100, 2, 255), uint8(0))                           // RELEASE
	c = client(1)
	f.Add(c.Discover(), uint8(onProbe))
	f.Add(client(2).Discover(), uint8(onProbe|onClaim|noRapid)) // to the last address
	f.Add(client(2).Discover(), uint8(onProbe|onePort))
	f.Add(bootpRequest(1), uint8(0))                                // BOOTP without a vendor area
	f.Add(bootpRequest(1, 0x63, 0x82, 0x53, 0x63, 255), uint8(0))   // and with one
	f.Add(with(c.Discover(), 60, []byte("PXEClient")...), uint8(0)) // network boot
	f.Add(with(c.Discover(), 12, []byte("web2")...), uint8(0))      // a reservation by name
	f.Fuzz(func(t *testing.T, b []byte, how uint8) {
		is := func(flag uint8) bool { return how&flag != 0 }
		edits := []func(*dhcpd.SegmentConfig){pool(3), relayed, func(c *dhcpd.SegmentConfig) {
			c.RapidCommit, c.SubnetSelection, c.BOOTP = !is(noRapid), true, true
			c.NextServer, c.BootFile = addr(90), "pxelinux.0"
			c.Routes = []dhcpd.Route{{To: netip.MustParsePrefix("10.0.0.0/8"), Via: gatewayIP}}
			c.Options = []dhcpd.Option{{Code: 224, Data: make([]byte, 300)}, {Code: 225, Data: make([]byte, 60), Always: true}, {Code: 116, Data: []byte{0}}}
			c.Classes = []dhcpd.Class{
				{Match: dhcpd.MatchArch, Arch: 7, BootFile: "grub.efi"},
				{Match: dhcpd.MatchCircuitID, Value: "p1", Options: []dhcpd.Option{{Code: 66, Data: []byte("192.168.100.9")}}},
			}
			if is(onProbe) {
				c.Probe = wait
			}
		}, reserved(dhcpd.Reservation{MAC: mac(1), IP: addr(200), Hostname: "web1"}, dhcpd.Reservation{Hostname: "web2", IP: addr(201)})}
		w := newWorld(t, edits...)
		var asked []netip.Addr
		w.srv.ProbeWith(func(ip netip.Addr) { asked = append(asked, ip) })
		at := from{port: "tap0"}
		if is(byUnicast) {
			at.dst = serverIP
		}
		if is(onePort) {
			at.max = 1
		}
		for range 2 {
			r := w.serve(b, at)
			w.svc.Commit()
			for is(onClaim) && len(asked) > 0 {
				w.srv.InUse(asked[0], stranger)
				asked = asked[1:]
				w.srv.Probed()
			}
			w.pass()
			w.svc.Commit()
			answers := len(r.replies)
			switch {
			case answers > 1, r.outcome == dhcpd.Pending && answers != 1, !r.outcome.Served() && answers != 0,
				r.outcome == dhcpd.Probing && answers != 1 && !is(onClaim):
				t.Fatalf("outcome %v and %d replies", r.outcome, answers)
			}
			for _, p := range r.replies {
				if len(p.Payload) > 1472 || p.Dst.IsUnspecified() {
					t.Errorf("%d bytes to %s", len(p.Payload), p.Dst)
				}
			}
		}
		if queued, held := w.srv.Probing(); queued != 0 || held != 0 {
			t.Errorf("%d probes are left over, %d offers wait for them", queued, held)
		}
		if is(onePort) && w.srv.Stats().Bound > 1 {
			t.Errorf("a port that may have one lease has %d", w.srv.Stats().Bound)
		}
		// What it left behind is what a restart finds.
		if n, m := lasting(w.srv.Leases()), lasting(newWorldOn(t, w.clock, w.store.Under, edits...).srv.Leases()); n != m {
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
