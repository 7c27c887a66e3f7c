package vtep

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/uvtep/uvtep/dhcpd/dhcpdtest"
	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/fdb"
)

func TestARateLetsAsManyASecondThroughAndASecondsWorthAtOnce(t *testing.T) {
	for _, perSecond := range []int{1, 2, 3, 7, 100, 1_000_000} {
		var r rate
		take := func(now time.Duration) (n int) {
			for r.take(now, perSecond, 1) {
				n++
			}
			return n
		}
		if n := take(0); n != perSecond {
			t.Errorf("%d a second: %d at once", perSecond, n)
		}
		if n := take(500 * time.Millisecond); n != perSecond/2 {
			t.Errorf("%d a second: %d after half a second", perSecond, n)
		}
		if n := take(time.Hour); n != perSecond {
			t.Errorf("%d a second: %d after an hour", perSecond, n)
		}
		if r.take(time.Hour-time.Second, perSecond, 1) {
			t.Errorf("%d a second: a clock that goes back lets more through", perSecond)
		}
	}
}

func TestAFairShareIsNeverMoreThanWhatIsLeftAndThereIsAlwaysSomeLeft(t *testing.T) {
	const places = 1024
	for users := 1; users < 100; users++ {
		has := make([]int, users)
		free := places
		for took := true; took; {
			took = false
			for i := range has {
				if fair(has[i], free) {
					has[i]++
					free--
					took = true
				}
			}
		}
		for i := range has {
			if want := places / (users + 1); has[i] < want-1 || has[i] > want+1 {
				t.Errorf("%d users: number %d has %d, want about %d", users, i, has[i], want)
			}
		}
		if !fair(0, free) {
			t.Errorf("%d users: there is no room for another", users)
		}
	}
}

// discoverOf is the DISCOVER of guest i.
func discoverOf(t testing.TB, i int) []byte {
	return broadcastBOOTP(t, mac(i), (&dhcpdtest.Client{MAC: hw(mac(i))}).Discover())
}

// Many messages, and nobody who takes them.
func TestWhoeverFloodsTheServiceTakesNoMoreThanHisShareOfItsRoom(t *testing.T) {
	r := newRig(t, Config{})
	var segs []*Segment
	for _, vni := range []encap.VNI{100, 200, 300} {
		segs = append(segs, r.segment(SegmentConfig{VNI: vni, Peers: []netip.Addr{peer2}, DHCP: dhcpConfig(9)}, fmt.Sprint(vni, "a"), fmt.Sprint(vni, "b")))
	}
	queued := func(send func()) int {
		was := len(r.v.requests)
		for range dhcpQueueLen {
			send()
			r.read()
		}
		return len(r.v.requests) - was
	}
	b := discoverOf(t, 1)
	fromPort := func(name string) func() { return func() { r.taps.Device(name).Send(b) } }
	fromPeer := func(vni encap.VNI) func() { return func() { r.inject(peer2, 0, vxlan(vni, b)) } }
	for _, c := range []struct {
		who      string
		send     func()
		from, to int // places that it gets
	}{
		{"a port", fromPort("100a"), dhcpQueueLen / 4, dhcpQueueLen / 2},
		{"another port of the segment", fromPort("100b"), 50, dhcpQueueLen / 4},
		{"a peer of the segment", fromPeer(100), 20, dhcpQueueLen / 4},
		{"a port of another segment", fromPort("200a"), dhcpQueueLen / 8, dhcpQueueLen / 4},
		{"a peer of a third one", fromPeer(300), dhcpQueueLen / 16, dhcpQueueLen / 4},
	} {
		if n := queued(c.send); n < c.from || n > c.to {
			t.Errorf("%s gets %d places of %d, want %d..%d", c.who, n, dhcpQueueLen, c.from, c.to)
		}
	}
	r.turn()
	if len(r.v.freeRequests) != dhcpQueueLen {
		t.Errorf("%d places are free at the end", len(r.v.freeRequests))
	}
	for _, s := range segs {
		if s.waiting.Load() != 0 {
			t.Errorf("segment %v still waits for %d", s.VNI(), s.waiting.Load())
		}
		for _, p := range s.view.Load().ports {
			if p.waiting.Load() != 0 {
				t.Errorf("port %s still waits for %d", p.cfg.Name, p.waiting.Load())
			}
		}
	}
	if d := r.dropped(); strings.Trim(strings.NewReplacer("dhcp_queue_full@100", "", "dhcp_queue_full@200", "", "dhcp_queue_full@300", "").Replace(d), " ") != "" {
		t.Errorf("drops: %s", d)
	}
}

// A client that asks anew each time is another one to the service.
func TestAPortMaySendAsManyDHCPMessagesASecondAsItsRateSays(t *testing.T) {
	now := time.Unix(1e9, 0)
	r := newRig(t, Config{Clock: func() time.Time { return now }})
	s := r.segment(SegmentConfig{VNI: 100, DHCP: dhcpConfig(200)}, "b")
	r.attach(s, PortConfig{Name: "a", DHCPRate: 5})
	ask := func(port string, n int) (answers int) {
		for i := range n {
			answers += len(r.send(port, discoverOf(t, i)))
		}
		return answers
	}
	if n := ask("a", 20); n != 5 {
		t.Errorf("%d answers of a burst, want 5", n)
	}
	if d := r.dropped(); d != strings.TrimSpace(strings.Repeat("dhcp_rate@100 ", 15)) {
		t.Errorf("drops: %s", d)
	}
	if n := ask("b", 20); n != 20 {
		t.Errorf("a port without a limit has %d answers", n)
	}
	now = now.Add(time.Second)
	if n := ask("a", 20); n != 5 {
		t.Errorf("%d answers a second later, want 5", n)
	}
	// Frames of other kinds are no DHCP messages.
	for range 20 {
		only(t, r.send("a", arpFor(t, fdb.Broadcast, mac(1), ip("192.168.100.77"), server)), "a")
	}
	for _, p := range s.Ports() {
		if want := map[string]int{"a": 5}[p.Name]; p.DHCPRate != want {
			t.Errorf("port %s tells a rate of %d", p.Name, p.DHCPRate)
		}
	}
}

func TestAPortThatChecksTheClientTakesMessagesOnlyOfWhoSendsThem(t *testing.T) {
	r := newRig(t, Config{})
	s := r.segment(SegmentConfig{VNI: 100, Peers: []netip.Addr{peer2}, DHCP: dhcpConfig(200)}, "b")
	r.attach(s, PortConfig{Name: "a", DHCPCheckMAC: true})
	msg := func(i int, edit func(msg []byte)) []byte {
		m := (&dhcpdtest.Client{MAC: hw(mac(i))}).Discover()
		edit(m)
		return broadcastBOOTP(t, mac(1), m)
	}
	none := func([]byte) {}
	for _, c := range []struct {
		name  string
		port  string
		frame []byte
		want  string // the port that is answered
	}{
		{"its own", "a", msg(1, none), "a"},
		{"another's", "a", msg(2, none), ""},
		{"another's where nobody looks", "b", msg(2, none), "b"},
		{"one of another length", "a", msg(1, func(m []byte) { m[2] = 16 }), ""},
		// There is no subnet for it, which is what the service says.
		{"one of a relay", "a", msg(2, func(m []byte) { copy(m[24:], []byte{10, 0, 0, 1}) }), ""},
	} {
		var got []string
		for _, o := range r.send(c.port, c.frame) {
			got = append(got, o.where)
		}
		expect(t, c.name, strings.Join(got, " "), c.want)
	}
	if d := r.dropped(); d != "dhcp_ignored@100 dhcp_spoofed@100 dhcp_spoofed@100" {
		t.Errorf("drops: %s", d)
	}
	for n := range 40 { // too short to say whose it is: no panic, and not spoofed
		if (*service4)(nil).spoofed(make([]byte, n), [6]byte{}) != (n >= 34) {
			t.Errorf("%d zero bytes", n)
		}
	}
}
