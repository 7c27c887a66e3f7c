package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/uvtep/uvtep/internal/netns"
	"github.com/uvtep/uvtep/internal/nettest"
)

// program is the real uvtep, built once for all tests that run it.
var program string

func TestMain(m *testing.M) {
	if os.Geteuid() != 0 {
		os.Exit(m.Run()) // whoever needs the program needs root, and says so
	}
	os.Exit(nettest.WithProgram(&program, m.Run))
}

// tiny are options of a run that says nothing of speed.
func tiny(t *testing.T, systems ...string) Options {
	t.Helper()
	nettest.Root(t)
	leavesNothing(t)
	return Options{
		Rounds: 1, Time: 20 * time.Millisecond, Trial: 10 * time.Millisecond,
		Systems: systems, Generator: Builtin, Binary: program, Version: "1.2.3",
	}
}

// leavesNothing wants no namespace, process or file to be left when the test
// ends. What a run starts inherits the test's folder for files that do not stay.
func leavesNothing(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	t.Cleanup(func() {
		names, err := netns.List()
		ours := fmt.Sprintf("uvbench-%d-", os.Getpid())
		names = slices.DeleteFunc(names, func(s string) bool { return !strings.HasPrefix(s, ours) })
		if err != nil || len(names) > 0 {
			t.Errorf("namespaces are left: %v, error %v", names, err)
		}
		files, err := filepath.Glob(fmt.Sprintf("%s/uvtep-bench-%d-*", runDir, os.Getpid()))
		if err != nil || len(files) > 0 {
			t.Errorf("files are left: %v, error %v", files, err)
		}
		all, err := filepath.Glob("/proc/[0-9]*/environ")
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range all {
			if b, err := os.ReadFile(file); err == nil && bytes.Contains(b, []byte("TMPDIR="+dir)) {
				command, _ := os.ReadFile(filepath.Join(filepath.Dir(file), "cmdline"))
				t.Errorf("a process is left: %s: %q", file, command)
			}
		}
	})
}

func TestARunMeasuresEverythingOfEverySystemAndLeavesNothing(t *testing.T) {
	o := tiny(t, SystemNames()...)
	nettest.Need(t, "ovs-vswitchd", "ovsdb-server", "ovsdb-tool", "ovs-vsctl")
	var shares []float64
	o.Progress = func(e Event) { shares = append(shares, e.Share) }
	r, err := Run(t.Context(), o)
	if err != nil || r.Err() != nil {
		t.Fatal(err, r.Err())
	}
	for _, s := range r.Systems {
		if s.Missing != "" || s.Version == "" {
			t.Errorf("%s, version %q, is missing: %s", s.Name, s.Version, s.Missing)
		}
		processes := !strings.HasPrefix(s.Name, Kernel)
		for _, mode := range Modes() {
			for _, m := range measures {
				own := slices.Contains([]string{ownCPU1, ownCPU4, memory}, m.id)
				v, ok := r.value(mode, s.Name, m.id)
				if want := !own || processes; ok != want {
					t.Errorf("%s, %s: %s was measured: %t, want %t", mode, s.Name, m.id, ok, want)
				}
				// In so short a time a clock of 10 ms may not tick, and on a busy
				// machine every trial may have had its accident.
				if ok && (len(v.Samples) != 1 || v.Median < 0 || v.Median == 0 && !strings.HasPrefix(m.id, "cpu") && m.id != udp64) {
					t.Errorf("%s, %s: %s: %+v", mode, s.Name, m.id, v)
				}
				if m.id == udp64 && len(v.Trials) != 1 {
					t.Errorf("%s, %s: trials %+v", mode, s.Name, v.Trials)
				}
			}
		}
	}
	if !slices.IsSorted(shares) || len(shares) == 0 || shares[len(shares)-1] < 0.999 {
		t.Errorf("progress went %v", shares)
	}
	if r.Settings.TCP != "the built-in generator" || r.Version != "1.2.3" || r.Machine.Cores < 1 || r.Machine.Kernel == "" {
		t.Errorf("told of itself: %+v, %+v", r.Settings, r.Machine)
	}
}

func TestIPerf3MakesTheTrafficWhereItIsThere(t *testing.T) {
	nettest.Need(t, "iperf3")
	o := tiny(t, Kernel)
	o.Generator, o.Modes = Auto, []Mode{Wire}
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{tcp1, tcp4} {
		if v, ok := r.value(Wire, Kernel, id); !ok || v.Median <= 0 {
			t.Errorf("%s: %+v", id, v)
		}
	}
	if !strings.HasPrefix(r.Settings.TCP, "iperf3 3.") || r.Settings.Time != 1 {
		t.Errorf("by %s, %v s", r.Settings.TCP, r.Settings.Time)
	}
}

func TestARunThatIsInterruptedLeavesNothing(t *testing.T) {
	for _, at := range []string{"set up kernel vxlan", "set up Open vSwitch", "set up uvtep", "TCP, 1 stream", "64-byte", "round trip"} {
		t.Run(at, func(t *testing.T) {
			o := tiny(t)
			o.Systems = nil
			o.Time, o.Trial = time.Minute, time.Minute
			if at == "64-byte" || at == "round trip" {
				o.Time = 20 * time.Millisecond
			}
			if at == "round trip" {
				o.Trial = 20 * time.Millisecond
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			o.Progress = func(e Event) {
				if strings.Contains(e.Text, at) {
					time.AfterFunc(20*time.Millisecond, cancel)
				}
			}
			o.Rounds = mostRounds
			r, err := Run(ctx, o)
			if !errors.Is(err, ErrInterrupted) || r != nil {
				t.Errorf("result %v, error %v", r, err)
			}
		})
	}
}

func TestASystemThatCannotBeSetUpIsLeftOut(t *testing.T) {
	o := tiny(t, Kernel, "uvtep")
	o.Binary, o.Modes = "/bin/false", []Mode{Virt}
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := r.value(Virt, Kernel, tcp1); !ok {
		t.Error("the kernel was not measured")
	}
	if err := r.Err(); err == nil || !strings.Contains(err.Error(), "false ended before it was ready") {
		t.Errorf("told of uvtep: %v", err)
	}
}

func TestOpenVSwitchThatIsNotInstalledIsLeftOut(t *testing.T) {
	o := tiny(t, "ovs")
	t.Setenv("PATH", t.TempDir())
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if got := r.Systems[0].Missing; got != "ovsdb-tool is not installed" || len(r.Values) > 0 {
		t.Errorf("missing: %q, values %v", got, r.Values)
	}
}

func TestASystemThatFailsOnTheWayIsLeftOut(t *testing.T) {
	o := tiny(t, Kernel, "uvtep")
	o.Modes, o.Rounds = []Mode{Virt}, 2
	var daemon int
	o.Progress = func(e Event) {
		if strings.HasPrefix(e.Line, "virt 1/2  round trip") {
			pids, err := netns.PIDs(fmt.Sprintf("uvbench-%d-uvtep-h2", os.Getpid()))
			if err != nil || len(pids) != 1 {
				t.Errorf("processes %v, error %v", pids, err)
				return
			}
			daemon = pids[0]
			unix.Kill(daemon, unix.SIGKILL)
			for unix.Kill(daemon, 0) == nil { // until it has been waited for
				time.Sleep(time.Millisecond)
			}
		}
	}
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if daemon == 0 || r.Err() == nil {
		t.Errorf("process %d was killed; told of it: %v", daemon, r.Err())
	}
	if v, _ := r.value(Virt, Kernel, rttHalf); len(v.Samples) != 2 {
		t.Errorf("of the kernel: %+v", v)
	}
	if v, _ := r.value(Virt, "uvtep", tcp1); len(v.Samples) != 1 {
		t.Errorf("of uvtep before it failed: %+v", v)
	}
}

// guests are two namespaces on a cable, with the addresses of guests.
func guests(t *testing.T) (near, far *nettest.NS) {
	t.Helper()
	near, far = nettest.New(t, "near"), nettest.New(t, "far")
	nettest.Veth(t, near, guestIf, far, guestIf)
	near.Addr(guestIf, netip.PrefixFrom(guestAddr(0), 24).String())
	far.Addr(guestIf, netip.PrefixFrom(guestAddr(1), 24).String())
	return near, far
}

func TestWhatIsNotLostIsCounted(t *testing.T) {
	near, far := guests(t)
	p, err := newUDPPair(near.Name, far.Name)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	if all, err := p.roundTrips(t.Context(), 50*time.Millisecond); err != nil || len(all) == 0 || !slices.IsSorted(all) || all[0] <= 0 {
		t.Fatalf("%d round trips, error %v", len(all), err)
	}
	trial, err := p.flood(t.Context(), 5000, 200*time.Millisecond)
	if err != nil || trial.Sent == 0 || trial.Received != trial.Sent || trial.Reordered != 0 || trial.Offered != 5000 || trial.Seconds < 0.2 {
		t.Errorf("%+v, error %v", trial, err)
	}
	if most := uint64(5000*trial.Seconds) + 1; trial.Sent > most {
		t.Errorf("%d were sent, of at most %d", trial.Sent, most)
	}
	// All are lost where the cable is cut.
	far.Exec("ip", "link", "set", guestIf, "down")
	trial, err = p.flood(t.Context(), 5000, 50*time.Millisecond)
	if err != nil || trial.Received != 0 || trial.Loss() != 1 {
		t.Errorf("without a cable: %+v, error %v", trial, err)
	}
	if _, err := p.roundTrips(t.Context(), 10*time.Millisecond); err == nil {
		t.Error("without a cable there was an answer")
	}
}

func TestFramesAre64BytesLong(t *testing.T) {
	near, far := guests(t)
	p, err := newUDPPair(near.Name, far.Name)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	if _, err := p.roundTrips(t.Context(), 10*time.Millisecond); err != nil { // so that ARP is done
		t.Fatal(err)
	}
	count := func() (bytes, packets int) {
		err := inside(near.Name, func(h *netlink.Handle) error {
			link, err := h.LinkByName(guestIf)
			if err == nil {
				s := link.Attrs().Statistics
				bytes, packets = int(s.TxBytes), int(s.TxPackets)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return bytes, packets
	}
	bytesBefore, packetsBefore := count()
	trial, err := p.flood(t.Context(), 10000, 200*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	// Neighbour discovery may send a few frames of its own.
	bytes, packets := count()
	bytes, packets = bytes-bytesBefore, packets-packetsBefore
	if packets < int(trial.Sent) || packets > int(trial.Sent)+10 || bytes < 60*packets || bytes > 61*packets {
		t.Errorf("%d bytes in %d packets for %+v; a frame of 64 bytes has 60 without its FCS", bytes, packets, trial)
	}
}

func TestANumberIsSeenOnce(t *testing.T) {
	var s set
	for _, n := range []uint64{0, 63, 64, 1000, 1} {
		if !s.add(n) || s.add(n) {
			t.Errorf("%d is not new, or new twice", n)
		}
	}
}

func TestWireModeSwitchesWhatSegments(t *testing.T) {
	near, _ := guests(t)
	nettest.Need(t, "ethtool")
	before, err := features(near.Name, guestIf)
	if err != nil || !before["tx-tcp-segmentation"] || before["rx-gro"] {
		t.Fatalf("a veth device has %v, error %v", before, err)
	}
	if err := setFeatures(near.Name, guestIf, wired(before)); err != nil {
		t.Fatal(err)
	}
	shown := near.Exec("ethtool", "-k", guestIf)
	for _, line := range []string{
		"tcp-segmentation-offload: off", "generic-segmentation-offload: off", "tx-udp_tnl-segmentation: off",
		"tx-udp_tnl-csum-segmentation: off", "tx-udp-segmentation: off", "generic-receive-offload: on",
	} {
		if !strings.Contains(shown, line) {
			t.Errorf("ethtool does not show %q:\n%s", line, shown)
		}
	}
	if err := setFeatures(near.Name, guestIf, map[string]bool{"rx-gro": false, "no-such-feature": true}); err != nil {
		t.Error(err)
	}
	after, err := features(near.Name, guestIf)
	if err != nil || after["rx-gro"] || after["tx-tcp-segmentation"] {
		t.Errorf("then it has %v, error %v", after, err)
	}
	if err := setFeatures(near.Name, "lo", map[string]bool{"loopback": false}); err == nil {
		t.Error("what is fixed was switched")
	}
	if _, err := features(near.Name, "nothing0"); !errors.Is(err, unix.ENODEV) {
		t.Errorf("no such interface: %v", err)
	}
}
