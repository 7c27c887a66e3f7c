package stream_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/stream"
	"github.com/uvtep/uvtep/internal/tap"
)

// port is an open port, and what it tells of its machine.
type port struct {
	tap.Device
	t     *testing.T
	path  string
	batch *frame.Batch

	mu   sync.Mutex
	told []tap.Link
}

func open(t *testing.T) *port {
	t.Helper()
	return openAt(t, filepath.Join(t.TempDir(), "vm1.sock"))
}

func openAt(t *testing.T, path string) *port {
	t.Helper()
	dev, err := stream.Open(stream.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	p := &port{Device: dev, t: t, path: path, batch: frame.NewBatch(frame.BatchLen, frame.MaxLen)}
	dev.(tap.Linked).Watch(func(l tap.Link) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.told = append(p.told, l)
	})
	t.Cleanup(func() {
		if err := dev.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return p
}

func (p *port) up() bool { return p.Device.(tap.Linked).Up() }

// readable reports whether a worker would be woken.
func (p *port) readable() bool {
	fds := []unix.PollFd{{Fd: int32(p.Queues()[0].Fd()), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n == 1
}

// read does what a worker does: it reads while it is woken.
func (p *port) read() (frames [][]byte, dropped []frame.Reason) {
	p.t.Helper()
	for p.readable() {
		p.batch.Clear()
		n, err := p.Queues()[0].Read(p.batch)
		if err != nil || n != p.batch.N {
			p.t.Fatalf("read %d frames, %d in the batch: %v", n, p.batch.N, err)
		}
		for i := range n {
			if f := &p.batch.Frames[i]; f.Verdict.Action == frame.Dropped {
				dropped = append(dropped, f.Verdict.Reason)
			} else {
				frames = append(frames, bytes.Clone(f.Bytes()))
			}
		}
	}
	return frames, dropped
}

// eventually reads until it has come to something.
func (p *port) eventually(what string, ok func() bool) (frames [][]byte, dropped []frame.Reason) {
	p.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(100 * time.Microsecond) {
		f, d := p.read()
		frames, dropped = append(frames, f...), append(dropped, d...)
		if ok() {
			return frames, dropped
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("it never came to this: %s", what)
		}
	}
}

// links are the words for what was told.
func (p *port) links() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var words []string
	for _, l := range p.told {
		w := "down: "
		if l.Up {
			w = "up: "
		}
		words = append(words, w+l.What)
	}
	return strings.Join(words, "; ")
}

// machine is QEMU's end.
type machine struct {
	*net.UnixConn
	t *testing.T
}

// dial connects, also where many want to at once.
func dial(path string) (*net.UnixConn, error) {
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
		if errors.Is(err, unix.EAGAIN) && time.Now().Before(deadline) {
			continue
		}
		if err == nil {
			c.SetDeadline(time.Now().Add(20 * time.Second))
		}
		return c, err
	}
}

func connect(t *testing.T, path string) *machine {
	t.Helper()
	c, err := dial(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &machine{c, t}
}

// joined is a machine that the port has let in.
func (p *port) joined() *machine {
	p.t.Helper()
	m := connect(p.t, p.path)
	p.eventually("the machine is let in", p.up)
	return m
}

func (m *machine) send(frames ...[]byte) {
	m.t.Helper()
	if err := m.trySend(frames...); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) trySend(frames ...[]byte) error {
	var b []byte
	for _, f := range frames {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(f))), f...)
	}
	_, err := m.Write(b)
	return err
}

func (m *machine) recv() []byte {
	m.t.Helper()
	f, err := m.tryRecv()
	if err != nil {
		m.t.Fatal(err)
	}
	return f
}

func (m *machine) tryRecv() ([]byte, error) {
	var n uint32
	if err := binary.Read(m, binary.BigEndian, &n); err != nil {
		return nil, err
	}
	f := make([]byte, n)
	_, err := io.ReadFull(m, f)
	return f, err
}

// hungUp reports whether the port has closed the connection.
func (m *machine) hungUp() bool {
	_, err := m.Read(make([]byte, 1))
	return errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET)
}

func numbered(i, n int) []byte {
	f := bytes.Repeat([]byte{byte(i)}, n)
	binary.BigEndian.PutUint32(f, uint32(i))
	return f
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
