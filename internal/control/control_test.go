package control_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/uvtep/uvtep/dhcpd"
	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/control"
)

func ptr[T any](v T) *T { return &v }

var (
	dst  = netip.MustParseAddr("10.9.0.2")
	dst6 = netip.MustParseAddr("2001:db8::2")
	ip   = netip.MustParseAddr("192.168.100.10")
	mac  = fdb.MAC(0x020000000099)
)

// fake is a backend that notes what it was told.
type fake struct {
	told []any
	err  error
	control.Hub
}

func (f *fake) note(args ...any) error { f.told = args; return f.err }

func (f *fake) Segments(vni encap.VNI) ([]control.Segment, error) {
	return []control.Segment{{VNI: 100, Name: "blue", MTU: 1450, Peers: []netip.Addr{dst}, Ports: []string{},
		Learning: true, Ageing: 300, DHCP: ptr(netip.MustParsePrefix("192.168.100.0/24"))}}, f.note("segments", vni)
}

func (f *fake) Ports(vni encap.VNI) ([]control.Port, error) {
	return []control.Port{{VNI: 100, Name: "tap100", Kind: "tap", State: "up", Queues: 2, Offload: []string{}, RxPackets: 1 << 60}}, f.note("ports", vni)
}

func (f *fake) FDB(vni encap.VNI) ([]control.FDBEntry, error) {
	return []control.FDBEntry{{VNI: 100, MAC: mac, Dst: &dst6, State: "dynamic", Age: 3}, {VNI: 100, MAC: mac, Ifname: ptr("tap100"), State: "static"}},
		f.note("fdb", vni)
}

func (f *fake) Peers(vni encap.VNI) ([]control.Peer, error) {
	return []control.Peer{{VNI: 100, Dst: dst, Origin: "config", Replicate: true}}, f.note("peers", vni)
}

func (f *fake) Neighbours(vni encap.VNI) ([]control.Neighbour, error) {
	return []control.Neighbour{{VNI: 100, IP: ip, MAC: mac, Source: "lease", Ifname: ptr("tap100")}}, f.note("neighbours", vni)
}

func (f *fake) Leases(vni encap.VNI) ([]control.Lease, error) {
	return []control.Lease{{VNI: 100, IP: ip, MAC: mac.String(), State: "bound", Expires: ptr(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))}},
		f.note("leases", vni)
}

func (f *fake) DHCP(vni encap.VNI) ([]control.DHCPServer, error) {
	return []control.DHCPServer{{VNI: 100, Family: "ipv6", Received: map[string]uint64{"solicit": 1}, Sent: map[string]uint64{}, Outcomes: map[string]uint64{}}}, f.note("dhcp", vni)
}
func (f *fake) LeaseStore() dhcpd.CommitStats { return dhcpd.CommitStats{} }

func (f *fake) Drops(vni encap.VNI) ([]control.Drop, error) { return nil, f.note("drops", vni) }
func (f *fake) Workers() []control.Worker {
	return []control.Worker{{ID: 1, CPU: -1, Batches: 7, Offload: []string{"udp-gso"}}}
}
func (f *fake) LostOffloads() uint64 { return 0 }

func (f *fake) AddFDB(vni encap.VNI, m fdb.MAC, to control.StaticTarget) error {
	return f.note("add fdb", vni, m, to)
}
func (f *fake) DeleteFDB(vni encap.VNI, m fdb.MAC) error { return f.note("delete fdb", vni, m) }
func (f *fake) FlushFDB(vni encap.VNI) (int, error)      { return 12, f.note("flush fdb", vni) }
func (f *fake) AddPeer(vni encap.VNI, a netip.Addr) error {
	return f.note("add peer", vni, a)
}
func (f *fake) DeletePeer(vni encap.VNI, a netip.Addr) error {
	return f.note("delete peer", vni, a)
}
func (f *fake) AddSegment(vni encap.VNI, s control.NewSegment) error {
	return f.note("add segment", vni, s)
}
func (f *fake) DeleteSegment(vni encap.VNI) error              { return f.note("delete segment", vni) }
func (f *fake) AddPort(vni encap.VNI, p control.NewPort) error { return f.note("add port", vni, p) }
func (f *fake) DeletePort(vni encap.VNI, name string) error {
	return f.note("delete port", vni, name)
}
func (f *fake) ReleaseLease(vni encap.VNI, a netip.Addr) error {
	return f.note("release lease", vni, a)
}
func (f *fake) ReserveLease(vni encap.VNI, a netip.Addr, r control.Reservation) (control.Reserved, error) {
	return control.Reserved{HeldBy: &control.Lease{IP: a, State: "bound"}}, f.note("reserve lease", vni, a, r)
}
func (f *fake) Reload(context.Context) ([]string, error) {
	return []string{"segment 100: peers"}, f.note("reload")
}

var quiet = slog.New(slog.DiscardHandler)

// serve starts a daemon's API on a socket of the test's own.
func serve(t *testing.T, b control.Backend) *control.Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "run", "uvtep.sock")
	l, err := control.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- control.Serve(ctx, l, control.Handler(b, "1.2.3"), quiet) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the socket is still there: %v", err)
		}
	})
	return control.NewClient(path)
}

func TestAClientReadsWhatTheDaemonTells(t *testing.T) {
	f := &fake{}
	c, ctx := serve(t, f), context.Background()
	check := func(name string, get func() (any, error), want any, told ...any) {
		t.Helper()
		got, err := get()
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
			cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
			t.Errorf("%s: -want +got:\n%s", name, diff)
		}
		if !reflect.DeepEqual(f.told, told) {
			t.Errorf("%s: the backend was asked %v, want %v", name, f.told, told)
		}
	}
	b := &fake{}
	segments, _ := b.Segments(0)
	check("segments", func() (any, error) { return c.Segments(ctx, 0) }, segments, "segments", encap.VNI(0))
	ports, _ := b.Ports(0)
	check("ports", func() (any, error) { return c.Ports(ctx, 100) }, ports, "ports", encap.VNI(100))
	entries, _ := b.FDB(0)
	check("fdb", func() (any, error) { return c.FDB(ctx, 16777215) }, entries, "fdb", encap.VNI(16777215))
	servers, _ := b.DHCP(0)
	check("dhcp", func() (any, error) { return c.DHCP(ctx, 0) }, servers, "dhcp", encap.VNI(0))
	peers, _ := b.Peers(0)
	check("peers", func() (any, error) { return c.Peers(ctx, 1) }, peers, "peers", encap.VNI(1))
	neighbours, _ := b.Neighbours(0)
	check("neighbours", func() (any, error) { return c.Neighbours(ctx, 1) }, neighbours, "neighbours", encap.VNI(1))
	leases, _ := b.Leases(0)
	check("leases", func() (any, error) { return c.Leases(ctx, 0) }, leases, "leases", encap.VNI(0))
	check("drops", func() (any, error) { return c.Drops(ctx, 0) }, []control.Drop{}, "drops", encap.VNI(0))
	check("workers", func() (any, error) { return c.Workers(ctx) }, b.Workers(), "drops", encap.VNI(0))
}

func TestAClientChangesADaemon(t *testing.T) {
	f := &fake{}
	c, ctx := serve(t, f), context.Background()
	vni := encap.VNI(100)
	check := func(err error, told ...any) {
		t.Helper()
		if err != nil {
			t.Error(err)
		}
		if !reflect.DeepEqual(f.told, told) {
			t.Errorf("the backend was told %v, want %v", f.told, told)
		}
	}
	check(c.AddFDB(ctx, vni, mac, control.StaticTarget{Dst: &dst}), "add fdb", vni, mac, control.StaticTarget{Dst: &dst})
	check(c.AddFDB(ctx, vni, mac, control.StaticTarget{Port: "tap100"}), "add fdb", vni, mac, control.StaticTarget{Port: "tap100"})
	check(c.DeleteFDB(ctx, vni, mac), "delete fdb", vni, mac)
	n, err := c.FlushFDB(ctx, vni)
	check(err, "flush fdb", vni)
	if n != 12 {
		t.Errorf("flushed %d, want 12", n)
	}
	check(c.AddPeer(ctx, vni, dst6), "add peer", vni, dst6)
	check(c.DeletePeer(ctx, vni, dst), "delete peer", vni, dst)
	p := control.NewPort{TAP: "tap0", NetNS: "/run/netns/g", Rename: "eth0", MAC: ptr(mac), Bridge: "br0", Isolated: true, MaxMACs: 3}
	s := control.NewSegment{Name: "blue", MTU: 1400, Peers: []string{"10.9.0.2", "10.9.0.3"}, Group: "239.1.1.1", DHCP: "10.0.0.0/24", DHCP6: "2001:db8::/64"}
	check(c.AddSegment(ctx, vni, s), "add segment", vni, s)
	check(c.DeleteSegment(ctx, vni), "delete segment", vni)
	check(c.AddPort(ctx, vni, p), "add port", vni, p)
	check(c.DeletePort(ctx, vni, "a/b?c"), "delete port", vni, "a/b?c")
	check(c.ReleaseLease(ctx, vni, ip), "release lease", vni, ip)
	r := control.Reservation{MAC: ptr(mac), Hostname: "web1"}
	held, err := c.ReserveLease(ctx, vni, ip, r)
	check(err, "reserve lease", vni, ip, r)
	if held.HeldBy == nil || held.HeldBy.IP != ip {
		t.Errorf("the address is held by %+v", held.HeldBy)
	}
	r = control.Reservation{ClientID: "ff0102"}
	_, err = c.ReserveLease(ctx, vni, ip, r)
	check(err, "reserve lease", vni, ip, r)
	done, err := c.Reload(ctx)
	check(err, "reload")
	if diff := cmp.Diff([]string{"segment 100: peers"}, done.Changes); diff != "" {
		t.Error(diff)
	}
}

func TestErrorsKeepTheirKindAndText(t *testing.T) {
	f := &fake{}
	c := serve(t, f)
	for _, kind := range []error{control.ErrNotFound, control.ErrConflict, control.ErrInvalid} {
		f.err = control.Errorf(kind, "no segment 7; see uvtep show segments")
		if err := c.AddPeer(context.Background(), 7, dst); !errors.Is(err, kind) || err.Error() != f.err.Error() {
			t.Errorf("got %v, want %v", err, f.err)
		}
	}
	f.err = errors.New("the disk is full")
	_, err := c.Segments(context.Background(), 0)
	if err == nil || err.Error() != "the disk is full" || errors.Is(err, control.ErrNotFound) {
		t.Errorf("got %v", err)
	}
	f.err = &control.InvalidConfig{Faults: []string{"u.yaml:1:1: workers: bad", "u.yaml:2:1: state: bad"}}
	_, err = c.Reload(context.Background())
	if bad := (*control.InvalidConfig)(nil); !errors.As(err, &bad) || len(bad.Faults) != 2 || err.Error() != f.err.Error() {
		t.Errorf("got %v, want %v", err, f.err)
	}
}

func TestRequestsThatMakeNoSenseAreRefused(t *testing.T) {
	h := control.Handler(&fake{}, "1.2.3")
	for _, r := range []struct{ method, path, body string }{
		{"GET", "/v1/segments?vni=0", ""},
		{"GET", "/v1/segments?vni=16777216", ""},
		{"GET", "/v1/segments?vin=1", ""},
		{"PUT", "/v1/segments/100/peers/nobody", ""},
		{"PUT", "/v1/segments/100/fdb/02:00", `{"dst":"10.9.0.2"}`},
		{"PUT", "/v1/segments/100/fdb/02:00:00:00:00:01", `{"dst":"10.9.0.2","what":1}`},
		{"PUT", "/v1/segments/100/leases/192.168.100.9", `{"client_id":"zz"}`},
	} {
		w := httptest.NewRecorder()
		req := httptest.NewRequest(r.method, r.path, strings.NewReader(r.body))
		req.Header.Set("Content-Type", "application/json")
		h.ServeHTTP(w, req)
		if w.Code != http.StatusUnprocessableEntity && w.Code != http.StatusBadRequest {
			t.Errorf("%s %s %s: status %d: %s", r.method, r.path, r.body, w.Code, w.Body)
		}
	}
}

func TestNobodyAnswersIsToldWithWhatToDo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "uvtep.sock")
	want := "no uvtep answers on " + path + "; start one with uvtep run, or name its socket with --socket"
	_, err := control.NewClient(path).Segments(context.Background(), 0)
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	stale(t, path)
	if _, err = control.NewClient(path).Segments(context.Background(), 0); err == nil || err.Error() != want {
		t.Errorf("stale socket: got %v, want %s", err, want)
	}
}

// stale leaves the socket file of a daemon that was killed.
func stale(t *testing.T, path string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
}

func TestAStaleSocketIsReplacedAndALiveOneIsNot(t *testing.T) {
	path := filepath.Join(t.TempDir(), "uvtep.sock")
	stale(t, path)
	l, err := control.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("mode %v, %v; want 0660", info.Mode(), err)
	}
	_, err = control.Listen(path)
	want := "another uvtep answers on " + path + "; stop it or choose --socket"
	if !errors.Is(err, control.ErrInUse) || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	l.Close()
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("closed, and the socket is still there: %v", err)
	}
}

func TestAFileThatIsNoSocketIsLeftAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "precious")
	if err := os.WriteFile(path, []byte("data"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := control.Listen(path); err == nil || !strings.Contains(err.Error(), "is no socket") {
		t.Errorf("got %v", err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "data" {
		t.Errorf("the file is now %q, %v", b, err)
	}
}

func TestThePortOnLoopbackOnlyReadsAndOnlyForItsOwnPages(t *testing.T) {
	metrics := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "uvtep_build_info 1\n") })
	h := control.ReadOnlyHandler(&fake{}, metrics, "1.2.3")
	for _, r := range []struct {
		method, path, host string
		header             map[string]string
		want               int
	}{
		{"GET", "/v1/segments", "127.0.0.1:9479", nil, 200},
		{"GET", "/v1/leases?vni=100", "localhost:9479", nil, 200},
		{"GET", "/v1/workers", "[::1]:9479", nil, 200},
		{"GET", "/metrics", "127.0.0.1:9479", nil, 200},
		{"GET", "/openapi.json", "127.0.0.1:9479", nil, 200},
		{"GET", "/metrics", "127.0.0.1:9479", map[string]string{"Origin": "http://127.0.0.1:9479"}, 200},
		{"GET", "/metrics", "127.0.0.1:9479", map[string]string{"Sec-Fetch-Site": "none"}, 200},
		{"GET", "/metrics", "127.0.0.1:9479", map[string]string{"Sec-Fetch-Site": "cross-site"}, 403},
		{"GET", "/metrics", "127.0.0.1:9479", map[string]string{"Origin": "http://evil.example"}, 403},
		{"GET", "/metrics", "127.0.0.1:9479", map[string]string{"Origin": "http://127.0.0.1:8080"}, 403},
		{"GET", "/metrics", "127.0.0.1:9479", map[string]string{"Origin": "null"}, 403},
		{"GET", "/metrics", "evil.example:9479", nil, 403},
		{"GET", "/metrics", "10.9.0.1:9479", nil, 403},
		{"GET", "/metrics", "127.0.0.1.evil.example", nil, 403},
		{"POST", "/v1/reload", "127.0.0.1:9479", nil, 404},
		{"PUT", "/v1/segments/100/peers/10.9.0.2", "127.0.0.1:9479", nil, 404},
		{"DELETE", "/v1/segments/100/fdb", "127.0.0.1:9479", nil, 404},
		{"POST", "/metrics", "127.0.0.1:9479", nil, 405},
	} {
		req := httptest.NewRequest(r.method, r.path, nil)
		req.Host = r.host
		for k, v := range r.header {
			req.Header.Set(k, v)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, req)
		if w.Code != r.want {
			t.Errorf("%s %s to %s with %v: status %d, want %d", r.method, r.path, r.host, r.header, w.Code, r.want)
		}
	}
}

func TestOnlyALoopbackAddressIsListenedOn(t *testing.T) {
	for _, address := range []string{"0.0.0.0:0", "192.0.2.1:80", "[::]:0", "localhost:0", "127.0.0.1"} {
		if l, err := control.ListenTCP(address); err == nil {
			l.Close()
			t.Errorf("%s was taken", address)
		}
	}
	l, err := control.ListenTCP("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := control.ListenTCP(l.Addr().String()); err == nil || strings.Contains(err.Error(), "\n") ||
		!strings.Contains(err.Error(), "address already in use") {
		t.Errorf("got %v", err)
	}
}

// pipes is a listener of connections in memory.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { p.once.Do(func() { close(p.closed) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

func TestWhoConnectsAndAsksNothingDoesNotHoldUpTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		p := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
		done := make(chan error, 1)
		go func() { done <- control.Serve(ctx, p, control.Handler(&fake{}, "1.2.3"), quiet) }()
		mine, theirs := net.Pipe()
		defer mine.Close()
		p.conns <- theirs
		synctest.Wait()
		start := time.Now()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		// By the clock of the bubble, which stands still while anyone works.
		if d := time.Since(start); d > 500*time.Millisecond {
			t.Errorf("the end came after %v", d)
		}
	})
}

func TestTheDescriptionNamesEveryOperation(t *testing.T) {
	w := httptest.NewRecorder()
	control.Handler(&fake{}, "1.2.3").ServeHTTP(w, httptest.NewRequest("GET", "/openapi.json", nil))
	var doc struct {
		Info  struct{ Version string }
		Paths map[string]map[string]struct{ OperationID string }
	}
	if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	var ids int
	for path, methods := range doc.Paths {
		for method, op := range methods {
			if op.OperationID == "" {
				t.Errorf("%s %s has no operation id", method, path)
			}
			ids++
		}
	}
	if ids != 22 || doc.Info.Version != "1.2.3" {
		t.Errorf("%d operations, version %s; want 22 of version 1.2.3", ids, doc.Info.Version)
	}
	if bytes.Contains(w.Body.Bytes(), []byte("unpkg")) {
		t.Error("the description loads from elsewhere")
	}
}

// TestKeysAreThoseOfTheContract holds the types against the table of keys that
// programs rely on: they may become more, but none goes.
func TestKeysAreThoseOfTheContract(t *testing.T) {
	for _, c := range []struct {
		v    any
		keys string
	}{
		{control.Segment{}, "vni name mtu group peers ports learning ageing_s macs dhcp dhcp6 ra"},
		{control.Port{}, "vni name kind state queues offload rx_packets rx_bytes rx_dropped tx_packets tx_bytes tx_dropped isolated max_leases dhcp_rate dhcp_check_mac bind bindings trusted"},
		{control.FDBEntry{}, "vni mac ifname dst state age_s"},
		{control.Peer{}, "vni dst origin rx_packets rx_bytes tx_packets tx_bytes"},
		{control.Lease{}, "vni ip mac client_id hostname state expires port vtep iaid length"},
		{control.DHCPServer{}, "vni family subnet server pool used bound offered declined reserved received sent outcomes probes probe_conflicts probes_skipped"},
		{control.Event{}, "time kind vni"},
		{control.Drop{}, "reason vni count"},
		{control.Worker{}, "id cpu rx_packets tx_packets batches"},
	} {
		b, err := json.Marshal(c.v)
		if err != nil {
			t.Fatal(err)
		}
		var got map[string]any
		if err := json.Unmarshal(b, &got); err != nil {
			t.Fatal(err)
		}
		for _, k := range strings.Fields(c.keys) {
			if _, ok := got[k]; !ok {
				t.Errorf("%T has no key %s", c.v, k)
			}
		}
	}
}
