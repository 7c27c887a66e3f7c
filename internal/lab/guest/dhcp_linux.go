package guest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/sys/unix"
)

const (
	clientPort, serverPort = 68, 67

	// RFC 2131, section 4.1, starts at 4 s and doubles to 64 s. In a lab the
	// other end is on the same machine.
	firstWait, longestWait = 250 * time.Millisecond, 4 * time.Second
)

// errNAK and errSilence send the client back to its first state.
var (
	errNAK     = errors.New("the server refused")
	errSilence = errors.New("no answer")
)

// dhcpClient walks the states INIT to BOUND of RFC 2131, section 4.4, once.
type dhcpClient struct {
	link *link
	who  Identity
	buf  []byte
}

// Acquire gets a lease for an interface that is up (DISCOVER, OFFER, REQUEST,
// ACK: RFC 2131, section 3.1), and configures nothing. It goes on until the
// context ends, and then returns ErrNoOffer.
func Acquire(ctx context.Context, ns, ifname string, who Identity) (Lease, error) {
	l, err := openLink(ns, ifname, unix.ETH_P_IP)
	if err != nil {
		return Lease{}, fmt.Errorf("dhcp: %w", err)
	}
	defer l.Close()
	stop := context.AfterFunc(ctx, func() { l.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()

	c := &dhcpClient{link: l, who: who, buf: make([]byte, maxFrame)}
	start := time.Now()
	for try, wait := 1, firstWait; ; try, wait = try+1, min(2*wait, longestWait) {
		lease, err := c.exchange(ctx, start, wait)
		switch {
		case err == nil:
			lease.Tries, lease.Took = try, time.Since(start)
			return lease, nil
		case ctx.Err() != nil:
			return Lease{}, fmt.Errorf("dhcp on %s in %s: %w (%d tries in %s)",
				ifname, ns, ErrNoOffer, try, time.Since(start).Round(time.Millisecond))
		case !errors.Is(err, errNAK) && !errors.Is(err, errSilence):
			return Lease{}, fmt.Errorf("dhcp on %s in %s: %w", ifname, ns, err)
		}
	}
}

// exchange is one DISCOVER and what follows it.
func (c *dhcpClient) exchange(ctx context.Context, start time.Time, wait time.Duration) (Lease, error) {
	var xid dhcpv4.TransactionID
	for i := range xid {
		xid[i] = byte(rand.Uint32())
	}
	base := []dhcpv4.Modifier{
		dhcpv4.WithTransactionID(xid),
		dhcpv4.WithHwAddr(c.link.mac),
		dhcpv4.WithRequestedOptions(
			dhcpv4.OptionSubnetMask, dhcpv4.OptionRouter, dhcpv4.OptionDomainNameServer, dhcpv4.OptionHostName,
			dhcpv4.OptionDomainName, dhcpv4.OptionInterfaceMTU, dhcpv4.OptionClasslessStaticRoute,
			dhcpv4.OptionIPAddressLeaseTime, dhcpv4.OptionRenewTimeValue, dhcpv4.OptionRebindingTimeValue,
		),
		dhcpv4.WithOption(dhcpv4.OptMaxMessageSize(1500)),
		func(d *dhcpv4.DHCPv4) { d.NumSeconds = uint16(min(time.Since(start)/time.Second, 0xffff)) },
	}
	if c.who.Hostname != "" {
		base = append(base, dhcpv4.WithOption(dhcpv4.OptHostName(c.who.Hostname)))
	}
	if c.who.VendorClass != "" {
		base = append(base, dhcpv4.WithOption(dhcpv4.OptClassIdentifier(c.who.VendorClass)))
	}

	if err := c.send(dhcpv4.MessageTypeDiscover, base); err != nil {
		return Lease{}, err
	}
	offer, _, err := c.receive(ctx, xid, wait, dhcpv4.MessageTypeOffer)
	if err != nil {
		return Lease{}, err
	}
	// SELECTING: the address and the server stand in options, ciaddr is zero.
	err = c.send(dhcpv4.MessageTypeRequest, append(base,
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(offer.ServerIdentifier())),
		dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(offer.YourIPAddr))))
	if err != nil {
		return Lease{}, err
	}
	ack, from, err := c.receive(ctx, xid, wait, dhcpv4.MessageTypeAck, dhcpv4.MessageTypeNak)
	if err != nil {
		return Lease{}, err
	}
	if ack.MessageType() == dhcpv4.MessageTypeNak {
		return Lease{}, errNAK
	}
	return leaseOf(ack, from)
}

func (c *dhcpClient) send(kind dhcpv4.MessageType, mods []dhcpv4.Modifier) error {
	m, err := dhcpv4.New(append(mods, dhcpv4.WithMessageType(kind))...)
	if err != nil {
		return err
	}
	_, err = c.link.Write(udpPacket{
		srcMAC: c.link.mac, dstMAC: net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
		src:     netip.AddrPortFrom(netip.IPv4Unspecified(), clientPort),
		dst:     netip.AddrPortFrom(netip.AddrFrom4([4]byte{255, 255, 255, 255}), serverPort),
		payload: m.ToBytes(),
	}.marshal())
	return err
}

// receive waits for a reply of one of the kinds to the transaction, and returns
// it with the hardware address that it came from.
func (c *dhcpClient) receive(ctx context.Context, xid dhcpv4.TransactionID, wait time.Duration, kinds ...dhcpv4.MessageType) (*dhcpv4.DHCPv4, net.HardwareAddr, error) {
	c.link.SetReadDeadline(time.Now().Add(wait))
	if err := ctx.Err(); err != nil { // after the deadline, or it would undo the one that the context set
		return nil, nil, err
	}
	for {
		n, err := c.link.Read(c.buf)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil, nil, errSilence
		case errors.Is(err, unix.ENETDOWN): // told once; the interface may come back
			continue
		case err != nil:
			return nil, nil, err
		}
		p, err := parseUDP(c.buf[:n])
		if err != nil || p.dst.Port() != clientPort || p.src.Port() != serverPort {
			continue
		}
		m, err := dhcpv4.FromBytes(p.payload)
		if err != nil || m.OpCode != dhcpv4.OpcodeBootReply || m.TransactionID != xid ||
			!bytes.Equal(m.ClientHWAddr, c.link.mac) || m.ServerIdentifier() == nil {
			continue
		}
		for _, kind := range kinds {
			if m.MessageType() == kind {
				return m, bytes.Clone(p.srcMAC), nil
			}
		}
	}
}

// leaseOf reads an ACK.
func leaseOf(ack *dhcpv4.DHCPv4, from net.HardwareAddr) (Lease, error) {
	addr, ok := netip.AddrFromSlice(ack.YourIPAddr.To4())
	ones, bits := ack.SubnetMask().Size()
	if !ok || addr.IsUnspecified() || bits != 32 {
		return Lease{}, fmt.Errorf("an ACK with address %s and mask %s is no lease", ack.YourIPAddr, ack.SubnetMask())
	}
	l := Lease{
		Address:   netip.PrefixFrom(addr, ones),
		ServerMAC: from,
		Domain:    ack.DomainName(),
		Hostname:  ack.HostName(),
		Duration:  ack.IPAddressLeaseTime(0),
		Obtained:  time.Now().UTC().Truncate(time.Second),
	}
	l.Server, _ = netip.AddrFromSlice(ack.ServerIdentifier().To4())
	if l.Duration == infinite {
		l.Duration = 0
	}
	if mtu := ack.Options.Get(dhcpv4.OptionInterfaceMTU); len(mtu) == 2 {
		l.MTU = int(mtu[0])<<8 | int(mtu[1])
	}
	for _, ip := range ack.DNS() {
		if a, ok := netip.AddrFromSlice(ip.To4()); ok {
			l.DNS = append(l.DNS, a)
		}
	}
	for _, r := range ack.ClasslessStaticRoute() {
		to, ok1 := netip.AddrFromSlice(r.Dest.IP.To4())
		via, ok2 := netip.AddrFromSlice(r.Router.To4())
		ones, bits := r.Dest.Mask.Size()
		if ok1 && ok2 && bits == 32 {
			l.Routes = append(l.Routes, Route{To: netip.PrefixFrom(to, ones), Via: via})
		}
	}
	if gw := ack.Router(); len(gw) > 0 && len(l.Routes) == 0 {
		l.Gateway, _ = netip.AddrFromSlice(gw[0].To4())
	}
	return l, nil
}

// infinite is a lease that never ends (RFC 2131, section 3.3).
const infinite = 0xffffffff * time.Second
