package tap_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/nettest"
	"github.com/uvtep/uvtep/internal/tap"
	"golang.org/x/sys/unix"
)

var mac = net.HardwareAddr{2, 0, 0, 0, 1, 1}

// show is what `ip -d link show` says of an interface, "" if there is none.
func show(ns *nettest.NS, dev string) string {
	out, err := ns.Try("ip", "-d", "link", "show", "dev", dev)
	if err != nil {
		return ""
	}
	return out
}

func wantShown(t *testing.T, ns *nettest.NS, dev string, parts ...string) {
	t.Helper()
	got := show(ns, dev)
	if got == "" {
		t.Fatalf("no interface %s in %s: %q", dev, ns.Name, ns.Links())
	}
	for _, p := range parts {
		if !strings.Contains(got, p) {
			t.Errorf("%s lacks %q:\n%s", dev, p, got)
		}
	}
}

func TestAConfigPlacesTheKernelSide(t *testing.T) {
	k := newKernel(t)
	guest := nettest.New(t, "guest")
	k.ns.Exec("ip", "link", "add", "br0", "up", "type", "bridge")
	guest.Exec("ip", "link", "add", "br1", "up", "type", "bridge")
	guest.Exec("ip", "link", "add", "tap0", "type", "bridge") // the name is taken, the new one is free

	for _, tc := range []struct {
		name  string
		cfg   tap.Config
		ns    *nettest.NS
		dev   string
		parts []string
	}{
		{"as it is", tap.Config{}, k.ns, "tap0", []string{"UP", "tun type tap", "persist off", "mtu 1500"}},
		{"with an address and an MTU", tap.Config{MAC: mac, MTU: 1390}, k.ns, "tap0", []string{mac.String(), "mtu 1390", "UP"}},
		{"renamed", tap.Config{Rename: "eth9"}, k.ns, "eth9", []string{"UP"}},
		{"in a bridge", tap.Config{Bridge: "br0"}, k.ns, "tap0", []string{"master br0", "UP"}},
		{"in a namespace by name", tap.Config{NetNS: guest.Name, Rename: "eth0"}, guest, "eth0", []string{"UP"}},
		{"in a namespace by path", tap.Config{NetNS: guest.Path, Rename: "eth0", MAC: mac, MTU: 9000, Bridge: "br1", Queues: 2},
			guest, "eth0", []string{mac.String(), "mtu 9000", "master br1", "numqueues 2", "persist off", "UP"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := fmt.Sprint(k.ns.Links(), guest.Links())
			tc.cfg.Name = "tap0"
			dev, err := k.open(tc.cfg)
			if err != nil {
				t.Fatal(err)
			}
			if dev.Name() != "tap0" {
				t.Errorf("its name is %q", dev.Name())
			}
			wantShown(t, tc.ns, tc.dev, tc.parts...)
			if err := dev.SetMTU(1234); err != nil {
				t.Error(err)
			}
			wantShown(t, tc.ns, tc.dev, "mtu 1234")
			if err := dev.Close(); err != nil {
				t.Error(err)
			}
			if after := fmt.Sprint(k.ns.Links(), guest.Links()); after != before {
				t.Errorf("interfaces after Close: %s, before Open: %s", after, before)
			}
		})
	}
}

func TestAFoundDeviceStaysAsItWasFound(t *testing.T) {
	k := newKernel(t)
	guest := nettest.New(t, "guest")
	k.ns.Exec("ip", "link", "add", "br0", "up", "type", "bridge")
	k.ns.Exec("ip", "link", "add", "br2", "up", "type", "bridge")
	guest.Exec("ip", "link", "add", "br1", "up", "type", "bridge")
	k.ns.Exec("ip", "tuntap", "add", "tap0", "mode", "tap")
	k.ns.Exec("ip", "tuntap", "add", "tap1", "mode", "tap", "multi_queue")
	k.ns.Exec("ip", "link", "set", "tap1", "mtu", "1300", "address", "02:00:00:00:00:77", "master", "br0", "up")

	for _, tc := range []struct {
		name   string
		cfg    tap.Config
		ns     *nettest.NS
		dev    string
		queues int
	}{
		{"single queue, as it is", tap.Config{Name: "tap0", Queues: 1}, k.ns, "tap0", 1},
		{"single queue, many wanted", tap.Config{Name: "tap0", Queues: 4}, k.ns, "tap0", 1},
		{"many queues, one wanted", tap.Config{Name: "tap1", Queues: 1}, k.ns, "tap1", 1},
		{"many queues", tap.Config{Name: "tap1", Queues: 2}, k.ns, "tap1", 2},
		{"renamed", tap.Config{Name: "tap1", Rename: "eth5", MTU: 1400}, k.ns, "eth5", 1},
		{"in another bridge", tap.Config{Name: "tap1", Bridge: "br2"}, k.ns, "tap1", 1},
		{"moved", tap.Config{Name: "tap0", NetNS: guest.Name}, guest, "tap0", 1},
		{"moved, renamed, all set", tap.Config{Name: "tap1", NetNS: guest.Name, Rename: "eth0", MAC: mac, MTU: 1400, Bridge: "br1", Queues: 2}, guest, "eth0", 2},
		{"moved to where it is", tap.Config{Name: "tap1", NetNS: k.ns.Name, Rename: "eth0", MAC: mac}, k.ns, "eth0", 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := state(k.ns, tc.cfg.Name)
			dev, err := k.open(tc.cfg)
			if err != nil {
				t.Fatal(err)
			}
			if n := len(dev.Queues()); n != tc.queues {
				t.Errorf("%d queues, want %d", n, tc.queues)
			}
			wantShown(t, tc.ns, tc.dev, "UP", "persist on")
			if err := dev.Close(); err != nil {
				t.Error(err)
			}
			if after := state(k.ns, tc.cfg.Name); after != before {
				t.Errorf("after Close:\n%s\nbefore Open:\n%s", after, before)
			}
			if left := guest.Links(); len(left) != 1 {
				t.Errorf("left in the guest's namespace: %q", left)
			}
		})
	}
}

// state is what is to be the same before and after: flags without those that
// follow the carrier, MTU, master, address, kind.
func state(ns *nettest.NS, dev string) string {
	out := show(ns, dev)
	var keep []string
	fields := strings.Fields(out)
	for i, f := range fields {
		switch f {
		case "mtu", "master", "link/ether", "persist", "multi_queue":
			keep = append(keep, f, fields[i+1])
		}
	}
	if len(fields) > 2 && strings.Contains(fields[2], "UP") {
		keep = append(keep, "up")
	}
	return strings.Join(keep, " ")
}

func TestAnOpenThatFailsLeavesNothingBehind(t *testing.T) {
	k := newKernel(t)
	guest := nettest.New(t, "guest")
	k.ns.Exec("ip", "tuntap", "add", "tap1", "mode", "tap")
	k.ns.Exec("ip", "link", "set", "tap1", "mtu", "1300")
	k.ns.Exec("ip", "tuntap", "add", "tun0", "mode", "tun")
	k.ns.Exec("ip", "link", "add", "veth0", "type", "veth", "peer", "name", "veth1")
	guest.Exec("ip", "link", "add", "eth0", "type", "bridge")
	notNS := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(notNS, nil, 0o600); err != nil {
		t.Fatal(err)
	}

	for _, tc := range []struct {
		name string
		cfg  tap.Config
		is   error
		says string
	}{
		{"no such namespace", tap.Config{NetNS: "uvt-none"}, tap.ErrNoNetNS, "ip netns add uvt-none"},
		{"a file that is no namespace", tap.Config{NetNS: notNS}, tap.ErrNoNetNS, notNS},
		{"no such bridge", tap.Config{Bridge: "br7"}, tap.ErrNoBridge, "ip link add br7"},
		{"no such bridge over there", tap.Config{NetNS: guest.Name, Rename: "eth1", Bridge: "br7", MTU: 1400}, tap.ErrNoBridge, guest.Name},
		{"a bridge that is none", tap.Config{Bridge: "veth0"}, tap.ErrNoBridge, "kind veth"},
		{"a name that is taken over there", tap.Config{NetNS: guest.Name, Rename: "eth0"}, nil, "eth0 already"},
		{"a name that is taken here", tap.Config{Rename: "veth0"}, nil, "veth0 already"},
		{"an MTU beyond the kernel's", tap.Config{MTU: 70000}, nil, "70000"},
		{"a group address", tap.Config{MAC: net.HardwareAddr{1, 0, 0, 0, 0, 0}}, nil, "01:00:00:00:00:00"},
		{"a name that is too long", tap.Config{Rename: "sixteen-bytes-xx"}, nil, "15 bytes"},
		{"a name with a slash", tap.Config{Rename: "a/b"}, nil, "a/b"},
	} {
		for _, name := range []string{"tap0", "tap1"} { // to be created, and found
			t.Run(tc.name+" "+name, func(t *testing.T) {
				before := fmt.Sprint(k.ns.Links(), guest.Links(), state(k.ns, "tap1"))
				tc.cfg.Name = name
				_, err := k.open(tc.cfg)
				if err == nil {
					t.Fatal("no error")
				}
				if tc.is != nil {
					wantErr(t, err, tc.is)
				}
				if !strings.HasPrefix(err.Error(), "tap "+name+": ") || !strings.Contains(err.Error(), tc.says) {
					t.Errorf("error %q, want one that says %q", err, tc.says)
				}
				if after := fmt.Sprint(k.ns.Links(), guest.Links(), state(k.ns, "tap1")); after != before {
					t.Errorf("afterwards %s, before %s", after, before)
				}
			})
		}
	}
	for _, name := range []string{"veth0", "tun0"} {
		_, err := k.open(tap.Config{Name: name})
		wantErr(t, err, tap.ErrNotTAP)
	}
}

func TestADeletedNamespaceTakesTheDeviceAlong(t *testing.T) {
	for _, found := range []bool{false, true} {
		t.Run(fmt.Sprintf("found %v", found), func(t *testing.T) {
			k := newKernel(t)
			guest := nettest.New(t, "guest")
			if found {
				k.ns.Exec("ip", "tuntap", "add", "tap0", "mode", "tap")
			}
			dev, err := k.open(tap.Config{Name: "tap0", NetNS: guest.Name, Rename: "eth0"})
			if err != nil {
				t.Fatal(err)
			}
			guest.Delete()
			q := dev.Queues()[0]
			// The kernel takes a namespace down in its own time; it wakes whoever polls.
			fds := []unix.PollFd{{Fd: int32(q.Fd()), Events: unix.POLLIN}}
			b := frame.NewBatch(64, 2048)
			for deadline := time.Now().Add(20 * time.Second); ; {
				if _, err := unix.Poll(fds, 20_000); err != nil && err != unix.EINTR {
					t.Fatal(err)
				}
				b.Clear()
				if _, err := q.Read(b); err != nil {
					wantErr(t, err, tap.ErrGone)
					break
				}
				if time.Now().After(deadline) {
					t.Fatal("the device is still there")
				}
			}
			if err := dev.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
			if left := k.ns.Links(); len(left) != 0 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}

func TestTheHolderOfADeviceIsNamed(t *testing.T) {
	k := newKernel(t)
	cmd := exec.Command(os.Args[0], "-test.run=^TestHoldATAPForAnotherTest$", "-test.v")
	cmd.Env = append(os.Environ(), "UVTEP_HOLD_TAP=tap0")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	k.ns.Start(cmd)
	buf := make([]byte, 4096)
	for text := ""; !strings.Contains(text, "holding"); {
		n, err := out.Read(buf)
		if err != nil {
			t.Fatalf("the holder ended: %s", text)
		}
		text += string(buf[:n])
	}
	_, err = k.open(tap.Config{Name: "tap0"})
	wantErr(t, err, tap.ErrBusy)
	if !strings.Contains(err.Error(), "pid "+strconv.Itoa(cmd.Process.Pid)) {
		t.Errorf("error %q does not name pid %d", err, cmd.Process.Pid)
	}

	// One that is killed leaves nothing.
	cmd.Process.Kill()
	cmd.Wait()
	for deadline := time.Now().Add(5 * time.Second); len(k.ns.Links()) > 0; {
		if time.Now().After(deadline) {
			t.Fatalf("left behind: %q", k.ns.Links())
		}
	}
}

// TestHoldATAPForAnotherTest is the program that TestTheHolderOfADeviceIsNamed
// starts; by itself it has nothing to do.
func TestHoldATAPForAnotherTest(t *testing.T) {
	name := os.Getenv("UVTEP_HOLD_TAP")
	if name == "" {
		return
	}
	if _, err := tap.Open(tap.Config{Name: name}); err != nil {
		t.Fatal(err)
	}
	fmt.Println("holding")
	select {}
}

func TestNoDescriptorIsLeftOpen(t *testing.T) {
	k := newKernel(t)
	guest := nettest.New(t, "guest")
	k.ns.Exec("ip", "tuntap", "add", "tap1", "mode", "tap")
	cycle := func() {
		for _, cfg := range []tap.Config{
			{Name: "tap0", NetNS: guest.Name, Rename: "eth0", Queues: 3},
			{Name: "tap1", NetNS: guest.Name},
			{Name: "tap2", Bridge: "br7"},
		} {
			var dev tap.Device
			var err error
			k.ns.Do(func() { dev, err = tap.Open(cfg) })
			if err == nil {
				dev.Close()
			}
		}
	}
	cycle() // what the runtime opens once
	count := func() int {
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(fds)
	}
	before := count()
	for range 5 {
		cycle()
	}
	if after := count(); after != before {
		t.Errorf("%d descriptors, %d before", after, before)
	}
}
