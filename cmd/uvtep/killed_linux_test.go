package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/uvtep/uvtep/dhcpd/dhcpdtest"
	"github.com/uvtep/uvtep/internal/nettest"
)

// Whoever was told that an address is his keeps it, and nobody else is told the
// same of it, however often and whenever the daemon is killed. The clients are
// many and never rest; what counts is what has come to them.
func TestKillingTheDaemonLosesNoLeaseThatAClientWasTold(t *testing.T) {
	t.Parallel()
	kills := 20
	switch {
	case os.Getenv("UVTEP_TEST") == "full":
		kills = 1000
	case testing.Short():
		kills = 5
	}
	h := newHost(t)
	g := nettest.New(t, "a")
	// Hardly more addresses than clients, so that they pass from one to another.
	h.write(fmt.Sprintf(`segments:
  - vni: 100
    ports: [{tap: tapa, netns: %s, rename: eth0}]
    dhcp: {subnet: 192.168.100.0/24, server: 192.168.100.1, ranges: [192.168.100.10-192.168.100.89], lease: 1h, probe: off, offer_hold: 1s}
`, g.Name))
	seed := uint64(time.Now().UnixNano())
	c := newCrowd(t, g, 64, seed)
	began := time.Now()
	var starting time.Duration
	for range kills {
		at := time.Now()
		p := h.run()
		starting += time.Since(at)
		c.open()
		time.AfterFunc(time.Duration(5+c.random.IntN(120))*time.Millisecond, func() { p.cmd.Process.Kill() })
		var dead atomic.Bool
		go func() { p.end(); dead.Store(true) }()
		c.live(dead.Load)
		c.close()
	}
	h.run()
	c.open()
	c.confirm()
	c.compare(h.show("leases"))
	c.close()
	t.Logf("seed %d: %d kills in %v (%v a start), %d ACKs to %d clients, %d releases: %d leases lost, %d given twice", seed, kills,
		time.Since(began).Round(time.Millisecond), (starting / time.Duration(kills)).Round(time.Millisecond), c.acks, c.made, c.releases, c.lost, c.doubles)
	if c.acks < kills {
		t.Errorf("with %d ACKs nothing is shown", c.acks)
	}
}

// crowd is many clients on one interface, and what they were told.
type crowd struct {
	t        *testing.T
	ns       *nettest.NS
	random   *rand.Rand
	fd       int
	clients  []*member
	byMAC    map[[6]byte]*member
	holders  map[netip.Addr]*member // who was told that an address is his
	frame    []byte
	room     [2048]byte
	gone     []farewell
	round    int // how often it listened
	made     int
	acks     int
	releases int
	lost     int
	doubles  int
}

// member is a client.
type member struct {
	dhcpdtest.Client
	asked time.Time  // when it last sent something that has not been answered; zero: it has
	holds netip.Addr // what it was told is its own
	until time.Time
	told  int // how often
}

// farewell is what somebody said who has left.
type farewell struct {
	m     *member
	msg   []byte
	from  netip.Addr
	round int
}

// patience is how long a client waits for an answer before it asks again.
const patience = 200 * time.Millisecond

func newCrowd(t *testing.T, ns *nettest.NS, n int, seed uint64) *crowd {
	c := &crowd{t: t, ns: ns, random: rand.New(rand.NewPCG(seed, 0)), byMAC: map[[6]byte]*member{}, holders: map[netip.Addr]*member{}}
	for range n {
		c.clients = append(c.clients, c.member())
	}
	return c
}

// member makes a client that nobody knows.
func (c *crowd) member() *member {
	c.made++
	mac := [6]byte{2, 1}
	binary.BigEndian.PutUint32(mac[2:], uint32(c.made))
	m := &member{Client: dhcpdtest.Client{MAC: net.HardwareAddr(mac[:])}}
	c.byMAC[mac] = m
	return m
}

// open waits for the interface and listens on it.
func (c *crowd) open() {
	c.t.Helper()
	var err error
	c.ns.Do(func() {
		var eth0 *net.Interface
		for range 1000 { // it is handed over while the daemon starts
			if eth0, err = net.InterfaceByName("eth0"); err == nil {
				break
			}
			time.Sleep(time.Millisecond)
		}
		if err != nil {
			return
		}
		c.ns.Exec("ip", "link", "set", "eth0", "up")
		if c.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return
		}
		wait := unix.NsecToTimeval(int64(time.Millisecond))
		err = errors.Join(
			unix.SetsockoptTimeval(c.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait),
			unix.Bind(c.fd, &unix.SockaddrLinklayer{Protocol: 0x0008, Ifindex: eth0.Index}), // IPv4, big endian
		)
	})
	if err != nil {
		c.t.Fatal(err)
	}
	for _, m := range c.clients {
		m.asked = time.Time{}
	}
	// Whoever left while the daemon died may not have been heard: without this
	// the addresses would run out.
	c.gone = slices.DeleteFunc(c.gone, func(f farewell) bool { return f.round+3 < c.round })
	for _, f := range c.gone {
		c.send(f.m, f.msg, f.from)
	}
	c.round++
}

func (c *crowd) close() { unix.Close(c.fd) }

// live has everybody do what clients do until over says that the daemon is dead
// and what it said has been heard.
func (c *crowd) live(over func() bool) {
	for {
		heard := c.hear()
		if !heard && over() {
			for c.hear() {
			}
			return
		}
		for _, m := range c.clients {
			if m.asked.IsZero() || time.Since(m.asked) > patience {
				c.act(m)
			}
		}
	}
}

// act has a client ask for something.
func (c *crowd) act(m *member) {
	switch {
	case !m.holds.IsValid():
		c.send(m, m.Discover(), netip.IPv4Unspecified())
	case c.random.IntN(8) == 0:
		c.release(m)
	case c.random.IntN(2) == 0:
		c.send(m, m.Renew(), m.holds)
	default:
		c.send(m, m.Reboot(), netip.IPv4Unspecified())
	}
}

// release gives the address back: from now on nothing is promised. Half of those
// who do leave for good, and somebody else comes.
func (c *crowd) release(m *member) {
	c.releases++
	delete(c.holders, m.holds)
	from := m.holds
	m.holds = netip.Addr{}
	msg := m.Release()
	c.send(m, msg, from)
	m.asked = time.Time{}
	if c.random.IntN(2) == 0 {
		for i := range c.clients {
			if c.clients[i] == m {
				delete(c.byMAC, [6]byte(m.MAC))
				c.gone = append(c.gone, farewell{m, msg, from, c.round})
				c.clients[i] = c.member()
			}
		}
	}
}

// send sends a message, by broadcast.
func (c *crowd) send(m *member, msg []byte, src netip.Addr) {
	const headers = 14 + 20 + 8
	b := append(c.frame[:0], make([]byte, headers)...)
	copy(b, "\xff\xff\xff\xff\xff\xff")
	copy(b[6:], m.MAC)
	b[12], b[13] = 0x08, 0x00
	ip := b[14:]
	ip[0], ip[8], ip[9] = 0x45, 64, 17
	binary.BigEndian.PutUint16(ip[2:], uint16(20+8+len(msg)))
	copy(ip[12:], src.AsSlice())
	copy(ip[16:], "\xff\xff\xff\xff")
	var sum uint32
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(ip[i:]))
	}
	binary.BigEndian.PutUint16(ip[10:], ^uint16(sum+sum>>16))
	binary.BigEndian.PutUint16(ip[20:], 68)
	binary.BigEndian.PutUint16(ip[22:], 67)
	binary.BigEndian.PutUint16(ip[24:], uint16(8+len(msg))) // and no checksum (RFC 768)
	c.frame = append(b, msg...)
	m.asked = time.Now()
	_, _ = unix.Write(c.fd, c.frame) // the daemon may be dead already
}

// hear takes one frame, if one comes soon.
func (c *crowd) hear() bool {
	n, err := unix.Read(c.fd, c.room[:])
	if err != nil {
		return err == unix.ENETDOWN // said once; what came before is still there
	}
	if n < 14+20+8 || c.room[14+9] != 17 {
		return true
	}
	ip := c.room[14:n]
	udp := ip[4*int(ip[0]&15):]
	if binary.BigEndian.Uint16(udp) != 67 || len(udp) < 8+34 {
		return true
	}
	m := c.byMAC[[6]byte(udp[8+28:])]
	if m == nil {
		return true
	}
	wasHis := m.holds
	asked := m.State
	send, err := m.Receive(udp[8:])
	switch {
	case errors.Is(err, dhcpdtest.ErrRefused):
		m.asked = time.Time{}
		if wasHis.IsValid() && time.Now().Before(m.until) {
			c.lost++
			c.t.Errorf("%v was told that %v is its own, and %v is refused", m.MAC, wasHis, asked)
			delete(c.holders, wasHis)
		}
		m.holds = netip.Addr{}
	case err != nil: // an answer to what it asked before
	case send != nil:
		c.send(m, send, netip.IPv4Unspecified())
	default:
		m.asked = time.Time{}
		c.told(m, wasHis)
	}
	return true
}

// told notes an ACK.
func (c *crowd) told(m *member, wasHis netip.Addr) {
	c.acks++
	m.told++
	if wasHis.IsValid() && wasHis != m.IP {
		c.lost++
		c.t.Errorf("%v was told that %v is its own, and now %v", m.MAC, wasHis, m.IP)
		delete(c.holders, wasHis)
	}
	if other := c.holders[m.IP]; other != nil && other != m && time.Now().Before(other.until) {
		c.doubles++
		c.t.Errorf("%v is told that %v is its own, as %v was", m.MAC, m.IP, other.MAC)
	}
	_, _, lease := m.Times()
	c.holders[m.IP] = m
	m.holds, m.until = m.IP, time.Now().Add(lease)
}

// confirm has everybody who was told that an address is his ask whether it still is.
func (c *crowd) confirm() {
	open := map[*member]int{} // and how often it had been told
	for _, m := range c.holders {
		open[m] = m.told
		m.asked = time.Time{}
	}
	for deadline := time.Now().Add(20 * time.Second); len(open) > 0; {
		for m, was := range open {
			switch {
			case m.told > was || !m.holds.IsValid():
				delete(open, m)
			case time.Now().After(deadline):
				c.lost++
				c.t.Errorf("%v was told that %v is its own, and nobody knows of it", m.MAC, m.holds)
				delete(open, m)
			case m.asked.IsZero() || time.Since(m.asked) > patience:
				c.send(m, m.Reboot(), netip.IPv4Unspecified())
			}
		}
		c.hear()
	}
}

// compare wants the daemon to list what clients were told.
func (c *crowd) compare(leases []map[string]any) {
	listed := map[string]any{}
	for _, l := range leases {
		if l["state"] == "bound" {
			listed[fmt.Sprint(l["ip"])] = l["mac"]
		}
	}
	for ip, m := range c.holders {
		if mac := listed[ip.String()]; mac != m.MAC.String() {
			c.lost++
			c.t.Errorf("%v was told that %v is its own; listed is %v", m.MAC, ip, mac)
		}
	}
}
