package underlay_test

import (
	"bytes"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/nettest"
	"github.com/uvtep/uvtep/internal/underlay"
	"golang.org/x/sys/unix"
)

var (
	hosts4 = world{a: netip.MustParseAddr("10.0.0.1"), b: netip.MustParseAddr("10.0.0.2"), group: netip.MustParseAddr("239.1.1.100")}
	hosts6 = world{a: netip.MustParseAddr("fd00::1"), b: netip.MustParseAddr("fd00::2"), group: netip.MustParseAddr("ff05::1:100")}
)

func TestAnAddressThatIsNotThisHostsIsRefused(t *testing.T) {
	ns := nettest.New(t, "a")
	for _, addr := range []string{"10.0.0.1", "fd00::1", "0.0.0.0", "::", "239.0.0.1", ""} {
		local, _ := netip.ParseAddr(addr)
		_, err := opener(ns)(config(local))
		wantErr(t, err, underlay.ErrNotLocal, addr)
	}
}

func TestAPortOfTheKernelsDriverIsInUse(t *testing.T) {
	for _, hosts := range []world{hosts4, hosts6} {
		w, a, _ := kernelWorld(t, hosts)
		a.Exec("ip", "link", "add", "vx0", "up", "type", "vxlan", "id", "7", "local", w.a.String(),
			"remote", w.b.String(), "dstport", itoa(port))
		_, err := w.openA(config(w.a))
		wantErr(t, err, underlay.ErrPortInUse, "kernel vxlan")
		a.Exec("ip", "link", "del", "vx0")
		mustOpen(t, w.openA, config(w.a))
	}
}

func TestAPortOfAnotherProgramIsInUse(t *testing.T) {
	w, a, _ := kernelWorld(t, hosts4)
	for _, shared := range []int{0, 1} {
		fd := -1
		a.Do(func() {
			var err error
			if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
				t.Fatal(err)
			}
			if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, shared); err != nil {
				t.Fatal(err)
			}
			if err := unix.Bind(fd, &unix.SockaddrInet4{Port: port}); err != nil { // of all addresses
				t.Fatal(err)
			}
		})
		_, err := w.openA(config(w.a))
		wantErr(t, err, underlay.ErrPortInUse, "another program")
		unix.Close(fd)
	}
}

func TestAnInterfaceThatIsNotThereIsNamed(t *testing.T) {
	w, a, _ := kernelWorld(t, hosts4)
	cfg := config(w.a)
	cfg.Device = "eth7"
	_, err := w.openA(cfg)
	wantErr(t, err, underlay.ErrNoDevice, "eth7")

	// An address of no interface: any of 127.0.0.0/8 is the host's.
	e := mustOpen(t, w.openA, config(netip.MustParseAddr("127.9.9.9")))
	_, err = e.MTU()
	wantErr(t, err, underlay.ErrNoDevice, "underlay.device")
	wantErr(t, join(e, w.group), underlay.ErrNoDevice, "underlay.device")

	e = mustOpen(t, w.openA, config(w.a))
	a.Exec("ip", "link", "del", "eth0")
	_, err = e.MTU()
	wantErr(t, err, underlay.ErrNoDevice, "eth0")
	wantErr(t, join(e, w.group), underlay.ErrNoDevice, "eth0")
}

func TestALackOfRightsIsTold(t *testing.T) {
	w, a, _ := kernelWorld(t, hosts4)
	cfg := config(w.a)
	cfg.Port = 80
	a.Do(func() {
		// Capabilities belong to the thread, and this one is thrown away.
		hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData
		if err := unix.Capset(&hdr, &none[0]); err != nil {
			t.Fatal(err)
		}
		_, err := underlay.Open(cfg)
		wantErr(t, err, underlay.ErrPermission, "1024")

		cfg.Port = port // and none are needed for the rest
		e, err := underlay.Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := join(e, w.group); err != nil {
			t.Error(err)
		}
		e.Close()
	})
}

func TestSourcePortsGiveWayToThoseThatAreTaken(t *testing.T) {
	w, _, _ := kernelWorld(t, hosts4)
	cfg := config(w.a)
	cfg.Port, cfg.SourceLow, cfg.SourceHigh = 50002, 50000, 50004
	a := mustOpen(t, w.openA, cfg)
	seen := w.sources()
	ps := packets(w.b, 64, 20)
	for i := range ps {
		ps[i].Entropy = uint32(i) << 26
	}
	mustWrite(t, a, ps)
	ports := seen()
	if len(ports) != 4 || ports[50002] != 0 {
		t.Errorf("source ports %v, want those of 50000-50004 but 50002", ports)
	}

	cfg.Port, cfg.SourceLow, cfg.SourceHigh = 50000, 50000, 50001
	_, err := w.openA(cfg) // the endpoint above has them
	wantErr(t, err, underlay.ErrPortInUse, "5000")
	cfg.SourceLow, cfg.SourceHigh = 3, 2
	if _, err := w.openA(cfg); err == nil {
		t.Error("a range that ends before it starts was taken")
	}
}

// sniff returns the IP packets that a sends to b in one go.
func sniff(t *testing.T, w world, b *nettest.NS, cfg underlay.Config, ps []underlay.Packet) [][]byte {
	t.Helper()
	fd := -1
	b.Do(func() {
		var err error
		const allNet = 0x0300 // ETH_P_ALL, in network byte order
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, allNet)
		if err != nil {
			t.Fatal(err)
		}
	})
	defer unix.Close(fd)
	mustWrite(t, mustOpen(t, w.openA, cfg), ps)
	var all [][]byte
	for deadline := time.Now().Add(5 * time.Second); len(all) < len(ps); {
		buf := make([]byte, 2048)
		n, from, err := unix.Recvfrom(fd, buf, 0)
		// b itself says by ICMP that nobody listens, and quotes what it got.
		if err == nil && from.(*unix.SockaddrLinklayer).Pkttype != unix.PACKET_OUTGOING && bytes.Contains(buf[:n], []byte("head")) {
			all = append(all, buf[:n])
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d packets on the wire, want %d", len(all), len(ps))
		}
	}
	return all
}

func TestTheOuterHeaderIsAsConfigured(t *testing.T) {
	for _, hosts := range []world{hosts4, hosts6} {
		for _, checksum := range []bool{true, false} {
			w, a, b := kernelWorld(t, hosts)
			a.Exec("ethtool", "-K", "eth0", "tx", "off") // the sum is to be in the packet
			cfg := config(w.a)
			cfg.TTL, cfg.Checksum = 33, checksum
			ps := append(packets(w.b, 2, 20), packets(w.group, 2, 20)...)
			ps[1].TTL, ps[1].TOS = 44, 0x12
			for i, p := range sniff(t, w, b, cfg, ps) {
				tos, ttl, sum, df, dst, payload := p[1], p[8], p[26:28], p[6]&0x40 != 0, p[16:20], p[28:]
				if w.a.Is6() {
					tos, ttl, sum, df, dst, payload = p[0]<<4|p[1]>>4, p[7], p[46:48], true, p[24:40], p[48:]
				}
				// Those to the host may have waited for its hardware address.
				wantTOS, wantTTL := uint8(0), uint8(33)
				if bytes.Equal(dst, w.b.AsSlice()) && payload[7] == 1 {
					wantTOS, wantTTL = 0x12, 44
				}
				if tos != wantTOS || ttl != wantTTL || !df || bytes.Equal(sum, []byte{0, 0}) == checksum {
					t.Errorf("packet %d with checksum %v: TOS %#x, TTL %d, DF %v, checksum %x", i, checksum, tos, ttl, df, sum)
				}
			}
		}
	}
}

func TestASocketThatIsFullIsToldApart(t *testing.T) {
	w, a, _ := kernelWorld(t, hosts4)
	cfg := config(w.a)
	cfg.SndBuf = 4608
	e := mustOpen(t, w.openA, cfg)
	// Packets to a neighbour that is not there wait for it, and fill the buffer.
	a.Sysctl("net/ipv4/neigh/eth0/unres_qlen_bytes", "1000000")
	ps := packets(netip.MustParseAddr("10.0.0.77"), 64, 1000)
	sent := e.Queues()[0].Write(ps)
	if sent == 0 || sent == len(ps) {
		t.Fatalf("%d of %d sent, want some", sent, len(ps))
	}
	for i := range ps {
		want := frame.NotDropped
		if i >= sent {
			want = frame.TunnelFull
		}
		if ps[i].Reason != want {
			t.Errorf("packet %d: %v, want %v", i, ps[i].Reason, want)
		}
	}
}

func TestWhatCannotBeRoutedIsAnErrorOfItsOwn(t *testing.T) {
	w, _, _ := kernelWorld(t, hosts4)
	a, b := mustOpen(t, w.openA, config(w.a)), mustOpen(t, w.openB, config(w.b))
	ps := packets(w.b, 3, 20)
	ps[1].Dst = underlay.NewRemote(netip.MustParseAddr("192.0.2.1"), port)
	if n := a.Queues()[0].Write(ps); n != 2 || ps[1].Reason != frame.TunnelError {
		t.Errorf("%d sent, reason %v", n, ps[1].Reason)
	}
	read(t, b, 2)
}

func TestTheQueueIsReadableWhenSomethingArrived(t *testing.T) {
	for _, hosts := range []world{hosts4, hosts6} {
		w, _, _ := kernelWorld(t, hosts)
		a, b := mustOpen(t, w.openA, config(w.a)), mustOpen(t, w.openB, config(w.b))
		if err := join(b, w.group); err != nil {
			t.Fatal(err)
		}
		q := b.Queues()[0]
		poll := func(timeout int) bool {
			t.Helper()
			fds := []unix.PollFd{{Fd: int32(q.Fd()), Events: unix.POLLIN}}
			for {
				n, err := unix.Poll(fds, timeout)
				if err == unix.EINTR {
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				return n == 1
			}
		}
		for _, dst := range []netip.Addr{w.b, w.group} {
			if poll(0) {
				t.Fatal("readable before anything was sent")
			}
			mustWrite(t, a, packets(dst, 1, 20))
			if !poll(5000) {
				t.Fatalf("not readable after a packet to %s", dst)
			}
			read(t, b, 1)
		}
	}
}

func TestWhatIsSentToASourcePortIsNotKept(t *testing.T) {
	w, a, _ := kernelWorld(t, hosts4)
	cfg := config(w.a)
	cfg.Sources, cfg.SourceLow, cfg.SourceHigh = 1, 50000, 50000
	mustOpen(t, w.openA, cfg)
	b := mustOpen(t, w.openB, config(w.b))
	ps := packets(w.a, 10, 20)
	for i := range ps {
		ps[i].Dst = underlay.NewRemote(w.a, 50000)
	}
	mustWrite(t, b, ps)
	for line := range strings.Lines(a.Exec("ss", "-Huan", "sport = :50000")) {
		if f := strings.Fields(line); f[1] != "0" {
			t.Errorf("%s bytes wait at a source socket", f[1])
		}
	}
}

func TestLinkLocalPeersHaveTheZoneOfTheLocalAddress(t *testing.T) {
	a, b := nettest.New(t, "a"), nettest.New(t, "b")
	nettest.Veth(t, a, "eth0", b, "eth0")
	a.Addr("eth0", "fe80::a/64")
	b.Addr("eth0", "fe80::b/64")
	local, remote := netip.MustParseAddr("fe80::a%eth0"), netip.MustParseAddr("fe80::b%eth0")
	ea, eb := mustOpen(t, opener(a), config(local)), mustOpen(t, opener(b), config(remote))
	var ps []underlay.Packet
	a.Do(func() { ps = packets(remote, 1, 20) })
	mustWrite(t, ea, ps)
	if g := read(t, eb, 1)[0]; g.outer.Src != local {
		t.Errorf("from %s, want %s", g.outer.Src, local)
	}
	r := frame.NewBatch(8, 64)
	if n := testing.AllocsPerRun(100, func() {
		ea.Queues()[0].Write(ps)
		r.Clear()
		fill(t, eb.Queues()[0], r, 1)
	}); n != 0 {
		t.Errorf("%v allocations a packet from a zone", n)
	}
}

func TestReadingAndWritingAllocateNothing(t *testing.T) {
	for _, hosts := range []world{hosts4, hosts6} {
		w, _, _ := kernelWorld(t, hosts)
		a, b := mustOpen(t, w.openA, config(w.a)), mustOpen(t, w.openB, config(w.b))
		ps, r := packets(w.b, 100, 20), frame.NewBatch(frame.BatchLen, 2048)
		for i := range ps {
			ps[i].Entropy, ps[i].TOS, ps[i].TTL = uint32(i)<<25, uint8(i), uint8(i)
		}
		refused := hosts6.b // as any address of the other family
		if w.a.Is6() {
			refused = hosts4.b
		}
		ps[7].Dst = underlay.NewRemote(refused, port)
		if n := testing.AllocsPerRun(100, func() {
			sent := a.Queues()[0].Write(ps)
			for left, deadline := sent, time.Now().Add(5*time.Second); left > 0; left -= r.N {
				r.Clear()
				if _, err := b.Queues()[0].Read(r); err != nil {
					t.Fatal(err)
				}
				if time.Now().After(deadline) {
					t.Fatalf("%d of %d packets did not arrive", left, sent)
				}
			}
		}); n != 0 {
			t.Errorf("%v allocations a round", n)
		}
	}
}

func TestNoDescriptorIsLeftOpen(t *testing.T) {
	w, _, _ := kernelWorld(t, hosts4)
	count := func() int {
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(fds)
	}
	cycle := func() {
		cfg := config(w.a)
		cfg.Queues = 2
		e, err := w.openA(cfg)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := join(e, w.group); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := w.openA(cfg); err == nil {
			t.Fatal("opened twice")
		}
		cfg.SourceLow, cfg.SourceHigh, cfg.Port = port, port, port+1 // the source port is taken
		if _, err := w.openA(cfg); err == nil {
			t.Fatal("opened without a source port")
		}
		e.Close()
	}
	cycle() // what the runtime opens once
	before := count()
	for range 3 {
		cycle()
	}
	if after := count(); after != before {
		t.Errorf("%d descriptors, %d before", after, before)
	}
}
