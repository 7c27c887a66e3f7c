package dhcpd_test

import (
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
