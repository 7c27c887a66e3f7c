package tap_test

import (
	"bytes"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/nettest"
	"github.com/uvtep/uvtep/internal/tap"
)

func TestOffloadsOfAFoundDeviceEndWithUs(t *testing.T) {
	nettest.Need(t, "ethtool")
	k := newKernel(t)
	for _, multi := range []bool{false, true} {
		add := []string{"tuntap", "add", "tap0", "mode", "tap"}
		if multi {
			add = append(add, "multi_queue")
		}
		k.ns.Exec("ip", add...)
		before := features(k.ns, "tap0")
		for range 2 {
			dev, err := k.open(tap.Config{Name: "tap0", Queues: 2, Offload: tap.All, MaxSegments: 44})
			if err != nil {
				t.Fatal(err)
			}
			if got, want := features(k.ns, "tap0"), "tx-checksum-ip-generic tx-tcp-segmentation tx-tcp6-segmentation tx-udp-segmentation 44"; got != want {
				t.Errorf("multi-queue %v: open it has %q, want %q", multi, got, want)
			}
			if err := dev.Close(); err != nil {
				t.Error(err)
			}
			if after := features(k.ns, "tap0"); after != before {
				t.Errorf("multi-queue %v: afterwards it has %q, before %q", multi, after, before)
			}
		}
		// What another program left on would come without a header.
		leaveOn(t, k.ns, "tap0", multi)
		if got := features(k.ns, "tap0"); got == before {
			t.Fatalf("the test is void: %q", got)
		}
		dev, err := k.open(tap.Config{Name: "tap0", Queues: 2})
		if err != nil {
			t.Fatal(err)
		}
		if got := features(k.ns, "tap0"); got != before {
			t.Errorf("multi-queue %v: opened without offloads it has %q, want %q", multi, got, before)
		}
		if err := dev.Close(); err != nil {
			t.Error(err)
		}
		k.ns.Exec("ip", "link", "del", "tap0")
	}
}

// A program that was there before may have left longer virtio headers, of the
// other byte order: nothing of the kernel's tells.
func TestTheVirtioHeadersOfAFoundDeviceAreMadeOursAndGivenBack(t *testing.T) {
	k := superKernel{newKernel(t)}
	k.ns.Exec("ip", "tuntap", "add", "tap0", "mode", "tap")
	attach(t, k.ns, "tap0", false, func(fd int) {
		for _, set := range []struct{ request, value int }{{unix.TUNSETVNETHDRSZ, 12}, {unix.TUNSETVNETLE, 1}} {
			if err := unix.IoctlSetPointerInt(fd, uint(set.request), set.value); err != nil {
				t.Fatal(err)
			}
		}
	})
	dev, err := k.open(tap.Config{Name: "tap0", Offload: tap.All})
	if err != nil {
		t.Fatal(err)
	}
	b, o := super(frame.ProtoTCP, 5000, 1000)
	k.sendSuper(t, "tap0", b, o)
	batch := frame.NewBatch(4, frame.MaxLen)
	for deadline := time.Now().Add(5 * time.Second); ; batch.Clear() {
		if _, err := dev.Queues()[0].Read(batch); err != nil {
			t.Fatal(err)
		}
		if batch.N > 0 && bytes.Equal(batch.Frames[batch.N-1].Bytes(), b) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the super-frame did not come as it was sent")
		}
	}
	if err := dev.Close(); err != nil {
		t.Error(err)
	}
	attach(t, k.ns, "tap0", false, func(fd int) {
		if n, err := unix.IoctlGetInt(fd, unix.TUNGETVNETHDRSZ); err != nil || n != 12 {
			t.Errorf("afterwards the header has %d bytes, error %v; it had 12", n, err)
		}
	})
}

// leaveOn turns a device's offloads on and leaves it.
func leaveOn(t *testing.T, ns *nettest.NS, name string, multi bool) {
	t.Helper()
	attach(t, ns, name, multi, func(fd int) {
		if err := unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, unix.TUN_F_CSUM|unix.TUN_F_TSO4|unix.TUN_F_TSO6); err != nil {
			t.Fatal(err)
		}
	})
}

// attach is another program that has a device for a while.
func attach(t *testing.T, ns *nettest.NS, name string, multi bool, use func(fd int)) {
	t.Helper()
	ns.Do(func() {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		ifr, err := unix.NewIfreq(name)
		if err != nil {
			t.Fatal(err)
		}
		flags := uint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
		if multi {
			flags |= unix.IFF_MULTI_QUEUE
		}
		ifr.SetUint16(flags)
		if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
			t.Fatal(err)
		}
		use(fd)
	})
}
