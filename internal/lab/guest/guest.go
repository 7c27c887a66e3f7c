// Package guest does in a guest's network namespace what the guest's operating
// system and its tools would do: get an address by DHCP, ping, answer who it is,
// and look at every frame that arrives. It needs no program but this one.
//
// Each function takes the namespace (a name, or a path) that it works in; the
// sockets it opens stay there, its goroutines run anywhere. Everything wants
// root, and Linux.
package guest

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"
)

// Errors, to be told apart by errors.Is. The text around them says where.
var (
	ErrNoOffer     = errors.New("no DHCP server answers")
	ErrNoInterface = errors.New("no such interface")
	ErrUnsupported = errors.New("guests in network namespaces are a feature of Linux")
)

// Lease is what a DHCP server granted.
type Lease struct {
	Address   netip.Prefix     `json:"address"` // with the subnet's length
	Server    netip.Addr       `json:"server"`  // server identifier, option 54
	ServerMAC net.HardwareAddr `json:"-"`       // who sent the ACK's frame
	Gateway   netip.Addr       `json:"gateway,omitzero"`
	Routes    []Route          `json:"routes,omitempty"` // option 121; the gateway is left out then (RFC 3442)
	DNS       []netip.Addr     `json:"dns,omitempty"`
	Domain    string           `json:"domain,omitempty"`
	Hostname  string           `json:"hostname,omitempty"`
	MTU       int              `json:"mtu,omitempty"` // option 26; 0 = none given
	Duration  time.Duration    `json:"-"`             // 0 = for ever
	Obtained  time.Time        `json:"obtained"`
	Tries     int              `json:"-"` // DISCOVERs it took
	Took      time.Duration    `json:"-"` // from the first DISCOVER to the ACK
}

// Route is one of option 121's routes. A Via that is unspecified means that To
// is on the link.
type Route struct {
	To  netip.Prefix `json:"to"`
	Via netip.Addr   `json:"via"`
}

// Identity is how a DHCP client presents itself.
type Identity struct {
	Hostname    string // option 12; "" = none
	VendorClass string // option 60; "" = none
}

// Tag marks what a guest sends, so that whoever sees the bytes knows in which
// lab and in which segment they were born.
type Tag struct {
	Run uint32 // tells labs apart
	VNI uint32
}

const (
	tagPrefix = "uvlab:"
	tagLen    = len(tagPrefix) + 8 + 1 + 8
)

// String is the tag as it stands in a frame; its length is always the same.
func (t Tag) String() string { return fmt.Sprintf("%s%08x:%08x", tagPrefix, t.Run, t.VNI) }

// parseTag reads the tag at the start of b.
func parseTag(b []byte) (Tag, bool) {
	if len(b) < tagLen || string(b[:len(tagPrefix)]) != tagPrefix {
		return Tag{}, false
	}
	b = b[len(tagPrefix):tagLen]
	var raw [8]byte
	if _, err := hex.Decode(raw[:4], b[:8]); err != nil || b[8] != ':' {
		return Tag{}, false
	}
	if _, err := hex.Decode(raw[4:], b[9:]); err != nil {
		return Tag{}, false
	}
	return Tag{Run: binary.BigEndian.Uint32(raw[:4]), VNI: binary.BigEndian.Uint32(raw[4:])}, true
}

// PingOptions say how Ping asks. The zero value is one request that is waited
// for one second.
type PingOptions struct {
	Count    int           // requests; 0 = 1, negative = until the context ends
	Interval time.Duration // between two requests; 0 = 1 s
	Timeout  time.Duration // to wait after the last one; 0 = 1 s
	Payload  []byte        // carried by every request and its reply
	OnReply  func(Reply)   // called for each first reply, in order of arrival
}

// Reply is one echo reply.
type Reply struct {
	From  netip.Addr
	Seq   int
	Bytes int // ICMP header and payload
	RTT   time.Duration
}

// PingResult is what became of the requests.
type PingResult struct {
	Sent, Received, Duplicates int
	Min, Max, Sum              time.Duration // of the round trips
}

// Avg is the mean round trip, 0 if nothing came back.
func (r PingResult) Avg() time.Duration {
	if r.Received == 0 {
		return 0
	}
	return r.Sum / time.Duration(r.Received)
}

// Answer is what somebody said who was asked for their name.
type Answer struct {
	From netip.Addr
	Text string
}

// Seen is what a sniffer saw arrive at an interface.
type Seen struct {
	Frames    uint64 // all of them
	Own       uint64 // marked with the sniffer's own tag
	Foreign   uint64 // marked with any other
	Unmarked  uint64 // what kernels and DHCP servers make
	Broadcast uint64 // of Own, those sent by Shout
	Lost      uint64 // arrived while the sniffer's socket was full
	Culprit   Tag    // the tag of the first foreign one
}
