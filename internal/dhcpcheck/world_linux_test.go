package dhcpcheck

import (
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/uvtep/uvtep/internal/verdict"
)

// instance is a server that runs, as its operator has it in hand.
type instance interface {
	// restart ends the process, by SIGKILL if hard, and starts it anew.
	restart(hard bool)
	// log is what the server has written so far.
	log() string
	// warned says that it has written of the address as of something to look at.
	warned(netip.Addr) bool
	// reserve keeps an address for a client while the server runs; unreserve
	// undoes it, and says what the two take where it is not a command for one
	// reservation; free takes a lease back. They call cannot where there is no way.
	reserve(host)
	unreserve(host) (takes string)
	free(netip.Addr)
	// flap takes the link down and up again.
	flap()
}

// world is a server that runs with an intent, and the other end of its wire.
type world struct {
	*wire
	instance
	second  *wire // of the other tenant
	hw      mac   // the server's
	lastXID uint32
}

// patience is how long a server may take on a machine that has much to do.
const patience = 10 * time.Second

// meet finds the server's hardware address, and with it out that it is there.
func (w *world) meet() {
	w.owners[routerIP], w.owners[relayIP] = router, router
	for until := time.Now().Add(patience); time.Now().Before(until); {
		if err := w.send(arpFrame(1, router, routerIP, mac{}, serverIP)); err != nil {
			verdict.Fail("%v", err)
		}
		b := make([]byte, 2048)
		w.f.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		for {
			n, err := w.f.Read(b)
			if err != nil {
				break
			}
			if n >= 42 && binary.BigEndian.Uint16(b[12:]) == 0x0806 && b[21] == 2 && netip.AddrFrom4([4]byte(b[28:32])) == serverIP {
				w.hw = mac(b[22:28])
				return
			}
		}
	}
	verdict.Fail("nobody answers ARP for %s", serverIP)
}

// again finds the server anew, after it or the link was gone.
func (w *world) again() {
	w.reopen()
	w.meet()
}

// wrote waits for something to be in the log: a server writes it before it
// answers, but it takes its time on the way here.
func (w *world) wrote(is func() bool) bool {
	for until := time.Now().Add(patience); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(until) {
			return false
		}
	}
	return true
}

// exchange sends a message and returns the reply to it, nil for silence. That a
// server is silent shows by what it answers later: first there is a wait, then
// the witness gets a lease, and what has not come by then does not come.
func (w *world) exchange(h way, m *message, wait time.Duration) *packet {
	w.sendMessage(h, m)
	mine := func(p *packet) bool { return p.unreadable != nil || p.xid == m.xid && p.chaddr == m.chaddr }
	if p := w.await(wait, mine); p != nil {
		return p
	}
	w.witness()
	return w.await(30*time.Millisecond, mine)
}

func (w *world) sendMessage(h way, m *message) {
	if err := w.send(datagram(h, m.bytes())); err != nil {
		verdict.Fail("%v", err)
	}
}

func (w *world) await(wait time.Duration, want func(*packet) bool) *packet {
	p, err := w.pump(time.Now().Add(wait), want)
	switch {
	case err != nil:
		verdict.Fail("%v", err)
	case p != nil && p.unreadable != nil:
		verdict.Fail("a reply that cannot be read: %v", p.unreadable)
	}
	return p
}

// witness has the machine with the reservation take its address, as often as it
// takes: whatever the server was sent before, it has dealt with then.
func (w *world) witness() {
	s := &station{w: w, mac: witness, params: defaultParams}
	insist := func(m *message, typ byte) *packet {
		for until := time.Now().Add(patience); time.Now().Before(until); {
			w.sendMessage(s.local(), m)
			if p := w.await(time.Second, func(p *packet) bool { return p.message != nil && p.xid == m.xid && p.chaddr == m.chaddr }); p != nil {
				if p.typ() != typ {
					verdict.Fail("the witness got %v, not %s", p, typeNames[typ])
				}
				return p
			}
		}
		verdict.Fail("it has stopped answering")
		return nil
	}
	o := insist(s.message(discover), offer)
	insist(s.message(request, optAddr(50, o.yiaddr), opt(54, o.get(54)...)), ack)
}
