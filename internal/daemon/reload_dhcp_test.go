package daemon_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/control"
)

func TestDHCPv6AndAdvertisementsComeAndGoByReload(t *testing.T) {
	w := newWorld(t)
	const ports = "segments:\n  - vni: 100\n    ports: [{tap: tap1}, {tap: tap2}]\n"
	w.write(ports)
	d := w.start(w.options())
	segment := func() control.Segment { return must(d.Segments(t.Context(), 100))(t)[0] }
	if s := segment(); s.DHCP6 != nil || s.RA {
		t.Errorf("there is %+v", s)
	}
	w.write(ports + "    dhcp6: \"2001:db8:100::/64\"\n    ra: true\n")
	must(d.Reload(t.Context()))(t)
	if s := segment(); s.DHCP6 == nil || *s.DHCP6 != netip.MustParsePrefix("2001:db8:100::/64") || !s.RA {
		t.Errorf("there is %+v", s)
	}
	g := w.guest("tap1")
	lease := must(g.DHCP6(t.Context()))(t)
	all := must(d.Leases(t.Context(), 100))(t)
	if len(all) != 1 || all[0].IP != lease.Address || all[0].State != "bound" || all[0].ClientID == "" || all[0].IAID == nil ||
		all[0].Length != nil || all[0].Port == nil || *all[0].Port != "tap1" || all[0].VTEP != nil || all[0].MAC != g.MAC().String() {
		t.Errorf("the leases are %+v", all)
	}

	// What changes of it keeps the lease.
	w.write(ports + "    dhcp6: {subnet: \"2001:db8:100::/64\", dns: [\"2001:db8:100::1\"]}\n")
	must(d.Reload(t.Context()))(t)
	if s := segment(); s.RA {
		t.Error("it still advertises")
	}
	if again := must(g.Renew6(t.Context()))(t); again.Address != lease.Address || len(again.DNS) != 1 {
		t.Errorf("renewed: %+v", again)
	}
	servers := must(d.DHCP(t.Context(), 100))(t)
	if len(servers) != 1 || servers[0].Family != "ipv6" || servers[0].Bound != 1 || servers[0].Received["renew"] == 0 || servers[0].Sent["reply"] < 2 {
		t.Errorf("it tells %+v", servers)
	}

	// It goes and comes back, and the lease is there.
	w.write(ports)
	must(d.Reload(t.Context()))(t)
	if all := must(d.Leases(t.Context(), 100))(t); len(all) != 0 {
		t.Errorf("the leases are %+v", all)
	}
	w.write(ports + "    dhcp6: \"2001:db8:100::/64\"\n")
	must(d.Reload(t.Context()))(t)
	if again := must(d.Leases(t.Context(), 100))(t); len(again) != 1 || again[0].IP != lease.Address {
		t.Errorf("the leases are %+v", again)
	}
	if err := d.ReleaseLease(t.Context(), 100, lease.Address); err != nil {
		t.Error(err)
	}
	if all := must(d.Leases(t.Context(), 100))(t); len(all) != 0 {
		t.Errorf("released: %+v", all)
	}
}

func TestLimitsOfAPortChangeAndThePortStays(t *testing.T) {
	w := newWorld(t)
	const file = "segments: [{vni: 100, ports: [{tap: tap1}, {tap: tap2}], dhcp: 192.168.100.0/24}]\n"
	w.write(file)
	d := w.start(w.options())
	a, b := w.guest("tap1"), w.guest("tap2")
	must(a.DHCP(t.Context()))(t)
	must(b.DHCP(t.Context()))(t)
	if err := a.Ping(t.Context(), b.IP()); err != nil {
		t.Fatal(err)
	}
	learned := d.learned(t)
	w.write(strings.Replace(file, "{tap: tap1}", "{tap: tap1, max_leases: 3, dhcp_rate: 50, dhcp_check_mac: true, max_macs: 7, storm: 500}", 1))
	must(d.Reload(t.Context()))(t)
	if p := d.port(t, "tap1"); p.MaxLeases != 3 || p.DHCPRate != 50 || !p.CheckMAC || p.Storm != (control.Storm{Broadcast: 500, Multicast: 500, Unknown: 500}) {
		t.Errorf("the port is %+v", p)
	}
	if diff := cmp.Diff(learned, d.learned(t)); diff != "" || w.opened("tap1") != 1 {
		t.Errorf("the port was opened %d times; learned: -before +after:\n%s", w.opened("tap1"), diff)
	}
	if _, err := a.Renew(t.Context()); err != nil {
		t.Error(err)
	}
	w.write(file)
	must(d.Reload(t.Context()))(t)
	if p := d.port(t, "tap1"); p.MaxLeases != 0 || p.DHCPRate != 0 || p.CheckMAC || p.Storm != (control.Storm{}) || w.opened("tap1") != 1 {
		t.Errorf("the port is %+v, opened %d times", p, w.opened("tap1"))
	}
}

func TestAPortIsBoundAndSetFreeWhileItCarriesFrames(t *testing.T) {
	w := newWorld(t)
	const file = "segments: [{vni: 100, ports: [{tap: tap1}, {tap: tap2}], dhcp: 192.168.100.0/24}]\n"
	w.write(file)
	d := w.start(w.options())
	a, b := w.guest("tap1"), w.guest("tap2")
	must(a.DHCP(t.Context()))(t)
	must(b.DHCP(t.Context()))(t)
	for _, c := range []struct {
		port     string
		bind     string
		bindings int
		trusted  bool
	}{
		{"{tap: tap1, bind: lease}", "lease", 1, false},
		{`{tap: tap1, bind: lease, addresses: [{mac: "02:00:00:00:00:77", ip: 10.0.0.0/8}]}`, "lease", 2, false},
		{`{tap: tap1, bind: static, trusted: true, addresses: [{mac: "02:00:00:00:00:77", ip: "2001:db8::7"}]}`, "static", 1, true},
		{"{tap: tap1, bind: lease}", "lease", 1, false},
		{"{tap: tap1}", "none", 0, false},
	} {
		w.write(strings.Replace(file, "{tap: tap1}", c.port, 1))
		must(d.Reload(t.Context()))(t)
		if p := d.port(t, "tap1"); p.Bind != c.bind || p.Bindings != c.bindings || p.Trusted != c.trusted || w.opened("tap1") != 1 {
			t.Errorf("%s: the port is %+v, opened %d times", c.port, p, w.opened("tap1"))
		}
		if c.bind == "static" {
			continue // the guest is none of those
		}
		if err := a.Ping(t.Context(), b.IP()); err != nil {
			t.Errorf("%s: ping: %v", c.port, err)
		}
	}
	w.write(strings.Replace(file, "vni: 100,", `vni: 100, protected_macs: ["02:00:00:00:00:66"],`, 1))
	if done := must(d.Reload(t.Context()))(t); len(done.Changes) != 1 || done.Changes[0] != "segment 100: protected_macs" {
		t.Errorf("changes: %q", done.Changes)
	}
	mac := must(fdb.ParseMAC("02:00:00:00:00:77"))(t)
	for _, c := range []struct {
		port  control.NewPort
		fault string
	}{
		{control.NewPort{TAP: "tap3", Bind: "static", Addresses: []control.Binding{{MAC: mac, IP: "10.0.0.9"}, {MAC: mac, IP: "10.1.0.0/16"}}}, ""},
		{control.NewPort{TAP: "tap4", Bind: "static"}, "bind: static without addresses: nobody could send"},
		{control.NewPort{TAP: "tap4", Bind: "lease", Addresses: []control.Binding{{MAC: mac, IP: "ten"}}}, `addresses: "ten" is neither an IP address nor a prefix`},
	} {
		if err := d.AddPort(t.Context(), 100, c.port); c.fault == "" && err != nil || c.fault != "" && (err == nil || !strings.Contains(err.Error(), c.fault)) {
			t.Errorf("%+v: %v", c.port, err)
		}
	}
	if p := d.port(t, "tap3"); p.Bind != "static" || p.Bindings != 2 {
		t.Errorf("the port is %+v", p)
	}
}

func TestAReservationMadeLiveOutlivesTheDaemon(t *testing.T) {
	w := newWorld(t)
	w.write("segments: [{vni: 100, ports: [{tap: tap1}], dhcp: 192.168.100.0/24, dhcp6: \"2001:db8:100::/64\"}]\n")
	d := w.start(w.options())
	four, six := netip.MustParseAddr("192.168.100.77"), netip.MustParseAddr("2001:db8:100::77")
	for ip, r := range map[netip.Addr]control.Reservation{four: {Port: "tap1"}, six: {Port: "tap1", Hostname: "web1"}} {
		if done := must(d.ReserveLease(t.Context(), 100, ip, r))(t); done.HeldBy != nil {
			t.Errorf("%v is held by %+v", ip, done.HeldBy)
		}
	}
	listed := must(d.Leases(t.Context(), 0))(t)
	if len(listed) != 2 || listed[0].State != "reserved" || *listed[0].Port != "tap1" {
		t.Errorf("the leases are %+v", listed)
	}
	if err := d.stop(); err != nil {
		t.Fatal(err)
	}
	d = w.start(w.options())
	if diff := cmp.Diff(listed, must(d.Leases(t.Context(), 0))(t), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("-before +after:\n%s", diff)
	}
	g := w.guest("tap1")
	if lease := must(g.DHCP(t.Context()))(t); lease.Address.Addr() != four {
		t.Errorf("the guest has %v", lease.Address)
	}
	if lease := must(g.DHCP6(t.Context()))(t); lease.Address != six {
		t.Errorf("the guest has %v", lease.Address)
	}

	// The lease is released first, then the reservation.
	for range 2 {
		for _, ip := range []netip.Addr{four, six} {
			if err := d.ReleaseLease(t.Context(), 100, ip); err != nil {
				t.Error(err)
			}
		}
	}
	if err := d.stop(); err != nil {
		t.Fatal(err)
	}
	d = w.start(w.options())
	if left := must(d.Leases(t.Context(), 0))(t); len(left) != 0 {
		t.Errorf("left: %+v", left)
	}
}

func TestAFailedReloadKeepsLiveReservations(t *testing.T) {
	w := newWorld(t)
	const file = "segments: [{vni: 100, ports: [{tap: tap1}], dhcp: 192.168.100.0/24}"
	w.write(file + "]\n")
	d := w.start(w.options())
	ip := netip.MustParseAddr("192.168.100.77")
	must(d.ReserveLease(t.Context(), 100, ip, control.Reservation{Hostname: "web1"}))(t)
	w.write("segments: [{vni: 100, ports: [{tap: tap1}]}, {vni: 200, ports: [{tap: broken}]}]\n")
	w.fail(func(what string) error {
		if what == "open broken" {
			return errBroken
		}
		return nil
	})
	if _, err := d.Reload(t.Context()); err == nil {
		t.Fatal("it was reloaded")
	}
	if all := must(d.Leases(t.Context(), 100))(t); len(all) != 1 || all[0].IP != ip || all[0].State != "reserved" {
		t.Errorf("the leases are %+v", all)
	}
}

var errBroken = control.Errorf(control.ErrConflict, "it is broken")
