package dhcpd_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/uvtep/uvtep/dhcpd"
	"github.com/uvtep/uvtep/dhcpd/dhcpdtest"
)

// tenant is a client of the model and what it believes to have: an address
// until a time. It gives the address up when it is refused, releases or
// declines; what the network lost it does not know.
type tenant struct {
	*dhcpdtest.Client
	has   netip.Addr
	until time.Duration
}

// model is the oracle: it knows only what clients were told.
type model struct {
	*world
	rng     *rand.Rand
	tenants []*tenant
	inbox   []letter // replies on their way
	script  []string
	edits   []func(*dhcpd.SegmentConfig)
	acks    int
}

type letter struct {
	to      *tenant
	payload []byte
	sent    time.Duration // when the client sent what this answers
}

func (m *model) log(format string, args ...any) {
	m.script = append(m.script, fmt.Sprintf(format, args...))
}

// post hands a message to the server. What it answers, now or later, is put
// into the inbox; an ACK counts from the moment it leaves, delivered or not.
func (m *model) post(c *tenant, what string, payload []byte, unicast bool) {
	if m.rng.IntN(10) == 0 {
		m.log("%s of %s is lost", what, c.MAC)
		return
	}
	f := from{src: netip.IPv4Unspecified(), dst: broadcast}
	if unicast {
		f = from{src: c.has, dst: serverIP}
	}
	sent := m.clock.Elapsed()
	for range 1 + m.rng.IntN(8)/7 { // now and then the network doubles it
		out := m.srv.Serve(&dhcpd.Request{Payload: payload, Src: f.src, Dst: f.dst, SrcMAC: [6]byte(c.MAC)}, func(r dhcpd.Reply) {
			p := read(m.T, r)
			m.log("%v %s to %s", p.typ(), p.yiaddr(), c.MAC)
			if p.typ() == ack {
				m.acks++
				m.claim(c, p.yiaddr(), p.leaseTime()+sent)
			}
			m.inbox = append(m.inbox, letter{c, p.Payload, sent})
		})
		m.log("%s of %s for %s: %v", what, c.MAC, c.IP, out)
	}
}

func (r *reply) leaseTime() time.Duration {
	return time.Duration(binary.BigEndian.Uint32(r.opt[51])) * time.Second
}

// claim is the property: nobody else may believe to have the address now.
func (m *model) claim(c *tenant, ip netip.Addr, until time.Duration) {
	for _, o := range m.tenants {
		if o != c && o.has == ip && o.until > m.clock.Elapsed() {
			m.fail("%s was given to %s while %s has it for another %s", ip, c.MAC, o.MAC, o.until-m.clock.Elapsed())
		}
	}
	if c.has != ip {
		c.has, c.until = ip, 0
	}
	c.until = max(c.until, until)
}

func (m *model) fail(format string, args ...any) {
	m.Helper()
	for _, l := range m.script {
		m.Log(l)
	}
	m.Fatalf(format, args...)
}

// step does one thing at random.
func (m *model) step() {
	c := m.tenants[m.rng.IntN(len(m.tenants))]
	if c.has.IsValid() && c.until <= m.clock.Elapsed() {
		c.has = netip.Addr{} // ran out
		c.State = dhcpdtest.Init
	}
	switch n := m.rng.IntN(100); {
	case n < 25:
		if len(m.inbox) > 0 {
			m.deliver()
		}
	case n < 45:
		m.post(c, "DISCOVER", c.Discover(), false)
	case n < 55 && c.Offer != nil:
		m.post(c, "REQUEST", c.Request(), false)
	case n < 62 && c.IP.IsValid():
		m.post(c, "INIT-REBOOT", c.Reboot(), false)
	case n < 70 && c.has.IsValid():
		c.IP = c.has
		if m.rng.IntN(2) == 0 {
			m.post(c, "RENEW", c.Renew(), true)
		} else {
			m.post(c, "REBIND", c.Rebind(), true)
		}
	case n < 75 && c.has.IsValid() && c.Ack != nil:
		c.IP = c.has
		msg := c.Release()
		m.post(c, "RELEASE", msg, true)
		c.has = netip.Addr{}
	case n < 78 && c.has.IsValid() && c.Ack != nil:
		c.IP = c.has
		msg := c.Decline()
		m.post(c, "DECLINE", msg, false)
		c.has = netip.Addr{}
	case n < 90:
		m.log("commit")
		m.svc.Commit()
	case n < 93:
		m.log("commit fails")
		m.store.FailOnce(errors.New("input/output error"))
		m.svc.Commit()
		m.store.Fail(nil)
	case n < 98:
		d := []time.Duration{time.Second, time.Minute, 5 * time.Minute, 20 * time.Minute}[m.rng.IntN(4)]
		m.log("%s pass", d)
		m.clock.Advance(d)
	default:
		m.log("kill -9 and restart")
		m.restart()
	}
}

// restart loses what was not committed.
func (m *model) restart() {
	m.world = newWorldOn(m.T, m.clock, m.store.Under, m.edits...)
}

// deliver hands over a reply, in any order.
func (m *model) deliver() {
	i := m.rng.IntN(len(m.inbox))
	l := m.inbox[i]
	m.inbox[i] = m.inbox[len(m.inbox)-1]
	m.inbox = m.inbox[:len(m.inbox)-1]
	if m.rng.IntN(8) == 0 {
		return // lost
	}
	next, err := l.to.Receive(l.payload)
	switch {
	case errors.Is(err, dhcpdtest.ErrRefused):
		l.to.has = netip.Addr{}
	case errors.Is(err, dhcpdtest.ErrUnexpected):
	case err != nil:
		m.fail("%v", err)
	case next != nil:
		m.post(l.to, "REQUEST", next, false)
	}
}

// TestNeverTwoClientsOnOneAddressWhateverTheOrder drives random clients
// through lossy, doubling, reordering networks, failing disks, passing time
// and kills, against what the clients were told.
func TestNeverTwoClientsOnOneAddressWhateverTheOrder(t *testing.T) {
	seeds, steps := 300, 600
	if testing.Short() {
		seeds = 40
	}
	acks := 0
	for seed := range uint64(seeds) {
		m := &model{rng: rand.New(rand.NewPCG(seed, 99))}
		size := 2 + m.rng.IntN(6)
		m.edits = []func(*dhcpd.SegmentConfig){
			pool(size), func(c *dhcpd.SegmentConfig) { c.Lease = 15 * time.Minute; c.RapidCommit = seed%3 == 0 },
			reserved(dhcpd.Reservation{MAC: mac(0), IP: addr(10)}, dhcpd.Reservation{ClientID: []byte{0xff, 1}, IP: addr(200)}),
		}
		for i := range size + 3 {
			c := client(i)
			c.Rapid = i%2 == 0
			if i%3 == 1 {
				c.ClientID = []byte{0xff, byte(i)}
			}
			m.tenants = append(m.tenants, &tenant{Client: c})
		}
		m.world = newWorldOn(t, dhcpdtest.NewClock(), nil, m.edits...)
		for range steps {
			m.step()
		}
		acks += m.acks
	}
	if acks < seeds*20 {
		t.Errorf("%d ACKs in %d runs: the model does too little", acks, seeds)
	}
}
