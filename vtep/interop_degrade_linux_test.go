package vtep_test

import (
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/nettest"
	"github.com/uvtep/uvtep/vtep"
)

// udpSockets are this process's UDP sockets at an address and a port.
func udpSockets(t testing.TB, local netip.Addr, is func(port uint16) bool) (fds []int) {
	t.Helper()
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		fd, err := strconv.Atoi(n.Name())
		if err != nil {
			t.Fatal(err)
		}
		sa, err := unix.Getsockname(fd)
		if err != nil {
			continue
		}
		var at netip.AddrPort
		switch sa := sa.(type) {
		case *unix.SockaddrInet4:
			at = netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
		case *unix.SockaddrInet6:
			at = netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port))
		}
		if at.Addr() == local && is(at.Port()) {
			fds = append(fds, fd)
		}
	}
	return fds
}

// A kernel that refuses to split in the middle of it all (EINVAL, as it does
// without checksums): nothing is lost, one line says so, and it is counted.
func TestAKernelThatRefusesToSplitIsNotAskedAgain(t *testing.T) {
	nettest.Root(t)
	for _, u := range families {
		t.Run(u.name, func(t *testing.T) {
			na, nb := cable(t, u)
			var log nettest.Log
			a := start(t, na, vtep.Config{Local: u.a, Logger: slog.New(slog.NewTextHandler(&log, nil))})
			b := start(t, nb, vtep.Config{Local: u.b})
			ga := a.guest(t, a.segment(t, vtep.SegmentConfig{VNI: 100, Peers: []netip.Addr{u.b}}), "ta", "192.168.100.1/24", "fd00:100::1/64")
			gb := b.guest(t, b.segment(t, vtep.SegmentConfig{VNI: 100, Peers: []netip.Addr{u.a}}), "tb", "192.168.100.2/24", "fd00:100::2/64")
			carry(t, ga, gb, "192.168.100.2", little)
			has := func() bool {
				return !slices.ContainsFunc(a.v.Stats().Workers, func(w vtep.WorkerStats) bool { return !slices.Contains(w.Offload, "udp-gso") })
			}
			if !has() || a.v.Stats().LostOffloads != 0 {
				t.Fatalf("workers %+v: the test is void", a.v.Stats().Workers)
			}
			const noCheck6TX, noCheck6RX = 101, 102 // UDP_NO_CHECK6_TX and _RX
			level, name := unix.SOL_SOCKET, unix.SO_NO_CHECK
			if u.a.Is6() {
				level, name = unix.IPPROTO_UDP, noCheck6TX
				for _, fd := range udpSockets(t, u.b, func(port uint16) bool { return port == encap.Port }) {
					if err := unix.SetsockoptInt(fd, unix.IPPROTO_UDP, noCheck6RX, 1); err != nil {
						t.Fatal(err)
					}
				}
			}
			fds := udpSockets(t, u.a, func(port uint16) bool { return port >= 49152 })
			if len(fds) != 16 {
				t.Fatalf("%d source sockets, want 16", len(fds))
			}
			for _, fd := range fds {
				if err := unix.SetsockoptInt(fd, level, name, 1); err != nil {
					t.Fatal(err)
				}
			}
			burst(t, ga, gb, "192.168.100.2")
			if has() {
				t.Error("udp-gso is still said to be on")
			}
			carry(t, ga, gb, "192.168.100.2", little)
			carry(t, gb, ga, "192.168.100.1", little)
			burst(t, ga, gb, "fd00:100::2")
			eventually(t, "the loss is counted", func() bool { return a.v.Stats().LostOffloads == 1 })
			if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "offload=udp-gso") {
				t.Errorf("the log says %q, want one line of udp-gso", got)
			}
			for _, d := range a.v.Stats().Drops {
				if d.Reason != frame.NoWayOut {
					t.Errorf("dropped: %+v", d)
				}
			}
		})
	}
}
