package underlay

import (
	"encoding/binary"
	"net"
	"net/netip"
	"strconv"
)

// NewRemote prepares the socket address of a destination. An IPv4 address
// mapped into IPv6 counts as IPv4. The zone of a link-local IPv6 address is the
// name or number of an interface of the calling thread's namespace.
func NewRemote(addr netip.Addr, port uint16) *Remote {
	addr = addr.Unmap()
	r := &Remote{addr: addr, port: port}
	// struct sockaddr_in and sockaddr_in6: the family in host byte order, the
	// port in network byte order.
	binary.BigEndian.PutUint16(r.raw[2:], port)
	if addr.Is4() {
		binary.NativeEndian.PutUint16(r.raw[:], afINET)
		a := addr.As4()
		copy(r.raw[4:], a[:])
		r.len = 16
		return r
	}
	binary.NativeEndian.PutUint16(r.raw[:], afINET6)
	a := addr.As16()
	copy(r.raw[8:], a[:])
	binary.NativeEndian.PutUint32(r.raw[24:], scopeID(addr.Zone()))
	r.len = 28
	return r
}

// Families of socket addresses, as in linux/socket.h.
const (
	afINET  = 2
	afINET6 = 10
)

// scopeID is the number of the interface of that name or number, 0 if there is none.
func scopeID(zone string) uint32 {
	if zone == "" {
		return 0
	}
	if ifc, err := net.InterfaceByName(zone); err == nil {
		return uint32(ifc.Index)
	}
	n, err := strconv.ParseUint(zone, 10, 32)
	if err != nil {
		return 0
	}
	return uint32(n)
}

// Addr is the remote VTEP's address, or the group's.
func (r *Remote) Addr() netip.Addr { return r.addr }

// AddrPort is the address with the UDP port.
func (r *Remote) AddrPort() netip.AddrPort { return netip.AddrPortFrom(r.addr, r.port) }
