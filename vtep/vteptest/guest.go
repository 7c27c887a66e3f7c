package vteptest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"net/netip"
	"sync"
	"time"

	"github.com/uvtep/uvtep/dhcpd/dhcpdtest"
	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/tap/taptest"
)

// again is when a guest repeats what was not answered.
const again = 250 * time.Millisecond

// inboxLen is how many frames wait for Receive before more are lost.
const inboxLen = 1024

// ErrUnplugged is returned when a guest's port is gone: detached, vanished, or
// its VTEP closed.
var ErrUnplugged = errors.New("the guest's port is gone")

// Guest is a machine at a TAP: one MAC, at most one IPv4 address, and as much of
// a network stack as answers ARP, so also a probe for its address, and ping, and
// gets addresses by DHCP and DHCPv6. It lives
// as long as its port. Its methods may be called by any goroutine; those that
// wait do so until their context is done.
type Guest struct {
	name   string
	mac    fdb.MAC
	dev    *taptest.Device
	parsed frame.Batch // one frame, for the goroutine that receives

	dhcp sync.Mutex // held during an exchange
	c    dhcpdtest.Client
	c6   dhcpdtest.Client6

	mu         sync.Mutex
	ip         netip.Addr
	watch      func([]byte)
	neighbours map[netip.Addr]fdb.MAC
	answered   map[uint16]bool // echo requests, by number
	seq        uint16
	replies    [][]byte      // DHCP messages
	replies6   [][]byte      // of DHCPv6
	inbox      [][]byte      // for Receive
	changed    chan struct{} // closed, and another one made, when something came
	gone       bool
}

// plug makes a guest at a device and starts it.
func plug(host netip.Addr, d *taptest.Device) *Guest {
	g := &Guest{
		name: d.Name() + " on " + host.String(), dev: d, parsed: *frame.NewBatch(1, frame.MaxLen),
		neighbours: map[netip.Addr]fdb.MAC{}, answered: map[uint16]bool{}, changed: make(chan struct{}),
	}
	if hw := d.Config().MAC; len(hw) == 6 {
		g.mac = fdb.MACOf(hw)
	} else {
		h := fnv.New64a()
		h.Write([]byte(g.name))
		g.mac = fdb.MAC(0x02)<<40 | fdb.MAC(h.Sum64())&0xffffffffff
	}
	m := g.mac.Bytes()
	g.c.MAC, g.c6.MAC = m[:], m[:]
	go g.run()
	return g
}

// MAC is the guest's address: the port's MAC, or one made of the host's address
// and the port's name.
func (g *Guest) MAC() fdb.MAC { return g.mac }

// IP is the guest's address, the zero Addr if it has none.
func (g *Guest) IP() netip.Addr {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.ip
}

// SetIP gives the guest an IPv4 address.
func (g *Guest) SetIP(a netip.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ip = a
}

// MTU is that of the guest's interface, bytes.
func (g *Guest) MTU() int { return g.dev.MTU() }

// Watch has f called with every frame that reaches the guest, before the guest
// does anything about it; nil ends that. The frame is good only during the call.
func (g *Guest) Watch(f func(frame []byte)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.watch = f
}

// Send sends a frame, with the source address that stands in it.
func (g *Guest) Send(frame []byte) error {
	if g.dev.Send(frame) {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.gone {
		return fmt.Errorf("guest %s: %w", g.name, ErrUnplugged)
	}
	return fmt.Errorf("guest %s: the switch does not read what it sends", g.name)
}

// Receive returns the next frame that the guest's own stack has no use for, in
// the order of arrival: neither ARP, nor ping or DHCP for itself. Of 1024 that
// wait, more are lost.
func (g *Guest) Receive(ctx context.Context) ([]byte, error) {
	var b []byte
	err := g.until(ctx, nil, func() bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		if len(g.inbox) == 0 {
			return false
		}
		b, g.inbox = g.inbox[0], g.inbox[1:]
		return true
	})
	if err != nil {
		return nil, fmt.Errorf("guest %s: receive: %w", g.name, err)
	}
	return b, nil
}

// Resolve asks by ARP who has an address.
func (g *Guest) Resolve(ctx context.Context, ip netip.Addr) (fdb.MAC, error) {
	var m fdb.MAC
	ask := func() error { return g.Send(arpRequest(g.mac, g.IP(), ip)) }
	g.mu.Lock()
	delete(g.neighbours, ip)
	g.mu.Unlock()
	err := g.until(ctx, ask, func() (ok bool) {
		g.mu.Lock()
		defer g.mu.Unlock()
		m, ok = g.neighbours[ip]
		return ok
	})
	if err != nil {
		return 0, fmt.Errorf("guest %s: who has %v: %w", g.name, ip, err)
	}
	return m, nil
}

// Ping resolves an address and waits for its answer to an echo request. Every
// address counts as on the link.
func (g *Guest) Ping(ctx context.Context, ip netip.Addr) error {
	if !g.IP().IsValid() {
		return fmt.Errorf("guest %s: ping %v: it has no address of its own", g.name, ip)
	}
	m, err := g.Resolve(ctx, ip)
	if err != nil {
		return err
	}
	g.mu.Lock()
	g.seq++
	seq := g.seq
	g.mu.Unlock()
	ask := func() error { return g.Send(echo(8, g.mac, m, g.IP(), ip, uint16(g.mac), seq, []byte(g.name))) }
	err = g.until(ctx, ask, func() bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		return g.answered[seq]
	})
	if err != nil {
		return fmt.Errorf("guest %s: ping %v: %w", g.name, ip, err)
	}
	return nil
}

// until asks, and asks again, until done says so, which is called whenever
// something has come.
func (g *Guest) until(ctx context.Context, ask func() error, done func() bool) error {
	tick := time.NewTicker(again)
	defer tick.Stop()
	for due := ask != nil; ; {
		if due {
			if err := ask(); err != nil {
				return err
			}
			due = false
		}
		g.mu.Lock()
		gone, changed := g.gone, g.changed
		g.mu.Unlock()
		if done() {
			return nil
		}
		if gone {
			return ErrUnplugged
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		case <-tick.C:
			due = ask != nil
		}
	}
}

// run takes what arrives until the port is gone.
func (g *Guest) run() {
	for {
		b, err := g.dev.Recv(context.Background())
		g.mu.Lock()
		watch := g.watch
		g.gone = err != nil
		g.mu.Unlock()
		if err == nil && watch != nil {
			watch(b)
		}
		if err == nil {
			g.take(b)
		}
		g.mu.Lock()
		close(g.changed)
		g.changed = make(chan struct{})
		g.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// take does with a frame what a network stack does.
func (g *Guest) take(b []byte) {
	f := &g.parsed.Frames[0]
	if !f.Load(b) || !f.Parse() {
		return
	}
	if dst := fdb.MACOf(b); dst == g.mac || dst.IsGroup() {
		switch i := &f.Info; {
		case i.Tagged:
		case i.EtherType == frame.TypeARP:
			g.takeARP(f)
			return
		case i.EtherType == frame.TypeIPv6 && g.take6(f):
			return
		case i.EtherType != frame.TypeIPv4 || i.L4 == 0 || i.Fragment || !checksumsHold(f):
		case i.Proto == frame.ProtoICMP && g.takeEcho(f):
			return
		case i.Proto == frame.ProtoUDP && g.takeDHCP(f):
			return
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.inbox) < inboxLen {
		g.inbox = append(g.inbox, b)
	}
}

func (g *Guest) takeARP(f *frame.Frame) {
	p, ok := f.ARP()
	if !ok {
		return
	}
	sender, mac := netip.AddrFrom4([4]byte(p.SenderIP())), fdb.MACOf(p.SenderMAC())
	g.mu.Lock()
	ip := g.ip
	if p.Op() == frame.ARPReply {
		g.neighbours[sender] = mac
	}
	g.mu.Unlock()
	if p.Op() == frame.ARPRequest && ip == netip.AddrFrom4([4]byte(p.TargetIP())) {
		_ = g.Send(arp(frame.ARPReply, g.mac, mac, ip, mac, sender)) // lost, if there is no room
	}
}

// takeEcho answers an echo request for the guest, and notes an answer to one of
// its own.
func (g *Guest) takeEcho(f *frame.Frame) bool {
	b := f.Bytes()
	ip, icmp := b[f.Info.L3:], b[f.Info.L4:]
	src, dst := netip.AddrFrom4([4]byte(ip[12:16])), netip.AddrFrom4([4]byte(ip[16:20]))
	if dst != g.IP() || icmp[1] != 0 {
		return false
	}
	id, seq := binary.BigEndian.Uint16(icmp[4:]), binary.BigEndian.Uint16(icmp[6:])
	data := icmp[8 : int(f.Info.L3)+int(binary.BigEndian.Uint16(ip[2:]))-int(f.Info.L4)]
	switch {
	case icmp[0] == 8:
		_ = g.Send(echo(0, g.mac, fdb.MACOf(b[6:]), dst, src, id, seq, data))
	case icmp[0] == 0 && id == uint16(g.mac) && string(data) == g.name:
		g.mu.Lock()
		g.answered[seq] = true
		g.mu.Unlock()
	default:
		return false
	}
	return true
}
