package taptest

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/tap"
)

func open(t *testing.T, cfg tap.Config) (*Host, *Device) {
	t.Helper()
	h := NewHost()
	if _, err := h.Open(cfg); err != nil {
		t.Fatal(err)
	}
	return h, h.Device(cfg.Name)
}

func TestTheDoubleWakesItsReader(t *testing.T) {
	_, d := open(t, tap.Config{Name: "tap0"})
	q := d.Queues()[0].(interface{ Notify(func()) })
	woken := 0
	d.Send(make([]byte, 60))
	q.Notify(func() { woken++ })
	if woken != 1 {
		t.Errorf("woken %d times for what was there before, want 1", woken)
	}
	d.Send(make([]byte, 60))
	if woken != 2 {
		t.Errorf("woken %d times after a frame, want 2", woken)
	}
	d.Vanish()
	if woken != 3 {
		t.Errorf("woken %d times after the end, want 3", woken)
	}
}

func TestOneFlowStaysOnOneQueue(t *testing.T) {
	_, d := open(t, tap.Config{Name: "tap0", Queues: 4})
	used := map[int]bool{}
	for flow := range 64 {
		b := make([]byte, 60)
		b[0], b[6] = 2, byte(flow)
		for range 3 {
			d.Send(b)
		}
		for i, q := range d.Queues() {
			batch := frame.NewBatch(8, 128)
			n, err := q.Read(batch)
			if err != nil || n != 0 && n != 3 {
				t.Fatalf("flow %d has %d frames on queue %d, error %v", flow, n, i, err)
			}
			used[i] = used[i] || n > 0
		}
	}
	if !used[0] || !used[1] || !used[2] || !used[3] {
		t.Errorf("queues in use: %v, want all", used)
	}
}

func TestAFullDoubleRefusesAndCounts(t *testing.T) {
	_, d := open(t, tap.Config{Name: "tap0"})
	d.SetCapacity(1)
	if !d.Send(make([]byte, 60)) || d.Send(make([]byte, 60)) {
		t.Error("Send did not take exactly one frame")
	}
	b := frame.NewBatch(2, 128)
	b.Frames[0].Load(make([]byte, 60))
	b.Frames[1].Load(make([]byte, 60))
	fs := []*frame.Frame{&b.Frames[0], &b.Frames[1]}
	if n := d.Queues()[0].Write(fs); n != 1 || fs[1].Verdict.Reason != frame.PortFull {
		t.Errorf("%d written, verdict %+v", n, fs[1].Verdict)
	}
	if got, want := d.Stats(), (Stats{Sent: 1, SendFull: 1, Received: 1, Refused: 1}); got != want {
		t.Errorf("stats %+v, want %+v", got, want)
	}
}

func TestRecvWaitsForAFrameTheEndOrTheContext(t *testing.T) {
	_, d := open(t, tap.Config{Name: "tap0"})
	ctx, cancel := context.WithCancel(t.Context())
	b := frame.NewBatch(1, 128)
	b.Frames[0].Load(bytes.Repeat([]byte{7}, 60))

	got := make(chan error, 2)
	for range 2 {
		go func() {
			f, err := d.Recv(ctx)
			if err == nil && !bytes.Equal(f, b.Frames[0].Bytes()) {
				err = errors.New("another frame")
			}
			got <- err
		}()
	}
	d.Queues()[0].Write([]*frame.Frame{&b.Frames[0]})
	if err := <-got; err != nil {
		t.Errorf("first: %v", err)
	}
	cancel()
	if err := <-got; !errors.Is(err, context.Canceled) {
		t.Errorf("second: %v", err)
	}
	for range 2 {
		go func() {
			_, err := d.Recv(t.Context())
			got <- err
		}()
	}
	d.Vanish()
	for range 2 {
		if err := <-got; !errors.Is(err, tap.ErrGone) {
			t.Errorf("after the end: %v", err)
		}
	}
}

func TestAHostKnowsItsOpenDevices(t *testing.T) {
	h, d := open(t, tap.Config{Name: "tap1"})
	if _, err := h.Open(tap.Config{Name: "tap0"}); err != nil {
		t.Fatal(err)
	}
	if got := h.Names(); len(got) != 2 || got[0] != "tap0" || got[1] != "tap1" {
		t.Errorf("names %q", got)
	}
	d.Close()
	if h.Device("tap1") != nil || h.Device("tap0") == nil {
		t.Error("Close did not take exactly its own device away")
	}
}
