package vtep_test

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"

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
				seen := sniff(t, gb, "eth0")
				streams.Go(func() {
					for range 3 {
						stream(t, ga, gb, "192.168.100.2", "<in order>", little/2)
					}
				})
				numbered(t, ga, gb, "192.168.100.2")
				streams.Wait()
				inOrder(t, seen.done())
			})
		}
	}
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
// counts up in each connection, also for what it sends again. The first ones of a
// connection are left out: a kernel moves a flow to the queue of its TAP by which
// the first answer came, and what is in the former one may be read later.
func inOrder(t *testing.T, frames []sniffed) {
	t.Helper()
	const first = 64
	type connection struct{ opened, last uint16 }
	seen, n := map[string]*connection{}, 0
	for _, f := range frames {
		p := gopacket.NewPacket(f.bytes, layers.LayerTypeEthernet, gopacket.NoCopy)
		ip, _ := p.NetworkLayer().(*layers.IPv4)
		tcp, _ := p.TransportLayer().(*layers.TCP)
		if ip == nil || tcp == nil || tcp.SYN {
			continue
		}
		flow := fmt.Sprint(tcp.SrcPort, " to ", tcp.DstPort)
		c := seen[flow]
		if c == nil {
			c = &connection{ip.Id, ip.Id}
			seen[flow] = c
		}
		if ip.Id-c.opened < first || c.opened-ip.Id < first {
			continue
		}
		if int16(ip.Id-c.last) <= 0 {
			t.Fatalf("TCP %s: segment %d arrived after %d", flow, ip.Id, c.last)
		}
		c.last = ip.Id
		n++
	}
	if len(seen) < 3 || n < 100 {
		t.Errorf("%d segments of %d connections were looked at", n, len(seen))
	}
}
