package dhcpd

import (
	"net"
	"net/netip"
	"time"
)

// State is what an address is to the client that a Lease names.
type State uint8

const (
	// StateFree: the lease ended or was given back; the client is remembered
	// and gets the address again while nobody else needs it.
	StateFree State = iota
	// StateOffered: held until the client requests it; never stored.
	StateOffered
	// StateBound: the client's until Expires.
	StateBound
	// StateDeclined: somebody else uses it; left alone until Expires.
	StateDeclined
	// StateReserved: kept for a client that does not hold it now; never stored.
	StateReserved
)

var stateNames = [...]string{"free", "offered", "bound", "declined", "reserved"}

// String is the state's word in tables and JSON.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return "unknown"
}

// Lease is an address and its client. It is a plain value: the strings hold
// raw bytes and are never written to.
type Lease struct {
	IP       netip.Addr
	State    State
	HType    uint8  // hardware type, 1 is Ethernet
	CHAddr   string // hardware address, raw bytes
	ClientID string // option 61, raw bytes; empty: the client sent none
	Hostname string
	Port     string // the local port it was last seen on
	Relay    string // option 82 of the last request that came through a relay (of DHCPv6 option 18 of the nearest), raw bytes

	// Of DHCPv6: ClientID is the DUID, IAID the identity association, and
	// PrefixLen the length of a delegated prefix, whose address is IP; 0: IP is
	// an address.
	IAID      uint32
	PrefixLen uint8

	// VTEP is the remote VTEP that the client was last seen behind; zero for a
	// local one. It is not stored.
	VTEP netip.Addr

	// Start is when the lease was last given, Expires when it ends, both by
	// the wall clock. Zero: never.
	Start, Expires time.Time
}

// HardwareAddr is CHAddr as the net package has it.
func (l Lease) HardwareAddr() net.HardwareAddr { return net.HardwareAddr(l.CHAddr) }

// prefix is what the lease is of: PrefixLen bits of IP, or the whole address.
func (l Lease) prefix() netip.Prefix {
	if l.PrefixLen == 0 {
		return netip.PrefixFrom(l.IP, l.IP.BitLen())
	}
	return netip.PrefixFrom(l.IP, int(l.PrefixLen))
}

// key is the client's identity, as message.appendKey makes it.
func (l Lease) key() string {
	if l.ClientID != "" {
		return string(rune(keyClientID)) + l.ClientID
	}
	return string([]byte{keyHardware, l.HType}) + l.CHAddr
}

// place is where a client was last seen. Many clients share one, so a binding
// has a handle of it; a place goes when its last binding has gone elsewhere.
type place struct {
	port string
	vtep netip.Addr
}

// binding is one address that has a client, in memory.
type binding struct {
	ip    uint32
	htype uint8
	tenure
	listed *list // the list it is in, nil if none
	xid    uint32

	// The client's former address, given up once this one is durable, and the
	// last change that it had then.
	former    *binding
	formerSeq uint64

	prev, next *binding
}

// supersede notes the address that the client gives up for this one.
func (b *binding) supersede(old *binding) {
	if old != nil && old != b {
		b.former, b.formerSeq = old, old.seq
	}
}

// clientID is option 61 within the key.
func (b *binding) clientID() string {
	if b.key != "" && b.key[0] == keyClientID {
		return b.key[1:]
	}
	return ""
}

// list is an intrusive queue of bindings.
type list struct {
	head, tail *binding
	n          int
}

func (l *list) push(b *binding) {
	b.listed, b.prev, b.next = l, l.tail, nil
	if l.tail != nil {
		l.tail.next = b
	} else {
		l.head = b
	}
	l.tail = b
	l.n++
}

// unlist takes a binding out of the list that it is in.
func (b *binding) unlist() {
	l := b.listed
	if l == nil {
		return
	}
	if b.prev != nil {
		b.prev.next = b.next
	} else {
		l.head = b.next
	}
	if b.next != nil {
		b.next.prev = b.prev
	} else {
		l.tail = b.prev
	}
	b.listed, b.prev, b.next = nil, nil, nil
	l.n--
}
