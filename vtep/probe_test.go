package vtep

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/google/gopacket/layers"

	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/frame"
)

// probing is dhcpConfig with conflict probes.
func probing(n int) *DHCPConfig {
	cfg := dhcpConfig(n)
	cfg.Server.Probe = 500 * time.Millisecond
	return cfg
}

// arpAnswer is a station's answer to who asked.
func arpAnswer(t testing.TB, dst, src fdb.MAC, who, target netip.Addr) []byte {
	b := arpFor(t, dst, src, who, target)
	b[14+7] = frame.ARPReply
	return b
}

func TestAProbeAsksEverybodyInItsSegment(t *testing.T) {
	for _, local := range []bool{false, true} {
		r := newRig(t, Config{Accept: AcceptAny})
		cfg := probing(9)
		cfg.ServeLocal = local
		s := r.segment(SegmentConfig{VNI: 100, Peers: []netip.Addr{peer2, peer3}, Group: ip("239.1.1.1"), DHCP: cfg}, "a", "b")
		r.attach(s, PortConfig{Name: "c", Isolated: true})
		r.segment(SegmentConfig{VNI: 200, Peers: []netip.Addr{peer2}, DHCP: probing(9)}, "x")
		s.probe(ip("192.168.100.10"))
		r.turn()
		where := ""
		for _, o := range r.outs() {
			where += o.where + " "
			p := honest(t, o.bytes)
			a, e := p.Layer(layers.LayerTypeARP).(*layers.ARP), p.Layer(layers.LayerTypeEthernet).(*layers.Ethernet)
			own := fmt.Sprint(hw(serviceMAC(self, 100)))
			if a.Operation != layers.ARPRequest || fmt.Sprint(e.SrcMAC, e.DstMAC, a.SourceProtAddress, a.DstProtAddress, a.DstHwAddress) !=
				own+" ff:ff:ff:ff:ff:ff [0 0 0 0] [192 168 100 10] [0 0 0 0 0 0]" || e.SrcMAC.String() != own || fmt.Sprint(hw(fdb.MACOf(a.SourceHwAddress))) != own {
				t.Errorf("the probe: %v", p)
			}
			if o.where[0] == '@' && o.vni != 100 {
				t.Errorf("in segment %v", o.vni)
			}
		}
		if want := "a b c @10.9.0.2 @10.9.0.3 @239.1.1.1 "; where != want {
			t.Errorf("went to %q, want %q", where, want)
		}
		if d := r.dropped(); d != "" {
			t.Errorf("drops: %s", d)
		}
	}
}

// hears is what the service is told of, as address, MAC and whether it was asked.
func (r *rig) hears() string {
	out := ""
	r.read()
	for len(r.v.heard) > 0 {
		h := <-r.v.heard
		h.seg.heard.Add(-1)
		out += fmt.Sprintf("%v %v %t;", h.ip, h.mac, h.asked)
	}
	return out
}

func TestTheServerHearsOfAnAddressThatItAskedAboutAndOfOneThatIsAnnounced(t *testing.T) {
	own, asked, other := serviceMAC(self, 100), ip("192.168.100.10"), ip("192.168.100.50")
	zero := netip.IPv4Unspecified()
	for _, c := range []struct {
		name  string
		frame []byte
		heard string // of the asked one
		goes  string // where the frame goes besides
	}{
		{"the answer", arpAnswer(t, own, mac(1), asked, zero), "192.168.100.10 02:00:00:00:00:01 true;", ""},
		{"an answer that comes too late or for another", arpAnswer(t, own, mac(1), other, zero), "", ""},
		{"an answer to everybody", arpAnswer(t, fdb.Broadcast, mac(1), asked, asked), "192.168.100.10 02:00:00:00:00:01 true;", "flood"},
		{"a question of its owner", arpFor(t, fdb.Broadcast, mac(1), asked, other), "192.168.100.10 02:00:00:00:00:01 true;", "flood"},
		{"an announcement of the asked one", arpFor(t, fdb.Broadcast, mac(1), asked, asked), "192.168.100.10 02:00:00:00:00:01 true;", "flood"},
		{"an announcement of another", arpFor(t, fdb.Broadcast, mac(1), other, other), "192.168.100.50 02:00:00:00:00:01 false;", "flood"},
		{"a question of somebody else", arpFor(t, fdb.Broadcast, mac(1), other, ip("192.168.100.51")), "", "flood"},
		{"somebody else's probe", arpFor(t, fdb.Broadcast, mac(1), zero, asked), "", "flood"},
		{"the probe of another VTEP's service", arpFor(t, fdb.Broadcast, mac(1), zero, ip("192.168.100.3")), "", "flood"},
		{"an answer to another's probe", arpAnswer(t, mac(2), mac(1), asked, zero), "", "flood"},
		{"an answer to nobody's probe", arpAnswer(t, fdb.Broadcast, mac(1), other, zero), "", "flood"},
		{"an announcement in a VLAN", vlan(arpFor(t, fdb.Broadcast, mac(1), asked, asked)), "", "flood"},
		{"a question for the service", arpFor(t, own, mac(1), asked, server), "192.168.100.10 02:00:00:00:00:01 true;", "back"},
	} {
		for _, local := range []bool{false, true} {
			for _, from := range []string{"a", "@10.9.0.2"} {
				cfg := probing(9)
				cfg.ServeLocal = local
				r, s, _ := serving(t, *cfg)
				if got := r.hears(); got != "" {
					t.Fatalf("hears %q at first", got)
				}
				s.probe(asked)
				r.turn()
				r.outs()
				if from == "a" {
					r.taps.Device("a").Send(c.frame)
				} else {
					r.inject(peer2, 0, vxlan(100, c.frame))
				}
				what := fmt.Sprintf("%s, from %s, serving locally %t", c.name, from, local)
				if got := r.hears(); got != c.heard {
					t.Errorf("%s: heard %q, want %q", what, got, c.heard)
				}
				want := map[string]string{"": "", "flood": "@10.9.0.2 b", "back": from + " (changed)"}[c.goes]
				if from != "a" && c.goes == "flood" {
					want = "a b"
				} else if from != "a" && local && c.goes == "back" {
					want = "" // it is for the service at the other end
				}
				expect(t, what, whereTo(r.outs(), c.frame), want)
			}
		}
	}
}

func TestAServiceThatDoesNotProbeHearsNothing(t *testing.T) {
	r, s, _ := serving(t, *dhcpConfig(9))
	r.taps.Device("a").Send(arpFor(t, fdb.Broadcast, mac(1), ip("192.168.100.10"), ip("192.168.100.10")))
	if got := r.hears(); got != "" {
		t.Errorf("heard %q", got)
	}
	cfg := s.Config()
	cfg.DHCP = probing(9)
	if err := s.Reconfigure(cfg); err != nil {
		t.Fatal(err)
	}
	r.taps.Device("a").Send(arpFor(t, fdb.Broadcast, mac(1), ip("192.168.100.10"), ip("192.168.100.10")))
	if got := r.hears(); got == "" {
		t.Error("nothing is heard once it probes")
	}
}

func TestOnlyAnswersToProbesAreTaken(t *testing.T) {
	r, s, own := serving(t, *probing(9))
	s.probe(ip("192.168.100.10"))
	r.turn()
	for _, c := range []struct {
		frame []byte
		drops string
	}{
		{arpAnswer(t, own, mac(1), ip("192.168.100.10"), netip.IPv4Unspecified()), ""},
		{arpAnswer(t, own, mac(1), ip("192.168.100.50"), netip.IPv4Unspecified()), ""},
		{arpAnswer(t, own, mac(1), ip("192.168.100.50"), server), "not_for_service@100"},
	} {
		r.fromPort("a", c.frame)
		if d := r.dropped(); d != c.drops {
			t.Errorf("drops: %q, want %q", d, c.drops)
		}
	}
}

// The server waits half a second from a moment that is known to the second.
func TestAnAnswerIsHeardForAsLongAsTheServerWaits(t *testing.T) {
	for seconds, want := range map[uint32]bool{0: true, 1: true, 2: true, 9: false} {
		r, s, own := serving(t, *probing(9))
		r.v.now.Store(100)
		s.probe(ip("192.168.100.10"))
		r.v.now.Add(seconds)
		r.taps.Device("a").Send(arpAnswer(t, own, mac(1), ip("192.168.100.10"), netip.IPv4Unspecified()))
		if got := r.hears() != ""; got != want {
			t.Errorf("after %d seconds: heard %t", seconds, got)
		}
	}
}

func TestAnAnswerIsWaitedForOnceAndNotForEver(t *testing.T) {
	var p probes
	if p.take(7, 0) {
		t.Error("heard before anything was asked")
	}
	for i := range uint32(probesLen) { // as many as have places, whatever order
		p.add(i*5, 10)
	}
	for i := range uint32(probesLen) {
		if a := i * 5; !p.take(a, 10) || p.take(a, 10) {
			t.Errorf("address %d is not heard exactly once", a)
		}
	}
	p.add(3, 10)
	p.add(3+probesLen, 20)
	if p.take(3, 11) {
		t.Error("heard after its time")
	}
	if p.take(4, 0) {
		t.Error("heard of a neighbour")
	}
	if !p.take(3+probesLen, 20) {
		t.Error("not heard because of an older one in its place")
	}
	// Without places left the oldest give theirs up.
	for i := range uint32(100) {
		p.add(i*probesLen, fdb.Seconds(100+i))
	}
	if !p.take(99*probesLen, 100) || p.take(0, 100) {
		t.Error("the latest has no place, or the oldest has")
	}
}

// For the race detector, too.
func TestWhoeverAsksAtTheSameTimeIsHeard(t *testing.T) {
	var p probes
	var wg sync.WaitGroup
	for i := range uint32(8) {
		wg.Go(func() {
			for j := range uint32(100) {
				a := 1 + i*100 + j
				p.add(a, 10)
				if !p.take(a, 5) {
					t.Errorf("%d is not heard", a)
				}
			}
		})
	}
	wg.Wait()
}

// An address is one claim, however often it is announced; announcements that
// nobody asked for take no more than their share.
func TestAFloodOfAnnouncementsLeavesRoomForAnswers(t *testing.T) {
	r := newRig(t, Config{})
	for _, vni := range []encap.VNI{100, 200} {
		r.segment(SegmentConfig{VNI: vni, DHCP: probing(9)}, vni.String()+"a", vni.String()+"b")
	}
	for i := range 4 * heardLen {
		a := [4]byte{192, 168}
		binary.BigEndian.PutUint16(a[2:], uint16(i))
		b := arpFor(t, fdb.Broadcast, mac(1), netip.AddrFrom4(a), netip.AddrFrom4(a))
		r.taps.Device("100a").Send(b)
		r.read()
	}
	if n := len(r.v.heard); n < heardLen/8 || n > heardLen/2 {
		t.Errorf("%d of %d places are taken", n, heardLen)
	}
	was := len(r.v.heard)
	for _, vni := range []encap.VNI{100, 200} {
		s, _ := r.v.Segment(vni)
		s.probe(ip("192.168.100.10"))
		for range 5 {
			r.taps.Device(vni.String() + "a").Send(arpAnswer(t, serviceMAC(self, uint32(vni)), mac(1), ip("192.168.100.10"), netip.IPv4Unspecified()))
			r.read()
		}
	}
	if n := len(r.v.heard) - was; n != 2 {
		t.Errorf("%d answers are heard meanwhile, want 2", n)
	}
	r.turn()
	for _, s := range r.v.Segments() {
		if s.heard.Load() != 0 {
			t.Errorf("segment %v: %d are still to be heard", s.VNI(), s.heard.Load())
		}
	}
}
