package dhcpd

import (
	"container/heap"
	linked "container/list"
	"encoding/binary"
	"net/netip"
	"time"
	"unique"

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
	state  State
	xid    [3]byte
	bound

	key      string
	chaddr   string // Ethernet address, empty if not known
	hostname string
	relay    string
	place    unique.Handle[place]
	counted  string // the port whose limit it counts against

	start, expires time.Duration

	pool   *pool6          // that it takes an address of, nil: none
	unused *linked.Element // its place in the pool's list of unused ones
	offer  *linked.Element // its place in the queue of offers
	inHeap int             // its place in the heap plus one; 0: not there
	stray  bool            // the configuration has no place for it

	seq     uint64 // the last of its changes
	awaited int    // its leases on the way to the disk, each with a reply that waits

	stored                     bool
	durable                    State
	durableStart, durableUntil time.Duration

	// What the client had before and may not know yet that it has no more; nil:
	// nothing.
	former *binding6
}

// stay notes where the client is.
func (b *binding6) stay(p place) {
	if b.place == (unique.Handle[place]{}) || b.place.Value() != p {
		b.place = unique.Make(p)
	}
}

// expiryHeap6 orders bindings by when they end, for container/heap.
type expiryHeap6 []*binding6

func (h expiryHeap6) Len() int           { return len(h) }
func (h expiryHeap6) Less(i, j int) bool { return h[i].expires < h[j].expires }
func (h expiryHeap6) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].inHeap, h[j].inHeap = i+1, j+1
}

func (h *expiryHeap6) Push(x any) {
	b := x.(*binding6)
	*h = append(*h, b)
	b.inHeap = len(*h)
}

func (h *expiryHeap6) Pop() any {
	n := len(*h) - 1
	b := (*h)[n]
	(*h)[n] = nil
	*h = (*h)[:n]
	b.inHeap = 0
	return b
}

// set puts a binding where its expiry says, whether it was in the heap or not.
func (h *expiryHeap6) set(b *binding6) {
	if b.inHeap == 0 {
		heap.Push(h, b)
		return
	}
	heap.Fix(h, b.inHeap-1)
}

func (h *expiryHeap6) remove(b *binding6) {
	if b.inHeap != 0 {
		heap.Remove(h, b.inHeap-1)
	}
}
