package dhcpd_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"

	"github.com/uvtep/uvtep/dhcpd"
	"github.com/uvtep/uvtep/dhcpd/dhcpdtest"
)

// tenant6 is a client of the model and what it believes to have, and until when.
type tenant6 struct {
	*dhcpdtest.Client6
	has map[dhcpdtest.Lease6]time.Duration // without lifetimes
}

// model6 is the oracle: it knows only what clients were told.
type model6 struct {
	*world6
	rng     *rand.Rand
	tenants []*tenant6
	inbox   []letter6
	script  []string
	edits   []func(*dhcpd.SegmentConfig6)
	other   []func(*dhcpd.SegmentConfig6) // what a reconfiguration changes to and back; nil: nothing
	told    int
	ledger  *ledger
}

type letter6 struct {
	to      *tenant6
	payload []byte
}

func (m *model6) log(format string, args ...any) {
	m.script = append(m.script, fmt.Sprintf(format, args...))
}

func (m *model6) fail(format string, args ...any) {
	m.Helper()
	for _, l := range m.script {
		m.Log(l)
	}
	m.Fatalf(format, args...)
}

// bare is the lease as has knows it.
func bare(l dhcpdtest.Lease6) dhcpdtest.Lease6 {
	return dhcpdtest.Lease6{IAID: l.IAID, Prefix: l.Prefix}
}

// post hands a message to the server. What it answers, now or later, is put into
// the inbox; a lease counts from the moment the REPLY leaves, delivered or not,
// and that it ended once that is delivered.
func (m *model6) post(c *tenant6, what string, payload []byte) {
	if m.rng.IntN(10) == 0 {
		m.log("%s of %s is lost", what, c.MAC)
		return
	}
	sent := m.clock.Elapsed()
	for range 1 + m.rng.IntN(8)/7 {
		out := m.srv6.Serve(&dhcpd.Request{Payload: payload, Src: local6, Dst: servers6, SrcMAC: [6]byte(c.MAC)}, func(r dhcpd.Reply) {
			p := m.read6(r)
			m.log("%v to %s: %q", p.MessageType, c.MAC, p.says())
			if p.MessageType == dhcpv6.MessageTypeReply {
				for _, l := range p.leases() {
					if l.Valid > 0 {
						m.told++
						m.claim(c, bare(l), sent+l.Valid)
					}
				}
			}
			m.inbox = append(m.inbox, letter6{c, p.Payload})
		})
		m.log("%s of %s: %v", what, c.MAC, out)
	}
}

// claim is the property: nobody may believe to have any of it now, not even the
// same client for another purpose, but for its reservation where that comes and
// goes: it is for whichever of its associations asks.
func (m *model6) claim(c *tenant6, l dhcpdtest.Lease6, until time.Duration) {
	for _, o := range m.tenants {
		for held, end := range o.has {
			if (o != c || held != l && m.other == nil) && end > m.clock.Elapsed() && held.Prefix.Overlaps(l.Prefix) {
				m.fail("%v was given to %s while %s has %v for another %s", l, c.MAC, o.MAC, held, end-m.clock.Elapsed())
			}
		}
	}
	c.has[l] = max(c.has[l], until)
}

// leases are what the message says of leases.
func (r *reply6) leases() []dhcpdtest.Lease6 { return dhcpdtest.LeasesOf(r.Message) }

// step does one thing at random.
func (m *model6) step() {
	c := m.tenants[m.rng.IntN(len(m.tenants))]
	now := m.clock.Elapsed()
	c.Leases = c.Leases[:0]
	for l, until := range c.has {
		if until <= now {
			delete(c.has, l)
			continue
		}
		c.Leases = append(c.Leases, l)
	}
	served := len(c.Leases) > 0 && c.Server != nil
	switch n := m.rng.IntN(100); {
	case n < 25:
		if len(m.inbox) > 0 {
			m.deliver()
		}
	case n < 40:
		m.post(c, "SOLICIT", c.Solicit())
	case n < 52 && c.Offer != nil:
		m.post(c, "REQUEST", c.Request())
	case n < 60 && served:
		m.post(c, "RENEW", c.Renew())
	case n < 68 && served:
		m.post(c, "REBIND", c.Rebind())
	case n < 73 && served:
		msg := c.Release()
		m.post(c, "RELEASE", msg)
		clear(c.has)
	case n < 76 && served:
		msg := c.Decline()
		m.post(c, "DECLINE", msg)
		for l := range c.has {
			if l.Prefix.Bits() == 128 {
				delete(c.has, l)
			}
		}
	case n < 88:
		m.log("commit")
		m.svc.Commit()
		if want, got := boundOf(m.srv6.Leases()), m.ledger.prefixes(); !slices.Equal(got, want) {
			m.fail("a watcher knows of %v, leased are %v", got, want)
		}
	case n < 91:
		m.log("commit fails")
		m.store.FailOnce(errors.New("input/output error"))
		m.svc.Commit()
		m.store.Fail(nil)
	case n < 96:
		d := []time.Duration{time.Second, time.Minute, 5 * time.Minute, 20 * time.Minute}[m.rng.IntN(4)]
		m.log("%s pass", d)
		m.clock.Advance(d)
	case n < 97:
		d := []time.Duration{-time.Hour, time.Hour, 24 * time.Hour}[m.rng.IntN(3)]
		if m.other != nil {
			d = max(d, 0) // or a restart would bring back what ended under another configuration
		}
		m.log("the clock is set by %s", d)
		m.clock.Step(d)
		m.svc.Commit() // before the next kill, or the machine would have lost its time
	case n < 98:
		m.log("reconfigure")
		if m.other != nil {
			m.edits, m.other = m.other, m.edits
		}
		if err := m.srv6.Reconfigure(config6(m.edits...)); err != nil {
			m.fail("%v", err)
		}
	default:
		m.log("kill -9 and restart")
		m.begin(m.clock, m.store.Under)
		m.remembered()
	}
}

// begin makes a world over a store.
func (m *model6) begin(clock *dhcpdtest.Clock, store dhcpd.Store) {
	m.world6 = newWorld6On(m.T, clock, store, m.edits...)
	m.ledger, _ = m.watch()
}

// remembered is the other property: what a client was told is not lost.
func (m *model6) remembered() {
	m.Helper()
	for _, c := range m.tenants {
		for l, until := range c.has {
			if until <= m.clock.Elapsed() {
				continue
			}
			got, ok := m.srv6.Lookup(l.Prefix.Addr())
			if !ok || got.State != dhcpd.StateBound || got.ClientID != string(c.ID()) || got.IAID != l.IAID && m.other == nil {
				m.fail("%s was told that it has %v for another %s; after the restart it is %+v, %t", c.MAC, l, until-m.clock.Elapsed(), got, ok)
			}
			if left := got.Expires.Sub(m.clock.Now()); left < until-m.clock.Elapsed() {
				m.fail("%v of %s ends after %s, it was told %s", l, c.MAC, left, until-m.clock.Elapsed())
			}
		}
	}
}

// deliver hands over a reply, in any order.
func (m *model6) deliver() {
	i := m.rng.IntN(len(m.inbox))
	l := m.inbox[i]
	m.inbox[i] = m.inbox[len(m.inbox)-1]
	m.inbox = m.inbox[:len(m.inbox)-1]
	if m.rng.IntN(8) == 0 {
		return // lost
	}
	next, err := l.to.Receive(l.payload)
	switch {
	case errors.Is(err, dhcpdtest.ErrUnexpected):
		return
	case err != nil:
		m.fail("%v", err)
	}
	msg, err := dhcpv6.MessageFromBytes(l.payload)
	if err != nil {
		m.fail("%v", err)
	}
	for _, lease := range dhcpdtest.LeasesOf(msg) {
		if lease.Valid == 0 {
			delete(l.to.has, bare(lease))
		}
	}
	if next != nil {
		m.post(l.to, "REQUEST", next)
	}
}

// TestNeverTwoClientsOnOnePrefixWhateverTheOrder drives random clients of
// DHCPv6 through lossy, doubling, reordering networks, failing disks, passing
// time, clocks that are set and kills, against what the clients were told.
func TestNeverTwoClientsOnOnePrefixWhateverTheOrder(t *testing.T) {
	seeds, steps := 300, 600
	if testing.Short() {
		seeds = 40
	}
	told := 0
	for seed := range uint64(seeds) {
		m := &model6{rng: rand.New(rand.NewPCG(seed, 66))}
		size := 2 + m.rng.IntN(6)
		m.edits = []func(*dhcpd.SegmentConfig6){pool6(size), func(c *dhcpd.SegmentConfig6) {
			c.Lease, c.RapidCommit = 15*time.Minute, seed%3 == 0
			c.Delegations = []dhcpd.Delegation{{Prefix: prefix("2001:db8:200::/62"), Length: 64}, {Prefix: prefix("2001:db8:300::/59"), Length: 60}}
			c.MaxOffers = 3 + int(seed%5)
		}, reserved6(
			dhcpd.Reservation6{MAC: mac(0), IP: addr6(0x1000), Prefix: prefix("2001:db8:200:1::/64")},
			dhcpd.Reservation6{DUID: []byte{0, 9, 1}, IP: addr6(0x50)},
		)}
		if seed%2 == 1 { // other ranges, and prefixes of other lengths over the same ones
			m.other = append(slices.Clone(m.edits), func(c *dhcpd.SegmentConfig6) {
				c.Ranges = []dhcpd.Range{{First: addr6(0x1001), Last: addr6(0x1001 + size)}}
				c.Delegations = []dhcpd.Delegation{{Prefix: prefix("2001:db8:200::/61"), Length: 64}, {Prefix: prefix("2001:db8:300::/58"), Length: 61 + int(seed/2%3)}}
				c.Hosts = c.Hosts[:1]
			})
		}
		for i := range size + 3 {
			c := client6(i)
			c.Rapid = i%2 == 0
			if i%3 == 1 {
				c.DUID = []byte{0, 9, byte(i)}
			}
			c.NA = []uint32{1, 2}[:1+i%2]
			c.PD = []uint32{1, 2}[:i%3]
			if i%4 == 0 {
				c.Hints = []netip.Prefix{one(addr6(0x1001)), prefix("::/60")}
			}
			m.tenants = append(m.tenants, &tenant6{c, map[dhcpdtest.Lease6]time.Duration{}})
		}
		m.world6 = &world6{world: &world{T: t}}
		m.begin(dhcpdtest.NewClock(), nil)
		for range steps {
			m.step()
		}
		told += m.told
	}
	if told < seeds*20 {
		t.Errorf("%d leases given in %d runs: the model does too little", told, seeds)
	}
}
