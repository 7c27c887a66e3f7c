package vtep

import (
	"net/netip"
	"testing"

	"github.com/uvtep/uvtep/dhcpd/dhcpdtest"
	"github.com/uvtep/uvtep/fdb"
)

// Whose an address is, is what the strongest that still says so says, whatever
// came first and whatever has ended since.
func TestALeaseOutlivesTheEntryThatHidIt(t *testing.T) {
	for _, order := range []string{"lease first", "entry first"} {
		t.Run(order, func(t *testing.T) {
			r, s := suppressing(t, SegmentConfig{DHCP: dhcpConfig(9)})
			r.committing(t)
			c := &dhcpdtest.Client{MAC: hw(mac(7))}
			leased := r.lease(t, "b", c)
			without := s.Config()
			with := without
			with.Neighbours = []StaticNeighbour{{leased, mac(8)}}
			reconfigure := func(cfg SegmentConfig) {
				t.Helper()
				if err := s.Reconfigure(cfg); err != nil {
					t.Fatal(err)
				}
			}
			if order == "entry first" {
				if err := s.DHCP().Release(leased); err != nil {
					t.Fatal(err)
				}
				reconfigure(with)
				if again := r.lease(t, "b", c); again != leased {
					t.Fatalf("leased %v, then %v", leased, again)
				}
			} else {
				reconfigure(with)
			}
			r.fromPort("c", eth(fdb.Broadcast, mac(8)))
			expect(t, "an entry hides the lease", resolve(t, r.at("a"), mac(1), leased), "02:00:00:00:00:08 to a")
			reconfigure(without)
			expect(t, "the entry is gone", resolve(t, r.at("a"), mac(1), leased), "02:00:00:00:00:07 to a")
			r.fromPort("c", announce(t, mac(66), leased))
			expect(t, "somebody else claims it", resolve(t, r.at("a"), mac(1), leased), "02:00:00:00:00:07 to a")
		})
	}
}

// Who speaks of another's MAC is not believed; but what was known before may be
// wrong now, too.
func TestAnAddressThatIsSaidToBeAThirdOnesIsAskedFor(t *testing.T) {
	for _, who := range []netip.Addr{guestIP, ip("fe80::77")} {
		r, _ := suppressing(t, SegmentConfig{})
		hello := func(m fdb.MAC) []byte { return announce(t, m, who) }
		if who.Is6() {
			hello = func(m fdb.MAC) []byte { return advertised(t, m, who, 0x20) }
		}
		r.fromPort("b", hello(mac(7)))
		expect(t, "known", resolve(t, r.at("a"), mac(1), who), "02:00:00:00:00:07 to a")
		foreign := hello(mac(8)) // of a bond, or a proxy
		copy(foreign[6:], hw(mac(9)))
		r.fromPort("c", foreign)
		expect(t, "said to be another's", resolve(t, r.at("a"), mac(1), who), floodOfA)
	}
}

func TestNobodyElseHasTheAddressesOfTheService(t *testing.T) {
	r, s := suppressing(t, SegmentConfig{DHCP: dhcpConfig(9), DHCP6: dhcp6Config()})
	link := linkLocal(serviceMAC(self, 100))
	r.fromPort("a", announce(t, mac(5), server))
	r.fromPort("a", advertised(t, mac(5), server6, 0x20))
	r.fromPort("a", advertised(t, mac(5), link, 0x20))
	r.fromPort("a", solicit(t, multicastMAC(solicitedNode(guest6)), mac(5), server6, solicitedNode(guest6), guest6, true))
	if all := s.Neighbours(); len(all) != 0 {
		t.Errorf("learned: %+v", all)
	}
}
