package daemon

import (
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/uvtep/uvtep/dhcpd"
)

var (
	addr4  = netip.MustParseAddr("10.0.0.9")
	addr6  = netip.MustParseAddr("2001:db8::9")
	prefix = netip.MustParsePrefix("2001:db8:1:100::/56")
)

// servers are a DHCPv4 and a DHCPv6 server of segment 100, new with each call.
func servers(t *testing.T, hosts ...dhcpd.Reservation) (*dhcpd.Server, *dhcpd.Server6) {
	t.Helper()
	svc, err := dhcpd.NewService(dhcpd.Config{Store: dhcpd.MemoryStore()})
	if err != nil {
		t.Fatal(err)
	}
	four, err := svc.Add(100, dhcpd.SegmentConfig{Subnet: netip.MustParsePrefix("10.0.0.0/24"), Server: netip.MustParseAddr("10.0.0.1"), Hosts: hosts})
	if err != nil {
		t.Fatal(err)
	}
	six, err := svc.Add6(100, dhcpd.SegmentConfig6{
		Subnet: netip.MustParsePrefix("2001:db8::/64"), Server: netip.MustParseAddr("2001:db8::1"),
		Delegations: []dhcpd.Delegation{{Prefix: netip.MustParsePrefix("2001:db8:1::/48"), Length: 56}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return four, six
}

// opened are the reservations of a directory, as a daemon that starts has them.
func opened(t *testing.T, dir string, four *dhcpd.Server, six *dhcpd.Server6) *reservations {
	t.Helper()
	s := &reservations{}
	if err := s.load(dir); err != nil {
		t.Fatal(err)
	}
	s.apply(func(vni uint32, ip netip.Addr) leaseServer {
		switch {
		case vni != 100:
			return nil
		case ip.Is4():
			return four
		}
		return six
	}, slog.New(slog.DiscardHandler))
	return s
}

var mac = []byte{2, 0, 0, 0, 0, 9}

func TestReservationsOfEachKindOutliveTheProcess(t *testing.T) {
	dir := t.TempDir()
	four, six := servers(t)
	s := opened(t, dir, four, six)
	kinds := []reservation{
		{VNI: 100, IP: addr4, MAC: mac},
		{VNI: 100, IP: addr4.Next(), ClientID: []byte{255, 1}, Hostname: "web1"},
		{VNI: 100, IP: addr4.Next().Next(), Port: "tap1"},
		{VNI: 100, IP: addr4.Prev(), Hostname: "web2"},
		{VNI: 100, IP: addr6, DUID: []byte{0, 3, 0, 1, 2}},
		{VNI: 100, IP: prefix.Addr(), Length: prefix.Bits(), MAC: mac},
		{VNI: 100, IP: addr6.Next(), Port: "tap1"},
	}
	for _, r := range kinds {
		srv := leaseServer(four)
		if r.IP.Is6() {
			srv = six
		}
		if err := s.add(srv, r); err != nil {
			t.Fatalf("%+v: %v", r, err)
		}
	}
	want4, want6 := four.Leases(), six.Leases()
	if len(want4) != 4 || len(want6) != 3 {
		t.Fatalf("the servers have %+v and %+v", want4, want6)
	}
	four, six = servers(t)
	s = opened(t, dir, four, six)
	if got := four.Leases(); !reflect.DeepEqual(got, want4) {
		t.Errorf("got %+v, want %+v", got, want4)
	}
	if got := six.Leases(); !reflect.DeepEqual(got, want6) {
		t.Errorf("got %+v, want %+v", got, want6)
	}
	for _, r := range kinds {
		srv := leaseServer(four)
		if r.IP.Is6() {
			srv = six
		}
		if err := s.remove(srv, 100, r.IP); err != nil {
			t.Errorf("%+v: %v", r, err)
		}
		if err := s.remove(srv, 100, r.IP); !errors.Is(err, dhcpd.ErrNoLease) {
			t.Errorf("%+v, again: %v", r, err)
		}
	}
	four, six = servers(t)
	opened(t, dir, four, six)
	if got := append(four.Leases(), six.Leases()...); len(got) != 0 {
		t.Errorf("removed, and there again: %+v", got)
	}
}

func TestWhatTheDiskDoesNotTakeIsNotReserved(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	four, six := servers(t)
	s := opened(t, dir, four, six) // the directory is not there
	if err := s.add(four, reservation{VNI: 100, IP: addr4, MAC: mac}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if got := four.Leases(); len(got) != 0 || len(s.all) != 0 {
		t.Errorf("there is %+v, %+v", got, s.all)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := s.add(four, reservation{VNI: 100, IP: addr4, MAC: mac}); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := s.remove(four, 100, addr4); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if got := four.Leases(); len(got) != 1 || len(s.all) != 1 {
		t.Errorf("there is %+v, %+v", got, s.all)
	}
}

func TestAReservationWaitsWhileTheConfigurationLeavesNoRoom(t *testing.T) {
	dir := t.TempDir()
	four, six := servers(t)
	s := opened(t, dir, four, six)
	if err := s.add(four, reservation{VNI: 100, IP: addr4, MAC: mac}); err != nil {
		t.Fatal(err)
	}
	rival := dhcpd.Reservation{IP: addr4, ClientID: []byte{255, 1}}
	four, six = servers(t, rival)
	s = opened(t, dir, four, six)
	if got := four.Leases(); len(got) != 1 || got[0].ClientID == "" {
		t.Errorf("there is %+v", got)
	}
	four, _ = servers(t)
	s.apply(func(uint32, netip.Addr) leaseServer { return four }, slog.New(slog.DiscardHandler))
	if got := four.Leases(); len(got) != 1 || got[0].CHAddr != string(mac) {
		t.Errorf("once there is room: %+v", got)
	}

	// One that waits can be removed all the same.
	four, six = servers(t, rival)
	s = opened(t, dir, four, six)
	if err := s.remove(four, 100, addr4); err != nil {
		t.Error(err)
	}
	if err := s.remove(four, 100, addr4); !errors.Is(err, dhcpd.ErrConfigured) {
		t.Errorf("got %v", err)
	}
}

func TestADamagedFileOfReservationsIsNotSilentlyBegunAnew(t *testing.T) {
	for _, text := range []string{"", "{", "null", `{"reservations":[]} x`, `{"reservations":[{"vni":0,"ip":"10.0.0.9"}]}`, `{"reservations":[{"vni":1,"ip":"10.0.0.9","mac":"x"}]}`,
		`{"reservations":[{"vni":1,"ip":"10.0.0.9","duid":"x"}]}`, `{"reservations":[{"vni":1,"ip":"10.0.0.9","client_id":"0"}]}`, `{"reservations":[{"vni":1,"ip":"10.0.0.9","colour":"blue"}]}`} {
		dir := t.TempDir()
		path := filepath.Join(dir, "reservations.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var s reservations
		err := s.load(dir)
		if err == nil || !strings.Contains(err.Error(), "mv "+path+" "+path+".damaged") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: got %v", text, err)
		}
	}
}

func TestAFileIsReplacedWholeOrNotAtAll(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	for _, text := range []string{"old", "new, and longer", ""} {
		if err := replaceFile(path, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != text {
			t.Errorf("got %q, %v", got, err)
		}
	}
	// What cannot be put in place leaves nothing behind.
	if err := replaceFile(filepath.Join(dir, "file", "x"), nil); err == nil {
		t.Error("a file within a file")
	}
	if err := os.Mkdir(filepath.Join(dir, "taken"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := replaceFile(filepath.Join(dir, "taken"), nil); err == nil {
		t.Error("a directory was replaced")
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 2 {
		t.Errorf("there are %v, %v", left, err)
	}
}
