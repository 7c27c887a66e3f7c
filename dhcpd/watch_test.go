package dhcpd_test

import (
	"errors"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv6"

	"github.com/uvtep/uvtep/dhcpd"
	"github.com/uvtep/uvtep/dhcpd/dhcpdtest"
)

// ledger is what a watcher of leases knows.
type ledger struct {
	mu     sync.Mutex
	leases map[netip.Prefix]dhcpd.LeaseChange
	wrong  []dhcpd.LeaseChange // ended, and had not begun
	told   int
}

func (l *ledger) note(c dhcpd.LeaseChange) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.told++
	if _, has := l.leases[c.Prefix]; !has && !c.Bound {
		l.wrong = append(l.wrong, c)
	}
	if c.Bound {
		l.leases[c.Prefix] = c
	} else {
		delete(l.leases, c.Prefix)
	}
}

// prefixes are those of the leases that there are.
func (l *ledger) prefixes() []netip.Prefix {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.SortedFunc(maps.Keys(l.leases), comparePrefixes)
}

func comparePrefixes(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) }

// watch has a new ledger told of segment 100.
func (w *world) watch() (*ledger, func()) {
	l := &ledger{leases: map[netip.Prefix]dhcpd.LeaseChange{}}
	stop := w.svc.Watch(100, l.note)
	w.Cleanup(func() {
		if len(l.wrong) > 0 {
			w.Errorf("the watcher was told of the end of what never began: %+v", l.wrong)
		}
	})
	return l, stop
}

// boundOf are the prefixes of the leases that are somebody's.
func boundOf(leases []dhcpd.Lease) (out []netip.Prefix) {
	for _, l := range leases {
		if l.State == dhcpd.StateBound {
			out = append(out, prefixOf(l))
		}
	}
	slices.SortFunc(out, comparePrefixes)
	return out
}

func prefixOf(l dhcpd.Lease) netip.Prefix {
	if l.PrefixLen > 0 {
		return netip.PrefixFrom(l.IP, int(l.PrefixLen))
	}
	return netip.PrefixFrom(l.IP, l.IP.BitLen())
}

// pair is a client of both families on one port; its second lease of DHCPv6 is a
// prefix.
type pair struct {
	four *dhcpdtest.Client
	six  *dhcpdtest.Client6
}

func newPair(n int) pair {
	c := pair{client(n), client6(n)}
	c.six.NA, c.six.PD = []uint32{1}, []uint32{1}
	return c
}

func (w *world6) bindPair(c pair, port string) {
	w.Helper()
	w.bindFrom(c.four, from{port: port})
	w.bind6From(c.six, from6{port: port, srcMAC: [6]byte(c.six.MAC)})
}

// has are the client's leases.
func (c pair) has() (out []netip.Prefix) {
	out = append(out, netip.PrefixFrom(c.four.IP, 32))
	for _, l := range c.six.Leases {
		out = append(out, l.Prefix)
	}
	slices.SortFunc(out, comparePrefixes)
	return out
}

func TestAWatcherHearsOfALeaseWhenItIsDurableAndBeforeItsClientDoes(t *testing.T) {
	w := newWorld6(t)
	l, _ := w.watch()
	c := newPair(1)
	four := w.selecting(c.four)
	six := w.requesting6(c.six)
	if l.told != 0 {
		t.Fatalf("told %d times of mere offers", l.told)
	}
	w.store.Block()
	stop := w.run()
	var atACK, atREPLY []netip.Prefix
	var answered sync.WaitGroup
	answered.Add(2)
	w.srv.Serve(&dhcpd.Request{Payload: four, Src: netip.IPv4Unspecified(), Dst: broadcast, SrcMAC: [6]byte(mac(1)), Port: "tap1"}, func(dhcpd.Reply) {
		atACK = l.prefixes()
		answered.Done()
	})
	w.srv6.Serve(&dhcpd.Request{Payload: six, Src: local6, Dst: servers6, SrcMAC: [6]byte(mac(1)), Port: "tap1"}, func(dhcpd.Reply) {
		atREPLY = l.prefixes()
		answered.Done()
	})
	w.store.AwaitCommit()
	if got := l.prefixes(); len(got) != 0 {
		t.Errorf("told of %v while the store had not returned", got)
	}
	w.store.Unblock()
	answered.Wait()
	stop()
	want := append(boundOf(w.srv.Leases()), boundOf(w.srv6.Leases())...)
	if len(want) != 3 || !slices.Contains(atACK, want[0]) || !slices.Contains(atREPLY, want[1]) || !slices.Contains(atREPLY, want[2]) {
		t.Errorf("known at the ACK: %v, at the REPLY: %v, leased: %v", atACK, atREPLY, want)
	}
	for _, p := range want {
		if got := (l.leases[p]); got != (dhcpd.LeaseChange{Prefix: p, Bound: true, MAC: [6]byte(mac(1)), Port: "tap1"}) {
			t.Errorf("told %+v", got)
		}
	}
}

func TestAWatcherHearsOfEachWayThatALeaseEnds(t *testing.T) {
	for name, end := range map[string]func(w *world6, c pair){
		"released": func(w *world6, c pair) {
			w.ask(c.four.Release())
			w.ask6(c.six.Release(), from6{})
		},
		"released, and the disk does not know": func(w *world6, c pair) {
			w.serve(c.four.Release(), from{})
			w.serve6(c.six.Release(), from6{})
		},
		"taken back": func(w *world6, c pair) {
			must(w.T, w.srv.Release(c.four.IP))
			for _, l := range c.six.Leases {
				must(w.T, w.srv6.Release(l.Prefix.Addr()))
			}
		},
		"run out": func(w *world6, c pair) {
			w.clock.Advance(13 * time.Hour)
			w.srv.Stats()
			w.srv6.Stats()
		},
		"declined": func(w *world6, c pair) {
			w.ask(c.four.Decline())
			c.six.Leases = slices.DeleteFunc(c.six.Leases, func(l dhcpdtest.Lease6) bool { return l.Prefix.Bits() < 128 })
			w.ask6(c.six.Decline(), from6{})
			w.ask6(c.six.Release(), from6{}) // of nothing: what is a prefix cannot be declined
			must(w.T, w.srv6.Release(netip.MustParseAddr("2001:db8:200::")))
		},
		"run out while the disk fails to renew it": func(w *world6, c pair) {
			w.store.Fail(errors.New("input/output error"))
			w.clock.Advance(12*time.Hour - time.Minute)
			w.serve(c.four.Rebind(), from{src: c.four.IP})
			w.serve6(c.six.Rebind(), from6{})
			w.clock.Advance(time.Hour)
			w.svc.Commit()
		},
		"segment removed": func(w *world6, c pair) {
			must(w.T, w.svc.Remove(100))
			must(w.T, w.svc.Remove6(100))
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld6(t, func(c *dhcpd.SegmentConfig6) {
				c.Delegations = []dhcpd.Delegation{{Prefix: prefix("2001:db8:200::/56"), Length: 56}}
			})
			l, _ := w.watch()
			c := newPair(1)
			w.bindPair(c, "tap1")
			if got := l.prefixes(); !slices.Equal(got, c.has()) || len(got) != 3 {
				t.Fatalf("told of %v, leased %v", got, c.has())
			}
			end(w, c)
			if got := l.prefixes(); len(got) != 0 {
				t.Errorf("still %v", got)
			}
		})
	}
}

func TestAWatcherIsToldAtOnceOfAllLeasesAndThenOfEachRenewal(t *testing.T) {
	w := newWorld6(t)
	a, b := newPair(1), newPair(2)
	w.bindPair(a, "tap1")
	w.bindPair(b, "tap2")
	w.ask(b.four.Release())
	w.must(offer, client(3).Discover()) // an offer is no lease
	l, _ := w.watch()
	if want := append(a.has(), b.has()[1:]...); l.told != 5 || len(l.prefixes()) != 5 {
		t.Fatalf("told %d times, of %v, want %v", l.told, l.prefixes(), want)
	}
	if got := l.leases[a.has()[0]]; got.Port != "tap1" || got.MAC != [6]byte(mac(1)) {
		t.Errorf("told %+v", got)
	}
	// A renewal tells where the client is now.
	vtep := netip.MustParseAddr("10.9.0.2")
	w.mustFrom(ack, a.four.Renew(), from{src: a.four.IP, port: "tap3"})
	w.must6(reply6Type, a.six.Renew(), from6{vtep: vtep, srcMAC: [6]byte(mac(1))})
	if got := l.leases[a.has()[0]]; l.told != 8 || got.Port != "tap3" {
		t.Errorf("told %d times, at last %+v", l.told, got)
	}
	if got := l.leases[a.has()[1]]; got.Port != "" || got.VTEP != vtep {
		t.Errorf("told %+v, want it behind %s", got, vtep)
	}
}

func TestAWatcherHearsOfASegmentThatComesLaterAndOfLeasesAfterARestart(t *testing.T) {
	w := newWorld6(t)
	c := newPair(1)
	w.bindPair(c, "tap1")
	must(t, w.svc.Remove(100))
	must(t, w.svc.Remove6(100))
	l, _ := w.watch()
	if l.told != 0 {
		t.Errorf("told of %v of a segment that is not there", l.prefixes())
	}
	w.srv, w.srv6 = w.add(100), w.add6(100)
	if got := l.prefixes(); !slices.Equal(got, c.has()) {
		t.Errorf("when the segment came back told of %v, want %v", got, c.has())
	}
	again := newWorld6On(t, w.clock, w.store.Under)
	l, _ = again.watch()
	if got := l.prefixes(); !slices.Equal(got, c.has()) || l.leases[got[0]].Port != "tap1" || l.leases[got[1]].MAC != [6]byte(mac(1)) {
		t.Errorf("after a restart told of %+v, want %v", l.leases, c.has())
	}
	w.clock.Advance(13 * time.Hour)
	late := newWorld6On(t, w.clock, w.store.Under)
	if l, _ = late.watch(); l.told != 0 {
		t.Errorf("told of %v that has run out", l.prefixes())
	}
}

func TestAWatcherHearsNothingOnceItIsStopped(t *testing.T) {
	w := newWorld6(t)
	l, stop := w.watch()
	other, _ := w.watch()
	w.bindPair(newPair(1), "tap1")
	told := l.told
	stop()
	stop()
	w.bindPair(newPair(2), "tap1")
	if l.told != told || told != 3 || other.told != 6 {
		t.Errorf("told %d times, %d before it was stopped; the other one %d times", l.told, told, other.told)
	}
}

func TestAWatcherOfOneSegmentHearsNothingOfAnother(t *testing.T) {
	w := newWorld6(t)
	l, _ := w.watch()
	w.add(200)
	w.bindFrom(client(1), from{srv: w.svc.Server(200)})
	if l.told != 0 {
		t.Errorf("told %+v", l.leases)
	}
}

func TestAWatcherHearsNothingOfALeaseThatTheDiskDidNotTake(t *testing.T) {
	w := newWorld6(t)
	l, _ := w.watch()
	four, six := w.selecting(client(1)), w.requesting6(client6(1))
	w.store.Fail(errors.New("input/output error"))
	w.serve(four, from{})
	w.serve6(six, from6{})
	w.svc.Commit()
	if l.told != 0 {
		t.Errorf("told of %v", l.prefixes())
	}
	w.store.Fail(nil)
	w.must(ack, four)
	w.must6(reply6Type, six, from6{})
	if l.told != 2 {
		t.Errorf("told %d times of two leases", l.told)
	}
}

func TestAReservationThatComesAndGoesEndsNoLeaseBeforeItsClientMoves(t *testing.T) {
	kept := reserved(dhcpd.Reservation{MAC: mac(1), IP: addr(5)})
	kept6 := reserved6(dhcpd.Reservation6{MAC: mac(1), IP: addr6(5)})
	w := newWorld6(t, kept6)
	cfg := blue()
	kept(&cfg)
	must(t, w.srv.Reconfigure(cfg))
	l, _ := w.watch()
	c := pair{client(1), client6(1)}
	w.bindPair(c, "tap1")
	was := []netip.Prefix{netip.PrefixFrom(addr(5), 32), one(addr6(5))}
	if got := l.prefixes(); !slices.Equal(got, was) {
		t.Fatalf("told of %v", got)
	}
	must(t, w.srv.Reconfigure(blue()))
	must(t, w.srv6.Reconfigure(green()))
	if got := l.prefixes(); !slices.Equal(got, was) {
		t.Errorf("the reservations are gone, and so are the leases: %v", got)
	}
	w.mustFrom(dhcpv4.MessageTypeNak, c.four.Renew(), from{src: c.four.IP})
	if got := l.prefixes(); !slices.Equal(got, was) {
		t.Errorf("after the NAK %v", got)
	}
	c.four.State, c.four.IP = dhcpdtest.Init, netip.Addr{}
	w.bind(c.four)
	w.take(c.six, w.must6(dhcpv6.MessageTypeReply, c.six.Renew(), from6{}))
	// In DHCPv6 the client has both until it shows that it knows.
	if got := l.prefixes(); len(got) != 3 || got[0] != netip.PrefixFrom(c.four.IP, 32) || got[1] != was[1] {
		t.Errorf("after the move %v", got)
	}
	w.take(c.six, w.must6(dhcpv6.MessageTypeReply, c.six.Renew(), from6{}))
	if got := l.prefixes(); len(got) != 2 || got[1] == was[1] || got[1] != c.six.Leases[0].Prefix {
		t.Errorf("after the move %v", got)
	}
}

func TestAWatcherKnowsWhoIsBehindARelay(t *testing.T) {
	w := newWorld(t, relayed)
	l, _ := w.watch()
	c := client(1)
	c.GIAddr = relayIP
	w.bind(c)
	w.bind(client(2))
	for p, got := range l.leases {
		if behind := p.Addr() == c.IP; got.Relayed != behind {
			t.Errorf("%s: behind a relay %t, want %t", p, got.Relayed, behind)
		}
	}
	if len(l.leases) != 2 {
		t.Errorf("leases %v", l.prefixes())
	}
}

func TestAClientThatIsNoEthernetStationHasNoMAC(t *testing.T) {
	w := newWorld(t)
	l, _ := w.watch()
	c := client(1)
	msg := edit(c.Discover(), func(m *dhcpv4.DHCPv4) { m.HWType = 6 })
	next, err := c.Receive(w.must(offer, msg).Payload)
	must(t, err)
	w.must(ack, edit(next, func(m *dhcpv4.DHCPv4) { m.HWType = 6 }))
	for _, got := range l.leases {
		if got.MAC != [6]byte{} {
			t.Errorf("told %+v", got)
		}
	}
	if l.told != 1 {
		t.Errorf("told %d times", l.told)
	}
}
