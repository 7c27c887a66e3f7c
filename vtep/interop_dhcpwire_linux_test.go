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

	"github.com/uvtep/uvtep/dhcpd"
	"github.com/uvtep/uvtep/internal/nettest"
)

var record = flag.Bool("record", false, "write what real DHCP clients send to the test data of package dhcpd")

// heard is a message of a DHCP client as it came out of the tunnel.
type heard struct {
	kind     string // what the client wants, by RFC 2131 table 4
	src, dst netip.Addr
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
	wire   *sniffer
	looked int                // at so many of the frames that the sniffer has
	said   map[string][]heard // by the client's MAC: what nobody asked for yet
	notes  map[string]*bytes.Buffer
	serves string
}

func listenToClients(t *testing.T, ns *nettest.NS) *dhcpEar {
	t.Helper()
	return &dhcpEar{t: t, wire: sniff(t, ns, "ul"), said: map[string][]heard{}, notes: map[string]*bytes.Buffer{}}
}

// listen sorts what arrived since by clients.
func (e *dhcpEar) listen() {
	e.t.Helper()
	all := e.wire.seen()
	for _, f := range all[e.looked:] {
		outer := gopacket.NewPacket(f.bytes, layers.LayerTypeEthernet, gopacket.Default)
		vxlan, ok := outer.Layer(layers.LayerTypeVXLAN).(*layers.VXLAN)
		if !ok {
			continue
		}
		p := gopacket.NewPacket(vxlan.Payload, layers.LayerTypeEthernet, gopacket.Default)
		ip, isIP := p.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
		udp, isUDP := p.Layer(layers.LayerTypeUDP).(*layers.UDP)
		if !isIP || !isUDP || udp.DstPort != 67 {
			continue
		}
		m, err := dhcpv4.FromBytes(udp.Payload)
		if err != nil {
			e.t.Errorf("a client sent %x: %v", udp.Payload, err)
			continue
		}
		h := heard{payload: udp.Payload}
		h.src, _ = netip.AddrFromSlice(ip.SrcIP.To4())
		h.dst, _ = netip.AddrFromSlice(ip.DstIP.To4())
		h.kind = kindOf(m, h.dst)
		mac := m.ClientHWAddr.String()
		e.said[mac] = append(e.said[mac], h)
	}
	e.looked = len(all)
}

// serving notes what is served from here on.
func (e *dhcpEar) serving(cfg dhcpd.SegmentConfig) {
	e.serves = fmt.Sprintf("serve %v %v\n", cfg.Subnet, cfg.Server)
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
	for _, h := range e.said[mac] {
		if len(kinds) == 0 || kinds[len(kinds)-1] != h.kind {
			kinds = append(kinds, h.kind)
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
		if err := os.WriteFile(filepath.Join("..", "dhcpd", "testdata", "clients", name+".txt"), n.Bytes(), 0o644); err != nil {
			e.t.Error(err)
		}
	}
}
