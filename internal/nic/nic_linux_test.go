package nic_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"

	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/nettest"
	"github.com/uvtep/uvtep/internal/nic"
	"github.com/uvtep/uvtep/internal/tap"
)

// wire is a cable with an open port at one end, nic0, and whoever is there at the
// other, far.
type wire struct {
	t          *testing.T
	here, away *nettest.NS
	dev        tap.Device
	batch      *frame.Batch

	mu   sync.Mutex
	told []tap.Link
}

func newWire(t *testing.T, cfg nic.Config) *wire {
	t.Helper()
	w := &wire{t: t, here: nettest.New(t, "nic"), away: nettest.New(t, "far"), batch: frame.NewBatch(frame.BatchLen, frame.MaxLen)}
	for _, ns := range []*nettest.NS{w.here, w.away} { // no router solicitations among the frames
		ns.Sysctl("net/ipv6/conf/default/disable_ipv6", "1")
	}
	nettest.Veth(t, w.here, "nic0", w.away, "far")
	// What is sent before the kernel has come round to the link is lost.
	eventually(t, "the cable works", func() bool {
		return strings.Contains(w.here.Exec("ip", "link", "show", "nic0"), "state UP") &&
			strings.Contains(w.away.Exec("ip", "link", "show", "far"), "state UP")
	})
	cfg.Name = "nic0"
	w.dev = w.open(cfg)
	return w
}

func (w *wire) open(cfg nic.Config) tap.Device {
	w.t.Helper()
	var dev tap.Device
	w.here.Do(func() {
		var err error
		if dev, err = nic.Open(cfg); err != nil {
			w.t.Fatal(err)
		}
	})
	dev.(tap.Linked).Watch(func(l tap.Link) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.told = append(w.told, l)
	})
	w.t.Cleanup(func() {
		if err := dev.Close(); err != nil {
			w.t.Errorf("close: %v", err)
		}
	})
	return dev
}

// openFar opens a port of this kind at the other end.
func (w *wire) openFar() (far tap.Device) {
	w.t.Helper()
	w.away.Do(func() {
		var err error
		if far, err = nic.Open(nic.Config{Name: "far", Offload: tap.All}); err != nil {
			w.t.Fatal(err)
		}
	})
	w.t.Cleanup(func() { far.Close() })
	return far
}

// got is a frame that a queue yielded.
type got struct {
	bytes   []byte
	offload frame.Offload
	queue   int
	dropped frame.Reason
}

// read reads what is there.
func (w *wire) read() (all []got, err error) {
	for i, q := range w.dev.Queues() {
		for {
			w.batch.Clear()
			n, err := q.Read(w.batch)
			if n != w.batch.N {
				w.t.Fatalf("read %d frames, %d in the batch", n, w.batch.N)
			}
			for j := range n {
				f := &w.batch.Frames[j]
				all = append(all, got{bytes.Clone(f.Bytes()), f.Offload, i, f.Verdict.Reason})
			}
			if err != nil {
				return all, err
			}
			if n == 0 {
				break
			}
		}
	}
	return all, nil
}

// want reads until n frames with a mark have come.
func (w *wire) want(mark string, n int) (all []got) {
	w.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(100 * time.Microsecond) {
		more, err := w.read()
		if err != nil {
			w.t.Fatal(err)
		}
		for _, g := range more {
			if bytes.Contains(g.bytes, []byte(mark)) {
				all = append(all, g)
			}
		}
		if len(all) >= n {
			return all
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("%d frames with %q came, want %d", len(all), mark, n)
		}
	}
}

// frames makes frames of byte slices.
func frames(bs ...[]byte) []*frame.Frame {
	b := frame.NewBatch(len(bs), frame.MaxLen)
	fs := make([]*frame.Frame, len(bs))
	for i := range bs {
		fs[i] = &b.Frames[i]
		fs[i].Load(bs[i])
	}
	return fs
}

// station is a frame with an ethertype for experiments.
func station(text string, n int) []byte {
	b := append([]byte{2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 1, 0x88, 0xb5}, text...)
	return append(b, make([]byte, max(0, n-len(b)))...)
}

func TestFramesForAnybodyCrossBothWays(t *testing.T) {
	for _, queues := range []int{1, 3} {
		t.Run(fmt.Sprintf("%d queues", queues), func(t *testing.T) {
			w := newWire(t, nic.Config{Queues: queues, Offload: tap.All})
			if w.dev.Name() != "nic0" || len(w.dev.Queues()) != queues || w.dev.SetMTU(1400) != nil {
				t.Errorf("it is called %s, with %d queues", w.dev.Name(), len(w.dev.Queues()))
			}
			in := nettest.Inject(t, w.away, "far")
			for i := range 150 {
				in.Send(station(fmt.Sprintf("to nobody here %03d", i), 60+9*i))
			}
			all := w.want("to nobody here ", 150)
			for i, g := range all {
				if !bytes.Equal(g.bytes, station(fmt.Sprintf("to nobody here %03d", i), 60+9*i)) || g.offload.GSO != 0 || g.offload.Flags&frame.NeedsCsum != 0 || g.queue != all[0].queue {
					t.Fatalf("frame %d of a flow came as %q with %+v, by queue %d", i, g.bytes[:40], g.offload, g.queue)
				}
			}
			seen := nettest.Sniff(t, w.away, "far")
			var out [][]byte
			for i := range 150 {
				out = append(out, station(fmt.Sprintf("out %03d", i), 60+9*i))
			}
			for i, q := range w.dev.Queues() {
				share := out[i*150/queues : (i+1)*150/queues]
				if n := q.Write(frames(share...)); n != len(share) {
					t.Errorf("%d of %d frames were taken", n, len(share))
				}
			}
			for i, f := range seen.Wait("out ", 150) {
				if f.Length != len(out[i]) {
					t.Errorf("frame %d left with %d bytes, want %d", i, f.Length, len(out[i]))
				}
			}
			// Neither what it sends itself nor what the host sends comes back.
			nettest.Inject(t, w.here, "nic0").Send(station("of the host", 60))
			in.Send(station("the last", 60))
			for _, g := range w.want("", 1) {
				if !bytes.Contains(g.bytes, []byte("the last")) {
					t.Errorf("%q came back", g.bytes)
				}
			}
		})
	}
}

func TestEveryFrameComesOnceHoweverManyQueuesThereAre(t *testing.T) {
	w := newWire(t, nic.Config{Queues: 4})
	in := nettest.Inject(t, w.away, "far")
	const flows, each = 64, 8
	for i := range each {
		for f := range flows {
			in.Send(nettest.Serialize(t,
				&layers.Ethernet{SrcMAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, DstMAC: net.HardwareAddr{2, 0, 0, 0, 0, 9}, EthernetType: layers.EthernetTypeIPv4},
				ip4(), udp(uint16(1000+f)), gopacket.Payload(fmt.Sprintf("flow %02d, %d", f, i))))
		}
	}
	next, queueOf, used := map[int]int{}, map[int]int{}, map[int]bool{}
	for _, g := range w.want("flow ", flows*each) {
		var f, i int
		if _, err := fmt.Sscanf(string(g.bytes[42:]), "flow %02d, %d", &f, &i); err != nil {
			t.Fatalf("%q: %v", g.bytes, err)
		}
		if q, ok := queueOf[f]; i != next[f] || ok && q != g.queue {
			t.Errorf("flow %d: frame %d by queue %d, after %d and queue %d", f, i, g.queue, next[f], q)
		}
		next[f]++
		queueOf[f], used[g.queue] = g.queue, true
	}
	if len(used) < 2 {
		t.Errorf("%d flows came by %d queues", flows, len(used))
	}
}

func ip4() *layers.IPv4 {
	return &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: net.IP{192, 0, 2, 1}, DstIP: net.IP{192, 0, 2, 9}}
}

func udp(src uint16) *layers.UDP {
	u := &layers.UDP{SrcPort: layers.UDPPort(src), DstPort: 9}
	if err := u.SetNetworkLayerForChecksum(ip4()); err != nil {
		panic(err) // of the arguments above
	}
	return u
}

// The kernel takes the first tag off whatever it receives, as many a card does.
// What arrives while the sockets become one group is taken by none of them.
func TestAnInterfaceThatIsBusyIsOpened(t *testing.T) {
	w := newWire(t, nic.Config{Queues: 1})
	out := nettest.Inject(t, w.away, "far")
	ending, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for f := make([]byte, 60); ; {
			select {
			case <-ending:
				return
			default:
				_ = out.TrySend(append(f[:0], "\xff\xff\xff\xff\xff\xff\x02\x00\x00\x00\x00\x01\x88\xb5 and so on, for sixty bytes or more, again and again"...))
			}
		}
	}()
	for range 20 {
		w.open(nic.Config{Name: "nic0", Queues: 4, Offload: tap.All})
	}
	close(ending)
	<-ended
}

func TestATagThatTheKernelHasTakenOffIsBack(t *testing.T) {
	w := newWire(t, nic.Config{Offload: tap.All})
	far := w.openFar()
	macs, tag := station("", 0)[:12], func(protocol, id byte) []byte { return []byte{0x81 + 7*protocol, 0xa8 * protocol, 0x60, id} }
	plain := nettest.Serialize(t,
		&layers.Ethernet{SrcMAC: macs[6:], DstMAC: macs[:6], EthernetType: layers.EthernetTypeIPv4}, ip4(), udp(1000), gopacket.Payload("some data"))
	binary.BigEndian.PutUint16(plain[40:], frame.Fold(frame.Sum(plain[26:34], uint64(frame.ProtoUDP)+8+9))) // left to the card
	open := frame.Offload{Flags: frame.NeedsCsum, CsumStart: 34, CsumOffset: 6}
	for _, tc := range []struct {
		name string
		tags []byte
	}{
		{"none", nil},
		{"802.1Q", tag(0, 5)},
		{"802.1ad", tag(1, 6)},
		{"802.1Q in 802.1ad", append(tag(1, 6), tag(0, 5)...)},
	} {
		sent := slices.Concat(plain[:12], tc.tags, plain[12:])
		f := frames(sent)[0]
		f.Offload = open
		f.Offload.CsumStart += uint16(len(tc.tags))
		if n := far.Queues()[0].Write([]*frame.Frame{f}); n != 1 {
			t.Fatalf("%s: it was refused: %+v", tc.name, f.Verdict)
		}
		g := w.want("some data", 1)[0]
		if !bytes.Equal(g.bytes, sent) || g.offload != f.Offload {
			t.Errorf("%s: it came as\n%x with %+v, want\n%x with %+v", tc.name, g.bytes, g.offload, sent, f.Offload)
		}
	}
}

// super is a super-frame of TCP, of n bytes of payload, size in a segment.
func super(n, size int) ([]byte, frame.Offload) {
	const hdr = 54
	b := make([]byte, hdr+n)
	copy(b, []byte{2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 6, 0, 0, 192, 0, 2, 1, 192, 0, 2, 9, 3, 0xe8, 7, 0xd0})
	ip := b[14:34]
	binary.BigEndian.PutUint16(ip[2:], uint16(40+n))
	binary.BigEndian.PutUint16(ip[10:], ^frame.Fold(frame.Sum(ip, 0)))
	b[46], b[47] = 5<<4, 0x10 // ACK
	binary.BigEndian.PutUint16(b[50:], frame.Fold(frame.Sum(ip[12:], uint64(frame.ProtoTCP)+uint64(20+n))))
	for i := range n {
		b[hdr+i] = byte(i % 251)
	}
	return b, frame.Offload{Flags: frame.NeedsCsum, GSO: frame.GSOTCPv4, HdrLen: hdr, GSOSize: uint16(size), CsumStart: 34, CsumOffset: 16}
}

// Between two ports of this kind a super-frame stays whole, merged ones too.
func TestASuperFrameStaysWhole(t *testing.T) {
	w := newWire(t, nic.Config{Offload: tap.All})
	if of := w.dev.Offload(); of&(tap.Checksum|tap.ReadTSO|tap.WriteTSO) != tap.Checksum|tap.ReadTSO|tap.WriteTSO {
		t.Fatalf("it does %v", of)
	}
	far := w.openFar()
	b, o := super(20*1400, 1400)
	whole := frames(b)[0]
	whole.Offload = o
	merged := frames(b[:54+1400])[0]
	merged.Offload = o
	var parts [][]byte
	for at := 54 + 1400; at < len(b); at += 1400 {
		parts = append(parts, b[at:at+1400])
	}
	merged.SetParts(parts, len(b)-54-1400)
	if n := far.Queues()[0].Write([]*frame.Frame{whole, merged}); n != 2 {
		t.Fatalf("%d of 2 were taken: %+v, %+v", n, whole.Verdict, merged.Verdict)
	}
	for _, g := range w.want("\x02\x00\x00\x00\x00\x09", 2) {
		if !bytes.Equal(g.bytes, b) || g.offload.GSO != o.GSO || g.offload.GSOSize != o.GSOSize || g.offload.CsumStart != o.CsumStart || g.offload.Flags != o.Flags {
			t.Errorf("%d bytes came with %+v; want %d with %+v", len(g.bytes), g.offload, len(b), o)
		}
	}
}

func TestALinkThatIsLostIsTold(t *testing.T) {
	w := newWire(t, nic.Config{Queues: 2})
	linked := w.dev.(tap.Linked)
	if !linked.Up() {
		t.Error("it is up, and says that it is down")
	}
	w.here.Exec("ip", "link", "set", "nic0", "down")
	if linked.Up() {
		t.Error("it is down, and says that it is up")
	}
	out := frames(station("out", 60), station("out", 60))
	if n := w.dev.Queues()[1].Write(out); n != 0 || out[0].Verdict.Reason != frame.PortDown || out[1].Verdict.Reason != frame.PortDown {
		t.Errorf("it is down, and %d frames were taken; verdict %+v", n, out[0].Verdict)
	}
	if _, err := w.read(); err != nil {
		t.Errorf("it is down: %v", err)
	}
	w.here.Exec("ip", "link", "set", "nic0", "up")
	eventually(t, "it is up again", linked.Up)
	eventually(t, "the cable works again", func() bool {
		return strings.Contains(w.away.Exec("ip", "link", "show", "far"), "state UP")
	})
	nettest.Inject(t, w.away, "far").Send(station("again", 60))
	w.want("again", 1)
	w.mu.Lock()
	if len(w.told) != 2 || w.told[0].Up || !w.told[1].Up {
		t.Errorf("it told %+v", w.told)
	}
	w.mu.Unlock()
	w.away.Exec("ip", "link", "del", "far") // and the other end with it
	// Who reads in the moment between its going down and its end is told by Up.
	eventually(t, "it is told that it has vanished", func() bool {
		_, err := w.read()
		linked.Up()
		w.mu.Lock()
		defer w.mu.Unlock()
		return errors.Is(err, tap.ErrGone) || w.told[len(w.told)-1].Gone
	})
	if n := w.dev.Queues()[0].Write(frames(station("out", 60))); n != 0 || linked.Up() {
		t.Error("it has vanished, and takes frames")
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it never came to this: %s", what)
		}
	}
}

func TestTheInterfaceIsLeftAsItWas(t *testing.T) {
	w := newWire(t, nic.Config{})
	state := func() string { return w.here.Exec("ip", "-d", "link", "show", "nic0") }
	if !strings.Contains(state(), "promiscuity 1") {
		t.Errorf("it receives for itself only:\n%s", state())
	}
	second := w.open(nic.Config{Name: "nic0"}) // two may look at one interface
	if !strings.Contains(state(), "promiscuity 2") {
		t.Errorf("two look at it:\n%s", state())
	}
	_ = second
	third, err := nic.Open(nic.Config{Name: "nic0", NetNS: w.here.Path})
	if err != nil {
		t.Fatal(err)
	}
	if err := third.Close(); err != nil {
		t.Error(err)
	}
	if !strings.Contains(state(), "promiscuity 2") {
		t.Errorf("the third one is gone:\n%s", state())
	}
}

func TestAFrameLongerThanTheWireCarriesIsTooBig(t *testing.T) {
	w := newWire(t, nic.Config{})
	out := frames(station("fits", 1514), station("does not", 1519), station("fits", 60))
	if n := w.dev.Queues()[0].Write(out); n != 2 || out[1].Verdict.Reason != frame.TooBig {
		t.Errorf("%d were taken, verdict %+v", n, out[1].Verdict)
	}
	w.batch = frame.NewBatch(4, 200)
	nettest.Inject(t, w.away, "far").Send(station("a long one", 1000))
	eventually(t, "a frame that the batch has no room for is told of", func() bool {
		all, err := w.read()
		return err == nil && len(all) == 1 && all[0].dropped == frame.TooBig && len(all[0].bytes) == 0
	})
}

func TestWhatCannotBeOpenedSaysWhy(t *testing.T) {
	ns := nettest.New(t, "nic")
	ns.Exec("ip", "link", "add", "nic0", "type", "veth", "peer", "name", "end")
	ns.Addr("nic0", "10.9.0.1/24")
	for _, tc := range []struct {
		cfg     nic.Config
		forbid  bool
		want    error
		mention string
	}{
		{nic.Config{Name: "nic1"}, false, nic.ErrNoInterface, "nic nic1"},
		{nic.Config{Name: "nic0", Not: netip.MustParseAddr("10.9.0.1")}, false, nic.ErrUnderlay, "10.9.0.1"},
		{nic.Config{Name: "nic0", NetNS: "none"}, false, tap.ErrNoNetNS, "none"},
		{nic.Config{Name: "nic0"}, true, nic.ErrPermission, "run as root"},
	} {
		var err error
		ns.Do(func() {
			if tc.forbid {
				nettest.RefuseValue(t, unix.EPERM, unix.SYS_SOCKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
			}
			var dev tap.Device
			if dev, err = nic.Open(tc.cfg); err == nil {
				dev.Close()
			}
		})
		if !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.mention) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%+v: %v; want %v in one line", tc.cfg, err, tc.want)
		}
	}
}
