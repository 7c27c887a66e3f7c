package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/uvtep/uvtep/internal/nettest"
)

// bootPatience is how long an emulated machine may take for a step, on a processor
// that others want too.
const bootPatience = 2 * time.Minute

// machineHost is a host on the underlay whose daemon runs a port for a machine.
type machineHost struct {
	*host
	addr string
}

// newMachineHosts makes two hosts on a cable, the first of which serves DHCP.
func newMachineHosts(t *testing.T, port func(h *host) string) (hosts [2]machineHost) {
	t.Helper()
	for i := range hosts {
		h := &host{NS: nettest.New(t, "vm"), t: t, dir: openDir(t)}
		h.file = filepath.Join(h.dir, "uvtep.yaml")
		hosts[i] = machineHost{h, fmt.Sprintf("10.9.0.%d", 1+i)}
	}
	nettest.Veth(t, hosts[0].NS, "ul", hosts[1].NS, "ul")
	for i, h := range hosts {
		h.Addr("ul", h.addr+"/24")
		dhcp := ""
		if i == 0 {
			dhcp = `, dhcp: {subnet: 192.168.100.0/24, probe: off, hosts: [{mac: "52:54:00:00:01:01", ip: 192.168.100.11}, {mac: "52:54:00:00:01:02", ip: 192.168.100.12}]}`
		}
		text := fmt.Sprintf("underlay: {local: %s}\nworkers: 1\nstate: %s/state\napi: {socket: %s, http: \"\"}\nsegments: [{vni: 100, peers: [%s], ports: [%s]%s}]\n",
			h.addr, h.dir, h.socket(), hosts[1-i].addr, port(h.host), dhcp)
		if err := os.WriteFile(h.file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		h.run()
	}
	return hosts
}

// reachEachOther boots a machine on each host and wants both to have their
// addresses and to have reached the other.
func reachEachOther(t *testing.T, hosts [2]machineHost, netdev func(h *host) string, as *syscall.Credential) (machines [2]*vm) {
	t.Helper()
	i := newImage(t)
	for n, h := range hosts {
		machines[n] = i.boot(t, h.NS, netdev(h.host), fmt.Sprintf("52:54:00:00:01:%02x", 1+n), fmt.Sprintf("192.168.100.%d", 12-n), as)
	}
	for n, m := range machines {
		m.says(t, fmt.Sprintf("bound 192.168.100.%d mtu 1450", 11+n))
		m.says(t, fmt.Sprintf("reached 192.168.100.%d", 12-n))
	}
	for _, h := range hosts {
		if p := h.show("ports")[0]; p["state"] != "up" || p["rx_dropped"] != 0.0 {
			t.Errorf("the port of %s: %v", h.addr, p)
		}
	}
	return machines
}

func TestVirtualMachinesOnABridgeGetAddressesAtBootAndReachEachOther(t *testing.T) {
	nettest.Root(t)
	hosts := newMachineHosts(t, func(h *host) string {
		h.Exec("ip", "link", "add", "br0", "type", "bridge")
		h.Exec("ip", "link", "set", "br0", "mtu", "1450", "up")
		return "{tap: uplink, bridge: br0}"
	})
	reachEachOther(t, hosts, func(h *host) string {
		h.Exec("ip", "tuntap", "add", "vm1", "mode", "tap")
		h.Exec("ip", "link", "set", "vm1", "mtu", "1450", "up", "master", "br0")
		return "tap,id=n,ifname=vm1,script=no,downscript=no"
	}, nil)
}

// The example of docs/ports.md: the directory's group is what lets QEMU in, which
// is run by nobody and has no privileges.
func TestVirtualMachinesWithoutPrivilegesGetAddressesAtBootAndReachEachOther(t *testing.T) {
	nettest.Root(t)
	const nobody = 65534
	socket := func(h *host) string { return filepath.Join(h.dir, "vms", "vm1.sock") }
	hosts := newMachineHosts(t, func(h *host) string {
		dir := filepath.Dir(socket(h))
		if err := os.Mkdir(dir, 0); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(dir, 0, nobody); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, os.ModeSetgid|0o750); err != nil {
			t.Fatal(err)
		}
		return "{stream: " + socket(h) + "}"
	})
	machines := reachEachOther(t, hosts, func(h *host) string {
		return "stream,id=n,addr.type=unix,server=off,addr.path=" + socket(h)
	}, &syscall.Credential{Uid: nobody, Gid: nobody})
	for i, h := range hosts {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", machines[i].cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"Uid:\t65534\t65534\t65534\t65534\n", "CapEff:\t0000000000000000\n"} {
			if !strings.Contains(string(status), want) {
				t.Errorf("QEMU has privileges: it is not %q", want)
			}
		}
		machines[i].cmd.Process.Kill()
		eventually(t, "the port waits for another machine", func() bool { return h.show("ports")[0]["state"] == "down" })
	}
	// A machine that is booted again takes the place of the one that is gone.
	image := newImage(t)
	again := image.boot(t, hosts[1].NS, "stream,id=n,addr.type=unix,server=off,addr.path="+socket(hosts[1].host),
		"52:54:00:00:01:02", "192.168.100.1", &syscall.Credential{Uid: nobody, Gid: nobody})
	again.says(t, "bound 192.168.100.12 mtu 1450")
	again.says(t, "reached 192.168.100.1") // the DHCP server
}
