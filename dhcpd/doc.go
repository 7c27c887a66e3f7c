// Package dhcpd is a DHCPv4 service (RFC 2131, RFC 2132) and a DHCPv6 service
// (RFC 8415) for many segments that share nothing: equal subnets, MACs and
// addresses in two segments are as independent as in two buildings.
//
// A Service owns the lease store and the commit loop; a Server is one segment, a
// Server6 the same for IPv6. Server.Serve turns a request into a reply without
// ever waiting: an OFFER, a NAK or the answer to an INFORM is handed over at once,
// an ACK from the commit loop, after the lease has reached the disk, and the OFFER
// of an address that the segment is asked about once nobody claimed it. The changes
// of all clients that came in while the disk was busy, of either family, share one
// transaction.
//
// The package knows messages, not frames: the caller takes the DHCP message
// out of the packet and puts the reply into one. Reply says where it goes.
//
// Message types, option codes and the encodings of option values are those of
// github.com/insomniacslk/dhcp. The two ends of the wire format are the
// package's own, for what that library leaves to its user: option overload
// (option 52) is read and written, the client's limit (option 57) is kept, the
// options go out in the order that the client asked for, and a request costs no
// map. Of DHCPv6 the library's reader copies what it reads and does work that
// grows with the square of a message, so that end is the package's own, too. Tests
// hold both ends against the library.
package dhcpd
