package dhcpd

import (
	"bytes"
	"encoding/binary"
	"math"
	"net/netip"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// bare is a request without options: header, hardware address, cookie.
func bare(options ...byte) []byte {
	b := make([]byte, headerLen)
	b[0], b[1], b[2] = opRequest, htypeEthernet, 6
	copy(b[28:], []byte{2, 0, 0, 0, 0, 1})
	copy(b[cookieAt:], []byte{0x63, 0x82, 0x53, 0x63})
	return append(b, options...)
}

// requestSeeds are requests with what has been wrong in servers before.
func requestSeeds() [][]byte {
	overload := bare(optOverload, 1, 3, optEnd)
	copy(overload[fileAt:], []byte{optMessageType, 1, 1, optClientID, 2, 1}) // an option that is cut by the field's end
	copy(overload[snameAt:], []byte{optClientID, 1, 2, optOverload, 1, 3, optEnd})
	full := bare(optMessageType, 1, 1)
	for code := byte(1); code < 255; code++ {
		full = append(full, code, 4, 192, 168, 100, 10)
	}
	return [][]byte{
		{},                                 // nothing
		bare(),                             // no End
		bare(optEnd),                       // BOOTP
		bare(optMessageType, 1, 1, optEnd), // the least DISCOVER
		bare(optMessageType, 1, 3, optRequestedIP, 4, 192, 168, 100, 10, optServerID, 4, 192, 168, 100, 2, optEnd), // selecting
		bare(optMessageType, 1, 3, optRequestedIP, 2, 192, 168, optRequestedIP, 2, 100, 10, optEnd),                // in two pieces (RFC 3396)
		bare(optMessageType, 1, 1, optMessageType, 1, 3, optEnd),                                                   // two types: the first counts
		bare(optMessageType, 1, 1, optClientID, 0, optEnd),                                                         // an identifier of no bytes
		bare(optMessageType, 1, 1, optMaxSize, 2, 0xff, 0xff, optEnd),
		bare(optMessageType, 1, 1, optRelay, 4, 1, 200, 1, 2, optEnd), // a suboption longer than the option
		bare(optMessageType, 1, 1, optRelay, 7, 5, 4, 192, 168, 200, 0, 1, optEnd),
		bare(optMessageType, 1, 1, optFQDN, 4, 4, 0, 0, 63, optEnd),      // a label that is not there
		bare(optMessageType, 1, 1, optFQDN, 5, 4, 0, 0, 0xc0, 0, optEnd), // a compressed name
		bare(optMessageType, 1, 1, optUserClass, 2, 255, 1, optEnd),      // a class longer than the option
		bare(optMessageType, 1, 1, optArch, 3, 0, 7, 0, optEnd),          // an odd length
		append(bare(optMessageType, 1, 8), optEnd),                       // an INFORM from nowhere
		overload,
		append(full, optEnd), // every option
		append(bare(optMessageType, 1, 1, optParams, 255), append(bytes.Repeat([]byte{optRoutes, optRouter, optMask}, 85), optEnd)...),
	}
}

// FuzzParse holds the parser against the library where both read a message.
func FuzzParse(f *testing.F) {
	for _, s := range requestSeeds() {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		var m message
		out := m.parse(b)
		if !bytes.Equal(b, before) {
			t.Fatal("the parser wrote to the message")
		}
		if out != Answered && out != Malformed {
			t.Fatalf("outcome %v", out)
		}
		lib, err := dhcpv4.FromBytes(b)
		if out != Answered || err != nil || lib.Options.Has(dhcpv4.GenericOptionCode(optOverload)) {
			return // the library knows no overload
		}
		for code, ours := range map[uint8][]byte{
			optClientID: m.clientID, optRelay: m.relay, optParams: m.params, optHostname: m.hostname,
			optFQDN: m.fqdn, optVendorClass: m.vendor, optUserClass: m.user, optArch: m.arch,
		} {
			if theirs := lib.Options[code]; !bytes.Equal(ours, theirs) || (ours != nil) != lib.Options.Has(dhcpv4.GenericOptionCode(code)) {
				t.Errorf("option %d: %x, the library reads %x", code, ours, theirs)
			}
		}
		if !bytes.Equal(m.hardware(), lib.ClientHWAddr) || toAddr(m.giaddr).String() != lib.GatewayIPAddr.String() {
			t.Errorf("hardware %x, giaddr %s; the library reads %s, %s", m.hardware(), toAddr(m.giaddr), lib.ClientHWAddr, lib.GatewayIPAddr)
		}
	})
}

// FuzzLease holds the codec of stored leases against itself: what it writes it
// reads, what it reads it can write.
func FuzzLease(f *testing.F) {
	l := Lease{State: StateBound, HType: 1, CHAddr: "\x02\x00\x00\x00\x00\x01", ClientID: "\xff\x01", Hostname: "web1", Port: "tap0", Relay: "\x01\x00"}
	f.Add(uint32(100), uint32(0xc0a8640a), appendLease(nil, 100, &Lease{IP: toAddr(0xc0a8640a), State: StateBound, CHAddr: "x"}), false)
	whole := appendLease(nil, 1, &l)
	f.Add(uint32(1), uint32(0), whole, false)                                                                                              // every field
	f.Add(uint32(1), uint32(0), whole[:len(whole)-5], false)                                                                               // torn
	f.Add(uint32(1), uint32(0), whole[:len(whole)-4], true)                                                                                // summed anew
	f.Add(uint32(1), uint32(0), append(whole[:leaseHeader:leaseHeader], 1, 0x80), true)                                                    // a length without its end
	f.Add(uint32(1), uint32(0), append(whole[:leaseHeader:leaseHeader], 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1), true) // a length of 2^64-1
	f.Add(uint32(1), uint32(0), append(whole[:leaseHeader:leaseHeader], 99, 1, 0), true)                                                   // a field of the future and no client
	f.Fuzz(func(t *testing.T, segment, ip uint32, b []byte, sum bool) {
		key := put4(ip)
		if sum { // let the fuzzer get past the checksum
			b = summed(segment, key[:], b)
		}
		checkRecord(t, segment, key[:], b)
	})
}

// FuzzLease6 is FuzzLease for leases of IPv6.
func FuzzLease6(f *testing.F) {
	l := Lease{
		IP: netip.MustParseAddr("2001:db8:200:ff00::"), PrefixLen: 56, State: StateBound, HType: 1, CHAddr: "\x02\x00\x00\x00\x00\x01",
		ClientID: "\x00\x03\x00\x01\x02\x00\x00\x00\x00\x01", IAID: 7, Hostname: "web1", Port: "tap0", Relay: "\x00\x12",
	}
	key := keyOf(&l)
	whole := appendLease(nil, 1, &l)
	f.Add(uint32(1), key.bytes(), whole, false)                                                           // a prefix
	f.Add(uint32(1), key.bytes()[:16], whole, false)                                                      // its key cut short
	f.Add(uint32(1), append(bytes.Repeat([]byte{0xff}, 16), 56), whole[:len(whole)-4], true)              // host bits
	f.Add(uint32(1), append(bytes.Clone(key.bytes()[:16]), 128), whole[:len(whole)-4], true)              // an address as a prefix
	f.Add(uint32(1), append(bytes.Clone(key.bytes()[:16]), 0), whole[:len(whole)-4], true)                // an address
	f.Add(uint32(1), key.bytes(), append(whole[:len(whole)-10:len(whole)-10], tagIAID, 3, 0, 0, 0), true) // half an IAID
	f.Add(uint32(1), key.bytes(), append(whole[:leaseHeader:leaseHeader], 1, 1, 0), true)                 // no DUID
	f.Fuzz(func(t *testing.T, segment uint32, key, b []byte, sum bool) {
		if sum {
			b = summed(segment, key, b)
		}
		checkRecord(t, segment, key, b)
	})
}

// summed is a record with its checksum.
func summed(segment uint32, key, b []byte) []byte {
	return binary.BigEndian.AppendUint32(bytes.Clone(b), leaseSum(segment, key, b))
}

func checkRecord(t *testing.T, segment uint32, key, b []byte) {
	l, err := decodeLease(segment, key, b)
	if err != nil {
		return
	}
	if k := keyOf(&l); !bytes.Equal(k.bytes(), key) {
		t.Errorf("%+v goes to %x, and was found at %x", l, k.bytes(), key)
	}
	again, err := decodeLease(segment, key, appendLease(nil, segment, &l))
	if err != nil || again != l {
		t.Errorf("%+v became %+v, %v", l, again, err)
	}
	if _, err := decodeLease(segment+1, key, b); err == nil {
		t.Error("the record is good in another segment, too")
	}
	if l.key() == "" || l.Start.After(time.UnixMilli(math.MaxInt64)) {
		t.Errorf("lease %+v", l)
	}
}
