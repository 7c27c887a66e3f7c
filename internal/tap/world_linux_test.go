package tap_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/nettest"
	"github.com/uvtep/uvtep/internal/tap"
	"github.com/uvtep/uvtep/internal/tap/taptest"
	"golang.org/x/sys/unix"
)

// world is where a test body runs: in memory or in a namespace.
type world interface {
	open(tap.Config) (tap.Device, error)
	send(t *testing.T, name string, b []byte) // out of the kernel's interface
	tryRecv(name string) ([]byte, bool)       // what came in by it
	setDown(name string)
	vanish(name string)
}

func eachWorld(t *testing.T, body func(t *testing.T, w world)) {
	for _, o := range []tap.Offload{0, tap.All} {
		with := ""
		if o != 0 {
			with = " with offloads"
		}
		h := taptest.NewHost()
		h.Offload = o
		t.Run("memory"+with, func(t *testing.T) { body(t, memory{h, o}) })
		t.Run("kernel"+with, func(t *testing.T) {
			k := newKernel(t)
			k.offload = o
			body(t, k)
		})
	}
}

type memory struct {
	*taptest.Host
	offload tap.Offload // of what it opens
}

func (m memory) open(cfg tap.Config) (tap.Device, error) {
	cfg.Offload |= m.offload
	return m.Open(cfg)
}
func (m memory) send(t *testing.T, name string, b []byte) {
	t.Helper()
	if !m.Device(name).Send(b) {
		t.Fatal("the kernel's end refused a frame")
	}
}
func (m memory) tryRecv(name string) ([]byte, bool) { return m.Device(name).TryRecv() }
func (m memory) setDown(name string)                { m.Device(name).SetDown(true) }
func (m memory) vanish(name string)                 { m.Device(name).Vanish() }

// kernel is a namespace in which TAPs are opened, with a packet socket on the
// kernel side of each.
type kernel struct {
	t       *testing.T
	ns      *nettest.NS
	packets map[string]*packets
	offload tap.Offload // of what it opens
}

func newKernel(t *testing.T) *kernel {
	k := &kernel{t: t, ns: nettest.New(t, "tap"), packets: map[string]*packets{}}
	// No router solicitations and MLD reports among the frames of the test.
	k.ns.Sysctl("net/ipv6/conf/default/disable_ipv6", "1")
	return k
}

func (k *kernel) open(cfg tap.Config) (dev tap.Device, err error) {
	cfg.Offload |= k.offload
	k.ns.Do(func() {
		if dev, err = tap.Open(cfg); err == nil && cfg.NetNS == "" && cfg.Rename == "" {
			k.packets[cfg.Name] = openPackets(k.t, cfg.Name)
		}
	})
	return dev, err
}

func (k *kernel) send(t *testing.T, name string, b []byte) {
	t.Helper()
	if _, err := unix.Write(k.packets[name].fd, b); err != nil {
		t.Fatalf("packet socket on %s: %v", name, err)
	}
}

func (k *kernel) tryRecv(name string) ([]byte, bool) { return k.packets[name].tryRecv() }
func (k *kernel) setDown(name string)                { k.ns.Exec("ip", "link", "set", name, "down") }
func (k *kernel) vanish(name string)                 { k.ns.Exec("ip", "link", "del", name) }

// packets is a packet socket on one interface, for one frame at a time.
type packets struct{ fd int }

func openPackets(t *testing.T, dev string) *packets {
	t.Helper()
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	index, err := interfaceIndex(fd, dev)
	if err != nil {
		t.Fatal(err)
	}
	const allNet = 0x0300 // ETH_P_ALL, in network byte order
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: allNet, Ifindex: index}); err != nil {
		t.Fatal(err)
	}
	return &packets{fd}
}

func interfaceIndex(fd int, dev string) (int, error) {
	ifr, err := unix.NewIfreq(dev)
	if err != nil {
		return 0, err
	}
	err = unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, ifr)
	return int(ifr.Uint32()), err
}

func (p *packets) tryRecv() ([]byte, bool) {
	buf := make([]byte, 2048)
	for {
		n, from, err := unix.Recvfrom(p.fd, buf, 0)
		if err != nil {
			return nil, false
		}
		if from.(*unix.SockaddrLinklayer).Pkttype != unix.PACKET_OUTGOING {
			return buf[:n], true
		}
	}
}

// testFrame is a frame with an ethertype for experiments (IEEE 802, clause 9.2.3),
// which no protocol of the kernel answers.
func testFrame(n int, tag byte) []byte {
	b := bytes.Repeat([]byte{tag}, n)
	copy(b, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, tag, 0x88, 0xb5})
	return b
}

// readAll reads from all queues of a device until n frames came.
func readAll(t *testing.T, dev tap.Device, n int) [][]byte {
	t.Helper()
	var got [][]byte
	b := frame.NewBatch(frame.BatchLen, 2048)
	for deadline := time.Now().Add(5 * time.Second); len(got) < n; {
		for _, q := range dev.Queues() {
			b.Clear()
			if _, err := q.Read(b); err != nil {
				t.Fatal(err)
			}
			for i := range b.N {
				got = append(got, bytes.Clone(b.Frames[i].Bytes()))
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("read %d frames, want %d", len(got), n)
		}
	}
	return got
}

// load makes frames of byte slices.
func load(bs ...[]byte) []*frame.Frame {
	b := frame.NewBatch(len(bs), 2048)
	fs := make([]*frame.Frame, len(bs))
	for i := range bs {
		fs[i] = &b.Frames[i]
		fs[i].Load(bs[i])
	}
	return fs
}

func mustOpen(t *testing.T, w world, cfg tap.Config) tap.Device {
	t.Helper()
	dev, err := w.open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := dev.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return dev
}

func wantErr(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("error %v, want %v", err, want)
	} else if bytes.ContainsRune([]byte(err.Error()), '\n') {
		t.Errorf("error of more than one line: %q", err)
	}
}
