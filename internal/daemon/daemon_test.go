package daemon_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/uvtep/uvtep/dhcpd"
	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/config"
	"github.com/uvtep/uvtep/internal/control"
	"github.com/uvtep/uvtep/internal/daemon"
	"github.com/uvtep/uvtep/internal/nettest"
	"github.com/uvtep/uvtep/internal/underlay"
)

const oneSegment = `segments:
  - vni: 100
    peers: [10.9.0.2]
    ports: [{tap: tap1}, {tap: tap2}]
    dhcp: 192.168.100.0/24
`

func TestADaemonServesItsSegmentsAndLeavesNothingButLeases(t *testing.T) {
	w := newWorld(t)
	w.write(oneSegment)
	d := w.start(w.options())
	a, b := w.guest("tap1"), w.guest("tap2")
	lease := must(a.DHCP(t.Context()))(t)
	must(b.DHCP(t.Context()))(t)
	if err := a.Ping(t.Context(), b.IP()); err != nil {
		t.Error(err)
	}
	if all := must(d.Leases(t.Context(), 100))(t); len(all) != 2 || all[0].State != "bound" {
		t.Errorf("the leases are %+v", all)
	}
	if err := d.stop(); err != nil {
		t.Fatal(err)
	}
	w.nothingLeft()
	if log := d.log.String(); strings.Count(log, "ready") != 1 || !strings.Contains(log, "msg=stopped") {
		t.Errorf("the log is\n%s", log)
	}

	d = w.start(w.options())
	b = w.guest("tap1")
	if again := must(b.DHCP(t.Context()))(t); again.Address != lease.Address {
		t.Errorf("the guest had %v and now has %v", lease.Address, again.Address)
	}
	if all := must(d.Leases(t.Context(), 0))(t); len(all) != 2 {
		t.Errorf("the leases are %+v", all)
	}
}

func TestADaemonWithoutDHCPNeedsNoStateDirectory(t *testing.T) {
	w := newWorld(t)
	w.write("segments: [{vni: 100}]\n")
	d := w.start(w.options())
	if err := d.stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(w.dir, "state")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it was made: %v", err)
	}
}

func TestWhatCannotStartSaysWhyAndLeavesNothing(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, tc := range []struct {
		name  string
		setup func(w *world, o *daemon.Options) // after a valid file was written
		is    error
		says  string
	}{
		{"the underlay fails", func(w *world, _ *daemon.Options) {
			w.fail(func(what string) error {
				if what == "open the underlay" {
					return underlay.ErrPortInUse
				}
				return nil
			})
		}, underlay.ErrPortInUse, ""},
		{"the second TAP fails", func(w *world, _ *daemon.Options) {
			w.fail(func(what string) error {
				if what == "open tap2" {
					return errors.New("tap tap2: held")
				}
				return nil
			})
		}, nil, "tap tap2: held"},
		{"the state directory cannot be made", func(w *world, _ *daemon.Options) {
			if err := os.WriteFile(filepath.Join(w.dir, "state"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}, nil, "change state in the configuration"},
		{"the lease store is held", func(w *world, _ *daemon.Options) {
			store, err := dhcpd.OpenBolt(inState(w))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { store.Close() })
		}, dhcpd.ErrStoreBusy, inState(nil)},
		{"the lease store is no database", func(w *world, _ *daemon.Options) {
			if err := os.WriteFile(inState(w), []byte("#!/bin/sh\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, dhcpd.ErrStoreDamaged, "mv "},
		{"the lease store is another program's", func(w *world, _ *daemon.Options) {
			db, err := bolt.Open(inState(w), 0o600, nil)
			if err != nil {
				t.Fatal(err)
			}
			db.Close()
		}, dhcpd.ErrStoreDamaged, "another program"},
		{"the HTTP port that was asked for is taken", func(w *world, _ *daemon.Options) {
			w.writeAs("underlay: {local: 10.9.0.1}\napi: {socket: " + w.socket() + ", http: \"" + taken.Addr().String() + "\"}\n")
		}, nil, "HTTP address " + taken.Addr().String() + ": address already in use; change api.http"},
		{"the directory of the socket cannot be made", func(w *world, o *daemon.Options) {
			o.Socket = filepath.Join(w.file, "uvtep.sock")
		}, nil, "choose --socket"},
		{"the configuration is wrong", func(w *world, _ *daemon.Options) {
			w.write("segments: [{vni: 0}]")
		}, nil, "uvtep.yaml:5:18: segments[0].vni: 0 is outside 1..16777215"},
		{"the configuration is not there", func(w *world, _ *daemon.Options) {
			os.Remove(w.file)
		}, os.ErrNotExist, "uvtep.yaml"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t)
			w.write(oneSegment)
			o := w.options()
			tc.setup(w, &o)
			err := w.refuse(o)
			if tc.is != nil && !errors.Is(err, tc.is) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got %v", err)
			}
			w.nothingLeft()
		})
	}
}

// inState is the lease store of a world, whose directory is made; without one, the
// end of its path.
func inState(w *world) string {
	const end = "state/leases.db"
	if w == nil {
		return end
	}
	path := filepath.Join(w.dir, end)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		w.t.Fatal(err)
	}
	return path
}

func TestTheSecondDaemonOnASocketIsRefusedAndTheFirstRunsOn(t *testing.T) {
	w := newWorld(t)
	w.write(oneSegment)
	d := w.start(w.options())
	other := newWorld(t)
	other.write(oneSegment)
	o := other.options()
	o.Socket = w.socket()
	err := other.refuse(o)
	if want := "another uvtep answers on " + w.socket() + "; stop it or choose --socket"; err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	other.nothingLeft()
	if len(must(d.Ports(t.Context(), 0))(t)) != 2 {
		t.Error("the first has lost its ports")
	}
}

func TestTheSecondDaemonThatMayMoveTakesASocketOfItsOwn(t *testing.T) {
	w := newWorld(t)
	w.write(oneSegment)
	w.start(w.options())
	other := newWorld(t)
	other.write(oneSegment)
	o := other.options()
	o.Socket, o.SocketIfTaken = w.socket(), other.socket()
	d := other.start(o)
	if len(must(d.Ports(t.Context(), 0))(t)) != 2 {
		t.Error("it does not answer there")
	}
}

func TestWithoutMetricsADaemonRunsWhereNobodyAskedForThem(t *testing.T) {
	taken, err := net.Listen("tcp", config.DefaultHTTP)
	if err == nil {
		defer taken.Close()
	} // else it is taken already
	w := newWorld(t)
	w.writeAs("underlay: {local: 10.9.0.1}\napi: {socket: " + w.socket() + "}\n")
	d := w.start(w.options())
	if log := d.log.String(); !strings.Contains(log, "no metrics") || !strings.Contains(log, "http=off") {
		t.Errorf("the log is\n%s", log)
	}

	// Where something else is wrong, that alone is told.
	w = newWorld(t)
	w.writeAs("underlay: {local: 10.9.0.1}\napi: {socket: " + w.socket() + "}\n")
	w.fail(func(string) error { return underlay.ErrPortInUse })
	o, log := w.options(), &nettest.Log{}
	o.Logger = logger(log)
	if err := daemon.Run(t.Context(), o); !errors.Is(err, underlay.ErrPortInUse) || log.String() != "" {
		t.Errorf("got %v, and the log is\n%s", err, log)
	}
}

func TestMetricsAreServedOnLoopback(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	free.Close()
	w := newWorld(t)
	w.writeAs("underlay: {local: 10.9.0.1}\napi: {socket: " + w.socket() + ", http: \"" + address + "\"}\n")
	w.start(w.options())
	resp, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("status %s", resp.Status)
	}
}

func TestADaemonThatIsStoppedWhileItStartsLeavesNothing(t *testing.T) {
	for _, at := range []string{"open the underlay", "join 239.1.1.1", "open tap1", "open tap2"} {
		t.Run(at, func(t *testing.T) {
			w := newWorld(t)
			w.write("segments: [{vni: 100, group: 239.1.1.1, ports: [{tap: tap1}, {tap: tap2}], dhcp: 192.168.100.0/24}]\n")
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			w.fail(func(what string) error {
				if what == at {
					cancel()
				}
				return nil
			})
			o, log := w.options(), &nettest.Log{}
			o.Logger = logger(log)
			if err := daemon.Run(ctx, o); err != nil {
				t.Error(err)
			}
			if strings.Contains(log.String(), "ready") {
				t.Errorf("the log is\n%s", log)
			}
			w.nothingLeft()
		})
	}
}

func TestSystemdIsToldOfEachState(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	next := func() string {
		t.Helper()
		buf := make([]byte, 256)
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		return string(buf[:n])
	}
	w := newWorld(t)
	w.write(oneSegment)
	d := w.start(w.options())
	if got := next(); got != "READY=1" {
		t.Errorf("started: told %q", got)
	}
	must(d.Reload(t.Context()))(t)
	if got := next(); !strings.HasPrefix(got, "RELOADING=1\nMONOTONIC_USEC=") {
		t.Errorf("reloading: told %q", got)
	}
	if got := next(); got != "READY=1" {
		t.Errorf("reloaded: told %q", got)
	}
	w.write("nonsense")
	if _, err := d.Reload(t.Context()); err == nil {
		t.Error("nonsense was loaded")
	}
	if got := next() + next(); !strings.HasSuffix(got, "READY=1") {
		t.Errorf("refused: told %q", got)
	}
	if err := d.stop(); err != nil {
		t.Error(err)
	}
	if got := next(); got != "STOPPING=1" {
		t.Errorf("stopped: told %q", got)
	}
}

func TestWhatCannotBeDoneIsRefusedByKind(t *testing.T) {
	w := newWorld(t)
	w.write(oneSegment + "  - {vni: 200}\n  - {vni: 300, dhcp: {subnet: 192.168.100.0/24, hosts: [{mac: \"02:00:00:00:00:07\", ip: 192.168.100.10}]}}\n")
	d := w.start(w.options())
	ctx, addr := t.Context(), netip.MustParseAddr
	far := addr("10.9.0.9")
	own := addr("10.9.0.1")
	mac := w.guest("tap1").MAC()
	reserve := func(vni encap.VNI, ip netip.Addr, r control.Reservation) error {
		_, err := d.ReserveLease(ctx, vni, ip, r)
		return err
	}
	for _, tc := range []struct {
		what string
		err  error
		kind error
		says string
	}{
		{"a segment that is not there", d.AddPeer(ctx, 7, far), control.ErrNotFound, "no segment 7; see uvtep show segments"},
		{"its FDB", d.DeleteFDB(ctx, 7, mac), control.ErrNotFound, "no segment 7"},
		{"its ports", d.DeletePort(ctx, 7, "tap1"), control.ErrNotFound, "no segment 7"},
		{"its leases", d.ReleaseLease(ctx, 7, far), control.ErrNotFound, "no segment 7"},
		{"a peer twice", d.AddPeer(ctx, 100, addr("10.9.0.2")), control.ErrConflict, "10.9.0.2 already exists"},
		{"itself as a peer", d.AddPeer(ctx, 100, own), control.ErrInvalid, "is this VTEP itself"},
		{"a peer that is not there", d.DeletePeer(ctx, 100, far), control.ErrNotFound, "10.9.0.9 not found; see uvtep show peers"},
		{"a MAC that is not there", d.DeleteFDB(ctx, 100, 0x020000000077), control.ErrNotFound, "02:00:00:00:00:77 not found; see uvtep show fdb"},
		{"a group's MAC", d.AddFDB(ctx, 100, 0x010000000077, control.StaticTarget{Dst: &far}), control.ErrInvalid, "unicast"},
		{"a MAC nowhere", d.AddFDB(ctx, 100, mac, control.StaticTarget{}), control.ErrInvalid, "one of them"},
		{"a MAC at two places", d.AddFDB(ctx, 100, mac, control.StaticTarget{Dst: &far, Port: "tap1"}), control.ErrInvalid, "one of them"},
		{"a MAC at no port", d.AddFDB(ctx, 100, mac, control.StaticTarget{Port: "tap9"}), control.ErrNotFound, "port tap9 not found"},
		{"a lease without DHCP", d.ReleaseLease(ctx, 200, far), control.ErrNotFound, "segment 200 has no DHCP server"},
		{"a lease that is not there", d.ReleaseLease(ctx, 100, addr("192.168.100.9")), control.ErrNotFound, "no such lease"},
		{"a lease of another family", d.ReleaseLease(ctx, 100, addr("::1")), control.ErrNotFound, "no DHCPv6 server"},
		{"a reservation of another family", reserve(100, addr("192.168.100.9"), control.Reservation{DUID: "000301"}), control.ErrInvalid, "of DHCPv6"},
		{"a reservation for a port that is not there", reserve(100, addr("192.168.100.9"), control.Reservation{Port: "tap7"}), control.ErrNotFound, "no port tap7"},
		{"a reservation elsewhere", reserve(100, far, control.Reservation{MAC: &mac}), control.ErrInvalid, "none of the segment's subnets"},
		{"a reservation for nobody", reserve(100, addr("192.168.100.9"), control.Reservation{}), control.ErrInvalid, "one of them"},
		{"a reservation for two", reserve(100, addr("192.168.100.9"), control.Reservation{MAC: &mac, ClientID: "ff01"}), control.ErrInvalid, "one of them"},
		{"a client id of odd length", reserve(100, addr("192.168.100.9"), control.Reservation{ClientID: "ff012"}), control.ErrInvalid, "client_id: expected string to be 2 to 255 bytes in hexadecimal"},
		{"a reservation with a bad name", reserve(100, addr("192.168.100.9"), control.Reservation{MAC: &mac, Hostname: "bad name"}), control.ErrInvalid, `"bad name" is not a host name`},
		{"a lease that is the configuration's", d.ReleaseLease(ctx, 300, addr("192.168.100.10")), control.ErrConflict, "192.168.100.10 is reserved for 02:00:00:00:00:07 by the configuration; take it out of the hosts of segment 300 and reload"},
		{"a reservation twice", reserve(300, addr("192.168.100.10"), control.Reservation{MAC: &mac}), control.ErrConflict, "192.168.100.10 is reserved for 02:00:00:00:00:07 already; see uvtep show leases"},
	} {
		if !errors.Is(tc.err, tc.kind) || !strings.Contains(tc.err.Error(), tc.says) || strings.Contains(tc.err.Error(), "\n") {
			t.Errorf("%s: got %v, want one line that is %q and says %q", tc.what, tc.err, tc.kind, tc.says)
		}
	}
}

func TestLeasesAreReservedAndTakenBackWhileRunning(t *testing.T) {
	w := newWorld(t)
	w.write(oneSegment)
	d := w.start(w.options())
	g := w.guest("tap1")
	mac, ip := g.MAC(), netip.MustParseAddr("192.168.100.77")
	if done := must(d.ReserveLease(t.Context(), 100, ip, control.Reservation{MAC: &mac, Hostname: "web1"}))(t); done.HeldBy != nil {
		t.Errorf("the address is held by %+v", done.HeldBy)
	}
	if all := must(d.Leases(t.Context(), 0))(t); len(all) != 1 || all[0].IP != ip || all[0].State != "reserved" || all[0].Expires != nil {
		t.Errorf("the leases are %+v", all)
	}
	if lease := must(g.DHCP(t.Context()))(t); lease.Address.Addr() != ip {
		t.Errorf("the guest got %v", lease.Address)
	}
	if all := must(d.Leases(t.Context(), 0))(t); len(all) != 1 || all[0].State != "bound" || all[0].Expires == nil || all[0].MAC != mac.String() {
		t.Errorf("the leases are %+v", all)
	}
	if err := d.ReleaseLease(t.Context(), 100, ip); err != nil {
		t.Error(err)
	}
	if all := must(d.Leases(t.Context(), 0))(t); len(all) != 1 || all[0].State != "reserved" {
		t.Errorf("the leases are %+v", all)
	}
	// Nobody has it: what is released now is the reservation.
	if err := d.ReleaseLease(t.Context(), 100, ip); err != nil {
		t.Error(err)
	}
	if all := must(d.Leases(t.Context(), 0))(t); len(all) != 0 {
		t.Errorf("the leases are %+v", all)
	}
	if err := d.ReleaseLease(t.Context(), 100, ip); !errors.Is(err, control.ErrNotFound) {
		t.Errorf("a third time: %v", err)
	}
}

func TestAReservationTellsWhoElseHasTheAddress(t *testing.T) {
	w := newWorld(t)
	w.write(oneSegment)
	d := w.start(w.options())
	g := w.guest("tap1")
	ip := must(g.DHCP(t.Context()))(t).Address.Addr()
	other := fdb.MAC(0x020000000077)
	done := must(d.ReserveLease(t.Context(), 100, ip, control.Reservation{MAC: &other}))(t)
	if l := done.HeldBy; l == nil || l.MAC != g.MAC().String() || l.State != "bound" || l.IP != ip || l.Expires == nil {
		t.Errorf("the address is held by %+v", l)
	}
	all := must(d.Leases(t.Context(), 0))(t)
	if len(all) != 2 || all[0].State != "bound" || all[1].State != "reserved" || all[1].IP != ip || all[1].MAC != other.String() {
		t.Errorf("the leases are %+v", all)
	}
}
