package vtep_test

import (
	"bytes"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/uvtep/uvtep/internal/nettest"
)

// sniffer keeps what arrives at an interface, every frame of it.
type sniffer struct {
	t    testing.TB
	fd   int
	stop func()

	closed atomic.Bool

	mu     sync.Mutex
	frames []sniffed
}

// sniffed is the front of a frame, and how long the whole of it was.
type sniffed struct {
	bytes  []byte
	length int
}

const (
	snapLen = 2048
	allNet  = 0x0300 // ETH_P_ALL, in network byte order
)

// packetSocket opens a packet socket on an interface of a namespace.
func packetSocket(t testing.TB, ns *nettest.NS, dev string, protocol uint16) (fd int) {
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

// sniff looks at an interface until the test ends, or done is called.
func sniff(t testing.TB, ns *nettest.NS, dev string) *sniffer {
	t.Helper()
	s := &sniffer{t: t, fd: packetSocket(t, ns, dev, allNet)}
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
func (s *sniffer) drain() {
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
		s.frames = append(s.frames, sniffed{bytes.Clone(buf[:min(n, snapLen)]), n})
	}
}

// seen is what has arrived so far, all of it.
func (s *sniffer) seen() []sniffed {
	if !s.closed.Load() {
		s.drain()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.frames
}

// with is what has arrived so far and contains a mark.
func (s *sniffer) with(mark string) (found []sniffed) {
	for _, f := range s.seen() {
		if bytes.Contains(f.bytes, []byte(mark)) {
			found = append(found, f)
		}
	}
	return found
}

// wait waits until n frames with a mark have arrived, and returns them.
func (s *sniffer) wait(mark string, n int) []sniffed {
	s.t.Helper()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		found := s.with(mark)
		if len(found) >= n {
			return found
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%d frames with %q arrived, want %d", len(found), mark, n)
		}
	}
}

// done stops looking and returns what arrived.
func (s *sniffer) done() []sniffed {
	s.stop()
	return s.seen()
}

// injector puts raw frames on an interface.
type injector struct {
	t  testing.TB
	fd int
}

func inject(t testing.TB, ns *nettest.NS, dev string) *injector {
	t.Helper()
	i := &injector{t, packetSocket(t, ns, dev, 0)}
	t.Cleanup(func() { unix.Close(i.fd) })
	return i
}

// send puts a frame on the interface, which is there.
func (i *injector) send(frame []byte) {
	i.t.Helper()
	if err := i.trySend(frame); err != nil {
		i.t.Fatalf("send a frame: %v", err)
	}
}

func (i *injector) trySend(frame []byte) error {
	for {
		_, err := unix.Write(i.fd, frame)
		if err != unix.EINTR && err != unix.ENOBUFS && err != unix.EAGAIN {
			return err
		}
	}
}
