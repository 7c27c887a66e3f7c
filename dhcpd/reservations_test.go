package dhcpd_test

import (
	"cmp"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/uvtep/uvtep/dhcpd"
)

// How a reservation's client is told from others.

func TestAReservationByHostNameIsForOneMachineAtATime(t *testing.T) {
	byName := dhcpd.Reservation{Hostname: "Web1", IP: addr(203)}
	for name, named := range map[string]func(m *dhcpv4.DHCPv4){
		"option 12":              func(m *dhcpv4.DHCPv4) { m.Options[12] = []byte("wEB1") },
		"option 12 with an end":  func(m *dhcpv4.DHCPv4) { m.Options[12] = []byte("web1\x00") },
		"option 81":              func(m *dhcpv4.DHCPv4) { m.Options[81] = []byte("\x00\x00\x00WEB1.blue.example") },
		"option 81, on the wire": func(m *dhcpv4.DHCPv4) { m.Options[81] = []byte("\x04\x00\x00\x04web1\x04blue\x00") },
		"option 81 beside another option 12": func(m *dhcpv4.DHCPv4) {
			m.Options[12] = []byte("localhost")
			m.Options[81] = []byte("\x00\x00\x00web1")
		},
	} {
		for _, how := range []string{"configured", "live"} {
			w := newWorld(t)
			if how == "configured" {
				w = newWorld(t, reserved(byName))
			} else if err := w.srv.Reserve(byName); err != nil {
				t.Fatal(err)
			}
			c := client(1)
			if r := w.must(offer, edit(c.Discover(), named)); r.yiaddr() != addr(203) || string(r.opt[12]) != "Web1" {
				t.Errorf("%s, %s: offered %s as %q", name, how, r.yiaddr(), r.opt[12])
			}
			if l := w.srv.Leases(); len(l) != 1 || !byName.Names(l[0]) {
				t.Errorf("%s, %s: leases %+v", name, how, l)
			}
		}
	}
	w := newWorld(t, reserved(byName))
	c, d, e := client(1), client(2), client(3)
	c.Hostname, d.Hostname, e.Hostname = "web1", "web1", "web12"
	w.bind(c)
	w.bind(d)
	w.bind(e)
	if c.IP != addr(203) || d.IP != addr(10) || e.IP != addr(11) {
		t.Errorf("got %s, %s, %s, want the reservation once", c.IP, d.IP, e.IP)
	}
	// The machine is known by its hardware, whatever its system calls itself.
	c.ClientID, c.IP = []byte{0xff, 1, 2}, netip.Addr{}
	if w.bind(c); c.IP != addr(203) {
		t.Errorf("with a client id it got %s", c.IP)
	}
	w.ask(c.Release())
	d.IP = netip.Addr{}
	if w.bind(d); d.IP != addr(203) {
		t.Errorf("once it was free the other machine got %s", d.IP)
	}
}

func TestAClientThatRenewsWithoutItsNameKeepsItsReservation(t *testing.T) {
	w := newWorld(t, reserved(dhcpd.Reservation{Hostname: "web1", IP: addr(203)}))
	c := client(1)
	c.Hostname = "web1"
	w.bind(c)
	c.Hostname = ""
	for range 3 {
		w.clock.Advance(6 * time.Hour)
		if r := w.mustFrom(ack, c.Renew(), from{src: c.IP, dst: serverIP}); string(r.opt[12]) != "web1" {
			t.Errorf("the name is %q", r.opt[12])
		}
	}
	w = newWorldOn(t, w.clock, w.store.Under, reserved(dhcpd.Reservation{Hostname: "web1", IP: addr(203)}))
	w.must(ack, c.Reboot())
	// But a client that calls itself otherwise is another one.
	c.Hostname = "web2"
	w.must(nak, c.Reboot())
}

func TestANameIsLookedAtAfterAllElse(t *testing.T) {
	w := newWorld(t, reserved(
		dhcpd.Reservation{Hostname: "web1", IP: addr(203)}, dhcpd.Reservation{Port: "tap1", IP: addr(204)},
		dhcpd.Reservation{MAC: mac(1), IP: addr(205)}, dhcpd.Reservation{ClientID: []byte{0xff, 9}, IP: addr(206)},
	))
	c := client(1)
	c.Hostname, c.ClientID = "web1", []byte{0xff, 9}
	for _, tt := range []struct {
		next func()
		port string
		want int
	}{
		{func() {}, "tap1", 206},
		{func() { c.ClientID = []byte{0xff, 8} }, "tap1", 205},
		{func() { c.MAC = mac(2) }, "tap1", 204},
		{func() { c.MAC = mac(3) }, "tap2", 203},
		{func() { c.MAC, c.ClientID, c.Hostname = mac(4), nil, "" }, "tap2", 10},
	} {
		tt.next()
		c.IP = netip.Addr{}
		if w.bindFrom(c, from{port: tt.port}); c.IP != addr(tt.want) {
			t.Errorf("%s %x on %s, called %q: got %s, want %s", c.MAC, c.ClientID, tt.port, c.Hostname, c.IP, addr(tt.want))
		}
	}
}

func TestAReservationByPortCanBeMadeLive(t *testing.T) {
	w := newWorld(t)
	r := dhcpd.Reservation{Port: "tap7", IP: addr(202), Hostname: "seven"}
	if err := w.srv.Reserve(r); err != nil {
		t.Fatal(err)
	}
	c := client(1)
	if _, got := w.bindFrom(c, from{port: "tap7"}); c.IP != addr(202) || string(got.opt[12]) != "seven" {
		t.Errorf("got %s, host name %q", c.IP, got.opt[12])
	}
	l, _ := w.srv.Lookup(addr(202))
	other := l
	other.Port = "tap8"
	remote := l
	remote.VTEP = addr(1)
	if !r.Names(l) || r.Names(other) || r.Names(remote) {
		t.Errorf("named: its own %t, another port's %t, a remote one %t", r.Names(l), r.Names(other), r.Names(remote))
	}
}

func TestReservationsByNameConflictAsOthersDo(t *testing.T) {
	w := newWorld(t, reserved(dhcpd.Reservation{Hostname: "web1", IP: addr(200)}))
	err := w.srv.Reserve(dhcpd.Reservation{Hostname: "WEB1", IP: addr(201)})
	if want := "reserve 192.168.100.201 for host name WEB1: 192.168.100.200 is reserved for host name web1 already"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	// A name beside something better is only what the client is called.
	if err := w.srv.Reserve(dhcpd.Reservation{MAC: mac(5), Hostname: "web1", IP: addr(201)}); err != nil {
		t.Error(err)
	}
	cfg := blue()
	cfg.Hosts = []dhcpd.Reservation{{Hostname: "a", IP: addr(30)}, {Hostname: "A", IP: addr(31)}, {Port: "p", IP: addr(32)}, {Port: "p", IP: addr(33)}}
	var got []string
	for _, f := range cfg.Validate() {
		got = append(got, f.Error())
	}
	want := "hosts[1].hostname: A is already that of hosts[0]\nhosts[3].port: p is already that of hosts[2]"
	if s := strings.Join(got, "\n"); s != want {
		t.Errorf("faults\n%s\nwant\n%s", s, want)
	}
}

func TestAReservationByClientIDHoldsOverAChangeOfHardware(t *testing.T) {
	w := newWorld(t, reserved(dhcpd.Reservation{ClientID: []byte{0xff, 1, 2}, IP: addr(201)}))
	c, d := client(1), client(2)
	c.ClientID, d.ClientID = []byte{0xff, 1, 2}, []byte{0xff, 1, 2}
	w.bind(c)
	w.bind(d)
	if c.IP != addr(201) || d.IP != addr(201) {
		t.Errorf("got %s and %s, want %s", c.IP, d.IP, addr(201))
	}
	e := client(1)
	if w.bind(e); e.IP == addr(201) {
		t.Error("the MAC alone got the reservation of the client id")
	}
}

func TestAReservationByPortIsForOneMachineAtATime(t *testing.T) {
	w := newWorld(t, reserved(dhcpd.Reservation{Port: "tap7", IP: addr(202)}))
	c, d := client(1), client(2)
	if w.bindFrom(c, from{port: "tap7"}); c.IP != addr(202) {
		t.Errorf("got %s, want %s", c.IP, addr(202))
	}
	if w.bindFrom(d, from{port: "tap7"}); d.IP == addr(202) {
		t.Error("two machines on a port got one address")
	}
	if !w.happened(dhcpd.EventBlocked) {
		t.Errorf("events %v, want blocked", w.kinds())
	}
	w.ask(c.Release())
	d.IP = netip.Addr{}
	if w.bindFrom(d, from{port: "tap7"}); d.IP != addr(202) {
		t.Errorf("once it was free the other machine got %s", d.IP)
	}
	if w.bindFrom(c, from{port: "tap8"}); c.IP == addr(202) {
		t.Error("a client on another port got the reservation")
	}
}

func TestConflictingReservationsAreRefused(t *testing.T) {
	w := newWorld(t, reserved(dhcpd.Reservation{MAC: mac(1), IP: addr(200)}))
	for name, c := range map[string]struct {
		r    dhcpd.Reservation
		kind error
		says string
	}{
		"the same address":      {dhcpd.Reservation{MAC: mac(2), IP: addr(200)}, dhcpd.ErrReserved, "reserve 192.168.100.200 for 02:00:00:00:00:02: 192.168.100.200 is reserved for 02:00:00:00:00:01 already"},
		"the same client":       {dhcpd.Reservation{MAC: mac(1), IP: addr(201)}, dhcpd.ErrReserved, "192.168.100.200 is reserved for 02:00:00:00:00:01 already"},
		"outside the subnet":    {dhcpd.Reservation{MAC: mac(2), IP: netip.MustParseAddr("10.0.0.1")}, dhcpd.ErrReservation, "10.0.0.1 is in none of the segment's subnets"},
		"the server's address":  {dhcpd.Reservation{MAC: mac(2), IP: serverIP}, dhcpd.ErrReservation, "server's own"},
		"the gateway's address": {dhcpd.Reservation{MAC: mac(2), IP: gatewayIP}, dhcpd.ErrReservation, "gateway's"},
		"two names":             {dhcpd.Reservation{MAC: mac(2), Port: "tap0", IP: addr(201)}, dhcpd.ErrReservation, "names 2 clients"},
		"nobody":                {dhcpd.Reservation{IP: addr(201)}, dhcpd.ErrReservation, "for nobody: names 0 clients"},
		"a bad host name":       {dhcpd.Reservation{MAC: mac(2), IP: addr(201), Hostname: "bad name"}, dhcpd.ErrReservation, `"bad name" is not a host name`},
	} {
		if err := w.srv.Reserve(c.r); !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "hosts[") {
			t.Errorf("%s: %v, want %v that says %q", name, err, c.kind, c.says)
		}
	}
}

func TestAReservationGivesWayToTheConfigurationsAndComesBack(t *testing.T) {
	w := newWorld(t)
	live := dhcpd.Reservation{MAC: mac(1), IP: addr(240)}
	if err := w.srv.Reserve(live); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		hosts []dhcpd.Reservation
		want  netip.Addr // the client's
	}{
		{[]dhcpd.Reservation{live}, addr(240)},
		{[]dhcpd.Reservation{{MAC: mac(1), IP: addr(241)}}, addr(241)},
		{nil, addr(240)},
	} {
		cfg := blue()
		cfg.Hosts = c.hosts
		if err := w.srv.Reconfigure(cfg); err != nil {
			t.Fatal(err)
		}
		if l := w.srv.Leases(); len(l) != 1 || l[0].IP != c.want || l[0].State != dhcpd.StateReserved {
			t.Errorf("configured %+v: %+v, want %s", c.hosts, l, c.want)
		}
		// What it hides is in nobody's way.
		if err := w.srv.Reserve(dhcpd.Reservation{MAC: mac(2), IP: addr(242)}); err != nil {
			t.Error(err)
		}
		if err := w.srv.Unreserve(addr(242)); err != nil {
			t.Error(err)
		}
		err := w.srv.Unreserve(c.want)
		if c.hosts != nil && !errors.Is(err, dhcpd.ErrConfigured) || c.hosts == nil && err != nil {
			t.Errorf("configured %+v: Unreserve: %v", c.hosts, err)
		}
	}
	if l := w.srv.Leases(); len(l) != 0 {
		t.Errorf("left over: %+v", l)
	}
}

func TestAReservationThatHasGivenWayCanStillBeRemoved(t *testing.T) {
	elsewhere := blue()
	elsewhere.Hosts = []dhcpd.Reservation{{MAC: mac(1), IP: addr(241)}}
	smaller := blue()
	smaller.Subnet, smaller.Ranges = netip.MustParsePrefix("192.168.100.0/25"), []dhcpd.Range{{First: addr(10), Last: addr(20)}}
	for name, cfg := range map[string]dhcpd.SegmentConfig{"its client has another": elsewhere, "it is in no subnet": smaller} {
		w := newWorld(t)
		if err := errors.Join(w.srv.Reserve(dhcpd.Reservation{MAC: mac(1), IP: addr(240)}), w.srv.Reconfigure(cfg)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := w.srv.Unreserve(addr(240)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := w.srv.Reconfigure(blue()); err != nil {
			t.Fatal(err)
		}
		if l := w.srv.Leases(); len(l) != 0 {
			t.Errorf("%s: it is back: %+v", name, l)
		}
	}
}

func TestAReservationGivesWayToTheServersOwnAddressAndTheGateways(t *testing.T) {
	w := newWorld(t)
	if err := w.srv.Reserve(dhcpd.Reservation{MAC: mac(1), IP: addr(240)}); err != nil {
		t.Fatal(err)
	}
	server, gateway := blue(), blue()
	server.Server, gateway.Gateway = addr(240), addr(240)
	for name, cfg := range map[string]dhcpd.SegmentConfig{"the server's": server, "the gateway's": gateway, "": blue()} {
		if err := w.srv.Reconfigure(cfg); err != nil {
			t.Fatal(err)
		}
		if l := w.srv.Leases(); len(l) == 1 != (name == "") {
			t.Errorf("the address is %s: %+v", cmp.Or(name, "nobody's"), l)
		}
	}
}

func TestAnAddressThatIsReservedForAnotherIsListedWithBoth(t *testing.T) {
	w := newWorld(t)
	c := client(1)
	w.bind(c)
	if err := w.srv.Reserve(dhcpd.Reservation{MAC: mac(2), IP: c.IP}); err != nil {
		t.Fatal(err)
	}
	l := w.srv.Leases()
	if len(l) != 2 || l[0].State != dhcpd.StateBound || l[0].CHAddr != string(mac(1)) ||
		l[1].State != dhcpd.StateReserved || l[1].CHAddr != string(mac(2)) || l[1].IP != c.IP {
		t.Errorf("%+v", l)
	}
	// Its own client is there once.
	if err := errors.Join(w.srv.Unreserve(c.IP), w.srv.Reserve(dhcpd.Reservation{MAC: mac(1), IP: c.IP})); err != nil {
		t.Fatal(err)
	}
	if l := w.srv.Leases(); len(l) != 1 || l[0].State != dhcpd.StateBound {
		t.Errorf("%+v", l)
	}
}

func TestAReservationIsAsGoodAsARecordAfterTheLeasesWereLost(t *testing.T) {
	w := newWorld(t, reserved(dhcpd.Reservation{MAC: mac(1), IP: addr(200)}))
	c := client(1)
	c.IP = addr(200)
	w.must(ack, c.Reboot())
	w = newWorld(t, reserved(dhcpd.Reservation{MAC: mac(1), IP: addr(200)}))
	c.IP = addr(200)
	w.mustFrom(ack, c.Renew(), from{src: c.IP, dst: serverIP})
	w = newWorld(t, reserved(dhcpd.Reservation{MAC: mac(1), IP: addr(200)}))
	c.IP = addr(33)
	w.must(nak, c.Reboot())
}
