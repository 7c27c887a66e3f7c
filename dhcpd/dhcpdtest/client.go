// Package dhcpdtest holds doubles for both ends of a DHCP service: a client
// that is a pure state machine, and a lease store that fails on command.
package dhcpdtest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// State is where a client stands (RFC 2131 figure 5).
type State uint8

const (
	Init State = iota
	Selecting
	Requesting
	Bound
	Renewing
	Rebinding
	Rebooting
)

var stateNames = [...]string{"init", "selecting", "requesting", "bound", "renewing", "rebinding", "init-reboot"}

func (s State) String() string { return stateNames[s] }

// Client is a DHCP client without sockets, clock or goroutines: it builds
// messages and takes replies, whoever carries them. Its messages are made by
// the DHCP library, not by the server's own code. It is not safe for concurrent
// use.
type Client struct {
	MAC       net.HardwareAddr
	ClientID  []byte // option 61, with its type byte; nil: not sent
	Hostname  string
	Params    []uint8 // option 55; nil: DefaultParams, empty: not sent
	Broadcast bool    // asks for broadcast replies
	Rapid     bool    // takes an ACK for a DISCOVER (RFC 4039)
	GIAddr    netip.Addr
	Relay     []byte          // option 82, as a relay would add it
	MaxSize   uint16          // option 57; 0: not sent
	Extra     []dhcpv4.Option // more options for every message

	State State
	IP    netip.Addr // the address that it has, or remembers
	Offer *dhcpv4.DHCPv4
	Ack   *dhcpv4.DHCPv4 // the lease's ACK

	xid uint32
}

// DefaultParams is what a client asks for unless told otherwise: mask, routers,
// DNS, host name, domain, MTU, broadcast, routes.
var DefaultParams = [...]uint8{1, 3, 6, 12, 15, 26, 28, 121}

// ErrUnexpected is returned for a reply that the client did not ask for.
var ErrUnexpected = errors.New("reply does not belong to what the client asked")

// ErrRefused is returned when the server sent a NAK; the client is in Init again.
var ErrRefused = errors.New("the server refused the address")

// base is a message of the client's with what all of them carry.
func (c *Client) base(typ dhcpv4.MessageType) *dhcpv4.DHCPv4 {
	m := &dhcpv4.DHCPv4{
		OpCode: dhcpv4.OpcodeBootRequest, HWType: 1, ClientHWAddr: c.MAC,
		ClientIPAddr: net.IPv4zero, YourIPAddr: net.IPv4zero, ServerIPAddr: net.IPv4zero, GatewayIPAddr: net.IPv4zero,
		Options: dhcpv4.Options{},
	}
	binary.BigEndian.PutUint32(m.TransactionID[:], c.xid)
	m.UpdateOption(dhcpv4.OptMessageType(typ))
	if c.ClientID != nil {
		m.Options[dhcpv4.OptionClientIdentifier.Code()] = c.ClientID
	}
	if c.Broadcast {
		m.SetBroadcast()
	}
	if c.GIAddr.IsValid() {
		m.GatewayIPAddr = c.GIAddr.AsSlice()
	}
	if c.Relay != nil {
		m.Options[dhcpv4.OptionRelayAgentInformation.Code()] = c.Relay
	}
	for _, o := range c.Extra {
		m.UpdateOption(o)
	}
	return m
}

// asking is a message that asks for parameters.
func (c *Client) asking(typ dhcpv4.MessageType) *dhcpv4.DHCPv4 {
	m := c.base(typ)
	params := c.Params
	if params == nil {
		params = DefaultParams[:]
	}
	if len(params) > 0 {
		m.Options[dhcpv4.OptionParameterRequestList.Code()] = params
	}
	if c.Hostname != "" {
		m.UpdateOption(dhcpv4.OptHostName(c.Hostname))
	}
	if c.MaxSize != 0 {
		m.UpdateOption(dhcpv4.OptMaxMessageSize(c.MaxSize))
	}
	return m
}

// next begins a new exchange. The number is the client's MAC and a count, so
// that a test can be repeated and clients differ.
func (c *Client) next() {
	if c.xid == 0 && len(c.MAC) >= 4 {
		c.xid = binary.BigEndian.Uint32(c.MAC[len(c.MAC)-4:]) << 8
	}
	c.xid++
}

// Discover begins anew: the message to broadcast. A remembered address is
// asked for again.
func (c *Client) Discover() []byte {
	c.next()
	c.State, c.Offer = Selecting, nil
	m := c.asking(dhcpv4.MessageTypeDiscover)
	if c.IP.IsValid() {
		m.UpdateOption(dhcpv4.OptRequestedIPAddress(c.IP.AsSlice()))
	}
	if c.Rapid {
		m.Options[dhcpv4.OptionRapidCommit.Code()] = nil
	}
	return m.ToBytes()
}

// Request takes the offer: the message to broadcast.
func (c *Client) Request() []byte {
	c.State = Requesting
	m := c.asking(dhcpv4.MessageTypeRequest)
	m.UpdateOption(dhcpv4.OptRequestedIPAddress(c.Offer.YourIPAddr))
	m.UpdateOption(dhcpv4.OptServerIdentifier(c.Offer.ServerIdentifier()))
	return m.ToBytes()
}

// Reboot asks whether the remembered address still holds: the message to
// broadcast.
func (c *Client) Reboot() []byte {
	c.next()
	c.State = Rebooting
	m := c.asking(dhcpv4.MessageTypeRequest)
	m.UpdateOption(dhcpv4.OptRequestedIPAddress(c.IP.AsSlice()))
	return m.ToBytes()
}

// Renew prolongs the lease: the message to send from IP to the server.
func (c *Client) Renew() []byte { return c.prolong(Renewing) }

// Rebind prolongs the lease: the message to broadcast from IP.
func (c *Client) Rebind() []byte { return c.prolong(Rebinding) }

func (c *Client) prolong(s State) []byte {
	c.next()
	c.State = s
	m := c.asking(dhcpv4.MessageTypeRequest)
	m.ClientIPAddr = c.IP.AsSlice()
	return m.ToBytes()
}

// Release gives the lease back: the message to send to the server. The client
// remembers the address.
func (c *Client) Release() []byte {
	c.next()
	m := c.base(dhcpv4.MessageTypeRelease)
	m.ClientIPAddr = c.IP.AsSlice()
	m.UpdateOption(dhcpv4.OptServerIdentifier(c.Ack.ServerIdentifier()))
	c.State, c.Ack = Init, nil
	return m.ToBytes()
}

// Decline says that the address is in use by somebody else: the message to
// broadcast. The client forgets the address.
func (c *Client) Decline() []byte {
	c.next()
	m := c.base(dhcpv4.MessageTypeDecline)
	m.UpdateOption(dhcpv4.OptRequestedIPAddress(c.IP.AsSlice()))
	m.UpdateOption(dhcpv4.OptServerIdentifier(c.Ack.ServerIdentifier()))
	c.State, c.IP, c.Ack = Init, netip.Addr{}, nil
	return m.ToBytes()
}

// Inform asks for parameters only: the message to send from ip.
func (c *Client) Inform(ip netip.Addr) []byte {
	c.next()
	m := c.asking(dhcpv4.MessageTypeInform)
	m.ClientIPAddr = ip.AsSlice()
	return m.ToBytes()
}

// Receive takes a reply. send is the message that has to follow, nil if none.
// ErrRefused comes with a NAK, ErrUnexpected for a reply that was meant for
// somebody else or comes out of turn; the client's state stands then.
func (c *Client) Receive(payload []byte) (send []byte, err error) {
	m, err := dhcpv4.FromBytes(payload)
	if err != nil {
		return nil, fmt.Errorf("read dhcp reply: %w", err)
	}
	if m.OpCode != dhcpv4.OpcodeBootReply || binary.BigEndian.Uint32(m.TransactionID[:]) != c.xid ||
		m.ClientHWAddr.String() != c.MAC.String() {
		return nil, ErrUnexpected
	}
	switch typ := m.MessageType(); {
	case typ == dhcpv4.MessageTypeOffer && c.State == Selecting:
		c.Offer = m
		return c.Request(), nil
	case typ == dhcpv4.MessageTypeAck && (c.State >= Requesting && c.State != Bound ||
		c.State == Selecting && c.Rapid && m.Options.Has(dhcpv4.OptionRapidCommit)):
		ip, ok := netip.AddrFromSlice(m.YourIPAddr.To4())
		if !ok || ip.IsUnspecified() {
			return nil, fmt.Errorf("read dhcp reply: %w: no address in an ACK", ErrUnexpected)
		}
		c.State, c.IP, c.Ack = Bound, ip, m
		return nil, nil
	case typ == dhcpv4.MessageTypeNak && c.State >= Requesting && c.State != Bound:
		c.State, c.IP, c.Ack = Init, netip.Addr{}, nil
		return nil, ErrRefused
	}
	return nil, ErrUnexpected
}

// Times are the lease's T1, T2 and length, zero where the ACK has none.
func (c *Client) Times() (t1, t2, lease time.Duration) {
	if c.Ack == nil {
		return 0, 0, 0
	}
	return c.Ack.IPAddressRenewalTime(0), c.Ack.IPAddressRebindingTime(0), c.Ack.IPAddressLeaseTime(0)
}
