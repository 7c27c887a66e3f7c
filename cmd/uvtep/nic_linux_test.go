package main

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/uvtep/uvtep/internal/nettest"
)

// plug makes a cable from a namespace of a test, as nic0, to another one, as eth0.
func plug(t *testing.T, ns, behind *nettest.NS, addr string) {
	t.Helper()
	nettest.Veth(t, ns, "nic0", behind, "eth0")
	behind.Exec("ip", "link", "set", "eth0", "address", "02:00:00:00:00:b1") // the same each time: it is remembered
	behind.Addr("eth0", addr)
	// What is sent before the kernel has come round to the link is lost.
	eventually(t, "the cable works", func() bool {
		return strings.Contains(ns.Exec("ip", "link", "show", "nic0"), "state UP") &&
			strings.Contains(behind.Exec("ip", "link", "show", "eth0"), "state UP")
	})
}

func TestAWholeInterfaceIsAPortHereOrInItsNamespace(t *testing.T) {
	t.Parallel()
	nettest.Need(t, "ping")
	h, behind, elsewhere, far, guest := newHost(t), nettest.New(t, "behind"), nettest.New(t, "else"), nettest.New(t, "far"), nettest.New(t, "guest")
	plug(t, h.NS, behind, "192.168.100.1/24")
	nettest.Veth(t, elsewhere, "nic1", far, "eth0")
	far.Addr("eth0", "192.168.100.2/24")
	h.write(fmt.Sprintf("segments: [{vni: 100, ports: [{nic: nic0}, {tap: tap1, netns: %s, rename: eth0}]}]\n", guest.Name))
	p := h.run()
	guest.Addr("eth0", "192.168.100.3/24")
	reach := func(ip string) {
		t.Helper()
		eventually(t, "the guest reaches "+ip, func() bool {
			_, err := guest.Try("ping", "-c", "1", "-W", "1", ip)
			return err == nil
		})
	}
	reach("192.168.100.1")
	h.client("port", "add", "--vni", "100", "--nic", "nic1", "--netns", elsewhere.Name).ok(t)
	reach("192.168.100.2")
	if got := fmt.Sprint(column(h.show("ports"), "kind"), column(h.show("ports"), "state")); got != "[nic tap nic] [up up up]" {
		t.Errorf("the ports are %s", got)
	}
	h.client("port", "add", "--vni", "100", "--nic", "ul").fails(t, 1, "nic ul: it is the tunnel's own interface")
	h.client("port", "add", "--vni", "100", "--nic", "none").fails(t, 1, "nic none: no such interface")
	h.client("port", "add", "--vni", "100", "--nic", "nic1", "--tap", "tap2").fails(t, 2, "--tap and --nic exclude each other")
	h.client("port", "del", "--vni", "100", "--nic", "nic1").ok(t)

	// One that vanishes comes back by a reload.
	h.Exec("ip", "link", "del", "nic0")
	eventually(t, "its port is down", func() bool { return h.show("ports")[0]["state"] == "down" })
	plug(t, h.NS, behind, "192.168.100.1/24")
	h.client("reload").ok(t)
	reach("192.168.100.1")
	p.stop()
	h.nothingLeft("end", "nic0", "ul")
	if state := h.Exec("ip", "-d", "link", "show", "nic0"); !strings.Contains(state, "promiscuity 0") {
		t.Errorf("it was left as\n%s", state)
	}
}

func TestAnInterfaceWithoutTheRightToItIsRefused(t *testing.T) {
	t.Parallel()
	nettest.Need(t, "setpriv")
	h := newHost(t)
	h.forEverybody()
	h.write("segments: [{vni: 100, ports: [{nic: end}]}]\n")
	h.refused(exec.Command("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", program, "run", "-c", h.file), "nic end: ", "CAP_NET_RAW")
}

// A daemon that has no other ports than sockets needs no rights at all.
func TestSocketsOfMachinesNeedNoRights(t *testing.T) {
	t.Parallel()
	nettest.Need(t, "setpriv")
	h := newHost(t)
	h.forEverybody()
	h.write(fmt.Sprintf("segments: [{vni: 100, ports: [{stream: %s/vm1.sock}], dhcp: 192.168.100.0/24}]\n", h.dir))
	p := h.launchCommand(exec.Command("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", program, "run", "-c", h.file)).waitReady()
	h.client("port", "add", "--vni", "100", "--stream", h.dir+"/vm2.sock").ok(t)
	if got := fmt.Sprint(column(h.show("ports"), "name"), column(h.show("ports"), "kind"), column(h.show("ports"), "state")); got != "[vm1.sock vm2.sock] [stream stream] [down down]" {
		t.Errorf("the ports are %s", got)
	}
	h.client("port", "add", "--vni", "100", "--tap", "tap1").fails(t, 1, "tap tap1: not permitted", "CAP_NET_ADMIN")
	h.client("port", "del", "--vni", "100", "--stream", h.dir+"/vm2.sock").ok(t)
	p.stop()
}
