package dhcpcheck

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/uvtep/uvtep/internal/nettest"
	"github.com/uvtep/uvtep/internal/verdict"
)

// uvtep is the program of this repository. One daemon serves all intents that
// can share one, each in a segment of its own; the segments have the same
// subnets and the same clients, so that whatever leaks from one into another
// spoils a check.
type uvtep struct {
	shared *daemon
	vnis   map[*intent]int
}

// daemon is a process, its segments, and the namespace of their guests.
type daemon struct {
	process
	dir    string
	guests *nettest.NS
}

// newUvtep starts the shared daemon.
func newUvtep(t *testing.T, intents []*intent) *uvtep {
	t.Helper()
	defer func() {
		if p, ok := recover().(refused); ok {
			t.Fatalf("the daemon does not start: %s", p.why)
		}
	}()
	u := &uvtep{vnis: map[*intent]int{}}
	for i, in := range intents {
		u.vnis[in] = 100 + 2*i
	}
	u.shared = newDaemon(t, segmentsOf(u.vnis))
	return u
}

// segmentsOf writes intents as segments.
func segmentsOf(vnis map[*intent]int) func(*daemon) string {
	return func(d *daemon) string {
		var b strings.Builder
		b.WriteString("segments:\n")
		for in, vni := range vnis {
			d.segment(&b, in, vni)
			if in.tenants {
				d.segment(&b, in, vni+1)
			}
		}
		return b.String()
	}
}

// newDaemon starts a daemon with the segments that are written for it.
func newDaemon(t *testing.T, segments func(*daemon) string) *daemon {
	t.Helper()
	d := &daemon{dir: t.TempDir(), guests: nettest.New(t, "guests")}
	d.guests.Sysctl("net/ipv6/conf/default/disable_ipv6", "1")
	d.process = process{t: t, ns: nettest.New(t, "uvtep"), ready: "msg=ready", reason: "uvtep.yaml:"}
	d.ns.Exec("ip", "addr", "add", "10.9.0.1/32", "dev", "lo")
	text := fmt.Sprintf("underlay: {local: 10.9.0.1}\nstate: %s/state\napi: {socket: %s, http: \"\"}\n%s", d.dir, d.socket(), segments(d))
	file := filepath.Join(d.dir, "uvtep.yaml")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	d.command = func() *exec.Cmd { return exec.Command(program, "run", "-c", file) }
	t.Cleanup(func() { d.finish(syscall.SIGTERM) })
	if why := d.begin(); why != "" {
		panic(refused{why})
	}
	return d
}

func (d *daemon) socket() string { return filepath.Join(d.dir, "uvtep.sock") }

func tapOf(vni int) string { return fmt.Sprintf("tap%d", vni) }

// segment writes an intent in the words of the configuration file.
func (d *daemon) segment(b *strings.Builder, in *intent, vni int) {
	line := func(format string, args ...any) { fmt.Fprintf(b, format+"\n", args...) }
	first, last := in.pool()
	line("  - vni: %d\n    mtu: 1450", vni)
	line("    ports: [{tap: %s, netns: %s}]", tapOf(vni), d.guests.Name)
	line("    dhcp:")
	line("      subnet: %s\n      server: %s\n      ranges: [%s-%s]", subnet, serverIP, first, last)
	line("      gateway: %s\n      dns: [%s, %s]\n      domain: %s", routerIP, dnsIPs[0], dnsIPs[1], domain)
	line("      lease: %ds", in.seconds())
	line("      authoritative: %t\n      subnet_selection: %t", in.authoritative, in.subnetSelection)
	line("      rapid_commit: %t\n      bootp: %t", in.rapidCommit, in.bootp)
	probe := "off"
	if in.probe {
		probe = "2s" // longer than by default: the machine may have much else to do
	}
	line("      probe: %s", probe)
	if len(in.routes) > 0 {
		line("      routes:")
	}
	for _, r := range in.routes {
		line("        - {to: %s, via: %s}", r.to, r.via)
	}
	line("      options: [%s]", yamlOptions(in.options))
	line("      hosts:")
	for _, h := range in.reservations() {
		name := ""
		if h.name != "" {
			name = ", hostname: " + h.name
		}
		line("        - {%s, ip: %s%s}", yamlWho(h, vni), h.ip, name)
	}
	if in.relay {
		line("      relays:\n        - {subnet: %s, ranges: [%s-%s], gateway: %s}", branch, branchIPs[0], branchIPs[1], relayIP)
	}
	if len(in.classes) > 0 {
		line("      classes:")
	}
	for _, c := range in.classes {
		match := fmt.Sprintf("%q", c.match)
		if c.by == byArch {
			match = fmt.Sprint(c.arch)
		}
		line("        - {%s: %s, %s}", c.by, match, yamlClass(c.options))
	}
}

func yamlWho(h host, vni int) string {
	switch {
	case h.id != nil:
		return fmt.Sprintf("client_id: %q", hex.EncodeToString(h.id))
	case h.named != "":
		return fmt.Sprintf("hostname: %q", h.named)
	case h.port:
		return "port: " + tapOf(vni)
	}
	return fmt.Sprintf("mac: %q", h.mac)
}

// yamlClass is what a class brings: where to boot from has keys of its own.
func yamlClass(all []option) string {
	var s []string
	var rest []option
	for _, o := range all {
		switch o.code {
		case 66:
			s = append(s, "next_server: "+string(o.data))
		case 67:
			s = append(s, fmt.Sprintf("boot_file: %q", o.data))
		default:
			rest = append(rest, o)
		}
	}
	if len(rest) > 0 {
		s = append(s, "options: ["+yamlOptions(rest)+"]")
	}
	return strings.Join(s, ", ")
}

func yamlOptions(all []option) string {
	var s []string
	for _, o := range all {
		if printable(o.data) {
			s = append(s, fmt.Sprintf("{code: %d, text: %q}", o.code, o.data))
		} else {
			s = append(s, fmt.Sprintf("{code: %d, hex: %q}", o.code, hex.EncodeToString(o.data)))
		}
	}
	return strings.Join(s, ", ")
}

func (u *uvtep) start(t *testing.T, in *intent) *world {
	t.Helper()
	d, vni := u.shared, u.vnis[in]
	if vni == 0 {
		vni = 100
		d = newDaemon(t, segmentsOf(map[*intent]int{in: vni}))
	}
	w := &world{wire: openWire(t, d.guests, tapOf(vni)), instance: &segment{d, vni}}
	if in.tenants {
		w.second = openWire(t, d.guests, tapOf(vni+1))
	}
	return w
}

// segment is one of a daemon's, as an instance.
type segment struct {
	*daemon
	vni int
}

func (s *segment) log() string {
	return strings.Join(linesWith(s.out.String(), fmt.Sprintf("vni=%d ", s.vni)), "")
}

func (s *segment) warned(a netip.Addr) bool {
	for _, line := range append(linesWith(s.log(), "level=WARN"), linesWith(s.log(), "level=ERROR")...) {
		if names(line, a) {
			return true
		}
	}
	return false
}

// client runs one of the program's commands.
func (s *segment) client(args ...string) {
	args = append(args, "--vni", fmt.Sprint(s.vni), "--socket", s.socket())
	if _, err := output(s.ns, exec.Command(program, args...)); err != nil {
		verdict.Fail("uvtep %s: %v", strings.Join(args[:2], " "), err)
	}
}

func (s *segment) reserve(h host) {
	s.client("lease", "reserve", "--ip", h.ip.String(), "--mac", h.mac.String())
}

func (s *segment) unreserve(h host) (takes string) {
	s.free(h.ip)
	return ""
}

func (s *segment) free(a netip.Addr) { s.client("lease", "release", "--ip", a.String()) }

func (s *segment) flap() {
	s.guests.Exec("ip", "link", "set", tapOf(s.vni), "down")
	s.guests.Exec("ip", "link", "set", tapOf(s.vni), "up")
}
