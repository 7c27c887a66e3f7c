package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/uvtep/uvtep/internal/nettest"
)

// stream is a numbered stream of datagrams between two guests.
type stream struct {
	rate     int           // datagrams a second, at most
	sent     uint64        // the sender's
	last     atomic.Uint64 // highest number that arrived
	lost     uint64        // the receiver's, as what follows
	late     uint64        // came after a higher one
	longest  time.Duration // without any
	end      atomic.Bool
	in, out  *net.UDPConn
	finished sync.WaitGroup
}

// window is how many datagrams may be under way: fewer than any queue on their
// way holds, so that none is lost where a busy machine stops somebody for a while.
const window = 200

func newStream(t *testing.T, from, to *nettest.NS, at netip.AddrPort, rate int) *stream {
	t.Helper()
	s := &stream{rate: rate}
	var err error
	to.Do(func() { s.in, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at)) })
	if err == nil {
		from.Do(func() { s.out, err = net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(at)) })
	}
	if err != nil {
		t.Fatal(err)
	}
	s.finished.Go(s.receive)
	s.finished.Go(s.send)
	return s
}

func (s *stream) send() {
	b := make([]byte, 64)
	for start := time.Now(); ; {
		due := uint64(time.Since(start).Seconds() * float64(s.rate))
		if s.end.Load() && s.sent > 0 {
			break
		}
		for s.sent < due && s.sent-s.last.Load() < window {
			binary.BigEndian.PutUint64(b, s.sent+1)
			if _, err := s.out.Write(b); err != nil {
				break
			}
			s.sent++
		}
		time.Sleep(time.Millisecond)
	}
	// Whatever is still on its way has time to arrive.
	for deadline := time.Now().Add(5 * time.Second); s.last.Load() < s.sent && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	s.in.SetReadDeadline(time.Now())
}

func (s *stream) receive() {
	b := make([]byte, 128)
	before := time.Now()
	for {
		n, err := s.in.Read(b)
		if err != nil {
			return
		}
		if n < 64 {
			continue
		}
		now := time.Now()
		s.longest = max(s.longest, now.Sub(before))
		before = now
		switch nr, last := binary.BigEndian.Uint64(b), s.last.Load(); {
		case nr <= last:
			s.late++
		default:
			s.lost += nr - last - 1
			s.last.Store(nr)
		}
	}
}

// stop ends the stream and says what of it got lost.
func (s *stream) stop(t *testing.T) {
	t.Helper()
	s.end.Store(true)
	s.finished.Wait()
	s.in.Close()
	s.out.Close()
	s.lost += s.sent - s.last.Load()
	t.Logf("%d datagrams, the longest pause between two %v", s.sent, s.longest)
	if s.lost > 0 || s.late > 0 {
		t.Errorf("of %d datagrams %d were lost and %d came out of order", s.sent, s.lost, s.late)
	}
}

// bulk sends a TCP stream until the returned function is called, which wants it
// to have got on without a timeout, and tells the bytes.
func bulk(t *testing.T, from, to *nettest.NS, at netip.AddrPort) (stop func() int64) {
	t.Helper()
	var l *net.TCPListener
	var c *net.TCPConn
	var err error
	to.Do(func() { l, err = net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(at)) })
	if err == nil {
		from.Do(func() { c, err = net.DialTCP("tcp4", nil, net.TCPAddrFromAddrPort(at)) })
	}
	if err != nil {
		t.Fatal(err)
	}
	var both sync.WaitGroup
	var got int64
	both.Go(func() {
		defer l.Close()
		in, err := l.Accept()
		if err == nil {
			got, err = io.Copy(io.Discard, in)
			in.Close()
		}
		if err != nil {
			t.Errorf("the TCP stream: %v", err)
		}
	})
	var end atomic.Bool
	var info *unix.TCPInfo
	both.Go(func() {
		defer c.Close()
		// Some 0.5 Gbit/s: what fills every queue is not what this is about.
		for b := make([]byte, 64<<10); !end.Load(); time.Sleep(time.Millisecond) {
			if _, err := c.Write(b); err != nil {
				t.Errorf("the TCP stream: %v", err)
				return
			}
		}
		raw, err := c.SyscallConn()
		if err == nil {
			err = errors.Join(raw.Control(func(fd uintptr) { info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) }), err)
		}
		if err != nil {
			t.Error(err)
		}
	})
	return func() int64 {
		end.Store(true)
		both.Wait()
		if info != nil {
			t.Logf("%d bytes by TCP, %d segments sent again", got, info.Total_retrans)
		}
		return got
	}
}

// A reload that adds, changes and removes a hundred segments, with a port each,
// loses nothing of what goes through the one that stays, at either end.
func TestAReloadUnderTrafficLosesNothingElsewhere(t *testing.T) {
	nettest.Root(t)
	const segments, rate = 100, 20_000
	var hosts [2]*host
	var guests [2]*nettest.NS
	for i := range hosts {
		hosts[i] = &host{NS: nettest.New(t, fmt.Sprintf("d%d", i)), t: t, dir: t.TempDir()}
		hosts[i].file = filepath.Join(hosts[i].dir, "uvtep.yaml")
		guests[i] = nettest.New(t, fmt.Sprintf("g%d", i))
	}
	nettest.Veth(t, hosts[0].NS, "ul", hosts[1].NS, "ul")
	// write gives host i its segment and further ones.
	write := func(i int, further ...string) {
		text := fmt.Sprintf(`underlay: {local: 10.9.0.%d}
workers: 2
state: %s/state
api: {socket: %s, http: ""}
segments:
  - vni: 100
    peers: [10.9.0.%d]
    ports: [{tap: tap0, netns: %s, rename: eth0}]
%s`, i+1, hosts[i].dir, hosts[i].socket(), 2-i, guests[i].Path, strings.Join(further, ""))
		if err := os.WriteFile(hosts[i].file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var daemons [2]*process
	for i, h := range hosts {
		h.Addr("ul", fmt.Sprintf("10.9.0.%d/24", i+1))
		write(i)
		daemons[i] = h.run()
		guests[i].Addr("eth0", fmt.Sprintf("192.168.100.%d/24", i+1))
	}
	ping(t, guests[0], netip.MustParseAddr("192.168.100.2"))

	udp := newStream(t, guests[0], guests[1], netip.MustParseAddrPort("192.168.100.2:7000"), rate)
	back := newStream(t, guests[1], guests[0], netip.MustParseAddrPort("192.168.100.1:7000"), rate)
	tcp := bulk(t, guests[0], guests[1], netip.MustParseAddrPort("192.168.100.2:7001"))
	for _, step := range []struct {
		name, segment string
	}{
		{"added", "  - {vni: %d, peers: [10.9.0.%d, 10.9.0.77], ports: [{tap: more%d}]}\n"},
		{"changed", "  - {vni: %d, mtu: 1400, max_macs: 7, peers: [10.9.0.%d, 10.9.0.78], ports: [{tap: more%d, isolated: true}]}\n"},
		{"removed", ""},
	} {
		start, before := time.Now(), udp.last.Load()
		var both sync.WaitGroup
		for i, h := range hosts {
			var further []string
			for n := range segments {
				if step.segment != "" {
					further = append(further, fmt.Sprintf(step.segment, 1000+n, 2-i, n))
				}
			}
			write(i, further...)
			both.Go(func() {
				if r := h.client("reload"); r.code != 0 || strings.Count(r.stdout, "\n") != segments {
					t.Errorf("%s: exit %d, %s%s", step.name, r.code, r.stdout, r.stderr)
				}
			})
		}
		both.Wait()
		t.Logf("%d segments %s at either end in %v, in which %d datagrams arrived", segments, step.name, time.Since(start).Round(time.Millisecond), udp.last.Load()-before)
	}
	if tcp() == 0 {
		t.Error("nothing went by TCP")
	}
	udp.stop(t)
	back.stop(t)
	for i := range hosts {
		drops := hosts[i].show("drops", "--vni", "100")
		if len(drops) > 0 {
			t.Errorf("host %d dropped %v", i, drops)
		}
		daemons[i].stop()
	}
}
