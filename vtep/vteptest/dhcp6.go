package vteptest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"

	"github.com/uvtep/uvtep/dhcpd/dhcpdtest"
	"github.com/uvtep/uvtep/fdb"
	"github.com/uvtep/uvtep/internal/frame"
)

// UDP ports of DHCPv6 (RFC 8415 section 7.2).
const (
	dhcp6ServerPort = 547
	dhcp6ClientPort = 546
)

// allDHCPServers is the group of DHCPv6 servers and relays on a link (RFC 8415
// section 7.1), and its MAC.
var allDHCPServers = netip.MustParseAddr("ff02::1:2")

const allDHCPServersMAC = fdb.MAC(0x333300010002)

// Lease6 is what a guest was given by DHCPv6.
type Lease6 struct {
	Address          netip.Addr
	Preferred, Valid time.Duration
	DNS              []netip.Addr // in the server's order
	Search           []string
}

// LinkLocal is the guest's IPv6 address on the link, made of its MAC.
func (g *Guest) LinkLocal() netip.Addr {
	b := g.mac.Bytes()
	return netip.AddrFrom16([16]byte{0xfe, 0x80, 8: b[0] ^ 2, b[1], b[2], 0xff, 0xfe, b[3], b[4], b[5]})
}

// DHCP6 gets an IPv6 address: SOLICIT, ADVERTISE, REQUEST, REPLY, from the start
// again where an answer is lost.
func (g *Guest) DHCP6(ctx context.Context) (Lease6, error) {
	g.dhcp.Lock()
	defer g.dhcp.Unlock()
	return g.exchange6(ctx, "get an address by DHCPv6", g.c6.Solicit)
}

// Renew6 prolongs the lease at the server that gave it.
func (g *Guest) Renew6(ctx context.Context) (Lease6, error) {
	g.dhcp.Lock()
	defer g.dhcp.Unlock()
	return g.exchange6(ctx, "renew its DHCPv6 lease", g.c6.Renew)
}

// Release6 gives the lease back, and waits until the server says that it has it.
func (g *Guest) Release6(ctx context.Context) error {
	g.dhcp.Lock()
	defer g.dhcp.Unlock()
	_, err := g.exchange6(ctx, "release its DHCPv6 lease", g.c6.Release)
	return err
}

// exchange6 starts with what begin says, and says on what the client's state
// machine does, until a REPLY is there that ends it.
func (g *Guest) exchange6(ctx context.Context, what string, begin func() []byte) (Lease6, error) {
	var l Lease6
	var failed error
	err := g.until(ctx, func() error { return g.multicast6(begin()) }, func() bool {
		for failed == nil {
			b, ok := g.reply6()
			if !ok {
				return false
			}
			next, err := g.c6.Receive(b)
			switch m, _ := dhcpv6.MessageFromBytes(b); {
			case errors.Is(err, dhcpdtest.ErrUnexpected):
			case err != nil:
				failed = err
			case next != nil:
				failed = g.multicast6(next)
			case m.MessageType == dhcpv6.MessageTypeReply:
				l = lease6Of(g.c6.Leases, m)
				return true
			}
		}
		return true
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return Lease6{}, fmt.Errorf("guest %s: %s: %w", g.name, what, err)
	}
	return l, nil
}

func lease6Of(leases []dhcpdtest.Lease6, m *dhcpv6.Message) (l Lease6) {
	if len(leases) > 0 {
		l = Lease6{Address: leases[0].Prefix.Addr(), Preferred: leases[0].Preferred, Valid: leases[0].Valid}
	}
	for _, ip := range m.Options.DNS() {
		a, _ := netip.AddrFromSlice(ip)
		l.DNS = append(l.DNS, a)
	}
	if s := m.Options.DomainSearchList(); s != nil {
		l.Search = s.Labels
	}
	return l
}

// reply6 is the next DHCPv6 message that came.
func (g *Guest) reply6() ([]byte, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.replies6) == 0 {
		return nil, false
	}
	b := g.replies6[0]
	g.replies6 = g.replies6[1:]
	return b, true
}

func (g *Guest) multicast6(msg []byte) error {
	return g.Send(udp6(g.mac, allDHCPServersMAC, g.LinkLocal(), allDHCPServers, dhcp6ClientPort, dhcp6ServerPort, msg))
}

// take6 keeps a DHCPv6 message for the client.
func (g *Guest) take6(f *frame.Frame) bool {
	if f.Info.L4 == 0 || f.Info.Fragment || f.Info.Proto != frame.ProtoUDP || !f.ChecksumHolds() {
		return false
	}
	b := f.Bytes()
	u := b[f.Info.L4:]
	n := int(binary.BigEndian.Uint16(u[4:]))
	if _, port := f.UDPPorts(); port != dhcp6ClientPort || netip.AddrFrom16([16]byte(b[f.Info.L3+24:])) != g.LinkLocal() || n < 8 || n > len(u) {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.replies6) < inboxLen {
		g.replies6 = append(g.replies6, append([]byte(nil), u[8:n]...))
	}
	return true
}
