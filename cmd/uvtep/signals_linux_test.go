package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/uvtep/uvtep/dhcpd"
	"github.com/uvtep/uvtep/internal/lab/guest"
	"github.com/uvtep/uvtep/internal/nettest"
)

func TestAnIdleDaemonNeedsLittle(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	g := nettest.New(t, "a")
	h.write(fmt.Sprintf("segments: [{vni: 100, peers: [10.9.0.2], ports: [{tap: tapa, netns: %s, rename: eth0}], dhcp: 192.168.100.0/24}]\n", g.Name))
	p := h.run()
	acquire(t, g, "a")
	h.client("show", "segments").ok(t)
	ticks, begun := p.cpu(), time.Now()
	time.Sleep(20 * time.Second)
	spent, passed := p.cpu()-ticks, time.Since(begun)
	share := 100 * spent.Seconds() / passed.Seconds()
	rss := p.memory("VmRSS")
	t.Logf("idle for %v: %.2f %% of a core, %.1f MiB resident (%.1f MiB of it not from files)", passed.Round(time.Second), share, rss, p.memory("RssAnon"))
	if share > 0.5 {
		t.Errorf("it takes %.2f %% of a core; 0.5 %% are allowed", share)
	}
	if rss > 40 {
		t.Errorf("it has %.1f MiB resident; 40 MiB are allowed", rss)
	}
	begun = time.Now()
	p.stop()
	t.Logf("it stopped in %v", time.Since(begun).Round(time.Millisecond))
}

func TestANamespaceThatVanishesTakesItsPortDownAndNoOther(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	a, b := nettest.New(t, "a"), nettest.New(t, "b")
	gone := nettest.New(t, "gone")
	h.write(fmt.Sprintf(`segments:
  - vni: 100
    ports: [{tap: tapa, netns: %s, rename: eth0}, {tap: tapb, netns: %s, rename: eth0}, {tap: tapg, netns: %s, rename: eth0}]
    dhcp: 192.168.100.0/24
`, a.Name, b.Name, gone.Name))
	p := h.run()
	acquire(t, a, "a")
	to := acquire(t, b, "b").Addr()
	acquire(t, gone, "gone")
	states := func() string {
		var all []string
		for _, port := range h.show("ports") {
			all = append(all, fmt.Sprint(port["name"], " ", port["state"]))
		}
		return strings.Join(all, ", ")
	}
	gone.Delete()
	eventually(t, "its port is down", func() bool { return states() == "tapa up, tapb up, tapg down" })
	ping(t, a, to)
	eventually(t, "the log tells of it", func() bool { return strings.Contains(p.log.String(), "a port has vanished; reload to open it again") })

	// Still gone: a reload is no failure.
	h.client("reload").ok(t)
	if s := states(); s != "tapa up, tapb up, tapg down" {
		t.Errorf("the ports are %s", s)
	}
	if out, err := exec.Command("ip", "netns", "add", gone.Name).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Cleanup(func() { exec.Command("ip", "netns", "del", gone.Name).Run() })
	if out := h.client("reload").ok(t); out != "segment 100: port tapg opened again\n" {
		t.Errorf("it says %q", out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := guest.Acquire(ctx, gone.Name, "eth0", guest.Identity{}); err != nil {
		t.Error(err)
	}
	p.stop()
	h.nothingLeft("end", "ul")
}

func TestAKilledDaemonStartsAgain(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	g := nettest.New(t, "a")
	h.write(fmt.Sprintf("segments: [{vni: 100, ports: [{tap: tapa, netns: %s, rename: eth0, mac: \"02:00:00:00:00:0a\"}, {tap: tap1}], dhcp: 192.168.100.0/24}]\n", g.Name))
	p := h.run()
	first := acquire(t, g, "a")
	h.client("lease", "reserve", "--vni", "100", "--ip", "192.168.100.77", "--port", "tap1").ok(t)
	p.signal(syscall.SIGKILL)
	if p.end() == nil {
		t.Error("it outlived SIGKILL")
	}
	h.run()
	if all := h.show("leases"); len(all) != 2 || all[1]["ip"] != "192.168.100.77" || all[1]["state"] != "reserved" || all[1]["port"] != "tap1" {
		t.Errorf("the leases are %v", all)
	}
	if again := acquire(t, g, "a"); again != first {
		t.Errorf("the guest had %v and now has %v", first, again)
	}
}

func TestALogThatNobodyReadsAnyMoreEndsNoDaemon(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.write(onePort)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := h.daemonCommand()
	cmd.Stderr = w
	h.Do(func() { err = cmd.Start() })
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	line := make([]byte, 4096)
	if n, err := r.Read(line); err != nil || !bytes.Contains(line[:n], []byte("ready")) {
		t.Fatalf("it says %q, %v", line[:n], err)
	}
	r.Close()
	h.client("reload").ok(t) // which it logs
	h.client("reload").ok(t)
	cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); err != nil {
		t.Errorf("it ended: %v", err)
	}
	h.nothingLeft("end", "ul")
}

// manyPorts is a configuration of everything that can be left behind.
func manyPorts(h *host, g *nettest.NS, n int) string {
	var b strings.Builder
	b.WriteString("segments:\n")
	for i := range n {
		fmt.Fprintf(&b, "  - {vni: %d, dhcp: 192.168.0.0/16, ports: [{tap: ta%[2]d, bridge: br0}, {tap: tb%[2]d, netns: %[3]s, rename: eth%[2]d}, {tap: kept%[2]d, rename: moved%[2]d}]}\n",
			100+i, i, g.Name)
	}
	return b.String()
}

// sound wants what a daemon has left to be what was there before it, and its
// leases to be readable.
func sound(t *testing.T, h *host, g *nettest.NS, links []string) {
	t.Helper()
	h.nothingLeft(links...)
	if left := g.Links(); len(left) != 0 {
		t.Errorf("the guest still has %v", left)
	}
	path := filepath.Join(h.dir, "state", "leases.db")
	if _, err := os.Stat(path); err != nil {
		return // it did not come so far
	}
	store, err := dhcpd.OpenBolt(path)
	if err != nil {
		t.Error(err)
		return
	}
	defer store.Close()
	if err := store.Load(100, func(dhcpd.Lease) error { return nil }); err != nil {
		t.Error(err)
	}
}

// stopsAt sends SIGTERM and wants an orderly end. In its first instants a
// program does not hear it yet, and ends by it.
func stopsAt(t *testing.T, p *process) {
	t.Helper()
	p.signal(syscall.SIGTERM)
	err := p.end()
	if status := p.cmd.ProcessState.Sys().(syscall.WaitStatus); err != nil && (status.Signal() != syscall.SIGTERM || p.log.String() != "") {
		t.Errorf("SIGTERM: %v\n%s", err, p.log)
	}
}

func TestSIGTERMAtAnyMomentOfTheStartLeavesNothing(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	g := nettest.New(t, "a")
	h.Exec("ip", "link", "add", "br0", "type", "bridge")
	for i := range 4 {
		h.Exec("ip", "tuntap", "add", "dev", fmt.Sprint("kept", i), "mode", "tap", "multi_queue")
	}
	links := h.Links()
	h.write(manyPorts(h, g, 4))
	begun := time.Now()
	h.run().stop()
	whole := time.Since(begun)
	sound(t, h, g, links)
	const times = 20
	for i := range times {
		p := h.launch("run", "-c", h.file)
		time.Sleep(whole * time.Duration(i) / times)
		stopsAt(t, p)
		sound(t, h, g, links)
		if t.Failed() {
			t.Fatalf("it was stopped %v after its start:\n%s", whole*time.Duration(i)/times, p.log)
		}
	}
}

func TestSIGTERMUnderTrafficAndReloadsLeavesNothing(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	g := nettest.New(t, "a")
	h.Exec("ip", "link", "add", "br0", "type", "bridge")
	for i := range 4 {
		h.Exec("ip", "tuntap", "add", "dev", fmt.Sprint("kept", i), "mode", "tap", "multi_queue")
	}
	links := h.Links()
	for i := range 6 {
		h.write(manyPorts(h, g, 1))
		p := h.run()
		server := acquire(t, g0(t, g), "a").Masked().Addr().Next()
		ctx, cancel := context.WithCancel(t.Context())
		traffic := make(chan error, 1)
		go func() {
			_, err := guest.Ping(ctx, g.Name, server, guest.PingOptions{Count: -1, Interval: time.Millisecond})
			traffic <- err
		}()
		reloads := make(chan struct{})
		go func() {
			defer close(reloads)
			for n := 0; ctx.Err() == nil; n++ {
				h.write(manyPorts(h, g, 1+n%4))
				h.client("reload") // refused once the daemon stops
			}
		}()
		time.Sleep(time.Duration(20+17*i) * time.Millisecond)
		p.stop()
		cancel()
		<-traffic
		<-reloads
		sound(t, h, g, links)
		if t.Failed() {
			t.Fatalf("round %d:\n%s", i, p.log)
		}
	}
}

// g0 wants the guest to have its interface.
func g0(t *testing.T, g *nettest.NS) *nettest.NS {
	t.Helper()
	if _, err := g.Try("ip", "link", "show", "eth0"); err != nil {
		t.Fatal(err)
	}
	return g
}

// cpu is the processor time that it has taken, user and system.
func (p *process) cpu() time.Duration {
	p.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+2:])) // from the third of proc(5) on
	var ticks int64
	for _, f := range fields[11:13] { // utime, stime
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			p.t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond // USER_HZ is 100 everywhere
}

// memory is a line of its status, in MiB.
func (p *process) memory(key string) float64 {
	p.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); f[0] == key+":" {
			kib, err := strconv.ParseFloat(f[1], 64)
			if err != nil {
				p.t.Fatal(err)
			}
			return kib / 1024
		}
	}
	p.t.Fatalf("no %s", key)
	return 0
}
