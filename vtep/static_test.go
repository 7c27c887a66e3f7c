package vtep

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/uvtep/uvtep/fdb"
)

func TestAStaticEntryThatIsRefusedMakesNobodyHeard(t *testing.T) {
	r := newRig(t, Config{})
	s := r.segment(SegmentConfig{VNI: 100, Peers: []netip.Addr{peer2}, DHCP: dhcpConfig(5)}, "a")
	s.table.SetSelf(mac(7)) // of which the configuration knows nothing
	for _, c := range []struct {
		e  StaticEntry
		is error
	}{
		{StaticEntry{MAC: fdb.Broadcast, Dst: peer3}, fdb.ErrNotStation},
		{StaticEntry{MAC: 0, Dst: peer3}, fdb.ErrNotStation},
		{StaticEntry{MAC: serviceMAC(self, 100), Dst: peer3}, fdb.ErrOwnMAC},
		{StaticEntry{MAC: mac(7), Dst: peer3}, fdb.ErrOwnMAC},
		{StaticEntry{MAC: mac(1), Dst: peer3, Port: "a"}, ErrInvalid},
		{StaticEntry{MAC: mac(1), Dst: self}, ErrInvalid},
		{StaticEntry{MAC: mac(1)}, ErrInvalid},
	} {
		if err := s.AddStatic(c.e); !errors.Is(err, c.is) {
			t.Errorf("%+v: error %v, want %v", c.e, err, c.is)
		}
		if got := origins(s); got != "[10.9.0.2 config true]" {
			t.Errorf("%+v: peers %s", c.e, got)
		}
	}
	expect(t, "from the one that was named", r.fromPeer(peer3, 100, eth(fdb.Broadcast, mac(1))), "")
}

// Under AcceptPeers, whoever is a peer can put frames into the segment.
func TestAVTEPIsHeardAsLongAsAStaticEntryNamesIt(t *testing.T) {
	r := newRig(t, Config{})
	peer4 := ip("10.9.0.4")
	s := r.segment(SegmentConfig{VNI: 100, FDB: []StaticEntry{{MAC: mac(9), Port: "late"}}}, "a")
	bind := func(e StaticEntry) {
		t.Helper()
		if err := s.AddStatic(e); err != nil {
			t.Fatal(err)
		}
	}
	unbind := func(i int) {
		t.Helper()
		if err := s.DeleteMAC(mac(i)); err != nil {
			t.Fatal(err)
		}
	}
	heard := func(what, want string) {
		t.Helper()
		got := ""
		for _, p := range []netip.Addr{peer2, peer3, peer4} {
			if len(r.datagram(p, 0, vxlan(100, eth(fdb.Broadcast, mac(50))))) > 0 {
				got += fmt.Sprint(p, " ")
			}
		}
		expect(t, what, got, want)
	}
	bind(StaticEntry{MAC: mac(1), Dst: peer2})
	bind(StaticEntry{MAC: mac(2), Dst: peer2})
	bind(StaticEntry{MAC: mac(3), Dst: netip.AddrFrom16(peer3.As16())})
	heard("bound", "10.9.0.2 10.9.0.3 ")
	unbind(1)
	heard("one entry of two deleted", "10.9.0.2 10.9.0.3 ")
	bind(StaticEntry{MAC: mac(3), Dst: peer4})
	heard("bound to another VTEP", "10.9.0.2 10.9.0.4 ")
	bind(StaticEntry{MAC: mac(3), Port: "a"})
	heard("bound to a port", "10.9.0.2 ")
	unbind(2)
	heard("the other entry deleted", "")
	bind(StaticEntry{MAC: mac(9), Dst: peer3})
	heard("bound instead of a port that is not there", "10.9.0.3 ")
	late := r.attach(s, PortConfig{Name: "late"})
	if got := s.table.Lookup(mac(9)); got != fdb.Local(late.id) {
		t.Errorf("the port has come, and its entry is %v", got)
	}
	heard("the port has come", "")

	if err := s.AddPeer(peer2); err != nil {
		t.Fatal(err)
	}
	bind(StaticEntry{MAC: mac(1), Dst: peer2})
	unbind(1)
	heard("one that floods go to", "10.9.0.2 ")
	unbind(50) // was learned
	heard("a learned entry deleted", "10.9.0.2 ")
}

func TestWhatTheConfigurationHasComesBack(t *testing.T) {
	r, s, _ := configured(t)
	for _, err := range []error{
		s.RemovePeer(peer2), s.DeleteMAC(mac(51)), s.DeleteMAC(mac(52)),
		s.AddPeer(ip("10.9.0.8")), s.AddStatic(StaticEntry{MAC: mac(60), Dst: ip("10.9.0.9")}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	r.fromPort("b", eth(fdb.Broadcast, mac(51))) // learned in its place
	peers, statics, err := s.Restore()
	if err != nil || fmt.Sprint(peers) != "[10.9.0.2]" || len(statics) != 2 || statics[0] != before().FDB[0] || statics[1] != before().FDB[1] {
		t.Errorf("came back: %v, %v, %v", peers, statics, err)
	}
	want := "[10.9.0.2 config true 10.9.0.3 config true 10.9.0.5 config false 10.9.0.7 learned false 10.9.0.8 api true 10.9.0.9 api false]"
	if got := origins(s); got != want {
		t.Errorf("peers: %s\nwant   %s", got, want)
	}
	for m, port := range map[fdb.MAC]string{mac(51): "@10.9.0.5", mac(52): "a"} {
		expect(t, "to a static one", r.fromPort("b", eth(m, mac(12))), port)
	}

	// What is bound elsewhere, or belongs to a port that is away, is let be.
	if err := s.AddStatic(StaticEntry{MAC: mac(51), Port: "b"}); err != nil {
		t.Fatal(err)
	}
	if err := s.DetachPort("a"); err != nil {
		t.Fatal(err)
	}
	if peers, statics, err := s.Restore(); len(peers)+len(statics) != 0 || err != nil {
		t.Errorf("came back: %v, %v, %v", peers, statics, err)
	}
	if err := r.v.RemoveSegment(100); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Restore(); !errors.Is(err, ErrNotFound) {
		t.Errorf("error %v", err)
	}
}

// soon waits for what another goroutine does.
func soon(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it never came to this: %s", what)
		}
	}
}

// Each wait for the workers is one for a round of all of them, in which nobody
// can change anything.
func TestHoweverManyPeersAgeTheWorkersAreWaitedForTwice(t *testing.T) {
	r := newRig(t, Config{Accept: AcceptAny})
	s := r.segment(SegmentConfig{VNI: 100, Peers: []netip.Addr{peer2}, Ageing: 10 * time.Second}, "a")
	const n = 100
	for i := range n {
		r.fromPeer(netip.AddrFrom4([4]byte{10, 8, 0, byte(i)}), 100, eth(fdb.Broadcast, mac(i+1)))
	}
	w := r.v.workers[0]
	w.round.Add(1) // in the middle of one
	resting := false
	defer func() {
		if !resting {
			w.round.Add(1)
		}
	}()
	done := make(chan struct{})
	go func() {
		s.agePeers(100)
		close(done)
	}()
	soon(t, "all silent peers are gone", func() bool { return len(s.Peers()) == 1 })
	if got := s.MACs(); got != n {
		t.Errorf("%d MACs while the worker may learn of them, want %d", got, n)
	}
	w.round.Add(2)
	soon(t, "all that was behind them is gone", func() bool { return s.MACs() == 0 })
	taken := 0
	for id := range uint32(n + 1) {
		if s.peers.ByID(id) != nil {
			taken++
		}
	}
	if taken != n+1 {
		t.Errorf("%d numbers are taken while the worker may send to them, want %d", taken, n+1)
	}
	w.round.Add(1)
	resting = true
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Fatal("it goes on")
	}
	for id := range uint32(n + 1) {
		if p := s.peers.ByID(id); p != nil && p.Addr != peer2 {
			t.Errorf("number %d is still that of %v", id, p.Addr)
		}
	}
}
