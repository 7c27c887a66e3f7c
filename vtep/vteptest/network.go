// Package vteptest runs VTEPs, guests and DHCP clients in memory: without root,
// devices or sockets, on any system, so that a program that embeds package vtep
// can be tested like any other.
//
//	n := vteptest.NewNetwork()
//	host := n.NewHost(t, n.Config(netip.MustParseAddr("10.9.0.1")))
//	host.NewSegment(t, vtep.SegmentConfig{VNI: 100})
//	a := host.NewGuest(t, 100, vtep.PortConfig{Name: "tap1"})
//	b := host.NewGuest(t, 100, vtep.PortConfig{Name: "tap2"})
//	a.SetIP(netip.MustParseAddr("192.168.100.1"))
//	b.SetIP(netip.MustParseAddr("192.168.100.2"))
//	err := a.Ping(t.Context(), b.IP())
//
// A program that makes its own VTEPs takes what Network.Config returns instead
// of a Config of its own, and the test plugs guests into the TAPs that the
// program attaches.
package vteptest

import (
	"context"
	"fmt"
	"net/netip"
	"sync"

	"github.com/uvtep/uvtep/encap"
	"github.com/uvtep/uvtep/internal/tap"
	"github.com/uvtep/uvtep/internal/tap/taptest"
	"github.com/uvtep/uvtep/internal/underlay/underlaytest"
	"github.com/uvtep/uvtep/vtep"
)

// Network is an underlay in memory and the hosts on it, each with TAP devices
// of its own. It is made with NewNetwork; its methods may be called at any time
// by any goroutine.
type Network struct {
	wire *underlaytest.Network

	mu     sync.Mutex
	hosts  map[netip.Addr]*taptest.Host
	opened chan struct{} // closed, and another one made, when a TAP was opened
}

// NewNetwork makes a network with an MTU of 1500 bytes that loses nothing.
func NewNetwork() *Network {
	return &Network{wire: underlaytest.NewNetwork(), hosts: map[netip.Addr]*taptest.Host{}, opened: make(chan struct{})}
}

// Config is that of a VTEP on this network, with one worker, so that frames
// keep their order; the caller may add to it. Any local address will do, but for
// each there is one VTEP a port.
func (n *Network) Config(local netip.Addr) vtep.Config {
	taps := n.taps(local)
	return vtep.Config{
		Local: local, Workers: 1, OpenUnderlay: n.wire.Open,
		OpenTAP: func(c tap.Config) (tap.Device, error) {
			d, err := taps.Open(c)
			if err != nil {
				return nil, err
			}
			n.mu.Lock()
			defer n.mu.Unlock()
			close(n.opened)
			n.opened = make(chan struct{})
			return d, nil
		},
	}
}

// taps are the TAP devices of the host that has an address.
func (n *Network) taps(local netip.Addr) *taptest.Host {
	n.mu.Lock()
	defer n.mu.Unlock()
	h := n.hosts[local.Unmap()]
	if h == nil {
		h = taptest.NewHost()
		n.hosts[local.Unmap()] = h
	}
	return h
}

// NewGuest plugs a guest into the TAP of that name on the host that has the
// address local; a TAP takes one. It waits for the TAP to be opened until ctx is
// done.
func (n *Network) NewGuest(ctx context.Context, local netip.Addr, name string) (*Guest, error) {
	taps := n.taps(local)
	for {
		n.mu.Lock()
		opened := n.opened
		n.mu.Unlock()
		if d := taps.Device(name); d != nil {
			return plug(local, d), nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("guest at %s on %v: the TAP was not opened: %w", name, local, ctx.Err())
		case <-opened:
		}
	}
}

// Packet is a UDP datagram on the underlay.
type Packet struct {
	Src, Dst netip.AddrPort
	TOS, TTL uint8  // of the IP header
	DF       bool   // its don't-fragment flag, over IPv4
	Payload  []byte // VXLAN header and frame; good only during the call that it is handed to
}

// VNI is the segment that the packet says it belongs to, 0 if it says none.
func (p Packet) VNI() encap.VNI {
	vni, _ := encap.ParseHeader(p.Payload, false)
	return vni
}

// Frame is the Ethernet frame in the packet, nil if there is none.
func (p Packet) Frame() []byte {
	if len(p.Payload) <= encap.HeaderLen {
		return nil
	}
	return p.Payload[encap.HeaderLen:]
}

// Encapsulate is the packet that carries a frame of a segment between two VTEPs.
func Encapsulate(src, dst netip.Addr, vni encap.VNI, frame []byte) Packet {
	b := make([]byte, encap.HeaderLen, encap.HeaderLen+len(frame))
	encap.PutHeader(b, vni)
	return Packet{
		Src: netip.AddrPortFrom(src, 49152), Dst: netip.AddrPortFrom(dst, encap.Port), TTL: 64, Payload: append(b, frame...),
	}
}

// Inject sends a packet as somebody who need not have a VTEP. It reports whether
// the packet arrived at one.
func (n *Network) Inject(p Packet) bool { return n.wire.Inject(underlaytest.Packet(p)) > 0 }

// Watch has f called with every packet that is sent, before it arrives or is
// lost; nil ends that. Senders call it, many at once perhaps, and wait for it.
func (n *Network) Watch(f func(Packet)) {
	if f == nil {
		n.wire.OnPacket(nil)
		return
	}
	n.wire.OnPacket(func(p underlaytest.Packet) { f(Packet(p)) })
}

// Lose has f decide which packets are lost on the way; nil: none. Called like
// Watch's.
func (n *Network) Lose(f func(Packet) bool) {
	if f == nil {
		n.wire.Lose(nil)
		return
	}
	n.wire.Lose(func(p underlaytest.Packet) bool { return f(Packet(p)) })
}

// SetMTU sets the underlay's MTU, bytes. VTEPs that are made later see it; a
// packet of those there are that is longer, its IP and UDP headers included,
// is not sent.
func (n *Network) SetMTU(mtu int) { n.wire.SetMTU(mtu) }

// SetPathMTU sets the MTU of the path to an address, bytes, as if every VTEP had
// learnt it of a router; 0 is the underlay's again.
func (n *Network) SetPathMTU(to netip.Addr, mtu int) { n.wire.SetPathMTU(to, mtu) }

// TAPs are the names of the TAPs that are open on a host, sorted.
func (n *Network) TAPs(local netip.Addr) []string { return n.taps(local).Names() }
