package nettest

import (
	"bytes"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// Serialize is the packet of some layers, its lengths and checksums filled in.
//
// gopacket sends a UDP checksum that comes out as zero as zero, one packet in
// 65,536, which says that there is none. RFC 768 has it sent as all ones.
func Serialize(t testing.TB, ls ...gopacket.SerializableLayer) []byte {
	t.Helper()
	buf := gopacket.NewSerializeBuffer()
	serialize := func(sums bool) {
		if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: sums}, ls...); err != nil {
			t.Fatal(err)
		}
	}
	serialize(true)
	for _, l := range ls {
		if udp, ok := l.(*layers.UDP); ok && udp.Checksum == 0 {
			udp.Checksum = 0xffff
			serialize(false)
		}
	}
	return bytes.Clone(buf.Bytes())
}
