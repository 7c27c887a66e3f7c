// Package encap holds what VXLAN says on the wire: the VNI, the 8-byte header
// of RFC 7348 section 5, the ECN rules of RFC 6040, and what an encapsulation
// costs in bytes. It is pure: no sockets, no time.
package encap

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"
)

// VNI is a VXLAN network identifier: 24 bits, 1..MaxVNI.
type VNI uint32

// MaxVNI is the highest VNI.
const MaxVNI VNI = 1<<24 - 1

// Valid reports whether the VNI is one that a segment can have.
func (v VNI) Valid() bool { return v >= 1 && v <= MaxVNI }

func (v VNI) String() string { return strconv.FormatUint(uint64(v), 10) }

// ParseVNI reads a decimal VNI.
func ParseVNI(s string) (VNI, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("VNI %q is not a number", s)
	}
	if n < 1 || n > uint64(MaxVNI) {
		return 0, fmt.Errorf("VNI %d is outside 1..%d", n, MaxVNI)
	}
	return VNI(n), nil
}

// HeaderLen is the length of a VXLAN header in bytes.
const HeaderLen = 8

// UDP ports that VXLAN is spoken on.
const (
	Port       = 4789 // IANA
	PortLegacy = 8472 // Linux, unless told otherwise
)

// flagVNI is the I flag: the VNI field is valid. All other bits of the first
// word and the last byte of the second are reserved.
const flagVNI = 0x08000000

// PutHeader writes the VXLAN header for a VNI to b[:HeaderLen].
func PutHeader(b []byte, v VNI) {
	binary.BigEndian.PutUint64(b, flagVNI<<32|uint64(v)<<8)
}

// Fault says what is wrong with a VXLAN header.
type Fault uint8

const (
	OK       Fault = iota
	Short          // fewer bytes than a header
	NoVNI          // the I flag is not set
	Reserved       // bits that must be zero are set, and checking is strict
)

// ParseHeader reads the VXLAN header at the front of a UDP payload. RFC 7348
// has receivers ignore the reserved bits; strict refuses packets that set them,
// as Linux does.
func ParseHeader(b []byte, strict bool) (VNI, Fault) {
	if len(b) < HeaderLen {
		return 0, Short
	}
	w := binary.BigEndian.Uint64(b)
	if w>>32&flagVNI == 0 {
		return 0, NoVNI
	}
	if strict && w&^(0xffffff<<8) != flagVNI<<32 {
		return 0, Reserved
	}
	return VNI(w >> 8 & 0xffffff), OK
}

// Overhead is what an encapsulation adds to a frame's IP packet, in bytes, over
// an underlay of local's family: inner Ethernet (14), VXLAN (8), UDP (8) and the
// outer IP header (20 or 40). The MTU of a segment is the underlay's less this.
func Overhead(local netip.Addr) int {
	if local.Unmap().Is4() {
		return 14 + HeaderLen + 8 + 20
	}
	return 14 + HeaderLen + 8 + 40
}
