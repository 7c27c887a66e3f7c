package dhcpd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"net/netip"
	"time"
)

// A stored lease, format 1: version, state, hardware type, start and expiry in
// milliseconds of Unix time (big endian), then fields of tag, length (uvarint)
// and bytes, then the CRC-32C of the segment, the lease's key and all before. A
// reader skips tags that it does not know, so fields can be added. The key is
// the IPv4 address, or the IPv6 address and the byte of the prefix length (0: an
// address), in the order of the wire.
const (
	leaseVersion = 1
	leaseHeader  = 1 + 1 + 1 + 8 + 8

	tagCHAddr   = 1
	tagClientID = 2
	tagHostname = 3
	tagPort     = 4
	tagRelay    = 5
	tagIAID     = 6 // four bytes, big endian
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var (
	errLeaseKey     = errors.New("lease record of an impossible address, prefix or client")
	errLeaseShort   = errors.New("lease record is cut short")
	errLeaseSum     = errors.New("lease record fails its checksum")
	errLeaseState   = errors.New("lease record has no client or an impossible state")
	errLeaseVersion = errors.New("lease record of an unknown version")
)

// Lengths of a lease's key.
const (
	keyLen4 = 4
	keyLen6 = 17
)

// leaseKey is the place of a lease within its segment. Keys are in the order of
// the addresses.
type leaseKey struct {
	b [keyLen6]byte
	n uint8 // bytes in use
}

func keyOf(l *Lease) (k leaseKey) {
	if l.IP.Is4() {
		binary.BigEndian.PutUint32(k.b[:], toU32(l.IP))
		k.n = keyLen4
		return k
	}
	ip := l.IP.As16()
	copy(k.b[:], ip[:])
	k.b[keyLen6-1], k.n = l.PrefixLen, keyLen6
	return k
}

func (k *leaseKey) bytes() []byte { return k.b[:k.n] }

// leaseSum is the record's checksum; the key is part of it, so a record in the
// wrong place is noticed.
func leaseSum(segment uint32, key, record []byte) uint32 {
	seg := put4(segment)
	sum := crc32.Update(crc32.Checksum(seg[:], castagnoli), castagnoli, key)
	return crc32.Update(sum, castagnoli, record)
}

// appendLease appends a lease's record.
func appendLease(b []byte, segment uint32, l *Lease) []byte {
	at, key := len(b), keyOf(l)
	b = append(b, leaseVersion, byte(l.State), l.HType)
	b = binary.BigEndian.AppendUint64(b, uint64(l.Start.UnixMilli()))
	b = binary.BigEndian.AppendUint64(b, uint64(l.Expires.UnixMilli()))
	for _, f := range [...]struct {
		tag  byte
		data string
	}{
		{tagCHAddr, l.CHAddr}, {tagClientID, l.ClientID}, {tagHostname, l.Hostname}, {tagPort, l.Port}, {tagRelay, l.Relay},
	} {
		if f.data != "" {
			b = append(binary.AppendUvarint(append(b, f.tag), uint64(len(f.data))), f.data...)
		}
	}
	if key.n == keyLen6 {
		b = binary.BigEndian.AppendUint32(append(b, tagIAID, 4), l.IAID)
	}
	return binary.BigEndian.AppendUint32(b, leaseSum(segment, key.bytes(), b[at:]))
}

// decodeLease reads a record; it never panics, whatever the bytes.
func decodeLease(segment uint32, key, b []byte) (Lease, error) {
	if len(key) != keyLen4 && len(key) != keyLen6 {
		return Lease{}, errLeaseKey
	}
	if len(b) < leaseHeader+4 {
		return Lease{}, errLeaseShort
	}
	body, sum := b[:len(b)-4], binary.BigEndian.Uint32(b[len(b)-4:])
	if leaseSum(segment, key, body) != sum {
		return Lease{}, errLeaseSum
	}
	// Every version has the version in front and the checksum behind: only a
	// record that is whole is told to be of another program's version.
	if b[0] != leaseVersion {
		return Lease{}, fmt.Errorf("%w: %d", errLeaseVersion, b[0])
	}
	l := Lease{
		State: State(b[1]), HType: b[2],
		Start:   time.UnixMilli(int64(binary.BigEndian.Uint64(b[3:]))),
		Expires: time.UnixMilli(int64(binary.BigEndian.Uint64(b[11:]))),
	}
	if l.IP, _ = netip.AddrFromSlice(key[:min(len(key), keyLen6-1)]); len(key) == keyLen6 {
		l.PrefixLen = key[keyLen6-1]
	}
	for rest := body[leaseHeader:]; len(rest) > 0; {
		tag := rest[0]
		n, used := binary.Uvarint(rest[1:])
		if used <= 0 || n > uint64(len(rest)-1-used) {
			return Lease{}, errLeaseShort
		}
		data := string(rest[1+used : 1+used+int(n)])
		rest = rest[1+used+int(n):]
		switch tag {
		case tagCHAddr:
			l.CHAddr = data
		case tagClientID:
			l.ClientID = data
		case tagHostname:
			l.Hostname = data
		case tagPort:
			l.Port = data
		case tagRelay:
			l.Relay = data
		case tagIAID:
			if len(data) != 4 || len(key) != keyLen6 {
				return Lease{}, errLeaseKey
			}
			l.IAID = binary.BigEndian.Uint32([]byte(data))
		}
	}
	if len(key) == keyLen6 && (l.ClientID == "" || l.PrefixLen >= 128 || l.IP != l.prefix().Masked().Addr()) {
		return Lease{}, errLeaseKey
	}
	if l.State != StateFree && l.State != StateBound && l.State != StateDeclined || l.CHAddr == "" && l.ClientID == "" {
		return Lease{}, errLeaseState
	}
	return l, nil
}
