package vtep_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"

	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/internal/nettest"
	"github.com/uvtep/uvtep/vtep"
)

// Of every flow, whatever the others do meanwhile, nothing arrives before what was
// sent before it.
func TestNoFlowIsReordered(t *testing.T) {
	nettest.Root(t)
	mixed := settings
	if full() {
		mixed = mixes()
	}
	for i, s := range mixed {
		for j, link := range []string{"virt", "wire"} {
			t.Run(s.name+"/"+link, func(t *testing.T) {
				u := families[(i+j)%2]
				na, nb := cable(t, u)
				if link == "wire" {
					nettest.Need(t, "ethtool")
					wire(na, nb)
				}
				base := s.base
				base.Workers = 2
				a, b := pair(t, base, u, na, nb)
				ga := a.guest(t, a.segment(t, vtep.SegmentConfig{VNI: 100, Peers: []netip.Addr{u.b}}), "ta", "192.168.100.1/24")
				gb := b.guest(t, b.segment(t, vtep.SegmentConfig{VNI: 100, Peers: []netip.Addr{u.a}}), "tb", "192.168.100.2/24")
				var streams sync.WaitGroup
				seen := nettest.Sniff(t, gb, "eth0")
				streams.Go(func() {
					for range 3 {
						stream(t, ga, gb, "192.168.100.2", "<in order>", little/2)
					}
				})
				numbered(t, ga, gb, "192.168.100.2")
				streams.Wait()
				needSteering(t, a)
				inOrder(t, seen.Done())
			})
		}
	}
}

// What answers a flow's first packets must not move it elsewhere while more of it
// is on its way.
func TestAFlowIsInOrderFromItsFirstPacketOn(t *testing.T) {
	nettest.Root(t)
	nettest.Need(t, "ping")
	for i, s := range settings {
		t.Run(s.name, func(t *testing.T) {
			u := families[i]
			na, nb := cable(t, u)
			base := s.base
			base.Workers = 2
			a, b := pair(t, base, u, na, nb)
			ga := a.guest(t, a.segment(t, vtep.SegmentConfig{VNI: 101, Peers: []netip.Addr{u.b}}), "ta", "192.168.100.1/24")
			gb := b.guest(t, b.segment(t, vtep.SegmentConfig{VNI: 101, Peers: []netip.Addr{u.a}}), "tb", "192.168.100.2/24")
			needSteering(t, a)
			ping(ga, "192.168.100.2") // what waits for its neighbour may leave behind what does not
			seen := nettest.Sniff(t, gb, "eth0")
			answered(t, ga, gb, "192.168.100.2")
			shortly(t, ga, gb, "192.168.100.2")
			inOrder(t, seen.Done())
		})
	}
}

// needSteering ends a test where the kernel lets nobody choose the queues of a
// TAP, so that flows may be reordered.
func needSteering(t *testing.T, h *host) {
	t.Helper()
	for _, s := range h.v.Segments() {
		for _, p := range s.Ports() {
			if !slices.Contains(p.Offload, "steering") {
				nettest.Missing(t, "no right to load a program that chooses the queues of "+p.Name+" (CAP_BPF)")
			}
		}
	}
}

// A flow, and what answers it, is one worker's at either end, whatever the number
// of its segment.
func TestAFlowMeetsItsAnswersAtOneWorker(t *testing.T) {
	nettest.Root(t)
	nettest.Need(t, "ping")
	for i, u := range families {
		na, nb := cable(t, u)
		a, b := pair(t, vtep.Config{Workers: 2}, u, na, nb)
		vni := encap.VNI(100 + i)
		ga := a.guest(t, a.segment(t, vtep.SegmentConfig{VNI: vni, Peers: []netip.Addr{u.b}}), "ta", "192.168.100.1/24")
		gb := b.guest(t, b.segment(t, vtep.SegmentConfig{VNI: vni, Peers: []netip.Addr{u.a}}), "tb", "192.168.100.2/24")
		needSteering(t, a)
		ping(ga, "192.168.100.2")
		in := udpSocket(t, gb, "192.168.100.2")
		dst, buf := in.LocalAddr().(*net.UDPAddr).AddrPort(), make([]byte, 100)
		used := map[int]bool{}
		for flow := range 20 {
			const each = 60
			c := udpSocket(t, ga, "0.0.0.0")
			before := [][]vtep.WorkerStats{a.v.Stats().Workers, b.v.Stats().Workers}
			for range each {
				if _, err := c.WriteToUDPAddrPort([]byte("there"), dst); err != nil {
					t.Fatal(err)
				}
				for _, end := range []*net.UDPConn{in, c} {
					end.SetReadDeadline(time.Now().Add(5 * time.Second))
					_, from, err := end.ReadFromUDPAddrPort(buf)
					if err == nil && end == in {
						_, err = in.WriteToUDPAddrPort([]byte("back"), from)
					}
					if err != nil {
						t.Fatal(err)
					}
				}
			}
			for h, host := range []*host{a, b} {
				var read []uint64
				for w, s := range host.v.Stats().Workers {
					read = append(read, s.RxPackets-before[h][w].RxPackets)
				}
				// The kernels look for each other at times.
				if slices.Max(read) < 2*each || slices.Min(read) > each/4 {
					t.Errorf("VNI %v, flow %d: the workers of host %d read %v frames, want all by one", vni, flow, h, read)
				}
				used[slices.Index(read, slices.Max(read))] = true
			}
		}
		if len(used) != 2 {
			t.Errorf("VNI %v: one worker has all flows", vni)
		}
	}
}

// answered begins many flows of datagrams one after the other, each of which is
// answered while it goes on.
func answered(t *testing.T, from, to *nettest.NS, ip string) {
	t.Helper()
	const flows, each = 200, 40
	in := udpSocket(t, to, ip)
	dst := in.LocalAddr().(*net.UDPAddr).AddrPort()
	buf := make([]byte, 2048)
	for f := range uint32(flows) {
		out := udpSocket(t, from, "0.0.0.0")
		sent := make(chan error, 1)
		go func() {
			for n := range uint32(each) {
				if _, err := out.WriteToUDPAddrPort(datagram(f, n, 100), dst); err != nil {
					sent <- err
					return
				}
			}
			sent <- nil
		}()
		in.SetReadDeadline(time.Now().Add(5 * time.Second))
		for n := range uint32(each) {
			got, who, err := in.ReadFromUDPAddrPort(buf)
			if err != nil {
				t.Fatalf("flow %d: %d of %d datagrams arrived: %v", f, n, each, err)
			}
			if d := buf[:got]; binary.BigEndian.Uint32(d) != n || binary.BigEndian.Uint32(d[4:]) != f {
				t.Fatalf("flow %d: datagram %d where %d was to come", f, binary.BigEndian.Uint32(d), n)
			}
			if _, err := in.WriteToUDPAddrPort([]byte("answer"), who); err != nil {
				t.Fatal(err)
			}
		}
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
		out.Close()
	}
}

// shortly makes many short connections that send as soon as they are there.
func shortly(t *testing.T, from, to *nettest.NS, ip string) {
	t.Helper()
	l := listen(t, to, ip)
	defer l.Close()
	var got sync.WaitGroup
	got.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			got.Go(func() {
				defer c.Close()
				_, _ = io.Copy(io.Discard, c) // the client misses what is lost
			})
		}
	})
	for range 100 {
		c := dial(t, from, l.Addr().String())
		c.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := c.Write(make([]byte, 20000)); err != nil {
			t.Fatal(err)
		}
		if err := c.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 1)); err != io.EOF {
			t.Fatalf("the other end: %v", err)
		}
		c.Close()
	}
	l.Close()
	got.Wait()
}

// numbered sends datagrams of many flows at once, now one by one and now many in
// a system call, each with its number in its flow, as fast as they are read.
func numbered(t *testing.T, from, to *nettest.NS, ip string) {
	t.Helper()
	const flows, rounds = 24, 60
	in := udpSocket(t, to, ip)
	setOption(t, in, unix.IPPROTO_UDP, udpGRO, 1)
	dst := in.LocalAddr().(*net.UDPAddr).AddrPort()
	var out [flows]*net.UDPConn
	for f := range out {
		out[f] = udpSocket(t, from, "0.0.0.0")
	}
	next := [flows]uint32{}
	var expect [flows]uint32
	buf, oob := make([]byte, 1<<16), make([]byte, 128)
	sent, got := 0, 0
	read := func(all int) {
		t.Helper()
		in.SetReadDeadline(time.Now().Add(5 * time.Second))
		for got < all {
			n, oobn, _, _, err := in.ReadMsgUDPAddrPort(buf, oob)
			if err != nil {
				t.Fatalf("%d of %d datagrams arrived: %v", got, sent, err)
			}
			for _, d := range datagrams(t, buf[:n], oob[:oobn]) {
				n, f := binary.BigEndian.Uint32(d), binary.BigEndian.Uint32(d[4:])
				if n != expect[f] {
					t.Fatalf("flow %d: datagram %d where %d was to come", f, n, expect[f])
				}
				expect[f]++
				got++
			}
		}
	}
	for round := range rounds {
		for f, c := range out {
			size, n := 20+(f*97+round*31)%1300, 1+(f+round)%7
			var data []byte
			for range n {
				data = append(data, datagram(uint32(f), next[f], size)...)
				next[f]++
			}
			var ctl []byte
			if n > 1 {
				ctl = segmentSize(size)
			}
			if _, _, err := c.WriteMsgUDPAddrPort(data, ctl, dst); err != nil {
				t.Fatal(err)
			}
			sent += n
			read(sent - 200) // so that no queue overflows
		}
	}
	read(sent)
}

// inOrder looks at the IPv4 identifications of TCP segments, which a Linux sender
// counts up in each connection from its SYN on, also for what it sends again. It is
// 0 in what no connection sends, as what answers a SYN.
func inOrder(t *testing.T, frames []nettest.Frame) {
	t.Helper()
	seen, n := map[string]uint16{}, 0
	for _, f := range frames {
		p := gopacket.NewPacket(f.Bytes, layers.LayerTypeEthernet, gopacket.NoCopy)
		ip, _ := p.NetworkLayer().(*layers.IPv4)
		tcp, _ := p.TransportLayer().(*layers.TCP)
		if ip == nil || tcp == nil || ip.Id == 0 {
			continue
		}
		flow := fmt.Sprint(tcp.SrcPort, " to ", tcp.DstPort)
		if last, ok := seen[flow]; ok && int16(ip.Id-last) <= 0 {
			t.Fatalf("TCP %s: segment %d arrived after %d", flow, ip.Id, last)
		}
		seen[flow] = ip.Id
		n++
	}
	if len(seen) < 3 || n < 100 {
		t.Errorf("%d segments of %d connections were looked at", n, len(seen))
	}
}
