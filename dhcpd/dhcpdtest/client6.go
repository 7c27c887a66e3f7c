package dhcpdtest

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"
)

// Client6 is Client for DHCPv6: it builds messages, with the DHCP library, and
// takes replies, whoever carries them.
type Client6 struct {
	MAC    net.HardwareAddr
	DUID   []byte         // nil: a DUID-LL of MAC
	NA, PD []uint32       // its identity associations, by IAID; none at all: one for an address, 1
	Hints  []netip.Prefix // what it would like: addresses are /128; ::/n is a length
	Asked  []uint16       // option 6; nil: DNS and search list, empty: not sent
	Rapid  bool           // takes a REPLY for a SOLICIT
	Extra  []dhcpv6.Option

	Server []byte   // the server's DUID
	Leases []Lease6 // what it has
	Offer  []Lease6 // what it was advertised

	sent dhcpv6.MessageType
	xid  uint32
}

// Lease6 is what a client has in one identity association.
type Lease6 struct {
	IAID             uint32
	Prefix           netip.Prefix // an address is a /128
	Preferred, Valid time.Duration
}

// ID is the client's DUID.
func (c *Client6) ID() []byte {
	if c.DUID != nil {
		return c.DUID
	}
	return append([]byte{0, 3, 0, 1}, c.MAC...)
}

// message begins a new exchange.
func (c *Client6) message(typ dhcpv6.MessageType, server bool) *dhcpv6.Message {
	c.xid++
	c.sent = typ
	m := &dhcpv6.Message{MessageType: typ, TransactionID: dhcpv6.TransactionID{byte(c.xid >> 16), byte(c.xid >> 8), byte(c.xid)}}
	m.AddOption(&dhcpv6.OptionGeneric{OptionCode: dhcpv6.OptionClientID, OptionData: c.ID()})
	if server {
		m.AddOption(&dhcpv6.OptionGeneric{OptionCode: dhcpv6.OptionServerID, OptionData: c.Server})
	}
	m.AddOption(dhcpv6.OptElapsedTime(0))
	asked := c.Asked
	if asked == nil {
		asked = []uint16{uint16(dhcpv6.OptionDNSRecursiveNameServer), uint16(dhcpv6.OptionDomainSearchList)}
	}
	if len(asked) > 0 {
		var codes dhcpv6.OptionCodes
		for _, a := range asked {
			codes = append(codes, dhcpv6.OptionCode(a))
		}
		m.AddOption(dhcpv6.OptRequestedOption(codes...))
	}
	for _, o := range c.Extra {
		m.AddOption(o)
	}
	return m
}

// associations adds the client's identity associations with what is about them.
func (c *Client6) associations(m *dhcpv6.Message, leases []Lease6) *dhcpv6.Message {
	na := c.NA
	if na == nil && c.PD == nil {
		na = []uint32{1}
	}
	for _, id := range na {
		ia := &dhcpv6.OptIANA{}
		binary.BigEndian.PutUint32(ia.IaId[:], id)
		for _, l := range leases {
			if l.IAID == id && l.Prefix.Bits() == 128 {
				ia.Options.Add(&dhcpv6.OptIAAddress{
					IPv6Addr: l.Prefix.Addr().AsSlice(), PreferredLifetime: l.Preferred, ValidLifetime: l.Valid,
				})
			}
		}
		m.AddOption(ia)
	}
	for _, id := range c.PD {
		ia := &dhcpv6.OptIAPD{}
		binary.BigEndian.PutUint32(ia.IaId[:], id)
		for _, l := range leases {
			if l.IAID == id && l.Prefix.Bits() < 128 {
				ia.Options.Add(&dhcpv6.OptIAPrefix{
					Prefix:            &net.IPNet{IP: l.Prefix.Addr().AsSlice(), Mask: net.CIDRMask(l.Prefix.Bits(), 128)},
					PreferredLifetime: l.Preferred, ValidLifetime: l.Valid,
				})
			}
		}
		m.AddOption(ia)
	}
	return m
}

// hints are the leases that the client would like, in its first associations.
func (c *Client6) hints() (out []Lease6) {
	for _, p := range c.Hints {
		l := Lease6{IAID: 1, Prefix: p}
		if p.Bits() == 128 && len(c.NA) > 0 {
			l.IAID = c.NA[0]
		}
		if p.Bits() < 128 && len(c.PD) > 0 {
			l.IAID = c.PD[0]
		}
		out = append(out, l)
	}
	return out
}

// Solicit looks for servers.
func (c *Client6) Solicit() []byte {
	m := c.associations(c.message(dhcpv6.MessageTypeSolicit, false), c.hints())
	if c.Rapid {
		m.AddOption(&dhcpv6.OptionGeneric{OptionCode: dhcpv6.OptionRapidCommit})
	}
	return m.ToBytes()
}

// Request asks for what was advertised.
func (c *Client6) Request() []byte {
	return c.associations(c.message(dhcpv6.MessageTypeRequest, true), c.Offer).ToBytes()
}

// Renew, Rebind, Confirm, Release and Decline are about what the client has.
func (c *Client6) Renew() []byte { return c.about(dhcpv6.MessageTypeRenew, true) }

// Rebind asks any server.
func (c *Client6) Rebind() []byte { return c.about(dhcpv6.MessageTypeRebind, false) }

// Confirm asks whether the link is still the same.
func (c *Client6) Confirm() []byte { return c.about(dhcpv6.MessageTypeConfirm, false) }

// Release gives everything back.
func (c *Client6) Release() []byte { return c.about(dhcpv6.MessageTypeRelease, true) }

// Decline tells that the addresses are in use by somebody else.
func (c *Client6) Decline() []byte { return c.about(dhcpv6.MessageTypeDecline, true) }

func (c *Client6) about(typ dhcpv6.MessageType, server bool) []byte {
	return c.associations(c.message(typ, server), c.Leases).ToBytes()
}

// Inform asks for options only.
func (c *Client6) Inform() []byte {
	return c.message(dhcpv6.MessageTypeInformationRequest, false).ToBytes()
}

// Receive takes a reply. It returns what the client says next, nil when it has
// nothing to say: a REQUEST after an ADVERTISE that gives something, and after a
// server that has no record of a lease.
func (c *Client6) Receive(payload []byte) (next []byte, err error) {
	m, err := dhcpv6.MessageFromBytes(payload)
	if err != nil {
		return nil, err
	}
	xid := uint32(m.TransactionID[0])<<16 | uint32(m.TransactionID[1])<<8 | uint32(m.TransactionID[2])
	id := m.Options.ClientID()
	if xid != c.xid&0xffffff || id == nil || string(id.ToBytes()) != string(c.ID()) || m.Options.ServerID() == nil {
		return nil, fmt.Errorf("%w: xid %x of %v", ErrUnexpected, xid, id)
	}
	leases, noBinding := LeasesOf(m), hasNoBinding(m)
	switch {
	case m.MessageType == dhcpv6.MessageTypeAdvertise && c.sent == dhcpv6.MessageTypeSolicit:
		c.Server, c.Offer = m.Options.ServerID().ToBytes(), leases
		if len(leases) == 0 {
			return nil, nil
		}
		return c.Request(), nil
	case m.MessageType != dhcpv6.MessageTypeReply:
		return nil, fmt.Errorf("%w: %v", ErrUnexpected, m.MessageType)
	}
	switch c.sent {
	case dhcpv6.MessageTypeSolicit, dhcpv6.MessageTypeRequest, dhcpv6.MessageTypeRenew, dhcpv6.MessageTypeRebind:
		c.Server = m.Options.ServerID().ToBytes()
		for _, l := range leases {
			c.drop(l)
			if l.Valid > 0 {
				c.Leases = append(c.Leases, l)
			}
		}
		if noBinding && c.sent != dhcpv6.MessageTypeRequest {
			c.Offer = c.Leases
			return c.Request(), nil
		}
	case dhcpv6.MessageTypeRelease, dhcpv6.MessageTypeDecline:
		c.Leases = nil
	}
	return nil, nil
}

// drop forgets a lease that the server speaks of anew.
func (c *Client6) drop(l Lease6) {
	c.Leases = slices.DeleteFunc(c.Leases, func(o Lease6) bool { return o.IAID == l.IAID && o.Prefix == l.Prefix })
}

// LeasesOf is what a message says of leases; those that end have no lifetime.
func LeasesOf(m *dhcpv6.Message) (out []Lease6) {
	for _, ia := range m.Options.IANA() {
		for _, a := range ia.Options.Addresses() {
			ip, _ := netip.AddrFromSlice(a.IPv6Addr)
			out = append(out, Lease6{binary.BigEndian.Uint32(ia.IaId[:]), netip.PrefixFrom(ip, 128), a.PreferredLifetime, a.ValidLifetime})
		}
	}
	for _, ia := range m.Options.IAPD() {
		for _, p := range ia.Options.Prefixes() {
			if p.Prefix == nil {
				continue
			}
			ip, _ := netip.AddrFromSlice(p.Prefix.IP)
			n, _ := p.Prefix.Mask.Size()
			out = append(out, Lease6{binary.BigEndian.Uint32(ia.IaId[:]), netip.PrefixFrom(ip, n), p.PreferredLifetime, p.ValidLifetime})
		}
	}
	return out
}

// hasNoBinding says that the server does not know one of the associations.
func hasNoBinding(m *dhcpv6.Message) bool {
	for _, ia := range m.Options.IANA() {
		if s := ia.Options.Status(); s != nil && s.StatusCode == iana.StatusNoBinding {
			return true
		}
	}
	for _, ia := range m.Options.IAPD() {
		if s := ia.Options.Status(); s != nil && s.StatusCode == iana.StatusNoBinding {
			return true
		}
	}
	return false
}
