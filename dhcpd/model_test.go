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
	port  string
}

// modelCap is how many leases a port of the model may have.
const modelCap = 3

// model is the oracle: it knows only what clients were told.
type model struct {
	*world
	rng     *rand.Rand
	tenants []*tenant
	inbox   []letter // replies on their way
	script  []string
	edits   []func(*dhcpd.SegmentConfig)
	acks    int
	full    int // times that a port was
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
	held, others := m.held(c)
	for range 1 + m.rng.IntN(8)/7 { // now and then the network doubles it
		out := m.srv.Serve(&dhcpd.Request{Payload: payload, Src: f.src, Dst: f.dst, SrcMAC: [6]byte(c.MAC), Port: c.port, MaxLeases: modelCap}, func(r dhcpd.Reply) {
			p := read(m.T, r)
			m.log("%v %s to %s", p.typ(), p.yiaddr(), c.MAC)
			if p.typ() == ack {
				m.acks++
				m.claim(c, p.yiaddr(), p.leaseTime()+sent)
			}
			m.inbox = append(m.inbox, letter{c, p.Payload, sent})
		})
		m.log("%s of %s on %s for %s: %v", what, c.MAC, c.port, c.IP, out)
		// A client that had nothing got something only if its port had room,
		// and was refused for its port only if that was full.
		before := held
		held, _ = m.held(c)
		if !before && (held && others >= modelCap || out == dhcpd.PortFull && others < modelCap) || before && out == dhcpd.PortFull {
			m.fail("%s of %s, held %t: %v with %d leases on its port, held %t", what, c.MAC, before, out, others, held)
		}
		if out == dhcpd.PortFull {
			m.full++
		}
	}
	s := m.srv.Stats()
	if got, want := fmt.Sprintf("%d bound, %d offered, %d declined", s.Bound, s.Offered, s.Declined), tallied(m.srv.Leases()); got != want {
		m.fail("%s are counted, %s are there", got, want)
	}
}

// held says whether a client holds an address, and how many the others of its
// port do, counted one by one.
func (m *model) held(c *tenant) (itself bool, others int) {
	for _, l := range m.srv.Leases() {
		switch {
		case l.State != dhcpd.StateBound && l.State != dhcpd.StateOffered:
		case c.ClientID != nil && l.ClientID == string(c.ClientID), l.ClientID == "" && c.ClientID == nil && l.CHAddr == string(c.MAC):
			itself = true
		case l.Port == c.port:
			others++
		}
	}
	return itself, others
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
	case n < 99:
		c.port = ports[m.rng.IntN(len(ports))]
		m.log("%s moves to %s", c.MAC, c.port)
	default:
		m.log("kill -9 and restart")
		m.restart()
	}
}

var ports = [...]string{"tap0", "tap1", "tap2"}

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
	acks, full := 0, 0
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
			m.tenants = append(m.tenants, &tenant{Client: c, port: ports[i%len(ports)]})
		}
		m.world = newWorldOn(t, dhcpdtest.NewClock(), nil, m.edits...)
		for range steps {
			m.step()
		}
		acks, full = acks+m.acks, full+m.full
	}
	if acks < seeds*20 || full < seeds {
		t.Errorf("%d ACKs and %d full ports in %d runs: the model does too little", acks, full, seeds)
	}
}
