package dhcpcheck

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/uvtep/uvtep/internal/verdict"
)

// dnsmasq is Debian's, with everything but DHCP turned off.
type dnsmasq struct{}

type dnsmasqRun struct {
	*cable
	process
	hosts string // directory of reservations that are added live
}

func (dnsmasq) start(t *testing.T, in *intent) *world {
	t.Helper()
	args := dnsmasqArgs(in)
	r := &dnsmasqRun{cable: newCable(t), hosts: t.TempDir()}
	state := t.TempDir()
	args = append(args, "--dhcp-leasefile="+filepath.Join(state, "leases"), "--dhcp-hostsdir="+r.hosts)
	w := &world{instance: r, wire: openWire(t, r.clients, "cli")}
	if in.tenants {
		r.link(t, "srv2", "cli2")
		args = append(args, "--interface=srv2")
		w.second = openWire(t, r.clients, "cli2")
	}
	r.process = process{t: t, ns: r.cable.ns, ready: "DHCP, ", reason: "command line options: ",
		command: func() *exec.Cmd { return exec.Command("dnsmasq", args...) }}
	t.Cleanup(func() { r.finish(syscall.SIGTERM) })
	if why := r.begin(); why != "" {
		panic(refused{why})
	}
	return w
}

// dnsmasqArgs writes an intent as flags. Options are tied to their range, so
// that those of the one subnet do not go out in the other.
func dnsmasqArgs(in *intent) []string {
	first, last := in.pool()
	args := []string{
		"--keep-in-foreground", "--log-facility=-", "--conf-file=/dev/null", "--pid-file=", "--user=root", "--port=0",
		"--interface=srv", "--except-interface=lo", "--no-resolv", "--no-hosts", "--domain=" + domain + "," + subnet.String(),
		fmt.Sprintf("--dhcp-range=set:main,%s,%s,255.255.255.0,%d", first, last, in.seconds()),
		"--dhcp-option=tag:main,3," + routerIP.String(),
		fmt.Sprintf("--dhcp-option=tag:main,6,%s,%s", dnsIPs[0], dnsIPs[1]),
	}
	for _, f := range []struct {
		on   bool
		flag string
	}{
		{!in.probe, "--no-ping"},
		{in.sole || in.authoritative, "--dhcp-authoritative"},
		{in.rapidCommit, "--dhcp-rapid-commit"},
	} {
		if f.on {
			args = append(args, f.flag)
		}
	}
	if in.relay {
		args = append(args, fmt.Sprintf("--dhcp-range=set:branch,%s,%s,255.255.255.0,%d", branchIPs[0], branchIPs[1], in.seconds()),
			"--dhcp-option=tag:branch,3,"+relayIP.String())
	}
	if len(in.routes) > 0 {
		routes := "--dhcp-option=tag:main,121"
		for _, r := range in.routes {
			routes += fmt.Sprintf(",%s,%s", r.to, r.via)
		}
		args = append(args, routes+",0.0.0.0/0,"+routerIP.String())
	}
	for _, o := range in.options {
		args = append(args, "--dhcp-option=tag:main,"+dnsmasqOption(o))
	}
	for _, h := range in.reservations() {
		args = append(args, "--dhcp-host="+dnsmasqHost(h))
	}
	return append(args, dnsmasqClasses(in.classes)...)
}

// dnsmasqClasses are the flags of the classes. One that is the client's takes
// those behind it out of the running.
func dnsmasqClasses(classes []class) (args []string) {
	others := ""
	for i, c := range classes {
		tag := fmt.Sprintf("c%d", i)
		switch c.by {
		case byVendor:
			args = append(args, fmt.Sprintf("--dhcp-vendorclass=set:%s,%s", tag, c.match))
		case byUser:
			args = append(args, fmt.Sprintf("--dhcp-userclass=set:%s,%s", tag, c.match))
		case byCircuit:
			args = append(args, fmt.Sprintf("--dhcp-circuitid=set:%s,%s", tag, c.match))
		case byArch:
			args = append(args, fmt.Sprintf("--dhcp-match=set:%s,option:client-arch,%d", tag, c.arch))
		}
		when := "tag:" + tag + others
		others += ",tag:!" + tag
		var file, server string
		for _, o := range c.options {
			switch o.code {
			case 66:
				server = string(o.data)
			case 67:
				file = string(o.data)
			default:
				args = append(args, fmt.Sprintf("--dhcp-option=%s,%s", when, dnsmasqOption(o)))
			}
		}
		if file != "" {
			args = append(args, fmt.Sprintf("--dhcp-boot=%s,%s,%s,%s", when, file, server, server))
		}
	}
	return args
}

func dnsmasqOption(o option) string {
	value := colons(o.data)
	switch {
	case printable(o.data):
		value = string(o.data)
	case o.code == ntp.code:
		value = netip.AddrFrom4([4]byte(o.data)).String()
	case len(o.data) == 1:
		value = fmt.Sprint(o.data[0])
	}
	return fmt.Sprintf("%d,%s", o.code, value)
}

func dnsmasqHost(h host) string {
	var who string
	switch {
	case h.port:
		verdict.Cannot("a server on the network sees no ports")
	case h.id != nil:
		who = "id:" + colons(h.id)
	case h.named != "":
		return h.named + "," + h.ip.String()
	default:
		who = h.mac.String()
	}
	if h.name != "" {
		return fmt.Sprintf("%s,%s,%s", who, h.ip, h.name)
	}
	return fmt.Sprintf("%s,%s", who, h.ip)
}

// warned: dnsmasq's lines have no level in a file. What it writes of an address
// besides the messages themselves, it writes because something is wrong.
func (r *dnsmasqRun) warned(a netip.Addr) bool {
	for line := range strings.Lines(r.log()) {
		_, text, _ := strings.Cut(line, "dnsmasq-dhcp: ")
		if names(line, a) && !strings.HasPrefix(text, "DHCP") {
			return true
		}
	}
	return false
}

func (r *dnsmasqRun) reserve(h host) {
	before := len(r.log())
	file := filepath.Join(r.hosts, h.mac.String())
	if err := os.WriteFile(file, []byte(dnsmasqHost(h)+"\n"), 0o644); err != nil {
		verdict.Fail("%v", err)
	}
	r.awaitLog(before, "read "+file)
}

func (r *dnsmasqRun) unreserve(h host) (takes string) {
	before := len(r.log())
	if err := os.Remove(filepath.Join(r.hosts, h.mac.String())); err != nil {
		verdict.Fail("%v", err)
	}
	r.cmd.Process.Signal(syscall.SIGHUP)
	r.awaitLog(before, "")
	return "taken back by SIGHUP"
}

func (r *dnsmasqRun) free(netip.Addr) {
	verdict.Cannot("not by itself: `dhcp_release` of dnsmasq-utils")
}
