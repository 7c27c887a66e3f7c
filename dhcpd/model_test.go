package dhcpd_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
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
	knows map[netip.Addr]bool // addresses that nobody else was given since
	stale bool                // the store has a lease that it gave up, which a failing disk did not note
}

// modelCap is how many leases a port of the model may have.
const modelCap = 2

// model is the oracle: it knows only what clients were told.
type model struct {
	*world
	rng     *rand.Rand
	tenants []*tenant
	inbox   []letter // replies on their way
	script  []string
	edits   []func(*dhcpd.SegmentConfig)
	other   []func(*dhcpd.SegmentConfig) // what a reconfiguration changes to, and back
	acks    int
	full    int // times that a port was

	asked   map[netip.Addr]time.Duration // when the segment was last asked about an address
	claimed map[netip.Addr]time.Duration // until when an address is a stranger's
	claims  int
	probes  uint64

	ledger *ledger
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
			if p.typ() != nak {
				m.given(c, p.yiaddr(), what)
			}
			if p.typ() == ack {
				m.acks++
				m.claim(c, p.yiaddr(), p.leaseTime()+sent)
			}
			m.inbox = append(m.inbox, letter{c, p.Payload, sent})
		})
		m.log("%s of %s on %s for %s: %v", what, c.MAC, c.port, c.IP, out)
		if out == dhcpd.Pending && what != "DISCOVER" { // it has what it asked for, told or not
			for _, l := range m.srv.Leases() {
				if c.owns(l) {
					m.belongs(l.IP, c)
				}
			}
		}
		// A client that had nothing got something only if its port had room,
		// and was refused for its port only if that was full.
		before := held
		held, _ = m.held(c)
		if c.stale {
			continue
		}
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
		case c.owns(l):
			itself = true
		case l.Port == c.port:
			others++
		}
	}
	return itself, others
}

// given is the property of probes: nobody is given a stranger's address, and one
// that is new to the client only once the segment was asked and had its time to
// answer, unless the client did not have it from a DISCOVER.
func (m *model) given(c *tenant, ip netip.Addr, what string) {
	now := m.clock.Elapsed()
	if m.claimed[ip] > now {
		m.fail("%s was given to %s, and a stranger uses it", ip, c.MAC)
	}
	at, asked := m.asked[ip]
	if m.probing() && what == "DISCOVER" && !c.knows[ip] && (!asked || now-at < wait) {
		m.fail("%s was given to %s; asked about it %t, %s ago", ip, c.MAC, asked, now-at)
	}
	m.belongs(ip, c)
}

// belongs notes that an address is new to everybody but one.
func (m *model) belongs(ip netip.Addr, c *tenant) {
	for _, o := range m.tenants {
		delete(o.knows, ip)
	}
	c.knows[ip] = true
	delete(m.asked, ip)
}

func (m *model) probing() bool { return m.probes%2 == 1 }

// stranger claims an address, which is nobody's from then on but that of a lease.
func (m *model) stranger() {
	ip := addr(10 + m.rng.IntN(8))
	if len(m.asked) > 0 && m.rng.IntN(4) > 0 {
		all := slices.SortedFunc(maps.Keys(m.asked), netip.Addr.Compare)
		ip = all[m.rng.IntN(len(all))]
	}
	l, ok := m.srv.Lookup(ip)
	m.srv.InUse(ip, stranger)
	now, _ := m.srv.Lookup(ip)
	m.log("a stranger claims %s, which is %v of %s: %v", ip, l.State, l.HardwareAddr(), now.State)
	if taken := now.State == dhcpd.StateDeclined; ok && l.State == dhcpd.StateOffered && !taken || ok && l.State == dhcpd.StateBound && taken {
		m.fail("%s was %v and is %v", ip, l.State, now.State)
	} else if taken {
		m.claimed[ip] = m.clock.Elapsed() + now.Expires.Sub(m.clock.Now())
		m.claims++
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
	case n < 88:
		m.log("commit")
		m.svc.Commit()
		if want, got := boundOf(m.srv.Leases()), m.ledger.prefixes(); !slices.Equal(got, want) {
			m.fail("a watcher knows of %v, leased are %v", got, want)
		}
	case n < 90:
		m.log("commit fails")
		m.store.FailOnce(errors.New("input/output error"))
		m.svc.Commit()
		m.store.Fail(nil)
	case n < 92:
		m.stranger()
	case n < 94:
		m.log("%s pass", wait)
		m.clock.Advance(wait)
		m.srv.Probed()
	case n < 98:
		d := []time.Duration{time.Second, time.Minute, 5 * time.Minute, 20 * time.Minute}[m.rng.IntN(4)]
		m.log("%s pass", d)
		m.clock.Advance(d)
		m.srv.Probed()
	case n == 98 && m.rng.IntN(2) == 0:
		m.log("reconfigure")
		m.edits, m.other = m.other, m.edits
		cfg := blue()
		for _, edit := range m.edits {
			edit(&cfg)
		}
		if err := m.srv.Reconfigure(cfg); err != nil {
			m.fail("%v", err)
		}
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
	if err := m.svc.Remove(100); err != nil {
		m.fail("%v", err)
	}
	m.begin(m.clock, m.store.Under)
	for ip := range m.claimed {
		if l, _ := m.srv.Lookup(ip); l.State != dhcpd.StateDeclined {
			delete(m.claimed, ip)
		}
	}
	// The store may remember who had an address that was offered to another.
	bound := map[*tenant]int{}
	if err := m.store.Load(100, func(l dhcpd.Lease) error {
		for _, c := range m.tenants {
			if c.owns(l) {
				c.knows[l.IP] = true
				if l.State == dhcpd.StateBound {
					bound[c]++
				}
			}
		}
		return nil
	}); err != nil {
		m.fail("%v", err)
	}
	for _, c := range m.tenants {
		c.stale = bound[c] > 1
	}
}

// owns says whether a lease is the client's.
func (c *tenant) owns(l dhcpd.Lease) bool {
	return l.ClientID == string(c.ClientID) && (c.ClientID != nil || l.CHAddr == string(c.MAC))
}

// begin makes a world over a store.
func (m *model) begin(clock *dhcpdtest.Clock, store dhcpd.Store) {
	m.world = newWorldOn(m.T, clock, store, m.edits...)
	m.asked = map[netip.Addr]time.Duration{}
	m.ledger, _ = m.watch()
	m.srv.ProbeWith(func(ip netip.Addr) {
		m.log("who has %s?", ip)
		m.asked[ip] = m.clock.Elapsed()
	})
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
	acks, full, claims := 0, 0, 0
	for seed := range uint64(seeds) {
		m := &model{rng: rand.New(rand.NewPCG(seed, 99)), probes: seed, claimed: map[netip.Addr]time.Duration{}}
		size := 2 + m.rng.IntN(6)
		m.edits = []func(*dhcpd.SegmentConfig){
			pool(size), func(c *dhcpd.SegmentConfig) { c.Lease = 15 * time.Minute; c.RapidCommit = seed%3 == 0 },
			func(c *dhcpd.SegmentConfig) {
				if m.probing() {
					c.Probe = wait
				}
			},
			reserved(dhcpd.Reservation{MAC: mac(0), IP: addr(10)}, dhcpd.Reservation{ClientID: []byte{0xff, 1}, IP: addr(200)}),
		}
		m.other = append(slices.Clone(m.edits), func(c *dhcpd.SegmentConfig) {
			c.Ranges = []dhcpd.Range{{First: addr(11), Last: addr(11 + size)}}
			c.Hosts = c.Hosts[:1]
			if seed%4 == 0 {
				c.Hosts = nil
			}
		})
		for i := range size + 3 {
			c := client(i)
			c.Rapid = i%2 == 0
			if i%3 == 1 {
				c.ClientID = []byte{0xff, byte(i)}
			}
			m.tenants = append(m.tenants, &tenant{Client: c, port: ports[i%len(ports)], knows: map[netip.Addr]bool{}})
		}
		m.world = &world{T: t}
		m.begin(dhcpdtest.NewClock(), nil)
		for range steps {
			m.step()
		}
		if err := m.svc.Remove(100); err != nil {
			t.Fatal(err)
		}
		acks, full, claims = acks+m.acks, full+m.full, claims+m.claims
	}
	if acks < seeds*20 || full < seeds || claims < seeds {
		t.Errorf("%d ACKs, %d full ports, %d claims in %d runs: the model does too little", acks, full, claims, seeds)
	}
}
