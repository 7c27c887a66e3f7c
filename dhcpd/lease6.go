package dhcpd

import (
	linked "container/list"
	"encoding/binary"
	"net/netip"

	"github.com/insomniacslk/dhcp/dhcpv6"
)

// A client of DHCPv6 is one identity association of a DUID (RFC 8415 section
// 12), and has one lease: an address or a prefix. Its key is the option code of
// the association's kind, the IAID and the DUID.
func appendKey6(b []byte, code dhcpv6.OptionCode, iaid uint32, duid []byte) []byte {
	b = append(b, byte(code))
	b = binary.BigEndian.AppendUint32(b, iaid)
	return append(b, duid...)
}

// key6 is the key of a stored lease's client.
func (l Lease) key6() string {
	return string(appendKey6(nil, kindOf(l.prefix()), l.IAID, []byte(l.ClientID)))
}

func duidOf(key string) string { return key[5:] }

func iaidOf(key string) uint32 { return binary.BigEndian.Uint32([]byte(key[1:5])) }

// binding6 is what binding is for IPv4: one address, or prefix, that has a client.
type binding6 struct {
	prefix netip.Prefix // an address is a /128
	xid    [3]byte
	tenure

	pool   *pool6          // that it takes an address of, nil: none
	unused *linked.Element // its place in the pool's list of unused ones
	offer  *linked.Element // its place in the queue of offers
	stray  bool            // the configuration has no place for it

	// What the client had before and may not know yet that it has no more; nil:
	// nothing.
	former *binding6
}
