package nettest_test

import (
	"encoding/binary"
	"net"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/uvtep/uvtep/internal/nettest"
)

func TestAUDPChecksumThatComesOutAsZeroIsSerializedAsAllOnes(t *testing.T) {
	ip := func() *layers.IPv4 {
		return &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: net.IP{10, 0, 0, 1}, DstIP: net.IP{10, 0, 0, 2}}
	}
	frame := func(payload []byte) []byte {
		network := ip()
		udp := &layers.UDP{SrcPort: 1, DstPort: 2}
		if err := udp.SetNetworkLayerForChecksum(network); err != nil {
			t.Fatal(err)
		}
		return nettest.Serialize(t, &layers.Ethernet{SrcMAC: make(net.HardwareAddr, 6), DstMAC: make(net.HardwareAddr, 6), EthernetType: layers.EthernetTypeIPv4},
			network, udp, gopacket.Payload(payload))
	}
	const sum, ipSum = 14 + 20 + 6, 14 + 10
	zero := frame([]byte{0, 0})
	was := binary.BigEndian.Uint16(zero[sum:])
	// What the sum is short of, as payload, makes it zero.
	b := frame(binary.BigEndian.AppendUint16(nil, was))
	if got := binary.BigEndian.Uint16(b[sum:]); got != 0xffff {
		t.Errorf("the checksum is %#x", got)
	}
	if binary.BigEndian.Uint16(b[ipSum:]) != binary.BigEndian.Uint16(zero[ipSum:]) {
		t.Error("the IP header's checksum is another one")
	}
}
