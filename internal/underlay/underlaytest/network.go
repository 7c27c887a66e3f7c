// Package underlaytest is a double of package underlay: an IP network in
// memory, with the endpoints that were opened on it, which can lose packets,
// be too narrow for them, and carry those of strangers.
package underlaytest

import (
	"fmt"
	"net/netip"
	"sync"

	"github.com/uvtep/uvtep/internal/underlay"
)

// Packet is a UDP datagram on the network.
type Packet struct {
	Src, Dst netip.AddrPort
	TOS, TTL uint8
	DF       bool   // of an endpoint's over IPv4
	Payload  []byte // only valid during the call that it is handed to
}

// Network connects endpoints. It is made with NewNetwork and may be used by
// many goroutines. A packet arrives before the Write that sends it returns.
type Network struct {
	// Offload is what its endpoints can do; it is set before any is opened.
	Offload underlay.Offload

	mu        sync.Mutex
	endpoints map[netip.AddrPort]*Endpoint
	mtu       int
	paths     map[netip.Addr]int // MTUs of paths that are narrower than that
	onPacket  func(Packet)
	lose      func(Packet) bool
}

// NewNetwork makes a network with an MTU of 1500 bytes that loses nothing.
func NewNetwork() *Network {
	return &Network{endpoints: map[netip.AddrPort]*Endpoint{}, mtu: 1500}
}

// Open is an underlay.Opener. Any address is one of the host's; each, with its
// port, can be open once, else the error is underlay.ErrPortInUse.
func (n *Network) Open(cfg underlay.Config) (underlay.Endpoint, error) {
	cfg.Local = cfg.Local.Unmap()
	if !cfg.Local.IsValid() || cfg.Local.IsUnspecified() || cfg.Local.IsMulticast() {
		return nil, fmt.Errorf("underlay: %w: %s", underlay.ErrNotLocal, cfg.Local)
	}
	e := newEndpoint(n, cfg)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.endpoints[e.addr] != nil {
		return nil, fmt.Errorf("underlay: %w: %s", underlay.ErrPortInUse, e.addr)
	}
	n.endpoints[e.addr] = e
	return e, nil
}

// Endpoint returns the endpoint that is open on that address and port, nil if
// there is none.
func (n *Network) Endpoint(addr netip.AddrPort) *Endpoint {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.endpoints[addr]
}

// OnPacket sets what is called with every packet that is sent, before it
// arrives or is lost; nil for nothing. It is called from the goroutine of Write,
// or of Inject.
func (n *Network) OnPacket(f func(Packet)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.onPacket = f
}

// Lose sets what decides which packets are lost on the way; nil for none. The
// sender is not told. Called like the function of OnPacket, and after it.
func (n *Network) Lose(f func(Packet) bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lose = f
}

// SetMTU sets the MTU of the network, bytes: a packet that is longer with its
// IP and UDP headers gets TooBig.
func (n *Network) SetMTU(mtu int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mtu = mtu
}

// SetPathMTU sets the MTU of the path to an address, bytes, as if every endpoint
// had learnt it; 0 is that of the network again. One with DFClear learns nothing
// of paths.
func (n *Network) SetPathMTU(to netip.Addr, mtu int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.paths == nil {
		n.paths = map[netip.Addr]int{}
	}
	n.paths[to] = mtu
}

// pathMTU is that of the path to an address; the caller holds mu.
func (n *Network) pathMTU(to netip.Addr) int {
	if mtu := n.paths[to]; mtu != 0 {
		return min(mtu, n.mtu)
	}
	return n.mtu
}

// Inject sends a packet as somebody who need not be an endpoint, and returns how
// many queues it arrived at.
func (n *Network) Inject(p Packet) int {
	n.mu.Lock()
	var sender *Endpoint
	for addr, e := range n.endpoints {
		if addr.Addr() == p.Src.Addr() {
			sender = e
		}
	}
	n.mu.Unlock()
	return n.carry(p, sender)
}

// carry takes a packet to those it is for, and returns how many queues took it.
// What goes to a group does not come back to sender.
func (n *Network) carry(p Packet, sender *Endpoint) int {
	n.mu.Lock()
	onPacket, lose := n.onPacket, n.lose
	n.mu.Unlock()
	if onPacket != nil {
		onPacket(p)
	}
	if lose != nil && lose(p) {
		return 0
	}
	var to [8]*Queue
	took := 0
	for _, q := range n.deliver(to[:0], p, sender) {
		took++
		if wake := q.notified(); wake != nil {
			wake()
		}
	}
	return took
}

// deliver puts the packet into the queues that it is for and appends them to to.
func (n *Network) deliver(to []*Queue, p Packet, sender *Endpoint) []*Queue {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !p.Dst.Addr().IsMulticast() {
		if e := n.endpoints[p.Dst]; e != nil {
			if q := e.queues[e.spread(p.Src)]; q.put(p) {
				to = append(to, q)
			}
		}
		return to
	}
	for _, e := range n.endpoints {
		m := e.groups[p.Dst.Addr()]
		if m != nil && e.addr.Port() == p.Dst.Port() && e != sender && m.queue.put(p) {
			to = append(to, m.queue)
		}
	}
	return to
}
