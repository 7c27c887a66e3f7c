package guest

import (
	"bytes"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/uvtep/uvtep/internal/nettest"
)

var sample = udpPacket{
	srcMAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, dstMAC: net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
	src: netip.MustParseAddrPort("0.0.0.0:68"), dst: netip.MustParseAddrPort("255.255.255.255:67"),
	payload: []byte("hello"),
}

// oracle is the same frame as gopacket makes it.
func oracle(t *testing.T, p udpPacket) []byte {
	t.Helper()
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: p.src.Addr().AsSlice(), DstIP: p.dst.Addr().AsSlice()}
	udp := &layers.UDP{SrcPort: layers.UDPPort(p.src.Port()), DstPort: layers.UDPPort(p.dst.Port())}
	if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	return nettest.Serialize(t, &layers.Ethernet{SrcMAC: p.srcMAC, DstMAC: p.dstMAC, EthernetType: layers.EthernetTypeIPv4}, ip, udp, gopacket.Payload(p.payload))
}

func TestAFrameIsTheOneThatAnotherLibraryMakes(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for n := range 300 {
		p := sample
		p.payload = make([]byte, n)
		for i := range p.payload {
			p.payload[i] = byte(rng.Uint32())
		}
		p.src = netip.AddrPortFrom(netip.AddrFrom4([4]byte{byte(rng.Uint32()), 168, 0, byte(n)}), uint16(rng.Uint32()|1))
		got, want := p.marshal(), oracle(t, p)
		if !bytes.Equal(got, want[:len(got)]) { // gopacket pads to 60 bytes
			t.Fatalf("%d bytes:\n got %x\nwant %x", n, got, want)
		}
		back, err := parseUDP(want)
		if err != nil || !bytes.Equal(back.payload, p.payload) || back.src != p.src || back.dst != p.dst {
			t.Fatalf("%d bytes: parsed to %+v, %v", n, back, err)
		}
	}
}

func TestADamagedFrameIsNotRead(t *testing.T) {
	whole := sample.marshal()
	for i := etherLen - 2; i < len(whole); i++ {
		for bit := range 8 {
			b := bytes.Clone(whole)
			b[i] ^= 1 << bit
			if p, err := parseUDP(b); err == nil {
				t.Errorf("byte %d bit %d flipped: read as %+v", i, bit, p)
			}
		}
	}
	for n := range whole {
		if _, err := parseUDP(whole[:n]); err == nil {
			t.Errorf("cut to %d bytes: read", n)
		}
	}
}

func TestAPacketWithoutAChecksumIsRead(t *testing.T) {
	b := sample.marshal()
	b[etherLen+ipv4Len+6], b[etherLen+ipv4Len+7] = 0, 0
	if _, err := parseUDP(b); err != nil {
		t.Error(err)
	}
}

func FuzzParseUDP(f *testing.F) {
	f.Add(sample.marshal())                          // a whole packet
	f.Add(append(sample.marshal(), 0, 0, 0))         // padded, as short frames are
	f.Add(sample.marshal()[:etherLen+ipv4Len])       // the IP header alone
	f.Add(bytes.Repeat([]byte{0xff}, headers))       // every length field at its largest
	f.Add(append(sample.marshal()[:etherLen], 0x4f)) // options promised, none there
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parseUDP(b)
		if err != nil {
			return
		}
		again, err := parseUDP(p.marshal())
		if err != nil || !bytes.Equal(again.payload, p.payload) || again.src != p.src || again.dst != p.dst {
			t.Errorf("%x: read as %+v, but its frame as %+v, %v", b, p, again, err)
		}
	})
}

// headers is an Ethernet, an IPv4 and a UDP header.
const headers = etherLen + ipv4Len + udpLen
