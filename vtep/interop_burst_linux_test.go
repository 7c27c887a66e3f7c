package vtep_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/uvtep/uvtep/internal/nettest"
)

// Options of UDP sockets, as in linux/udp.h.
const (
	udpSegment = 103
	udpGRO     = 104
)

// udpSocket opens a UDP socket of a namespace, with room for all that a test
// sends at once.
func udpSocket(t testing.TB, ns *nettest.NS, ip string) *net.UDPConn {
	t.Helper()
	var c *net.UDPConn
	ns.Do(func() {
		var err error
		if c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(ip), 0))); err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(func() { c.Close() })
	setOption(t, c, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20)
	return c
}

func setOption(t testing.TB, c *net.UDPConn, level, name, value int) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if ctlErr := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), level, name, value) }); ctlErr != nil || err != nil {
		t.Fatal(ctlErr, err)
	}
}

// datagram is the nth datagram of a flow, of size bytes, which it begins with as
// far as there is room.
func datagram(flow, n uint32, size int) []byte {
	var head [12]byte
	binary.BigEndian.PutUint32(head[:], n)
	binary.BigEndian.PutUint32(head[4:], flow)
	binary.BigEndian.PutUint32(head[8:], uint32(size))
	b := bytes.Repeat([]byte{byte(flow*31 + n)}, size)
	copy(b, head[:])
	return b
}

// burstSizes are lengths of a burst's datagrams, the last of which is shorter.
var burstSizes = []struct{ size, n, last int }{
	{1200, 40, 1200}, {600, 60, 13}, {100, 64, 99}, {12, 30, 12}, {4, 40, 3}, {1, 20, 1}, {1000, 1, 1000}, {1300, 2, 700},
}

// burst sends datagrams from one namespace to an address of another, many in one
// system call (UDP_SEGMENT), and reads them there by a socket that takes many at
// once (UDP_GRO) and by one that does not. Each has to arrive as it was, in order.
func burst(t testing.TB, from, to *nettest.NS, ip string) {
	t.Helper()
	any := "0.0.0.0"
	if netip.MustParseAddr(ip).Is6() {
		any = "::"
	}
	acquaint(t, from, to, ip, any)
	for _, gro := range []int{0, 1} {
		in, out := udpSocket(t, to, ip), udpSocket(t, from, any)
		setOption(t, in, unix.IPPROTO_UDP, udpGRO, gro)
		dst := in.LocalAddr().(*net.UDPAddr).AddrPort()
		var want [][]byte
		for flow, s := range burstSizes {
			var data []byte
			for n := range s.n {
				size := s.size
				if n == s.n-1 {
					size = s.last
				}
				d := datagram(uint32(flow), uint32(n), size)
				want, data = append(want, d), append(data, d...)
			}
			if _, _, err := out.WriteMsgUDPAddrPort(data, segmentSize(s.size), dst); err != nil {
				t.Fatalf("a burst of %d datagrams of %d bytes to %s: %v", s.n, s.size, ip, err)
			}
		}
		var got [][]byte
		buf, oob := make([]byte, 1<<16), make([]byte, 128)
		in.SetReadDeadline(time.Now().Add(3 * time.Second))
		for len(got) < len(want) {
			n, oobn, _, _, err := in.ReadMsgUDPAddrPort(buf, oob)
			if err != nil {
				t.Errorf("bursts to %s, GRO %d: %d of %d datagrams arrived: %v", ip, gro, len(got), len(want), err)
				break
			}
			got = append(got, datagrams(t, buf[:n], oob[:oobn])...)
		}
		for i, d := range got {
			if i >= len(want) || !bytes.Equal(d, want[i]) {
				t.Errorf("bursts to %s, GRO %d: datagram %d is %s", ip, gro, i, named(d))
				return
			}
		}
	}
}

// acquaint has a datagram go through first, so that the sender knows its
// neighbour: what a kernel sends the moment that it learns an address overtakes
// what has waited for it.
func acquaint(t testing.TB, from, to *nettest.NS, ip, any string) {
	t.Helper()
	in, out := udpSocket(t, to, ip), udpSocket(t, from, any)
	eventually(t, "a datagram reaches "+ip, func() bool {
		if _, err := out.WriteToUDP([]byte{1}, in.LocalAddr().(*net.UDPAddr)); err != nil {
			t.Fatal(err)
		}
		in.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		_, err := in.Read(make([]byte, 1))
		return err == nil
	})
}

func named(d []byte) string {
	if len(d) < 12 {
		return fmt.Sprintf("%x", d)
	}
	return fmt.Sprintf("%d of flow %d, of %d bytes, sent with %d", binary.BigEndian.Uint32(d), binary.BigEndian.Uint32(d[4:]), len(d), binary.BigEndian.Uint32(d[8:]))
}

// segmentSize is the control message that makes one write many datagrams.
func segmentSize(size int) []byte {
	b := make([]byte, unix.CmsgSpace(2))
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
	h.Level, h.Type = unix.IPPROTO_UDP, udpSegment
	h.SetLen(unix.CmsgLen(2))
	binary.NativeEndian.PutUint16(b[unix.CmsgLen(0):], uint16(size))
	return b
}

// datagrams are those that one read yielded.
func datagrams(t testing.TB, b, oob []byte) (all [][]byte) {
	t.Helper()
	size := len(b)
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range msgs {
		if m.Header.Level == unix.IPPROTO_UDP && m.Header.Type == udpGRO {
			size = int(binary.NativeEndian.Uint32(m.Data))
		}
	}
	for len(b) > size && size > 0 {
		all, b = append(all, bytes.Clone(b[:size])), b[size:]
	}
	return append(all, bytes.Clone(b))
}
