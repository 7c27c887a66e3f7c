package dhcpd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"
)

// A stored lease, format 1: version, state, hardware type, start and expiry in
// milliseconds of Unix time (big endian), then fields of tag, length (uvarint)
// and bytes, then the CRC-32C of the segment, the address and all before. A
// reader skips tags that it does not know, so fields can be added.
const (
	leaseVersion = 1
	leaseHeader  = 1 + 1 + 1 + 8 + 8

	tagCHAddr   = 1
	tagClientID = 2
	tagHostname = 3
	tagPort     = 4
	tagRelay    = 5
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var (
	errLeaseShort   = errors.New("lease record is cut short")
	errLeaseSum     = errors.New("lease record fails its checksum")
	errLeaseState   = errors.New("lease record has no client or an impossible state")
	errLeaseVersion = errors.New("lease record of an unknown version")
)

// leaseSum is the record's checksum; the key is part of it, so a record in the
// wrong place is noticed.
func leaseSum(segment, ip uint32, record []byte) uint32 {
	var key [8]byte
	binary.BigEndian.PutUint32(key[:], segment)
	binary.BigEndian.PutUint32(key[4:], ip)
	return crc32.Update(crc32.Checksum(key[:], castagnoli), castagnoli, record)
}

// appendLease appends a lease's record.
func appendLease(b []byte, segment uint32, l *Lease) []byte {
	at := len(b)
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
	return binary.BigEndian.AppendUint32(b, leaseSum(segment, toU32(l.IP), b[at:]))
}

// decodeLease reads a record; it never panics, whatever the bytes.
func decodeLease(segment, ip uint32, b []byte) (Lease, error) {
	if len(b) < leaseHeader+4 {
		return Lease{}, errLeaseShort
	}
	body, sum := b[:len(b)-4], binary.BigEndian.Uint32(b[len(b)-4:])
	if leaseSum(segment, ip, body) != sum {
		return Lease{}, errLeaseSum
	}
	// Every version has the version in front and the checksum behind: only a
	// record that is whole is told to be of another program's version.
	if b[0] != leaseVersion {
		return Lease{}, fmt.Errorf("%w: %d", errLeaseVersion, b[0])
	}
	l := Lease{
		IP: toAddr(ip), State: State(b[1]), HType: b[2],
		Start:   time.UnixMilli(int64(binary.BigEndian.Uint64(b[3:]))),
		Expires: time.UnixMilli(int64(binary.BigEndian.Uint64(b[11:]))),
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
		}
	}
	if l.State != StateFree && l.State != StateBound && l.State != StateDeclined || l.CHAddr == "" && l.ClientID == "" {
		return Lease{}, errLeaseState
	}
	return l, nil
}
