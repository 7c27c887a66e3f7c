package conformance

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/uvtep/uvtep/internal/nettest"
)

// program is the binary under test, built once.
var program string

func TestMain(m *testing.M) { os.Exit(nettest.WithProgram(&program, m.Run)) }

// uvtep is the program of this repository.
type uvtep struct {
	b   *bed
	dir string
}

func (u *uvtep) start(t *testing.T, b *bed) {
	t.Helper()
	u.b, u.dir = b, t.TempDir()
	file := filepath.Join(u.dir, "uvtep.yaml")
	if err := os.WriteFile(file, []byte(u.yaml()), 0o600); err != nil {
		t.Fatal(err)
	}
	log := &nettest.Log{}
	cmd := exec.Command(program, "run", "-c", file)
	cmd.Stdout, cmd.Stderr = log, log
	var err error
	b.host.Do(func() { err = cmd.Start() })
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-ended
		if t.Failed() {
			t.Logf("uvtep wrote:\n%s", log)
		}
	})
	select {
	case <-log.Wrote("msg=ready"):
	case <-ended:
		t.Fatalf("uvtep ended:\n%s", log)
	}
}

// yaml is the intent in the words of the configuration file. One worker carries
// everything, so that a check can tell when it is done.
func (u *uvtep) yaml() string {
	in, f := u.b.in, u.b.u
	var s strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&s, format+"\n", args...) }
	line("workers: 1\nstate: %s/state\napi: {socket: %q, http: \"\"}", u.dir, u.socket())
	line("underlay:\n  local: \"%s\"\n  port: %d\n  checksum: %t\n  strict: %t", f.switchAt, u.b.udpPort(), !in.noChecksum, in.strict)
	if !in.peersOnly {
		line("  accept: any")
	}
	if in.ttl != "" {
		line("  ttl: %s", in.ttl)
	}
	if in.tos != 0 {
		line("  tos: %d", in.tos)
	}
	if in.df != "" {
		line("  df: %s", map[string]string{"set": "true", "unset": "false", "inherit": "inherit"}[in.df])
	}
	if in.zeroSum6 {
		line("  zero_checksum6: true")
	}
	if in.gbp {
		line("  gbp: true")
	}
	line("segments:\n  - vni: %d\n    learning: %t", vni, !in.noLearning)
	switch {
	case in.group:
		line("    group: %q", f.group.String())
	case !in.noPeers:
		line("    peers: [%q, %q]", f.b.String(), f.c.String())
	}
	if in.ageing != 0 {
		line("    ageing: %s", in.ageing)
	}
	if in.maxMACs != 0 {
		line("    max_macs: %d", in.maxMACs)
	}
	if in.suppress {
		line("    suppress: [arp, nd]")
	}
	if in.snooping {
		line("    snooping: true")
	}
	if in.jumbo {
		line("    mtu: 9000")
	}
	line("    ports:")
	for i, g := range u.b.guests[1:] {
		line("      - {tap: p%d, netns: %s, rename: eth0, isolated: %t}", i+1, g.ns.Name, in.isolated && i < 2)
	}
	return s.String()
}

// It listens.
func (*uvtep) know(netip.Addr, net.HardwareAddr) {}

func (*uvtep) patience() time.Duration { return 10 * time.Second }

func (u *uvtep) socket() string { return filepath.Join(u.dir, "uvtep.sock") }

// client runs one of the program's commands.
func (u *uvtep) client(args ...string) {
	u.b.host.Exec(program, append(args, "--vni", fmt.Sprint(vni), "--socket", u.socket())...)
}

func (u *uvtep) addPeer(a netip.Addr)    { u.client("peer", "add", "--dst", a.String()) }
func (u *uvtep) removePeer(a netip.Addr) { u.client("peer", "del", "--dst", a.String()) }

func (u *uvtep) addStatic(mac net.HardwareAddr, port int, dst netip.Addr) {
	if port != 0 {
		u.client("fdb", "add", "--mac", mac.String(), "--port", fmt.Sprint("p", port))
		return
	}
	u.client("fdb", "add", "--mac", mac.String(), "--dst", dst.String())
}

func (u *uvtep) remove(mac net.HardwareAddr) { u.client("fdb", "del", "--mac", mac.String()) }
func (u *uvtep) flush()                      { u.client("fdb", "flush") }
