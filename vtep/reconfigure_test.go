package vtep

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/uvtep/uvtep/dhcpd"
	"github.com/uvtep/uvtep/dhcpd/dhcpdtest"
	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/tap"
	"github.com/uvtep/uvtep/internal/underlay"
)

// state is all that a segment's users see of it, and what it has asked of the
// outside.
func (r *rig) state(s *Segment) string {
	cfg := s.Config()
	dhcp := "none"
	if cfg.DHCP != nil {
		dhcp = fmt.Sprintf("%+v", *cfg.DHCP)
	}
	if (s.DHCP() != nil) != (cfg.DHCP != nil) || s.DHCP() != r.v.cfg.DHCP.Server(uint32(s.VNI())) {
		r.t.Errorf("the DHCP server does not go with %s", dhcp)
	}
	if (s.DHCP6() != nil) != (cfg.DHCP6 != nil) || s.DHCP6() != r.v.cfg.DHCP.Server6(uint32(s.VNI())) {
		r.t.Errorf("the DHCPv6 server does not go with %+v", cfg.DHCP6)
	}
	if cfg.DHCP6 != nil {
		dhcp += fmt.Sprintf("\ndhcp6 %+v", *cfg.DHCP6)
	}
	if cfg.RA != nil {
		dhcp += fmt.Sprintf("\nra %+v", *cfg.RA)
	}
	if sv := s.view.Load().service; sv != nil {
		dhcp += fmt.Sprintf("\nservice %v %v %t", sv.mac, sv.ra != nil, sv.router)
	}
	cfg.DHCP, cfg.DHCP6, cfg.RA = nil, nil, nil
	out := fmt.Sprintf("%+v\ndhcp %s\npeers %+v\nfdb %+v\nports %+v\n", cfg, dhcp, s.Peers(), s.FDB(), s.Ports())
	for _, name := range r.taps.Names() {
		out += fmt.Sprintf("%s has MTU %d\n", name, r.taps.Device(name).MTU())
	}
	return out + fmt.Sprintf("joined %v", r.net.Endpoint(sources(self, 4789)).Groups())
}

func origins(s *Segment) string {
	var out []string
	for _, p := range s.Peers() {
		out = append(out, fmt.Sprintf("%v %v %t", p.Addr, p.Origin, p.Replicate))
	}
	return fmt.Sprint(out)
}

// before is a segment that has one of everything, and after is another that
// differs in all of it.
func before() SegmentConfig {
	return SegmentConfig{
		VNI: 100, MTU: 1400, Peers: []netip.Addr{peer2, peer3}, Group: ip("239.1.1.1"), Ageing: 100 * time.Second, MaxMACs: 10,
		FDB: []StaticEntry{{MAC: mac(51), Dst: ip("10.9.0.5")}, {MAC: mac(52), Port: "a"}}, DHCP: dhcpConfig(5),
		DHCP6: dhcp6Config(), RA: &RAConfig{Managed: true},
	}
}

func after() SegmentConfig {
	six := *dhcp6Config()
	six.Server.Server, six.ServeLocal = ip("2001:db8:100::3"), true
	return SegmentConfig{
		VNI: 100, MTU: 1300, Peers: []netip.Addr{peer3, ip("10.9.0.4")}, Group: ip("239.1.1.2"), Ageing: 200 * time.Second, MaxMACs: 20,
		FDB: []StaticEntry{{MAC: mac(51), Dst: ip("10.9.0.6")}, {MAC: mac(53), Port: "b"}}, DHCP: dhcpConfig(9), NoLearning: true,
		DHCP6: &six, RA: &RAConfig{Lifetime: time.Hour},
	}
}

// configured is a rig with a segment before() that knows a few addresses.
func configured(t *testing.T) (*rig, *Segment, *flaky) {
	f := &flaky{}
	r := newRigOver(t, Config{Accept: AcceptAny}, func(e underlay.Endpoint) underlay.Endpoint {
		f.Endpoint = e
		return f
	})
	s := r.segment(before(), "a", "b")
	for i, from := range []netip.Addr{peer2, peer3, ip("10.9.0.7")} {
		r.fromPeer(from, 100, eth(fdb.Broadcast, mac(21+i)))
	}
	r.fromPort("a", eth(fdb.Broadcast, mac(11)))
	r.fromPort("b", eth(fdb.Broadcast, mac(12)))
	return r, s, f
}

func TestAReconfigurationChangesWhatIsNewAndKeepsTheRest(t *testing.T) {
	r, s, _ := configured(t)
	if err := s.AddPeer(ip("10.9.0.8")); err != nil {
		t.Fatal(err)
	}
	if err := s.AddStatic(StaticEntry{MAC: mac(60), Dst: ip("10.9.0.9")}); err != nil {
		t.Fatal(err)
	}
	if err := s.Reconfigure(after()); err != nil {
		t.Fatal(err)
	}
	want := "[10.9.0.3 config true 10.9.0.4 config true 10.9.0.6 config false 10.9.0.7 learned false 10.9.0.8 api true 10.9.0.9 api false]"
	if got := origins(s); got != want {
		t.Errorf("peers: %s\nwant   %s", got, want)
	}
	var fdbs []string
	for _, e := range s.FDB() {
		fdbs = append(fdbs, fmt.Sprintf("%d %s%v %s", e.MAC&0xff, e.Port, e.Dst, e.State))
	}
	// 21 lived behind a peer that went.
	wantFDB := []string{"11 ainvalid IP dynamic", "12 binvalid IP dynamic", "22 10.9.0.3 dynamic", "23 10.9.0.7 dynamic", "51 10.9.0.6 static", "53 binvalid IP static", "60 10.9.0.9 static"}
	fdbs = slices.DeleteFunc(fdbs, func(s string) bool { return s[len(s)-4:] == "self" })
	if !slices.Equal(fdbs, wantFDB) {
		t.Errorf("fdb:  %q\nwant: %q", fdbs, wantFDB)
	}
	for _, name := range []string{"a", "b"} {
		if got := r.taps.Device(name).MTU(); got != 1300 {
			t.Errorf("port %s has MTU %d", name, got)
		}
	}
	if g := r.net.Endpoint(sources(self, 4789)).Groups(); !slices.Equal(g, []netip.Addr{ip("239.1.1.2")}) {
		t.Errorf("joined: %v", g)
	}
	if c := s.Config(); c.DHCP == nil || c.MaxMACs != 20 || c.Ageing != 200*time.Second || !c.NoLearning {
		t.Errorf("config: %+v", c)
	}
	expect(t, "a flood", r.fromPort("a", eth(fdb.Broadcast, mac(13))), "@10.9.0.3 @10.9.0.4 @10.9.0.8 @239.1.1.2 b")
	expect(t, "to one that was not learned", r.fromPort("b", eth(mac(13), mac(12))), "@10.9.0.3 @10.9.0.4 @10.9.0.8 @239.1.1.2 a")
	r.attach(s, PortConfig{Name: "c"})
	if got := r.taps.Device("c").MTU(); got != 1300 {
		t.Errorf("a new port has MTU %d", got)
	}
	// And back: what the first configuration held is there again.
	if err := s.Reconfigure(before()); err != nil {
		t.Fatal(err)
	}
	want = "[10.9.0.2 config true 10.9.0.3 config true 10.9.0.5 config false 10.9.0.7 learned false 10.9.0.8 api true 10.9.0.9 api false]"
	if got := origins(s); got != want {
		t.Errorf("peers: %s\nwant   %s", got, want)
	}
	if d := r.dropped(); d != "" {
		t.Errorf("drops: %s", d)
	}
}

func TestASegmentReconfiguredToItselfIsLeftAlone(t *testing.T) {
	r, s, _ := configured(t)
	is := r.state(s)
	for _, cfg := range []SegmentConfig{s.Config(), before()} {
		if err := s.Reconfigure(cfg); err != nil {
			t.Fatal(err)
		}
		if now := r.state(s); now != is {
			t.Errorf("was\n%s\nis\n%s", is, now)
		}
	}
	// The same addresses, written otherwise.
	cfg := before()
	for i, p := range cfg.Peers {
		cfg.Peers[i] = netip.AddrFrom16(p.As16())
	}
	cfg.FDB[0].Dst = netip.AddrFrom16(cfg.FDB[0].Dst.As16())
	if err := s.Reconfigure(cfg); err != nil {
		t.Fatal(err)
	}
	if now := r.state(s); now != is {
		t.Errorf("was\n%s\nis\n%s", is, now)
	}
}

func TestEverySettingCanGoAndComeBack(t *testing.T) {
	_, full, _ := configured(t)
	for _, c := range []struct {
		name string
		cut  func(*SegmentConfig)
	}{
		{"group", func(c *SegmentConfig) { c.Group = netip.Addr{} }},
		{"DHCP", func(c *SegmentConfig) { c.DHCP = nil }},
		{"DHCPv6", func(c *SegmentConfig) { c.DHCP6 = nil }},
		{"router advertisements", func(c *SegmentConfig) { c.RA = nil }},
		{"all services", func(c *SegmentConfig) { c.DHCP, c.DHCP6, c.RA = nil, nil, nil }},
		{"all services but router advertisements", func(c *SegmentConfig) { c.DHCP, c.DHCP6 = nil, nil }},
		{"peers", func(c *SegmentConfig) { c.Peers = nil }},
		{"static entries", func(c *SegmentConfig) { c.FDB = nil }},
		{"everything", func(c *SegmentConfig) { *c = SegmentConfig{VNI: 100} }},
	} {
		r, s, _ := configured(t)
		less := before()
		c.cut(&less)
		if err := s.Reconfigure(less); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		got := s.Config()
		if got.Group != less.Group || (s.DHCP() != nil) != (less.DHCP != nil) || (s.DHCP6() != nil) != (less.DHCP6 != nil) || len(got.Peers) != len(less.Peers) {
			t.Errorf("%s: %+v", c.name, got)
		}
		for _, e := range s.FDB() {
			if e.State == "static" && less.FDB == nil || e.State == "self" && !less.served() {
				t.Errorf("%s: left in the fdb: %+v", c.name, e)
			}
		}
		r.state(s) // its own checks
		if err := s.Reconfigure(before()); err != nil {
			t.Errorf("%s: and back: %v", c.name, err)
		}
		if got, want := origins(s), origins(full); got != want {
			t.Errorf("%s: came back as %s, was %s", c.name, got, want)
		}
		expect(t, c.name, r.fromPort("a", eth(fdb.Broadcast, mac(11))), "@10.9.0.2 @10.9.0.3 @239.1.1.1 b")
		only(t, r.send("b", arpFor(t, fdb.Broadcast, mac(12), ip("192.168.100.77"), server)), "b")
		only(t, r.send("b", ping6(t, serviceMAC(self, 100), mac(12), guest6, server6, "x")), "b")
		if err := s.Reconfigure(after()); err != nil {
			t.Errorf("%s: and on: %v", c.name, err)
		}
		if err := r.v.RemoveSegment(100); err != nil {
			t.Error(err)
		}
		if g := r.net.Endpoint(sources(self, 4789)).Groups(); len(g) != 0 {
			t.Errorf("%s: still joined: %v", c.name, g)
		}
	}
}

func TestAStaticEntryThatMovesToAPortThatIsNotThereIsUnboundUntilItComes(t *testing.T) {
	r := newRig(t, Config{})
	s := r.segment(SegmentConfig{VNI: 100, Peers: []netip.Addr{peer2}, FDB: []StaticEntry{{MAC: mac(1), Dst: peer3}}}, "a")
	cfg := s.Config()
	cfg.FDB = []StaticEntry{{MAC: mac(1), Port: "b"}}
	if err := s.Reconfigure(cfg); err != nil {
		t.Fatal(err)
	}
	expect(t, "while it is not there", r.fromPort("a", eth(mac(1), mac(2))), "@10.9.0.2")
	if got := origins(s); got != "[10.9.0.2 config true]" {
		t.Errorf("peers: %s", got)
	}
	// What is learned meanwhile is not the configuration's to delete.
	r.fromPeer(peer2, 100, eth(fdb.Broadcast, mac(1)))
	cfg.MaxMACs = 7
	if err := s.Reconfigure(cfg); err != nil {
		t.Fatal(err)
	}
	expect(t, "learned meanwhile", r.fromPort("a", eth(mac(1), mac(2))), "@10.9.0.2")
	r.attach(s, PortConfig{Name: "b"})
	expect(t, "when it has come", r.fromPort("a", eth(mac(1), mac(2))), "b")
}

// flaky is an underlay whose Join or Leave fails on command.
type flaky struct {
	underlay.Endpoint
	err, stuck error
	tried      func() // is told of each Join; may be nil
}

func (f *flaky) Leave(g netip.Addr, device string) error {
	if err := f.Endpoint.Leave(g, device); err != nil {
		return err
	}
	return f.stuck
}

func (f *flaky) Join(g netip.Addr, device string) (*underlay.Remote, error) {
	if f.tried != nil {
		f.tried()
	}
	if f.err != nil {
		return nil, f.err
	}
	return f.Endpoint.Join(g, device)
}

func TestAReconfigurationThatFailsLeavesNoTrace(t *testing.T) {
	for _, c := range []struct {
		name string
		fail func(r *rig, f *flaky, cfg *SegmentConfig)
		want error
	}{
		{"another VNI", func(_ *rig, _ *flaky, cfg *SegmentConfig) { cfg.VNI = 101 }, ErrInvalid},
		{"an MTU that cannot be", func(_ *rig, _ *flaky, cfg *SegmentConfig) { cfg.MTU = 67 }, ErrInvalid},
		{"a peer that is this VTEP", func(_ *rig, _ *flaky, cfg *SegmentConfig) { cfg.Peers[1] = self }, ErrInvalid},
		{"a peer that is everyone", func(_ *rig, _ *flaky, cfg *SegmentConfig) { cfg.Peers[1] = broadcast4 }, ErrInvalid},
		{"a peer of the other family", func(_ *rig, _ *flaky, cfg *SegmentConfig) { cfg.Peers[1] = ip("fd00::1") }, ErrInvalid},
		{"a group that is none", func(_ *rig, _ *flaky, cfg *SegmentConfig) { cfg.Group = peer2 }, ErrInvalid},
		{"a static entry of a group", func(_ *rig, _ *flaky, cfg *SegmentConfig) { cfg.FDB[1].MAC = fdb.Broadcast }, ErrInvalid},
		{"a static entry of the service", func(_ *rig, _ *flaky, cfg *SegmentConfig) { cfg.FDB[1].MAC = serviceMAC(self, 100) }, ErrInvalid},
		{"a static entry at two places", func(_ *rig, _ *flaky, cfg *SegmentConfig) { cfg.FDB[1].Dst = peer3 }, ErrInvalid},
		{"a static entry nowhere", func(_ *rig, _ *flaky, cfg *SegmentConfig) { cfg.FDB[1].Port = "" }, ErrInvalid},
		{"a DHCP service that cannot be", func(_ *rig, _ *flaky, cfg *SegmentConfig) { cfg.DHCP.Server.Gateway = ip("10.0.0.1") }, dhcpd.Fault{}},
		{"a DHCP server without an IPv4 address", func(_ *rig, _ *flaky, cfg *SegmentConfig) { cfg.DHCP.Server.Server = ip("fd00::1") }, ErrInvalid},
		{"a DHCPv6 service that cannot be", func(_ *rig, _ *flaky, cfg *SegmentConfig) {
			cfg.DHCP6.Server.Subnet = netip.MustParsePrefix("2001:db8:200::/64")
		}, dhcpd.Fault{}},
		{"a DHCPv6 server without an IPv6 address", func(_ *rig, _ *flaky, cfg *SegmentConfig) { cfg.DHCP6.Server.Server = server }, ErrInvalid},
		{"router advertisements that cannot be", func(_ *rig, _ *flaky, cfg *SegmentConfig) { cfg.RA.Interval = time.Second }, ErrInvalid},
		{"the first port's MTU", func(r *rig, _ *flaky, _ *SegmentConfig) { r.taps.Device("a").Vanish() }, tap.ErrGone},
		{"the second port's MTU", func(r *rig, _ *flaky, _ *SegmentConfig) { r.taps.Device("b").Vanish() }, tap.ErrGone},
	} {
		for _, served := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, DHCP before %t", c.name, served), func(t *testing.T) {
				r, s, f := configured(t)
				if !served {
					less := before()
					less.DHCP, less.DHCP6, less.RA = nil, nil, nil
					if err := s.Reconfigure(less); err != nil {
						t.Fatal(err)
					}
				}
				cfg := after()
				c.fail(r, f, &cfg)
				was := r.state(s)
				err := s.Reconfigure(cfg)
				var fault dhcpd.Fault
				if !errors.Is(err, c.want) && !(errors.As(c.want, &fault) && errors.As(err, &fault)) {
					t.Errorf("error %v, want %v", err, c.want)
				}
				if now := r.state(s); now != was {
					t.Errorf("was\n%s\nis\n%s", was, now)
				}
				if !served {
					return
				}
				offers := 0 // of the five addresses that there were
				for i := range 7 {
					c := dhcpdtest.Client{MAC: hw(mac(31 + i))}
					offers += len(r.datagram(peer2, 0, vxlan(100, broadcastBOOTP(t, mac(31+i), c.Discover()))))
				}
				if offers != 5 {
					t.Errorf("%d offers from the pool of before, want 5", offers)
				}
			})
		}
	}
}

// What fails once the new configuration is in force is no reason to say that it
// is not.
func TestAReconfigurationThatCannotLetGoOfTheOldOneIsInForceAndSaysWhatIsLeft(t *testing.T) {
	var log strings.Builder
	f := &flaky{}
	r := newRigOver(t, Config{Accept: AcceptAny, Logger: slog.New(slog.NewTextHandler(&log, nil))}, func(e underlay.Endpoint) underlay.Endpoint {
		f.Endpoint = e
		return f
	})
	s := r.segment(before(), "a", "b")
	f.stuck = errors.New("the group holds on")
	err := s.Reconfigure(after())
	f.stuck = nil
	if err != nil {
		t.Errorf("error %v", err)
	}
	fresh := newRig(t, Config{Accept: AcceptAny})
	if got, want := origins(s), origins(fresh.segment(after(), "a", "b")); got != want || s.Config().MTU != 1300 {
		t.Errorf("peers %s, want %s", got, want)
	}
	if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "the group holds on") || !strings.Contains(got, "vni=100") {
		t.Errorf("logged: %q", got)
	}
}

func TestTheServicesAddressMayBeAStationsOnceThereIsNoService(t *testing.T) {
	r := newRig(t, Config{})
	s := r.segment(SegmentConfig{VNI: 100, DHCP: dhcpConfig(5)}, "a", "b")
	was := serviceMAC(self, 100)
	if err := s.Reconfigure(SegmentConfig{VNI: 100, FDB: []StaticEntry{{MAC: was, Dst: peer2}}}); err != nil {
		t.Fatal(err)
	}
	expect(t, "to it", r.fromPort("a", eth(was, mac(1))), "@10.9.0.2")
	if err := s.Reconfigure(SegmentConfig{VNI: 100, DHCP: dhcpConfig(5)}); err != nil {
		t.Fatal(err)
	}
	only(t, r.send("a", arpFor(t, fdb.Broadcast, mac(1), ip("192.168.100.77"), server)), "a")
}

func TestARemovedSegmentTakesNothingAnyMore(t *testing.T) {
	r := newRig(t, Config{Accept: AcceptAny})
	s := r.segment(before(), "a")
	if err := r.v.RemoveSegment(100); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		s.AddPeer(ip("10.9.0.4")), s.AddStatic(StaticEntry{MAC: mac(1), Dst: peer2}), s.Reconfigure(after()), s.DetachPort("a"), r.v.RemoveSegment(100),
	} {
		if !errors.Is(err, ErrNotFound) {
			t.Errorf("error %v, want one that is ErrNotFound", err)
		}
	}
	if _, err := s.AttachPort(PortConfig{Name: "b"}); !errors.Is(err, ErrNotFound) {
		t.Errorf("error %v", err)
	}
	if names, groups := r.taps.Names(), r.net.Endpoint(sources(self, 4789)).Groups(); len(names) != 0 || len(groups) != 0 {
		t.Errorf("left: TAPs %v, groups %v", names, groups)
	}
	// It can be made anew, and the DHCP service goes with it.
	r.segment(before(), "a")
	if err := r.v.Close(); err != nil {
		t.Fatal(err)
	}
	if r.v.cfg.DHCP.Server(100) != nil {
		t.Error("a closed VTEP's segment is still served")
	}
	if _, err := r.v.AddSegment(after()); !errors.Is(err, ErrClosed) {
		t.Errorf("error %v", err)
	}
	if err := r.v.Close(); err != nil {
		t.Errorf("closed twice: %v", err)
	}
}

func TestWhatCannotBeDoneIsSaidInOneLine(t *testing.T) {
	r := newRig(t, Config{})
	s := r.segment(SegmentConfig{VNI: 100, Peers: []netip.Addr{peer2}}, "a")
	other := r.segment(SegmentConfig{VNI: 200})
	attach := func(s *Segment, name string) error {
		_, err := s.AttachPort(PortConfig{Name: name})
		return err
	}
	add := func(cfg SegmentConfig) error {
		_, err := r.v.AddSegment(cfg)
		return err
	}
	_, noLocal := New(Config{Local: netip.IPv4Unspecified()})
	for _, c := range []struct {
		err, is error
		text    string
	}{
		{noLocal, ErrInvalid, "local address 0.0.0.0: invalid configuration: it must be a unicast address of this host"},
		{add(SegmentConfig{VNI: 100}), ErrExists, "segment 100 already exists"},
		{add(SegmentConfig{VNI: 1 << 24}), ErrInvalid, "segment 16777216: invalid configuration: the VNI is outside 1..16777215"},
		{add(SegmentConfig{VNI: 7, Group: ip("239.1.1.1")}), ErrInvalid, "segment 7: invalid configuration: group 239.1.1.1 needs AcceptAny: its senders are not known beforehand"},
		{attach(s, "a"), ErrExists, "segment 100: port a already exists"},
		{attach(other, "a"), tap.ErrBusy, "tap a: the TAP device is held by another program; stop that one or choose another name"},
		{s.DetachPort("b"), ErrNotFound, "segment 100: port b not found"},
		{s.AddPeer(peer2), ErrExists, "segment 100: peer 10.9.0.2 already exists"},
		{s.AddPeer(ip("224.0.0.1")), ErrInvalid, "segment 100: invalid configuration: peer 224.0.0.1 is not a unicast address"},
		{s.RemovePeer(peer3), ErrNotFound, "segment 100: peer 10.9.0.3 not found"},
		{s.AddStatic(StaticEntry{MAC: mac(1), Port: "b"}), ErrNotFound, "segment 100: port b not found"},
		{s.AddStatic(StaticEntry{MAC: fdb.Broadcast, Port: "a"}), fdb.ErrNotStation, "segment 100: invalid configuration: static entry ff:ff:ff:ff:ff:ff: not the address of a station: give a unicast address"},
		{s.DeleteMAC(mac(1)), ErrNotFound, "segment 100: 02:00:00:00:00:01 not found"},
	} {
		if !errors.Is(c.err, c.is) || c.err.Error() != c.text {
			t.Errorf("error %q, want %q", c.err, c.text)
		}
	}
}
