package fdb

import (
	"errors"
	"fmt"
)

// MAC is a 48-bit MAC address (IEEE 802, EUI-48). The first byte on the wire is
// the most significant of the 48 bits; the upper 16 bits are zero.
type MAC uint64

// Broadcast is ff:ff:ff:ff:ff:ff.
const Broadcast MAC = 1<<48 - 1

// ErrBadMAC is what every error of ParseMAC is.
var ErrBadMAC = errors.New("bad MAC address")

// MACOf is the address in the first six bytes of b, which has at least six.
func MACOf(b []byte) MAC {
	_ = b[5]
	return MAC(b[0])<<40 | MAC(b[1])<<32 | MAC(b[2])<<24 | MAC(b[3])<<16 | MAC(b[4])<<8 | MAC(b[5])
}

// ParseMAC reads an EUI-48 as people write it: six pairs of hexadecimal digits
// between colons or hyphens (02:00:00:00:00:01, 02-00-00-00-00-01), three
// groups of four between dots (0200.0000.0001), or twelve digits. Upper and
// lower case are the same. The error is ErrBadMAC.
func ParseMAC(s string) (MAC, error) {
	var sep byte
	group := 12 // digits between separators
	switch len(s) {
	case 17:
		sep, group = s[2], 2
		if sep != ':' && sep != '-' {
			return 0, badMAC(s)
		}
	case 14:
		sep, group = '.', 4
	case 12:
	default:
		return 0, badMAC(s)
	}
	var m MAC
	digits := 0
	for i := 0; i < len(s); i++ {
		if digits == group {
			if s[i] != sep {
				return 0, badMAC(s)
			}
			digits = 0
			continue
		}
		d, ok := hexDigit(s[i])
		if !ok {
			return 0, badMAC(s)
		}
		m = m<<4 | MAC(d)
		digits++
	}
	return m, nil
}

func badMAC(s string) error {
	return fmt.Errorf("%w: %.32q is not of the form 02:00:00:00:00:01", ErrBadMAC, s)
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

// String is the address in lower case with colons: 02:00:00:00:00:01.
func (m MAC) String() string {
	const hex = "0123456789abcdef"
	var b [17]byte
	for i, c := range m.Bytes() {
		b[3*i], b[3*i+1] = hex[c>>4], hex[c&15]
		if i < 5 {
			b[3*i+2] = ':'
		}
	}
	return string(b[:])
}

// Bytes is the address as on the wire.
func (m MAC) Bytes() [6]byte {
	return [6]byte{byte(m >> 40), byte(m >> 32), byte(m >> 24), byte(m >> 16), byte(m >> 8), byte(m)}
}

// Put writes the address to the first six bytes of b, which has at least six.
func (m MAC) Put(b []byte) {
	_ = b[5]
	b[0], b[1], b[2], b[3], b[4], b[5] = byte(m>>40), byte(m>>32), byte(m>>24), byte(m>>16), byte(m>>8), byte(m)
}

// IsGroup tells a multicast address, or the broadcast one (IEEE 802, I/G bit).
func (m MAC) IsGroup() bool { return m&(1<<40) != 0 }

// IsZero tells 00:00:00:00:00:00.
func (m MAC) IsZero() bool { return m == 0 }

// MarshalText is String, for JSON and the like.
func (m MAC) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText is ParseMAC.
func (m *MAC) UnmarshalText(b []byte) error {
	v, err := ParseMAC(string(b))
	if err != nil {
		return err
	}
	*m = v
	return nil
}

// station tells whether m can be the address of one station: a table takes no
// other.
func (m MAC) station() bool { return m != 0 && m&(1<<40) == 0 && m <= Broadcast }
