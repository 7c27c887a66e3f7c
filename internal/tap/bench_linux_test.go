package tap_test

import (
	"testing"

	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/nettest"
	"github.com/uvtep/uvtep/internal/tap"
	"golang.org/x/sys/unix"
)

// benchDevice opens a TAP in a namespace of its own and returns its queue and a
// packet socket on its kernel side.
func benchDevice(b *testing.B) (tap.Queue, int) {
	ns := nettest.New(b, "tap")
	ns.Sysctl("net/ipv6/conf/default/disable_ipv6", "1")
	var dev tap.Device
	fd := -1
	ns.Do(func() {
		var err error
		if dev, err = tap.Open(tap.Config{Name: "tap0", MTU: 1450, Queues: 1}); err != nil {
			b.Fatal(err)
		}
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			b.Fatal(err)
		}
		index, err := interfaceIndex(fd, "tap0")
		if err != nil {
			b.Fatal(err)
		}
		if err := unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: index}); err != nil {
			b.Fatal(err)
		}
	})
	b.Cleanup(func() { unix.Close(fd); dev.Close() })
	return dev.Queues()[0], fd
}

func BenchmarkRead64(b *testing.B) {
	q, fd := benchDevice(b)
	batch, out := frame.NewBatch(frame.BatchLen, 2048), testFrame(64, 1)
	b.ReportAllocs()
	for n := 0; n < b.N; {
		b.StopTimer()
		for range frame.BatchLen {
			if _, err := unix.Write(fd, out); err != nil {
				b.Fatal(err)
			}
		}
		b.StartTimer()
		batch.Clear()
		got, err := q.Read(batch)
		if err != nil {
			b.Fatal(err)
		}
		n += got
	}
}

func BenchmarkWrite64(b *testing.B) {
	q, _ := benchDevice(b)
	out := make([][]byte, frame.BatchLen)
	for i := range out {
		out[i] = testFrame(64, byte(i))
	}
	frames := load(out...)
	b.ReportAllocs()
	for n := 0; n < b.N; n += len(frames) {
		if sent := q.Write(frames); sent != len(frames) {
			b.Fatalf("%d sent", sent)
		}
	}
}
