package vtep

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/google/gopacket/layers"

	"github.com/uvtep/uvtep/dhcpd/dhcpdtest"
	"github.com/uvtep/uvtep/fdb"
)

// committing has the DHCP service make leases durable until the test ends.
func (r *rig) committing(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.v.cfg.DHCP.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// lease has a client at a port get its lease.
func (r *rig) lease(t *testing.T, port string, c *dhcpdtest.Client) netip.Addr {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for msg := c.Discover(); msg != nil; {
		if !r.taps.Device(port).Send(broadcastBOOTP(t, fdb.MACOf(c.MAC), msg)) {
			t.Fatalf("%s does not take a frame", port)
		}
		for answered := false; !answered; {
			r.turn()
			for _, o := range r.outs() {
				if p := honest(t, o.bytes); o.where == port && p.Layer(layers.LayerTypeUDP) != nil {
					var err error
					if msg, err = c.Receive(p.Layer(layers.LayerTypeUDP).LayerPayload()); err != nil {
						t.Fatal(err)
					}
					answered = true
				}
			}
			if time.Now().After(deadline) {
				t.Fatal("the client gets no answer")
			}
		}
	}
	return c.IP
}

func TestALeaseSaysWhoHasAnAddressUntilItEnds(t *testing.T) {
	r, s := suppressing(t, SegmentConfig{DHCP: dhcpConfig(9)})
	var claims []Event
	r.v.cfg.Events = func(e Event) {
		if e.Kind == EventClaimed {
			claims = append(claims, e)
		}
	}
	r.committing(t)
	c := &dhcpdtest.Client{MAC: hw(mac(7))}
	leased := r.lease(t, "b", c)
	expect(t, "a lease", resolve(t, r.at("a"), mac(1), leased), "02:00:00:00:00:07 to a")
	for range 3 {
		r.fromPort("c", announce(t, mac(66), leased)) // a liar, or a conflict
	}
	expect(t, "somebody else claims it", resolve(t, r.at("a"), mac(1), leased), "02:00:00:00:00:07 to a")
	r.v.tellNews()
	if len(claims) != 1 || claims[0].IP != leased || claims[0].MAC != mac(66) || claims[0].Port != "c" || claims[0].VNI != 100 {
		t.Errorf("told %+v", claims)
	}
	if err := s.DHCP().Release(leased); err != nil {
		t.Fatal(err)
	}
	expect(t, "the lease has ended", resolve(t, r.at("a"), mac(1), leased), floodOfA)
	// Where it is switched on later the leases are there.
	leased = r.lease(t, "b", c)
	cfg := s.Config()
	cfg.Suppress = 0
	reconfigure := func() {
		t.Helper()
		if err := s.Reconfigure(cfg); err != nil {
			t.Fatal(err)
		}
	}
	reconfigure()
	expect(t, "switched off", resolve(t, r.at("a"), mac(1), leased), floodOfA)
	if all := s.Neighbours(); all != nil {
		t.Errorf("%+v", all)
	}
	cfg.Suppress = SuppressARP
	reconfigure()
	expect(t, "switched on", resolve(t, r.at("a"), mac(1), leased), "02:00:00:00:00:07 to a")
	r.fromPort("b", advertised(t, mac(7), guest6, 0x20))
	expect(t, "what is not switched on", resolve(t, r.at("a"), mac(1), guest6), floodOfA)
}

func TestTheConfigurationSaysWhoHasAnAddress(t *testing.T) {
	static := []StaticNeighbour{{guestIP, mac(7)}, {ip("2001:db8:100::77"), mac(7)}}
	r, s := suppressing(t, SegmentConfig{FDB: []StaticEntry{{MAC: mac(7), Dst: peer3}}, Neighbours: static})
	for _, n := range static {
		expect(t, "an entry", resolve(t, r.at("a"), mac(1), n.IP), "02:00:00:00:00:07 to a")
	}
	r.fromPort("b", announce(t, mac(8), guestIP))
	expect(t, "somebody else claims it", resolve(t, r.at("a"), mac(1), guestIP), "02:00:00:00:00:07 to a")
	cfg := s.Config()
	cfg.Neighbours = []StaticNeighbour{{guestIP, mac(8)}}
	if err := s.Reconfigure(cfg); err != nil {
		t.Fatal(err)
	}
	expect(t, "another entry", resolve(t, r.at("a"), mac(1), guestIP), "02:00:00:00:00:08 to a")
	expect(t, "no entry any more", resolve(t, r.at("a"), mac(1), static[1].IP), floodOfA)
	for _, bad := range []StaticNeighbour{{ip("0.0.0.0"), mac(1)}, {ip("ff02::1"), mac(1)}, {guestIP, 0}, {guestIP, fdb.Broadcast}, {netip.Addr{}, mac(1)}} {
		cfg.Neighbours = []StaticNeighbour{bad}
		if err := s.Reconfigure(cfg); err == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
}
