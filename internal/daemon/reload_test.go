package daemon_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/uvtep/uvtep/internal/control"
	"github.com/uvtep/uvtep/internal/daemon"
	"github.com/uvtep/uvtep/internal/nettest"
	"github.com/uvtep/uvtep/vtep/vteptest"
)

// state is what a daemon tells of itself, and what the operating system has of
// it, less what counts.
func (d *instance) state(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	note := func(v any) {
		t.Helper()
		j, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s\n", j)
	}
	for _, s := range must(d.Segments(t.Context(), 0))(t) {
		s.MACs = 0
		slices.Sort(s.Ports) // one that was taken away and put back is the last
		note(s)
	}
	for _, p := range must(d.Peers(t.Context(), 0))(t) {
		note([]any{p.VNI, p.Dst, p.Origin, p.Replicate})
	}
	for _, e := range must(d.FDB(t.Context(), 0))(t) {
		if e.State != "dynamic" {
			note(e)
		}
	}
	for _, l := range must(d.Leases(t.Context(), 0))(t) {
		note(l)
	}
	var ports []string
	for _, p := range must(d.Ports(t.Context(), 0))(t) {
		ports = append(ports, fmt.Sprint(p.VNI, p.Name, p.State, p.Isolated, p.MaxLeases, p.DHCPRate, p.CheckMAC))
	}
	slices.Sort(ports)
	note(ports)
	d.w.mu.Lock()
	defer d.w.mu.Unlock()
	for name, dev := range d.w.devices {
		ports = append(ports, fmt.Sprint(name, " ", dev.mtu, " ", dev.cfg.NetNS))
	}
	for g, n := range d.w.groups {
		ports = append(ports, fmt.Sprint(g, n))
	}
	slices.Sort(ports)
	note(ports)
	return b.String()
}

// learned are the MACs that a daemon has learned.
func (d *instance) learned(t *testing.T) []string {
	t.Helper()
	var macs []string
	for _, e := range must(d.FDB(t.Context(), 0))(t) {
		if e.State == "dynamic" {
			macs = append(macs, fmt.Sprint(e.VNI, e.MAC))
		}
	}
	return macs
}

const before = `segments:
  - vni: 100
    name: blue
    mtu: 1400
    peers: [10.9.0.2, 10.9.0.3]
    fdb: [{mac: "02:00:00:00:00:99", dst: 10.9.0.4}, {mac: "02:00:00:00:00:98", port: tap1}]
    ports: [{tap: tap1}, {tap: tap2}, {tap: tap3, isolated: true}]
    dhcp: 192.168.100.0/24
    dhcp6: "2001:db8:100::/64"
    ra: true
  - vni: 200
    group: 239.1.1.2
    ports: [{tap: tap4}]
    dhcp6: "2001:db8:200::/64"
  - vni: 300
    ports: [{tap: tap5}, {tap: tap6}]
  - vni: 400
    ports: [{tap: tap7, max_leases: 1, max_macs: 9}]
`

// after differs in everything that may, and hands names from one segment to
// another.
const after = `segments:
  - vni: 100
    name: red
    mtu: 1350
    peers: [10.9.0.3, 10.9.0.5]
    fdb: [{mac: "02:00:00:00:00:99", dst: 10.9.0.6}, {mac: "02:00:00:00:00:97", port: tap2}]
    ageing: 60s
    ports: [{tap: tap2}, {tap: tap3}, {tap: tap5}]
    dhcp: {subnet: 192.168.100.0/24, gateway: 192.168.100.1}
    dhcp6: {subnet: "2001:db8:100::/64", dns: ["2001:db8:100::1"]}
    ra: {interval: 1m}
  - vni: 200
    group: 239.1.1.3
    mtu: 1200
    ports: [{tap: tap4}, {tap: tap8}]
    dhcp: 192.168.200.0/24
  - vni: 400
    ports: [{tap: tap7, dhcp_rate: 9, dhcp_check_mac: true, max_macs: 8}]
    dhcp6: {subnet: "2001:db8:400::/64", ranges: []}
    ra: true
  - vni: 500
    group: 239.1.1.4
    ports: [{tap: tap1, netns: away}, {tap: tap6}]
    dhcp: 192.168.50.0/24
`

func TestAReloadAppliesEverythingThatDiffers(t *testing.T) {
	w := newWorld(t)
	w.write(before)
	d := w.start(w.options())
	w.write(after)
	done := must(d.Reload(t.Context()))(t)
	if diff := cmp.Diff([]string{
		"segment 300: removed",
		"segment 500: added",
		"segment 100: name, mtu, peers, limits, fdb, ports, dhcp, dhcp6, ra",
		"segment 200: mtu, group, ports, dhcp, dhcp6",
		"segment 400: ports, dhcp6, ra",
	}, done.Changes); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}

	// It is then as one that was started so.
	got := d.state(t)
	if err := d.stop(); err != nil {
		t.Fatal(err)
	}
	w.nothingLeft()
	fresh := w.start(w.options())
	if diff := cmp.Diff(fresh.state(t), got); diff != "" {
		t.Errorf("-started so +reloaded:\n%s", diff)
	}
	if err := fresh.stop(); err != nil {
		t.Fatal(err)
	}
	w.nothingLeft()
}

func TestAReloadThatFailsAtAnyStepChangesNothing(t *testing.T) {
	w := newWorld(t)
	w.write(before)
	d := w.start(w.options())
	if err := d.AddPort(t.Context(), 300, control.NewPort{TAP: "tap8"}); err != nil {
		t.Fatal(err)
	}
	g := w.guest("tap7")
	if err := g.Send(append([]byte{255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 7, 8, 6}, make([]byte, 46)...)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the MAC is learned", func() bool { return len(d.learned(t)) == 1 })
	was := d.state(t)
	w.write(after)

	var failed []string
	for n := 1; ; n++ {
		broken, steps, told := errors.New("it is broken"), 0, ""
		w.fail(func(what string) error {
			if strings.HasPrefix(what, "join ") { // a group is tried again, and nothing fails for it
				return nil
			}
			if steps++; steps == n {
				told = what
				return broken
			}
			return nil
		})
		_, err := d.Reload(t.Context())
		w.fail(nil)
		if told == "" {
			if err != nil {
				t.Errorf("nothing fails, and the reload does: %v", err)
			}
			break
		}
		failed = append(failed, told)
		if err == nil || !strings.Contains(err.Error(), broken.Error()) || !strings.HasSuffix(err.Error(), "nothing was changed") ||
			strings.Contains(err.Error(), "\n") {
			t.Errorf("%s fails: got %v", told, err)
		}
		if diff := cmp.Diff(was, d.state(t)); diff != "" {
			t.Fatalf("%s fails: -before +after:\n%s", told, diff)
		}
		if macs := d.learned(t); len(macs) != 1 {
			t.Errorf("%s fails: what was learned elsewhere is now %v", told, macs)
		}
	}
	// Every kind of step must have been among them.
	for _, step := range []string{"open tap1", "open tap3", "open tap5", "open tap8", "set the MTU of tap2", "set the MTU of tap4"} {
		if !slices.Contains(failed, step) {
			t.Errorf("%q did not fail; those that did: %q", step, failed)
		}
	}
	if macs := d.learned(t); len(macs) != 1 {
		t.Errorf("reloaded: what was learned elsewhere is now %v", macs)
	}
}

func TestAReloadThatCannotKeepLeasesChangesNothing(t *testing.T) {
	w := newWorld(t)
	w.write("segments: [{vni: 100, ports: [{tap: tap1}]}]\n")
	if err := os.WriteFile(filepath.Join(w.dir, "state"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	d := w.start(w.options())
	was := d.state(t)
	w.write("segments: [{vni: 100, ports: [{tap: tap1}, {tap: tap2}], dhcp: 192.168.100.0/24}]\n")
	if _, err := d.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "change state") {
		t.Errorf("got %v", err)
	}
	if diff := cmp.Diff(was, d.state(t)); diff != "" {
		t.Errorf("-before +after:\n%s", diff)
	}
}

func TestAWrongConfigurationIsNotReloaded(t *testing.T) {
	w := newWorld(t)
	w.write(before)
	d := w.start(w.options())
	was := d.state(t)

	w.write("segments:\n  - vni: 0\n  - vni: x\n")
	_, err := d.Reload(t.Context())
	bad := (*control.InvalidConfig)(nil)
	if !errors.As(err, &bad) || len(bad.Faults) != 2 || bad.Faults[0] != w.file+":6:10: segments[0].vni: 0 is outside 1..16777215" {
		t.Errorf("got %v", err)
	}
	w.writeAs("underlay: {local: 10.9.0.1, port: 8472, accept: any}\nworkers: 2\n" + before)
	if _, err = d.Reload(t.Context()); !errors.Is(err, control.ErrConflict) ||
		!strings.Contains(err.Error(), "underlay.port: cannot change while running; restart; workers: cannot change") {
		t.Errorf("got %v", err)
	}
	if err := os.Remove(w.file); err != nil {
		t.Fatal(err)
	}
	if _, err = d.Reload(t.Context()); !errors.Is(err, control.ErrInvalid) || !strings.Contains(err.Error(), w.file) {
		t.Errorf("got %v", err)
	}
	if diff := cmp.Diff(was, d.state(t)); diff != "" {
		t.Errorf("-before +after:\n%s", diff)
	}
}

func TestAReloadTouchesOnlyWhatChanged(t *testing.T) {
	w := newWorld(t)
	w.write(before)
	d := w.start(w.options())
	a, b := w.guest("tap1"), w.guest("tap2")
	must(a.DHCP(t.Context()))(t)
	must(b.DHCP(t.Context()))(t)
	if err := a.Ping(t.Context(), b.IP()); err != nil {
		t.Fatal(err)
	}
	learned := d.learned(t)
	if len(learned) != 2 {
		t.Fatalf("learned: %v", learned)
	}
	w.write(strings.ReplaceAll(before, "[10.9.0.2, 10.9.0.3]", "[10.9.0.2, 10.9.0.7]") + "  - {vni: 600, ports: [{tap: tap9}]}\n")
	must(d.Reload(t.Context()))(t)
	if diff := cmp.Diff(learned, d.learned(t)); diff != "" {
		t.Errorf("learned: -before +after:\n%s", diff)
	}
	for i := 1; i <= 9; i++ {
		if name := fmt.Sprint("tap", i); i != 8 && w.opened(name) != 1 {
			t.Errorf("%s was opened %d times", name, w.opened(name))
		}
	}
	if err := a.Ping(t.Context(), b.IP()); err != nil {
		t.Error(err)
	}
	if all := must(d.Leases(t.Context(), 100))(t); len(all) != 2 {
		t.Errorf("the leases are %+v", all)
	}
	if done := must(d.Reload(t.Context()))(t); len(done.Changes) != 0 {
		t.Errorf("nothing differs, and it says %q", done.Changes)
	}
}

// port is what is told of a port.
func (d *instance) port(t *testing.T, name string) (p control.Port) {
	t.Helper()
	for _, q := range must(d.Ports(t.Context(), 0))(t) {
		if q.Name == name {
			p = q
		}
	}
	return p
}

func TestADaemonThatIsStoppedWhileItReloadsLeavesNothing(t *testing.T) {
	for _, at := range []string{"set the MTU of tap2", "join 239.1.1.4", "open tap1", "open tap8"} {
		t.Run(at, func(t *testing.T) {
			w := newWorld(t)
			w.write(before)
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			o, log := w.options(), &nettest.Log{}
			o.Logger = logger(log)
			done := make(chan error, 1)
			go func() { done <- daemon.Run(ctx, o) }()
			<-log.Wrote("msg=ready ")
			w.write(after)
			w.fail(func(what string) error {
				if what == at {
					cancel()
				}
				return nil
			})
			_, reloaded := control.NewClient(w.socket()).Reload(context.Background())
			if err := <-done; err != nil {
				t.Errorf("%v (the reload: %v)", err, reloaded)
			}
			w.nothingLeft()
		})
	}
}

// What of the forwarding database's policy changes holds from the next frame on.
func TestAReloadChangesWhoIsLearnedAndWhoIsHeld(t *testing.T) {
	const file = "max_macs: %d\nsegments: [{vni: 100, mac_moves: %d, ports: [{tap: tap0}, {tap: tap1}]}]\n"
	w := newWorld(t)
	w.write(fmt.Sprintf(file, 2, 1))
	d := w.start(w.options())
	guests := []*vteptest.Guest{w.guest("tap0"), w.guest("tap1")}
	say := func(guest int, mac byte) {
		t.Helper()
		if err := guests[guest].Send(append([]byte{255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, mac, 8, 6}, make([]byte, 46)...)); err != nil {
			t.Fatal(err)
		}
	}
	rx := func() (n uint64) {
		for _, p := range must(d.Ports(t.Context(), 100))(t) {
			n += p.RxPackets
		}
		return n
	}
	for i := range 5 {
		say(0, byte(i))
	}
	say(1, 0) // moves
	eventually(t, "frames are there", func() bool { return rx() == 6 })
	if macs := d.learned(t); len(macs) != 2 {
		t.Errorf("with room for two: %v", macs)
	}
	frozen := func() (n int) {
		for _, e := range must(d.FDB(t.Context(), 100))(t) {
			if e.Frozen {
				n++
			}
		}
		return n
	}
	if n := frozen(); n != 1 {
		t.Errorf("%d MACs are held, want 1", n)
	}
	if drops := must(d.Drops(t.Context(), 100))(t); len(drops) != 1 || drops[0].Reason != "mac_frozen" {
		t.Errorf("drops: %+v", drops)
	}

	w.write(fmt.Sprintf(file, 0, 0))
	if diff := cmp.Diff([]string{"max_macs", "segment 100: limits"}, must(d.Reload(t.Context()))(t).Changes); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	eventually(t, "nothing is held any more", func() bool { return frozen() == 0 })
	for i := range 5 {
		say(0, byte(i))
		say(1, byte(i))
	}
	eventually(t, "all are known", func() bool { return len(d.learned(t)) == 5 })
}
