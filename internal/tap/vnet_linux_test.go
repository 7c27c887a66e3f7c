package tap_test

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/nettest"
	"github.com/uvtep/uvtep/internal/offload"
	"github.com/uvtep/uvtep/internal/tap"
	"github.com/uvtep/uvtep/internal/tap/taptest"
)

// super is a super-frame from 192.0.2.1 to 192.0.2.2 of n bytes of payload, size
// in a segment, and its virtio header. The sum in its transport header is that of
// the pseudo-header.
func super(proto uint8, n, size int) ([]byte, frame.Offload) {
	l4 := 20
	o := frame.Offload{Flags: frame.NeedsCsum, GSO: frame.GSOTCPv4, GSOSize: uint16(size), CsumStart: 34, CsumOffset: 16}
	if proto == frame.ProtoUDP {
		l4, o.GSO, o.CsumOffset = 8, frame.GSOUDPL4, 6
	}
	o.HdrLen = uint16(34 + l4)
	b := make([]byte, 34+l4+n)
	copy(b, []byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0})
	ip, th := b[14:34], b[34:]
	ip[0], ip[8], ip[9] = 0x45, 64, proto
	binary.BigEndian.PutUint16(ip[2:], uint16(20+l4+n))
	copy(ip[12:], []byte{192, 0, 2, 1, 192, 0, 2, 2})
	binary.BigEndian.PutUint16(ip[10:], ^frame.Fold(frame.Sum(ip, 0)))
	binary.BigEndian.PutUint16(th, 1000)
	binary.BigEndian.PutUint16(th[2:], 2000)
	if proto == frame.ProtoUDP {
		binary.BigEndian.PutUint16(th[4:], uint16(l4+n))
	} else {
		th[12], th[13] = 5<<4, 0x10 // ACK
	}
	binary.BigEndian.PutUint16(th[o.CsumOffset:], frame.Fold(frame.Sum(ip[12:], uint64(proto)+uint64(l4+n))))
	for i := range n {
		th[l4+i] = byte(i % 251)
	}
	return b, o
}

// superWorld is a world whose kernel side takes and gives virtio headers.
type superWorld interface {
	world
	sendSuper(t *testing.T, name string, b []byte, o frame.Offload)
	tryRecvSuper(name string) ([]byte, frame.Offload, bool)
}

func (m memory) sendSuper(t *testing.T, name string, b []byte, o frame.Offload) {
	t.Helper()
	if !m.Device(name).SendSuper(0, b, o) {
		t.Fatal("the kernel's end refused a super-frame")
	}
}

func (m memory) tryRecvSuper(name string) ([]byte, frame.Offload, bool) {
	return m.Device(name).TryRecvSuper()
}

// superKernel is kernel with packet sockets that have virtio headers (PACKET_VNET_HDR).
type superKernel struct{ *kernel }

func (k superKernel) open(cfg tap.Config) (tap.Device, error) {
	dev, err := k.kernel.open(cfg)
	if err == nil {
		if err := unix.SetsockoptInt(k.packets[cfg.Name].fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1); err != nil {
			k.t.Fatal(err)
		}
	}
	return dev, err
}

func (k superKernel) sendSuper(t *testing.T, name string, b []byte, o frame.Offload) {
	t.Helper()
	with := make([]byte, offload.HeaderLen, offload.HeaderLen+len(b))
	offload.Put(with, o)
	k.send(t, name, append(with, b...))
}

func (k superKernel) tryRecvSuper(name string) ([]byte, frame.Offload, bool) {
	buf := make([]byte, offload.HeaderLen+frame.MaxLen)
	for {
		n, from, err := unix.Recvfrom(k.packets[name].fd, buf, 0)
		if err != nil {
			return nil, frame.Offload{}, false
		}
		if from.(*unix.SockaddrLinklayer).Pkttype != unix.PACKET_OUTGOING {
			return buf[offload.HeaderLen:n], offload.Get(buf), true
		}
	}
}

func eachSuperWorld(t *testing.T, body func(t *testing.T, w superWorld)) {
	h := taptest.NewHost()
	h.Offload = tap.All
	t.Run("memory", func(t *testing.T) { body(t, memory{h, 0}) })
	t.Run("kernel", func(t *testing.T) { body(t, superKernel{newKernel(t)}) })
}

func recvSuper(t *testing.T, w superWorld, name string) ([]byte, frame.Offload) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		if b, o, ok := w.tryRecvSuper(name); ok {
			return b, o
		}
		if time.Now().After(deadline) {
			t.Fatal("nothing arrived")
		}
	}
}

func TestSuperFramesCrossADeviceWhole(t *testing.T) {
	for _, proto := range []uint8{frame.ProtoTCP, frame.ProtoUDP} {
		eachSuperWorld(t, func(t *testing.T, w superWorld) {
			for _, queues := range []int{1, 2} {
				dev := mustOpen(t, w, tap.Config{Name: "tap0", MTU: 1450, Queues: queues, Offload: tap.All})
				if dev.Offload()&tap.All != tap.All {
					t.Fatalf("it does %s", dev.Offload())
				}
				want, o := super(proto, 40000, 1000)

				w.sendSuper(t, "tap0", want, o)
				b := readOne(t, dev)
				if f := &b.Frames[0]; !bytes.Equal(f.Bytes(), want) || f.Offload.GSO != o.GSO || f.Offload.GSOSize != 1000 ||
					f.Offload.CsumStart != o.CsumStart || f.Offload.CsumOffset != o.CsumOffset || f.Offload.Flags != frame.NeedsCsum {
					t.Errorf("%d bytes were read with %+v, want %d with %+v", f.Len(), f.Offload, len(want), o)
				}

				// In one piece, and in parts.
				fs := loadSuper(want, o, want[:1054], want[1054:2054], want[2054:])
				if n := dev.Queues()[queues-1].Write(fs); n != 2 {
					t.Fatalf("%d sent, verdicts %+v, %+v", n, fs[0].Verdict, fs[1].Verdict)
				}
				for range 2 {
					got, is := recvSuper(t, w, "tap0")
					if !bytes.Equal(got, want) || is.GSO != o.GSO || is.GSOSize != 1000 {
						t.Errorf("%d bytes were received with %+v, want %d with %+v", len(got), is, len(want), o)
					}
				}
				if err := dev.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// readOne reads a single frame, from whichever queue has it.
func readOne(t *testing.T, dev tap.Device) *frame.Batch {
	t.Helper()
	b := frame.NewBatch(4, frame.MaxLen)
	for deadline := time.Now().Add(5 * time.Second); b.N == 0; {
		for _, q := range dev.Queues() {
			if _, err := q.Read(b); err != nil {
				t.Fatal(err)
			}
		}
		if time.Now().After(deadline) {
			t.Fatal("nothing was read")
		}
	}
	if b.N != 1 {
		t.Fatalf("%d frames were read, want 1", b.N)
	}
	return b
}

// loadSuper makes two frames: whole, and parts behind each other.
func loadSuper(whole []byte, o frame.Offload, first []byte, rest ...[]byte) []*frame.Frame {
	b, n := frame.NewBatch(2, frame.MaxLen), 0
	for _, r := range rest {
		n += len(r)
	}
	b.Frames[0].Load(whole)
	b.Frames[1].Load(first)
	b.Frames[1].SetParts(rest, n)
	b.Frames[0].Offload, b.Frames[1].Offload = o, o
	return []*frame.Frame{&b.Frames[0], &b.Frames[1]}
}

func TestWhatIsNotWantedIsSplitByTheKernel(t *testing.T) {
	for _, tc := range []struct {
		proto  uint8
		want   tap.Offload
		frames int
	}{
		{frame.ProtoTCP, tap.Checksum | tap.ReadTSO, 1}, {frame.ProtoTCP, tap.All &^ tap.ReadTSO &^ tap.ReadUSO, 10}, {frame.ProtoTCP, 0, 10},
		{frame.ProtoUDP, tap.Checksum | tap.ReadTSO | tap.ReadUSO, 1}, {frame.ProtoUDP, tap.Checksum | tap.ReadTSO, 10}, {frame.ProtoUDP, 0, 10},
	} {
		k := superKernel{newKernel(t)}
		dev := mustOpen(t, k, tap.Config{Name: "tap0", MTU: 1450, Queues: 1, Offload: tc.want})
		if dev.Offload() != tc.want {
			t.Errorf("asked for %s it does %s", tc.want, dev.Offload())
		}
		b, o := super(tc.proto, 10000, 1000)
		k.sendSuper(t, "tap0", b, o)
		batch := frame.NewBatch(frame.BatchLen, frame.MaxLen)
		for deadline := time.Now().Add(5 * time.Second); batch.N < tc.frames; {
			if _, err := dev.Queues()[0].Read(batch); err != nil {
				t.Fatal(err)
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: %d frames, want %d", tc.want, batch.N, tc.frames)
			}
		}
		for i := range batch.N {
			if f := &batch.Frames[i]; (f.Offload.GSO != frame.GSONone) != (tc.frames == 1) || tc.want == 0 && f.Offload != (frame.Offload{}) {
				t.Errorf("%s: frame %d of %d bytes says %+v", tc.want, i, f.Len(), f.Offload)
			}
		}
	}
}

func TestWithoutChecksumsNothingElseIsAskedFor(t *testing.T) {
	k := newKernel(t)
	if dev := mustOpen(t, k, tap.Config{Name: "tap0", Offload: tap.All &^ tap.Checksum}); dev.Offload() != 0 {
		t.Errorf("it does %s", dev.Offload())
	}
}

func TestOffloadsHaveNames(t *testing.T) {
	for o, want := range map[tap.Offload]string{
		0: "", tap.All: "csum tso uso tcp-gro udp-gro", tap.ReadTSO | tap.WriteUSO: "tso udp-gro", tap.Steering: "steering",
	} {
		if o.String() != want || o.Names() == nil {
			t.Errorf("%#x is %q, want %q", uint8(o), o, want)
		}
	}
}

// A kernel that said it would and does not: three in a row, of one kind, tell it.
// What it takes in between of the other kind does not matter.
func TestAnOffloadThatTheKernelRefusesIsNotUsedAgain(t *testing.T) {
	for _, kind := range []struct {
		proto, other uint8
		lost         tap.Offload
	}{{frame.ProtoTCP, frame.ProtoUDP, tap.WriteTSO}, {frame.ProtoUDP, frame.ProtoTCP, tap.WriteUSO}} {
		k := superKernel{newKernel(t)}
		dev := mustOpen(t, k, tap.Config{Name: "tap0", MTU: 1450, Queues: 2, Offload: tap.All})
		all := dev.Offload()
		good, o := super(kind.proto, 4000, 1000)
		fine, p := super(kind.other, 4000, 1000)
		lie := o
		lie.HdrLen = uint16(len(good) + 1)
		write := func(b []byte, o frame.Offload, want frame.Reason) {
			t.Helper()
			fs := loadSuper(b, o, b)[:1]
			if n := dev.Queues()[1].Write(fs); (n == 1) != (want == frame.NotDropped) || fs[0].Verdict.Reason != want {
				t.Errorf("%d sent, verdict %+v, want %v", n, fs[0].Verdict, want)
			}
		}
		for range 5 { // never three in a row
			write(good, lie, frame.PortError)
			write(good, lie, frame.PortError)
			write(good, o, frame.NotDropped)
		}
		if dev.Offload() != all {
			t.Errorf("after faults that passed it does %s", dev.Offload())
		}
		for range 2 {
			write(good, lie, frame.PortError)
			write(fine, p, frame.NotDropped)
			write([]byte("short"), frame.Offload{}, frame.PortError) // no fault of an offload's
		}
		if dev.Offload() != all {
			t.Errorf("after two faults it does %s", dev.Offload())
		}
		write(good, lie, frame.PortError)
		if want := all &^ kind.lost; dev.Offload() != want {
			t.Errorf("after three faults it does %s, want %s", dev.Offload(), want)
		}
	}
}

// features are what the kernel side of a device has of the offloads.
func features(ns *nettest.NS, dev string) string {
	var on []string
	for line := range strings.Lines(ns.Exec("ethtool", "-k", dev)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		if slices.Contains([]string{"tx-checksum-ip-generic", "tx-tcp-segmentation", "tx-tcp6-segmentation", "tx-udp-segmentation"}, name) && strings.HasPrefix(value, "on") {
			on = append(on, name)
		}
	}
	_, segs, _ := strings.Cut(show(ns, dev), "gso_max_segs ")
	return strings.Join(append(on, strings.Fields(segs)[0]), " ")
}

// An older kernel, played by a filter on the thread that opens: what it does not
// know it refuses, and everything else is used.
func TestAKernelThatLacksAnOffloadGivesTheOthers(t *testing.T) {
	for _, tc := range []struct {
		name  string
		lacks uint32 // flags of TUNSETOFFLOAD
		want  tap.Offload
	}{
		{"before USO", unix.TUN_F_USO4 | unix.TUN_F_USO6, tap.All &^ tap.ReadUSO &^ tap.WriteUSO},
		{"before all of it", unix.TUN_F_CSUM | unix.TUN_F_TSO4, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			k := newKernel(t)
			var dev tap.Device
			k.ns.Do(func() {
				nettest.RefuseBits(t, unix.EINVAL, unix.SYS_IOCTL, unix.TUNSETOFFLOAD, tc.lacks)
				var err error
				if dev, err = tap.Open(tap.Config{Name: "tap0", MTU: 1450, Queues: 1, Offload: tap.All}); err != nil {
					t.Fatal(err)
				}
				k.packets["tap0"] = openPackets(t, "tap0")
			})
			defer dev.Close()
			if dev.Offload() != tc.want {
				t.Errorf("it does %s, want %s", dev.Offload(), tc.want)
			}
			k.send(t, "tap0", testFrame(60, 7))
			if got := readAll(t, dev, 1)[0]; !bytes.Equal(got, testFrame(60, 7)) {
				t.Errorf("read %x", got)
			}
			fs := load(testFrame(60, 8))
			if n := dev.Queues()[0].Write(fs); n != 1 {
				t.Errorf("verdict %+v", fs[0].Verdict)
			}
			if got := recv(t, k, "tap0"); !bytes.Equal(got, fs[0].Bytes()) {
				t.Errorf("received %x", got)
			}
		})
	}
}

func TestReadingStopsWhereTheCacheEnds(t *testing.T) {
	k := superKernel{newKernel(t)}
	dev := mustOpen(t, k, tap.Config{Name: "tap0", MTU: 1450, Queues: 1, Offload: tap.All})
	b, o := super(frame.ProtoTCP, 60000, 1000)
	const sent = 20
	for range sent {
		k.sendSuper(t, "tap0", b, o)
	}
	batch, total, reads := frame.NewBatch(frame.BatchLen, frame.MaxLen), 0, 0
	for deadline := time.Now().Add(5 * time.Second); total < sent; {
		batch.Clear()
		n, err := dev.Queues()[0].Read(batch)
		if err != nil {
			t.Fatal(err)
		}
		if total += n; n > 0 {
			reads++
		}
		if n > 10 {
			t.Errorf("%d super-frames were read at once", n)
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d were read", total, sent)
		}
	}
	if reads < 2 {
		t.Errorf("all came by %d reads", reads)
	}
}

func TestReadingAndWritingSuperFramesAllocatesNothing(t *testing.T) {
	k := superKernel{newKernel(t)}
	dev := mustOpen(t, k, tap.Config{Name: "tap0", MTU: 1450, Queues: 1, Offload: tap.All})
	q, batch := dev.Queues()[0], frame.NewBatch(1, frame.MaxLen)
	whole, o := super(frame.ProtoTCP, 10000, 1000)
	out := make([]byte, offload.HeaderLen, offload.HeaderLen+len(whole))
	offload.Put(out, o)
	out = append(out, whole...)
	fs := loadSuper(whole, o, whole[:1054], whole[1054:])
	if n := testing.AllocsPerRun(100, func() {
		k.send(t, "tap0", out)
		batch.Clear()
		if n, err := q.Read(batch); n != 1 || err != nil {
			t.Fatalf("%d frames, error %v", n, err)
		}
		if n := q.Write(fs); n != 2 {
			t.Fatalf("%d sent", n)
		}
	}); n != 0 {
		t.Errorf("%v allocations a round", n)
	}
}
