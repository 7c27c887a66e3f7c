package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/uvtep/uvtep/internal/nettest"
)

// daemonCommand is the daemon with the host's configuration.
func (h *host) daemonCommand() *exec.Cmd { return exec.Command(program, "run", "-c", h.file) }

const onePort = "segments: [{vni: 100, ports: [{tap: tap1}], dhcp: 192.168.100.0/24}]\n"

func TestAPortThatTheKernelsVXLANHoldsIsRefused(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.Exec("ip", "link", "add", "vx0", "type", "vxlan", "id", "5", "dstport", "4789", "local", local, "dev", "ul")
	h.Exec("ip", "link", "set", "vx0", "up")
	h.write(onePort)
	h.refused(h.daemonCommand(), "the UDP port is in use: 10.9.0.1:4789", "ip -d link show type vxlan", "underlay.port")
}

func TestAPortThatAnotherProgramHoldsIsRefused(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	for _, address := range []string{"10.9.0.1:4789", "0.0.0.0:4789", "[::]:4789"} {
		var c net.PacketConn
		h.Do(func() {
			var err error
			if c, err = net.ListenPacket("udp", address); err != nil {
				t.Fatal(err)
			}
		})
		h.write(onePort)
		h.refused(h.daemonCommand(), "10.9.0.1:4789", "ss -ulpn", "underlay.port")
		c.Close()
	}
}

func TestAnAddressThatIsNotTheHostsIsRefused(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	for _, address := range []string{"10.9.0.77", "2001:db8::77"} {
		if err := os.WriteFile(h.file, fmt.Appendf(nil, "underlay: {local: \"%s\"}\napi: {socket: %s, http: \"\"}\n", address, h.socket()), 0o644); err != nil {
			t.Fatal(err)
		}
		h.refused(h.daemonCommand(), "not one of this host's: "+address, "underlay.local")
	}
}

// forEverybody opens the host's directory, and the way to it, to all users.
func (h *host) forEverybody() {
	h.t.Helper()
	if err := os.Chmod(h.dir, 0o777); err != nil {
		h.t.Fatal(err)
	}
	for dir := h.dir; dir != "/"; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			h.t.Fatal(err)
		}
		if mode := info.Mode().Perm(); mode&0o5 != 0o5 {
			if err := os.Chmod(dir, mode|0o5); err != nil {
				h.t.Fatal(err)
			}
		}
	}
}

func TestWithoutRightsADaemonIsRefused(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.write(onePort)
	h.forEverybody()
	cmd := h.daemonCommand()
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	h.refused(cmd, "CAP_NET_ADMIN", "run uvtep as root")
}

// withCapability is the daemon as nobody, with CAP_NET_ADMIN and a device file
// that everybody may open, as distributions have it.
func (h *host) withCapability() *exec.Cmd {
	h.t.Helper()
	nettest.Need(h.t, "setpriv", "unshare")
	const shell = `mount -t tmpfs none /dev/net && mknod -m 666 /dev/net/tun c 10 200 && ` +
		`exec setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps +net_admin --ambient-caps +net_admin "$@"`
	return exec.Command("unshare", "--mount", "sh", "-c", shell, "sh", program, "run", "-c", h.file)
}

func TestOneCapabilityIsEnoughForWhatStaysInTheNamespace(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.forEverybody()
	g := nettest.New(t, "a")
	h.Exec("ip", "link", "add", "br0", "type", "bridge")
	h.write("segments: [{vni: 100, ports: [{tap: tap1, bridge: br0, rename: x}, {tap: tap2}], dhcp: 192.168.100.0/24}]\n")
	p := h.launchCommand(h.withCapability()).waitReady()
	h.write("segments: [{vni: 100, mtu: 1300, ports: [{tap: tap2}], dhcp: 192.168.100.0/24}]\n")
	h.client("reload").ok(t)
	const namespaces = "not permitted to enter namespace "
	h.client("port", "add", "--vni", "100", "--tap", "tap3", "--netns", g.Name).fails(t, 1, "tap tap3: "+namespaces+g.Name, "CAP_SYS_ADMIN")
	p.stop()
	h.nothingLeft("br0", "end", "ul")

	h.write("segments: [{vni: 100, ports: [{tap: tap1}, {tap: tap2, netns: " + g.Name + "}]}]\n")
	h.refused(h.withCapability(), "tap tap2: "+namespaces+g.Name, "CAP_SYS_ADMIN")
}

func TestWithoutTheDeviceFileADaemonIsRefused(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.write(onePort)
	h.refused(exec.Command("unshare", "--mount", "sh", "-c", `mount -t tmpfs none /dev/net && exec "$@"`, "sh", program, "run", "-c", h.file),
		"tap tap1: /dev/net/tun is missing", "modprobe tun")
}

func TestATAPThatAnotherProgramHoldsIsRefused(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.write(onePort)
	h.run()
	h.Addr("ul", "10.9.0.2/24")
	other := filepath.Join(h.dir, "other.yaml")
	text := fmt.Sprintf("underlay: {local: 10.9.0.2}\nstate: %s/other\napi: {socket: %s/other.sock, http: \"\"}\nsegments: [{vni: 100, ports: [{tap: tap2}, {tap: tap1}]}]\n", h.dir, h.dir)
	if err := os.WriteFile(other, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	finish(t, exec.Command(program, "run", "-c", other), h.NS).fails(t, 1, "tap tap1: the TAP device is held by another program (uvtep, pid ", "choose another name")
	if links := strings.Join(h.Links(), " "); links != "end tap1 ul" {
		t.Errorf("the links are %s", links)
	}
	if len(h.show("ports")) != 1 {
		t.Error("the first has lost its port")
	}
}

func TestTheSecondDaemonOnASocketIsRefused(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.write(onePort)
	h.run()
	finish(t, h.daemonCommand(), h.NS).fails(t, 1, "another uvtep answers on "+h.socket(), "choose --socket")
	if len(h.show("ports")) != 1 {
		t.Error("the first has lost its port")
	}
	// The state directory is one daemon's, too.
	h.Addr("ul", "10.9.0.2/24")
	second := filepath.Join(h.dir, "second.yaml")
	text := fmt.Sprintf("underlay: {local: 10.9.0.2}\nstate: %s/state\napi: {socket: %s/second.sock, http: \"\"}\nsegments: [{vni: 100, dhcp: 10.0.0.0/24}]\n", h.dir, h.dir)
	if err := os.WriteFile(second, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	finish(t, exec.Command(program, "run", "-c", second), h.NS).fails(t, 1,
		"uvtep: segment 100: load leases: lease store "+h.dir+"/state/leases.db: held by another program", "its own state directory")
}

func TestAFileInPlaceOfTheSocketIsLeftAlone(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.write(onePort)
	precious := filepath.Join(h.dir, "precious")
	if err := os.WriteFile(precious, []byte("data"), 0o600); err != nil {
		t.Fatal(err)
	}
	h.refused(exec.Command(program, "run", "-c", h.file, "--socket", precious), precious+" is there and is no socket", "choose --socket")
	if b, err := os.ReadFile(precious); err != nil || string(b) != "data" {
		t.Errorf("the file is now %q, %v", b, err)
	}
}

func TestPlacesThatAreNotThereAreRefused(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	for _, tc := range []struct {
		port  string
		words []string
	}{
		{"{tap: tap2, netns: nowhere}", []string{"tap tap2: no such network namespace: nowhere", "ip netns add nowhere"}},
		{"{tap: tap2, netns: /proc/self/ns/mnt}", []string{"/proc/self/ns/mnt is another kind of file"}},
		{"{tap: tap2, bridge: br9}", []string{"tap tap2: no such bridge: br9", "ip link add br9 up type bridge"}},
		{"{tap: tap2, bridge: ul}", []string{"ul is of kind veth"}},
		{"{tap: ul}", []string{"tap ul: an interface of that name exists and is no TAP device"}},
		{"{tap: tap2, rename: end}", []string{"there is an interface end already"}},
	} {
		h.write("segments: [{vni: 100, group: 239.1.1.1, ports: [{tap: tap1}, " + tc.port + "], dhcp: 192.168.100.0/24}]\n")
		text, err := os.ReadFile(h.file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(h.file, []byte(strings.Replace(string(text), "{local: 10.9.0.1}", "{local: 10.9.0.1, accept: any, device: ul}", 1)), 0o644); err != nil {
			t.Fatal(err)
		}
		h.refused(h.daemonCommand(), tc.words...)
	}
	if err := os.WriteFile(h.file, []byte("underlay: {local: 10.9.0.1, device: eth9}\napi: {socket: "+h.socket()+", http: \"\"}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	h.refused(h.daemonCommand(), "no such interface: eth9", "ip link")
}
