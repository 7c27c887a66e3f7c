package tap_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/tap"
)

func TestFramesThatTheKernelSendsAreReadInOrder(t *testing.T) {
	eachWorld(t, func(t *testing.T, w world) {
		dev := mustOpen(t, w, tap.Config{Name: "tap0", MTU: 1450, Queues: 1})
		var sent [][]byte
		for i := range 100 { // more than one batch
			sent = append(sent, testFrame(60+i, byte(i)))
			w.send(t, "tap0", sent[i])
		}
		for i, got := range readAll(t, dev, len(sent)) {
			if !bytes.Equal(got, sent[i]) {
				t.Fatalf("frame %d is %x, want %x", i, got, sent[i])
			}
		}
		b := frame.NewBatch(1, 2048)
		if n, err := dev.Queues()[0].Read(b); n != 0 || err != nil {
			t.Errorf("an empty queue gave %d frames and error %v", n, err)
		}
	})
}

func TestAFullBatchLeavesTheRestForLater(t *testing.T) {
	eachWorld(t, func(t *testing.T, w world) {
		dev := mustOpen(t, w, tap.Config{Name: "tap0", MTU: 1450, Queues: 1})
		for i := range 3 {
			w.send(t, "tap0", testFrame(60, byte(i)))
		}
		q, b := dev.Queues()[0], frame.NewBatch(2, 2048)
		if n, err := q.Read(b); n != 2 || b.N != 2 || err != nil {
			t.Fatalf("first read: %d frames, batch of %d, error %v", n, b.N, err)
		}
		if n, err := q.Read(b); n != 0 || err != nil {
			t.Fatalf("read into a full batch: %d frames, error %v", n, err)
		}
		b.Clear()
		if n, err := q.Read(b); n != 1 || err != nil || b.Frames[0].Bytes()[20] != 2 {
			t.Fatalf("last read: %d frames, error %v", n, err)
		}
	})
}

func TestAFrameThatDoesNotFitIsMarkedNotCut(t *testing.T) {
	eachWorld(t, func(t *testing.T, w world) {
		dev := mustOpen(t, w, tap.Config{Name: "tap0", MTU: 1450, Queues: 1})
		w.send(t, "tap0", testFrame(200, 1))
		w.send(t, "tap0", testFrame(60, 2))
		b := frame.NewBatch(2, 100)
		for deadline := time.Now().Add(5 * time.Second); b.N < 2; {
			if _, err := dev.Queues()[0].Read(b); err != nil {
				t.Fatal(err)
			}
			if time.Now().After(deadline) {
				t.Fatalf("%d frames were read, want 2", b.N)
			}
		}
		if f := &b.Frames[0]; f.Len() != 0 || f.Verdict != (frame.Verdict{Action: frame.Dropped, Reason: frame.TooBig}) {
			t.Errorf("%d bytes, verdict %+v, want none and TooBig", f.Len(), f.Verdict)
		}
		if f := &b.Frames[1]; !bytes.Equal(f.Bytes(), testFrame(60, 2)) || f.Verdict.Action != frame.Undecided {
			t.Errorf("the frame behind it is %x, verdict %+v", f.Bytes(), f.Verdict)
		}
	})
}

func TestFramesThatAreWrittenReachTheKernelInOrder(t *testing.T) {
	eachWorld(t, func(t *testing.T, w world) {
		dev := mustOpen(t, w, tap.Config{Name: "tap0", MTU: 1450, Queues: 1})
		fs := load(testFrame(60, 1), testFrame(5, 2), testFrame(1464, 3))
		if n := dev.Queues()[0].Write(fs); n != 2 {
			t.Errorf("%d frames were sent, want 2", n)
		}
		if v := fs[1].Verdict; v.Action != frame.Dropped || v.Reason != frame.PortError {
			t.Errorf("a frame without a header has verdict %+v", v)
		}
		for _, i := range []int{0, 2} {
			if fs[i].Verdict.Action != frame.Undecided {
				t.Errorf("frame %d was sent and has verdict %+v", i, fs[i].Verdict)
			}
			if got := recv(t, w, "tap0"); !bytes.Equal(got, fs[i].Bytes()) {
				t.Errorf("received %x, want %x", got, fs[i].Bytes())
			}
		}
	})
}

func recv(t *testing.T, w world, name string) []byte {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); ; {
		if b, ok := w.tryRecv(name); ok {
			return b
		}
		if time.Now().After(deadline) {
			t.Fatal("nothing arrived")
		}
		time.Sleep(time.Millisecond)
	}
}

func TestManyQueuesCarryAllFrames(t *testing.T) {
	eachWorld(t, func(t *testing.T, w world) {
		dev := mustOpen(t, w, tap.Config{Name: "tap0", MTU: 1450, Queues: 3})
		if n := len(dev.Queues()); n != 3 {
			t.Fatalf("%d queues, want 3", n)
		}
		seen := map[byte]bool{}
		for i := range 50 {
			w.send(t, "tap0", testFrame(60, byte(i)))
		}
		for _, b := range readAll(t, dev, 50) {
			seen[b[20]] = true
		}
		if len(seen) != 50 {
			t.Errorf("%d different frames, want 50", len(seen))
		}
		for i, q := range dev.Queues() {
			fs := load(testFrame(60, byte(100+i)))
			if q.Write(fs) != 1 {
				t.Fatalf("queue %d: verdict %+v", i, fs[0].Verdict)
			}
			if got := recv(t, w, "tap0"); !bytes.Equal(got, fs[0].Bytes()) {
				t.Errorf("queue %d: received %x", i, got)
			}
		}
	})
}

func TestAnInterfaceThatIsDownTakesNothing(t *testing.T) {
	eachWorld(t, func(t *testing.T, w world) {
		dev := mustOpen(t, w, tap.Config{Name: "tap0", Queues: 1})
		w.setDown("tap0")
		fs := load(testFrame(60, 1))
		if n := dev.Queues()[0].Write(fs); n != 0 || fs[0].Verdict.Reason != frame.PortDown {
			t.Errorf("%d sent, verdict %+v, want PortDown", n, fs[0].Verdict)
		}
		if n, err := dev.Queues()[0].Read(frame.NewBatch(1, 2048)); n != 0 || err != nil {
			t.Errorf("read gave %d frames, error %v; want silence, as it may come up again", n, err)
		}
	})
}

func TestADeviceThatVanishesSaysSo(t *testing.T) {
	eachWorld(t, func(t *testing.T, w world) {
		dev := mustOpen(t, w, tap.Config{Name: "tap0", Queues: 2})
		w.vanish("tap0")
		for _, q := range dev.Queues() {
			_, err := q.Read(frame.NewBatch(1, 2048))
			wantErr(t, err, tap.ErrGone)
			fs := load(testFrame(60, 1))
			if n := q.Write(fs); n != 0 || fs[0].Verdict.Reason != frame.PortDown {
				t.Errorf("%d sent, verdict %+v, want PortDown", n, fs[0].Verdict)
			}
		}
		wantErr(t, dev.SetMTU(1400), tap.ErrGone)
	})
}

func TestADeviceThatIsOpenIsBusy(t *testing.T) {
	eachWorld(t, func(t *testing.T, w world) {
		for _, queues := range []int{1, 2} {
			dev, err := w.open(tap.Config{Name: "tap0", Queues: queues})
			if err != nil {
				t.Fatal(err)
			}
			_, err = w.open(tap.Config{Name: "tap0", Queues: queues})
			wantErr(t, err, tap.ErrBusy)
			if err := dev.Close(); err != nil {
				t.Fatal(err)
			}
			mustOpen(t, w, tap.Config{Name: "tap0", Queues: queues}).Close()
		}
	})
}

func TestADeviceWithoutANameIsRefused(t *testing.T) {
	eachWorld(t, func(t *testing.T, w world) {
		if _, err := w.open(tap.Config{}); err == nil {
			t.Error("it was opened")
		}
	})
}

func TestReadingAndWritingAllocateNothing(t *testing.T) {
	k := newKernel(t)
	dev := mustOpen(t, k, tap.Config{Name: "tap0", Queues: 1})
	q, b, fs := dev.Queues()[0], frame.NewBatch(1, 2048), load(testFrame(60, 1))
	out := testFrame(60, 2)
	if n := testing.AllocsPerRun(200, func() {
		k.send(t, "tap0", out)
		b.Clear()
		if n, err := q.Read(b); n != 1 || err != nil {
			t.Fatalf("%d frames, error %v", n, err)
		}
		if _, err := q.Read(b); err != nil {
			t.Fatal(err)
		}
		q.Write(fs)
	}); n != 0 {
		t.Errorf("%v allocations a round", n)
	}
	k.setDown("tap0")
	if n := testing.AllocsPerRun(200, func() { q.Write(fs) }); n != 0 {
		t.Errorf("%v allocations for a frame that is refused", n)
	}
}
