package vteptest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/uvtep/uvtep/dhcpd/dhcpdtest"
	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/frame"
)

// UDP ports of DHCPv4 (RFC 2131 section 4.1).
const (
	dhcpServerPort = 67
	dhcpClientPort = 68
)

// Lease is what a guest was given by DHCP.
type Lease struct {
	Address netip.Prefix  // with the subnet's length
	Server  netip.Addr    // its identifier
	Gateway netip.Addr    // the zero Addr if there is none
	DNS     []netip.Addr  // in the server's order
	MTU     int           // bytes; 0 = not told
	Length  time.Duration // until it ends
}

// DHCP gets an address: DISCOVER, OFFER, REQUEST, ACK, from the start again where
// an answer is lost. The address becomes the guest's. One that it had before is
// asked for.
func (g *Guest) DHCP(ctx context.Context) (Lease, error) {
	g.dhcp.Lock()
	defer g.dhcp.Unlock()
	return g.exchange(ctx, "get an address by DHCP", func() error { return g.broadcast(g.c.Discover()) })
}

// Renew prolongs the lease at the server that gave it.
func (g *Guest) Renew(ctx context.Context) (Lease, error) {
	g.dhcp.Lock()
	defer g.dhcp.Unlock()
	server, mac, err := g.server(ctx)
	if err != nil {
		return Lease{}, err
	}
	return g.exchange(ctx, "renew its lease", func() error { return g.unicast(mac, server, g.c.Renew()) })
}

// Release gives the lease back; the guest then has no address. Nobody answers a
// RELEASE: it may be lost.
func (g *Guest) Release(ctx context.Context) error {
	g.dhcp.Lock()
	defer g.dhcp.Unlock()
	server, mac, err := g.server(ctx)
	if err != nil {
		return err
	}
	if err := g.unicast(mac, server, g.c.Release()); err != nil {
		return err
	}
	g.SetIP(netip.Addr{})
	return nil
}

// server is the one that the lease is from.
func (g *Guest) server(ctx context.Context) (netip.Addr, fdb.MAC, error) {
	if g.c.Ack == nil {
		return netip.Addr{}, 0, fmt.Errorf("guest %s: it has no lease", g.name)
	}
	ip := addrOf(g.c.Ack.ServerIdentifier())
	mac, err := g.Resolve(ctx, ip)
	return ip, mac, err
}

// exchange starts with begin, and answers what the client's state machine wants
// answered, until the client is bound or refused.
func (g *Guest) exchange(ctx context.Context, what string, begin func() error) (Lease, error) {
	var failed error
	err := g.until(ctx, begin, func() bool {
		for g.c.State != dhcpdtest.Bound && failed == nil {
			reply, ok := g.reply()
			if !ok {
				return false
			}
			next, err := g.c.Receive(reply)
			switch {
			case errors.Is(err, dhcpdtest.ErrUnexpected):
			case err != nil:
				failed = err
			case next != nil:
				failed = g.broadcast(next)
			}
		}
		return true
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		if errors.Is(err, dhcpdtest.ErrRefused) {
			g.SetIP(netip.Addr{})
		}
		return Lease{}, fmt.Errorf("guest %s: %s: %w", g.name, what, err)
	}
	l := leaseOf(g.c.Ack)
	g.SetIP(l.Address.Addr())
	return l, nil
}

// reply is the next DHCP message that came.
func (g *Guest) reply() ([]byte, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.replies) == 0 {
		return nil, false
	}
	b := g.replies[0]
	g.replies = g.replies[1:]
	return b, true
}

func (g *Guest) broadcast(msg []byte) error {
	return g.Send(udp(g.mac, fdb.Broadcast, netip.IPv4Unspecified(), netip.AddrFrom4([4]byte{255, 255, 255, 255}), dhcpClientPort, dhcpServerPort, msg))
}

func (g *Guest) unicast(mac fdb.MAC, server netip.Addr, msg []byte) error {
	return g.Send(udp(g.mac, mac, g.c.IP, server, dhcpClientPort, dhcpServerPort, msg))
}

// takeDHCP keeps a message for the client.
func (g *Guest) takeDHCP(f *frame.Frame) bool {
	if _, port := f.UDPPorts(); port != dhcpClientPort {
		return false
	}
	u := f.Bytes()[f.Info.L4:]
	msg := u[8:binary.BigEndian.Uint16(u[4:])]
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.replies) < inboxLen {
		g.replies = append(g.replies, append([]byte(nil), msg...))
	}
	return true
}

func leaseOf(ack *dhcpv4.DHCPv4) Lease {
	ones, _ := ack.SubnetMask().Size()
	l := Lease{
		Address: netip.PrefixFrom(addrOf(ack.YourIPAddr), ones),
		Server:  addrOf(ack.ServerIdentifier()),
		Length:  ack.IPAddressLeaseTime(0),
	}
	if r := ack.Router(); len(r) > 0 {
		l.Gateway = addrOf(r[0])
	}
	for _, d := range ack.DNS() {
		l.DNS = append(l.DNS, addrOf(d))
	}
	if mtu, err := dhcpv4.GetUint16(dhcpv4.OptionInterfaceMTU, ack.Options); err == nil {
		l.MTU = int(mtu)
	}
	return l
}

func addrOf(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip.To4())
	return a
}
