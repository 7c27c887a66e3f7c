// Package taptest is a double of package tap: a host's TAP devices in memory.
// The worker's end is a tap.Device; the kernel's end sends and receives frames
// by plain calls.
package taptest

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"sync"

	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/tap"
)

// DefaultCapacity is how many frames each direction of a queue holds.
const DefaultCapacity = 512

// Host is a set of TAP devices by name, as one kernel has it. It is made with
// NewHost and may be used by many goroutines.
type Host struct {
	// Offload is what its devices can do, beyond plain frames; it is set before
	// any is opened.
	Offload tap.Offload

	mu      sync.Mutex
	devices map[string]*Device
	seed    maphash.Seed
}

// NewHost makes a host without devices.
func NewHost() *Host {
	return &Host{devices: map[string]*Device{}, seed: maphash.MakeSeed()}
}

// Open is a tap.Opener. A device lives from Open to Close; one that is open
// gives an error that is tap.ErrBusy.
func (h *Host) Open(cfg tap.Config) (tap.Device, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if cfg.Name == "" {
		return nil, errors.New("tap: a TAP device needs a name")
	}
	if h.devices[cfg.Name] != nil {
		return nil, fmt.Errorf("tap %s: %w; stop that one or choose another name", cfg.Name, tap.ErrBusy)
	}
	d := &Device{host: h, cfg: cfg, mtu: cfg.MTU, offload: cfg.Offload & h.Offload, capacity: DefaultCapacity, arrived: make(chan struct{}, 1)}
	d.cfg.MAC = slices.Clone(cfg.MAC)
	for range max(1, cfg.Queues) {
		q := &Queue{dev: d}
		d.queues = append(d.queues, q)
		d.ends = append(d.ends, q)
	}
	h.devices[cfg.Name] = d
	return d, nil
}

// Device returns the open device of that name, nil if there is none.
func (h *Host) Device(name string) *Device {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.devices[name]
}

// Names are the names of the open devices, sorted.
func (h *Host) Names() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var names []string
	for n := range h.devices {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// Stats are what a device has counted.
type Stats struct {
	Sent     uint64 // frames that Send took
	SendFull uint64 // frames that Send refused, as nobody read them
	Received uint64 // frames that a worker wrote
	Refused  uint64 // frames that a worker wrote and that got a drop verdict
}

// carried is a frame on its way, and what its virtio header says.
type carried struct {
	bytes   []byte
	offload frame.Offload
}

// Device is a TAP device: a tap.Device for the worker, and the kernel's end for
// the test.
type Device struct {
	host   *Host
	cfg    tap.Config
	queues []*Queue
	ends   []tap.Queue

	mu       sync.Mutex
	arrived  chan struct{} // holds a token while received has a frame
	received []carried     // written by workers, not yet taken by Recv
	offload  tap.Offload
	capacity int
	mtu      int
	gone     bool
	down     bool
	stats    Stats
}

// Name, Queues, SetMTU and Close implement tap.Device.
func (d *Device) Name() string        { return d.cfg.Name }
func (d *Device) Queues() []tap.Queue { return d.ends }

func (d *Device) SetMTU(mtu int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.gone {
		return fmt.Errorf("tap %s: set its MTU to %d: %w", d.cfg.Name, mtu, tap.ErrGone)
	}
	d.mtu = mtu
	return nil
}

// Offload implements tap.Device: what was asked for and its host can do, unless
// SetOffload changed it.
func (d *Device) Offload() tap.Offload {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.offload
}

// SetOffload sets what the device does, as a kernel that refuses an offload does.
func (d *Device) SetOffload(o tap.Offload) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.offload = o
}

func (d *Device) Close() error {
	d.Vanish()
	d.host.mu.Lock()
	defer d.host.mu.Unlock()
	if d.host.devices[d.cfg.Name] == d {
		delete(d.host.devices, d.cfg.Name)
	}
	return nil
}

// Config is what the device was opened with.
func (d *Device) Config() tap.Config { return d.cfg }

// MTU is the MTU of the kernel side, bytes.
func (d *Device) MTU() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.mtu
}

// Stats are the counters so far.
func (d *Device) Stats() Stats {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.stats
}

// SetCapacity sets how many frames each direction holds: 0 makes Write drop
// with PortFull, and Send refuse.
func (d *Device) SetCapacity(frames int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.capacity = frames
}

// SetDown sets the kernel side down or up again. While it is down, Write drops
// with PortDown and Send refuses.
func (d *Device) SetDown(down bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.down = down
}

// Vanish makes the device go, as the end of its namespace does: Read returns
// tap.ErrGone from now on, and Recv what was written before.
func (d *Device) Vanish() {
	d.mu.Lock()
	d.gone = true
	d.signal()
	wakes := make([]func(), 0, len(d.queues))
	for _, q := range d.queues {
		wakes = append(wakes, q.wake)
	}
	d.mu.Unlock()
	for _, wake := range wakes {
		if wake != nil {
			wake()
		}
	}
}

// Send sends a frame into the switch, as the kernel does when something goes
// out by the interface. The frame is copied. It goes to the queue that the
// hash of its addresses chooses, so that frames between the same two stay in
// order. Send reports whether the frame was taken.
func (d *Device) Send(b []byte) bool {
	i := 0
	if len(d.queues) > 1 {
		i = int(maphash.Bytes(d.host.seed, b[:min(12, len(b))]) % uint64(len(d.queues)))
	}
	return d.SendOn(i, b)
}

// SendOn is Send on the queue of that index.
func (d *Device) SendOn(i int, b []byte) bool { return d.SendSuper(i, b, frame.Offload{}) }

// SendSuper is SendOn of a frame with a virtio header: a super-frame, or one
// whose checksum is partial.
func (d *Device) SendSuper(i int, b []byte, o frame.Offload) bool {
	q := d.queues[i]
	d.mu.Lock()
	if d.gone || d.down || len(q.waiting) >= d.capacity {
		d.stats.SendFull++
		d.mu.Unlock()
		return false
	}
	d.stats.Sent++
	q.waiting = append(q.waiting, carried{slices.Clone(b), o})
	wake := q.wake
	d.mu.Unlock()
	if wake != nil {
		wake()
	}
	return true
}

// TryRecv returns a frame that a worker wrote, in the order of writing, and
// whether there was one. The frame is the caller's.
func (d *Device) TryRecv() ([]byte, bool) {
	b, _, ok := d.TryRecvSuper()
	return b, ok
}

// TryRecvSuper is TryRecv with what the frame's virtio header says.
func (d *Device) TryRecvSuper() ([]byte, frame.Offload, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.received) == 0 {
		return nil, frame.Offload{}, false
	}
	c := d.received[0]
	d.received[0] = carried{}
	d.received = d.received[1:]
	d.signal()
	return c.bytes, c.offload, true
}

// Recv is TryRecv that waits. Its error is the context's, or tap.ErrGone.
func (d *Device) Recv(ctx context.Context) ([]byte, error) {
	for {
		if b, ok := d.TryRecv(); ok {
			return b, nil
		}
		d.mu.Lock()
		gone := d.gone
		d.signal()
		d.mu.Unlock()
		if gone {
			return nil, tap.ErrGone
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-d.arrived:
		}
	}
}

// signal lets one Recv look again if there is something to see; that one lets
// in the next. The caller holds mu.
func (d *Device) signal() {
	if len(d.received) == 0 && !d.gone {
		return
	}
	select {
	case d.arrived <- struct{}{}:
	default:
	}
}

// Queue is one queue of a device.
type Queue struct {
	dev *Device

	waiting []carried // sent by the kernel's end; guarded by dev.mu
	wake    func()    // likewise
}

// Fd is -1: there is nothing to poll. Use Notify.
func (q *Queue) Fd() int { return -1 }

// Notify sets what is called whenever Read may have something, and calls it at
// once if that is so already. It is called from the goroutine of Send.
func (q *Queue) Notify(wake func()) {
	q.dev.mu.Lock()
	q.wake = wake
	ready := len(q.waiting) > 0 || q.dev.gone
	q.dev.mu.Unlock()
	if ready && wake != nil {
		wake()
	}
}

// Read implements tap.Queue.
func (q *Queue) Read(b *frame.Batch) (int, error) {
	d := q.dev
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.gone {
		return 0, tap.ErrGone
	}
	n := 0
	for len(q.waiting) > 0 {
		f := b.Next()
		if f == nil {
			break
		}
		w := q.waiting[0]
		q.waiting[0] = carried{}
		q.waiting = q.waiting[1:]
		if len(w.bytes) < len(f.Buffer()) {
			b.Commit(copy(f.Buffer(), w.bytes))
			f.Offload = w.offload
		} else {
			b.Commit(0)
			f.Drop(frame.TooBig)
		}
		n++
	}
	return n, nil
}

// Write implements tap.Queue.
func (q *Queue) Write(frames []*frame.Frame) int {
	d := q.dev
	d.mu.Lock()
	defer d.mu.Unlock()
	sent := 0
	for _, f := range frames {
		switch {
		case d.gone, d.down:
			f.Drop(frame.PortDown)
		case len(d.received) >= d.capacity:
			f.Drop(frame.PortFull)
		case f.Len() < 14, !d.takes(f): // an Ethernet header, as the kernel wants it
			f.Drop(frame.PortError)
		default:
			d.received = append(d.received, carried{f.AppendTo(nil), f.Offload})
			sent++
		}
	}
	d.stats.Received += uint64(sent)
	d.stats.Refused += uint64(len(frames) - sent)
	d.signal()
	return sent
}

// takes reports whether the device can do with a frame what its virtio header
// asks for. The caller holds mu.
func (d *Device) takes(f *frame.Frame) bool {
	var need tap.Offload
	if f.Offload.Flags&frame.NeedsCsum != 0 {
		need = tap.Checksum
	}
	switch f.Offload.GSO &^ frame.GSOECN {
	case frame.GSONone:
	case frame.GSOUDPL4:
		need |= tap.WriteUSO
	default:
		need |= tap.WriteTSO
	}
	return need&^d.offload == 0
}
