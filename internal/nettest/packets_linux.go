package nettest

import (
	"bytes"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Sniffer keeps what arrives at an interface, every frame of it.
type Sniffer struct {
	t    testing.TB
	fd   int
	stop func()

	closed atomic.Bool

	mu     sync.Mutex
	frames []Frame
}

// Frame is the front of a frame, and how long the whole of it was.
type Frame struct {
	Bytes  []byte
	Length int
}

const (
	snapLen = 2048
	allNet  = 0x0300 // ETH_P_ALL, in network byte order
)

// PacketSocket opens a packet socket on an interface of a namespace.
func PacketSocket(t testing.TB, ns *NS, dev string, protocol uint16) (fd int) {
	t.Helper()
	ns.Do(func() {
		ifc, err := net.InterfaceByName(dev)
		if err != nil {
			t.Fatal(err)
		}
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0); err != nil {
			t.Fatal(err)
		}
		if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1); err != nil {
			t.Fatal(err)
		}
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20); err != nil {
			t.Fatal(err)
		}
		if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: protocol, Ifindex: ifc.Index}); err != nil {
			t.Fatal(err)
		}
	})
	return fd
}

// Sniff looks at an interface until the test ends, or Done is called.
func Sniff(t testing.TB, ns *NS, dev string) *Sniffer {
	t.Helper()
	s := &Sniffer{t: t, fd: PacketSocket(t, ns, dev, allNet)}
	ending, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for last := false; ; {
			s.drain()
			if last {
				return
			}
			select {
			case <-ending:
				last = true // what had arrived by then is looked at, too
			default:
				fds := []unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLIN}}
				_, _ = unix.Poll(fds, 20) // EINTR is as good as nothing
			}
		}
	}()
	s.stop = sync.OnceFunc(func() {
		close(ending)
		<-ended
		s.closed.Store(true)
		st, err := unix.GetsockoptTpacketStats(s.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
		if err != nil || st.Drops != 0 {
			t.Errorf("the sniffer at %s missed %d frames: %v", ns.Name, st.Drops, err)
		}
		unix.Close(s.fd)
	})
	t.Cleanup(s.stop)
	return s
}

// drain takes what has arrived.
func (s *Sniffer) drain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	buf := make([]byte, snapLen)
	for {
		n, _, err := unix.Recvfrom(s.fd, buf, unix.MSG_TRUNC)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return
		}
		s.frames = append(s.frames, Frame{bytes.Clone(buf[:min(n, snapLen)]), n})
	}
}

// Seen is what has arrived so far, all of it.
func (s *Sniffer) Seen() []Frame {
	if !s.closed.Load() {
		s.drain()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.frames
}

// With is what has arrived so far and contains a mark.
func (s *Sniffer) With(mark string) (found []Frame) {
	for _, f := range s.Seen() {
		if bytes.Contains(f.Bytes, []byte(mark)) {
			found = append(found, f)
		}
	}
	return found
}

// Wait waits until n frames with a mark have arrived, and returns them.
func (s *Sniffer) Wait(mark string, n int) []Frame {
	s.t.Helper()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		found := s.With(mark)
		if len(found) >= n {
			return found
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%d frames with %q arrived, want %d", len(found), mark, n)
		}
	}
}

// Done stops looking and returns what arrived.
func (s *Sniffer) Done() []Frame {
	s.stop()
	return s.Seen()
}

// Injector puts raw frames on an interface.
type Injector struct {
	t  testing.TB
	fd int
}

func Inject(t testing.TB, ns *NS, dev string) *Injector {
	t.Helper()
	i := &Injector{t, PacketSocket(t, ns, dev, 0)}
	t.Cleanup(func() { unix.Close(i.fd) })
	return i
}

// Send puts a frame on the interface, which is there.
func (i *Injector) Send(frame []byte) {
	i.t.Helper()
	if err := i.TrySend(frame); err != nil {
		i.t.Fatalf("send a frame: %v", err)
	}
}

func (i *Injector) TrySend(frame []byte) error {
	for {
		_, err := unix.Write(i.fd, frame)
		if err != unix.EINTR && err != unix.ENOBUFS && err != unix.EAGAIN {
			return err
		}
	}
}
