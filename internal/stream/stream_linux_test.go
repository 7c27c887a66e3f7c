package stream_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
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

func TestFramesCrossBothWays(t *testing.T) {
	p := open(t)
	m := p.joined()
	var in [][]byte
	for i := range 200 {
		in = append(in, numbered(i, 60+7*i))
	}
	in = append(in, numbered(200, stream.MaxLen))
	go m.trySend(in...) // what fails does not come
	var got [][]byte
	for len(got) < len(in) {
		more, dropped := p.read()
		if got = append(got, more...); len(dropped) > 0 {
			t.Fatalf("dropped %v", dropped)
		}
	}
	if !slices.EqualFunc(got, in, bytes.Equal) {
		t.Error("what came is not what the machine sent")
	}
	out := frames(in[:150]...)
	if n := p.Queues()[0].Write(out); n != len(out) {
		t.Fatalf("%d of %d frames were taken", n, len(out))
	}
	for i, f := range out {
		if b := m.recv(); !bytes.Equal(b, f.Bytes()) {
			t.Fatalf("frame %d is another one, of %d bytes", i, len(b))
		}
	}
}

// A batch is smaller than what one read yields: the rest must wake the worker,
// though the kernel has nothing more.
func TestFramesThatTheBatchHasNoRoomForStayReadable(t *testing.T) {
	p := open(t)
	m := p.joined()
	p.batch = frame.NewBatch(3, 2048)
	var in [][]byte
	for i := range 100 {
		in = append(in, numbered(i, 60))
	}
	m.send(in...)
	got, _ := p.read() // all of it is in the socket already
	if !slices.EqualFunc(got, in, bytes.Equal) {
		t.Errorf("%d frames came, want %d", len(got), len(in))
	}
	if p.readable() {
		t.Error("the worker is woken for nothing")
	}
}

func TestOneMachineLeavesAndAnotherComes(t *testing.T) {
	p := open(t)
	if p.up() {
		t.Error("it is up before anybody came")
	}
	out := frames(numbered(1, 60), numbered(2, 60))
	if n := p.Queues()[0].Write(out); n != 0 || out[0].Verdict.Reason != frame.PortDown || out[1].Verdict.Reason != frame.PortDown {
		t.Errorf("nobody is there, and %d frames were taken; verdict %+v", n, out[0].Verdict)
	}
	first := p.joined()
	first.send(numbered(1, 60))
	first.Write([]byte{0, 0, 1}) // its last frame is never whole
	first.Close()
	got, dropped := p.eventually("it is down", func() bool { return !p.up() })
	if len(got) != 1 || len(dropped) != 0 {
		t.Errorf("%d frames, %v dropped; want what it had sent", len(got), dropped)
	}
	second := p.joined()
	second.send(numbered(2, 60))
	var more [][]byte
	for len(more) == 0 {
		more, _ = p.read()
	}
	if !bytes.Equal(more[0], numbered(2, 60)) {
		t.Errorf("the second machine's frame came as %x", more[0])
	}
	want := "up: a machine has connected; down: the machine has hung up; up: a machine has connected"
	if got := p.links(); got != want {
		t.Errorf("it told %q; want %q", got, want)
	}
}

func TestAMachineThatSendsGarbageIsHungUpOnAndTheNextIsServed(t *testing.T) {
	for _, length := range []uint32{0, stream.MaxLen + 1, 1<<32 - 1} {
		p := open(t)
		m := p.joined()
		m.send(numbered(1, 60))
		m.Write(append(binary.BigEndian.AppendUint32(nil, length), numbered(2, 60)...))
		got, dropped := p.eventually("it is down", func() bool { return !p.up() })
		if len(got) != 1 || !slices.Equal(dropped, []frame.Reason{frame.BadLength}) {
			t.Errorf("length %d: %d frames, dropped %v; want the frame before it, and one bad_length", length, len(got), dropped)
		}
		if !m.hungUp() {
			t.Errorf("length %d: the connection goes on", length)
		}
		if !strings.Contains(p.links(), "down: the machine sent a frame of ") {
			t.Errorf("length %d: it told %q", length, p.links())
		}
		p.joined().send(numbered(3, 60))
		for got = nil; len(got) == 0; {
			got, _ = p.read()
		}
	}
}

func TestASecondMachineIsRefusedAndTheFirstOneStays(t *testing.T) {
	p := open(t)
	first := p.joined()
	second := connect(t, p.path)
	p.eventually("the second one is refused", func() bool { return strings.Contains(p.links(), "up: a second machine was refused") })
	if !second.hungUp() {
		t.Error("the second one was let in")
	}
	first.send(numbered(1, 60))
	var got [][]byte
	for len(got) == 0 {
		got, _ = p.read()
	}
	if p.Queues()[0].Write(frames(numbered(2, 60))) != 1 || !bytes.Equal(first.recv(), numbered(2, 60)) {
		t.Error("the first one is not served any more")
	}
	first.Close()
	p.eventually("it is down", func() bool { return !p.up() })
	p.joined()
}

// fill writes until a machine that does not read has no room, and returns the
// frames that were taken.
func (p *port) fill(size int) (taken [][]byte) {
	p.t.Helper()
	for i := 0; ; {
		var bs [][]byte
		for range frame.BatchLen {
			bs = append(bs, numbered(i, size))
			i++
		}
		out := frames(bs...)
		n := p.Queues()[0].Write(out)
		taken = append(taken, bs[:n]...)
		for j, f := range out {
			if (f.Verdict.Action == frame.Dropped) != (j >= n) || j >= n && f.Verdict.Reason != frame.PortFull {
				p.t.Fatalf("frame %d of a batch of which %d were taken: %+v", j, n, f.Verdict)
			}
		}
		if n < len(out) {
			return taken
		}
	}
}

// Whatever the kernel took of the last frame, the machine gets it whole, and then
// what is written next.
func TestAMachineThatDoesNotKeepUpLosesWholeFramesOnly(t *testing.T) {
	for _, size := range []int{61, 1514, 9000, stream.MaxLen} {
		p := open(t)
		m := p.joined()
		want := p.fill(size)
		for range 3 { // it stays full
			if n := p.Queues()[0].Write(frames(numbered(9, size))); n != 0 {
				want = append(want, numbered(9, size))
			}
		}
		done := make(chan [][]byte)
		go func() {
			var got [][]byte
			for range len(want) {
				f, err := m.tryRecv()
				if err != nil {
					t.Error(err)
					break
				}
				got = append(got, f)
			}
			done <- got
		}()
		var got [][]byte
		p.eventually("the rest has left, though nothing more is written", func() bool {
			select {
			case got = <-done:
				return true
			default:
				return false
			}
		})
		if !slices.EqualFunc(got, want, bytes.Equal) {
			t.Errorf("frames of %d bytes: what came is not what was taken", size)
		}
		if n := p.Queues()[0].Write(frames(numbered(1, size))); n != 1 || !bytes.Equal(m.recv(), numbered(1, size)) {
			t.Errorf("frames of %d bytes: nothing is taken any more", size)
		}
		if p.readable() {
			t.Errorf("frames of %d bytes: the worker is woken for nothing", size)
		}
	}
}

func TestMachinesComeAndGoUnderLoad(t *testing.T) {
	p := open(t)
	ended, machines, writers := make(chan struct{}), sync.WaitGroup{}, sync.WaitGroup{}
	for range 2 {
		writers.Go(func() {
			out := frames(numbered(1, 60), numbered(2, 1514), numbered(3, 9000))
			for {
				select {
				case <-ended:
					return
				default:
					p.Queues()[0].Write(out)
					for _, f := range out {
						f.Verdict = frame.Verdict{}
					}
				}
			}
		})
	}
	for i := range 40 {
		machines.Go(func() {
			c, err := dial(p.path)
			if err != nil {
				t.Error(err)
				return
			}
			m := &machine{c, t}
			for range 20 { // until it is refused, or has had enough
				if _, err := m.Write(append([]byte{0, 0, 0, 60}, numbered(i, 60)...)); err != nil {
					break
				}
				if _, err := m.tryRecv(); err != nil {
					break
				}
			}
			m.Close()
		})
	}
	gone := make(chan struct{})
	go func() { machines.Wait(); close(gone) }()
	p.eventually("all machines have been there", func() bool {
		select {
		case <-gone:
			return true
		default:
			return false
		}
	})
	close(ended)
	writers.Wait()
	p.eventually("it is down", func() bool { return !p.up() })
	p.joined()
}

func TestTheFileOfTheSocket(t *testing.T) {
	old := unix.Umask(0o077)
	p := open(t)
	unix.Umask(old)
	info, err := os.Lstat(p.path)
	if err != nil {
		t.Fatal(err)
	}
	if m := info.Mode(); m.Type() != os.ModeSocket || m.Perm() != 0o660 {
		t.Errorf("mode %v, want a socket's, 0660", m)
	}
	if p.Name() != "vm1.sock" || len(p.Queues()) != 1 || p.Offload() != 0 || p.SetMTU(1400) != nil {
		t.Errorf("it is called %s and has %d queues and %v", p.Name(), len(p.Queues()), p.Offload())
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "vm2.sock")
	q, err := stream.Open(stream.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	if err := q.Close(); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("it left %v: %v", left, err)
	}
}

func TestASocketThatSomebodyElsePutThereStays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "vm1.sock")
	dev, err := stream.Open(stream.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path, path+".old"); err != nil {
		t.Fatal(err)
	}
	other, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := dev.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the other one's socket: %v", err)
	}
}

func TestASocketOfAProgramThatIsGoneIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "vm1.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	openAt(t, path).joined()
}

func TestWhatCannotBeOpenedSaysWhy(t *testing.T) {
	dir := t.TempDir()
	taken := filepath.Join(dir, "taken")
	openAt(t, taken)
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	long := "/" + strings.Repeat("x", stream.MaxPath)
	for _, tc := range []struct {
		path string
		want error
		word string
	}{
		{taken, stream.ErrInUse, "stop that program"},
		{file, stream.ErrNotSocket, "move it away"},
		{filepath.Join(dir, "none", "vm1.sock"), stream.ErrNoDirectory, "mkdir -p " + filepath.Join(dir, "none")},
		{filepath.Join(file, "vm1.sock"), stream.ErrNoDirectory, "mkdir -p " + file},
		{long, nil, "at most 107 bytes"},
	} {
		_, err := stream.Open(stream.Config{Path: tc.path})
		if err == nil || tc.want != nil && !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.word) || !strings.Contains(err.Error(), tc.path) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v; want %v and the words %q in one line", tc.path, err, tc.want, tc.word)
		}
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "precious" {
		t.Errorf("the file holds %q: %v", b, err)
	}
}

func TestNothingIsAllocatedForAFrame(t *testing.T) {
	p := open(t)
	m := p.joined()
	in := make([]byte, 0, 64*64)
	for i := range 40 {
		in = append(append(in, 0, 0, 0, 60), numbered(i, 60)...)
	}
	var bs [][]byte
	for i := range 40 {
		bs = append(bs, numbered(i, 60))
	}
	out, back := frames(bs...), make([]byte, 1<<16)
	q := p.Queues()[0]
	if n := testing.AllocsPerRun(100, func() {
		if _, err := m.Write(in); err != nil {
			t.Fatal(err)
		}
		for n := 0; n < 40; {
			p.batch.Clear()
			k, _ := q.Read(p.batch)
			n += k
		}
		if q.Write(out) != 40 {
			t.Fatal("frames were dropped")
		}
		for n := 0; n < 40*64; {
			k, err := m.Read(back)
			if err != nil {
				t.Fatal(err)
			}
			n += k
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
