package tap_test

import (
	"bytes"
	"testing"

	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/nettest"
	"github.com/uvtep/uvtep/internal/tap"
	"golang.org/x/sys/unix"
)

// A queue has as much room as there is, unless somebody bounds it: what is
// written is the kernel's at once. Where it is bounded, as behind a bridge that
// sends more slowly, what finds no room is refused at once, and nothing else.
func TestWhatFindsNoRoomIsRefusedAtOnce(t *testing.T) {
	for _, o := range []tap.Offload{0, tap.All} {
		k := newKernel(t)
		far := nettest.New(t, "far")
		nettest.Need(t, "tc")
		k.ns.Exec("ip", "link", "add", "br0", "up", "type", "bridge")
		nettest.Veth(t, k.ns, "out", far, "in")
		k.ns.Exec("ip", "link", "set", "out", "master", "br0")
		k.ns.Exec("tc", "qdisc", "add", "dev", "out", "root", "tbf", "rate", "8mbit", "burst", "4kb", "limit", "4mb")
		var in *packets
		far.Do(func() { in = openPackets(t, "in") })
		dev := mustOpen(t, k, tap.Config{Name: "tap0", MTU: 1450, Queues: 1, Bridge: "br0", Offload: o})

		var bs [][]byte
		for i := range frame.BatchLen {
			b := testFrame(1000, byte(i))
			copy(b, []byte{2, 0, 0, 0, 0x99, 0x99}) // of a group, the bridge would send copies, which do not count
			bs = append(bs, b)
		}
		write := func() (taken [][]byte) {
			t.Helper()
			fs := load(bs...)
			n := dev.Queues()[0].Write(fs)
			for i, f := range fs {
				switch f.Verdict {
				case frame.Verdict{}:
					taken = append(taken, bs[i])
				case frame.Verdict{Action: frame.Dropped, Reason: frame.PortFull}:
				default:
					t.Errorf("%s: frame %d: %+v", o, i, f.Verdict)
				}
			}
			if n != len(taken) {
				t.Errorf("%s: %d taken, %d by their verdicts", o, n, len(taken))
			}
			return taken
		}
		taken := write()
		if len(taken) != len(bs) {
			t.Errorf("%s: %d of %d taken without a bound", o, len(taken), len(bs))
		}
		in.want(t, bs)
		if err := unix.IoctlSetPointerInt(dev.Queues()[0].Fd(), unix.TUNSETSNDBUF, 16<<10); err != nil {
			t.Fatal(err)
		}
		taken = write()
		if len(taken) == 0 || len(taken) == len(bs) {
			t.Errorf("%s: %d of %d taken with a bound, want some", o, len(taken), len(bs))
		}
		in.want(t, taken)
	}
}

// want waits for frames to come in by an interface, in order. Those of other
// protocols are the bridge's.
func (p *packets) want(t *testing.T, frames [][]byte) {
	t.Helper()
	for i, want := range frames {
		got, ok := p.tryRecv()
		for !ok || !bytes.Equal(got[12:14], want[12:14]) {
			if !readable(p.fd) {
				t.Fatalf("%d of %d frames came", i, len(frames))
			}
			got, ok = p.tryRecv()
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("frame %d is %x, want %x", i, got[:20], want[:20])
		}
	}
}

// readable waits for a descriptor to have something, for five seconds.
func readable(fd int) bool {
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 5000)
		if err != unix.EINTR {
			return n == 1
		}
	}
}
