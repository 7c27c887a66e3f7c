package frame_test

import (
	"bytes"
	"net"
	"testing"

	"github.com/google/gopacket/layers"

	"github.com/uvtep/uvtep/internal/frame"
	"github.com/uvtep/uvtep/internal/nettest"
)

// solicitation is a neighbour solicitation in a frame, as gopacket writes it.
func solicitation(t testing.TB, options ...layers.ICMPv6Option) []byte {
	ip := &layers.IPv6{Version: 6, HopLimit: 255, NextHeader: layers.IPProtocolICMPv6, SrcIP: net.ParseIP("fe80::1"), DstIP: net.ParseIP("ff02::1:ff00:2")}
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeNeighborSolicitation, 0)}
	if err := icmp.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	return nettest.Serialize(t,
		&layers.Ethernet{SrcMAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, DstMAC: net.HardwareAddr{0x33, 0x33, 0xff, 0, 0, 2}, EthernetType: layers.EthernetTypeIPv6},
		ip, icmp, &layers.ICMPv6NeighborSolicitation{TargetAddress: net.ParseIP("fe80::2"), Options: options})
}

func parsed(t testing.TB, b []byte) *frame.Frame {
	f := &frame.NewBatch(1, frame.MaxLen).Frames[0]
	if !f.Load(b) || !f.Parse() {
		t.Fatalf("%x is no frame", b)
	}
	return f
}

func TestANeighbourSolicitationIsReadAsItWasWritten(t *testing.T) {
	mac := []byte{2, 0, 0, 0, 0, 1}
	source := layers.ICMPv6Option{Type: layers.ICMPv6OptSourceAddress, Data: mac}
	other := layers.ICMPv6Option{Type: 14, Data: make([]byte, 14)} // a nonce (RFC 3971)
	for _, c := range []struct {
		name    string
		options []layers.ICMPv6Option
		want    []byte
	}{
		{"without options", nil, nil},
		{"with the source's address", []layers.ICMPv6Option{source}, mac},
		{"behind another option", []layers.ICMPv6Option{other, source}, mac},
		{"with another option only", []layers.ICMPv6Option{other}, nil},
	} {
		b := append(solicitation(t, c.options...), 0, 0, 0) // padded
		f := parsed(t, b)
		m, ok := f.ICMPv6()
		if !ok || m.Type() != frame.NeighbourSolicitation || m.Code() != 0 || !bytes.Equal(m.Target(), net.ParseIP("fe80::2")) {
			t.Fatalf("%s: read %x, %t", c.name, []byte(m), ok)
		}
		if v, ok := m.Option(24, frame.OptionSourceMAC); !ok || !bytes.Equal(v, c.want) {
			t.Errorf("%s: option %x, %t", c.name, v, ok)
		}
		if !f.ChecksumHolds() {
			t.Errorf("%s: the checksum does not hold", c.name)
		}
		for i := 14 + 8; i < len(b)-3; i++ { // addresses and message
			was := b[i]
			b[i] ^= 0x10
			if f := parsed(t, b); f.ChecksumHolds() {
				t.Errorf("%s: the checksum holds with byte %d changed", c.name, i)
			}
			b[i] = was
		}
	}
}

func TestOptionsThatLeadNowhereAreNotRead(t *testing.T) {
	m := func(options ...byte) frame.ICMPv6 { return append(make([]byte, 24), options...) }
	for _, c := range []struct {
		name string
		m    frame.ICMPv6
	}{
		{"no length", m(1, 0, 0, 0, 0, 0, 0, 0)},
		{"longer than the message", m(1, 2, 0, 0, 0, 0, 0, 0)},
		{"cut off", m(1, 1, 0, 0, 0, 0, 0)},
		{"a message that ends before its options", m()[:20]},
	} {
		if v, ok := c.m.Option(24, frame.OptionSourceMAC); ok {
			t.Errorf("%s: read as %x", c.name, v)
		}
	}
	if m()[:20].Target() != nil {
		t.Error("a target that is cut off is read")
	}
}
