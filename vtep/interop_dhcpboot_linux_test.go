package vtep_test

import (
	"bytes"
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/uvtep/uvtep/dhcpd"
	"github.com/uvtep/uvtep/internal/nettest"
	"github.com/uvtep/uvtep/vtep"
)

// guestOfServed makes a segment that one host serves, and a guest with a TAP of
// it at another.
func guestOfServed(t *testing.T, name string, d *vtep.DHCPConfig) (a *dhcpHost, sa *vtep.Segment, guest *nettest.NS, ear *dhcpEar) {
	t.Helper()
	u := families[0]
	na, nb := cable(t, u)
	ear = listenToClients(t, na, "clients")
	a = serve(t, na, vtep.Config{Local: u.a}, filepath.Join(t.TempDir(), "leases.db"),
		vtep.SegmentConfig{VNI: 100, MTU: 1400, Peers: []netip.Addr{u.b}, DHCP: d})
	ear.serving(d.Server.Subnet, d.Server.Server)
	b := start(t, nb, vtep.Config{Local: u.b})
	sb := b.segment(t, vtep.SegmentConfig{VNI: 100, MTU: 1400, Peers: []netip.Addr{u.a}})
	return a, a.seg, b.guest(t, sb, name), ear
}

// serveTFTP serves one file of less than 512 bytes, whatever is asked for, and
// tells what was asked for.
func serveTFTP(t *testing.T, ns *nettest.NS, at netip.Addr, file []byte) (asked <-chan string) {
	t.Helper()
	var conn *net.UDPConn
	ns.Do(func() {
		var err error
		if conn, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(at, 69))); err != nil {
			t.Fatal(err)
		}
	})
	names, ended := make(chan string, 16), make(chan struct{})
	go func() {
		defer close(ended)
		b := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			if n < 4 || b[1] != 1 { // an acknowledgement
				continue
			}
			name, _, _ := bytes.Cut(b[2:n], []byte{0})
			names <- string(name)
			_, _ = conn.WriteToUDPAddrPort(append([]byte{0, 3, 0, 1}, file...), from) // asked again if it is lost
		}
	}()
	t.Cleanup(func() { conn.Close(); <-ended })
	return names
}

func TestAMachineBootsFromTheNetworkAcrossTheTunnel(t *testing.T) {
	nettest.Root(t)
	nettest.Need(t, "qemu-system-x86_64")
	files := netip.MustParseAddr("192.168.100.5")
	d := clientNet("192.168.100.0/24", "192.168.100.2")
	d.Server.Lease, d.Server.T1, d.Server.T2 = time.Hour, 0, 0
	// The firmware is given a loader, and the loader, which iPXE is already, a
	// script.
	d.Server.Classes = []dhcpd.Class{
		{Match: dhcpd.MatchUser, Value: "iPXE", NextServer: files, BootFile: "boot.ipxe"},
		{Match: dhcpd.MatchArch, Arch: 0, NextServer: files, BootFile: "undionly.kpxe"},
	}
	a, sa, g, ear := guestOfServed(t, "vm", d)
	tftp := a.guest(t, sa, "tftp", files.String()+"/24")
	asked := serveTFTP(t, tftp, files, []byte("#!ipxe\necho The script of ${net0/ip} from ${next-server} runs\nshell\n"))
	for _, c := range []string{"link add br0 type bridge", "link set br0 up", "link set eth0 master br0",
		"tuntap add vm0 mode tap", "link set vm0 up master br0"} {
		g.Exec("ip", strings.Fields(c)...)
	}
	mac := net.HardwareAddr{0x52, 0x54, 0, 0, 1, 1}
	vm := exec.Command("qemu-system-x86_64", "-M", "pc,accel=tcg", "-m", "64", "-nodefaults", "-no-user-config", "-nographic",
		"-serial", "stdio", "-boot", "n", "-netdev", "tap,id=n,ifname=vm0,script=no,downscript=no",
		"-device", "virtio-net-pci,netdev=n,mac="+mac.String())
	var serial nettest.Log
	vm.Stdout, vm.Stderr = &serial, &serial
	g.Start(vm)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the machine printed:\n%s", &serial)
		}
	})
	patience := time.After(3 * time.Minute) // it is emulated
	select {
	case name := <-asked:
		if name != "boot.ipxe" {
			t.Errorf("it asked for the file %q", name)
		}
	case <-patience:
		t.Fatal("it never asked for its file")
	}
	l, ok := a.lease(mac)
	if !ok {
		t.Errorf("it has no lease: %+v", a.server.Leases())
	}
	eventually(t, "the script runs", func() bool {
		return strings.Contains(serial.String(), "The script of "+l.IP.String()+" from "+files.String()+" runs")
	})
	ear.want(&running{dhcpClient: dhcpClient{name: "ipxe"}, mac: mac}, "booting", "discover", "select")
	ear.save()
}

func TestALoadGeneratorIsServedAcrossTheTunnel(t *testing.T) {
	nettest.Root(t)
	nettest.Need(t, "perfdhcp")
	a, _, g, ear := guestOfServed(t, "load", clientNet("192.168.100.0/24", "192.168.100.2"))
	g.Addr("eth0", "192.168.100.9/24")
	// It does not wait for the answer to the last message that it sends, and
	// calls that a failure.
	out, _ := g.Try("perfdhcp", "-4", "-l", "eth0", "-r", "1", "-n", "2", "-R", "1")
	leases := a.server.Leases()
	if len(leases) != 1 || leases[0].State != dhcpd.StateBound {
		t.Fatalf("leases %+v, want one; it printed:\n%s", leases, out)
	}
	c := &running{dhcpClient: dhcpClient{name: "perfdhcp"}, mac: leases[0].HardwareAddr()}
	if kinds := ear.kinds(c); len(kinds) < 2 || kinds[0] != "discover" || kinds[1] != "select" {
		t.Errorf("it sent %q, and printed:\n%s", kinds, out)
	}
	ear.save()
}
