package vtep_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"testing"
	"time"

	"github.com/uvtep/uvtep/internal/nettest"
)

// How much a TCP connection carries, bytes: everywhere, and in the few places
// that stand for all others. With UVTEP_TEST=full it is much everywhere.
const (
	little = 8 << 20
	much   = 200 << 20
)

// full reports whether everything is to be tried that there is.
func full() bool { return os.Getenv("UVTEP_TEST") == "full" }

// amount is how much a test carries that would rather carry much.
func amount(representative bool) int64 {
	if full() || representative && !testing.Short() {
		return much
	}
	return little
}

// listen opens a TCP socket of a namespace.
func listen(t testing.TB, ns *nettest.NS, ip string) net.Listener {
	t.Helper()
	var l net.Listener
	ns.Do(func() {
		var err error
		if l, err = net.Listen("tcp", net.JoinHostPort(ip, "0")); err != nil {
			t.Fatal(err)
		}
	})
	return l
}

// dial connects from a namespace.
func dial(t testing.TB, ns *nettest.NS, addr string) net.Conn {
	t.Helper()
	var c net.Conn
	ns.Do(func() {
		var err error
		if c, err = net.DialTimeout("tcp", addr, 5*time.Second); err != nil {
			t.Fatal(err)
		}
	})
	return c
}

// carry sends n bytes over TCP from one namespace to an address of another, and
// compares what arrived with what was sent.
func carry(t testing.TB, from, to *nettest.NS, ip string, n int64) {
	t.Helper()
	l := listen(t, to, ip)
	defer l.Close()
	type result struct {
		sum   string
		bytes int64
		err   error
	}
	got := make(chan result, 1)
	go func() {
		var r result
		defer func() { got <- r }()
		c, err := l.Accept()
		if err != nil {
			r.err = err
			return
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(time.Minute))
		h := sha256.New()
		r.bytes, r.err = io.Copy(h, c)
		r.sum = fmt.Sprintf("%x", h.Sum(nil))
	}()
	c := dial(t, from, l.Addr().String())
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	h := sha256.New()
	began := time.Now()
	if _, err := io.Copy(io.MultiWriter(c, h), io.LimitReader(rand.NewChaCha8([32]byte{byte(n)}), n)); err != nil {
		t.Fatalf("to %s: %v", ip, err)
	}
	c.Close()
	r := <-got
	if want := fmt.Sprintf("%x", h.Sum(nil)); r.err != nil || r.bytes != n || r.sum != want {
		t.Errorf("to %s: %d bytes arrived of %d, SHA-256 %s, want %s: %v", ip, r.bytes, n, r.sum, want, r.err)
	}
	if n >= much {
		t.Logf("%d MB to %s: %.2f Gbit/s", n>>20, ip, float64(n)*8/time.Since(began).Seconds()/1e9)
	}
}

// exchange sends datagrams of many sizes up to longest (bytes of payload) from
// one namespace to an address of another, which sends each back. One that is
// lost or changed, as by a checksum that nobody finished, fails the test.
func exchange(t testing.TB, from, to *nettest.NS, ip string, longest int) {
	t.Helper()
	var server net.PacketConn
	to.Do(func() {
		var err error
		if server, err = net.ListenPacket("udp", net.JoinHostPort(ip, "0")); err != nil {
			t.Fatal(err)
		}
	})
	defer server.Close()
	go func() {
		buf := make([]byte, 65536)
		for {
			n, from, err := server.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = server.WriteTo(buf[:n], from) // the client misses what is lost
		}
	}()
	var c net.Conn
	from.Do(func() {
		var err error
		if c, err = net.Dial("udp", server.LocalAddr().String()); err != nil {
			t.Fatal(err)
		}
	})
	defer c.Close()
	buf := make([]byte, 65536)
	for _, size := range []int{1, 2, 17, 18, 19, 100, 511, 1000, longest - 1, longest} {
		out := make([]byte, size)
		for i := range out {
			out[i] = byte(i * size)
		}
		if _, err := c.Write(out); err != nil {
			t.Fatalf("%d bytes to %s: %v", size, ip, err)
		}
		c.SetReadDeadline(time.Now().Add(3 * time.Second))
		n, err := c.Read(buf)
		if err != nil {
			t.Errorf("%d bytes to %s did not come back: %v", size, ip, err)
		} else if !bytes.Equal(buf[:n], out) {
			t.Errorf("%d bytes to %s came back as %d other ones", size, ip, n)
		}
	}
}
