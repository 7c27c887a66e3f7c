package vtep_test

import (
	"bytes"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv6"

	"github.com/uvtep/uvtep/internal/nettest"
)

var record = flag.Bool("record", false, "write what real DHCP clients send to the test data of package dhcpd")

// heard is a message of a DHCP client as it came out of the tunnel.
type heard struct {
	kind     string // what the client wants, by RFC 2131 table 4
	src, dst netip.Addr
	xid      []byte // the same where a message is sent once more
	payload  []byte
}

// kindOf tells what a client wants by what it filled in.
func kindOf(m *dhcpv4.DHCPv4, dst netip.Addr) string {
	if m.MessageType() != dhcpv4.MessageTypeRequest {
		return strings.ToLower(m.MessageType().String())
	}
	switch toAll := dst == netip.MustParseAddr("255.255.255.255"); {
	case m.ServerIdentifier() != nil:
		return "select"
	case m.RequestedIPAddress() != nil:
		return "reboot"
	case toAll:
		return "rebind"
	}
	return "renew"
}

// dhcpEar hears DHCP clients by what arrives at a VTEP through the tunnel.
type dhcpEar struct {
	t      *testing.T
	wire   *nettest.Sniffer
	looked int                // at so many of the frames that the sniffer has
	said   map[string][]heard // by the client's MAC: what nobody asked for yet
	notes  map[string]*bytes.Buffer
	serves string
	dir    string // where the notes go, below the test data of package dhcpd
}

func listenToClients(t *testing.T, ns *nettest.NS, dir string) *dhcpEar {
	t.Helper()
	return &dhcpEar{t: t, wire: nettest.Sniff(t, ns, "ul"), said: map[string][]heard{}, notes: map[string]*bytes.Buffer{}, dir: dir}
}

// listen sorts what arrived since by clients.
func (e *dhcpEar) listen() {
	e.t.Helper()
	all := e.wire.Seen()
	for _, f := range all[e.looked:] {
		outer := gopacket.NewPacket(f.Bytes, layers.LayerTypeEthernet, gopacket.Default)
		vxlan, ok := outer.Layer(layers.LayerTypeVXLAN).(*layers.VXLAN)
		if !ok {
			continue
		}
		p := gopacket.NewPacket(vxlan.Payload, layers.LayerTypeEthernet, gopacket.Default)
		udp, ok := p.Layer(layers.LayerTypeUDP).(*layers.UDP)
		if !ok {
			continue
		}
		h := heard{payload: udp.Payload}
		mac := p.LinkLayer().LinkFlow().Src().String()
		flow := p.NetworkLayer().NetworkFlow()
		h.src, _ = netip.AddrFromSlice(flow.Src().Raw())
		h.dst, _ = netip.AddrFromSlice(flow.Dst().Raw())
		switch udp.DstPort {
		case 67:
			m, err := dhcpv4.FromBytes(udp.Payload)
			if err != nil {
				e.t.Errorf("a client sent %x: %v", udp.Payload, err)
				continue
			}
			h.kind, h.xid = kindOf(m, h.dst), m.TransactionID[:]
			mac = m.ClientHWAddr.String() // a load generator speaks for many clients
		case 547:
			m, err := dhcpv6.MessageFromBytes(udp.Payload)
			if err != nil {
				e.t.Errorf("a client sent %x: %v", udp.Payload, err)
				continue
			}
			h.kind, h.xid = strings.ToLower(m.MessageType.String()), m.TransactionID[:]
		default:
			continue
		}
		e.said[mac] = append(e.said[mac], h)
	}
	e.looked = len(all)
}

// serving notes what is served from here on.
func (e *dhcpEar) serving(subnet netip.Prefix, server netip.Addr) {
	e.serves = fmt.Sprintf("serve %v %v\n", subnet, server)
	for _, n := range e.notes {
		n.WriteString(e.serves)
	}
}

// kinds are the kinds of messages, repetitions left out, that a client has sent
// since they were last asked for.
func (e *dhcpEar) kinds(c *running) (kinds []string) {
	e.t.Helper()
	e.listen()
	mac := c.mac.String()
	n := e.notes[c.name]
	if n == nil {
		n = bytes.NewBufferString(e.serves)
		e.notes[c.name] = n
	}
	for i, h := range e.said[mac] {
		again := i > 0 && e.said[mac][i-1].kind == h.kind
		if !again {
			kinds = append(kinds, h.kind)
		}
		if !again || !bytes.Equal(e.said[mac][i-1].xid, h.xid) {
			fmt.Fprintf(n, "%s %v %v %x\n", h.kind, h.src, h.dst, h.payload)
		}
	}
	delete(e.said, mac)
	return kinds
}

// want fails the test unless a client has sent messages of these kinds in the
// end. It may have renewed its lease before and since.
func (e *dhcpEar) want(c *running, did string, want ...string) {
	e.t.Helper()
	all := e.kinds(c)
	got := all
	if want[0] != "renew" {
		got = slices.DeleteFunc(slices.Clone(all), func(k string) bool { return k == "renew" })
	}
	if len(got) < len(want) || !slices.Equal(got[len(got)-len(want):], want) {
		e.t.Errorf("%s %s: it sent %q, want %q", c.name, did, all, want)
	}
}

// save writes what clients have sent to the test data of package dhcpd, where
// every test run replays it.
func (e *dhcpEar) save() {
	e.t.Helper()
	if !*record || e.t.Failed() {
		return
	}
	for name, n := range e.notes {
		if err := os.WriteFile(filepath.Join("..", "dhcpd", "testdata", e.dir, name+".txt"), n.Bytes(), 0o644); err != nil {
			e.t.Error(err)
		}
	}
}
